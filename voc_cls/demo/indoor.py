"""VOC's indoor objects, drawn in a unit square."""

from __future__ import annotations

import numpy as np

from voc_cls.demo.canvas import Canvas, arc
from voc_cls.demo.palette import (
    BLACK,
    BLUE,
    BROWN,
    GLASS,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    PURPLE,
    RED,
    WHITE,
    WOOD,
    YELLOW,
    pick,
    shade,
)


def bottle(draw: Canvas, random: np.random.Generator) -> None:
    glass, label = pick(random, (40, 105, 60), (105, 60, 25), (60, 120, 70)), pick(random, WHITE, (245, 230, 180))
    draw.box(0.43, 0.02, 0.57, 0.1, pick(random, RED, YELLOW, WOOD))
    draw.shape([(0.44, 0.09), (0.56, 0.09), (0.57, 0.28), (0.67, 0.4), (0.68, 0.95), (0.65, 0.98), (0.35, 0.98),
                (0.32, 0.95), (0.33, 0.4), (0.43, 0.28)], glass)
    draw.box(0.325, 0.52, 0.677, 0.82, label)
    draw.box(0.325, 0.57, 0.677, 0.62, pick(random, RED, BLUE), outline=False)
    for y in (0.68, 0.73, 0.77):
        draw.line([(0.4, y), (0.6, y)], 0.012, GREY)
    draw.line([(0.38, 0.43), (0.38, 0.5)], 0.025, shade(glass, 2.2))
    draw.line([(0.47, 0.12), (0.47, 0.27), (0.4, 0.38)], 0.018, shade(glass, 2.0))


def chair(draw: Canvas, random: np.random.Generator) -> None:
    wood, seat = pick(random, WOOD, BROWN, (215, 175, 120)), pick(random, RED, BLUE, GREEN, (220, 200, 160))
    for x in (0.3, 0.78):
        draw.box(x, 0.58, x + 0.045, 0.9, shade(wood, 0.7))
    for x in (0.2, 0.62):
        draw.box(x, 0.05, x + 0.06, 0.62, wood)
    for y in (0.1, 0.24, 0.38):
        draw.box(0.24, y, 0.64, y + 0.07, shade(wood, 1.1))
    draw.shape([(0.18, 0.64), (0.68, 0.64), (0.84, 0.56), (0.36, 0.56)], seat)
    draw.box(0.18, 0.64, 0.68, 0.69, wood)
    draw.shape([(0.68, 0.64), (0.84, 0.56), (0.84, 0.61), (0.68, 0.69)], shade(wood, 0.7))
    for x in (0.2, 0.62):
        draw.box(x, 0.69, x + 0.06, 0.98, wood)
    draw.box(0.26, 0.82, 0.62, 0.85, shade(wood, 0.85))


def diningtable(draw: Canvas, random: np.random.Generator) -> None:
    wood, cloth = pick(random, BROWN, WOOD), pick(random, RED, BLUE, GREEN)
    for x in (0.14, 0.82):
        draw.box(x, 0.45, x + 0.05, 0.88, shade(wood, 0.7))
    for x in (0.04, 0.89):
        draw.box(x, 0.5, x + 0.07, 0.98, wood)
    draw.shape([(0.18, 0.32), (0.82, 0.32), (0.99, 0.5), (0.01, 0.5)], WHITE)
    for t in np.linspace(0.08, 0.92, 8):
        draw.line([(0.18 + 0.64 * t, 0.325), (0.01 + 0.98 * t, 0.5)], 0.022, cloth)
    for y in (0.36, 0.42):
        draw.line([(0.18 - (y - 0.32) * 0.94, y), (0.82 + (y - 0.32) * 0.94, y)], 0.02, cloth)
    draw.box(0.01, 0.5, 0.99, 0.58, WHITE)
    for x in np.arange(0.03, 0.96, 0.075):
        draw.box(x, 0.505, x + 0.037, 0.575, cloth, outline=False)
    for x in (0.3, 0.7):
        draw.ellipse(x, 0.41, 0.11, 0.04, WHITE)
        draw.ellipse(x, 0.405, 0.06, 0.02, pick(random, ORANGE, GREEN, YELLOW))
    draw.shape([(0.46, 0.2), (0.54, 0.2), (0.52, 0.4), (0.48, 0.4)], GLASS)


