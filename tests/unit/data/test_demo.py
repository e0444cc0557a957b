"""The demo devkit: the same everywhere, complete, and honest about what its pictures show."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from voc_cls.data.load import read_dataset
from voc_cls.data.readers.split_scan import Box, VocObject
from voc_cls.data.readers.voc import CLASSES
from voc_cls.data.readers.voc_annotation import read_annotation
from voc_cls.demo.devkit import (
    DIFFICULT_BELOW,
    DROPPED_BELOW,
    MARGIN,
    OPAQUE,
    TRUNCATED_FROM,
    compose,
    draw_sprite,
    visible_objects,
    write_demo,
)
from voc_cls.demo.drawings import DRAWINGS, draw
from voc_cls.errors import DataError

SIDE = 64


def digest(folder: Path) -> str:
    """One digest of all names and bytes below `folder`."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        total.update(f"{path.relative_to(folder)}\n".encode())
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


def drawing(name: str, seed: int) -> npt.NDArray[np.uint8]:
    """One object on grey, slightly turned, uint8 [SIDE, SIDE, 3]."""
    random = np.random.default_rng(seed)
    turn, side = np.radians(random.uniform(-8, 8)), SIDE * random.uniform(0.8, 0.95)
    linear = side * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    layer = np.zeros((SIDE, SIDE, 4), np.uint8)
    draw(name, layer, np.column_stack([linear, np.full(2, SIDE / 2) - linear @ [0.5, 0.5]]), random)
    alpha = layer[..., 3:] / 255
    picture: npt.NDArray[np.uint8] = (layer[..., :3] + 128 * (1 - alpha)).astype(np.uint8)
    return picture


def test_every_class_of_voc_has_a_drawing() -> None:
    assert tuple(DRAWINGS) == CLASSES


def test_the_twenty_drawings_can_be_told_apart_by_shape_alone() -> None:
    def edges(name: str, seed: int) -> npt.NDArray[Any]:
        grey = cv2.cvtColor(drawing(name, seed), cv2.COLOR_RGB2GRAY)
        return np.ravel(cv2.GaussianBlur(cv2.Canny(grey, 50, 150).astype(np.float32), (0, 0), 2.5))

    known = {name: np.stack([edges(name, seed) for seed in range(6)]).mean(axis=0) for name in CLASSES}
    asked = [(name, edges(name, seed)) for name in CLASSES for seed in range(100, 104)]
    right = sum(name == min(known, key=lambda other: np.linalg.norm(known[other] - shape)) for name, shape in asked)
    assert right / len(asked) > 0.95


