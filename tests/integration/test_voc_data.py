"""The command voc-data, run as a person runs it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

VOC2007_ROOT = Path(os.environ.get("VOC2007_ROOT", Path(__file__).parents[3] / "shared/voc2007/VOCdevkit/VOC2007"))


def voc_data(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `voc-data` with `args` in a process of its own, not on a terminal."""
    command = [sys.executable, "-m", "voc_cls.cli.data", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=120,
                          env={**os.environ, "COLUMNS": "120", "PYTHONPATH": str(Path(__file__).parents[2])})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo devkit drawn by the command, not to be changed."""
    folder = tmp_path_factory.mktemp("drawn")
    result = voc_data("demo", folder, "--pictures", 40, "--seed", 3)
    assert result.returncode == 0, result.stderr
    return folder / "VOCdevkit" / "VOC2007"


@pytest.fixture
def devkit(drawn: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return shutil.copytree(drawn, tmp_path / "VOC2007")


def test_demo_prints_the_root_to_use_and_drawing_again_changes_nothing(tmp_path: Path) -> None:
    first = voc_data("demo", "here", "--pictures", 6, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "drawn: 6 pictures; use them with --data voc --root here/VOCdevkit/VOC2007\n"
    again = voc_data("demo", "here", "--pictures", 6, cwd=tmp_path)
    assert again.stdout == first.stdout.replace("drawn", "already there")
    other = voc_data("demo", "here", "--pictures", 6, "--seed", 1, cwd=tmp_path)
    assert other.returncode == 1
    assert other.stderr == ("voc-data: error: here/VOCdevkit: holds something else than the demo of 6 pictures and "
                            "seed 1; remove it or name another folder\n")


@pytest.mark.parametrize(("args", "said"), [
    (("--pictures", 2), "--pictures 2: needs one for each of train, val, test, so at least 3"),
    (("--seed", -1), "--seed -1: a seed is 0 or more"),
])
def test_demo_refuses_flags_that_make_no_sense(tmp_path: Path, args: tuple[object, ...], said: str) -> None:
    result = voc_data("demo", tmp_path / "new", *args)
    assert (result.returncode, result.stderr) == (2, f"voc-data: error: {said}\n")
    assert not (tmp_path / "new").exists()


def test_check_finds_nothing_wrong_with_the_demo(drawn: Path) -> None:
    result = voc_data("check", "--data", "voc", "--root", drawn)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "VOC2007 (test, train, trainval, val): 40 pictures, no problem found\n"


def test_check_lists_every_problem_once_and_fails(devkit: Path) -> None:
    pictures, annotations, lists = devkit / "JPEGImages", devkit / "Annotations", devkit / "ImageSets/Main"
    (pictures / "000001.jpg").write_bytes((pictures / "000001.jpg").read_bytes()[:9000])  # in train and trainval
    (pictures / "000002.jpg").write_bytes((pictures / "000002.jpg").read_bytes().replace(b"\xff\xda", b"\xff\xe5"))
    (annotations / "000003.xml").unlink()
    (annotations / "000004.xml").write_text("<annotation>\n<size>")
    (annotations / "999999.xml").write_text("<annotation/>")  # in no list
    (lists / "test.txt").write_text((lists / "test.txt").read_text() + "000006\n")
    (lists / "cat_val.txt").write_text("nonsense\n")
    result = voc_data("check", "--root", devkit)
    found = [line.replace(f"{devkit}/", "") for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert result.stderr == (f"voc-data: error: VOC2007 (test, train, trainval, val): {len(found)} problems found; "
                             "correct the files listed above\n")
    for start in ("JPEGImages/000001.jpg: is a truncated JPEG of 9,000 bytes",
                  "JPEGImages/000002.jpg: cannot be decoded (",
                  "JPEGImages/000003.jpg: has no annotation",
                  "ImageSets/Main/test.txt:1: lists '000003', but Annotations/000003.xml does not exist",
                  "Annotations/000004.xml:2: malformed XML",
                  "Annotations/999999.xml: is the annotation of JPEGImages/999999.jpg, which does not exist",
                  "ImageSets/Main/test.txt:14: lists '000006' again, it stands on line 2 too",
                  "ImageSets/Main/cat_val.txt:1: has 'nonsense' where an id and 1, 0 or -1 are expected"):
        assert sum(line.startswith(start) for line in found) == 1, start


def test_check_of_one_split_leaves_the_others_alone_and_prints_json(devkit: Path) -> None:
    for name in ("000001", "000003"):  # in train, and in test
        (devkit / f"JPEGImages/{name}.jpg").write_bytes(b"")
    result = voc_data("check", "--root", devkit, "--split", "test", "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout) == {
        "devkit": "VOC2007", "splits": ["test"], "pictures": 12,
        "problems": [f"{devkit}/JPEGImages/000003.jpg: is empty; a picture is expected"]}


def test_check_and_stats_say_what_is_wrong_with_the_root_or_the_split(devkit: Path, tmp_path: Path) -> None:
    for command, root, split, said in (
            ("check", tmp_path, "test", f"pass --root {devkit}"),
            ("check", tmp_path / "no", "test", "no such folder; --root takes the folder of one year"),
            ("stats", devkit, "valid", "no such split; the splits of VOC2007 are: test, train, trainval, val")):
        started = time.monotonic()
        result = voc_data(command, "--root", root, "--split", split)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.count("\n") == 1
        assert said in result.stderr
        assert time.monotonic() - started < 10


def test_stats_prints_a_table_and_the_same_numbers_as_json(drawn: Path) -> None:
    table = voc_data("stats", "--root", drawn, "--split", "trainval")
    counts = json.loads(voc_data("stats", "--root", drawn, "--split", "trainval", "--json").stdout)
    assert (table.returncode, table.stderr) == (0, "")
    assert "VOC2007 trainval: 27 pictures" in table.stdout
    assert "difficult" in table.stdout
    assert counts["pictures"] == 27
    sheep = next(row for row in counts["classes"] if row["name"] == "sheep")
    line = next(line for line in table.stdout.splitlines() if "sheep" in line)
    assert [int(cell) for cell in line.split("│")[2:-1]] == list(sheep.values())[1:]


def test_preview_draws_a_png_of_augmented_pictures(drawn: Path, tmp_path: Path) -> None:
    result = voc_data("preview", "--root", drawn, "--augment", "lecture", "--vertical-flip", "--mixup", 0.2,
                      "--pictures", 2, "--variants", 3, "--out", "sheet.png", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "sheet.png: 2 pictures, 3 variants of each\n"
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.format == "PNG"
        image.load()
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(("args", "said"), [
    (("--zoom", 2), "--zoom 2: must be from 0 to 0.9, such as 0.1"),
    (("--variants", 0), "--variants 0: must be from 1 to 20"),
    (("--pictures", 101), "--pictures 101: must be from 1 to 100"),
    (("--seed", -1), "--seed -1: must be at least 0"),
    (("--net", "vgg_11"), "--net vgg_11: no such network; known are vgg_16"),
])
def test_preview_refuses_flags_that_make_no_sense(drawn: Path, tmp_path: Path, args: tuple[object, ...],
                                                 said: str) -> None:
    result = voc_data("preview", "--root", drawn, "--out", tmp_path / "sheet.png", *args)
    assert (result.returncode, result.stderr) == (2, f"voc-data: error: {said}\n")
    assert not (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("args", [("--help",), ("check", "--help"), ("stats", "--help"), ("preview", "--help"),
                                  ("demo", "--help")])
def test_help_is_quick_and_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    heavy = "tensorflow", "keras", "cv2", "lxml", "matplotlib", "numpy"
    script = (f"import sys, time; start = time.perf_counter(); from voc_cls.cli.data import main\n"
              f"try: main({list(args)})\nexcept SystemExit: pass\n"
              f"print([name for name in {heavy} if name in sys.modules], time.perf_counter() - start, file=sys.stderr)")
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True,
                            cwd=Path(__file__).parents[2])
    assert "usage: voc-data" in result.stdout
    assert result.stderr.startswith("[] ")


def test_the_real_pictures_pass_the_check() -> None:
    if not VOC2007_ROOT.is_dir():
        pytest.skip(f"no {VOC2007_ROOT}: set VOC2007_ROOT")
    result = voc_data("check", "--root", VOC2007_ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "VOC2007 (test, trainval): 1,502 pictures, no problem found\n"
