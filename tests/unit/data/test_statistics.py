"""The numbers of `voc-data stats`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voc_cls.data.annotation import read_annotation
from voc_cls.data.statistics import Range, split_statistics
from voc_cls.data.voc import CLASSES, read_split
from voc_cls.errors import DataError


def test_the_counts_are_those_of_the_annotations(drawn_devkit: Path) -> None:
    statistics, dataset = split_statistics(drawn_devkit, "trainval"), read_split(drawn_devkit, "trainval")
    files = [drawn_devkit / "Annotations" / f"{path.stem}.xml" for path in dataset.paths]
    annotations = [read_annotation(file, CLASSES) for file in files]
    objects = [item for annotation in annotations for item in annotation.objects]
    assert statistics.pictures == 20
    assert [row.positive for row in statistics.classes] == dataset.labels.sum(axis=0).tolist()
    assert [row.only_difficult for row in statistics.classes] == dataset.ignored.sum(axis=0).tolist()
    assert sum(row.objects for row in statistics.classes) == len(objects)
    assert sum(row.difficult_objects for row in statistics.classes) == sum(item.difficult for item in objects)
    assert sum(row.truncated_objects for row in statistics.classes) == sum(item.truncated for item in objects)
    widths = [annotation.width for annotation in annotations]
    assert statistics.width == Range(min(widths), round(float(np.median(widths))), max(widths))
    assert statistics.formats == {"JPEG": 20}


def test_a_devkit_that_cannot_be_read_is_not_counted(devkit: Path) -> None:
    (devkit / "JPEGImages/000003.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"000003\.jpg: is no JPEG"):
        split_statistics(devkit, "test")
