"""Pictures are read when their turn comes, and put into messages that the server takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from voc_cls.client.pictures import PICTURES_PER_CALL, Picture, Unreadable, load, portions

MIB = 2**20


def test_a_message_has_as_many_as_fit_by_number_and_by_size() -> None:
    by_number = [len(portion) for portion in portions([b"x"] * 20, MIB)]
    assert by_number == [PICTURES_PER_CALL, 4]
    assert [len(portion) for portion in portions([bytes(MIB // 3)] * 5, MIB)] == [2, 2, 1]
    assert list(portions([], MIB)) == []


def test_a_picture_keeps_its_position_and_name(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"content")
    (portion,) = portions([b"bytes", tmp_path / "a.jpg"], MIB)
    assert portion == [Picture(0, "picture 0", b"bytes"), Picture(1, f"{tmp_path}/a.jpg", b"content")]


def test_files_are_read_one_portion_at_a_time(tmp_path: Path) -> None:
    def sources() -> Iterator[Path]:
        for number in range(3 * PICTURES_PER_CALL):
            path = tmp_path / f"{number}"
            path.write_bytes(b"x")
            yield path

    portioned = portions(sources(), MIB)
    next(portioned)
    assert len(list(tmp_path.iterdir())) == PICTURES_PER_CALL + 1


def test_what_cannot_be_sent_says_why(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(MIB))
    for path, reason in ((tmp_path / "none", "is not there"), (tmp_path, "is a folder, not a picture"),
                         (Path("/dev/null"), "is no file"), (tmp_path / "large", "has 1.0 MiB, more than the 1 MiB")):
        unreadable = load(7, path, MIB)
        assert isinstance(unreadable, Unreadable)
        assert (unreadable.position, unreadable.error.startswith(f"{path} {reason}")) == (7, True)


def test_a_name_as_text_is_a_mistake_of_the_program() -> None:
    wrong: Any = "a.jpg"
    with pytest.raises(TypeError, match=r"picture 3 is of type str: give a pathlib\.Path"):
        load(3, wrong, MIB)
