"""What a data set holds as found on disk, split by split: what `voc-data check` and `voc-data stats` look at."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.data.load import scan_dataset, splits_of
from voc_cls.data.readers.annotation import VocObject
from voc_cls.data.readers.folder import has_classes
from voc_cls.data.readers.split_scan import raise_first
from voc_cls.data.readers.voc import open_devkit, scan_split
from voc_cls.errors import DataError, VocError
from voc_cls.image_header import ImageHeader


@dataclass(frozen=True)
class Found:
    """A split: its pictures that are in order, with their headers and, in VOC, their annotated objects."""

    split: str
    dataset: Dataset
    headers: tuple[ImageHeader, ...]
    objects: tuple[tuple[VocObject, ...], ...] | None = None


@dataclass(frozen=True)
class Survey:
    """A data set of the kind `data`. `problems`: one sentence each, with file and, in lists and annotations, line."""

    data: str
    root: Path
    whole: bool
    """Whether all splits were asked for."""
    splits: tuple[str, ...]
    """Those that were looked for; what could not be read is among the problems and not in `found`."""
    found: tuple[Found, ...]
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last part of the root, such as "VOC2007"."""
        return self.root.resolve().name

    def check(self) -> None:
        """DataError with the first problem, which also says how many more there are."""
        raise_first(self.problems)


def survey(data: str, root: Path, split: str | None = None) -> Survey:
    """Reads one split of the data set, or all that say their classes, with the pictures' headers; nothing is decoded.

    DataError if `root` is no data set of this kind.
    """
    splits = tuple(labelled(data, root)) if split is None else (split,)
    look = _voc(root) if data == "voc" else _other(data, root)
    found, problems = [], []
    for name in splits:
        try:
            seen, wrong = look(name)
        except DataError as error:
            problems.append(str(error))
            continue
        found.append(seen)
        problems += wrong
    return Survey(data, root, split is None, splits, tuple(found), tuple(dict.fromkeys(problems)))


def labelled(data: str, root: Path) -> list[str]:
    """The splits but for folders of pictures without classes, as the test pictures of Dogs vs. Cats are."""
    return [split for split in splits_of(data, root) if data != "folder" or has_classes(root, split)]


@contextmanager
def surveyed_meanwhile(data: str, root: Path, split: str | None = None) -> Iterator[Callable[[], Survey]]:
    """`survey` in a process of its own, while this one does something else, such as importing TensorFlow.

    Yields what waits for its outcome. Worth it from some thousand VOC pictures on: 0.2 ms each go into annotations.
    """
    splits_of(data, root)  # whether it is a data set at all is told at once
    receiving, sending = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_send_survey, args=(sending, data, root, split),
                                                           daemon=True)
    process.start()
    sending.close()

    def outcome() -> Survey:
        try:
            found: Survey | VocError = receiving.recv()
        except EOFError:  # it ended too early: whatever hindered it is told better from here
            return survey(data, root, split)
        if isinstance(found, VocError):
            raise found
        return found

    try:
        yield outcome
    finally:
        process.kill()
        process.join()
        receiving.close()


def _send_survey(connection: Connection, data: str, root: Path, split: str | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches it too, and there is nothing to say
    try:
        connection.send(survey(data, root, split))
    except VocError as error:
        connection.send(error)


Look = Callable[[str], tuple[Found, tuple[str, ...]]]


def _voc(root: Path) -> Look:
    devkit = open_devkit(root)

    def look(split: str) -> tuple[Found, tuple[str, ...]]:
        scan = scan_split(devkit, split)
        return Found(split, scan.dataset(DifficultPolicy.IGNORE), tuple(example.header for example in scan.examples),
                     tuple(example.annotation.objects for example in scan.examples)), scan.problems

    return look


def _other(data: str, root: Path) -> Look:
    def look(split: str) -> tuple[Found, tuple[str, ...]]:
        scanned = scan_dataset(data, root, split)
        return Found(split, scanned.dataset, scanned.headers), scanned.problems

    return look
