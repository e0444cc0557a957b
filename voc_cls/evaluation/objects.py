"""What the boxes of a data set add: average precision by the size of the objects, and the pointing game.

Size: the share of the picture that the box of its largest object of the class covers, difficult objects aside. Whole
pictures are classified, at one size, so the share matters and not the pixels. SMALL is COCO's limit between medium and
large objects, 96² pixels (Lin et al. 2014, https://cocodataset.org/#detection-eval), in COCO's usual 640 × 480; LARGE
is a quarter, below which the pointing game calls a picture difficult. The positives of one size are ranked against all
negatives; the other positives are left out.

Pointing game (Zhang et al. 2016, arXiv:1608.00507, section 4.1): for each class on a picture, the maximum of the heat
map is a hit if it lies in a box of the class, or at most TOLERANCE pixels beside one; a map without a maximum is a
miss. The accuracy is the mean over the classes. The centre of each picture, as a guess, is what to compare with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.data.load import open_reader
from voc_cls.evaluation.average_precision import AveragePrecisions, average_precisions
from voc_cls.evaluation.bootstrap import Intervals, draw, intervals_of
from voc_cls.evaluation.predictions import Bools, Floats, defined_mean

SMALL, LARGE = 96 * 96 / (640 * 480), 1 / 4
"""Shares of the picture: 3 % and 25 %."""
SIZES = {"small": (0.0, SMALL), "medium": (SMALL, LARGE), "large": (LARGE, np.inf)}
TOLERANCE = 15
"""Pixels of the picture in its file."""
Boxes = npt.NDArray[Any]
"""A record for each object: its picture's row and its class's column; its edges and the size of its picture, pixels
counted from 0; `difficult` as in VOC's annotations."""
BOX = [("row", int), ("column", int), ("left", float), ("top", float), ("right", float), ("bottom", float),
       ("width", float), ("height", float), ("difficult", bool)]


@dataclass(frozen=True)
class Pointing:
    """By class, and as the mean of the classes, the share of hits, 0-1, of the heat maps and of the pictures' centres;
    NaN: no box."""

    classes: dict[str, float]
    accuracy: float
    centre: float


def read_boxes(dataset: Dataset, classes: Sequence[str]) -> Boxes | None:
    """Of objects of `classes`, whose places are the columns; None for data sets without boxes and images chosen in
    Python. A picture that EXIF turns has none either: tools write boxes before and after the turn."""
    source = dataset.source
    if source is None:
        return None
    scan = open_reader(source.kind, source.root).scan(source.split, classes=source.classes)
    if scan.objects is None:
        return None
    annotated = dict(zip(scan.dataset.paths, zip(scan.headers, scan.objects, strict=True), strict=True))
    return np.array([
        (row, classes.index(item.name), max(item.box.xmin - 1, 0), max(item.box.ymin - 1, 0),
         min(item.box.xmax, header.width), min(item.box.ymax, header.height), header.width, header.height,
         item.difficult)
        for row, (header, objects) in enumerate(annotated[path] for path in dataset.paths) for item in objects
        if item.box is not None and item.name in classes and header.orientation == 1], BOX)


def by_size(dataset: Dataset, boxes: Boxes, logits: Floats, resamples: int
            ) -> dict[str, tuple[AveragePrecisions, Intervals]]:
    """Average precisions of logits [N, classes] for the positives of each of SIZES, and their 95 % intervals."""
    areas, drawn = np.full(dataset.labels.shape, np.nan), draw(len(dataset), resamples)
    own = boxes[~boxes["difficult"]]
    shares = (own["right"] - own["left"]) * (own["bottom"] - own["top"]) / (own["width"] * own["height"])
    np.fmax.at(areas, (own["row"], own["column"]), shares)
    results = {}
    for size, (least, limit) in SIZES.items():
        others = (dataset.labels == 1) & ~((areas >= least) & (areas < limit))
        of_size = replace(dataset, labels=np.where(others, np.float32(0), dataset.labels),
                          ignored=dataset.ignored | others)
        results[size] = average_precisions(of_size, logits), intervals_of(of_size, logits, drawn, {})
    return results


def pointing_game(dataset: Dataset, boxes: Boxes, heat_maps: Callable[[Sequence[Path], Sequence[str]], Floats]
                  ) -> Pointing:
    """Looks where the heat maps [n, h, w] of (paths [n], labels [n]) point, for every class that a picture shows and
    has a box of."""
    boxes = boxes[dataset.labels[boxes["row"], boxes["column"]] == 1]
    pairs, pair = np.unique(boxes[["row", "column"]], return_inverse=True)
    maps = heat_maps([dataset.paths[row] for row in pairs["row"]], [dataset.classes[at] for at in pairs["column"]])
    number, height, width = maps.shape
    y, x = np.unravel_index(maps.reshape(number, height * width).argmax(axis=1), (height, width))
    found = hits(boxes, pair, (x + 0.5) / width, (y + 0.5) / height) & maps.any(axis=(1, 2))
    centres = hits(boxes, pair, *np.full((2, number), 0.5))
    by_class = [[kind[pairs["column"] == column].mean() if column in pairs["column"] else np.nan
                 for column in range(len(dataset.classes))] for kind in (found, centres)]
    accuracy, centre = defined_mean(np.array(by_class)).tolist()
    return Pointing(dict(zip(dataset.classes, map(float, by_class[0]), strict=True)), accuracy, centre)


def hits(boxes: Boxes, pair: Any, x: Floats, y: Floats) -> Bools:
    """bool [pairs]: whether the place of each pair, fractions of its picture, hits a box; `pair` [boxes] says whose."""
    across, down = x[pair] * boxes["width"], y[pair] * boxes["height"]
    beside = np.maximum(np.maximum(boxes["left"] - across, across - boxes["right"]), 0)
    above = np.maximum(np.maximum(boxes["top"] - down, down - boxes["bottom"]), 0)
    found = np.zeros(len(x), bool)
    np.logical_or.at(found, pair, np.hypot(beside, above) <= TOLERANCE)
    return found