def test_the_same_seed_gives_the_same_bytes_in_another_process_and_with_other_threads(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    write_demo(tmp_path / "one", pictures=9, seed=1)
    script = ("import os, sys, pathlib, voc_cls.demo.devkit as d; os.cpu_count = lambda: 5; "
              "d.write_demo(pathlib.Path(sys.argv[1]), 9, 1)")
    subprocess.run([sys.executable, "-c", script, tmp_path / "five"], check=True,
                   env={**os.environ, "PYTHONHASHSEED": "7", "OPENCV_FOR_THREADS_NUM": "1"})
    assert digest(tmp_path / "five") == digest(tmp_path / "one")


def test_another_seed_gives_other_pictures(drawn_devkit: Path, tmp_path: Path) -> None:
    other = write_demo(tmp_path / "other", pictures=3, seed=2)[0]
    for name in ("000001.jpg", "000002.jpg", "000003.jpg"):
        assert (other / "JPEGImages" / name).read_bytes() != (drawn_devkit / "JPEGImages" / name).read_bytes()


def test_more_pictures_begin_with_the_same_ones(drawn_devkit: Path, tmp_path: Path) -> None:
    few = write_demo(tmp_path / "few", pictures=7, seed=1)[0]
    pairs = [path for path in few.rglob("*") if path.suffix in (".jpg", ".xml")]
    assert len(pairs) == 14
    assert all(path.read_bytes() == (drawn_devkit / path.relative_to(few)).read_bytes() for path in pairs)
    assert (drawn_devkit / "ImageSets/Main/train.txt").read_text().startswith(
        (few / "ImageSets/Main/train.txt").read_text())


def test_the_splits_divide_the_pictures_as_in_a_real_devkit(drawn_devkit: Path) -> None:
    splits = {split: [path.stem for path in read_dataset("voc", drawn_devkit, split).paths]
              for split in ("train", "val", "trainval", "test")}
    assert [len(names) for names in splits.values()] == [10, 10, 20, 10]
    assert splits["trainval"] == sorted(splits["train"] + splits["val"])
    assert sorted(splits["trainval"] + splits["test"]) == [f"{number:06}" for number in range(1, 31)]
    assert len(list((drawn_devkit / "ImageSets/Main").glob("*_*.txt"))) == 80


def test_from_thirty_pictures_on_every_split_shows_every_class(drawn_devkit: Path, tmp_path: Path) -> None:
    for root in (drawn_devkit, write_demo(tmp_path, pictures=30, seed=0)[0]):
        for split in ("train", "val", "test"):
            assert read_dataset("voc", root, split).labels.sum(axis=0).min() >= 1, split


def test_scenes_show_what_was_asked_for_and_have_difficult_and_truncated_objects_too() -> None:
    flags, extra = [], 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        names = [CLASSES[index] for index in random.integers(len(CLASSES), size=1 + seed % 4)]
        image, objects = compose(random, names)
        height, width = image.shape[:2]
        assert (height, width) in ((375, 500), (333, 500), (500, 375), (500, 334))
        assert 1 <= len(objects) <= 4
        clear = [item.name for item in objects if not item.difficult]
        assert all(clear.count(name) >= names.count(name) for name in names)
        assert all(1 <= item.box.xmin <= item.box.xmax <= width and 1 <= item.box.ymin <= item.box.ymax <= height
                   for item in objects)
        flags += [(item.difficult, item.truncated) for item in objects]
        extra += len(objects) - len(names)
    difficult, truncated = np.mean(flags, axis=0)
    assert 0.02 < difficult < 0.15
    assert 0.1 < truncated < 0.4
    assert extra > 0


def test_boxes_and_flags_follow_what_can_be_seen_of_overlapping_objects() -> None:
    height, width = size = 120, 160
    seen = set()
    for seed in range(80):
        random = np.random.default_rng(seed)
        sprites = [draw_sprite(random, CLASSES[random.integers(20)], size, random.uniform(-20, 180),
                               random.uniform(-20, 140), random.uniform(30, 90)) for _ in range(5)]
        front = np.full(sprites[0].layer.shape[:2], -1)  # which object is in front, also outside
        for number, sprite in enumerate(sprites):
            front[sprite.layer[..., 3] >= OPAQUE] = number
        expected = []
        for number, sprite in enumerate(sprites):
            at = np.argwhere(sprite.layer[..., 3] >= OPAQUE) - MARGIN
            inside = ((at >= 0) & (at < (height, width))).all(axis=1)
            rows, columns = np.nonzero(front[MARGIN:-MARGIN, MARGIN:-MARGIN] == number)
            if len(rows) >= DROPPED_BELOW * len(at):
                box = Box(columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1)
                expected.append(VocObject(sprite.name, box, bool(len(rows) < DIFFICULT_BELOW * len(at)),
                                          bool((~inside).sum() >= TRUNCATED_FROM * len(at))))
        assert visible_objects(sprites) == tuple(expected)
        seen |= {(item.difficult, item.truncated) for item in expected}
    assert len(seen) == 4


def test_annotations_are_written_as_voc_writes_them(drawn_devkit: Path) -> None:
    path = drawn_devkit / "Annotations/000001.xml"
    assert path.read_text().startswith("<annotation>\n\t<folder>VOC2007</folder>\n\t<filename>000001.jpg</filename>\n")
    picture = cv2.imread(str(drawn_devkit / "JPEGImages/000001.jpg"))
    assert picture is not None
    read = read_annotation(path, CLASSES)
    assert read.size == picture.shape[1::-1]
    first = (drawn_devkit / "ImageSets/Main/aeroplane_train.txt").read_text().splitlines()[0]
    assert first in ("000001 -1", "000001  0", "000001  1")


def test_a_demo_that_is_already_there_is_left_alone(tmp_path: Path) -> None:
    first = write_demo(tmp_path, pictures=4, seed=0)
    (tmp_path / "runs").mkdir()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = write_demo(tmp_path, pictures=4, seed=0)
    assert first == (tmp_path / "VOCdevkit/VOC2007", False)
    assert again == (tmp_path / "VOCdevkit/VOC2007", True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_nothing_that_exists_is_overwritten(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", pictures=4, seed=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").touch()
    before = digest(tmp_path)
    for folder, seed, pictures, said in (
            ("demo", 1, 4, "demo/VOCdevkit: is not the demo of 4 pictures and seed 1; remove it"),
            ("demo", 0, 5, "demo/VOCdevkit: is not the demo of 5 pictures and seed 0; remove it"),
            ("full", 0, 4, r"full: is not empty \(it holds thesis\.tex\); name a folder that is empty"),
            ("full/thesis.tex", 0, 4, r"thesis\.tex: is a file; name a folder that is empty or does not exist"),
            ("full/thesis.tex/x", 0, 4, r"thesis\.tex/x.*: cannot be written \(Not a directory\)")):
        with pytest.raises(DataError, match=said):
            write_demo(tmp_path / folder, pictures, seed)
    assert digest(tmp_path) == before


def test_a_damaged_demo_is_not_taken_for_the_same(tmp_path: Path) -> None:
    root = write_demo(tmp_path, pictures=4, seed=0)[0]
    with (root / "ImageSets/Main/test.txt").open("a") as file:
        file.write("000001\n")
    with pytest.raises(DataError, match="is not the demo of"):
        write_demo(tmp_path, pictures=4, seed=0)


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", pictures=30, seed=0, done=interrupt)
    assert list((tmp_path / "demo").iterdir()) == []
    assert write_demo(tmp_path / "demo", pictures=3, seed=0)[1] is False
