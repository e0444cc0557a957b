"""The boxes of the objects of a split, from VOC's and COCO's annotations, for the evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Dataset
from voc_cls.data.load import open_reader

Boxes = npt.NDArray[Any]
"""A record for each object: its picture's row and its class's column; its edges and the size of its picture, pixels
counted from 0; `difficult` as in VOC's annotations."""
BOX = [("row", int), ("column", int), ("left", float), ("top", float), ("right", float), ("bottom", float),
       ("width", float), ("height", float), ("difficult", bool)]


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
