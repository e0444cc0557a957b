"""Textured backgrounds of the demo's pictures: a landscape, the sea, a room, or a cloth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.demo.palette import Colour, pick

Pixels = npt.NDArray[np.float32]
"""[height, width] or [height, width, 3], grey levels 0-255 where nothing else is said."""

INDOOR = ("bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor")
CLOTH_CHANCE = 0.2

GROUNDS = ((95, 140, 65), (150, 165, 90), (205, 180, 135), (125, 125, 128), (225, 230, 235), (140, 110, 80))
"""Meadow, dry grass, sand, asphalt, snow, soil."""
SKIES = ((120, 170, 225), (175, 200, 225), (200, 205, 210), (235, 190, 150))
WALLS = ((215, 205, 185), (170, 190, 175), (190, 175, 195), (160, 180, 200), (210, 185, 165))
FLOORS = ((160, 115, 75), (190, 150, 105), (120, 110, 105), (150, 75, 70))
SEAS = ((40, 95, 130), (60, 130, 150), (75, 105, 125))
CLOTHS = ((120, 140, 120), (160, 130, 110), (110, 125, 155), (175, 165, 140), (145, 110, 125))


def background(random: np.random.Generator, name: str, height: int, width: int) -> Pixels:
    """float32 [height, width, 3] RGB: where `name` is often found, or a cloth; colours and texture from `random`.

    Made at half the size and enlarged: as good, being soft anyway, and four times as fast.
    """
    import cv2

    if random.random() < CLOTH_CHANCE:
        surroundings = _cloth
    elif name in INDOOR:
        surroundings = _room
    else:
        surroundings = _sea if name == "boat" else _landscape
    small = np.clip(surroundings(random, height // 2, width // 2), 0, 255)
    enlarged: Pixels = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return enlarged


def noise(random: np.random.Generator, height: int, width: int, cells: float, octaves: int = 4,
          stretch: float = 1.0) -> Pixels:
    """float32 [height, width], about -1 to 1: smooth noise of `cells` per height, and finer octaves of half the weight.

    stretch: how many times longer than high the grain is.
    """
    import cv2

    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        rows = max(2, min(height, round(cells * 2**octave)))
        columns = max(2, min(width, round(cells * 2**octave * width / height / stretch)))
        grid = random.uniform(-1, 1, (rows, columns)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.5**octave
    return total


def _plain(colour: Colour, texture: Pixels) -> Pixels:
    return np.asarray(colour, np.float32) + texture[..., None]


def _ramp(height: int, start: float, end: float) -> Pixels:
    return np.linspace(start, end, height, dtype=np.float32)[:, None]


def _horizon(upper: Pixels, lower: Pixels, edge: Any) -> Pixels:
    """`upper` above the line `edge` (a row for each column), `lower` below it."""
    below = np.arange(len(upper))[:, None] >= np.asarray(edge)[None]
    return np.where(below[..., None], lower, upper)


def _sky(random: np.random.Generator, height: int, width: int) -> Pixels:
    clouds = np.clip(noise(random, height, width, 2.5, 5, 2.0) - 0.1, 0, 1) * 70
    return _plain(pick(random, *SKIES), clouds + _ramp(height, -25, 25))


def _landscape(random: np.random.Generator, height: int, width: int) -> Pixels:
    ground = _plain(pick(random, *GROUNDS), noise(random, height, width, 12, 5, 1.5) * 22 + _ramp(height, 10, -15))
    hills = _plain(pick(random, (90, 115, 95), (110, 120, 140), (70, 95, 70)), noise(random, height, width, 20, 3) * 10)
    edge = random.uniform(0.15, 0.4) * height
    ridge = edge - height * (0.06 + 0.07 * noise(random, 8, width, 0.7, 3)[0])
    return _horizon(_horizon(_sky(random, height, width), hills, ridge), ground, np.full(width, edge))


def _sea(random: np.random.Generator, height: int, width: int) -> Pixels:
    waves = noise(random, height, width, 16, 4, 5.0) * _ramp(height, 5, 35)
    water = _plain(pick(random, *SEAS), waves + _ramp(height, 25, -10))
    return _horizon(_sky(random, height, width), water, np.full(width, random.uniform(0.2, 0.45) * height))


def _room(random: np.random.Generator, height: int, width: int) -> Pixels:
    columns, rows = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    period = random.uniform(12, 30)
    stripes = np.where((columns / period) % 1 < random.uniform(0.2, 0.6), random.uniform(0, 16), 0).astype(np.float32)
    wall = _plain(pick(random, *WALLS), stripes + noise(random, height, width, 6, 4) * 6)
    gaps = np.where((rows / random.uniform(8, 14)) % 1 < 0.1, np.float32(-35), np.float32(0))
    grain = noise(random, height, width, 20, 3, 8.0) * 12
    floor = _plain(pick(random, *FLOORS), gaps + grain + _ramp(height, 0, 15))
    edge = random.uniform(0.45, 0.7) * height
    skirting = _plain((235, 232, 225), np.zeros((height, width), np.float32))
    return _horizon(_horizon(wall, skirting, np.full(width, edge - 5)), floor, np.full(width, edge))


def _cloth(random: np.random.Generator, height: int, width: int) -> Pixels:
    columns, rows = np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]
    weave = 7 * (np.sin(columns * random.uniform(0.6, 2.0)) + np.sin(rows * random.uniform(0.6, 2.0)))
    return _plain(pick(random, *CLOTHS), weave.astype(np.float32) + noise(random, height, width, 2, 6) * 22)
