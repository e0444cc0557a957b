"""The command voc-data: mostly in the tests' own process, and as a script where the process is the point."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cifar10 import drawn as drawn_batches
from tests.cifar10 import write_python
from tests.commands import BIN, command, command_in_process, interruptible_children
from tests.conftest import FileServer
from voc_cls.data.load import read_dataset

VOC2007_ROOT = Path(os.environ.get("VOC2007_ROOT", Path(__file__).parents[3] / "shared/voc2007/VOCdevkit/VOC2007"))


def voc_data(*args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return command_in_process("voc-data", *args, cwd=cwd, COLUMNS="120")


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
    first = command("voc-data", "demo", "here", "--pictures", 6, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == "drawn: 6 pictures; use them with --data voc --root here/VOCdevkit/VOC2007\n"
    again = voc_data("demo", "here", "--pictures", 6, cwd=tmp_path)
    assert again.stdout == first.stdout.replace("drawn", "already there")
    other = voc_data("demo", "here", "--pictures", 6, "--seed", 1, cwd=tmp_path)
    assert other.returncode == 1
    assert other.stderr == ("voc-data: error: here/VOCdevkit: is not the demo of 6 pictures and "
                            "seed 1; remove it or name another folder\n")


@pytest.mark.parametrize(("args", "said"), [
    (("--pictures", 2), "--pictures 2: must be at least 3"),
    (("--seed", -1), "--seed -1: must be at least 0"),
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
    found = [line.replace(f"{devkit}/", "") for line in result.stdout.splitlines() if not line.startswith("warning: ")]
    assert result.returncode == 1
    assert result.stderr == (f"voc-data: error: VOC2007 (test, train, trainval, val): {len(found)} problems found; "
                             "correct the files listed above\n")
    for start in ("JPEGImages/000001.jpg: is a truncated JPEG of 9,000 bytes",
                  "JPEGImages/000002.jpg: cannot be decoded (",
                  "JPEGImages/000003.jpg: has no annotation",
                  "ImageSets/Main/test.txt:1: lists '000003', but Annotations/000003.xml does not exist",
                  "Annotations/000004.xml:2: malformed XML",
                  "Annotations/999999.xml: is the annotation of JPEGImages/999999.jpg, which does not exist",
                  "ImageSets/Main/test.txt:14: lists '000006' again, it is on line 2 too",
                  "ImageSets/Main/cat_val.txt:1: has 'nonsense' where an id and 1, 0 or -1 are expected"):
        assert sum(line.startswith(start) for line in found) == 1, start


def test_check_of_one_split_leaves_the_others_alone_and_prints_json(devkit: Path) -> None:
    for name in ("000001", "000003"):  # in train, and in test
        (devkit / f"JPEGImages/{name}.jpg").write_bytes(b"")
    result = voc_data("check", "--root", devkit, "--split", "test", "--json")
    assert result.returncode == 1
    found = json.loads(result.stdout)
    assert {warning.split("'")[0] for warning in found.pop("warnings")} <= {f"{devkit}: no picture shows the class "}
    assert found == {
        "data": "voc", "devkit": "VOC2007", "splits": ["test"], "pictures": 12,
        "problems": [f"{devkit}/JPEGImages/000003.jpg: is empty; a picture is expected"]}


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in root/<split>/<class>, and the same as lists; one of test is a copy of one of train."""
    root = tmp_path_factory.mktemp("data") / "pets"
    for seed, place in enumerate((split, name, number) for split in ("train", "test") for name in ("cat", "dog")
                                 for number in range(5)):
        split, name, number = place
        (root / split / name).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 48, 3), np.uint8)
        Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    shutil.copy(root / "train/dog/1.png", root / "test/dog/1.png")
    for split in ("train", "test"):
        lines = [f"{path.relative_to(root)},{path.parent.name}" for path in sorted(root.glob(f"{split}/*/*.png"))]
        (root / f"{split}.csv").write_text("\n".join(["path,class", *lines, ""]))
    return root


def test_a_tree_is_checked_as_a_devkit_is(pets: Path) -> None:
    result = voc_data("check", "--data", "folder", "--root", pets)
    assert (result.returncode, result.stdout) == (1, (
        f"{pets}/test/dog/1.png: in test, is byte for byte {pets}/train/dog/1.png in train; results on training "
        "pictures mean nothing, remove one\n"))
    assert result.stderr == "voc-data: error: pets (test, train): 1 problem found; correct the files listed above\n"


