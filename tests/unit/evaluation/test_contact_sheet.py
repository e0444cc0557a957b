"""The contact sheet shows every picture with its labels, and is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import DataError
from voc_cls.evaluation import contact_sheet
from voc_cls.evaluation.contact_sheet import draw_samples, draw_sheet
from voc_cls.prediction import Prediction, ScoredLabel

pytestmark = pytest.mark.slow  # takes seconds; `make test-fast` leaves it out

GREEN, GREY, RED = (0x1f, 0x8a, 0x5b), (0xae, 0xb8, 0xc2), (0xb3, 0x37, 0x2f)


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


def test_of_one_class_a_picture_the_most_probable_is_green_and_red_where_it_is_wrong(pictures: list[Path],
                                                                                    tmp_path: Path) -> None:
    made = [Prediction((ScoredLabel("cat", 0.4), ScoredLabel("dog", 0.35)), "voc", activation="softmax")] * 4
    draw_sheet(tmp_path / "unknown.png", pictures, made)
    draw_sheet(tmp_path / "known.png", pictures, made, truths=[frozenset({"dog"}), *[frozenset({"cat"})] * 3])
    assert pixels(tmp_path / "unknown.png", RED) == 0
    assert pixels(tmp_path / "known.png", RED) == pytest.approx(pixels(tmp_path / "known.png", GREEN) / 3, rel=0.05)
    assert pixels(tmp_path / "known.png", GREY) == pixels(tmp_path / "unknown.png", GREY) > 0


def test_a_picture_of_few_pixels_is_drawn_as_squares(tmp_path: Path) -> None:
    checks = np.indices((8, 8)).sum(0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(tmp_path / "small.png")
    draw_sheet(tmp_path / "sheet.png", [tmp_path / "small.png"], [prediction(0.5)])
    assert pixels(tmp_path / "sheet.png", (0, 0, 0)) > 30000  # half of the picture; blurred, it would be grey


def test_a_sheet_of_samples_has_so_many_pictures_and_the_same_ones_for_the_same_seed(tmp_path: Path) -> None:
    paths = tuple(tmp_path / f"{number}.png" for number in range(30))
    for number, path in enumerate(paths):
        Image.new("RGB", (32, 32), (255, 0, number)).save(path)
    labels = np.eye(3, dtype=np.float32)[np.arange(30) % 3]
    dataset = Dataset("made", ("cat", "dog", "cow"), paths, labels, np.zeros((30, 3), bool), task=Task.SINGLE_LABEL)
    for name, seed, number in (("a", 0, 10), ("again", 0, 10), ("other", 1, 10), ("all", 0, 99)):
        draw_samples(tmp_path / f"{name}.png", dataset, 0.9 * labels + 0.05, "cifar", number, seed)
    one, again, other = ((tmp_path / f"{name}.png").read_bytes() for name in ("a", "again", "other"))
    assert one == again != other
    assert pixels(tmp_path / "a.png", GREEN) * 3 == pytest.approx(pixels(tmp_path / "all.png", GREEN), rel=0.03)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 2 * image.height  # ten are two rows of five


def test_long_names_and_labels_are_shortened_in_the_middle(tmp_path: Path) -> None:
    picture = tmp_path / f"{'a long name ' * 9}.png"
    Image.new("RGB", (50, 50)).save(picture)
    draw_sheet(tmp_path / "sheet.png", [picture], [prediction(1, label="a" * 50)], threshold=0.5)
    with Image.open(tmp_path / "sheet.png") as image:
        edge = np.asarray(image.convert("RGB"))[:, :20]
    assert (edge == 255).all()


def test_class_names_in_any_script_are_drawn_without_warnings(pictures: list[Path], tmp_path: Path) -> None:
    names = ("猫", "狗的名字很长很长很长很长", "قط", "बिल्ली", "แมว", "🐱", "Köter", "ネコ")
    labels = tuple(ScoredLabel(name, 0.9) for name in names)
    draw_sheet(tmp_path / "sheet.png", pictures[:1], [Prediction(labels, "模型", 3)], truths=[frozenset({"猫", "แมว"})])
    assert pixels(tmp_path / "sheet.png", GREEN) + pixels(tmp_path / "sheet.png", RED) > 1000


def test_more_pictures_than_a_viewer_takes_are_cut_off(pictures: list[Path], tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contact_sheet, "MOST_PICTURES", 2)
    assert draw_sheet(tmp_path / "sheet.png", pictures, [prediction(0.5)] * 4, threshold=0.5) == 2


def test_what_cannot_be_read_or_written_is_named(pictures: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg cannot be drawn"):
        draw_sheet(tmp_path / "sheet.png", [broken], [prediction(0.5)], threshold=0.5)
    with pytest.raises(DataError, match=r"none/sheet\.png: cannot be written \(No such file or directory\)"):
        draw_sheet(tmp_path / "none" / "sheet.png", pictures[:1], [prediction(0.5)], threshold=0.5)
    assert not (tmp_path / "sheet.png").exists()
