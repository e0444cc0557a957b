"""Trees of pictures whose folders, or whose names, say the class: Dogs vs. Cats, Plant Seedlings, a part of ImageNet.

    root/cat/…  root/dog/…                 one split, `all`
    root/train/cat/…  root/test/cat/…      the splits are the folders
    root/cat.0.jpg  root/train/dog.1.jpg   flat: the class is what stands before the first dot, of two or more

What is what is told from names alone. The folders in `root` are splits where all of them are named like one (train,
val, test, eval, dev and their kin, a number after it or not: test1), and classes where none is; both together are an
error. A folder that holds folders has classes, one without is flat; pictures and folders side by side are an error.
Below a class, folders are walked at any depth and links followed. All files in a class, or in a flat folder, must be
pictures; hidden files, Thumbs.db and their kin are left out, and so is what lies beside folders and is no picture. The
classes are those of all splits together, sorted by name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from voc_cls.data.dataset import Task
from voc_cls.data.readers.class_names import class_problem
from voc_cls.data.readers.split_scan import Labelled, Scanned, scanned
from voc_cls.errors import DataError

ALL = "all"
SPLIT = re.compile(r"(train|training|trainval|val|valid|validation|dev|eval|test|testing)[-_]?\d*", re.IGNORECASE)
FLAT = re.compile(r"([^.]+)\..*\.[^.]+")
"""cat.0.jpg, as in Dogs vs. Cats (https://www.kaggle.com/c/dogs-vs-cats/data)."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
"""What a picture beside folders is told by; elsewhere every file is opened."""
LEFT_OUT = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir")
"""What file managers leave behind, beside hidden files."""
USAGE = "--data folder takes class folders (root/cat/…), such folders in train and test, or names like cat.0.jpg"


def splits_of(root: Path) -> tuple[str, ...]:
    """The splits that exist: folders, or `all`. DataError where `root` can be read in two ways, or holds nothing."""
    return tuple(_layout(root))


def has_classes(root: Path, split: str) -> bool:
    """Whether something says the classes in a split; nothing does in the test folders of competitions."""
    return bool(_class_names(_layout(root)[split]))


def scan_folder(root: Path, split: str) -> Scanned:
    """Reads a split and the headers of its pictures.

    Raises DataError where there is no such split, `root` can be read in two ways, nothing says the classes, or links
    lead round in a circle.
    """
    layout = _layout(root)
    if split not in layout:
        raise DataError(f"{root}: there is no split {split!r}; the splits are: {', '.join(layout)}")
    classes = sorted({name for folder in layout.values() for name in _class_names(folder)})
    problems = [problem for name in classes if (problem := class_problem(name))]
    if problems:
        raise DataError(f"{root}: {problems[0]}")
    found = _entries(layout[split])
    pictures = _trees(found, problems) if found.folders else _flat(found, problems)
    if not classes or not (pictures or problems):
        raise DataError(f"{layout[split]}: holds no pictures; {USAGE}")
    good = _once(pictures, problems)
    return scanned(f"{root.resolve().name} {split}", Task.SINGLE_LABEL, classes, good, problems)


@dataclass(frozen=True)
class Entries:
    """What counts in a folder, sorted by name."""

    path: Path
    folders: tuple[Path, ...]
    files: tuple[Path, ...]


def _entries(path: Path) -> Entries:
    try:
        names = sorted(name for name in os.listdir(path)
                       if not name.startswith(".") and name.lower() not in LEFT_OUT)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    folders = tuple(path / name for name in names if os.path.isdir(path / name))
    return Entries(path, folders, tuple(sorted({path / name for name in names} - set(folders))))


def _layout(root: Path) -> dict[str, Path]:
    """Split → its folder."""
    if not root.is_dir():
        raise DataError(f"{root}: {'is a file' if root.exists() else 'no such folder'}; {USAGE}")
    entries = _entries(root)
    if not entries.folders and not entries.files:
        raise DataError(f"{root}: is empty; {USAGE}")
    splits = {path.name: path for path in entries.folders if SPLIT.fullmatch(path.name)}
    others = [path.name for path in entries.folders if path.name not in splits]
    if splits and others:
        raise DataError(f"{root}: has the folders {', '.join(splits)}, which are named like splits, beside "
                        f"{', '.join(others[:8])}, which are not; move either away, or rename a class")
    _refuse_pictures_beside_folders(entries)
    return splits or {ALL: root}


def _class_names(split: Path) -> set[str]:
    entries = _entries(split)
    if entries.folders:
        return {path.name for path in entries.folders}
    return {match[1] for path in entries.files if (match := FLAT.fullmatch(path.name))}


def _trees(split: Entries, problems: list[str]) -> list[Labelled]:
    """The pictures of a folder of class folders."""
    _refuse_pictures_beside_folders(split)
    pictures = []
    for folder in split.folders:
        files = list(_walk(folder, (os.path.realpath(split.path),), set()))
        problems += [] if files else [f"{folder}: has no pictures; a class needs some, or remove the folder"]
        pictures += [Labelled(path, (folder.name,)) for path in files]
    return pictures


def _flat(split: Entries, problems: list[str]) -> list[Labelled]:
    """The pictures of a folder without folders."""
    pictures, without = [], []
    for path in split.files:
        match = FLAT.fullmatch(path.name)
        if match:
            pictures.append(Labelled(path, (match[1],)))
        else:
            without.append(path)
    if without and not pictures:
        raise DataError(f"{split.path}: nothing says the classes of its {len(without):,} files ({without[0].name}, …), "
                        "so they cannot be trained or evaluated on; predict them: voc-predict --run RUN "
                        f"{split.path} --csv predictions.csv")
    problems += [f"{path}: its name says no class, as cat.0.jpg does; rename it or move it away" for path in without]
    return pictures


def _walk(folder: Path, above: tuple[str, ...], seen: set[str]) -> Iterator[Path]:
    """The files below a class folder, each real folder once; `above`: the real folders that lead here."""
    real = os.path.realpath(folder)
    if any(Path(one).is_relative_to(real) for one in above):
        raise DataError(f"{folder}: is a link that leads back to {real}, so the tree has no end; remove the link")
    if real in seen:
        return
    seen.add(real)
    entries = _entries(folder)
    yield from entries.files
    for below in entries.folders:
        yield from _walk(below, (*above, real), seen)


def _once(pictures: list[Labelled], problems: list[str]) -> list[Labelled]:
    """The pictures whose names can be used, but for those that links put into two classes."""
    seen: dict[str, Labelled] = {}
    good = []
    for picture in pictures:
        before = seen.setdefault(os.path.realpath(picture.path), picture)
        if not _is_utf8(str(picture.path)):
            problems.append(f"{str(picture.path)!r}: its name is not UTF-8; rename it")
        elif before.classes != picture.classes:
            problems.append(f"{picture.path}: is the same file as {before.path}, which is of another class; remove one "
                            "of the two")
        else:
            good.append(picture)
    return good


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _refuse_pictures_beside_folders(entries: Entries) -> None:
    beside = [path for path in entries.files if path.suffix.lower() in PICTURES]
    if entries.folders and beside:
        raise DataError(f"{beside[0]}: is a picture beside folders ({entries.folders[0].name}, …), so nothing says its "
                        "class; move it into one")
