"""Where the files of VOC annotations are: in a devkit with its lists, or in the folders that labelling tools write.

    VOC2007/{Annotations,JPEGImages,ImageSets/Main}     one year of VOC; VOCdevkit holds several; CVAT writes the same
    set/{a.jpg,a.xml}                                    labelImg: no lists, one split `all`
    set/{Annotations/a.xml,JPEGImages/a.jpg}             labelme: the same, apart
    set/{train,valid,test}/{a.jpg,a.xml}                 Roboflow: the splits are the folders

Names are compared in Unicode's composed form (NFC): macOS writes decomposed ones. Columns tell the lists of splits
(ids) from those of classes (ids and 1, 0 or -1), not names: train_aug.txt is a split, a class may be called `train`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from unicodedata import normalize

from voc_cls.data.files import read_lines
from voc_cls.data.readers.folder import walk
from voc_cls.data.readers.split_scan import is_split_name
from voc_cls.errors import DataError
from voc_cls.image_header import IMAGE_SUFFIXES

ALL = "all"
LISTS = ("ImageSets/Main", "ImageSets")
USAGE = ("`root` takes the folder of one year, such as VOCdevkit/VOC2007, VOCdevkit itself, or a folder of pictures "
         "with their annotations (.xml); other data sets are of another kind: csv, folder, coco or cifar10")

CLASS_LINE = re.compile(r"\S.*\s(\+?1|0|-1)")
TRUTHS = {"1": 1, "+1": 1, "0": 0, "-1": -1}
"""How a class list says positive, only difficult objects, negative."""
LINES_LOOKED_AT = 50
"""Of a list, to tell its kind."""

Resolve = Callable[[str], str | None]
"""Takes what a list has for an image; returns the image's id, None where there is no such image."""


@dataclass(frozen=True)
class Files:
    """The files with certain suffixes in a folder and below."""

    folder: Path
    suffixes: tuple[str, ...]

    @cached_property
    def by_id(self) -> dict[str, tuple[Path, ...]]:
        """Path below the folder without suffix → the files, which differ in their suffixes."""
        files: dict[str, tuple[Path, ...]] = {}
        start = len(os.path.join(self.folder, ""))
        for file in walk(self.folder):
            name, suffix = os.path.splitext(file)
            if suffix.lower() in self.suffixes:
                image_id = normalize("NFC", name[start:])
                files[image_id] = (*files.get(image_id, ()), Path(file))
        return files

    @cached_property
    def by_name(self) -> dict[str, tuple[str, ...]]:
        """Last part of an id → the ids."""
        names: dict[str, tuple[str, ...]] = {}
        for image_id in self.by_id:
            name = image_id.rpartition("/")[2]
            names[name] = (*names.get(name, ()), image_id)
        return names

    def id_of(self, text: str) -> str | None:
        """The id that is `text`, or that alone ends with its last part."""
        composed = normalize("NFC", text)
        ids = (composed,) if composed in self.by_id else self.by_name.get(composed.rpartition("/")[2], ())
        return ids[0] if len(ids) == 1 else None

    def without(self, others: Files) -> list[Path]:
        """The files that have no counterpart among `others`, by their names."""
        return [files[0] for image_id, files in self.by_id.items() if image_id.rpartition("/")[2] not in others.by_name]


@dataclass(frozen=True)
class Entry:
    """An image of a split."""

    image_id: str
    where: str
    """The file that lists it, and the line; what a sentence about it begins with."""
    line: int
    annotation: Path
    """Where it is, or should be."""
    images: tuple[Path, ...]
    """The files that it can be."""


