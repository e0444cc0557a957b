"""What the augmentation flags come to, and which values they refuse."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from voc_cls.data.augmentation import PRESETS, Augmentation, AugmentationConfig
from voc_cls.errors import UsageError


def test_by_default_half_of_the_pictures_are_mirrored_and_no_more():
    chosen = AugmentationConfig().resolved()
    assert chosen == Augmentation(horizontal=True, views=2)
    assert chosen.only_flips


def test_none_does_nothing_and_has_one_view():
    assert AugmentationConfig("none").resolved() == Augmentation(views=1)


@pytest.mark.parametrize("preset", ["mild", "lecture", "randaugment", "crop", "multi-scale-crop"])
def test_a_preset_that_moves_pixels_has_no_views_unless_asked(preset: str):
    chosen = AugmentationConfig(preset)  # type: ignore[arg-type]
    assert chosen.resolved() == PRESETS[preset]
    assert replace(chosen, views=3).resolved().views == 3


def test_the_mild_preset_zooms_shifts_and_rotates_but_keeps_pictures_upright():
    mild = AugmentationConfig("mild").resolved()
    assert (mild.horizontal, mild.vertical) == (True, False)
    assert (mild.zoom, mild.shift, mild.rotation, mild.edges) == (0.1, 0.1, 10, "reflect")


def test_single_flags_win_over_the_preset():
    chosen = AugmentationConfig("mild", horizontal_flip=False, vertical_flip=True, zoom=0.0, rotation=45.0)
    assert chosen.resolved() == Augmentation(vertical=True, shift=0.1, rotation=45.0)
    assert AugmentationConfig("mild", edges="wrap").resolved().edges == "wrap"
    assert AugmentationConfig("lecture", edges="reflect").resolved().edges == "reflect"


def test_flips_both_ways_make_four_views():
    assert AugmentationConfig(vertical_flip=True).resolved().views == 4
    assert AugmentationConfig("none", vertical_flip=True).resolved().flips == (0,)


@pytest.mark.parametrize(("config", "said"), [
    (AugmentationConfig(zoom=1.0), r"`zoom` 1: must be from 0 to 0\.9"),
    (AugmentationConfig(shift=-0.1), r"`shift` -0\.1: must be from 0 to 0\.9"),
    (AugmentationConfig(rotation=181.0), "`rotation` 181: must be from 0 to 180"),
    (AugmentationConfig(zoom=math.nan), "`zoom` nan: must be"),
    (AugmentationConfig(mixup=math.inf), r"`mixup` inf: must be from 0 to"),
    (AugmentationConfig(cutmix=1.5), "`cutmix` 1.5: must be from 0 to 1"),
    (AugmentationConfig("crop", crop_area=0.0), "`crop_area` 0: must be from 0.01 to 1"),
    (AugmentationConfig("mild", crop_area=0.5), "`crop_area` 0.5: is of `augment` crop, not of mild"),
    (AugmentationConfig(views=0), "`views` 0: must be at least 1"),
    (AugmentationConfig(views=3), "`views` 3: flips alone make only 2 different views"),
    (AugmentationConfig(views=2, mixup=0.2), "`views` 2: cannot be combined with `mixup` or `cutmix`"),
])
def test_a_value_that_cannot_be_used_names_its_flag(config: AugmentationConfig, said: str):
    with pytest.raises(UsageError, match=said):
        config.resolved()
