"""Trees of images whose folders or names give the class: Dogs vs. Cats, Plant Seedlings, a part of ImageNet.

    root/cat/…  root/dog/…                 one split, `all`
    root/train/cat/…  root/test/cat/…      the splits are the folders
    root/cat.0.jpg  root/train/dog.1.jpg   flat: the class is what stands before the first dot, of two or more

Only names decide. The folders in `root` are splits where all of them are named like one (train, training_set, valid,
seg_test, test1 and similar), and classes where none is; a mixture is an error. A folder that holds nothing but one
folder with classes stands for that one (dataset/PetImages/cat/…, seg_train/seg_train/…). A folder that holds folders
has classes, one without is flat; images beside folders are an error. Below a class, folders are walked at any depth and
links followed. Hidden files and folders are ignored, and so are files that are not images, with a warning in a class.
The classes are those of all splits together, sorted by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NoReturn

from voc_cls.data.dataset import Task
from voc_cls.data.files import LOOK
from voc_cls.data.readers import split_scan
from voc_cls.data.readers.split_scan import LabelledImage, Reader, SplitScan, is_split_name
from voc_cls.errors import DataError
from voc_cls.image_header import IMAGE_SUFFIXES, ImageError, image_format

ALL = "all"
FLAT = re.compile(r"([^.]+)\..*\.[^.]+")
"""cat.0.jpg, as in Dogs vs. Cats (https://www.kaggle.com/c/dogs-vs-cats/data)."""
IGNORED_NAMES = ("__macosx", "@eadir", "icon\r")
"""What file managers leave behind, beside hidden files."""
ANNOTATIONS = (".xml", ".txt", ".json")
"""What labelling tools write beside an image: VOC's, YOLO's, labelme's."""
WRAPPERS = 4
"""Folders that may stand round the one with the classes."""
MAGIC_BYTES = 16
USAGE = "`root` takes class folders (root/cat/…), such folders in train and test, or names like cat.0.jpg"


class FolderReader(Reader):
    """The splits are folders, or `all`."""

    kind = "folder"

    @staticmethod
    def matches(root: Path) -> bool:
        """Whether `root` has images in several class folders, or flat ones with the class in their names."""
        try:
            layout = FolderReader((root,))._layout.values()
            if len(set().union(*(split.classes for split in layout))) < 2:
                return False
            folders = [folder for split in layout for folder in split.folders or (split.path,)]
            return any(_is_image(Path(file)) for folder in folders for file in walk(folder))
        except DataError:
            return False

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._layout)

    def has_classes(self, split: str) -> bool:
        return bool(self._layout[split].classes)

    @cached_property
    def _layout(self) -> dict[str, Entries]:
        """Split → the folder that has its classes; DataError where it can be read in two ways, or holds nothing."""
        root = self.root
        if not root.is_dir():
            raise DataError(f"{root}: {'is a file' if root.exists() else 'no such folder'}; {USAGE}")
        entries = _unwrapped(root, inside_split=False)
        if not (entries.folders or entries.images or entries.other_files):
            raise DataError(f"{root}: is empty; {USAGE}")
        splits = {path.name: _unwrapped(path, inside_split=True) for path in entries.folders
                  if is_split_name(path.name)}
        others = [path.name for path in entries.folders if path.name not in splits]
        if splits and others:
            raise DataError(f"{root}: has the folders {', '.join(splits)}, which are named like splits, beside "
                            f"{', '.join(others[:8])}, which are not; move either away, or rename a class")
        _refuse_images_beside_folders(entries)
        return splits or {ALL: entries}

    def _scan(self, split: str, *_: object) -> SplitScan:
        classes = sorted(set().union(*(entries.classes for entries in self._layout.values())))
        problems = [problem for name in classes if (problem := split_scan.class_problem(name))]
        if problems:
            raise DataError(f"{self.root}: {problems[0]}")
        entries = self._layout[split]
        images, other_files = _trees(entries, problems) if entries.folders else _flat(entries, problems)
        if not classes or not (images or problems):
            raise DataError(f"{entries.path}: holds no pictures; {USAGE}")
        warnings = split_scan.summed_up((str(path), "is not a picture and is ignored") for path in other_files)
        inside = [{path.name for path in _entries(folder).folders} for folder in entries.folders]
        if len(inside) > 1 and len(shared := sorted(set.intersection(*inside))) > 1:
            warnings += (f"{entries.path}: each class has the folders {' and '.join(shared[:2])}; if these are "
                         "classes, name the folders above like splits (train, test), or pass one of them as the root",)
        if entries.path not in (self.root, self.root / split):
            warnings += (f"{self.root}: the classes of the split {split} are those in {entries.path}",)
        return split_scan.scan_images(self.root, split, Task.SINGLE_LABEL, classes, images, problems, warnings)