@dataclass(frozen=True)
class Devkit:
    """One year of VOC, or what a labelling tool wrote."""

    root: Path
    lists: Path | None
    """The folder of the lists; None where there are none."""

    @property
    def name(self) -> str:
        return self.root.resolve().name

    @cached_property
    def annotations(self) -> Files:
        return Files(_below(self.root, "Annotations"), (".xml",))

    @cached_property
    def images(self) -> Files:
        """The image files; beside JPEGImages, tools put drawings of the annotations with the same names."""
        return Files(_below(self.root, "JPEGImages"), IMAGE_SUFFIXES)

    def split_list(self, split: str) -> Path:
        """The list of a split, or of a class in a split."""
        return (self.lists or self.root) / f"{split}.txt"

    @cached_property
    def splits(self) -> tuple[str, ...]:
        """The splits that exist; class lists are not splits."""
        return tuple(self._folders) if self.lists is None else split_names(self.lists, self.resolve)

    def is_annotated(self, split: str) -> bool:
        """Whether the classes of a split are known: VOC2010 to VOC2012 keep the annotations of their test pictures."""
        try:
            return self.lists is None or any(self.annotations.id_of(image_id) for image_id in
                                             read_split_list(self.split_list(split), [], self.resolve))
        except DataError:  # told when the split is read
            return True

    def entries(self, split: str, problems: list[str]) -> list[Entry]:
        """The images of a split in the order of its list, or of the file names; what is wrong in the list is added
        to `problems`."""
        if self.lists is None:
            return [Entry(xml.stem, str(xml), 0, xml, self._beside(xml)) for xml in self._folders[split]]
        path, entries = self.split_list(split), []
        for image_id, line in read_split_list(path, problems, self.resolve).items():
            xml, image = self.annotations.id_of(image_id), self.images.id_of(image_id)
            missing = self.annotations.folder / f"{image_id}.xml"
            entries.append(Entry(image_id, f"{path}:{line}", line, self.annotations.by_id[xml][0] if xml else missing,
                                 self.images.by_id[image] if image else ()))
        return entries

    def resolve(self, text: str) -> str | None:
        """The id that a line of a list means, with or without extension or folder; None where no file has it."""
        plain = text.strip('"').removeprefix("./")
        stem, suffix = os.path.splitext(plain)
        names = [plain, *([stem] if suffix.lower() in (*IMAGE_SUFFIXES, ".xml") else [])]
        ids = (self.annotations.id_of(name) or self.images.id_of(name) for name in names)
        return None if {"", ".."} & set(plain.split("/")) else next(filter(None, ids), None)

    @cached_property
    def _folders(self) -> dict[str, list[Path]]:
        """Split → its annotations, without lists."""
        files = sorted(path for paths in self.annotations.by_id.values() for path in paths)
        splits: dict[str | None, list[Path]] = {}
        for path in files:
            splits.setdefault(self.split_of(path), []).append(path)
        if len(splits) > 1 and None in splits:
            named = ", ".join(sorted(split for split in splits if split))
            raise DataError(f"{splits[None][0]}: is beside the folders {named}, which are named like splits; move it "
                            "into one of them, or rename these folders")
        return {split or ALL: splits[split] for split in sorted(splits, key=str)}

    def split_of(self, path: Path) -> str | None:
        """The folder above a file that is named like a split."""
        return next((part for part in path.relative_to(self.root).parts[:-1] if is_split_name(part)), None)

    def _beside(self, xml: Path) -> tuple[Path, ...]:
        """The images of an annotation: named like it, in the same split, as near as possible."""
        parts = set(xml.relative_to(self.root).parts)

        def nearness(image: Path) -> tuple[bool, int]:
            return image.parent == xml.parent, len(parts & set(image.relative_to(self.root).parts))

        images = [image for image_id in self.images.by_name.get(normalize("NFC", xml.stem), ())
                  for image in self.images.by_id[image_id] if self.split_of(image) in (None, self.split_of(xml))]
        return tuple(image for image in images if nearness(image) == max(map(nearness, images)))


def open_devkits(root: Path) -> list[Devkit]:
    """The devkits at `root`; DataError says what is there instead, and where a devkit is if one is near."""
    if not os.path.isdir(root):
        raise DataError(f"{root}: {'is a file' if os.path.exists(root) else 'no such folder'}; {USAGE}")
    devkits = [Devkit(root, _lists(root))]
    years = [Devkit(path, _lists(path)) for path in sorted(root.iterdir()) if _is_year(path)]
    if devkits[0].lists is None and any(year.lists for year in years):  # VOCdevkit with all of them
        devkits = years
    for devkit in devkits:
        missing = [name for name, files in (("annotations (.xml)", devkit.annotations), ("pictures", devkit.images))
                   if not files.by_id]
        near = [] if devkit.lists else [path.parents[1] for path in sorted(root.glob("*/*/ImageSets/Main"))]
        if missing or near:
            near += filter(_is_year, root.resolve().parents[:2])
            found = ", ".join(sorted(os.listdir(devkit.root))[:8]) or "nothing"
            raise DataError(f"{devkit.root}: is not a VOC devkit, it has no {' and no '.join(missing) or 'ImageSets'} "
                            f"(found: {found}); {f'pass `root` {near[0]}' if near else USAGE}")
    return devkits


