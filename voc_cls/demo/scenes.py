"""Composes one image of the demo: objects drawn over a background, and the visible box of each of them.

Backgrounds are textured: a landscape or a room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from voc_cls.data.readers.split_scan import Box, VocObject
from voc_cls.demo.canvas import Canvas, Colour, pick
from voc_cls.demo.drawings import DRAWINGS

Pixels = npt.NDArray[np.float32]
"""[height, width] or [height, width, 3], grey levels 0-255 unless stated otherwise."""
SIZES = ((375, 500), (333, 500), (500, 375), (500, 334))
"""(height, width), the most frequent ones in VOC2007."""
LANDSCAPE_CHANCE = 0.7
MAX_OBJECTS = 4
DIFFICULT_CHANCE = 0.3
"""Probability of an additional object that is tiny or mostly hidden, if there is room for one."""
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
ELSEWHERE_CHANCE = 0.2
"""Of an untypical background, so that it does not give the object away."""
INDOOR = ("bottle", "chair", "diningtable", "pottedplant", "sofa", "tvmonitor")

GROUNDS = ((95, 140, 65), (150, 165, 90), (205, 180, 135), (125, 125, 128), (225, 230, 235), (140, 110, 80))
"""Meadow, dry grass, sand, asphalt, snow, soil."""
SKIES = ((120, 170, 225), (175, 200, 225), (200, 205, 210), (235, 190, 150))
WALLS = ((215, 205, 185), (170, 190, 175), (190, 175, 195), (160, 180, 200), (210, 185, 165))
FLOORS = ((160, 115, 75), (190, 150, 105), (120, 110, 105), (150, 75, 70))


@dataclass(frozen=True)
class Scene:
    """An image, uint8 [height, width, 3] RGB, and its objects."""

    image: npt.NDArray[np.uint8]
    objects: tuple[VocObject, ...]


@dataclass(frozen=True)
class Sprite:
    """One object on a layer, uint8 [rows, columns, 4] premultiplied, whose corner is at (left, top) of the image."""

    name: str
    layer: npt.NDArray[np.uint8]
    left: int
    top: int
    tiny: bool

    def overlap(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Where layer and image overlap: (rows, columns) of the layer, (rows, columns) of the image."""
        tall, broad = self.layer.shape[:2]
        rows = slice(*np.clip((self.top, self.top + tall), 0, height).tolist())
        columns = slice(*np.clip((self.left, self.left + broad), 0, width).tolist())
        return ((slice(rows.start - self.top, rows.stop - self.top),
                 slice(columns.start - self.left, columns.stop - self.left)), (rows, columns))


def compose(random: np.random.Generator, names: Sequence[str]) -> Scene:
    """An image that clearly shows `names`, one to four of VOC's classes, and sometimes a further difficult object."""
    landscape = random.random() < LANDSCAPE_CHANCE
    height, width = SIZES[random.integers(2) + (0 if landscape else 2)]
    sprites = [draw_sprite(random, name, *place)
               for name, place in zip(names, _places(random, len(names), height, width), strict=True)]
    if len(names) < MAX_OBJECTS and random.random() < DIFFICULT_CHANCE:
        sprites.insert(0, _difficult(random, sprites, height, width))
    image = background(random, names[0], height, width)
    for sprite in sprites:
        _paint(random, image, sprite)
    image *= (random.uniform(0.85, 1.12) * random.uniform(0.95, 1.05, 3)).astype(np.float32)  # exposure, white balance
    image += random.standard_normal((height, width, 1), np.float32) * np.float32(random.uniform(1, 4))
    return Scene(np.clip(image, 0, 255).astype(np.uint8), visible_objects(sprites, height, width))


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


def draw_sprite(random: np.random.Generator, name: str, x: float, y: float, side: float, tiny: bool = False) -> Sprite:
    """Draws `name` around (x, y), its unit square `side` pixels long: rotated, mirrored and squeezed at random."""
    import cv2

    turn, squeeze = np.radians(random.uniform(-12, 12)), random.uniform(0.88, 1.14)
    mirror = random.choice((-1.0, 1.0))
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = rotation @ np.diag([mirror * squeeze * side, side / squeeze])
    reach = round(0.85 * side)  # 0.85: half a diagonal, squeezed
    left, top = round(x) - reach, round(y) - reach
    shift = np.array([x - left, y - top]) - linear @ [0.5, 0.5]
    layer = np.zeros((2 * reach, 2 * reach, 4), np.uint8)
    DRAWINGS[name](Canvas(layer, np.column_stack([linear, shift])), random)
    column, row, broad, high = cv2.boundingRect(layer[..., 3])
    return Sprite(name, layer[row:row + high, column:column + broad], left + column, top + row, tiny)


