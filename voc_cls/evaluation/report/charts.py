"""The report's charts: numbers turned into positions on a small SVG, which templates/charts.html draws.

SVG instead of pictures, so that they take the page's colours (light, dark, print) and a few kB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from voc_cls.evaluation.calibration import Reliability
from voc_cls.evaluation.predictions import Bools, Floats

LEARNING_CURVES = {"loss": "loss", "val_map": "validation mAP", "val_accuracy": "validation accuracy",
                   "val_loss": "validation log loss", "lr": "learning rate"}
"""Key of metrics.jsonl → title of its chart."""
CHOSEN_BY = ("val_map", "val_accuracy")
"""Metrics by which the best weights are chosen, unless it is the loss."""


@dataclass(frozen=True)
class Bar:
    """A rectangle from `left` to `right` and up to `top`, values of the axes, and its tooltip."""

    left: float
    right: float
    top: float
    text: str


@dataclass(frozen=True)
class Dot:
    """A point, values of the axes, and its tooltip."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What the template draws; `description` is for screen readers.

    The area between the axes reaches from (`left`, `top`) to (`right`, `bottom`), in SVG units (CSS pixels at the
    page's usual width); the ranges are the values at its edges.
    """

    title: str
    description: str
    left: float
    right: float
    top: float
    bottom: float
    x_title: str
    x_ticks: dict[float, str]
    """Value → label."""
    y_ticks: dict[float, str]
    lines: dict[str, tuple[Floats, Floats]] = field(default_factory=dict)
    """CSS class → values of both axes."""
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()
    x_range: tuple[float, float] = (0, 1)
    y_range: tuple[float, float] = (0, 1)

    def x(self, value: Any) -> Any:
        low, high = self.x_range
        return self.left + (value - low) / (high - low or 1) * (self.right - self.left)

    def y(self, value: Any) -> Any:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def path(self, xs: Floats, ys: Floats) -> str:
        """An SVG path through the points, to half a pixel; points that do not show are left out."""
        points = np.round(2 * np.stack([self.x(xs), self.y(ys)], axis=1)) / 2
        points = points[np.append(True, (points[1:] != points[:-1]).any(axis=1))]
        before, after = np.diff(points[:-1], axis=0), np.diff(points[1:], axis=0)
        # on the way straight up, down or right
        between = ((before == 0) & (after == 0)).any(axis=1) & (before * after >= 0).all(axis=1)
        return "M" + "L".join(f"{x:g} {y:g}" for x, y in np.delete(points, 1 + np.flatnonzero(between), axis=0))


def precision_recall_chart(name: str, truth: Bools, scores: Floats, at: tuple[float, float], threshold: float
                           ) -> Chart:
    """The precision/recall curve of the class `name`, with the area that is its average precision; `truth` [N] needs a
    positive. `at` is (recall, precision) at the threshold, NaN: not shown."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, scores)
    # scikit-learn runs from the lowest threshold up and adds the point (recall 0, precision 1), which no score gave
    precision, recall = precision[-2::-1], recall[-2::-1]
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    area = np.concatenate([[0, 0], recall, recall[-1:]]), np.concatenate([[0], monotone[:1], monotone, [0]])
    dots = () if np.isnan(at).any() else (
        Dot(*at, f"threshold {threshold:.2f}: precision {at[1]:.1%}, recall {at[0]:.1%}"),)
    ticks = {value: f"{value:g}" for value in (0.0, 0.5, 1.0)}
    line = np.append(0.0, recall), np.append(precision[0], precision)
    return Chart(name, f"precision over recall of {name}", 30, 192, 6, 150, "recall", ticks, ticks,
                 {"area": area, "line": line}, dots=dots)


def learning_charts(metrics: Sequence[dict[str, Any]]) -> tuple[Chart, ...]:
    """LEARNING_CURVES over the steps, from the lines of metrics.jsonl; missing metrics are left out."""
    charts = []
    for key, title in LEARNING_CURVES.items():
        points = [(line["step"], line[key]) for line in metrics if line.get(key) is not None]
        if points:
            steps, values = np.array(points, float).T
            charts.append(_over_steps(title, steps, values, best=key in CHOSEN_BY))
    return tuple(charts)


def _over_steps(title: str, steps: Floats, values: Floats, best: bool) -> Chart:
    low, high, last = float(values.min()), float(values.max()), float(steps.max())
    if high - low <= 1e-6 * abs(high):  # a constant is drawn in the middle
        low, high = min(0.0, 2 * low), max(0.0, 2 * high) or 1.0
    y_ticks = round_ticks(low, high)
    highest = int(values.argmax())
    dot = Dot(steps[highest], values[highest], f"best {values[highest]:.4f} at step {steps[highest]:,.0f}")
    return Chart(title, f"{title} from {values[0]:.4g} at step {steps[0]:,.0f} to {values[-1]:.4g} at step "
                        f"{steps[-1]:,.0f}", 46, 320, 10, 170, "step",
                 {tick: f"{tick:,.0f}" for tick in round_ticks(0.0, last) if tick <= last},
                 {tick: f"{tick:.4g}" for tick in y_ticks}, {"line": (steps, values)},
                 dots=(dot,) if best else (), x_range=(0, last),
                 y_range=(min(low, y_ticks[0]), max(high, y_ticks[-1])))


def reliability_chart(title: str, reliability: Reliability, unit: str) -> Chart:
    """Bars: the share of the entries (`unit` is their plural) in a range of probabilities that is true."""
    bars = tuple(Bar(of_bin.lower, of_bin.upper, of_bin.accuracy, f"{of_bin.count:,} {unit} at {of_bin.confidence:.1%} "
                     f"on average: {of_bin.accuracy:.1%} of them true") for of_bin in reliability.bins if of_bin.count)
    ticks = {value: f"{value:g}" for value in (0.0, 0.25, 0.5, 0.75, 1.0)}
    description = f"share of true {unit} over probability, {title}: expected calibration error {reliability.ece:.4f}"
    diagonal = np.array([0.0, 1.0])
    return Chart(title, description, 34, 300, 8, 226, "probability", ticks, ticks, {"diagonal": (diagonal, diagonal)},
                 bars)


def round_ticks(low: float, high: float) -> tuple[float, ...]:
    """About five round numbers around a range."""
    from matplotlib.ticker import MaxNLocator

    return tuple(float(value) for value in MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high))
