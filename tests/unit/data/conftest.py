"""A small devkit to spoil, and the real one."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from voc_cls.data.readers.split_scan import Box, VocObject
from voc_cls.demo.devkit import write_demo

SHARED = Path(__file__).parents[4] / "shared"
VOC2007_ROOT = Path(os.environ.get("VOC2007_ROOT", SHARED / "voc2007/VOCdevkit/VOC2007"))
VOC_LABELS_DIR = Path(os.environ.get("VOC_LABELS_DIR", SHARED / "voc2007/labels"))


@pytest.fixture(scope="session")
def drawn_devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo devkit of 30 pictures, not to be changed."""
    return write_demo(tmp_path_factory.mktemp("demo"), pictures=30, seed=1)[0]


@pytest.fixture
def devkit(drawn_devkit: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil. 000001 and 000002 are the first two pictures of trainval, 000003 the first of test."""
    return shutil.copytree(drawn_devkit, tmp_path / "VOCdevkit" / "VOC2007")


@pytest.fixture
def real_devkit() -> Path:
    """The genuine VOC2007 pictures, read-only; skips where there are none."""
    if not VOC2007_ROOT.is_dir():
        pytest.skip(f"no {VOC2007_ROOT}: set VOC2007_ROOT")
    return VOC2007_ROOT


@pytest.fixture
def all_objects() -> Callable[[str], list[list[VocObject]]]:
    """`all_objects("voc2007_test")`: the objects of every picture of a complete split; skips where there are none."""

    def read(split: str) -> list[list[VocObject]]:
        path = VOC_LABELS_DIR / f"{split}.json.gz"
        if not path.is_file():
            pytest.skip(f"no {path}: set VOC_LABELS_DIR")
        pictures = json.loads(gzip.decompress(path.read_bytes()))
        return [[VocObject(item["name"], Box(*item["bndbox"]), bool(item["difficult"])) for item in objects]
                for objects in pictures.values()]

    return read
