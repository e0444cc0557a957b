"""The drawing of each VOC class in a unit square: simple, recognisable, in random colours; animals face right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
"""x to the right and y down, 0 to 1."""
Colour = tuple[int, int, int]
"""Red, green, blue, 0-255."""

WHITE, BLACK, GLASS = (245, 245, 245), (28, 28, 30), (150, 200, 225)
RED, BLUE, GREEN, YELLOW = (200, 40, 40), (45, 85, 190), (50, 140, 65), (240, 200, 50)
ORANGE, PURPLE, BROWN, WOOD = (235, 130, 45), (130, 65, 160), (110, 70, 40), (175, 120, 70)
FRACTION_BITS = 4
"""OpenCV takes points in 1/16 of a pixel."""
OUTLINE_WIDTH = 0.012
OUTLINE_DARKNESS = 0.55


@dataclass(frozen=True)
class Shape:
    """A polygon with a thin darker edge, or strokes through its points."""

    points: Sequence[Point]
    colour: Colour | int
    """A number: of the random colours of the drawing."""
    shade: float = 1.0
    """Factor of the colour: below 1 darker, above lighter."""
    width: float = 0.0
    """Of the strokes; 0: a polygon."""


def shade(colour: Colour, factor: float) -> Colour:
    """`colour` darker (factor below 1) or lighter."""
    red, green, blue = (min(255, round(channel * factor)) for channel in colour)
    return red, green, blue


def pick(random: np.random.Generator, colours: Sequence[Colour]) -> Colour:
    """One of `colours`, a little lighter or darker."""
    return shade(colours[int(random.integers(len(colours)))], random.uniform(0.85, 1.12))


def draw(name: str, layer: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64], random: np.random.Generator) -> None:
    """Draws an object of a class, in random colours.

    layer: uint8 [height, width, 4], RGB premultiplied by alpha, drawn into with smooth edges. matrix: float64 [2, 3],
    from the unit square to pixels; rotates, mirrors, shears and scales the object.
    """
    import cv2

    palettes, shapes = DRAWINGS[name]
    paints, scale = [pick(random, palette) for palette in palettes], float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    for shape in shapes:
        colour = shade(paints[shape.colour] if isinstance(shape.colour, int) else shape.colour, shape.shade)
        at = np.asarray(shape.points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
        pixels = np.round(at * 2**FRACTION_BITS).astype(np.int32)[:, None]
        if not shape.width:
            cv2.fillPoly(layer, [pixels], (*colour, 255), cv2.LINE_AA, FRACTION_BITS)
            colour = shade(colour, OUTLINE_DARKNESS)
        thickness = max(1, round((shape.width or OUTLINE_WIDTH) * scale))
        cv2.polylines(layer, [pixels], not shape.width, (*colour, 255), thickness, cv2.LINE_AA, FRACTION_BITS)


def polygon(colour: Colour | int, *points: Point, shade: float = 1.0) -> Shape:
    return Shape(points, colour, shade)


def line(colour: Colour | int, width: float, *points: Point, shade: float = 1.0) -> Shape:
    return Shape(points, colour, shade, width)


def ellipse(colour: Colour | int, x: float, y: float, rx: float, ry: float, turn: float = 0.0, shade: float = 1.0
            ) -> Shape:
    """Around (x, y), turned clockwise by `turn` degrees."""
    return Shape(arc(x, y, rx, ry, turn), colour, shade)


def box(colour: Colour | int, left: float, top: float, right: float, bottom: float, corner: float = 0.0,
        shade: float = 1.0) -> Shape:
    """A rectangle with corners rounded by a radius of `corner`."""
    near, far, high, low = left + corner, right - corner, top + corner, bottom - corner
    centres = ((far, low), (near, low), (near, high), (far, high))
    return Shape([point for turn, (x, y) in enumerate(centres)
                  for point in arc(x, y, corner, corner, 0, 90 * turn, 90 * turn + 90)], colour, shade)


def arc(x: float, y: float, rx: float, ry: float, turn: float = 0.0, start: float = 0.0,
        end: float = 360.0) -> list[Point]:
    """Points on an ellipse's edge, clockwise from `start` to `end` degrees, 0 to the right."""
    angles = np.radians(np.linspace(start, end, max(8, int(abs(end - start) / 8))))
    cosine, sine = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    return list(zip((x + along * cosine - across * sine).tolist(), (y + along * sine + across * cosine).tolist(),
                    strict=True))