def _is_year(path: Path) -> bool:
    return path.is_dir() and (_lists(path) is not None or (path / "Annotations").is_dir())


def _lists(root: Path) -> Path | None:
    return next((root / name for name in LISTS if any((root / name).glob("*.txt"))), None)


def _below(root: Path, name: str) -> Path:
    """The folder of this name, else `root`."""
    return root / name if (root / name).is_dir() else root


def split_names(folder: Path, resolve: Resolve) -> tuple[str, ...]:
    """The lists in `folder` that are of splits, without .txt."""
    lists = {file.stem: _first_lines(file) for file in sorted(folder.glob("*.txt"))}
    splits = [name for name, lines in lists.items() if any(map(resolve, lines))]
    # a list of nothing known is of a class where its columns say so, or its name: CVAT leaves lists of classes empty
    return tuple(name for name, lines in lists.items() if name in splits or not (
        any(name.endswith(f"_{split}") for split in splits) or (lines and all(map(CLASS_LINE.fullmatch, lines)))))


def _first_lines(file: Path) -> list[str]:
    try:
        return [text for _, text in islice(read_lines(file), LINES_LOOKED_AT)]
    except DataError:  # told when it is read
        return []


def read_split_list(path: Path, problems: list[str], resolve: Resolve = lambda _: None) -> dict[str, int]:
    """The ids of `<split>.txt`, one a line, and their lines; blank lines, trailing spaces and CRLF are ignored.

    Ids that occur twice or cannot be the name of a file are omitted and added to `problems`. Raises DataError where
    the list cannot be read or is empty.
    """
    lines: dict[str, int] = {}
    for line, text in read_lines(path):
        resolved = resolve(text)
        image_id, problem = resolved or text, None if resolved else _id_problem(text)
        if problem is None and image_id in lines:
            problem = f"lists {text!r} again, it is on line {lines[image_id]} too; remove one"
        if problem is None:
            lines[image_id] = line
        else:
            problems.append(f"{path}:{line}: {problem}")
    if not lines and not problems:
        raise DataError(f"{path}:1: is empty; a split lists the ids of its pictures, one a line")
    return lines


def _id_problem(text: str) -> str | None:
    if CLASS_LINE.fullmatch(text):
        return f"has {text!r} where one id is expected; lists with two columns belong to a class, not to a split"
    if text.startswith("/") or "\\" in text or {".", ".."} & set(text.split("/")) or not text.isprintable():
        return f"the id {text!r} is not the plain name of a file; write it without folder and extension"
    return None


def class_list_problems(path: Path, split: Path, lines: Mapping[str, int], truths: Sequence[int],
                        resolve: Resolve = lambda _: None, complete: bool = True) -> list[str]:
    """Compares a class list with the annotations; returns a sentence for each difference.

    Images that only the class list has are ignored: a split may have been shortened. path: `<class>_<split>.txt`.
    split: the list of the split. lines: its images and their lines. truths: 1, 0 or -1 for each, as by `ground_truth`.
    complete: whether the list must have all images and tell difficult ones apart, as VOC's do and CVAT's do not.
    """
    entries: dict[str, tuple[int, int]] = {}
    problems = []
    for line, text in read_lines(path):
        columns = text.rsplit(maxsplit=1)
        if not CLASS_LINE.fullmatch(text):
            problems.append(f"{path}:{line}: has {text!r} where an id and 1, 0 or -1 are expected")
            continue
        image_id = columns[0] if columns[0] in lines else resolve(columns[0]) or columns[0]
        if image_id in entries:
            problems.append(f"{path}:{line}: lists {columns[0]!r} again, it is on line {entries[image_id][1]} too; "
                            "remove one")
        else:
            entries[image_id] = TRUTHS[columns[1]], line
    for (image_id, split_line), truth in zip(lines.items(), truths, strict=True):
        if image_id not in entries:
            if complete:
                problems.append(f"{path}:1: does not list {image_id!r}, which is on line {split_line} of {split.name}; "
                                "add it, or remove the class list")
            continue
        value, line = entries[image_id]
        if value != truth and (complete or (value == -1) != (truth == -1)):
            problems.append(f"{path}:{line}: says {value} for {image_id!r}, its annotation says {truth} "
                            "(1: shown, 0: only difficult objects, -1: not shown); correct one of them")
    return problems
