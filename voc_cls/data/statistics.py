"""What the splits of a data set hold, in numbers: what `voc-data stats` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Task
from voc_cls.data.scan import Found, Survey


@dataclass(frozen=True)
class ClassStatistics:
    """One class. Pictures: `positive`, `only_difficult` (they count neither way), the rest do not show it.

    The objects are VOC's; other data sets have none.
    """

    name: str
    positive: int
    only_difficult: int
    objects: int = 0
    difficult_objects: int = 0
    truncated_objects: int = 0


@dataclass(frozen=True)
class Range:
    """Smallest, median and largest value."""

    smallest: float
    median: float
    largest: float


@dataclass(frozen=True)
class Together:
    """Two classes that come together in `pictures`."""

    classes: tuple[str, str]
    pictures: int


@dataclass(frozen=True)
class Statistics:
    """One split. Sizes in pixels, aspect is width / height; `formats` counts pictures."""

    name: str
    split: str
    task: Task
    pictures: int
    without_objects: int
    """Pictures of no class; in VOC without any object, a difficult one included."""
    classes: tuple[ClassStatistics, ...]
    width: Range
    height: Range
    aspect: Range
    classes_per_picture: Range
    formats: dict[str, int]
    co_occurrence: npt.NDArray[np.int64]
    """[classes, classes]: pictures that show both; how many show the class on the diagonal."""
    sizes: npt.NDArray[np.int64]
    """[N, 2]: width and height of each picture."""
    has_objects: bool
    """Whether the data set has annotated objects, as VOC."""

    def together(self, most: int) -> tuple[Together, ...]:
        """The pairs of classes that come together most often."""
        rows, columns = np.triu_indices(len(self.classes), 1)
        counts = self.co_occurrence[rows, columns]
        first = [index for index in np.argsort(-counts, kind="stable")[:most] if counts[index]]
        return tuple(Together((self.classes[rows[index]].name, self.classes[columns[index]].name), int(counts[index]))
                     for index in first)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; single pictures are left out, and so is what cannot come together."""
        values = asdict(self)
        del values["sizes"], values["has_objects"], values["co_occurrence"]
        pairs = {"co_occurrence": self.co_occurrence.tolist()} if self.task is Task.MULTI_LABEL else {}
        return {**values, "task": self.task.value, **pairs}


def statistics(survey: Survey) -> tuple[Statistics, ...]:
    """Counts each split of the survey; DataError where something in it could not be read."""
    survey.check()
    return tuple(_counted(found) for found in survey.found)


def _counted(found: Found) -> Statistics:
    dataset = found.dataset
    objects = [item for items in found.objects or () for item in items]
    every = Counter(item.name for item in objects)
    difficult = Counter(item.name for item in objects if item.difficult)
    truncated = Counter(item.name for item in objects if item.truncated)
    shown = dataset.labels.astype(np.int64)
    positive, only_difficult = shown.sum(axis=0).tolist(), dataset.ignored.sum(axis=0).tolist()
    sizes = np.array([(header.width, header.height) for header in found.headers], np.int64).reshape(-1, 2)
    bare = (sum(not items for items in found.objects) if found.objects is not None
            else int((~(dataset.labels.any(axis=1) | dataset.ignored.any(axis=1))).sum()))
    return Statistics(
        name=dataset.name,
        split=found.split,
        task=dataset.task,
        pictures=len(dataset),
        without_objects=bare,
        classes=tuple(ClassStatistics(name, positive[index], only_difficult[index], every[name], difficult[name],
                                      truncated[name]) for index, name in enumerate(dataset.classes)),
        width=_range(sizes[:, 0]),
        height=_range(sizes[:, 1]),
        aspect=_range(sizes[:, 0] / sizes[:, 1], digits=2),
        classes_per_picture=_range(shown.sum(axis=1)),
        formats=dict(Counter(header.format for header in found.headers).most_common()),
        co_occurrence=shown.T @ shown,
        sizes=sizes,
        has_objects=found.objects is not None,
    )


def _range(values: npt.NDArray[Any], digits: int | None = None) -> Range:
    return Range(*(round(float(value), digits) for value in (values.min(), np.median(values), values.max())))
