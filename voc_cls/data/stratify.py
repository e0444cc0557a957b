"""Random divisions of labelled images into parts near their fractions, stratified: each class by its share.

scikit-learn's splitters draw for single-label, iterative stratification (Sechidis et al. 2011) for multi-label data.
Both count groups of images, not images, and where classes are rare, the second rounds every one of them to the larger
part. So where a part misses its size, or groups are of several images, groups are moved while that helps.

Variants of one image, or frames of one video, are a group, which stays on one side. `group` says which images are:

    auto        Roboflow's file names: cat_jpg.rf.1a2b.jpg and cat_jpg.rf.3c4d.jpg are variants of cat.jpg
    patient     the column of that name in a CSV
    (.+)_\\d+    a regular expression: images whose file names agree in its groups; with a "/", their whole paths
    none        every image alone
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.errors import UsageError

Numbers = npt.NDArray[np.int64]
AUTO, NONE = "auto", "none"
ROBOFLOW = re.compile(r"(.+)\.rf\.[^.]+\.[^.]+$")
"""What Roboflow calls each variant of an image: the image's name, .rf., a hash. The folder may differ."""
TOLERANCE = 0.05
"""Share of its size, or one image, by which a drawn part may miss it before groups are moved."""
STRESS = 1000
"""Weight of sizes beside all classes together, where classes alone leave a part too small or too large."""
MOST_OFF = 0.5
"""Share of its size, or one image, by which a part may miss it in the end; beyond that the division is refused."""


@dataclass(frozen=True)
class Grouping:
    """A key for every image: images with equal keys are a group. `text` is for people; empty where all are alone."""

    keys: tuple[Hashable, ...]
    text: str


def group_images(group: str, paths: Sequence[Path], columns: Mapping[str, Sequence[str]]) -> Grouping:
    """Groups images as `group` says, see the top of this module; columns: the further ones of their list, by name.

    UsageError where `group` is neither a name nor a regular expression, or finds nothing in any name or line.
    """
    alone = tuple(range(len(paths)))
    if group == NONE:
        return Grouping(alone, "")
    if group in columns:
        keys: list[Hashable | None] = [cell.strip() or None for cell in columns[group]]
        what = f"the column {group!r}"
    else:
        pattern = ROBOFLOW if group == AUTO else _pattern(group, columns)
        matches = [pattern.search(path.as_posix() if "/" in pattern.pattern else path.name) for path in paths]
        keys = [match.groups() if match and any(match.groups()) else None for match in matches]
        what = "Roboflow's names (`group` none: off)" if group == AUTO else f"the pattern {group}"
    without = keys.count(None)
    if without == len(keys) and group != AUTO:
        raise UsageError(f"`group` {group}: none of the {len(paths):,} pictures has it, such as {paths[0].name}; give "
                         "another column or pattern")
    own = tuple((number,) if key is None else key for number, key in enumerate(keys))
    count = len(set(own))
    if group == AUTO and count == len(own):
        return Grouping(own, "")
    rest = f"; pictures without one, each alone: {without:,}" if without else ""
    return Grouping(own, f"{count:,} groups of pictures, by {what}{rest}")


def _pattern(group: str, columns: Mapping[str, Sequence[str]]) -> re.Pattern[str]:
    known = f"a column ({', '.join(columns)})" if columns else "a column of the CSV"
    hint = r"a regular expression with a capture group, such as '(.+)_\d+'"
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UsageError(f"`group` {group}: is neither {known} nor {hint} ({error})") from error
    if not pattern.groups:
        raise UsageError(f"`group` {group}: is neither {known} nor {hint}")
    return pattern


