"""The contact sheet shows every picture with its labels, and is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc_cls.client import Prediction, ScoredLabel
from voc_cls.errors import DataError
from voc_cls.evaluation import sheet
from voc_cls.evaluation.sheet import draw_sheet

GREEN, GREY = (0x1f, 0x8a, 0x5b), (0xae, 0xb8, 0xc2)


def prediction(*probabilities: float, label: str = "cat") -> Prediction:
    return Prediction(tuple(ScoredLabel(label, probability) for probability in probabilities), "voc", 3)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """A wide, a tall, a grey and a CMYK one; one name would be mathematics to matplotlib."""
    made = [("wide.png", "RGB", (300, 100)), ("tall.png", "RGB", (100, 300)), ("$grey_{.png", "L", (200, 200)),
            ("cmyk.jpg", "CMYK", (200, 150))]
    for name, mode, size in made:
        Image.new(mode, size, "red" if mode != "L" else 120).save(tmp_path / name)
    return [tmp_path / name for name, _, _ in made]


def pixels(path: Path, colour: tuple[int, int, int]) -> int:
    with Image.open(path) as image:
        return int((np.asarray(image.convert("RGB")) == colour).all(-1).sum())


def test_bars_are_as_long_as_the_probabilities_and_green_from_the_threshold_on(pictures: list[Path],
                                                                              tmp_path: Path) -> None:
    drawn = tmp_path / "out" / "sheet.png"
    drawn.parent.mkdir()
    assert draw_sheet(drawn, pictures, [prediction(0.8, 0.5, 0.25)] * 4, threshold=0.5) == 4
    ratio = pixels(drawn, GREEN) / pixels(drawn, GREY)
    assert ratio == pytest.approx((0.8 + 0.5) / 0.25, rel=0.15)  # the edges are antialiased
    assert pixels(drawn, (255, 0, 0)) > 10000
    assert os.listdir(drawn.parent) == ["sheet.png"]


def test_long_names_and_labels_are_shortened_in_the_middle(tmp_path: Path) -> None:
    picture = tmp_path / f"{'a long name ' * 9}.png"
    Image.new("RGB", (50, 50)).save(picture)
    draw_sheet(tmp_path / "sheet.png", [picture], [prediction(1, label="a" * 50)], threshold=0.5)
    with Image.open(tmp_path / "sheet.png") as image:
        edge = np.asarray(image.convert("RGB"))[:, :20]
    assert (edge == 255).all()


def test_more_pictures_than_a_viewer_takes_are_cut_off(pictures: list[Path], tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "MOST_PICTURES", 2)
    assert draw_sheet(tmp_path / "sheet.png", pictures, [prediction(0.5)] * 4, threshold=0.5) == 2


def test_what_cannot_be_read_or_written_is_named(pictures: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg cannot be drawn"):
        draw_sheet(tmp_path / "sheet.png", [broken], [prediction(0.5)], threshold=0.5)
    with pytest.raises(DataError, match=r"none/sheet\.png cannot be written: No such file or directory"):
        draw_sheet(tmp_path / "none" / "sheet.png", pictures[:1], [prediction(0.5)], threshold=0.5)
    assert not (tmp_path / "sheet.png").exists()
