"""Decoding every picture of a list: what cannot be decoded is named, equal files get equal fingerprints."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc_cls.data import check as check_module
from voc_cls.data.check import Decoded, decode_all


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Forty small JPEGs; picture 7 is a copy of picture 3, 20 is garbled, 30 is no picture, 35 has gone."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.jpg" for number in range(40)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).save(path)
    shutil.copy(paths[3], paths[7])
    paths[20].write_bytes(paths[20].read_bytes().replace(b"\xff\xda", b"\xff\xe5"))
    paths[30].write_text("<html>")
    paths[35].unlink()
    return paths


def in_order(paths: list[Path], pixels: int = 768) -> list[Decoded]:
    return sorted(decode_all(paths, [pixels] * len(paths)), key=lambda decoded: decoded.number)


@pytest.mark.parametrize("pixels", [768, check_module.LARGE + 1])
def test_every_picture_is_told_once_and_what_is_wrong_with_it(pictures: list[Path], pixels: int):
    outcomes = in_order(pictures, pixels)
    assert [outcome.number for outcome in outcomes] == list(range(40))
    assert {outcome.number for outcome in outcomes if outcome.problem} == {20, 30, 35}
    for number, found in ((20, "Invalid JPEG data"), (30, "Unknown image file format"), (35, "No such file")):
        assert str(outcomes[number].problem).startswith(f"{pictures[number]}: cannot be decoded (")
        assert found in str(outcomes[number].problem)


def test_only_equal_files_have_the_same_fingerprint(pictures: list[Path]):
    fingerprints = [outcome.fingerprint for outcome in in_order(pictures) if outcome.problem is None]
    assert len(set(fingerprints)) == len(fingerprints) - 1
    assert fingerprints[3] == fingerprints[7]


def test_names_that_are_not_utf8_are_read_too(tmp_path: Path):
    path = tmp_path / b"h\xe4user.png".decode("utf-8", "surrogateescape")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(path)
    assert [outcome.problem for outcome in in_order([path])] == [None]
