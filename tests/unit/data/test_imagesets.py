"""The lists under ImageSets/Main."""

from __future__ import annotations

from pathlib import Path

import pytest

from voc_cls.data.readers.voc_folders import class_list_problems, read_split_list, split_names
from voc_cls.errors import DataError


def written(folder: Path, content: str | bytes, name: str = "train.txt") -> Path:
    """A list with this content."""
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(path: Path) -> tuple[dict[str, int], list[str]]:
    """(the ids and their lines, the problems)."""
    problems: list[str] = []
    return read_split_list(path, problems), problems


def test_blank_lines_trailing_spaces_crlf_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeff000005  \r\n\r\n2008_000007\t\r\n\n  000009")
    assert read(path) == ({"000005": 1, "2008_000007": 3, "000009": 5}, [])


def test_an_id_that_occurs_twice_is_told_with_both_lines(tmp_path: Path) -> None:
    path = written(tmp_path, "000005\n000007\n\n000005\n")
    assert read(path) == ({"000005": 1, "000007": 2},
                          [f"{path}:4: lists '000005' again, it is on line 1 too; remove one"])


@pytest.mark.parametrize("name", ["../000005", "a\\b", "..", ".", "/etc/passwd", "a\0b"])
def test_an_id_that_is_no_plain_file_name_is_told(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, f"000005\n{name}\n")
    listed, problems = read(path)
    assert listed == {"000005": 1}
    assert problems[0].startswith(f"{path}:2: the id {name!r} is not the plain name of a file")


def test_a_class_list_given_as_a_split_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "000005 -1\n")
    assert "has '000005 -1' where one id is expected" in read(path)[1][0]


@pytest.mark.parametrize("content", ["", "\n\r\n  \n"])
def test_an_empty_split_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"train\.txt:1: is empty; a split lists the ids"):
        read(written(tmp_path, content))


def test_bytes_that_are_not_utf8_are_refused_by_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt:2: holds the byte 0xf6, which is not UTF-8"):
        read(written(tmp_path, b"000005\nd\xf6g\n"))


def test_a_folder_in_place_of_a_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.txt").mkdir()
    with pytest.raises(DataError, match=r"train\.txt: is a folder where a file is expected"):
        read(tmp_path / "train.txt")


SPLIT = Path("train.txt")
LISTED = {"000005": 1, "000007": 2, "000009": 3}


def test_a_class_list_that_agrees_has_no_problems_and_may_list_more_pictures(tmp_path: Path) -> None:
    path = written(tmp_path, "000005 -1\r\n000006  1\n000007  1\n000009  0\n", "dog_train.txt")
    assert class_list_problems(path, SPLIT, LISTED, [-1, 1, 0]) == []


def test_a_class_list_that_says_something_else_is_told_by_line_and_id(tmp_path: Path) -> None:
    path = written(tmp_path, "000005 -1\n000007  0\n000009  1\n", "dog_train.txt")
    problems = class_list_problems(path, SPLIT, LISTED, [-1, 1, 0])
    assert [problem.partition(" (")[0] for problem in problems] == [
        f"{path}:2: says 0 for '000007', its annotation says 1",
        f"{path}:3: says 1 for '000009', its annotation says 0",
    ]


def test_a_list_of_another_tool_may_have_some_pictures_and_need_not_know_of_difficult_ones(tmp_path: Path) -> None:
    path = written(tmp_path, "000005  1\n000007 -1\n", "forklift_train.txt")
    problems = class_list_problems(path, SPLIT, LISTED, [0, 1, -1], complete=False)
    assert [problem.partition(" (")[0] for problem in problems] == [
        f"{path}:2: says -1 for '000007', its annotation says 1"]


def test_columns_tell_the_lists_of_splits_from_those_of_classes(tmp_path: Path) -> None:
    known = {"000005", "IMG 1", "IMG 0"}
    for name, content in (("trainval", "000005\n"), ("train_aug", "000005\n"), ("background_trainval", "000005 -1\n"),
                          ("train_trainval", "000005  1\n"), ("cat_trainval", ""), ("dog_trainval", "nonsense\n"),
                          ("blanks", "IMG 1\nIMG 0\n"), ("gone", "000006\n"), ("empty", "")):
        written(tmp_path, content, f"{name}.txt")
    assert split_names(tmp_path, lambda text: text if text in known else None) == (
        "blanks", "empty", "gone", "train_aug", "trainval")


def test_pictures_missing_and_lines_wrong_in_a_class_list_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "000005 -1\n000005  1\n000007 yes\n000009\n", "dog_train.txt")
    problems = class_list_problems(path, SPLIT, LISTED, [-1, 1, 0])
    assert [problem.partition(";")[0] for problem in problems] == [
        f"{path}:2: lists '000005' again, it is on line 1 too",
        f"{path}:3: has '000007 yes' where an id and 1, 0 or -1 are expected",
        f"{path}:4: has '000009' where an id and 1, 0 or -1 are expected",
        f"{path}:1: does not list '000007', which is on line 2 of train.txt",
        f"{path}:1: does not list '000009', which is on line 3 of train.txt",
    ]
