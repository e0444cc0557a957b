"""The report's charts: numbers turned into positions on a small SVG, which templates/charts.html draws.

SVG instead of pictures, so that they take the page's colours (light, dark, print) and a few kB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from voc_cls.evaluation.average_precision import precision_recall
from voc_cls.evaluation.calibration import Reliability
from voc_cls.evaluation.predictions import Bools, Floats


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, in SVG units, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """An SVG path and the CSS class that colours it."""

    style: str
    path: str


@dataclass(frozen=True)
class Bar:
    """A rectangle with the text that appears over it."""

    style: str
    x: float
    y: float
    width: float
    height: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point with the text that appears over it."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What the template draws; `description` is read out where the chart cannot be seen."""

    title: str
    description: str
    frame: Frame
    x: tuple[Tick, ...]
    y: tuple[Tick, ...]
    x_title: str
    y_title: str
    bars: tuple[Bar, ...] = ()
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()


@dataclass(frozen=True)
class Frame:
    """The area between the axes, in SVG units (CSS pixels at the page's usual width), and the values at its edges."""

    left: float
    right: float
    top: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @property
    def width(self) -> float:
        """Of the whole drawing."""
        return self.right + 16

    @property
    def height(self) -> float:
        """Of the whole drawing."""
        return self.bottom + 34

    def x(self, value: Any) -> Any:
        """Where values of the x axis are; numbers or arrays."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: Any) -> Any:
        """Where values of the y axis are; numbers or arrays."""
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def path(self, xs: Floats, ys: Floats) -> str:
        """An SVG path through the points, to half a pixel; a point equal to the one before it is left out."""
        points = np.round(2 * np.stack([self.x(xs), self.y(ys)], axis=1)) / 2
        moved = np.append(True, (points[1:] != points[:-1]).any(axis=1))
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in points[moved])


def precision_recall_chart(name: str, truth: Bools, scores: Floats, at: tuple[float, float],
                           threshold: float) -> Chart:
    """The curve of one class with the area that its average precision is, and the point (recall, precision) `at` the
    threshold."""
    frame = Frame(30, 192, 6, 150, (0, 1), (0, 1))
    precision, recall = precision_recall(truth, scores)
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    xs, ys = np.append(0.0, recall), np.append(monotone[0], monotone)
    area = f"{frame.path(xs, ys)}V{frame.bottom:.1f}H{frame.left:.1f}Z"
    line = frame.path(np.append(0.0, recall), np.append(precision[0], precision))
    dots = () if np.isnan(at).any() else (
        Dot(frame.x(at[0]), frame.y(at[1]), f"threshold {threshold:.2f}: precision {at[1]:.1%}, recall {at[0]:.1%}"),)
    halves = (0.0, 0.5, 1.0)
    return Chart(name, f"precision over recall of {name}", frame, tuple(Tick(frame.x(at), f"{at:g}") for at in halves),
                 tuple(Tick(frame.y(at), f"{at:g}") for at in halves), "recall", "precision",
                 lines=(Line("area", area), Line("line", line)), dots=dots)


LEARNING_CURVES = {"loss": "loss", "val_map": "validation mAP", "val_accuracy": "validation accuracy",
           "val_loss": "validation log loss", "lr": "learning rate"}
"""Key of metrics.jsonl → title of its chart."""
CHOSEN_BY = ("val_map", "val_accuracy")
"""Metrics by which the best weights are chosen."""


def learning_charts(metrics: Sequence[dict[str, Any]]) -> tuple[Chart, ...]:
    """LEARNING_CURVES over the steps, from the lines of metrics.jsonl; missing metrics are left out."""
    charts = []
    for key, title in LEARNING_CURVES.items():
        points = [(line["step"], line[key]) for line in metrics if line.get(key) is not None]
        if not points:
            continue
        xs, ys = (np.array(values, float) for values in zip(*points, strict=True))
        charts.append(_over_steps(title, xs, ys, best=key in CHOSEN_BY))
    return tuple(charts)


def _over_steps(title: str, xs: Floats, ys: Floats, best: bool) -> Chart:
    low, high = float(ys.min()), float(ys.max())
    if high - low <= 1e-6 * abs(high):  # a constant is drawn in the middle
        low, high = min(0.0, 2 * low), max(0.0, 2 * high) or 1.0
    y_ticks = nice_ticks(low, high)
    x_ticks = nice_ticks(0.0, float(xs.max()))
    frame = Frame(46, 320, 10, 170, (0.0, float(xs.max())), (min(low, y_ticks[0]), max(high, y_ticks[-1])))
    highest = int(ys.argmax())
    dots = (Dot(frame.x(xs[highest]), frame.y(ys[highest]), f"best {ys[highest]:.4f} at step {xs[highest]:,.0f}"),)
    return Chart(title, f"{title} from {ys[0]:.4g} at step {xs[0]:,.0f} to {ys[-1]:.4g} at step {xs[-1]:,.0f}", frame,
                 tuple(Tick(frame.x(at), f"{at:,.0f}") for at in x_ticks if at <= xs.max()),
                 tuple(Tick(frame.y(at), f"{at:.4g}") for at in y_ticks), "step", title,
                 lines=(Line("line", frame.path(xs, ys)),), dots=dots if best else ())


def reliability_chart(title: str, reliability: Reliability, unit: str) -> Chart:
    """Bars: the share of the entries (`unit` is their plural) in a range of probabilities that is true."""
    frame = Frame(34, 300, 8, 226, (0, 1), (0, 1))
    bars = []
    for bar in reliability.bins:
        if bar.count:
            text = f"{bar.count:,} {unit} at {bar.confidence:.1%} on average: {bar.accuracy:.1%} of them true"
            top = frame.y(bar.accuracy)
            bars.append(Bar("column", frame.x(bar.lower) + 1, top, frame.x(bar.upper) - frame.x(bar.lower) - 2,
                            frame.bottom - top, text))
    diagonal = frame.path(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    return Chart(title, f"share of true {unit} over probability, {title}: expected calibration error "
                        f"{reliability.ece:.4f}", frame, tuple(Tick(frame.x(at), f"{at:g}") for at in ticks),
                 tuple(Tick(frame.y(at), f"{at:g}") for at in ticks), "probability", "share that is true",
                 bars=tuple(bars), lines=(Line("diagonal", diagonal),))


def nice_ticks(low: float, high: float) -> tuple[float, ...]:
    """About five round numbers around a range."""
    from matplotlib.ticker import MaxNLocator

    return tuple(float(value) for value in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
