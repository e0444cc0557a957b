"""VOC's person and animals, drawn facing right in a unit square."""

from __future__ import annotations

import numpy as np

from voc_cls.demo.canvas import Canvas, arc
from voc_cls.demo.palette import (
    BLACK,
    BLUE,
    BROWN,
    GREEN,
    ORANGE,
    PINK,
    PURPLE,
    RED,
    WHITE,
    YELLOW,
    Colour,
    pick,
    shade,
)


def _eye(draw: Canvas, x: float, y: float, radius: float = 0.018) -> None:
    draw.ellipse(x, y, radius, radius, WHITE)
    draw.ellipse(x + radius * 0.25, y, radius * 0.6, radius * 0.6, BLACK, outline=False)


def _legs(draw: Canvas, xs: tuple[float, ...], top: float, bottom: float, width: float, colour: Colour,
          hoof: Colour) -> None:
    for number, x in enumerate(xs):
        tone = shade(colour, 0.75 if number % 2 else 1.0)
        draw.box(x - width / 2, top, x + width / 2, bottom, tone)
        draw.box(x - width / 2, bottom - 0.04, x + width * 0.7, bottom, hoof)


def bird(draw: Canvas, random: np.random.Generator) -> None:
    plumage = pick(random, RED, BLUE, YELLOW, (60, 170, 190))
    draw.line([(0.46, 0.7), (0.44, 0.9), (0.52, 0.9)], 0.018, ORANGE)
    draw.line([(0.56, 0.7), (0.56, 0.9), (0.64, 0.9)], 0.018, ORANGE)
    draw.shape([(0.02, 0.62), (0.1, 0.72), (0.38, 0.64), (0.34, 0.5)], shade(plumage, 0.7))
    draw.ellipse(0.5, 0.56, 0.26, 0.18, plumage, turn=-20)
    draw.ellipse(0.6, 0.62, 0.15, 0.12, shade(WHITE, 0.97), turn=-30, outline=False)
    draw.ellipse(0.72, 0.32, 0.14, 0.14, plumage)
    draw.shape([(0.84, 0.28), (0.99, 0.34), (0.84, 0.39)], ORANGE)
    draw.shape([(0.62, 0.2), (0.58, 0.06), (0.68, 0.14), (0.7, 0.05), (0.75, 0.19)], shade(plumage, 0.75))
    _eye(draw, 0.77, 0.29, 0.03)
    for step in range(3):
        draw.shape([(0.6 - 0.05 * step, 0.45 + 0.03 * step), (0.26 - 0.03 * step, 0.46 + 0.07 * step),
                    (0.44 - 0.04 * step, 0.62 + 0.02 * step)], shade(plumage, 0.8 - 0.12 * step))


def cat(draw: Canvas, random: np.random.Generator) -> None:
    fur = pick(random, ORANGE, (120, 120, 128), (60, 58, 62), (215, 190, 150))
    stripe = shade(fur, 0.6)
    draw.line(arc(0.3, 0.66, 0.22, 0.22, 0, 60, 250), 0.06, fur)
    draw.ellipse(0.5, 0.75, 0.24, 0.22, fur)
    for y in (0.64, 0.72, 0.8):
        draw.line([(0.28, y), (0.4, y + 0.02)], 0.025, stripe)
        draw.line([(0.72, y), (0.6, y + 0.02)], 0.025, stripe)
    draw.ellipse(0.5, 0.8, 0.1, 0.15, shade(fur, 1.35), outline=False)
    for x in (0.4, 0.6):
        draw.ellipse(x, 0.95, 0.08, 0.045, shade(fur, 1.2))
    for side in (-1, 1):
        draw.shape([(0.5 + side * 0.08, 0.22), (0.5 + side * 0.25, 0.02), (0.5 + side * 0.28, 0.34)], fur)
        draw.shape([(0.5 + side * 0.14, 0.2), (0.5 + side * 0.225, 0.09), (0.5 + side * 0.24, 0.28)], PINK,
                   outline=False)
    draw.ellipse(0.5, 0.36, 0.29, 0.23, fur)
    for x in (0.43, 0.5, 0.57):
        draw.line([(x, 0.15), (x, 0.23)], 0.025, stripe)
    for x in (0.39, 0.61):
        draw.ellipse(x, 0.35, 0.065, 0.055, (190, 220, 80))
        draw.ellipse(x, 0.35, 0.018, 0.05, BLACK, outline=False)
    draw.ellipse(0.5, 0.47, 0.1, 0.06, WHITE, outline=False)
    draw.shape([(0.46, 0.43), (0.54, 0.43), (0.5, 0.475)], (220, 110, 120))
    for side in (-1, 1):
        for dy in (-0.03, 0.01, 0.05):
            draw.line([(0.5 + side * 0.1, 0.47), (0.5 + side * 0.36, 0.46 + dy)], 0.006, WHITE)


