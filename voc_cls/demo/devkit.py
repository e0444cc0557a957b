"""Writes the demo devkit: `Annotations`, `ImageSets/Main` and `JPEGImages` in the layout of VOC2007."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from voc_cls.data.readers.split_scan import VocObject
from voc_cls.data.readers.voc import CLASSES, ground_truth
from voc_cls.demo.scenes import compose
from voc_cls.errors import DataError

YEAR = "VOC2007"
SPLITS = ("train", "val", "test")
"""Picture i belongs to split i modulo 3, so two thirds are trainval."""
COUNTS = (1, 1, 2, 2, 3, 3, 4)
"""Objects of seven pictures. The first ten of a split show 20 or more, so from 30 pictures on it has every class."""
PARTIAL = ".VOCdevkit.partial-"
"""Name, before the process id, of the folder of an unfinished demo; a killed process leaves it behind."""
JPEG_QUALITY = 90
"""As encoded by OpenCV; VOC's own pictures have about the same."""


def write_demo(folder: Path, pictures: int, seed: int, done: Callable[[], None] = lambda: None) -> tuple[Path, bool]:
    """Draws images on all cores and writes `folder`/VOCdevkit/VOC2007, atomically; `done` is called after each image.

    Returns (what `--root` takes, whether the same bytes were there already).
    The same seed gives the same bytes, whatever the number of cores, and more pictures begin with the same ones.
    DataError where `folder` holds anything but the same demo, or cannot be written.
    """
    devkit = folder / "VOCdevkit"
    already_there = devkit.exists()
    _check_target(folder, devkit)
    aside = folder / f"{PARTIAL}{os.getpid()}"
    try:
        _write(aside / YEAR, pictures, seed, done)
        if not already_there:
            aside.rename(devkit)
        elif not _same_files(aside, devkit):
            raise DataError(f"{devkit}: is not the demo of {pictures:,} pictures and seed {seed}; remove it or name "
                            "another folder")
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return devkit / YEAR, already_there


def _check_target(folder: Path, devkit: Path) -> None:
    """DataError if the target is not free, as far as this is known before drawing."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: is a file; name a folder that is empty or does not exist")
    if folder.exists() and not devkit.exists():
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith(PARTIAL))
        if others:
            raise DataError(f"{folder}: is not empty (it holds {', '.join(others[:4])}); name a folder that is empty "
                            f"or does not exist")


def _write(root: Path, pictures: int, seed: int, done: Callable[[], None]) -> None:
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / name).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        truths = []
        for truth in pool.map(lambda planned: _write_image(root, seed, *planned), enumerate(_plan(pictures, seed))):
            truths.append(truth)
            done()
    _write_lists(root / "ImageSets" / "Main", np.stack(truths))


def _random(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _plan(pictures: int, seed: int) -> Iterator[tuple[str, ...]]:
    """The classes that each picture shows clearly, dealt from shuffled decks, so that none is rare in any split."""
    randoms = [_random(seed, 0, split) for split in range(len(SPLITS))]
    decks = [(_deck(random, len(COUNTS)), _deck(random, len(CLASSES))) for random in randoms]
    for index in range(pictures):
        counts, classes = decks[index % len(SPLITS)]
        yield tuple(CLASSES[next(classes)] for _ in range(COUNTS[next(counts)]))


def _deck(random: np.random.Generator, cards: int) -> Iterator[int]:
    while True:
        yield from random.permutation(cards).tolist()


def _write_image(root: Path, seed: int, index: int, names: tuple[str, ...]) -> npt.NDArray[np.int8]:
    import cv2

    image, objects = compose(_random(seed, 1, index), names)
    encoded = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))[1]
    (root / "JPEGImages" / f"{_id(index)}.jpg").write_bytes(encoded.tobytes())
    (root / "Annotations" / f"{_id(index)}.xml").write_text(_xml(_id(index), image.shape, objects))
    return ground_truth(objects)


def _id(index: int) -> str:
    return f"{index + 1:06}"


def _write_lists(folder: Path, truth: npt.NDArray[np.int8]) -> None:
    """`<split>.txt` and `<class>_<split>.txt` in the layout of the devkit: an id, then 1, 0 or -1 in two columns."""
    members: dict[str, Sequence[int]] = {split: range(number, len(truth), len(SPLITS))
                                         for number, split in enumerate(SPLITS)}
    members["trainval"] = sorted([*members["train"], *members["val"]])
    for split, indices in members.items():
        (folder / f"{split}.txt").write_text("".join(f"{_id(index)}\n" for index in indices))
        for column, name in enumerate(CLASSES):
            lines = (f"{_id(index)} {truth[index, column]:2}\n" for index in indices)
            (folder / f"{name}_{split}.txt").write_text("".join(lines))


def _xml(image_id: str, shape: tuple[int, ...], objects: Sequence[VocObject]) -> str:
    height, width, depth = shape
    root = _element("annotation", {
        "folder": YEAR, "filename": f"{image_id}.jpg",
        "source": {"database": "voc-cls demo", "annotation": "drawn, not photographed"},
        "size": {"width": width, "height": height, "depth": depth}, "segmented": 0})
    for item in objects:
        assert item.box is not None, "whatever is drawn has a box"
        root.append(_element("object", {"name": item.name, "pose": "Unspecified", "truncated": int(item.truncated),
                                        "difficult": int(item.difficult), "bndbox": asdict(item.box)}))
    ElementTree.indent(root, "\t")
    return ElementTree.tostring(root, "unicode") + "\n"


def _element(tag: str, content: dict[str, Any] | str | int) -> ElementTree.Element:
    element = ElementTree.Element(tag)
    if isinstance(content, dict):
        element.extend(_element(*item) for item in content.items())
    else:
        element.text = str(content)
    return element


def _same_files(one: Path, other: Path) -> bool:
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
             for folder in (one, other)]
    return names[0] == names[1] and not any(filecmp.cmpfiles(one, other, names[0], shallow=False)[1:])
