"""Rows kept between runs: every damage is noticed, nothing is computed twice, no process harms another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from voc_cls.data.feature_cache import Rows, cached_rows, file_digests
from voc_cls.errors import DataError

PROGRAM = Path(__file__).with_name("feature_cache_program.py")
SUM = 100 * sum(range(20))
ROW = 64 * 4
"""Bytes of a row."""


class Computer:
    """Computes a row from its item, as float32 [64], three at a time, and remembers for which."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed: list[str] = []
        self.said: list[str] = []

    def rows(self, items: Sequence[str], limit: float = 1e9, dtype: Any = np.float32, **key: Any) -> Rows:
        self.computed, self.said = [], []

        def compute(missing: list[int]) -> Iterator[npt.NDArray[Any]]:
            for start in range(0, len(missing), 3):
                batch = [items[number] for number in missing[start:start + 3]]
                self.computed += batch
                yield np.stack([value(item) for item in batch]).astype(dtype)

        return cached_rows(self.folder, key or {"net": "a"}, items, (64,), dtype, compute, limit, "numbers",
                           self.said.append)


def value(item: str) -> npt.NDArray[np.float32]:
    return np.random.default_rng(list(item.encode())).normal(size=64).astype(np.float32)


def values(items: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.stack([value(item) for item in items])


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path / "cache")


def stored(computer: Computer, name: str = "rows.bin") -> Path:
    [path] = computer.folder.glob(f"*/{name}")
    return path


def size(computer: Computer) -> int:
    return sum(path.stat().st_size for path in computer.folder.glob("*/rows.bin"))


def test_what_was_computed_once_is_only_opened(computer: Computer):
    items = list("abcdefgh")
    assert np.array_equal(computer.rows(items)[:], values(items))
    assert computer.computed == items
    assert np.array_equal(computer.rows(items)[:], values(items))
    assert computer.computed == []
    assert computer.said == [f"numbers: 8 from the cache {stored(computer).parent}"]


def test_another_list_of_the_same_pictures_computes_only_what_is_new(computer: Computer):
    computer.rows(list("abcdef"))
    items = list("xfbya")
    assert np.array_equal(computer.rows(items)[:], values(items))
    assert computer.computed == ["x", "y"]


def test_equal_pictures_are_computed_once(computer: Computer):
    assert np.array_equal(computer.rows(list("aba"))[:], values(list("aba")))
    assert computer.computed == ["a", "b"]


def test_another_key_shares_nothing(computer: Computer):
    computer.rows(["a"], weights="x", views=2)
    computer.rows(["a"], weights="y", views=2)
    assert computer.computed == ["a"]
    computer.rows(["a"], dtype=np.float16, weights="x", views=2)
    assert computer.computed == ["a"]
    computer.rows(["a"], views=2, weights="x")
    assert computer.computed == []


def test_rows_are_read_by_index_like_an_array(computer: Computer):
    items = list("dacb")
    rows, array = computer.rows(items), values(items)
    assert len(rows) == 4
    assert rows.shape == (4, 64)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[2], array[2])
    assert np.array_equal(rows[1:3], array[1:3])
    assert np.array_equal(rows[np.array([3, 0, 0])], array[[3, 0, 0]])
    assert not rows[2].flags.writeable


def test_bfloat16_is_kept_as_it_is(computer: Computer):
    items = list("abcd")
    computer.rows(items, dtype=ml_dtypes.bfloat16)
    again = computer.rows(items, dtype=ml_dtypes.bfloat16)
    assert again.dtype == ml_dtypes.bfloat16
    assert np.array_equal(again[:], values(items).astype(ml_dtypes.bfloat16))
    assert size(computer) == 4 * 64 * 2


def damage_by_cutting(computer: Computer) -> None:
    os.truncate(stored(computer), stored(computer).stat().st_size - 1)


def damage_by_one_bit(computer: Computer) -> None:
    content = bytearray(stored(computer).read_bytes())
    content[5 * ROW + 17] ^= 0x10
    stored(computer).write_bytes(content)


def damage_by_other_items(computer: Computer) -> None:
    index = stored(computer, "index.jsonl")
    index.write_text(index.read_text().replace('"b"', '"q"'))


