"""What reports of both tasks share: the report object, the page around its sections, and example pictures."""

from __future__ import annotations

import math
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset, html_table
from voc_cls.evaluation.average_precision import AveragePrecisions
from voc_cls.evaluation.bootstrap import Intervals
from voc_cls.evaluation.calibration import Calibration, Reliability
from voc_cls.evaluation.decisions import MultilabelScores, SinglelabelScores
from voc_cls.evaluation.objects import Pointing
from voc_cls.evaluation.predictions import Floats, data_uri, thumbnail
from voc_cls.evaluation.report.charts import Chart, learning_charts, reliability_chart
from voc_cls.evaluation.report.gallery import Kind
from voc_cls.files import write_text
from voc_cls.version import __version__

MOST_NUMBERED = 24
"""Classes up to which a matrix has room for numbers."""
MOST_HEAT_MAPS = 4
"""Of each kind: recognised, wrongly predicted, missed."""

HeatMaps = Callable[[Sequence[Path], Sequence[str]], npt.NDArray[np.float32]]
"""(paths [n], labels [n]) → Grad-CAM of each label, float32 [n, h, w] in 0-1."""


@dataclass(frozen=True)
class RunDetails:
    """How the model was made: config.yaml and the lines of metrics.jsonl; and what of it was evaluated."""

    name: str
    config: dict[str, Any]
    metrics: tuple[dict[str, Any], ...]
    weights: str = "best"
    tta: str = "none"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Report(ABC):
    """The evaluation of one model on one split.

    dataset and logits, float [N, classes], are of the classes that are reported (multi-label) or of all (single-label).
    """

    dataset: Dataset
    logits: Floats
    average_precisions: AveragePrecisions
    scores: MultilabelScores | SinglelabelScores
    calibration: Calibration | None
    """Fitted to the validation split; None: there was none."""
    reliability: Reliability
    calibrated: Reliability | None
    """Of the calibrated probabilities."""
    intervals: Intervals
    run: RunDetails | None = None
    """None: the page has no sections about training."""
    heat_maps: HeatMaps | None = None
    """None: the page has no Grad-CAM."""
    sizes: dict[str, tuple[AveragePrecisions, Intervals]] = field(default_factory=dict)
    """By the size of the objects: small, medium, large. Empty: the data set has no boxes."""
    pointing: Pointing | None = None
    """The pointing game of the heat maps; None: it was not measured."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "heat_maps": None}  # a report that is sent to other processes leaves the network here

    @property
    def map(self) -> float:
        """Mean average precision (area, VOC2010+), 0-1."""
        return self.average_precisions.map

    @property
    def per_class(self) -> list[dict[str, Any]]:
        """One record for each class, for `pandas.DataFrame` and the like; rates are in 0-1, NaN where not defined.

        Keys: class, ap, ap_11pt, positives, ignored, threshold (multi-label), precision, recall, f1, predicted, ece,
        and ap_low and ap_high, the 95 % interval of ap.
        """
        records = []
        for name, values in self._classes().items():
            low, high = values.pop("ap_interval")
            records.append({"class": name, **values, "ap_low": low, "ap_high": high})
        return records

    @property
    @abstractmethod
    def headline(self) -> dict[str, float]:
        """The most important metrics by the names that people give them, 0-1."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, as `voc-eval --json` writes it; None for what is not defined."""
        values: dict[str, Any] = json_ready(
            self.average_precisions.to_dict() | {"classes": self._classes(), "task": self.dataset.task.value}
            | self._metrics() | {"calibration": {
                "fitted": self.calibration and asdict(self.calibration), "raw": self.reliability.to_dict(),
                **{method: self.calibrated.to_dict() if self.calibrated and self.calibration
                   and self.calibration.method == method else None for method in ("temperature", "platt")},
                }, "intervals": self.intervals.to_dict(),
                "sizes": {size: precisions.to_dict() | {"intervals": intervals.to_dict()}
                          for size, (precisions, intervals) in self.sizes.items()},
                "pointing": None if self.pointing is None else asdict(self.pointing)})
        return values

    def to_html(self, path: Path | str | None = None) -> str:
        """The report as one HTML page that loads no other file.

        Args:
            path: Where to write the page too, whole or not at all; None: nowhere.
        """
        sections = self._page()
        training: dict[str, Any] = {"learning": ()}
        if self.run is not None:
            training = {"learning": learning_charts(self.run.metrics),
                        "command": shlex.join(map(str, self.run.config["provenance"]["command"]))}
        page = render(sections["template"], {
            "report": self, "run": self.run, "dataset": self.dataset,
            "numbered": len(self.dataset.classes) <= MOST_NUMBERED, **training, **sections})
        if path is not None:
            write_text(Path(path), page)
        return page

    def _repr_html_(self) -> str:
        columns = ("ap", "precision", "recall", "f1")
        rows = [[record["class"], *(percent(record[name]) for name in columns), f"{record['positives']:,}"]
                for record in self.per_class]
        return html_table(f"{self!r}; in percent:", ("class", *columns, "positives"), rows)

    def __repr__(self) -> str:
        metrics = ", ".join(f"{name} {percent(value)} %" for name, value in self.headline.items())
        return f"{self.dataset.name}, {len(self.dataset):,} pictures: {metrics}"

    def _classes(self) -> dict[str, dict[str, Any]]:
        """By class: its average precisions, their interval, and what the task adds."""
        ranking = self.average_precisions.to_dict()["classes"]
        return {rates.name: {**ranking[rates.name], "ap_interval": list(astuple(self.intervals.classes[rates.name])),
                             "precision": rates.precision, "recall": rates.recall, "f1": rates.f1,
                             "predicted": rates.predicted, "ece": self.reliability.classes[rates.name]}
                for rates in self.scores.classes}

    @abstractmethod
    def _metrics(self) -> dict[str, Any]:
        """What `to_dict` has for this task alone."""

    @abstractmethod
    def _page(self) -> dict[str, Any]:
        """What the task's template, whose name is "template", is filled with."""