def cow(draw: Canvas, random: np.random.Generator) -> None:
    hide, patch = pick(random, WHITE, (240, 232, 220)), pick(random, BLACK, (120, 60, 35))
    draw.line([(0.06, 0.35), (0.02, 0.6)], 0.022, patch)
    _legs(draw, (0.16, 0.27, 0.56, 0.66), 0.55, 0.92, 0.07, hide, BLACK)
    draw.ellipse(0.33, 0.62, 0.08, 0.06, PINK)
    draw.box(0.06, 0.3, 0.74, 0.64, hide, corner=0.12)
    for x, y, rx, ry in ((0.2, 0.4, 0.09, 0.08), (0.42, 0.5, 0.1, 0.09), (0.58, 0.38, 0.07, 0.06)):
        draw.ellipse(x + random.uniform(-0.03, 0.03), y, rx, ry, patch, turn=random.uniform(0, 90), outline=False)
    draw.shape([(0.66, 0.32), (0.8, 0.2), (0.86, 0.42), (0.72, 0.56)], hide)
    for x in (0.76, 0.88):
        draw.line([(x, 0.2), (x + 0.02 * (1 if x > 0.8 else -1), 0.08)], 0.03, (235, 220, 180))
    draw.ellipse(0.7, 0.22, 0.07, 0.035, patch, turn=20)
    draw.ellipse(0.83, 0.28, 0.11, 0.13, patch, turn=-15)
    draw.ellipse(0.83, 0.25, 0.03, 0.09, hide, turn=-15, outline=False)
    draw.ellipse(0.89, 0.42, 0.1, 0.075, PINK)
    for x in (0.87, 0.93):
        draw.ellipse(x, 0.42, 0.015, 0.02, BLACK, outline=False)
    _eye(draw, 0.78, 0.26, 0.024)
    _eye(draw, 0.89, 0.25, 0.024)


def dog(draw: Canvas, random: np.random.Generator) -> None:
    coat = pick(random, (190, 135, 75), (110, 70, 40), (225, 205, 170))
    dark = shade(coat, 0.55)
    draw.line([(0.12, 0.5), (0.03, 0.3), (0.07, 0.2)], 0.05, coat)
    _legs(draw, (0.17, 0.27, 0.55, 0.65), 0.6, 0.95, 0.085, coat, shade(coat, 1.2))
    draw.ellipse(0.4, 0.58, 0.31, 0.15, coat)
    draw.shape([(0.52, 0.48), (0.66, 0.28), (0.8, 0.4), (0.7, 0.64)], coat)
    draw.line([(0.575, 0.47), (0.72, 0.55)], 0.045, pick(random, RED, BLUE))
    draw.ellipse(0.72, 0.3, 0.15, 0.14, coat)
    draw.box(0.76, 0.3, 0.99, 0.43, shade(coat, 1.15), corner=0.055)
    draw.ellipse(0.965, 0.33, 0.035, 0.03, BLACK)
    draw.line([(0.86, 0.4), (0.97, 0.4)], 0.01, BLACK)
    draw.box(0.88, 0.41, 0.93, 0.5, (225, 90, 105), corner=0.02)
    draw.ellipse(0.62, 0.33, 0.065, 0.16, dark, turn=12)
    _eye(draw, 0.78, 0.25, 0.026)


