"""The drawing of each VOC class in a unit square: simple, recognisable, in random colours; animals face right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
Colour = tuple[int, int, int]
"""Red, green, blue, 0-255."""

WHITE, BLACK, GREY, GLASS = (245, 245, 245), (28, 28, 30), (130, 132, 138), (150, 200, 225)
RED, BLUE, GREEN, YELLOW = (200, 40, 40), (45, 85, 190), (50, 140, 65), (240, 200, 50)
ORANGE, PURPLE, BROWN, WOOD = (235, 130, 45), (130, 65, 160), (110, 70, 40), (175, 120, 70)
FRACTION_BITS = 4
"""OpenCV takes points in 1/16 of a pixel."""
OUTLINE_WIDTH = 0.012
OUTLINE_DARKNESS = 0.55


def shade(colour: Colour, factor: float) -> Colour:
    """`colour` darker (factor below 1) or lighter."""
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return red, green, blue


def pick(random: np.random.Generator, *colours: Colour) -> Colour:
    """One of `colours`, a little lighter or darker."""
    return shade(colours[random.integers(len(colours))], random.uniform(0.85, 1.12))


@dataclass(frozen=True)
class Canvas:
    """Drawing in a unit square, x to the right and y down, on a layer of pixels.

    layer: uint8 [height, width, 4], RGB premultiplied by alpha, drawn into with smooth edges. matrix: float64 [2, 3],
    from the unit square to pixels of the layer; rotates, mirrors, shears and scales the object.
    """

    layer: npt.NDArray[np.uint8]
    matrix: npt.NDArray[np.float64]

    def shape(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon, with a thin darker edge."""
        import cv2

        cv2.fillPoly(self.layer, [self._pixels(points)], (*colour, 255), cv2.LINE_AA, FRACTION_BITS)
        self.line(points, OUTLINE_WIDTH, shade(colour, OUTLINE_DARKNESS), closed=True)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float = 0.0) -> None:
        """A filled ellipse around (x, y), turned clockwise by `turn` degrees."""
        self.shape(arc(x, y, rx, ry, turn), colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, corner: float = 0.0) -> None:
        """A filled rectangle with corners rounded by a radius of `corner`."""
        near, far, high, low = left + corner, right - corner, top + corner, bottom - corner
        centres = ((far, low), (near, low), (near, high), (far, high))
        self.shape([point for turn, (x, y) in enumerate(centres)
                    for point in arc(x, y, corner, corner, 0, 90 * turn, 90 * turn + 90)], colour)

    def line(self, points: Sequence[Point], width: float, colour: Colour, closed: bool = False) -> None:
        """Straight strokes through `points`, `width` in units."""
        import cv2

        thickness = max(1, round(width * float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))))
        cv2.polylines(self.layer, [self._pixels(points)], closed, (*colour, 255), thickness, cv2.LINE_AA, FRACTION_BITS)

    def _pixels(self, points: Sequence[Point]) -> npt.NDArray[np.int32]:
        at = np.asarray(points, np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]
        pixels: npt.NDArray[np.int32] = np.round(at * 2**FRACTION_BITS).astype(np.int32)
        return pixels[:, None]


def arc(x: float, y: float, rx: float, ry: float, turn: float = 0.0, start: float = 0.0,
        end: float = 360.0) -> list[Point]:
    """Points on an ellipse's edge, clockwise from `start` to `end` degrees, 0 to the right."""
    angles = np.radians(np.linspace(start, end, max(8, int(abs(end - start) / 8))))
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    return list(zip((x + along * cosine - across * sine).tolist(), (y + along * sine + across * cosine).tolist(),
                    strict=True))


def _legs(draw: Canvas, xs: tuple[float, ...], top: float, bottom: float, width: float, colour: Colour) -> None:
    for number, x in enumerate(xs):
        draw.box(x - width / 2, top, x + width / 2, bottom, shade(colour, 0.75 if number % 2 else 1.0))