def pottedplant(draw: Canvas, random: np.random.Generator) -> None:
    pot, leaf = pick(random, (190, 95, 60), (205, 120, 80)), pick(random, (55, 140, 60), (90, 160, 50), (35, 110, 70))
    flower = pick(random, RED, PINK, YELLOW, PURPLE)
    for turn in (-155, -25, -130, -50, -105, -75, -90):
        length = random.uniform(0.3, 0.4)
        x, y = 0.5 + length * np.cos(np.radians(turn)) * 0.62, 0.6 + length * np.sin(np.radians(turn)) * 0.75
        draw.ellipse(x, y, length * 0.62, 0.075, shade(leaf, random.uniform(0.75, 1.2)), turn=turn)
        draw.line([(0.5, 0.62), (2 * x - 0.5, 2 * y - 0.62)], 0.008, shade(leaf, 0.55))
    for x, y in ((0.3, 0.25), (0.5, 0.12), (0.7, 0.25)):
        for petal in range(0, 360, 72):
            draw.ellipse(*arc(x, y, 0.045, 0.045, 0, petal, petal + 1)[0], 0.035, 0.035, flower)
        draw.ellipse(x, y, 0.026, 0.026, YELLOW)
    draw.shape([(0.27, 0.66), (0.73, 0.66), (0.65, 0.98), (0.35, 0.98)], pot)
    draw.box(0.24, 0.6, 0.76, 0.7, shade(pot, 1.15))


def sofa(draw: Canvas, random: np.random.Generator) -> None:
    cover = pick(random, (120, 60, 70), (70, 95, 130), (110, 130, 90), (160, 120, 85), PURPLE)
    for x in (0.1, 0.84):
        draw.box(x, 0.78, x + 0.06, 0.87, BROWN)
    draw.box(0.08, 0.28, 0.92, 0.66, cover, corner=0.07)
    draw.line([(0.5, 0.31), (0.5, 0.58)], 0.012, shade(cover, 0.55))
    for x in (0.2, 0.36, 0.64, 0.8):
        draw.ellipse(x, 0.42, 0.014, 0.014, shade(cover, 0.5), outline=False)
    for left, right in ((0.14, 0.5), (0.5, 0.86)):
        draw.box(left, 0.55, right, 0.69, shade(cover, 1.2), corner=0.04)
    draw.box(0.1, 0.68, 0.9, 0.79, shade(cover, 0.85))
    for left in (0.01, 0.85):
        draw.box(left, 0.44, left + 0.14, 0.8, shade(cover, 1.05), corner=0.06)
    draw.shape([(0.2, 0.4), (0.36, 0.44), (0.33, 0.59), (0.17, 0.56)], pick(random, YELLOW, WHITE, ORANGE))


def tvmonitor(draw: Canvas, random: np.random.Generator) -> None:
    case, sky = pick(random, BLACK, (55, 55, 60), (190, 190, 195)), pick(random, (90, 160, 230), (70, 120, 210))
    draw.shape([(0.42, 0.7), (0.58, 0.7), (0.62, 0.86), (0.38, 0.86)], shade(case, 0.8))
    draw.box(0.25, 0.84, 0.75, 0.91, case, corner=0.025)
    draw.box(0.03, 0.1, 0.97, 0.74, case, corner=0.03)
    draw.box(0.08, 0.15, 0.92, 0.66, sky)
    draw.shape([(0.08, 0.66), (0.08, 0.52), (0.3, 0.36), (0.48, 0.52), (0.64, 0.42), (0.92, 0.6), (0.92, 0.66)],
               pick(random, GREEN, PURPLE, ORANGE))
    draw.ellipse(0.76, 0.27, 0.06, 0.06, YELLOW)
    draw.shape([(0.1, 0.17), (0.3, 0.17), (0.1, 0.42)], shade(sky, 1.35), outline=False)
    draw.ellipse(0.9, 0.7, 0.014, 0.014, (90, 230, 110))
