"""Which images belong together, so that a division keeps them on one side: variants of one image, frames of one video.

    auto        Roboflow's file names: cat_jpg.rf.1a2b.jpg and cat_jpg.rf.3c4d.jpg are variants of cat.jpg
    patient     the column of that name in a CSV
    (.+)_\\d+    a regular expression: images whose file names agree in its groups; with a "/", their whole paths
    none        every image alone
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from voc_cls.errors import UsageError

AUTO, NONE = "auto", "none"
ROBOFLOW = re.compile(r"(.+)\.rf\.[^.]+\.[^.]+$")
"""What Roboflow calls each variant of an image: the image's name, .rf., a hash. The folder may differ."""


@dataclass(frozen=True)
class Grouping:
    """A key for every image: images with equal keys are a group. `text` is for people; empty where all are alone."""

    keys: tuple[Hashable, ...]
    text: str


def group_images(group: str, paths: Sequence[Path], columns: Mapping[str, Sequence[str]]) -> Grouping:
    """Groups images as `group` says, see above.

    Args:
        group: auto, none, the name of a column, or a regular expression with a capture group.
        paths: the images.
        columns: the further columns of their list, by name.

    Raises:
        UsageError: `group` is none of these, or finds nothing in any name or line.
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


def connected(*keys: Sequence[Hashable]) -> npt.NDArray[np.int64]:
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
    groups: npt.NDArray[np.int64] = connected_components(graph, directed=False)[1][:images].astype(np.int64)
    return groups
