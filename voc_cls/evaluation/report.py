"""What report.html is about and made of: everything of an evaluation in one file that asks for no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.calibration import Reliability
from voc_cls.evaluation.figures import Chart, reliability_chart
from voc_cls.evaluation.gradcam import overlay
from voc_cls.evaluation.mistakes import Example
from voc_cls.evaluation.probabilities import Floats
from voc_cls.evaluation.thumbnails import data_uri, thumbnail

MOST_THUMBNAILS = 160
"""Of mistakes, in the whole page; about 14 kB each."""
MOST_OF_A_KIND = 8
"""Thumbnails of one class's mistakes of one kind."""
OPEN = 6
"""Classes, or pairs of them, whose mistakes are shown without a click: those with the most."""
MOST_NUMBERED = 24
"""Classes up to which a matrix has room for numbers."""
HEAT_MAPS = 4
"""Of each kind: recognised, wrongly seen, missed."""

HeatMaps = Callable[[Sequence[Path], Sequence[int]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Run:
    """What the page says about how the model was made: config.yaml and the lines of metrics.jsonl."""

    name: str
    config: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    weights: str = "best"
    tta: str = "none"


@dataclass(frozen=True)
class Shown:
    """An example as the page shows it: pictures as data: addresses, `truth` the picture's classes."""

    file: str
    picture: str
    heat: str
    name: str
    probability: float
    truth: str
    kind: str


@dataclass(frozen=True)
class Subject:
    """What a page is about: `logits` [N, classes] of the pictures of `dataset`.

    heat_maps(paths, columns): Grad-CAM, float32 [n, h, w].
    """

    run: Run
    dataset: Dataset
    logits: Floats
    heat_maps: HeatMaps


def reliability_charts(things: str, raw: Reliability, rescaled: Sequence[tuple[str, Reliability | None]]
                       ) -> list[tuple[Chart, float]]:
    """(reliability diagram, expected calibration error) as answered, and under each rescaling that there is."""
    stages = [("as the network answers", raw), *((title, stage) for title, stage in rescaled if stage is not None)]
    return [(reliability_chart(title, stage, things), stage.ece) for title, stage in stages]


def show(dataset: Dataset, example: Example, kind: str, heat: npt.NDArray[np.float32] | None = None) -> Shown:
    """Reads the picture."""
    path, small = dataset.paths[example.row], thumbnail(dataset.paths[example.row])
    truth = [name for name, label in zip(dataset.classes, dataset.labels[example.row], strict=True) if label == 1]
    return Shown(path.name, data_uri(small), "" if heat is None else data_uri(overlay(small, heat)),
                 dataset.classes[example.column], example.probability, ", ".join(truth) or "none of the classes", kind)


def percent(value: float | None, digits: int = 1) -> str:
    """A number in 0-1 as the page says it, without the sign; – for NaN and None."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.{digits}f}"


def number(value: int) -> str:
    """With commas."""
    return f"{value:,}"


def config_groups(config: dict[str, Any]) -> dict[str, dict[str, str]]:
    """The flags of a run, group by group, as text; None is what was not given."""
    return {group: {key: _text(value) for key, value in values.items()}
            for group, values in config.items() if group != "provenance"}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