def _difficult(random: np.random.Generator, others: Sequence[Sprite], height: int, width: int) -> Sprite:
    """An object that is tiny or mostly behind one of `others`."""
    name = tuple(DRAWINGS)[random.integers(len(DRAWINGS))]
    if random.random() < 0.5:
        x, y = random.uniform(0.1, 0.9, 2) * (width, height)
        return draw_sprite(random, name, x, y, random.uniform(*TINY), tiny=True)
    front = others[int(random.integers(len(others)))]
    high, broad = front.layer.shape[:2]
    sideways = random.choice((-1.0, 1.0)) * random.uniform(0.25, 0.45) * broad
    return draw_sprite(random, name, front.left + broad / 2 + sideways, front.top + high / 2,
                       random.uniform(0.6, 0.9) * max(broad, high))


def _paint(random: np.random.Generator, image: Pixels, sprite: Sprite) -> None:
    """Lays `sprite` over `image`, in place: lit from above, slightly grainy."""
    on_layer, on_image = sprite.overlap(*image.shape[:2])
    rows, columns = sprite.layer.shape[:2]
    alpha = sprite.layer[..., 3:].astype(np.float32) / 255
    light = np.linspace(1.1, 0.9, rows, dtype=np.float32)[:, None] + 0.08 * noise(random, rows, columns, 6, 3)
    lit = np.minimum(sprite.layer[..., :3] * light[..., None], 255 * alpha)
    image[on_image] = image[on_image] * (1 - alpha)[on_layer] + lit[on_layer]


def visible_objects(sprites: Sequence[Sprite], height: int, width: int) -> tuple[VocObject, ...]:
    """Boxes of the visible part of each sprite; later ones cover earlier ones. 1-based as in VOC."""
    import cv2

    objects = []
    free = np.ones((height, width), bool)
    for sprite in reversed(sprites):
        solid = sprite.layer[..., 3] >= OPAQUE
        on_layer, on_image = sprite.overlap(height, width)
        visible = solid[on_layer] & free[on_image]
        whole, inside, seen = (int(np.count_nonzero(mask)) for mask in (solid, solid[on_layer], visible))
        free[on_image] &= ~solid[on_layer]
        if seen < DROPPED_BELOW * whole:
            continue
        left, top, broad, high = cv2.boundingRect(visible.astype(np.uint8))
        left, top = left + on_image[1].start, top + on_image[0].start
        objects.append(VocObject(sprite.name, Box(left + 1, top + 1, left + broad, top + high),
                                 difficult=sprite.tiny or seen < DIFFICULT_BELOW * whole,
                                 truncated=whole - inside >= TRUNCATED_FROM * whole))
    return tuple(reversed(objects))


def background(random: np.random.Generator, name: str, height: int, width: int) -> Pixels:
    """float32 [height, width, 3] RGB: mostly a typical background of `name`; colours and texture from `random`.

    Drawn at half the size and enlarged, which is four times as fast; the result is soft anyway.
    """
    import cv2

    indoors = (name in INDOOR) != (random.random() < ELSEWHERE_CHANCE)
    small = np.clip((_room if indoors else _landscape)(random, height // 2, width // 2), 0, 255)
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


def _horizon(upper: Pixels, lower: Pixels, share: float) -> Pixels:
    """`upper` down to `share` of the height, `lower` below it."""
    edge = round(share * len(upper))
    return np.concatenate([upper[:edge], lower[edge:]])


def _landscape(random: np.random.Generator, height: int, width: int) -> Pixels:
    ground = _plain(pick(random, *GROUNDS), noise(random, height, width, 12, 5, 1.5) * 22 + _ramp(height, 10, -15))
    clouds = np.clip(noise(random, height, width, 2.5, 5, 2.0) - 0.1, 0, 1) * 70
    sky = _plain(pick(random, *SKIES), clouds + _ramp(height, -25, 25))
    return _horizon(sky, ground, random.uniform(0.15, 0.4))


def _room(random: np.random.Generator, height: int, width: int) -> Pixels:
    stripes = np.arange(width) % 20 < random.uniform(4, 12)
    wall = _plain(pick(random, *WALLS), np.float32(12) * stripes + noise(random, height, width, 6, 4) * 6)
    floor = _plain(pick(random, *FLOORS), noise(random, height, width, 20, 3, 8.0) * 12 + _ramp(height, 0, 15))
    return _horizon(wall, floor, random.uniform(0.45, 0.7))