def bird(draw: Canvas, random: np.random.Generator) -> None:
    plumage = pick(random, RED, BLUE, YELLOW, (60, 170, 190))
    for x in (0.45, 0.56):
        draw.line([(x, 0.7), (x, 0.9), (x + 0.08, 0.9)], 0.018, ORANGE)
    draw.shape([(0.02, 0.62), (0.1, 0.72), (0.38, 0.64), (0.34, 0.5)], shade(plumage, 0.7))
    draw.ellipse(0.5, 0.56, 0.26, 0.18, plumage, turn=-20)
    draw.ellipse(0.72, 0.32, 0.14, 0.14, plumage)
    draw.shape([(0.84, 0.28), (0.99, 0.34), (0.84, 0.39)], ORANGE)
    draw.ellipse(0.77, 0.29, 0.03, 0.03, BLACK)
    draw.shape([(0.6, 0.45), (0.22, 0.58), (0.4, 0.66)], shade(plumage, 0.7))


def cat(draw: Canvas, random: np.random.Generator) -> None:
    fur = pick(random, ORANGE, (120, 120, 128), (60, 58, 62), (215, 190, 150))
    draw.line(arc(0.3, 0.66, 0.22, 0.22, 0, 60, 250), 0.06, fur)
    draw.ellipse(0.5, 0.75, 0.24, 0.22, fur)
    for side in (-1, 1):
        draw.shape([(0.5 + side * 0.08, 0.22), (0.5 + side * 0.25, 0.02), (0.5 + side * 0.28, 0.34)], fur)
    draw.ellipse(0.5, 0.36, 0.29, 0.23, fur)
    for x in (0.39, 0.61):
        draw.ellipse(x, 0.35, 0.055, 0.055, BLACK)
    draw.shape([(0.46, 0.43), (0.54, 0.43), (0.5, 0.475)], (220, 110, 120))


def cow(draw: Canvas, random: np.random.Generator) -> None:
    hide, patch = pick(random, WHITE, (240, 232, 220)), pick(random, BLACK, (120, 60, 35))
    _legs(draw, (0.16, 0.27, 0.56, 0.66), 0.55, 0.92, 0.07, hide)
    draw.box(0.06, 0.3, 0.74, 0.64, hide, corner=0.12)
    for x, y, rx, ry in ((0.2, 0.4, 0.09, 0.08), (0.42, 0.5, 0.1, 0.09), (0.58, 0.38, 0.07, 0.06)):
        draw.ellipse(x + random.uniform(-0.03, 0.03), y, rx, ry, patch, turn=random.uniform(0, 90))
    draw.shape([(0.66, 0.32), (0.8, 0.2), (0.86, 0.42), (0.72, 0.56)], hide)
    draw.line([(0.74, 0.08), (0.76, 0.2), (0.88, 0.2), (0.9, 0.08)], 0.03, (235, 220, 180))
    draw.ellipse(0.83, 0.28, 0.11, 0.13, patch, turn=-15)
    draw.ellipse(0.89, 0.42, 0.1, 0.075, (235, 170, 180))
    draw.ellipse(0.78, 0.26, 0.024, 0.024, BLACK)


def dog(draw: Canvas, random: np.random.Generator) -> None:
    coat = pick(random, (190, 135, 75), (110, 70, 40), (225, 205, 170))
    draw.line([(0.12, 0.5), (0.03, 0.3), (0.07, 0.2)], 0.05, coat)
    _legs(draw, (0.17, 0.27, 0.55, 0.65), 0.6, 0.95, 0.085, coat)
    draw.ellipse(0.4, 0.58, 0.31, 0.15, coat)
    draw.shape([(0.52, 0.48), (0.66, 0.28), (0.8, 0.4), (0.7, 0.64)], coat)
    draw.ellipse(0.72, 0.3, 0.15, 0.14, coat)
    draw.box(0.76, 0.3, 0.99, 0.43, shade(coat, 1.15), corner=0.055)
    draw.ellipse(0.62, 0.33, 0.065, 0.16, shade(coat, 0.55), turn=12)
    draw.ellipse(0.78, 0.25, 0.026, 0.026, BLACK)


def horse(draw: Canvas, random: np.random.Generator) -> None:
    coat = pick(random, (125, 70, 35), (85, 50, 30), (165, 110, 60))
    mane = shade(coat, 0.4)
    draw.shape([(0.1, 0.42), (0.0, 0.55), (0.03, 0.8), (0.1, 0.6), (0.14, 0.48)], mane)
    _legs(draw, (0.16, 0.25, 0.54, 0.62), 0.55, 0.98, 0.055, coat)
    draw.ellipse(0.38, 0.5, 0.29, 0.14, coat)
    draw.shape([(0.5, 0.45), (0.68, 0.12), (0.8, 0.2), (0.66, 0.58)], coat)
    draw.shape([(0.66, 0.1), (0.78, 0.08), (0.98, 0.3), (0.94, 0.37), (0.86, 0.36), (0.72, 0.26)], coat)
    draw.shape([(0.68, 0.08), (0.6, 0.12), (0.42, 0.42), (0.5, 0.44), (0.66, 0.2)], mane)
    draw.ellipse(0.77, 0.17, 0.022, 0.022, BLACK)