def damage_by_a_broken_index(computer: Computer) -> None:
    index = stored(computer, "index.jsonl")
    index.write_text(index.read_text().replace('"crc32"', '"crc\x00'))


def damage_by_an_index_of_numbers(computer: Computer) -> None:
    index = stored(computer, "index.jsonl")
    index.write_text(index.read_text().replace('"b"', "7"))


def damage_by_taking_the_index_away(computer: Computer) -> None:
    stored(computer, "index.jsonl").unlink()


def damage_by_taking_the_rows_away(computer: Computer) -> None:
    stored(computer).unlink()


def damage_by_another_caches_files(computer: Computer) -> None:
    other = Computer(computer.folder.with_name("other"))
    other.rows(list("abcdefgh"), net="b")
    for name in ("rows.bin", "index.jsonl"):
        stored(computer, name).write_bytes(stored(other, name).read_bytes())


@pytest.mark.parametrize(("damage", "reason"), [
    (damage_by_cutting, "cut short: 2,047 of 2,048 bytes"),
    (damage_by_one_bit, "a checksum differs"),
    (damage_by_other_items, "a checksum differs"),
    (damage_by_a_broken_index, "its index is damaged"),
    (damage_by_an_index_of_numbers, "a checksum differs"),
    (damage_by_taking_the_index_away, "its index is missing"),
    (damage_by_taking_the_rows_away, "cut short: 0 of 2,048 bytes"),
    (damage_by_another_caches_files, "for something else"),
])
def test_a_damaged_cache_is_made_anew_and_one_line_says_why(computer: Computer, damage: Any, reason: str):
    items = list("abcdefgh")
    computer.rows(items)
    damage(computer)
    assert np.array_equal(computer.rows(items)[:], values(items))
    assert computer.computed == items
    assert reason in computer.said[0]
    computer.rows(items)
    assert computer.computed == []


def test_a_run_keeps_its_rows_when_another_finds_the_cache_damaged(computer: Computer):
    rows = computer.rows(list("abc"))
    damage_by_other_items(computer)
    again = computer.rows(list("cba"))
    assert computer.computed == list("cba")
    assert np.array_equal(rows[:], values("abc"))
    assert np.array_equal(again[:], values("cba"))


def test_half_a_line_at_the_end_costs_nothing_before_it(computer: Computer):
    computer.rows(list("abcdef"))
    index = stored(computer, "index.jsonl")
    index.write_bytes(index.read_bytes()[:-5])
    assert np.array_equal(computer.rows(list("abcdef"))[:], values("abcdef"))
    assert computer.computed == ["d", "e", "f"]
    assert np.array_equal(computer.rows(list("abcdef"))[:], values("abcdef"))
    assert computer.computed == []
    assert size(computer) == 6 * ROW


def test_an_error_while_computing_keeps_what_was_done(computer: Computer):
    def compute(_: list[int]) -> Iterator[npt.NDArray[np.float32]]:
        yield values("ab")
        raise DataError("c.jpg: broken")

    with pytest.raises(DataError, match=r"c\.jpg"):
        cached_rows(computer.folder, {"net": "a"}, list("abcd"), (64,), np.float32, compute, 1e9, "numbers", print)
    assert size(computer) == 2 * ROW
    computer.rows(list("abcd"))
    assert computer.computed == ["c", "d"]