def horse(draw: Canvas, random: np.random.Generator) -> None:
    coat = pick(random, (125, 70, 35), (85, 50, 30), (165, 110, 60))
    mane = shade(coat, 0.4)
    draw.shape([(0.1, 0.42), (0.0, 0.55), (0.03, 0.8), (0.1, 0.6), (0.14, 0.48)], mane)
    _legs(draw, (0.16, 0.25, 0.54, 0.62), 0.55, 0.98, 0.055, coat, BLACK)
    draw.ellipse(0.38, 0.5, 0.29, 0.14, coat)
    draw.shape([(0.5, 0.45), (0.68, 0.12), (0.8, 0.2), (0.66, 0.58)], coat)
    draw.shape([(0.66, 0.1), (0.78, 0.08), (0.98, 0.3), (0.94, 0.37), (0.86, 0.36), (0.72, 0.26)], coat)
    draw.shape([(0.74, 0.12), (0.8, 0.12), (0.93, 0.28), (0.89, 0.29)], WHITE, outline=False)
    draw.shape([(0.68, 0.11), (0.69, 0.0), (0.75, 0.09)], coat)
    draw.shape([(0.68, 0.08), (0.6, 0.12), (0.42, 0.42), (0.5, 0.44), (0.66, 0.2)], mane)
    draw.ellipse(0.94, 0.32, 0.012, 0.016, BLACK, outline=False)
    _eye(draw, 0.77, 0.17, 0.022)


def person(draw: Canvas, random: np.random.Generator) -> None:
    skin = pick(random, (225, 175, 140), (150, 100, 70), (95, 60, 40))
    hair = pick(random, BLACK, BROWN, (215, 180, 100))
    shirt = pick(random, RED, BLUE, GREEN, YELLOW, PURPLE)
    trousers = pick(random, (45, 55, 90), BLACK, (150, 130, 100))
    swing = random.uniform(-0.04, 0.06)
    for side in (-1, 1):
        hip, foot = 0.5 + side * 0.07, 0.5 + side * 0.1
        draw.shape([(hip - 0.065, 0.56), (hip + 0.065, 0.56), (foot + 0.05, 0.93), (foot - 0.05, 0.93)], trousers)
        draw.box(foot - 0.05, 0.92, foot + 0.08, 0.98, BLACK, corner=0.02)
        elbow = 0.5 + side * (0.24 + swing)
        draw.line([(0.5 + side * 0.14, 0.3), (elbow, 0.44), (0.5 + side * 0.22, 0.58)], 0.065, skin)
        draw.line([(0.5 + side * 0.13, 0.29), (0.5 + side * (0.2 + swing), 0.4)], 0.085, shirt)
    draw.box(0.46, 0.2, 0.54, 0.28, skin)
    draw.box(0.35, 0.26, 0.65, 0.6, shirt, corner=0.05)
    draw.line([(0.5, 0.3), (0.5, 0.58)], 0.01, shade(shirt, 0.6))
    draw.ellipse(0.5, 0.13, 0.095, 0.115, skin)
    draw.ellipse(0.5, 0.1, 0.105, 0.1, hair, start=180, end=360)
    for x in (0.465, 0.535):
        _eye(draw, x, 0.13, 0.014)
    draw.line(arc(0.5, 0.17, 0.035, 0.022, 0, 20, 160), 0.01, (150, 40, 45))


def sheep(draw: Canvas, random: np.random.Generator) -> None:
    wool, face = pick(random, (240, 236, 225), (225, 215, 195)), pick(random, (50, 46, 46), (80, 66, 58))
    _legs(draw, (0.24, 0.33, 0.56, 0.65), 0.6, 0.9, 0.05, face, BLACK)
    draw.ellipse(0.44, 0.5, 0.32, 0.2, wool)
    for angle in range(0, 360, 24):
        x, y = arc(0.44, 0.5, 0.31, 0.19, 0, angle, angle + 1)[0]
        draw.ellipse(x, y, 0.075, 0.075, shade(wool, 0.95))
    draw.ellipse(0.44, 0.5, 0.3, 0.18, wool, outline=False)
    for x, y in random.uniform((0.2, 0.37), (0.66, 0.62), (14, 2)):
        draw.line(arc(x, y, 0.035, 0.03, 0, 20, 250), 0.012, shade(wool, 0.72))
    draw.ellipse(0.72, 0.36, 0.08, 0.035, face, turn=-160)
    draw.ellipse(0.83, 0.42, 0.1, 0.14, face, turn=-25)
    for x, y in ((0.74, 0.29), (0.8, 0.26), (0.86, 0.29)):
        draw.ellipse(x, y, 0.055, 0.05, wool)
    _eye(draw, 0.82, 0.39, 0.024)