def person(draw: Canvas, random: np.random.Generator) -> None:
    skin = pick(random, (225, 175, 140), (150, 100, 70), (95, 60, 40))
    hair = pick(random, BLACK, BROWN, (215, 180, 100))
    shirt = pick(random, RED, BLUE, GREEN, YELLOW, PURPLE)
    trousers = pick(random, (45, 55, 90), BLACK, (150, 130, 100))
    swing = random.uniform(-0.04, 0.06)
    for side in (-1, 1):
        hip, foot = 0.5 + side * 0.07, 0.5 + side * 0.1
        draw.shape([(hip - 0.065, 0.56), (hip + 0.065, 0.56), (foot + 0.05, 0.93), (foot - 0.05, 0.93)], trousers)
        elbow = 0.5 + side * (0.24 + swing)
        draw.line([(0.5 + side * 0.14, 0.3), (elbow, 0.44), (0.5 + side * 0.22, 0.58)], 0.065, skin)
    draw.box(0.35, 0.26, 0.65, 0.6, shirt, corner=0.05)
    draw.ellipse(0.5, 0.13, 0.095, 0.115, skin)
    draw.shape(arc(0.5, 0.1, 0.105, 0.1, 0, 180, 360), hair)


def sheep(draw: Canvas, random: np.random.Generator) -> None:
    wool, face = pick(random, (240, 236, 225), (225, 215, 195)), pick(random, (50, 46, 46), (80, 66, 58))
    _legs(draw, (0.24, 0.33, 0.56, 0.65), 0.6, 0.9, 0.05, face)
    draw.ellipse(0.44, 0.5, 0.32, 0.2, wool)
    for angle in range(0, 360, 24):
        x, y = arc(0.44, 0.5, 0.31, 0.19, 0, angle, angle + 1)[0]
        draw.ellipse(x, y, 0.075, 0.075, shade(wool, 0.95))
    draw.ellipse(0.83, 0.42, 0.1, 0.14, face, turn=-25)
    draw.ellipse(0.82, 0.39, 0.024, 0.024, BLACK)


def _wheel(draw: Canvas, x: float, y: float, radius: float) -> None:
    draw.ellipse(x, y, radius, radius, BLACK)
    draw.ellipse(x, y, radius * 0.55, radius * 0.55, (190, 190, 195))


def aeroplane(draw: Canvas, random: np.random.Generator) -> None:
    body, band = pick(random, WHITE, (215, 220, 228)), pick(random, RED, BLUE, ORANGE, GREEN)
    draw.shape([(0.45, 0.47), (0.62, 0.47), (0.42, 0.22), (0.34, 0.22)], shade(body, 0.75))
    draw.shape([(0.03, 0.28), (0.12, 0.28), (0.22, 0.46), (0.06, 0.48)], band)
    draw.shape([(0.05, 0.46), (0.2, 0.42), (0.8, 0.42), (0.93, 0.46), (0.98, 0.52), (0.9, 0.57), (0.25, 0.58)], body)
    draw.shape([(0.42, 0.54), (0.64, 0.54), (0.36, 0.82), (0.27, 0.82)], shade(body, 0.88))


def bicycle(draw: Canvas, random: np.random.Generator) -> None:
    frame = pick(random, RED, BLUE, GREEN, YELLOW, PURPLE)
    for x in (0.2, 0.8):
        draw.line(arc(x, 0.65, 0.19, 0.19), 0.03, BLACK, closed=True)
    rear, crank, seat, fork, front = (0.2, 0.65), (0.46, 0.66), (0.38, 0.36), (0.7, 0.36), (0.8, 0.65)
    draw.line([rear, crank, fork, seat, rear], 0.026, frame)
    draw.line([seat, crank], 0.026, frame)
    draw.line([(0.67, 0.26), front], 0.026, shade(frame, 0.8))
    draw.shape([(0.28, 0.25), (0.46, 0.26), (0.44, 0.29), (0.32, 0.3)], BLACK)
    draw.line([(0.77, 0.22), (0.66, 0.25), (0.72, 0.3)], 0.024, BLACK)