@dataclass(frozen=True)
class Example:
    """A picture and a class of it: `row` and `column` of the labels, and the class's probability, 0-1."""

    row: int
    column: int
    probability: float


@dataclass(frozen=True)
class ShownExample:
    """An example as the page shows it: pictures as data: addresses, `truth` the picture's classes."""

    file: str
    picture: str
    heat: str
    name: str
    probability: float
    truth: str
    kind: str


def matrix(names: Sequence[str], counts: npt.NDArray[np.int64], totals: npt.NDArray[np.int64]) -> list[tuple[Any, ...]]:
    """By class: its name, row of counts [classes, classes], and the shares of these of its `totals` pictures."""
    shares = counts / np.maximum(totals, 1)[:, None]
    return list(zip(names, counts.tolist(), shares.tolist(), strict=True))


def surest(kind: Kind, probabilities: Floats) -> list[Example]:
    """Of every class that has decisions of this kind the surest, the surest class first; probabilities [N, classes]."""
    rows = np.where(kind.labels, kind.sureness, -1).argmax(axis=0)
    columns = sorted(np.flatnonzero(kind.labels.any(axis=0)).tolist(),
                     key=lambda column: -kind.sureness[rows[column], column])
    return [Example(int(rows[column]), column, float(probabilities[rows[column], column])) for column in columns]


def shown(dataset: Dataset, example: Example, kind: str, heat: npt.NDArray[np.float32]) -> ShownExample:
    """Reads the picture; `heat` [h, w] is laid over a second copy."""
    path, small = dataset.paths[example.row], thumbnail(dataset.paths[example.row])
    truth = dataset.named(dataset.labels[example.row])
    return ShownExample(path.name, data_uri(small), data_uri(overlay(small, heat)), dataset.classes[example.column],
                        example.probability, ", ".join(truth) or "none of the classes", kind)


def overlay(pixels: npt.NDArray[np.uint8], heat: Floats) -> npt.NDArray[np.uint8]:
    """uint8 [H, W, 3] RGB: `pixels` with `heat` [h, w] (0-1) laid over it, cold parts darkened, hot ones glowing."""
    from PIL import Image

    height, width = pixels.shape[:2]
    smooth = Image.fromarray(np.asarray(heat, np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    layer = glow(np.asarray(smooth)) / 255
    mixed: npt.NDArray[np.uint8] = (pixels * (1 - layer[..., 3:]) + layer[..., :3] * 255 * layer[..., 3:]).round(
        ).astype(np.uint8)
    return mixed


def glow(heat: Floats) -> npt.NDArray[np.uint8]:
    """uint8 [h, w, 4] RGBA, to be laid over a picture: `heat` (0-1) in colours, the more opaque the hotter."""
    from matplotlib import colormaps

    colours = colormaps["inferno"](np.clip(heat, 0, 1), alpha=0.25 + 0.4 * np.clip(heat, 0, 1), bytes=True)
    return np.asarray(colours, np.uint8)


def explained(report: Report, kinds: dict[str, Kind], probabilities: Floats) -> list[ShownExample]:
    """The surest examples of each kind with Grad-CAM, every class at most once; none if the report has no network."""
    if report.heat_maps is None:
        return []
    dataset = report.dataset
    chosen = [(name, example) for name, kind in kinds.items()
              for example in surest(kind, probabilities)[:MOST_HEAT_MAPS]]
    maps = report.heat_maps([dataset.paths[example.row] for _, example in chosen],
                            [dataset.classes[example.column] for _, example in chosen])
    return [shown(dataset, example, kind, heat) for (kind, example), heat in zip(chosen, maps, strict=True)]


def reliability_charts(report: Report, unit: str) -> list[tuple[Chart, float]]:
    """(reliability diagram, expected calibration error) of the network and of the rescaling; `unit` is counted."""
    stages = {"probabilities of the network": report.reliability,
              f"calibrated: {report.calibration}": report.calibrated}
    return [(reliability_chart(title, stage, unit), stage.ece) for title, stage in stages.items() if stage]


def render(template: str, values: dict[str, Any], package: str = "voc_cls.evaluation.report",
           folder: str = "templates") -> str:
    """A page from one of the templates in a folder of a package; on an HTML page, the HTML in `values` is escaped.
    `version` is voc-cls', where they have none."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(loader=PackageLoader(package, folder), autoescape=template.endswith(".html"),
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              keep_trailing_newline=True)
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    environment.filters |= {"percent": percent, "number": "{:,}".format}
    return environment.get_template(template).render({"version": __version__} | values)


def percent(value: float | None, digits: int = 1) -> str:
    """A number in 0-1 in percent, without the sign; – for NaN and None."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.{digits}f}"


def json_ready(value: Any) -> Any:
    """The same with None for every NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
