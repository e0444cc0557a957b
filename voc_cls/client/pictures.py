"""Pictures to be sent: read when their turn comes, under the name that their caller knows, in portions that fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voc_cls.errors import ClientError

Source = bytes | Path
"""A picture file's bytes, or where it is."""
PICTURES_PER_CALL = 16
"""Enough to fill the server's default batch; a long list is sent in several calls."""
OVERHEAD = 1024
"""Bytes of a message besides its pictures, generously."""


@dataclass(frozen=True)
class Picture:
    """A picture file's content."""

    position: int
    """Among the pictures of its caller, from 0."""
    name: str
    content: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in a message."""
        return len(self.content) + OVERHEAD


@dataclass(frozen=True)
class Unreadable:
    """A picture that was not sent."""

    position: int
    error: str
    """Why: one sentence that names it."""


def load(position: int, source: Source, max_bytes: int) -> Picture | Unreadable:
    """Reads a picture, of which at most `max_bytes` fit into a message."""
    try:
        if isinstance(source, Path):
            _check_file(source)
            picture = Picture(position, str(source), _read(source))
        elif isinstance(source, bytes):
            picture = Picture(position, f"picture {position}", source)
        else:
            raise TypeError(f"picture {position} is of type {type(source).__name__}: give a pathlib.Path, or the bytes "
                            "of a picture file")
        _check_size(picture, max_bytes)
    except ClientError as error:
        return Unreadable(position, str(error))
    return picture


def check_files(sources: Sequence[Source]) -> None:
    """ClientError for the first path that is no file, before anything is read or sent."""
    for source in sources:
        if isinstance(source, Path):
            _check_file(source)


def portions(sources: Iterable[Source], max_bytes: int) -> Iterator[list[Picture | Unreadable]]:
    """The pictures in portions that one message can take, each file read only when its turn comes."""
    portion: list[Picture | Unreadable] = []
    size = 0
    for position, source in enumerate(sources):
        picture = load(position, source, max_bytes)
        added = picture.size if isinstance(picture, Picture) else 0
        if portion and (len(portion) == PICTURES_PER_CALL or size + added > max_bytes):
            yield portion
            portion, size = [], 0
        portion.append(picture)
        size += added
    if portion:
        yield portion


def _check_file(path: Path) -> None:
    if not path.is_file():
        found = "is a folder, not a picture" if path.is_dir() else "is not there" if not path.exists() else "is no file"
        raise ClientError(f"{path} {found}: give the path of a JPEG, PNG, BMP or GIF file")


def _check_size(picture: Picture, max_bytes: int) -> None:
    if picture.size > max_bytes:
        raise ClientError(f"{picture.name} has {len(picture.content) / 2**20:.1f} MiB, more than the "
                          f"{max_bytes / 2**20:g} MiB that a message may have: make it smaller, or raise "
                          "max_message_mb here and --max-message-mb of voc-serve")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from None