def boat(draw: Canvas, random: np.random.Generator) -> None:
    hull, sail = pick(random, RED, BLUE, BROWN, WHITE), pick(random, WHITE, (245, 225, 190), (240, 150, 130))
    draw.line([(0.48, 0.05), (0.48, 0.72)], 0.022, BROWN)
    draw.shape([(0.51, 0.08), (0.51, 0.62), (0.9, 0.62), (0.72, 0.36)], sail)
    draw.shape([(0.45, 0.14), (0.45, 0.62), (0.12, 0.62)], shade(sail, 0.88))
    draw.shape([(0.03, 0.68), (0.97, 0.66), (0.82, 0.9), (0.18, 0.9)], hull)


def bus(draw: Canvas, random: np.random.Generator) -> None:
    paint = pick(random, RED, YELLOW, (40, 130, 90), ORANGE)
    draw.box(0.02, 0.2, 0.98, 0.78, paint, corner=0.05)
    for x in np.arange(0.06, 0.7, 0.13):
        draw.box(x, 0.28, x + 0.105, 0.5, GLASS)
    draw.shape([(0.86, 0.28), (0.96, 0.28), (0.975, 0.52), (0.86, 0.52)], GLASS)
    for x in (0.2, 0.62):
        _wheel(draw, x, 0.78, 0.085)


def car(draw: Canvas, random: np.random.Generator) -> None:
    paint = pick(random, RED, BLUE, (190, 195, 205), (60, 65, 75), GREEN)
    draw.shape([(0.2, 0.48), (0.32, 0.3), (0.62, 0.3), (0.77, 0.48)], paint)
    draw.shape([(0.25, 0.48), (0.345, 0.335), (0.605, 0.335), (0.71, 0.48)], GLASS)
    draw.shape([(0.02, 0.52), (0.08, 0.47), (0.74, 0.47), (0.95, 0.53), (0.99, 0.66), (0.97, 0.71), (0.02, 0.71)],
               paint)
    for x in (0.22, 0.77):
        _wheel(draw, x, 0.71, 0.1)


def motorbike(draw: Canvas, random: np.random.Generator) -> None:
    paint = pick(random, RED, BLUE, ORANGE, (40, 45, 50))
    draw.line([(0.66, 0.26), (0.82, 0.68)], 0.035, (185, 190, 195))
    for x in (0.19, 0.82):
        _wheel(draw, x, 0.7, 0.175)
    draw.shape([(0.33, 0.5), (0.66, 0.5), (0.62, 0.76), (0.38, 0.76)], (80, 82, 88))
    draw.line([(0.5, 0.74), (0.3, 0.78), (0.04, 0.72)], 0.045, (200, 203, 208))
    draw.shape([(0.4, 0.46), (0.46, 0.32), (0.64, 0.32), (0.7, 0.44), (0.6, 0.52)], paint)
    draw.shape([(0.06, 0.36), (0.14, 0.34), (0.44, 0.4), (0.44, 0.48), (0.18, 0.46)], BLACK)
    draw.shape([(0.02, 0.5), (0.1, 0.42), (0.3, 0.48), (0.34, 0.56), (0.19, 0.5)], paint)


def train(draw: Canvas, random: np.random.Generator) -> None:
    paint = pick(random, (35, 90, 60), (150, 35, 35), (40, 60, 110), BLACK)
    draw.box(0.0, 0.87, 1.0, 0.9, GREY)
    draw.box(0.36, 0.38, 0.92, 0.66, paint, corner=0.06)
    draw.box(0.76, 0.18, 0.85, 0.4, BLACK)
    draw.box(0.06, 0.2, 0.4, 0.7, paint)
    draw.box(0.02, 0.14, 0.44, 0.22, shade(paint, 0.65))
    draw.box(0.12, 0.28, 0.34, 0.46, GLASS)
    for x, radius in ((0.16, 0.12), (0.42, 0.12), (0.64, 0.09), (0.84, 0.09)):
        _wheel(draw, x, 0.87 - radius, radius)


