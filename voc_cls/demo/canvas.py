"""A transparent layer to draw one object on, in the object's own coordinates, and shades of colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
Colour = tuple[int, int, int]
"""Red, green, blue, 0-255."""

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

    def shape(self, points: Sequence[Point], colour: Colour, outline: bool = True) -> None:
        """A filled polygon, with a thin darker edge."""
        import cv2

        cv2.fillPoly(self.layer, [self._pixels(points)], (*colour, 255), cv2.LINE_AA, FRACTION_BITS)
        if outline:
            self.line(points, OUTLINE_WIDTH, shade(colour, OUTLINE_DARKNESS), closed=True)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, turn: float = 0.0, start: float = 0.0,
                end: float = 360.0, outline: bool = True) -> None:
        """A filled ellipse around (x, y), turned clockwise by `turn` degrees; or its segment from `start` to `end`."""
        self.shape(arc(x, y, rx, ry, turn, start, end), colour, outline)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour, corner: float = 0.0,
            outline: bool = True) -> None:
        """A filled rectangle with corners rounded by a radius of `corner`."""
        near, far, high, low = left + corner, right - corner, top + corner, bottom - corner
        centres = ((far, low), (near, low), (near, high), (far, high))
        self.shape([point for turn, (x, y) in enumerate(centres)
                    for point in arc(x, y, corner, corner, 0, 90 * turn, 90 * turn + 90)], colour, outline)

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
