"""The versions of a model are found on disk; for anything else the error says what to pass instead."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.errors import ServeError
from serving.models.version_folders import VersionFolders, read_model_folder
from voc_cls.model_metadata import version_number


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """models/voc/{1,9,10} and some other things."""
    for name in ("1", "9", "10", "012", "007", "07", "tmp-11", ".aside-3"):
        (tmp_path / "models" / "voc" / name).mkdir(parents=True)
    (tmp_path / "models" / "voc" / "README").write_text("")
    (tmp_path / "models" / "voc" / "10" / "saved_model.pb").write_bytes(b"")
    return tmp_path / "models"


def test_versions_are_sorted_as_numbers_and_other_names_are_noted(models: Path) -> None:
    folder = read_model_folder(models / "voc")
    assert tuple(folder.versions) == (1, 7, 9, 10, 12)
    assert folder.others == ("README", "tmp-11")
    assert folder.versions[10] == models / "voc" / "10"
    assert folder.versions[12] == models / "voc" / "012"


def test_of_two_folders_of_one_version_the_shorter_name_is_taken_and_the_other_told(
        models: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_model_folder(models / "voc").versions[7] == models / "voc" / "07"  # as TensorFlow Serving
    folders = VersionFolders(models / "voc")
    for _ in range(2):
        asyncio.run(folders.look(settled=True))
    assert [record.getMessage() for record in caplog.records] == [
        f"{models}/voc/007 is ignored, as {models}/voc/07 is the same version: remove one of them"]


@pytest.mark.parametrize("name", ["", "-1", "+1", "1.0", " 1", "1_0", "1e3", "v1", "²", "٣", str(2**63)])
def test_a_version_is_a_whole_number_in_digits(name: str) -> None:
    assert version_number(name) is None


@pytest.mark.parametrize(("name", "number"), [("0", 0), ("000", 0), ("7", 7), ("007", 7), ("010", 10),
                                              (f"00{2**63 - 1}", 2**63 - 1)])
def test_zeros_in_front_change_no_version(name: str, number: int) -> None:
    assert version_number(name) == number


def message(path: Path) -> str:
    with pytest.raises(ServeError) as error:
        read_model_folder(path)
    assert str(path) in str(error.value)
    return str(error.value)


def test_a_version_folder_is_told_from_the_folder_above_it(models: Path) -> None:
    assert f"is one version of a model: pass the folder above it, {models}/voc" in message(models / "voc" / "10")


def test_a_saved_model_without_a_version_is_told_where_to_move(tmp_path: Path) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    assert f"move it to {tmp_path}/saved/1" in message(tmp_path / "saved")


def test_a_folder_of_models_names_them(models: Path) -> None:
    assert message(models).endswith(f"holds models, not the versions of one: pass {models}/voc")


def test_a_run_folder_is_told_to_be_exported(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    assert f"voc-export {tmp_path} models/NAME" in message(tmp_path)


def test_empty_missing_and_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "things").mkdir(parents=True)
    assert "is not there: pass the folder that voc-export wrote" in message(tmp_path / "none")
    assert "is a file: pass the folder that voc-export wrote" in message(tmp_path / "file")
    assert "nothing: export one with voc-export" in message(tmp_path / "empty")
    assert "only things: export one with voc-export" in message(tmp_path / "other")
