"""Everything that is wrong with a data set, picture by picture: what `voc-data check` prints.

Problems make a training fail or its results wrong, and the exit code 1. Warnings are what somebody should know: a
picture twice with the same labels, a class without pictures in a split.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc_cls.data.decoding import decode_all
from voc_cls.data.duplicates import find_duplicates
from voc_cls.data.load import splits_of
from voc_cls.data.readers.voc import Devkit, open_devkit
from voc_cls.data.scan import Survey
from voc_cls.image_header import ImageHeader


@dataclass(frozen=True)
class Check:
    """What was looked at, and one sentence for each problem, with file and, in lists and annotations, line."""

    data: str
    name: str
    splits: tuple[str, ...]
    pictures: int
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; `devkit` is the name of any data set."""
        return {"data": self.data, "devkit": self.name, "splits": list(self.splits), "pictures": self.pictures,
                "problems": list(self.problems), "warnings": list(self.warnings)}


def check_survey(survey: Survey, start: Callable[[int], None] = lambda _: None,
                 done: Callable[[], None] = lambda: None) -> Check:
    """Decodes every picture of the survey with TensorFlow and compares files, splits and classes.

    Calls `start` with the number of pictures to decode and `done` after each.
    """
    problems = list(survey.problems)
    if not survey.splits:
        problems.append(f"{survey.root}: there is no split")
    if survey.data == "voc" and survey.whole:
        problems += _unpaired(open_devkit(survey.root))
    headers: dict[Path, ImageHeader] = {}
    for found in survey.found:
        headers.update(zip(found.dataset.paths, found.headers, strict=True))
    start(len(headers))
    paths, fingerprints, broken = tuple(headers), dict[Path, int](), dict[int, str]()
    for decoded in decode_all(paths, [header.width * header.height for header in headers.values()]):
        if decoded.fingerprint is None:
            broken[decoded.number] = decoded.problem or ""
        else:
            fingerprints[paths[decoded.number]] = decoded.fingerprint
        done()
    problems += [broken[number] for number in sorted(broken)]
    duplicates = find_duplicates(survey.found, {path: fingerprints[path] for path in paths if path in fingerprints})
    missing, rare = _empty_classes(survey)
    if survey.whole:
        rare += [f"{survey.root}: nothing says the classes in {split}; it was left out"
                 for split in splits_of(survey.data, survey.root) if split not in survey.splits]
    return Check(survey.data, survey.name, survey.splits, len(headers),
                 tuple(dict.fromkeys([*problems, *duplicates.problems, *missing])),
                 tuple(dict.fromkeys([*duplicates.warnings, *rare])))


def _empty_classes(survey: Survey) -> tuple[list[str], list[str]]:
    """(problems, warnings): classes that no picture shows, and those that a split lacks.

    VOC's classes are given, and a devkit may have been cut down; elsewhere the list of classes is the data set's own.
    """
    problems, warnings = [], []
    counts = {found.split: found.dataset.labels.sum(axis=0) for found in survey.found}
    classes = survey.found[0].dataset.classes if survey.found else ()
    for column, name in enumerate(classes):
        lacking = [split for split, count in counts.items() if count[column] == 0]
        if len(lacking) == len(counts):
            sentence = f"{survey.root}: no picture shows the class {name!r}"
            if survey.data == "voc" or not survey.whole:
                warnings.append(f"{sentence} in {', '.join(lacking)}; it cannot be learned or measured there")
            else:
                problems.append(f"{sentence}; add one, or take the class out of the list of classes")
        elif lacking:
            warnings.append(f"{survey.root}: the class {name!r} has no picture in {', '.join(lacking)}; it cannot be "
                            f"learned or measured there")
    return problems, warnings


def _unpaired(devkit: Devkit) -> list[str]:
    """Annotations without a picture and pictures without an annotation, in any list or none."""
    annotations = _stems(devkit.annotation("any").parent, ".xml")
    pictures = _stems(devkit.picture("any").parent, ".jpg")
    return [*(f"{devkit.annotation(name)}: is the annotation of {devkit.picture(name)}, which does not exist; add the "
              f"picture or remove the annotation" for name in sorted(annotations - pictures)),
            *(f"{devkit.picture(name)}: has no annotation {devkit.annotation(name)}; add it or remove the picture"
              for name in sorted(pictures - annotations))]


def _stems(folder: Path, suffix: str) -> set[str]:
    return {name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix)}
