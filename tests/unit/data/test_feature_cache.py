"""Arrays kept between runs: damage is noticed, nothing is computed twice, no process harms another."""

from __future__ import annotations

import hashlib
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

from voc_cls.data import feature_cache
from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.errors import DataError
from voc_cls.files import file_digests

PROGRAM = Path(__file__).with_name("feature_cache_program.py")
SUM = 100 * sum(range(20))
ROW_GB = 64 * 4 / 1e9


class Computer:
    """Computes a row from its name, as float32 [64], three at a time, and remembers for which."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.computed: list[str] = []
        self.lines: list[str] = []

    def rows(self, names: Sequence[str], limit_gb: float = 1.0, dtype: Any = np.float32, **key: Any) -> CachedRows:
        self.computed, self.lines = [], []

        def compute(missing: list[int]) -> Iterator[npt.NDArray[Any]]:
            for start in range(0, len(missing), 3):
                batch = [names[number] for number in missing[start:start + 3]]
                self.computed += batch
                yield np.stack([value(name) for name in batch]).astype(dtype)

        return FeatureCache(self.folder, limit_gb, self.lines.append).rows(key or {"net": "a"}, names, (64,), dtype,
                                                                           compute, "numbers")

    def blocks(self) -> list[Path]:
        return sorted(self.folder.glob("*/*.npy"))


def value(name: str) -> npt.NDArray[np.float32]:
    return np.random.default_rng(list(name.encode())).normal(size=64).astype(np.float32)


def values(names: Sequence[str]) -> npt.NDArray[np.float32]:
    return np.stack([value(name) for name in names])


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path / "cache")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch is a block."""
    monkeypatch.setattr(feature_cache, "BLOCK_BYTES", 1)


def test_what_was_computed_once_is_only_opened(computer: Computer):
    names = list("abcdefgh")
    assert np.array_equal(computer.rows(names)[:], values(names))
    assert computer.computed == names
    assert np.array_equal(computer.rows(names)[:], values(names))
    assert computer.computed == []
    [block] = computer.blocks()
    assert computer.lines == [f"numbers: 8 from the cache {block.parent}"]


def test_another_list_of_the_same_images_computes_only_what_is_new(computer: Computer):
    computer.rows(list("abcdef"))
    names = list("xfbya")
    assert np.array_equal(computer.rows(names)[:], values(names))
    assert computer.computed == ["x", "y"]


def test_equal_images_are_computed_once(computer: Computer):
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


@pytest.mark.usefixtures("small_blocks")
def test_rows_are_read_by_index_like_an_array(computer: Computer):
    names = list("dacb")
    rows, array = computer.rows(names), values(names)
    assert len(computer.blocks()) == 2
    assert len(rows) == 4
    assert rows.shape == (4, 64)
    assert rows.dtype == np.float32
    assert np.array_equal(rows[2], array[2])
    assert np.array_equal(rows[1:3], array[1:3])
    assert np.array_equal(rows[np.array([3, 0, 0])], array[[3, 0, 0]])
    assert np.array_equal(rows.part([3, 1])[:], array[[3, 1]])
    assert rows.part(slice(0)).shape == (0, 64)


def test_bfloat16_is_kept_as_it_is(computer: Computer):
    names = list("abcd")
    computer.rows(names, dtype=ml_dtypes.bfloat16)
    again = computer.rows(names, dtype=ml_dtypes.bfloat16)
    assert computer.computed == []
    assert again.dtype == ml_dtypes.bfloat16
    assert np.array_equal(again[:], values(names).astype(ml_dtypes.bfloat16))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("content", [
    lambda content: content[:-1],
    lambda content: content[:50],
    lambda _: b"",
    lambda content: b"\0" * len(content),
    lambda content: content.replace(b"'names'", b"'nomes'"),
], ids=["cut short", "half a header", "empty", "zeros", "of something else"])
def test_a_damaged_block_is_computed_again_and_one_line_says_so(computer: Computer, content: Any):
    computer.rows(list("abcdef"))
    name = hashlib.sha256(b"f").hexdigest().encode()
    [block] = [path for path in computer.blocks() if name in path.read_bytes()]
    block.write_bytes(content(block.read_bytes()))
    assert np.array_equal(computer.rows(list("abcdef"))[:], values("abcdef"))
    assert computer.computed == ["d", "e", "f"]
    assert computer.lines[0] == f"numbers: {block} is damaged and computed again"
    computer.rows(list("abcdef"))
    assert computer.computed == []