def bottle(draw: Canvas, random: np.random.Generator) -> None:
    glass, label = pick(random, (40, 105, 60), (105, 60, 25), (60, 120, 70)), pick(random, WHITE, (245, 230, 180))
    draw.box(0.43, 0.02, 0.57, 0.1, pick(random, RED, YELLOW, WOOD))
    draw.shape([(0.44, 0.09), (0.56, 0.09), (0.57, 0.28), (0.67, 0.4), (0.68, 0.95), (0.65, 0.98), (0.35, 0.98),
                (0.32, 0.95), (0.33, 0.4), (0.43, 0.28)], glass)
    draw.box(0.325, 0.52, 0.677, 0.82, label)


def chair(draw: Canvas, random: np.random.Generator) -> None:
    wood, seat = pick(random, WOOD, BROWN, (215, 175, 120)), pick(random, RED, BLUE, GREEN, (220, 200, 160))
    for x in (0.2, 0.62):
        draw.box(x, 0.05, x + 0.06, 0.98, wood)
    for y in (0.1, 0.24, 0.38):
        draw.box(0.24, y, 0.64, y + 0.07, shade(wood, 1.1))
    draw.shape([(0.18, 0.64), (0.68, 0.64), (0.84, 0.56), (0.36, 0.56)], seat)
    draw.box(0.18, 0.64, 0.68, 0.69, wood)


def diningtable(draw: Canvas, random: np.random.Generator) -> None:
    wood, cloth = pick(random, BROWN, WOOD), pick(random, RED, BLUE, GREEN)
    for x in (0.04, 0.89):
        draw.box(x, 0.5, x + 0.07, 0.98, wood)
    draw.shape([(0.18, 0.32), (0.82, 0.32), (0.99, 0.5), (0.01, 0.5)], WHITE)
    for t in np.linspace(0.08, 0.92, 8):
        draw.line([(0.18 + 0.64 * t, 0.325), (0.01 + 0.98 * t, 0.5)], 0.022, cloth)
    draw.box(0.01, 0.5, 0.99, 0.58, WHITE)


def pottedplant(draw: Canvas, random: np.random.Generator) -> None:
    pot, leaf = pick(random, (190, 95, 60), (205, 120, 80)), pick(random, (55, 140, 60), (90, 160, 50), (35, 110, 70))
    for turn in (-155, -25, -130, -50, -105, -75, -90):
        length = random.uniform(0.3, 0.4)
        x, y = 0.5 + length * np.cos(np.radians(turn)) * 0.62, 0.6 + length * np.sin(np.radians(turn)) * 0.75
        draw.ellipse(x, y, length * 0.62, 0.075, shade(leaf, random.uniform(0.75, 1.2)), turn=turn)
    draw.shape([(0.27, 0.66), (0.73, 0.66), (0.65, 0.98), (0.35, 0.98)], pot)


def sofa(draw: Canvas, random: np.random.Generator) -> None:
    cover = pick(random, (120, 60, 70), (70, 95, 130), (110, 130, 90), (160, 120, 85), PURPLE)
    draw.box(0.08, 0.28, 0.92, 0.66, cover, corner=0.07)
    for left, right in ((0.14, 0.5), (0.5, 0.86)):
        draw.box(left, 0.55, right, 0.69, shade(cover, 1.2), corner=0.04)
    draw.box(0.1, 0.68, 0.9, 0.79, shade(cover, 0.85))
    for left in (0.01, 0.85):
        draw.box(left, 0.44, left + 0.14, 0.8, shade(cover, 1.05), corner=0.06)


def tvmonitor(draw: Canvas, random: np.random.Generator) -> None:
    case = pick(random, BLACK, (55, 55, 60), (190, 190, 195))
    draw.shape([(0.42, 0.7), (0.58, 0.7), (0.75, 0.91), (0.25, 0.91)], shade(case, 0.8))
    draw.box(0.03, 0.1, 0.97, 0.74, case, corner=0.03)
    draw.box(0.08, 0.15, 0.92, 0.66, pick(random, (90, 160, 230), (70, 120, 210)))


DRAWINGS: dict[str, Callable[[Canvas, np.random.Generator], None]] = {drawing.__name__: drawing for drawing in (
    aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse, motorbike, person,
    pottedplant, sheep, sofa, train, tvmonitor)}
"""By the name of the class, in VOC's order."""