def connected(*keys: Sequence[Hashable]) -> Numbers:
    """The number of each image's group, in the order in which they come.

    Images that agree in one of the `keys` are a group, and so is a chain of them.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    images = len(keys[0])
    nodes = {key: images + node for node, key in enumerate(dict.fromkeys(
        (kind, key) for kind, column in enumerate(keys) for key in column))}
    edges = [(image, nodes[kind, key]) for kind, column in enumerate(keys) for image, key in enumerate(column)]
    starts, ends = np.array(edges, np.int64).reshape(-1, 2).T
    size = images + len(nodes)
    graph = coo_array((np.ones(len(edges), bool), (starts, ends)), shape=(size, size))
    groups: Numbers = connected_components(graph, directed=False)[1][:images].astype(np.int64)
    return groups


@dataclass(frozen=True)
class Stratified:
    """What is divided: images with their labels [N, classes], and the number of each one's group, which stays together.
    """

    name: str
    classes: tuple[str, ...]
    labels: npt.NDArray[np.float32]
    single_label: bool
    groups: Numbers

    @cached_property
    def counts(self) -> npt.NDArray[np.float64]:
        """[groups, classes + 1]: images of every class in each group, and in the last column all of them."""
        counts = np.zeros((self.groups.max(initial=-1) + 1, len(self.classes) + 1))
        np.add.at(counts, self.groups, np.hstack([self.labels, np.ones((len(self.labels), 1))]))
        return counts

    @property
    def unit(self) -> str:
        return "pictures" if len(self.counts) == len(self.labels) else "groups of pictures"

    def part(self, fraction: float, seed: int, what: str) -> tuple[Numbers, Numbers]:
        """(rows that stay, rows that are drawn: a `fraction` of all), both in the order of the list.

        UsageError, beginning with `what`, where no part is near the fraction, or a class of a single-label data set
        cannot be on both sides.
        """
        images = len(self.labels)
        taken = round(images * fraction) if 0 < fraction < 1 else 0
        if not 0 < taken < images:
            possible = f"give a fraction that takes 1 to {images - 1:,} of them" if images > 1 else "add pictures"
            raise UsageError(f"{what}: takes {taken} of the {images:,} pictures of {self.name}; {possible}")
        self._check_classes(what, 2, "which cannot be on both sides")
        part = self._balanced(self._drawn(fraction, seed), [1 - fraction, fraction], seed)
        if not _near(self.counts[part == 1, -1].sum(), images * fraction, images, MOST_OFF):
            raise UsageError(f"{what}: takes about {taken:,} of the {images:,} pictures of {self.name}, "
                             f"{self._sizes()}; give another fraction or `group`")
        return np.flatnonzero(part[self.groups] == 0), np.flatnonzero(part[self.groups] == 1)

    def folds(self, number: int, seed: int) -> list[tuple[Numbers, Numbers]]:
        """(rows to train on, rows to validate on) of each of `number` folds, both in the order of the list.

        UsageError where there are too few images or groups, or of a class of a single-label data set. (A rare class of
        a multi-label data set is spread as far as it goes.)
        """
        what, images, groups = f"`folds` {number}", len(self.labels), len(self.counts)
        if groups < number:
            raise UsageError(f"{what}: {self.name} has {groups:,} {self.unit}; "
                             + (f"choose at most {groups} folds" if groups > 1 else "add more"))
        self._check_classes(what, number, "fewer than there are folds")
        part = self._balanced(self._drawn_folds(number, seed), [1 / number] * number, seed)
        for size in np.bincount(part, self.counts[:, -1], number):
            if not _near(size, images / number, images, MOST_OFF):
                raise UsageError(f"{what}: takes about {images // number:,} of the {images:,} pictures of {self.name} "
                                 f"each, {self._sizes()}; choose fewer folds or another `group`")
        part = part[self.groups]
        return [(np.flatnonzero(part != fold), np.flatnonzero(part == fold)) for fold in range(number)]

    def _check_classes(self, what: str, least: int, then: str) -> None:
        """UsageError where a class of a single-label data set is in fewer groups than `least`."""
        for name, count in zip(self.classes, (self.counts[:, :-1] > 0).sum(axis=0).tolist(), strict=True):
            if self.single_label and 0 < count < least:
                fewer = f"choose at most {count} folds, " if count > 1 else ""
                has = f"a single {self.unit.replace('s', '', 1)}" if count == 1 else f"{count} {self.unit}"
                raise UsageError(f"{what}: {self.name} has {has} of the class {name!r}, {then}; {fewer}add pictures, "
                                 "or remove the class")

    def _drawn(self, fraction: float, seed: int) -> Numbers:
        """The part, 0 or 1, of each group, as a library draws it."""
        from iterstrat.ml_stratifiers import MultilabelStratifiedShuffleSplit
        from sklearn.model_selection import StratifiedShuffleSplit

        part = np.zeros(len(self.counts), np.int64)
        fewer = int(len(part) * min(fraction, 1 - fraction))
        if fewer:
            pure = self._pure and fewer >= len(self.classes)
            kind = StratifiedShuffleSplit if pure else MultilabelStratifiedShuffleSplit
            splitter = kind(n_splits=1, test_size=fraction, random_state=seed)
            part[next(splitter.split(self.counts, self._targets(pure)))[1]] = 1
        return part

    def _drawn_folds(self, number: int, seed: int) -> Numbers:
        """The fold of each group, as a library draws it."""
        from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
        from sklearn.model_selection import StratifiedKFold

        kind = StratifiedKFold if self._pure else MultilabelStratifiedKFold
        splitter = kind(n_splits=number, shuffle=True, random_state=seed)
        part = np.zeros(len(self.counts), np.int64)
        for fold, (_, val) in enumerate(splitter.split(self.counts, self._targets(self._pure))):
            part[val] = fold
        return part

    @property
    def _pure(self) -> bool:
        """Whether every group is of exactly one class."""
        return self.single_label and bool(((self.counts[:, :-1] > 0).sum(axis=1) == 1).all())

    def _targets(self, pure: bool) -> Numbers:
        """What the splitters stratify by: the number of the class, or all labels, of which they need at least two."""
        labels = (self.counts[:, :-1] > 0).astype(np.int64)
        if pure:
            return np.asarray(labels.argmax(axis=1), np.int64)
        return labels if labels.shape[1] > 1 else np.hstack([labels, 1 - labels])

    def _balanced(self, part: Numbers, fractions: Sequence[float], seed: int) -> Numbers:
        """`part` itself where every part has its size; else after moving groups, sizes before classes if need be."""
        for emphasis in (1, STRESS):
            images, sizes = len(self.labels), np.bincount(part, self.counts[:, -1], len(fractions))
            sized = all(_near(size, images * fraction, images, TOLERANCE)
                        for size, fraction in zip(sizes, fractions, strict=True))
            if sized and (emphasis > 1 or self.counts[:, -1].max() == 1):
                break
            order = np.random.default_rng(seed).permutation(len(part))  # of equal groups a random one is moved
            part[order] = _moved(part[order], self.counts[order], fractions, emphasis * len(self.classes))
        return part

    def _sizes(self) -> str:
        sizes = self.counts[:, -1]
        return "which are one group" if len(sizes) == 1 else (
            f"but its {len(sizes):,} {self.unit} have {sizes.min():.0f} to {sizes.max():.0f} each")


def _near(size: float, target: float, images: int, share: float) -> bool:
    """Whether a part of `size` images, neither empty nor all, misses its target by at most this share, or one image."""
    return 0 < size < images and abs(size - target) <= max(1.0, share * min(target, images - target))


def _moved(part: Numbers, counts: npt.NDArray[np.float64], fractions: Sequence[float], emphasis: float) -> Numbers:
    """`part` after moving groups, each time the one that helps most, as long as one helps.

    What falls is the squared deviation of the images of each class in each part from their share, relative to the
    class; `emphasis` is the weight of the deviation of all images, in the last column of `counts`.
    """
    part, rows, totals = part.copy(), np.arange(len(part)), counts.sum(axis=0)
    weights = 1 / np.maximum(totals, 1)
    weights[-1] *= emphasis
    weighted = counts * weights
    deviations = -np.outer(fractions, totals)
    np.add.at(deviations, part, counts)
    pull, own = weighted @ deviations.T, (weighted * counts).sum(axis=1)
    while True:  # ends, because every move lowers the sum of squares
        change = pull - (pull[rows, part] - own)[:, None]  # half of what each move would add to the sum
        change[rows, part] = 0
        group, to = divmod(int(change.argmin()), len(fractions))
        if change[group, to] > -1e-9:
            return part
        step = weighted @ counts[group]
        pull[:, part[group]] -= step
        pull[:, to] += step
        part[group] = to
