"""Everything that is wrong with a VOC devkit, picture by picture: what `voc-data check` prints."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc_cls.data.pictures import decoding_problems
from voc_cls.data.voc import Devkit, open_devkit, scan_split
from voc_cls.errors import DataError


@dataclass(frozen=True)
class Check:
    """What was looked at, and one sentence for each problem, with file and, in lists and annotations, line."""

    devkit: str
    splits: tuple[str, ...]
    pictures: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {"devkit": self.devkit, "splits": list(self.splits), "pictures": self.pictures,
                "problems": list(self.problems)}


def check_devkit(root: Path, split: str | None = None, start: Callable[[int], None] = lambda _: None,
                 done: Callable[[], None] = lambda: None) -> Check:
    """Reads one split, or all of them and the files that are in none, and decodes every picture with TensorFlow.

    Calls `start` with the number of pictures to decode and `done` after each. DataError if `root` is no devkit.
    """
    devkit = open_devkit(root)
    splits = devkit.splits() if split is None else (split,)
    problems = [] if splits else [f"{devkit.split_list('*')}: there is no split; a devkit lists its pictures there"]
    paths: dict[Path, None] = {}
    for name in splits:
        try:
            scan = scan_split(devkit, name)
        except DataError as error:
            problems.append(str(error))
            continue
        problems += scan.problems
        paths.update(dict.fromkeys(example.path for example in scan.examples))
    if split is None:
        problems += _unpaired(devkit)
    start(len(paths))
    for problem in decoding_problems(paths):
        problems += [problem] if problem else []
        done()
    return Check(devkit.name, splits, len(paths), tuple(dict.fromkeys(problems)))


def _unpaired(devkit: Devkit) -> list[str]:
    """Annotations without a picture and pictures without an annotation, in any list or none."""
    problems = []
    for path in sorted(devkit.annotation("any").parent.glob("*.xml")):
        if not os.path.exists(devkit.picture(path.stem)):
            problems.append(f"{path}: is the annotation of {devkit.picture(path.stem)}, which does not exist; add the "
                            f"picture or remove the annotation")
    for path in sorted(devkit.picture("any").parent.glob("*.jpg")):
        if not os.path.exists(devkit.annotation(path.stem)):
            problems.append(f"{path}: has no annotation {devkit.annotation(path.stem)}; add it or remove the picture")
    return problems