def test_cifar10_is_checked_counted_and_shown(tmp_path: Path) -> None:
    root = write_python(tmp_path, drawn_batches(20))
    checked = voc_data("check", "--data", "cifar10", "--root", root)
    assert (checked.returncode, checked.stdout) == (
        0, "cifar-10-batches-py (train, test): 120 pictures, no problem found\n"), checked.stderr
    counted = voc_data("stats", "--data", "cifar10", "--root", root, "--plot", tmp_path / "stats.png")
    assert "│ airplane   │    10 │    2 │" in counted.stdout, counted.stderr
    with Image.open(tmp_path / "stats.png") as image:
        assert image.format == "PNG"
    shown = voc_data("preview", "--data", "cifar10", "--root", root, "--pictures", 2, "--out", tmp_path / "sheet.png")
    assert (shown.returncode, shown.stdout) == (0, f"{tmp_path}/sheet.png: 2 pictures, 5 variants of each\n")


def test_ctrl_c_ends_a_check_at_once(tmp_path: Path) -> None:
    """Large pictures: each takes a good part of a second."""
    (tmp_path / "pets/cat").mkdir(parents=True)
    Image.new("RGB", (9000, 9000)).save(tmp_path / "pets/cat/0.jpg")
    for number in range(1, 60):
        (tmp_path / f"pets/cat/{number}.jpg").hardlink_to(tmp_path / "pets/cat/0.jpg")
    with interruptible_children():
        program = subprocess.Popen([BIN / "voc-data", "check", "--data", "folder", "--root", tmp_path / "pets"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_decoding(program.pid)
    program.send_signal(signal.SIGINT)
    interrupted = time.monotonic()
    out, error = program.communicate(timeout=60)
    assert (program.returncode, out, error) == (130, "", "voc-data: error: interrupted\n")
    assert time.monotonic() - interrupted < 10


def wait_for_decoding(pid: int) -> None:
    """Until the process holds a decoded picture of 243 MB beside all that TensorFlow takes."""
    for _ in range(600):
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if resident > 750e6:
            return
        time.sleep(0.1)
    pytest.fail("nothing was decoded within a minute")


def test_check_and_stats_say_what_is_wrong_with_the_root_or_the_split(devkit: Path, tmp_path: Path) -> None:
    for name, root, split, said in (
            ("check", devkit / "JPEGImages", "test", f"pass --root {devkit}"),
            ("check", tmp_path / "no", "test", "no such folder; --root takes the folder of one year"),
            ("stats", devkit, "valid", "no such split; the splits of VOC2007 are: test, train, trainval, val")):
        started = time.monotonic()
        result = voc_data(name, "--root", root, "--split", split)
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


def test_stats_without_a_split_shows_all_side_by_side(pets: Path) -> None:
    table = voc_data("stats", "--data", "folder", "--root", pets)
    assert (table.returncode, table.stderr) == (0, "")
    assert "pets: pictures of each class, single-label" in table.stdout
    assert "│ dog      │    5 │     5 │" in table.stdout
    splits = json.loads(voc_data("stats", "--data", "folder", "--root", pets, "--json").stdout)["splits"]
    assert [(split["split"], split["pictures"]) for split in splits] == [("test", 10), ("train", 10)]


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
    (("--zoom", 2), "--zoom 2: must be from 0 to 0.9"),
    (("--variants", 0), "--variants 0: must be from 1 to 20"),
    (("--pictures", 101), "--pictures 101: must be from 1 to 100"),
    (("--seed", -1), "--seed -1: must be at least 0"),
    (("--net", "vgg_11"), "--net vgg_11: no such network; known are vgg_16, "),
])
def test_preview_refuses_flags_that_make_no_sense(drawn: Path, tmp_path: Path, args: tuple[object, ...],
                                                 said: str) -> None:
    result = voc_data("preview", "--root", drawn, "--out", tmp_path / "sheet.png", *args)
    assert result.returncode == 2
    assert result.stderr.startswith(f"voc-data: error: {said}")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "sheet.png").exists()


def pack_test_split(devkit: Path, archive: Path) -> Path:
    """What VOCtest_06-Nov-2007.tar has, of the demo."""
    with tarfile.open(archive, "w") as members:
        for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
            members.add(devkit / name, f"VOCdevkit/VOC2007/{name}")
    return archive


