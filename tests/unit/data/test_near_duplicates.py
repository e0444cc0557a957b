"""Images in two splits that look alike: what is found, what is not, and that it takes little time and memory."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from voc_cls.data import duplicates
from voc_cls.data.check import check_dataset
from voc_cls.data.dataset import Dataset
from voc_cls.data.duplicates import find_near_duplicates, perceptual_hash
from voc_cls.data.load import scan_dataset
from voc_cls.data.readers.split_scan import SplitScan


def scene(seed: int) -> Image.Image:
    """A picture with shapes of all sizes, as photographs have."""
    random = np.random.default_rng(seed)
    layers = [Image.fromarray(random.integers(0, 256, (side, side, 3), np.uint8)).resize((320, 240), Image.BICUBIC)
              for side in (4, 8, 16, 32)]
    return Image.fromarray(np.mean([np.asarray(layer, np.float32) for layer in layers], axis=0).astype(np.uint8))


def split(name: str, paths: list[Path]) -> SplitScan:
    labels = np.ones((len(paths), 1), np.float32)
    return SplitScan(name, Dataset(name, ("cat",), tuple(paths), labels, np.zeros_like(labels, bool)), ())


def distance(first: Image.Image, second: Image.Image) -> int:
    bits = [perceptual_hash(np.asarray(image)) for image in (first, second)]
    assert bits[0] is not None
    assert bits[1] is not None
    return int((bits[0] != bits[1]).sum())


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Six pictures to train on, six to test on; two of these are made of training pictures, a third is a copy."""
    for number in range(9):
        scene(number).save(tmp_path / f"{number}.png")
    scene(0).save(tmp_path / "encoded.jpg", quality=40)
    scene(1).resize((200, 170)).save(tmp_path / "scaled.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "2.png").read_bytes())
    parts = {"train": [f"{number}.png" for number in range(6)],
             "test": [*(f"{number}.png" for number in range(6, 9)), "encoded.jpg", "scaled.png", "copy.png"]}
    for name, files in parts.items():
        (tmp_path / f"{name}.csv").write_text("path,class\n" + "".join(f"{file},{file[0]}\n" for file in files))
    return tmp_path


def test_variants_in_two_splits_are_warned_of_by_both_names_and_copies_are_problems_as_ever(lists: Path):
    check = check_dataset(scan_dataset("csv", lists))
    alike = [warning for warning in check.warnings if "looks like" in warning]
    assert len(alike) == 2
    for warning, first, second in zip(sorted(alike), ("encoded.jpg", "scaled.png"), ("0.png", "1.png"), strict=True):
        assert warning.startswith(f"{lists}/{first}: in test, looks like {lists}/{second} in train (")
    assert any("copy.png: in test, is byte for byte" in problem for problem in check.problems)


def test_in_one_split_nothing_is_compared(lists: Path):
    (lists / "test.csv").rename(lists / "train_1.csv")  # folds share pictures with the whole
    assert not any("looks like" in warning for warning in check_dataset(scan_dataset("csv", lists)).warnings)


def test_what_is_made_of_a_picture_is_nearer_than_any_other_picture():
    for seed in range(5):
        image = scene(seed)
        assert distance(image, image.resize((64, 48))) <= duplicates.THRESHOLD
        assert distance(image, image.convert("L").convert("RGB")) <= duplicates.THRESHOLD
        assert distance(image, scene(seed + 100)) > 2 * duplicates.THRESHOLD


def test_pictures_of_one_colour_are_not_like_each_other():
    for grey in (0, 128, 255):
        assert perceptual_hash(np.full((20, 30, 3), grey, np.uint8)) is None


def test_variants_by_roboflows_names_in_two_splits_are_warned_of_once():
    train = split("train", [Path(f"train/{name}_jpg.rf.0a.jpg") for name in "abc"])
    test = split("test", [Path(f"test/{name}_jpg.rf.1b.jpg") for name in "bcd"])
    (warning,) = find_near_duplicates([train, test], {}, {})
    assert warning.startswith("train/b_jpg.rf.0a.jpg: in train, is by its name (.rf.) a variant of the same picture as "
                              "test/b_jpg.rf.1b.jpg in test; 2 pictures are in both splits so")


def hashes_of(count: int) -> tuple[list[Path], dict[Path, npt.NDArray[np.bool_]]]:
    random = np.random.default_rng(0)
    paths = [Path(f"{number}.jpg") for number in range(count)]
    return paths, dict(zip(paths, random.random((count, 64)) < 0.5, strict=True))


def test_of_many_pairs_the_nearest_are_named_and_the_others_counted():
    paths, hashes = hashes_of(60)
    for number in range(30):
        hashes[paths[30 + number]] = hashes[paths[number]].copy()
        hashes[paths[30 + number]][:number % 3] ^= True
    found = find_near_duplicates([split("train", paths[:30]), split("test", paths[30:])],
                                 {path: path.name for path in paths}, hashes)
    assert len(found) == duplicates.SHOWN_PAIRS + 1
    assert "(0 of the 64 bits" in found[0]
    assert "(1 of the 64 bits" in found[duplicates.SHOWN_PAIRS - 1]
    assert found[-1] == "10 more pairs of pictures in different splits look alike"


def test_ten_thousand_pictures_take_seconds():
    paths, hashes = hashes_of(10_000)
    hashes[paths[9_000]] = hashes[paths[7]]
    started = time.monotonic()
    (warning,) = find_near_duplicates([split("train", paths[:8_000]), split("test", paths[8_000:])],
                                      {path: path.name for path in paths}, hashes)
    assert warning.startswith("7.jpg: in train, looks like 9000.jpg in test")
    assert time.monotonic() - started < 10
