"""What lies in a model's folder: a version counts once it is complete, and not while it has just failed."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from serving.errors import ServeError
from serving.models.version_folders import VersionFolders


def write(folder: Path, content: str = "graph") -> Path:
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_text(content)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "1")
    return tmp_path


def look(folders: VersionFolders, settled: bool = False) -> None:
    asyncio.run(folders.look(settled))


def test_a_version_is_complete_when_two_looks_saw_the_same(folder: Path) -> None:
    folders = VersionFolders(folder)
    look(folders, settled=True)
    assert (folders.loadable, folders.versions[1].settled) == ([1], True)
    write(folder / "2")
    for file in ("variables.index", "variables.data-00000-of-00001"):
        look(folders)
        assert (folders.loadable, folders.versions[1].settled, folders.versions[2].settled) == ([1, 2], True, False)
        (folder / "2" / "variables" / file).write_text("more of it")
    look(folders)
    assert not folders.versions[2].settled
    look(folders)
    assert folders.versions[2].settled


def test_what_could_not_be_loaded_is_tried_again_when_something_in_it_has_changed(folder: Path) -> None:
    folders = VersionFolders(folder)
    look(folders, settled=True)
    folders.versions[1].failed = True
    look(folders)
    assert (folders.loadable, folders.versions[1].failed) == ([], True)
    os.utime(folder / "1" / "saved_model.pb")
    look(folders)
    assert (folders.loadable, folders.versions[1].failed, folders.versions[1].settled) == ([1], False, False)


def test_a_version_that_has_gone_is_no_longer_known(folder: Path) -> None:
    folders = VersionFolders(folder)
    write(folder / "2")
    look(folders, settled=True)
    folders.versions[1].failed = True
    shutil.rmtree(folder / "1")
    look(folders)
    assert (folders.loadable, list(folders.versions)) == ([2], [2])


def test_a_folder_that_cannot_be_read_leaves_what_was_known(folder: Path) -> None:
    folders = VersionFolders(folder)
    look(folders, settled=True)
    shutil.rmtree(folder)
    with pytest.raises(ServeError, match="is not there"):
        look(folders)
    assert (folders.loadable, folders.versions[1].settled) == ([1], True)