def test_an_error_before_the_first_row_leaves_no_store(computer: Computer):
    def compute(_: list[int]) -> Iterator[npt.NDArray[np.float32]]:
        raise DataError("a.jpg: broken")
        yield

    with pytest.raises(DataError, match=r"a\.jpg"):
        cached_rows(computer.folder, {"net": "a"}, ["a"], (64,), np.float32, compute, 1e9, "numbers", print)
    assert not [path for path in computer.folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize("wrong", [np.zeros((2, 63), np.float32), np.zeros((2, 64), np.float64)])
def test_rows_of_another_shape_or_type_are_refused(computer: Computer, wrong: npt.NDArray[Any]):
    with pytest.raises(ValueError, match="expected"):
        cached_rows(computer.folder, {}, ["a", "b"], (64,), np.float32, lambda _: [wrong], 1e9, "numbers", print)


def test_too_few_rows_are_refused(computer: Computer):
    with pytest.raises(ValueError, match="1 rows were computed where 2"):
        cached_rows(computer.folder, {}, ["a", "b"], (64,), np.float32, lambda _: [values("a")], 1e9, "numbers", print)


def test_the_caches_used_longest_ago_make_room(computer: Computer):
    for age, net in ((300, "old"), (100, "new"), (200, "middle")):
        computer.rows(list("ab"), net=net)
        [index] = [path for path in computer.folder.glob("*/index.jsonl") if f'"{net}"' in path.read_text()]
        os.utime(index, (time.time() - age,) * 2)
    computer.rows(list("ab"), limit=6 * ROW, net="fourth")
    assert size(computer) == 6 * ROW
    assert {json.loads(path.read_text().splitlines()[0])["key"]["net"]
            for path in computer.folder.glob("*/index.jsonl")} == {"new", "middle", "fourth"}


def test_a_cache_in_use_is_never_deleted(computer: Computer):
    rows = computer.rows(list("ab"), net="used")
    with pytest.raises(DataError, match="beside the caches in use"):
        computer.rows(list("ab"), limit=3 * ROW, net="other")
    assert np.array_equal(rows[:], values("ab"))
    del rows
    computer.rows(list("ab"), limit=3 * ROW, net="other")
    assert size(computer) == 2 * ROW


def test_rows_of_other_pictures_make_room_too(computer: Computer):
    computer.rows(list("abcd"))
    computer.rows(list("efg"), limit=5 * ROW)
    assert size(computer) == 3 * ROW


def test_rows_that_can_never_fit_delete_nothing(computer: Computer):
    computer.rows(list("ab"), net="old")
    with pytest.raises(DataError, match=r"need 0\.00 GB, more than is left"):
        computer.rows(list("abcde"), limit=4 * ROW, net="new")
    assert size(computer) == 2 * ROW


def test_files_of_others_in_the_folder_are_left_alone(computer: Computer):
    (computer.folder / "mine").mkdir(parents=True)
    (computer.folder / "mine/rows.bin").write_bytes(b"x" * 10_000)
    computer.rows(list("ab"), limit=3 * ROW)
    assert (computer.folder / "mine/rows.bin").stat().st_size == 10_000


def program(folder: Path, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    root = str(Path(__file__).parents[3])
    return subprocess.Popen([sys.executable, PROGRAM, folder, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": root}, **options)


def test_a_run_killed_in_the_middle_is_gone_on_from(tmp_path: Path):
    first = program(tmp_path, 0.05)
    assert first.stdout
    for line in first.stdout:
        if line == "row 7\n":
            first.send_signal(signal.SIGKILL)
            break
    first.communicate()
    lines = program(tmp_path).communicate()[0].splitlines()
    assert "7 from the cache, 13 to compute" in lines[0]
    assert lines[1:] == [*(f"row {number}" for number in range(7, 20)), f"sum {SUM}"]


def test_two_processes_at_once_compute_each_row_once(tmp_path: Path):
    both = [program(tmp_path, 0.02), program(tmp_path, 0.02)]
    lines = [line for process in both for line in process.communicate()[0].splitlines()]
    assert [process.returncode for process in both] == [0, 0]
    assert lines.count(f"sum {SUM}") == 2
    assert sorted(line for line in lines if line.startswith("row")) == sorted(f"row {n}" for n in range(20))


def test_a_full_disk_is_one_sentence_and_nothing_is_left(tmp_path: Path):
    full = program(tmp_path, 0, 5_000)
    output, error = full.communicate()
    assert full.returncode == 1
    assert error.count("\n") == 1
    assert error.startswith(f"{tmp_path}: File too large, while keeping numbers that need 0.00 GB; make room there")
    assert "row" not in output
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/cache: Not a directory.*--cache-dir"):
        Computer(tmp_path / "file" / "cache").rows(["a"])


def test_a_picture_replaced_under_the_same_name_has_another_digest(tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"first")
    [before] = file_digests([path])
    path.write_bytes(b"other")
    assert file_digests([path]) != [before]
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read \(No such file"):
        file_digests([path, tmp_path / "b.jpg"])
