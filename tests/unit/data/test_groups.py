"""Which images a division keeps together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from voc_cls.data.stratify import connected, group_images
from voc_cls.errors import UsageError

ROBOFLOW = tuple(Path("train", name) for name in (
    "cat_jpg.rf.0a1b2c.jpg", "cat_jpg.rf.ffee00.jpg", "dog.v2_png.rf.0a1b2c.jpg", "plain.jpg"))
FRAMES = tuple(Path(f"/v/patient{patient}/scan_{frame}.png") for patient in (1, 2) for frame in (1, 2))


def groups(group: str, paths: tuple[Path, ...], **columns: tuple[str, ...]) -> list[int]:
    return connected(group_images(group, paths, columns).keys).tolist()


def test_roboflows_variants_are_recognised_and_told():
    assert groups("auto", ROBOFLOW) == [0, 0, 1, 2]
    text = group_images("auto", ROBOFLOW, {}).text
    assert text == ("3 groups of pictures, by Roboflow's names (`group` none: off); pictures without one, each alone: "
                    "1")


def test_without_variants_every_image_is_alone_and_nothing_is_told():
    for group, paths in (("auto", FRAMES), ("none", ROBOFLOW)):
        assert groups(group, paths) == [0, 1, 2, 3]
        assert group_images(group, paths, {}).text == ""


def test_a_column_of_the_list_groups_and_empty_cells_are_alone():
    assert groups("patient", FRAMES, patient=("a", "b", "a ", "")) == [0, 1, 0, 2]
    assert group_images("patient", FRAMES, {"patient": ("a", "b", "a ", "")}).text == (
        "3 groups of pictures, by the column 'patient'; pictures without one, each alone: 1")


def test_a_pattern_groups_by_the_name_and_with_a_slash_by_the_path():
    assert groups(r"_(\d+)", FRAMES) == [0, 1, 0, 1]
    assert groups(r"/patient(\d+)/", FRAMES) == [0, 0, 1, 1]
    assert groups(r"patient(\d+)|_(1)", FRAMES) == [0, 1, 0, 2]  # the folder is not part of the name


@pytest.mark.parametrize(("group", "found"), [
    ("patient", r"`group` patient: is neither a column \(site, split\) nor a regular expression with a capture group"),
    (r"scan_\d+", r"`group` scan_\\d\+: is neither a column"),
    ("scan_(", r"`group` scan_\(: is neither .* \(missing \)"),
    ("video(.)", r"`group` video\(.\): none of the 4 pictures has it, such as scan_1.png"),
    ("site", "`group` site: none of the 4 pictures has it"),
])
def test_what_does_not_group_is_refused(group: str, found: str):
    with pytest.raises(UsageError, match=found):
        group_images(group, FRAMES, {"site": ("", " ", "", ""), "split": ("a", "b", "a", "b")})


def test_groups_are_numbered_as_they_come():
    random = np.random.default_rng(0)
    assert connected(["a", "b", "a", "c", "b"]).tolist() == [0, 1, 0, 2, 1]
    for _ in range(20):
        first = np.unique(connected(*random.integers(0, 40, (2, 60)).tolist()), return_index=True)[1]
        assert first.tolist() == sorted(first)


def test_images_that_agree_in_one_of_two_things_are_together_and_so_is_a_chain():
    assert connected(["z", "y", "x", "w", "x"], [1, 2, 1, 4, 4]).tolist() == [0, 1, 0, 0, 0]