@dataclass(frozen=True)
class Entries:
    """The content of a folder that is not hidden, sorted by name."""

    path: Path
    folders: tuple[Path, ...]
    images: tuple[Path, ...]
    other_files: tuple[Path, ...]

    @property
    def classes(self) -> set[str]:
        """The names of the folders, or without any, those that the names of the images begin with."""
        if self.folders:
            return {path.name for path in self.folders}
        return {match[1] for path in self.images if (match := FLAT.fullmatch(path.name))}


def _entries(path: Path) -> Entries:
    try:
        names = sorted(name for name in os.listdir(path) if not _is_hidden(name))
    except OSError as error:
        _unreadable(error)
    folders = tuple(path / name for name in names if os.path.isdir(path / name))
    return Entries(path, folders, *_images_and_others(path / name for name in names if path / name not in folders))


def _images_and_others(files: Iterable[Path]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    images: list[Path] = []
    others: list[Path] = []
    for file in files:
        (images if _is_image(file) else others).append(file)
    return tuple(images), tuple(others)


def _is_image(path: Path) -> bool:
    """Whether a file is meant to be an image: by its extension, else by its first bytes."""
    if path.suffix.lower() in IMAGE_SUFFIXES or not path.exists():  # a link to nothing is reported when it is read
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            image_format(file.read(MAGIC_BYTES))
    except ImageError:
        return False
    except OSError:
        pass  # reported when its header is read
    return True


def _unwrapped(folder: Path, inside_split: bool) -> Entries:
    """The folder that has the classes or splits, below folders that hold nothing but the next one.

    Of the folders in a split, only one with the name of a split is no class (seg_train/seg_train).
    """
    entries = _entries(folder)
    for _ in range(WRAPPERS):
        if len(entries.folders) != 1 or entries.images or is_split_name(entries.folders[0].name) != inside_split:
            break
        below = _entries(entries.folders[0])
        if not (inside_split or below.folders or len(below.classes) > 1):
            break
        entries = below
    return entries


def _trees(split: Entries, problems: list[str]) -> tuple[list[LabelledImage], list[Path]]:
    """The images of a folder of class folders, and the other files in these."""
    _refuse_images_beside_folders(split)
    images: list[LabelledImage] = []
    other_files: list[Path] = []
    for folder in split.folders:
        paths, others = _images_and_others(map(Path, walk(folder)))
        problems += [] if paths else [f"{folder}: has no pictures; a class needs some, or remove the folder"]
        images += [LabelledImage(path, (folder.name,)) for path in paths]
        other_files += others
    return images, other_files


def _flat(split: Entries, problems: list[str]) -> tuple[list[LabelledImage], Sequence[Path]]:
    """The images of a folder without folders, and its other files."""
    matches = [(path, FLAT.fullmatch(path.name)) for path in split.images]
    unlabelled = [path for path, match in matches if match is None]
    stems = {path.stem for path in split.images}
    if annotation := next((path for path in split.other_files if path.suffix.lower() in ANNOTATIONS
                           and path.stem in stems), None):
        raise DataError(f"{annotation}: is an annotation beside the picture of its name, so the classes are not in the "
                        "names of the files; read VOC's XML as a data set of the kind voc, others after conversion")
    images = [LabelledImage(path, (match[1],)) for path, match in matches if match is not None]
    if unlabelled and not images:
        raise DataError(f"{split.path}: nothing gives the classes of its {len(unlabelled):,} files "
                        f"({unlabelled[0].name}, …), so they cannot be trained or evaluated on; predict them: "
                        f"voc-predict --run RUN {split.path} --csv predictions.csv")
    problems += [f"{path}: its name has no class, as cat.0.jpg does; rename it or move it away" for path in unlabelled]
    return images, split.other_files


def _refuse_images_beside_folders(entries: Entries) -> None:
    if entries.folders and entries.images:
        raise DataError(f"{entries.images[0]}: is a picture beside folders ({entries.folders[0].name}, …), so its "
                        "class is unknown; move it into one of them")


def walk(folder: Path) -> Iterator[str]:
    """The visible files in a folder and below, sorted; links are followed, and each folder is read once."""
    seen = set()
    for parent, folders, names in os.walk(folder, onerror=_unreadable, followlinks=True):
        real = os.path.realpath(parent)
        folders[:] = [] if real in seen else sorted(name for name in folders if not _is_hidden(name))
        if real not in seen:
            yield from (os.path.join(parent, name) for name in sorted(names) if not _is_hidden(name))
        seen.add(real)


def _unreadable(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}); {LOOK}")


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in IGNORED_NAMES
