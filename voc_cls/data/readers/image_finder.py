"""Where the images of a list are: its entries may lack the extension or the folder, as those of Kaggle's lists do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from unicodedata import normalize

from voc_cls.data.readers.split_scan import is_split_name, split_for
from voc_cls.errors import DataError
from voc_cls.image_header import IMAGE_SUFFIXES

FOLDERS = ("images", "imgs", "img", "JPEGImages", "data")
"""Names of a folder for the images of all splits."""
ABOVE = 3
"""Folders above the list to which its paths may be relative."""


class ImageFinder:
    """Finds the images of one list.

    Looks beside the list; beside it and one level up in folders whose names begin with the same word (train.csv:
    train_images) or are among FOLDERS; in the only other folder beside it; and takes paths as relative to the
    folders above.
    """

    def __init__(self, folder: Path, split: str) -> None:
        """folder: of the list; split: which images it lists."""
        self._folder, self._split = folder, split
        self._names: dict[Path, dict[str, list[str]]] = {}
        self._found: dict[Path, None] = {}

    def find(self, name: str) -> Path:
        """The image, or where it should be if there is none; DataError where several could be meant or none."""
        if "\0" in name:
            raise DataError(f"{name!r} is no path; it holds a NUL character, remove it")
        direct = self._folder / name
        if os.path.exists(direct):
            return direct
        above, _, base = name.replace("\\", "/").rpartition("/")
        base = normalize("NFC", base)
        for place in (*self._found, *self._places):  # where others were, first
            images = self._images(place / above).get(base, [])
            if len(images) > 1:
                raise DataError(f"{name!r} could be {' or '.join(images)} in {place / above}; write its extension too")
            if images:
                self._found[place] = None
                return place / above / images[0]
        return next(iter(self._found), self._folder) / name

    def warnings(self) -> list[str]:
        """A sentence about each other folder from which images are taken, the same for all lists of the folder."""
        return [f"{self._folder}: pictures are taken from {place}" for place in self._found if place != self._folder]

    @cached_property
    def _places(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self._likely_places()))

    def _likely_places(self) -> Iterator[Path]:
        yield self._folder
        word = re.split(r"[\W_]", self._split.lower())[0]
        for base in (self._folder, self._folder.absolute().parent):
            folders = [base / name for name in _names(base) if os.path.isdir(base / name)]
            alike = [path for path in folders if re.split(r"[\W_]", path.name.lower())[0] == word]
            yield from (*alike, *(path / path.name for path in alike))  # train/train: an archive unpacked into a folder
            if not is_split_name(self._split):  # labels.csv beside train
                yield from (path for path in folders if split_for("train", [path.name]))
            yield from (base / name / self._split for name in FOLDERS)
            yield from (base / name for name in FOLDERS)
        others = [path for path in map(self._folder.joinpath, _names(self._folder)) if os.path.isdir(path)
                  and not is_split_name(path.name) and not path.name.startswith((".", "_"))]
        if len(others) == 1:
            yield from (others[0], others[0] / others[0].name)
        yield from self._folder.absolute().parents[:ABOVE]

    def _images(self, folder: Path) -> dict[str, list[str]]:
        """Name, with and without extension → the files of a folder that have it."""
        if folder not in self._names:
            files = _names(folder)
            names = self._names.setdefault(folder, {})
            for stem, suffix in map(os.path.splitext, files):
                if suffix.lower() in IMAGE_SUFFIXES:
                    names.setdefault(normalize("NFC", stem), []).append(stem + suffix)
            names.update({normalize("NFC", name): [name] for name in files})
        return self._names[folder]


def _names(folder: Path) -> list[str]:
    """What a folder has, shorter names first; nothing where it cannot be read."""
    try:
        return sorted(os.listdir(folder), key=lambda name: (len(name), name))
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return []