def legs(colour: Colour | int, xs: Iterable[float], top: float, bottom: float, width: float) -> list[Shape]:
    return [box(colour, x - width / 2, top, x + width / 2, bottom, shade=0.75 if number % 2 else 1.0)
            for number, x in enumerate(xs)]


def wheels(y: float, radius: float, *xs: float) -> list[Shape]:
    return [ellipse(colour, x, y, radius * part, radius * part) for x in xs
            for colour, part in ((BLACK, 1.0), ((190, 190, 195), 0.55))]


DRAWINGS: dict[str, tuple[tuple[tuple[Colour, ...], ...], list[Shape]]] = {
    "aeroplane": (((WHITE, (215, 220, 228)), (RED, BLUE, ORANGE, GREEN)), [
        polygon(0, (0.45, 0.47), (0.62, 0.47), (0.42, 0.22), (0.34, 0.22), shade=0.75),
        polygon(1, (0.03, 0.28), (0.12, 0.28), (0.22, 0.46), (0.06, 0.48)),
        polygon(0, (0.05, 0.46), (0.2, 0.42), (0.8, 0.42), (0.93, 0.46), (0.98, 0.52), (0.9, 0.57), (0.25, 0.58)),
        polygon(0, (0.42, 0.54), (0.64, 0.54), (0.36, 0.82), (0.27, 0.82), shade=0.88)]),
    "bicycle": (((RED, BLUE, GREEN, YELLOW, PURPLE),), [
        *(line(BLACK, 0.03, *arc(x, 0.65, 0.19, 0.19)) for x in (0.2, 0.8)),
        line(0, 0.026, (0.34, 0.25), (0.46, 0.66), (0.2, 0.65), (0.38, 0.36), (0.7, 0.36), (0.46, 0.66)),
        line(0, 0.026, (0.67, 0.26), (0.8, 0.65), shade=0.8),
        line(BLACK, 0.024, (0.77, 0.22), (0.66, 0.25), (0.72, 0.3))]),
    "bird": (((RED, BLUE, YELLOW, (60, 170, 190)),), [
        *(line(ORANGE, 0.018, (x, 0.7), (x, 0.9), (x + 0.08, 0.9)) for x in (0.45, 0.56)),
        polygon(0, (0.02, 0.62), (0.1, 0.72), (0.38, 0.64), (0.34, 0.5), shade=0.7),
        ellipse(0, 0.5, 0.56, 0.26, 0.18, turn=-20),
        ellipse(0, 0.72, 0.32, 0.14, 0.14),
        polygon(ORANGE, (0.84, 0.28), (0.99, 0.34), (0.84, 0.39)),
        polygon(0, (0.6, 0.45), (0.22, 0.58), (0.4, 0.66), shade=0.7)]),
    "boat": (((RED, BLUE, BROWN, WHITE), (WHITE, (245, 225, 190), (240, 150, 130))), [
        polygon(1, (0.51, 0.08), (0.51, 0.62), (0.9, 0.62), (0.72, 0.36)),
        polygon(1, (0.45, 0.14), (0.45, 0.62), (0.12, 0.62), shade=0.88),
        polygon(0, (0.03, 0.68), (0.97, 0.66), (0.82, 0.9), (0.18, 0.9))]),
    "bottle": ((((40, 105, 60), (105, 60, 25), (60, 120, 70)), (WHITE, (245, 230, 180)), (RED, YELLOW, WOOD)), [
        box(2, 0.43, 0.02, 0.57, 0.1),
        polygon(0, (0.44, 0.09), (0.56, 0.09), (0.67, 0.4), (0.68, 0.98), (0.32, 0.98), (0.33, 0.4)),
        box(1, 0.325, 0.52, 0.677, 0.82)]),
    "bus": (((RED, YELLOW, (40, 130, 90), ORANGE),), [
        box(0, 0.02, 0.2, 0.98, 0.78, corner=0.05),
        *(box(GLASS, x, 0.28, x + 0.105, 0.5) for x in (0.06, 0.19, 0.32, 0.45, 0.58, 0.86)),
        *wheels(0.78, 0.085, 0.2, 0.62)]),
    "car": (((RED, BLUE, (190, 195, 205), (60, 65, 75), GREEN),), [
        polygon(0, (0.2, 0.48), (0.32, 0.3), (0.62, 0.3), (0.77, 0.48)),
        polygon(GLASS, (0.25, 0.48), (0.345, 0.335), (0.605, 0.335), (0.71, 0.48)),
        polygon(0, (0.02, 0.52), (0.08, 0.47), (0.74, 0.47), (0.95, 0.53), (0.99, 0.66), (0.97, 0.71), (0.02, 0.71)),
        *wheels(0.71, 0.1, 0.22, 0.77)]),
    "cat": (((ORANGE, (120, 120, 128), (60, 58, 62), (215, 190, 150)),), [
        line(0, 0.06, *arc(0.3, 0.66, 0.22, 0.22, 0, 60, 250)),
        ellipse(0, 0.5, 0.75, 0.24, 0.22),
        *(polygon(0, (0.5 + side * 0.08, 0.22), (0.5 + side * 0.25, 0.02), (0.5 + side * 0.28, 0.34))
          for side in (-1, 1)),
        ellipse(0, 0.5, 0.36, 0.29, 0.23),
        *(ellipse(YELLOW, x, 0.35, 0.055, 0.055) for x in (0.39, 0.61))]),
    "chair": (((WOOD, BROWN, (215, 175, 120)), (RED, BLUE, GREEN, (220, 200, 160))), [
        *(box(0, x, 0.05, x + 0.06, 0.98) for x in (0.2, 0.62)),
        *(box(0, 0.24, y, 0.64, y + 0.07, shade=1.1) for y in (0.1, 0.24, 0.38)),
        polygon(1, (0.18, 0.69), (0.68, 0.69), (0.84, 0.56), (0.36, 0.56))]),
    "cow": (((WHITE, (240, 232, 220)), (BLACK, (120, 60, 35))), [
        *legs(0, (0.16, 0.27, 0.56, 0.66), 0.55, 0.92, 0.07),
        box(0, 0.06, 0.3, 0.74, 0.64, corner=0.12),
        *(ellipse(1, *patch) for patch in ((0.2, 0.4, 0.09, 0.08), (0.42, 0.5, 0.1, 0.09), (0.58, 0.38, 0.07, 0.06))),
        polygon(0, (0.66, 0.32), (0.8, 0.2), (0.86, 0.42), (0.72, 0.56)),
        ellipse(1, 0.83, 0.28, 0.11, 0.13, turn=-15),
        ellipse((235, 170, 180), 0.89, 0.42, 0.1, 0.075)]),
    "diningtable": (((BROWN, WOOD), (RED, BLUE, GREEN)), [
        *(box(0, x, 0.5, x + 0.07, 0.98) for x in (0.04, 0.89)),
        polygon(WHITE, (0.18, 0.32), (0.82, 0.32), (0.99, 0.5), (0.01, 0.5)),
        *(line(1, 0.022, (0.18 + 0.08 * stripe, 0.325), (0.01 + 0.1225 * stripe, 0.5)) for stripe in range(1, 8)),
        box(WHITE, 0.01, 0.5, 0.99, 0.58)]),
    "dog": ((((190, 135, 75), (110, 70, 40), (225, 205, 170)),), [
        *legs(0, (0.17, 0.27, 0.55, 0.65), 0.6, 0.95, 0.085),
        ellipse(0, 0.4, 0.58, 0.31, 0.15),
        polygon(0, (0.52, 0.48), (0.66, 0.28), (0.8, 0.4), (0.7, 0.64)),
        ellipse(0, 0.72, 0.3, 0.15, 0.14),
        box(0, 0.76, 0.3, 0.99, 0.43, corner=0.055, shade=1.15),
        ellipse(0, 0.62, 0.33, 0.065, 0.16, turn=12, shade=0.55)]),
    "horse": ((((125, 70, 35), (85, 50, 30), (165, 110, 60)),), [
        polygon(0, (0.1, 0.42), (0.0, 0.55), (0.03, 0.8), (0.1, 0.6), (0.14, 0.48), shade=0.4),
        *legs(0, (0.16, 0.25, 0.54, 0.62), 0.55, 0.98, 0.055),
        ellipse(0, 0.38, 0.5, 0.29, 0.14),
        polygon(0, (0.5, 0.45), (0.68, 0.12), (0.8, 0.2), (0.66, 0.58)),
        polygon(0, (0.66, 0.1), (0.78, 0.08), (0.98, 0.3), (0.94, 0.37), (0.86, 0.36), (0.72, 0.26)),
        polygon(0, (0.68, 0.08), (0.6, 0.12), (0.42, 0.42), (0.5, 0.44), (0.66, 0.2), shade=0.4)]),
    "motorbike": (((RED, BLUE, ORANGE, (40, 45, 50)),), [
        line((185, 190, 195), 0.035, (0.66, 0.26), (0.82, 0.68)),
        *wheels(0.7, 0.175, 0.19, 0.82),
        polygon((80, 82, 88), (0.33, 0.5), (0.66, 0.5), (0.62, 0.76), (0.38, 0.76)),
        polygon(0, (0.4, 0.46), (0.46, 0.32), (0.64, 0.32), (0.7, 0.44), (0.6, 0.52)),
        polygon(BLACK, (0.06, 0.36), (0.14, 0.34), (0.44, 0.4), (0.44, 0.48), (0.18, 0.46)),
        polygon(0, (0.02, 0.5), (0.1, 0.42), (0.3, 0.48), (0.34, 0.56), (0.19, 0.5))]),
    "person": ((((225, 175, 140), (150, 100, 70), (95, 60, 40)), (BLACK, BROWN, (215, 180, 100)),
                (RED, BLUE, GREEN, YELLOW, PURPLE), ((45, 55, 90), BLACK, (150, 130, 100))), [
        *(polygon(3, (hip - 0.065, 0.56), (hip + 0.065, 0.56), (foot + 0.05, 0.93), (foot - 0.05, 0.93))
          for hip, foot in ((0.43, 0.4), (0.57, 0.6))),
        *(line(0, 0.065, (0.5 + side * 0.14, 0.3), (0.5 + side * 0.25, 0.44), (0.5 + side * 0.22, 0.58))
          for side in (-1, 1)),
        box(2, 0.35, 0.26, 0.65, 0.6, corner=0.05),
        ellipse(0, 0.5, 0.13, 0.095, 0.115),
        polygon(1, *arc(0.5, 0.1, 0.105, 0.1, 0, 180, 360))]),
    "pottedplant": ((((190, 95, 60), (205, 120, 80)), ((55, 140, 60), (90, 160, 50), (35, 110, 70))), [
        *(ellipse(1, 0.5 + 0.22 * np.cos(np.radians(turn)), 0.6 + 0.26 * np.sin(np.radians(turn)), 0.22, 0.075, turn,
                  1 + turn % 4 / 10) for turn in (-155, -25, -130, -50, -105, -75, -90)),
        polygon(0, (0.27, 0.66), (0.73, 0.66), (0.65, 0.98), (0.35, 0.98))]),
    "sheep": ((((240, 236, 225), (225, 215, 195)), ((50, 46, 46), (80, 66, 58))), [
        *legs(1, (0.24, 0.33, 0.56, 0.65), 0.6, 0.9, 0.05),
        ellipse(0, 0.44, 0.5, 0.32, 0.2),
        ellipse(1, 0.83, 0.42, 0.1, 0.14, turn=-25)]),
    "sofa": (((PURPLE, (120, 60, 70), (70, 95, 130), (110, 130, 90), (160, 120, 85)),), [
        box(0, 0.08, 0.28, 0.92, 0.66, corner=0.07),
        *(box(0, left, 0.55, left + 0.36, 0.69, corner=0.04, shade=1.2) for left in (0.14, 0.5)),
        box(0, 0.1, 0.68, 0.9, 0.79, shade=0.85),
        *(box(0, left, 0.44, left + 0.14, 0.8, corner=0.06, shade=1.05) for left in (0.01, 0.85))]),
    "train": ((((35, 90, 60), (150, 35, 35), (40, 60, 110), BLACK),), [
        box(0, 0.36, 0.38, 0.92, 0.66, corner=0.06),
        box(BLACK, 0.76, 0.18, 0.85, 0.4),
        box(0, 0.06, 0.2, 0.4, 0.7),
        box(0, 0.02, 0.14, 0.44, 0.22, shade=0.65),
        box(GLASS, 0.12, 0.28, 0.34, 0.46),
        *wheels(0.75, 0.12, 0.16, 0.42),
        *wheels(0.78, 0.09, 0.64, 0.84)]),
    "tvmonitor": (((BLACK, (55, 55, 60), (190, 190, 195)), ((90, 160, 230), (70, 120, 210))), [
        polygon(0, (0.42, 0.7), (0.58, 0.7), (0.75, 0.91), (0.25, 0.91), shade=0.8),
        box(0, 0.03, 0.1, 0.97, 0.74, corner=0.03),
        box(1, 0.08, 0.15, 0.92, 0.66)]),
}
"""Class, in VOC's order → the palettes of its random colours, and its shapes from back to front."""