def test_an_error_while_computing_keeps_what_was_done(computer: Computer):
    def compute(_: list[int]) -> Iterator[npt.NDArray[np.float32]]:
        yield values("ab")
        raise DataError("c.jpg: broken")

    with pytest.raises(DataError, match=r"c\.jpg"):
        FeatureCache(computer.folder, 1, print).rows({"net": "a"}, list("abcd"), (64,), np.float32, compute, "numbers")
    computer.rows(list("abcd"))
    assert computer.computed == ["c", "d"]


@pytest.mark.parametrize(("computed", "message"), [
    (np.zeros((2, 63), np.float32), "expected"),
    (np.zeros((2, 64), np.float64), "expected"),
    (np.zeros((1, 64), np.float32), "1 rows were computed where 2 are missing"),
])
def test_rows_of_another_shape_type_or_number_are_refused(computer: Computer, computed: Any, message: str):
    with pytest.raises(ValueError, match=message):
        FeatureCache(computer.folder, 1, print).rows({}, ["a", "b"], (64,), np.float32, lambda _: [computed], "numbers")


def test_blocks_used_longest_ago_make_room(computer: Computer):
    blocks = {}
    for age, net in ((300, "old"), (100, "new"), (200, "middle")):
        computer.rows(list("ab"), net=net)
        [blocks[net]] = set(computer.blocks()) - set(blocks.values())
        os.utime(blocks[net], (time.time() - age,) * 2)
    computer.rows(list("ab"), net="old")  # used again
    size = sum(block.stat().st_size for block in blocks.values())
    computer.rows(list("ab"), limit_gb=size / 1e9, net="last")
    assert {net for net, block in blocks.items() if block.exists()} == {"new", "old"}
    assert len(computer.blocks()) == 3


def test_a_run_keeps_its_rows_when_another_deletes_them(computer: Computer):
    rows = computer.rows(list("ab"), net="first")
    computer.rows(list("ab"), limit_gb=3 * ROW_GB, net="other")
    assert len(computer.blocks()) == 1
    assert np.array_equal(rows[:], values("ab"))


def test_blocks_full_of_other_images_make_room_too(computer: Computer):
    computer.rows(list("abcd"))
    names = list("aefg")
    assert np.array_equal(computer.rows(names, limit_gb=5 * ROW_GB)[:], values(names))
    assert computer.computed == names
    assert len(computer.blocks()) == 1


def test_rows_that_can_never_fit_delete_nothing(computer: Computer):
    computer.rows(list("ab"), net="old")
    with pytest.raises(DataError, match=r"numbers need 0\.00 GB, more than the limit of .*; raise `cache_gb`"):
        computer.rows(list("abcde"), limit_gb=4 * ROW_GB, net="new")
    assert len(computer.blocks()) == 1


def test_files_of_others_in_the_folder_are_left_alone(computer: Computer):
    (computer.folder / "mine").mkdir(parents=True)
    (computer.folder / "mine/rows.npy").write_bytes(b"x" * 10_000)
    computer.rows(list("ab"), limit_gb=3 * ROW_GB)
    assert (computer.folder / "mine/rows.npy").stat().st_size == 10_000


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


def test_a_disk_that_fills_up_is_one_sentence(tmp_path: Path):
    full = program(tmp_path, 0, 500)
    _, error = full.communicate()
    assert full.returncode == 1
    assert error.count("\n") == 1
    assert error.startswith(f"{tmp_path}: File too large, while keeping numbers that need 0.00 GB; make room there")
    assert not list(tmp_path.glob("*/*.npy"))


def test_a_disk_with_too_little_space_is_told_before_anything_is_computed(computer: Computer,
                                                                          monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(DataError, match=r"cache: No space left on device, while keeping numbers .*`cache_dir`"):
        computer.rows(["a"])
    assert computer.computed == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/cache: Not a directory.*`cache_dir`"):
        Computer(tmp_path / "file" / "cache").rows(["a"])


def test_an_image_replaced_under_the_same_name_has_another_digest(tmp_path: Path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"first")
    [before] = file_digests([path])
    path.write_bytes(b"other")
    assert file_digests([path]) != [before]
    with pytest.raises(DataError, match=r"b\.jpg: cannot be read \(No such file"):
        file_digests([path, tmp_path / "b.jpg"])
