"""The demo devkit: composes its images, objects over a landscape, and writes them in the layout of VOC2007."""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from voc_cls.data.readers.split_scan import Box, VocObject
from voc_cls.data.readers.voc import CLASSES, ground_truth
from voc_cls.demo.drawings import DRAWINGS, draw, pick
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

SIZES = ((375, 500), (333, 500), (500, 375))
"""(height, width), the most frequent ones in VOC2007."""
MAX_OBJECTS = 4
DIFFICULT_CHANCE = 0.3
"""Probability of an additional object that is tiny, if there is room for one."""
CUT_CHANCE = 0.2
"""Probability that an object is partly outside the image."""
TINY = (18.0, 30.0)
"""Side of a tiny object, pixels."""
TRUNCATED_FROM = 0.05
"""Part of an object outside the image from which on it counts as truncated."""
DIFFICULT_BELOW = 0.35
"""Visible part of an object below which it counts as difficult; VOC's annotators judged this by eye."""
DROPPED_BELOW = 0.06
"""Visible part below which an object is omitted."""
OPAQUE = 128
MARGIN = 400
"""Pixels around the image that are drawn, too, to know how much of an object is outside."""
INSIDE = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))

GROUNDS = ((95, 140, 65), (150, 165, 90), (205, 180, 135), (125, 125, 128), (225, 230, 235), (140, 110, 80))
"""Meadow, dry grass, sand, asphalt, snow, soil."""
SKIES = ((120, 170, 225), (175, 200, 225), (200, 205, 210), (235, 190, 150))


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
        raise DataError(f"{error.filename or folder}: cannot be written ({error.strerror}); name another folder"
                        ) from error
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


@dataclass(frozen=True)
class Sprite:
    """One object, uint8 [height, width, 4] premultiplied by alpha: of the image and MARGIN on each side."""

    name: str
    layer: npt.NDArray[np.uint8]
    tiny: bool


def compose(random: np.random.Generator, names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], tuple[VocObject, ...]]:
    """An image, uint8 [height, width, 3] RGB, and its objects.

    It clearly shows `names`, one to four of VOC's classes, and sometimes a further difficult object.
    """
    size = SIZES[random.integers(len(SIZES))]
    sprites = [draw_sprite(random, name, size, *place)
               for name, place in zip(names, _places(random, len(names), *size), strict=True)]
    if len(names) < MAX_OBJECTS and random.random() < DIFFICULT_CHANCE:
        name, (x, y) = tuple(DRAWINGS)[random.integers(len(DRAWINGS))], random.uniform(0.1, 0.9, 2) * size[::-1]
        sprites.insert(0, draw_sprite(random, name, size, x, y, random.uniform(*TINY), tiny=True))
    image = background(random, *size)
    for sprite in sprites:
        layer = sprite.layer[INSIDE].astype(np.float32)
        image = image * (1 - layer[..., 3:] / np.float32(255)) + layer[..., :3]
    image *= (random.uniform(0.85, 1.12) * random.uniform(0.95, 1.05, 3)).astype(np.float32)  # exposure, white balance
    image += random.standard_normal((*size, 1), np.float32) * np.float32(random.uniform(1, 4))
    return np.clip(image, 0, 255).astype(np.uint8), visible_objects(sprites)


def _places(random: np.random.Generator, count: int, height: int, width: int) -> list[tuple[float, float, float]]:
    """(x, y, side) in pixels for `count` objects, each in a separate cell, so that none is mostly hidden by another."""
    rows, columns = {1: (1, 1), 2: (1, 2) if width > height else (2, 1)}.get(count, (2, 2))
    cell = np.array([width / columns, height / rows])
    side = min(np.sqrt(cell.prod()), 0.95 * min(height, width))
    places = []
    for number in random.permutation(rows * columns)[:count]:
        length = side * random.uniform(0.7, 1.02)
        centre = (np.array([number % columns, number // columns]) + 0.5 + random.uniform(-0.07, 0.07, 2)) * cell
        if random.random() < CUT_CHANCE:
            inside = length * random.uniform(0.1, 0.35)
            centre[0] = width - inside if centre[0] > width / 2 else inside
        places.append((float(centre[0]), float(centre[1]), float(length)))
    return places


def draw_sprite(random: np.random.Generator, name: str, size: tuple[int, int], x: float, y: float, side: float,
                tiny: bool = False) -> Sprite:
    """Draws `name` around (x, y), its unit square `side` pixels long: rotated, mirrored and squeezed at random."""
    turn, squeeze = np.radians(random.uniform(-12, 12)), random.uniform(0.88, 1.14)
    mirror = random.choice((-1.0, 1.0))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ np.diag([mirror * squeeze * side, side / squeeze])
    shift = np.array([x, y]) + MARGIN - linear @ [0.5, 0.5]
    layer = np.zeros((size[0] + 2 * MARGIN, size[1] + 2 * MARGIN, 4), np.uint8)
    draw(name, layer, np.column_stack([linear, shift]), random)
    return Sprite(name, layer, tiny)


def visible_objects(sprites: Sequence[Sprite]) -> tuple[VocObject, ...]:
    """Boxes of the visible part of each sprite; later ones cover earlier ones. 1-based as in VOC."""
    import cv2

    objects = []
    free = np.ones(sprites[0].layer[INSIDE].shape[:2], bool)
    for sprite in reversed(sprites):
        solid = sprite.layer[..., 3] >= OPAQUE
        inside = solid[INSIDE]
        visible = inside & free
        free &= ~inside
        whole, seen = int(np.count_nonzero(solid)), int(np.count_nonzero(visible))
        if seen < DROPPED_BELOW * whole:
            continue
        left, top, broad, high = cv2.boundingRect(visible.astype(np.uint8))
        objects.append(VocObject(sprite.name, Box(left + 1, top + 1, left + broad, top + high),
                                 difficult=sprite.tiny or seen < DIFFICULT_BELOW * whole,
                                 truncated=whole - int(np.count_nonzero(inside)) >= TRUNCATED_FROM * whole))
    return tuple(reversed(objects))


def background(random: np.random.Generator, height: int, width: int) -> npt.NDArray[np.float32]:
    """float32 [height, width, 3] RGB: sky over ground, at random."""
    import cv2

    image, edge = np.empty((height, width, 3), np.float32), round(height * random.uniform(0.2, 0.6))
    image[:edge], image[edge:] = pick(random, SKIES), pick(random, GROUNDS)
    for octave in range(5):  # smooth noise, twice as fine and half as strong each time
        grid = random.uniform(-20, 20, (8 * 2**octave, 5 * 2**octave)).astype(np.float32) / 2**octave
        image += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    return image