def test_download_fetches_from_a_mirror_unpacks_and_says_how_to_go_on(
        drawn: Path, tmp_path: Path, file_server: Callable[[bytes], FileServer]) -> None:
    content = pack_test_split(drawn, tmp_path / "packed.tar").read_bytes()
    server = file_server(content)
    server.breaks = [100_000]
    args = ("download", "voc2007", "--parts", "test", "--url", server.url("voc"), "--sha256",
            hashlib.sha256(content).hexdigest(), "--out", "here")
    first = voc_data(*args, cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines() == [
        f"VOCtest_06-Nov-2007.tar: fetching from {server.url('voc')}/VOCtest_06-Nov-2007.tar",
        "VOCtest_06-Nov-2007.tar: SHA-256 as expected, unpacking",
        "train on it: voc-train --data voc --root here/VOCdevkit/VOC2007 --train-split trainval --eval-split test …"]
    asked = len(server.requests)
    again = voc_data(*args, cwd=tmp_path)
    assert again.stdout.startswith("VOCtest_06-Nov-2007.tar: is there already")
    assert len(server.requests) == asked
    assert len(read_dataset("voc", tmp_path / "here/VOCdevkit/VOC2007", "test")) == 13


def test_download_takes_an_archive_brought_by_hand_only_if_it_is_the_official_one(drawn: Path, tmp_path: Path) -> None:
    archive = pack_test_split(drawn, tmp_path / "VOCtest_06-Nov-2007.tar")
    refused = voc_data("download", "voc2007", "--archive", archive, "--out", tmp_path / "here")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(rf"voc-data: error: {archive}: has [\d,]+ bytes and the SHA-256 [0-9a-f]+, "
                        r"expected 6836888e[0-9a-f]+; it is damaged or another file, fetch it again\n", refused.stderr)
    assert list((tmp_path / "here").iterdir()) == []
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    taken = voc_data("download", "voc2007", "--archive", archive, "--sha256", digest, "--out", tmp_path / "here")
    assert (taken.returncode, taken.stderr) == (0, "")
    assert archive.exists()


@pytest.mark.parametrize(("args", "code", "said"), [
    (("voc2007", "--parts", "val"), 2, "--parts val: there is no such part; there is trainval and test"),
    (("voc2007", "--sha256", "0" * 64), 2, f"--sha256 {'0' * 64}: is of one archive, but 2 are wanted; name the part "
                                           "with --parts"),
    (("voc2012", "--sha256", "abc"), 2, "--sha256 abc: a SHA-256 has 64 hexadecimal digits"),
    (("voc2007", "--archive", "my.tar"), 2, "--archive my.tar: has the name of none of the parts, "
     "VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar; rename it, or say which one it is with --parts"),
    (("voc2012", "--archive", "my.tar"), 1, "my.tar: no such file; --archive takes VOCtrainval_11-May-2012.tar"),
])
def test_download_refuses_flags_that_make_no_sense(tmp_path: Path, args: tuple[str, ...], code: int, said: str) -> None:
    result = voc_data("download", *args, "--out", "here", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (code, f"voc-data: error: {said}\n")
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_every_command_imports_nothing_heavy() -> None:
    script = """
import contextlib, sys
from voc_cls.cli.data import main
for command in ("check", "stats", "preview", "split", "download", "demo"):
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
heavy = {"tensorflow", "keras", "cv2", "lxml", "matplotlib", "sklearn", "PIL"}
print(sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.count("usage: voc-data") == 6
    assert result.stderr == "[]\n"


def test_the_real_pictures_pass_the_check() -> None:
    if not VOC2007_ROOT.is_dir():
        pytest.skip(f"no {VOC2007_ROOT}: set VOC2007_ROOT")
    result = voc_data("check", "--root", VOC2007_ROOT)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        f"warning: {VOC2007_ROOT}: the class 'sheep' has no picture in test; it cannot be learned or measured there",
        "VOC2007 (test, trainval): 1,502 pictures, no problem found, 1 warning"]


@pytest.mark.parametrize(("args", "message"), [
    (("stats", "--root", "nowhere", "--plot", "a.jpg"), "--plot a.jpg must end in .png"),
    (("preview", "--root", "nowhere", "--out", "gone/a.png"), "--out gone/a.png: the folder gone does not exist"),
    (("similar", "a.jpg", "--sheet", "b.jpg"), "--sheet b.jpg must end in .png"),
    (("next", "run", "a.jpg", "--label-studio", "gone/a.json"), "--label-studio gone/a.json: the folder gone does not"),
    (("suspects", "run", "--csv", "gone/a.csv"), "--csv gone/a.csv: the folder gone does not exist; make it first"),
])
def test_files_that_cannot_be_written_are_told_before_anything_is_read(args: tuple[str, ...], message: str,
                                                                      tmp_path: Path):
    result = voc_data(*args, cwd=tmp_path)
    assert result.returncode == 2
    assert message in result.stderr
