"""Colours of the demo's objects."""

from __future__ import annotations

import numpy as np

Colour = tuple[int, int, int]
"""Red, green, blue, 0-255."""

WHITE, BLACK, GREY, GLASS = (245, 245, 245), (28, 28, 30), (130, 132, 138), (150, 200, 225)
RED, BLUE, GREEN, YELLOW = (200, 40, 40), (45, 85, 190), (50, 140, 65), (240, 200, 50)
ORANGE, PURPLE, BROWN, WOOD = (235, 130, 45), (130, 65, 160), (110, 70, 40), (175, 120, 70)
PINK, LAMP = (235, 170, 180), (255, 245, 190)


def shade(colour: Colour, factor: float) -> Colour:
    """`colour` darker (factor below 1) or lighter."""
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return red, green, blue


def pick(random: np.random.Generator, *colours: Colour) -> Colour:
    """One of `colours`, a little lighter or darker."""
    return shade(colours[random.integers(len(colours))], random.uniform(0.85, 1.12))
