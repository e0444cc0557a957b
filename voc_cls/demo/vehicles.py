"""VOC's vehicles, drawn facing right in a unit square."""

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
    LAMP,
    ORANGE,
    PURPLE,
    RED,
    WHITE,
    YELLOW,
    pick,
    shade,
)


def _wheel(draw: Canvas, x: float, y: float, radius: float) -> None:
    draw.ellipse(x, y, radius, radius, BLACK)
    draw.ellipse(x, y, radius * 0.55, radius * 0.55, (190, 190, 195))
    draw.ellipse(x, y, radius * 0.18, radius * 0.18, BLACK)


def _spoked_wheel(draw: Canvas, x: float, y: float, radius: float) -> None:
    for angle in range(0, 180, 30):
        ends = arc(x, y, radius, radius, 0, angle, angle + 180)
        draw.line([ends[0], ends[-1]], 0.006, (190, 190, 195))
    draw.ring(x, y, radius, 0.03, BLACK)
    draw.ellipse(x, y, 0.02, 0.02, GREY)


def aeroplane(draw: Canvas, random: np.random.Generator) -> None:
    body, band = pick(random, WHITE, (215, 220, 228)), pick(random, RED, BLUE, ORANGE, GREEN)
    draw.shape([(0.45, 0.47), (0.62, 0.47), (0.42, 0.22), (0.34, 0.22)], shade(body, 0.75))
    draw.shape([(0.03, 0.28), (0.12, 0.28), (0.22, 0.46), (0.06, 0.48)], band)
    draw.shape([(0.05, 0.46), (0.2, 0.42), (0.8, 0.42), (0.93, 0.46), (0.98, 0.52), (0.9, 0.57), (0.25, 0.58)], body)
    draw.shape([(0.1, 0.5), (0.96, 0.5), (0.94, 0.535), (0.16, 0.535)], band, outline=False)
    draw.shape([(0.86, 0.44), (0.92, 0.47), (0.86, 0.48)], BLACK, outline=False)
    for x in np.arange(0.28, 0.82, 0.06):
        draw.ellipse(x, 0.465, 0.014, 0.017, (70, 110, 150), outline=False)
    draw.shape([(0.42, 0.54), (0.64, 0.54), (0.36, 0.82), (0.27, 0.82)], shade(body, 0.88))
    draw.ellipse(0.5, 0.66, 0.07, 0.028, shade(band, 0.8))
    draw.shape([(0.04, 0.46), (0.16, 0.46), (0.06, 0.56), (0.0, 0.56)], shade(body, 0.85))


def bicycle(draw: Canvas, random: np.random.Generator) -> None:
    frame = pick(random, RED, BLUE, GREEN, YELLOW, PURPLE)
    for x in (0.2, 0.8):
        _spoked_wheel(draw, x, 0.65, 0.19)
    rear, crank, seat, fork, front = (0.2, 0.65), (0.46, 0.66), (0.38, 0.36), (0.7, 0.36), (0.8, 0.65)
    draw.line([rear, crank, fork, seat, rear], 0.026, frame)
    draw.line([seat, crank], 0.026, frame)
    draw.line([(0.67, 0.26), front], 0.026, shade(frame, 0.8))
    draw.line([seat, (0.36, 0.28)], 0.02, GREY)
    draw.shape([(0.28, 0.25), (0.46, 0.26), (0.44, 0.29), (0.32, 0.3)], BLACK)
    draw.line([(0.77, 0.22), (0.66, 0.25), (0.72, 0.3)], 0.024, BLACK)
    draw.ring(0.46, 0.66, 0.055, 0.016, GREY)
    draw.line([(0.42, 0.76), (0.5, 0.56)], 0.018, BLACK)


def boat(draw: Canvas, random: np.random.Generator) -> None:
    hull, sail = pick(random, RED, BLUE, BROWN, WHITE), pick(random, WHITE, (245, 225, 190), (240, 150, 130))
    draw.line([(0.48, 0.05), (0.48, 0.72)], 0.022, BROWN)
    draw.shape([(0.51, 0.08), (0.51, 0.62), (0.9, 0.62), (0.72, 0.36)], sail)
    draw.shape([(0.45, 0.14), (0.45, 0.62), (0.12, 0.62)], shade(sail, 0.88))
    for y in (0.28, 0.45):
        draw.line([(0.52, y), (0.52 + (y - 0.08) * 0.6, y)], 0.008, shade(sail, 0.7))
    draw.shape([(0.48, 0.03), (0.6, 0.06), (0.48, 0.1)], RED)
    draw.shape([(0.03, 0.68), (0.97, 0.66), (0.82, 0.9), (0.18, 0.9)], hull)
    draw.shape([(0.055, 0.72), (0.945, 0.71), (0.925, 0.75), (0.085, 0.76)], WHITE, outline=False)
    for x in (0.3, 0.45, 0.6):
        draw.ellipse(x, 0.81, 0.024, 0.024, GLASS)


def bus(draw: Canvas, random: np.random.Generator) -> None:
    paint = pick(random, RED, YELLOW, (40, 130, 90), ORANGE)
    draw.box(0.02, 0.2, 0.98, 0.78, paint, corner=0.05)
    draw.box(0.02, 0.58, 0.98, 0.64, WHITE, outline=False)
    for x in np.arange(0.06, 0.7, 0.13):
        draw.box(x, 0.28, x + 0.105, 0.5, GLASS)
    draw.box(0.73, 0.28, 0.83, 0.76, shade(GLASS, 0.85))
    draw.line([(0.78, 0.28), (0.78, 0.76)], 0.012, BLACK)
    draw.shape([(0.86, 0.28), (0.96, 0.28), (0.975, 0.52), (0.86, 0.52)], GLASS)
    draw.box(0.35, 0.215, 0.65, 0.26, BLACK)
    draw.line([(0.4, 0.24), (0.6, 0.24)], 0.016, YELLOW)
    for x in (0.2, 0.62):
        _wheel(draw, x, 0.78, 0.085)
    draw.ellipse(0.955, 0.69, 0.02, 0.025, LAMP)


