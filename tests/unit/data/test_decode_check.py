"""Decoding every picture of a list: what cannot be decoded is named, equal files get equal digests."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc_cls.data import check as check_module
from voc_cls.data.check import decode_all
from voc_cls.errors import DataError


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


@pytest.mark.parametrize("large", [check_module.LARGE, 767])
def test_what_cannot_be_decoded_is_named_and_only_equal_files_have_the_same_digest(
        pictures: list[Path], large: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(check_module, "LARGE", large)
    outcomes = list(decode_all(pictures))
    problems = {number: str(outcome) for number, outcome in enumerate(outcomes) if isinstance(outcome, DataError)}
    assert list(problems) == [20, 30, 35]
    for number, found in ((20, "Invalid JPEG data"), (30, "is not a JPEG, PNG, BMP"), (35, "No such file")):
        assert problems[number].startswith(f"{pictures[number]}: ")
        assert found in problems[number]
    digests = [outcome[0] if isinstance(outcome, tuple) else None for outcome in outcomes]
    assert digests[3] == digests[7]
    assert len({*digests} - {None}) == 40 - len(problems) - 1


def test_names_that_are_not_utf8_are_read_too(tmp_path: Path):
    path = tmp_path / b"h\xe4user.png".decode("utf-8", "surrogateescape")
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(path)
    assert isinstance(next(decode_all([path])), tuple)
