"""A whole data set as found on disk, split by split: the input of `voc-data check` and `voc-data stats`."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from voc_cls.data.dataset import DataKind
from voc_cls.data.load import Roots, checked_roots, open_reader, splits_of
from voc_cls.data.readers.split_scan import SplitScan, raise_first
from voc_cls.errors import DataError


@dataclass(frozen=True)
class DatasetScan:
    """All splits that were read, and `problems`: one sentence each, with file and, in lists and annotations, line."""

    kind: DataKind
    roots: tuple[Path, ...]
    whole: bool
    """Whether all splits were requested."""
    requested: tuple[str, ...]
    """The splits that were requested; one that cannot be read is among the problems and not in `splits`."""
    splits: tuple[SplitScan, ...]
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        """The last part of each root, such as "VOC2007"."""
        return "+".join(root.resolve().name for root in self.roots)

    @property
    def where(self) -> str:
        """The roots, for the beginning of a sentence."""
        return ", ".join(map(str, self.roots))

    def check(self) -> None:
        """DataError with the first problem and the number of the others."""
        raise_first(self.problems)


def scan_dataset(kind: DataKind, root: Roots, split: str | None = None, classes: tuple[str, ...] = ()) -> DatasetScan:
    """Reads labels and image headers; decodes nothing.

    Args:
        kind: of data set.
        root: where it is; voc takes several.
        split: the only split to read; by default all that have classes.
        classes: those to read; by default all.

    Raises:
        DataError: `root` is not a data set of this kind.
    """
    reader = open_reader(kind, root)
    labelled = reader.labelled_splits  # DataError where there is no such data set at all
    requested = labelled if split is None else (split,)
    scans, problems = [], []
    for name in requested:
        try:
            scan = reader.scan(name, classes=classes)
        except DataError as error:
            problems.append(str(error))
        else:
            scans.append(scan)
            problems += scan.problems
    return DatasetScan(kind, reader.roots, split is None, requested, tuple(scans), tuple(dict.fromkeys(problems)))


@contextmanager
def scan_in_background(kind: DataKind, root: Roots, split: str | None = None, classes: tuple[str, ...] = ()
                       ) -> Iterator[Callable[[], DatasetScan]]:
    """`scan_dataset` in a process of its own, while this one does something else, such as importing TensorFlow.

    Yields a function that waits for the result. Worth it from some thousand VOC images on: annotations take 0.2 ms
    each.
    """
    roots = checked_roots(kind, root)
    splits_of(kind, roots)  # a root that is wrong is reported at once
    spawn = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
    with ProcessPoolExecutor(1, spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        future = pool.submit(scan_dataset, kind, roots, split, classes)

        def wait() -> DatasetScan:
            try:
                return future.result()
            except BrokenProcessPool:
                raise DataError(f"{roots[0]}: the process that read the labels was killed, perhaps for want of memory; "
                                "close other programs, or check one `split` at a time") from None

        try:
            yield wait
        except BaseException:
            for process in pool._processes.values():  # no public way before Python 3.14's kill_workers
                process.kill()
            raise