def car(draw: Canvas, random: np.random.Generator) -> None:
    paint = pick(random, RED, BLUE, (190, 195, 205), (60, 65, 75), GREEN)
    draw.shape([(0.2, 0.48), (0.32, 0.3), (0.62, 0.3), (0.77, 0.48)], paint)
    draw.shape([(0.25, 0.48), (0.345, 0.335), (0.46, 0.335), (0.46, 0.48)], GLASS)
    draw.shape([(0.49, 0.48), (0.49, 0.335), (0.605, 0.335), (0.71, 0.48)], GLASS)
    draw.shape([(0.02, 0.52), (0.08, 0.47), (0.74, 0.47), (0.95, 0.53), (0.99, 0.66), (0.97, 0.71), (0.02, 0.71)],
               paint)
    draw.line([(0.475, 0.48), (0.475, 0.68)], 0.009, shade(paint, 0.5))
    draw.line([(0.51, 0.54), (0.56, 0.54)], 0.014, BLACK)
    draw.box(0.02, 0.65, 0.985, 0.71, shade(paint, 0.6), outline=False)
    for x in (0.22, 0.77):
        draw.ellipse(x, 0.7, 0.125, 0.12, BLACK)
        _wheel(draw, x, 0.71, 0.1)
    draw.ellipse(0.94, 0.57, 0.03, 0.028, LAMP)
    draw.box(0.02, 0.53, 0.05, 0.59, (220, 40, 40))


def motorbike(draw: Canvas, random: np.random.Generator) -> None:
    paint = pick(random, RED, BLUE, ORANGE, (40, 45, 50))
    draw.line([(0.66, 0.26), (0.82, 0.68)], 0.035, (185, 190, 195))
    for x in (0.19, 0.82):
        draw.ellipse(x, 0.7, 0.175, 0.175, BLACK)
        draw.ellipse(x, 0.7, 0.1, 0.1, GREY)
        draw.ellipse(x, 0.7, 0.045, 0.045, (215, 215, 220))
    draw.shape([(0.33, 0.5), (0.66, 0.5), (0.62, 0.76), (0.38, 0.76)], (80, 82, 88))
    for y in (0.56, 0.61, 0.66):
        draw.line([(0.42, y), (0.6, y)], 0.016, (190, 192, 198))
    draw.line([(0.5, 0.74), (0.3, 0.78), (0.04, 0.72)], 0.045, (200, 203, 208))
    draw.shape([(0.4, 0.46), (0.46, 0.32), (0.64, 0.32), (0.7, 0.44), (0.6, 0.52)], paint)
    draw.shape([(0.06, 0.36), (0.14, 0.34), (0.44, 0.4), (0.44, 0.48), (0.18, 0.46)], BLACK)
    draw.shape([(0.02, 0.5), (0.1, 0.42), (0.3, 0.48), (0.34, 0.56), (0.19, 0.5)], paint)
    draw.line(arc(0.82, 0.7, 0.2, 0.2, 0, 215, 320), 0.03, paint)
    draw.line([(0.56, 0.22), (0.68, 0.24)], 0.028, BLACK)
    draw.ellipse(0.73, 0.32, 0.05, 0.055, LAMP)


def train(draw: Canvas, random: np.random.Generator) -> None:
    paint, smoke = pick(random, (35, 90, 60), (150, 35, 35), (40, 60, 110), BLACK), (205, 205, 210)
    for x, y, radius in ((0.72, 0.1, 0.07), (0.6, 0.07, 0.06), (0.5, 0.05, 0.045)):
        draw.ellipse(x, y, radius, radius * 0.75, smoke, outline=False)
    draw.box(0.0, 0.87, 1.0, 0.9, GREY)
    draw.box(0.36, 0.38, 0.92, 0.66, paint, corner=0.06)
    for x in (0.48, 0.64, 0.8):
        draw.line([(x, 0.385), (x, 0.655)], 0.018, YELLOW)
    draw.box(0.76, 0.18, 0.85, 0.4, BLACK)
    draw.box(0.74, 0.16, 0.87, 0.21, shade(paint, 0.8))
    draw.ellipse(0.58, 0.38, 0.06, 0.07, YELLOW, start=180, end=360)
    draw.box(0.06, 0.2, 0.4, 0.7, paint)
    draw.box(0.02, 0.14, 0.44, 0.22, shade(paint, 0.65))
    draw.box(0.12, 0.28, 0.34, 0.46, GLASS)
    draw.box(0.03, 0.64, 0.95, 0.73, shade(RED, 0.9))
    for x, radius in ((0.16, 0.12), (0.42, 0.12), (0.64, 0.09), (0.84, 0.09)):
        draw.ellipse(x, 0.87 - radius, radius, radius, BLACK)
        draw.ring(x, 0.87 - radius, radius * 0.75, 0.014, RED)
        draw.ellipse(x, 0.87 - radius, radius * 0.25, radius * 0.25, GREY)
    draw.line([(0.16, 0.78), (0.42, 0.78), (0.84, 0.8)], 0.022, (200, 200, 205))
    draw.shape([(0.93, 0.7), (1.0, 0.87), (0.9, 0.87)], shade(RED, 0.8))
    draw.ellipse(0.93, 0.46, 0.03, 0.045, LAMP)
