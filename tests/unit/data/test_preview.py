"""The preview shows what training sees, with labels that can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.dataset import DifficultPolicy
from voc_cls.data.load import read_dataset
from voc_cls.data.pipeline import image_batches
from voc_cls.data.preprocessing import grey_levels
from voc_cls.data.preview import Preview, caption, draw_preview, preview
from voc_cls.errors import DataError
from voc_cls.image_decoder import Preprocessing

NETWORK = Preprocessing(size=64, mean=(123.68, 116.78, 103.94))
CLASSES = ("cat", "dog", "dining table", "person")


def ink(path: Path) -> int:
    """Pixels in the colour of the labels."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        return int((np.asarray(image.convert("RGB")) == (0x1c, 0x27, 0x33)).all(-1).sum())


def shown(targets: list[list[float]]) -> Preview:
    """One picture with a variant for each row of targets after the first."""
    return Preview(("picture.jpg",), np.full((len(targets), 1, 64, 64, 3), 128, np.uint8),
                   np.array(targets, np.float32)[:, None])


def test_the_first_row_are_the_pictures_as_they_are_and_the_others_vary(drawn_devkit: Path):
    dataset = read_dataset("voc", drawn_devkit, "trainval", DifficultPolicy.IGNORE)
    made = preview(dataset, 4, 3, Augmentation(rotation=90.0), NETWORK, seed=1)
    numbers = [[path.name for path in dataset.paths].index(name) for name in made.names]
    assert made.images.shape == (4, 4, 64, 64, 3)
    plain = np.concatenate(list(image_batches([dataset.paths[number] for number in numbers], 4, NETWORK)))
    assert np.array_equal(made.images[0], np.rint(grey_levels(plain, NETWORK)))
    assert np.array_equal(made.targets, np.tile(dataset.targets[numbers], (4, 1, 1)))
    assert all((made.images[0] != made.images[variant]).any() for variant in (1, 2, 3))
    again = preview(dataset, 4, 3, Augmentation(rotation=90.0), NETWORK, seed=1)
    assert np.array_equal(made.images, again.images)


def test_pictures_look_the_same_whatever_the_network_makes_of_their_grey_levels(drawn_devkit: Path):
    dataset = read_dataset("voc", drawn_devkit, "trainval", DifficultPolicy.IGNORE)
    inception = replace(NETWORK, mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
    one, other = (preview(dataset, 2, 1, Augmentation(), network, seed=1) for network in (NETWORK, inception))
    assert np.abs(one.images.astype(int) - other.images).max() <= 1


def test_labels_have_weights_where_they_are_mixed_and_say_what_is_ignored():
    assert caption(np.float32([1, 0, -1, 1]), CLASSES) == ["cat, person,",
                                                           "dining\xa0table\xa0(ignored)"]
    assert caption(np.float32([0.25, 0, 0, 0.75]), CLASSES) == ["person\xa00.75, cat\xa00.25"]
    assert caption(np.float32([0, 0, 0, 0]), CLASSES) == ["no label"]


def test_labels_stand_below_the_variants_where_they_differ_and_else_below_the_picture_alone(tmp_path: Path):
    draw_preview(tmp_path / "alike.png", shown([[1, 0, 0, 0]] * 3), CLASSES, "title", "subtitle")
    draw_preview(tmp_path / "mixed.png", shown([[1, 0, 0, 0], [.5, 0, 0, .5], [.9, .1, 0, 0]]), CLASSES, "title",
                 "subtitle")
    assert 0 < ink(tmp_path / "alike.png") < ink(tmp_path / "mixed.png")


def test_no_text_runs_over_the_edge_however_long(tmp_path: Path):
    made = Preview(("a very long name of a picture that somebody gave.jpg",), np.zeros((2, 1, 8, 8, 3), np.uint8),
                   np.ones((2, 1, 30), np.float32))
    draw_preview(tmp_path / "sheet.png", made, ("a class of many words",) * 30, "title", "--flag 1 " * 30)
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert (pixels[:, -8:] == 255).all()
    assert (pixels[-8:] == 255).all()


def test_a_sheet_that_cannot_be_written_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"none/sheet\.png: cannot be written \(No such file or directory\)"):
        draw_preview(tmp_path / "none" / "sheet.png", shown([[1, 0, 0, 0]] * 2), CLASSES, "title", "subtitle")
