"""What voc-predict takes out of a folder, and what it says that it left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from voc_cls.cli.predict import picture_files
from voc_cls.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As people have them: capital extensions, other files, hidden ones, subfolders, a link to a folder."""
    for name in ("b.JPG", "a.jpeg", "c.WebP", "notes.txt", "more.txt", "raw.HEIC", "README", ".hidden.jpg",
                 "trip/d.png", "trip/.thumbs/e.png", "trip/f.mov", ".cache/g.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "again").symlink_to(tmp_path / "trip")
    return tmp_path


def test_pictures_are_taken_by_extension_in_any_case_and_the_rest_is_counted(folder: Path):
    files, notes = picture_files([folder])
    assert [file.name for file in files] == ["a.jpeg", "b.JPG", "c.WebP"]
    assert notes == [f"{folder}: left out 1 hidden folder, 2 subfolders, 1 hidden file, 1 file without extension, "
                     "2 .txt files, 1 .heic file; `recursive` includes subfolders"]


def test_subfolders_are_taken_on_request_but_for_hidden_ones_and_links(folder: Path):
    files, notes = picture_files([folder], recursive=True)
    assert [file.name for file in files] == ["a.jpeg", "b.JPG", "c.WebP", "d.png"]
    assert notes == [f"{folder}: left out 2 hidden folders, 1 linked folder, 1 hidden file, 1 file without extension, "
                     "2 .txt files, 1 .heic file, 1 .mov file"]


def test_a_file_that_is_named_is_taken_whatever_its_name_and_a_full_folder_causes_no_note(folder: Path):
    assert picture_files([folder / "notes.txt", folder / ".hidden.jpg"]) == (
        [folder / "notes.txt", folder / ".hidden.jpg"], [])


def test_a_folder_without_pictures_says_what_it_has(folder: Path):
    (folder / "empty").mkdir()
    (folder / "empty" / "a.heic").touch()
    with pytest.raises(UsageError, match=r"without pictures \(\.jpg, .*\.tiff\), but with 1 \.heic file: give one"):
        picture_files([folder / "empty"])
