"""Each transformation does what it says, and a draw always makes the same variant."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.transforms import (
    NAMES,
    Geometry,
    Pixels,
    crop,
    crop_box,
    flip,
    randaugment,
    recoloured,
    resample,
    resampled,
    warped,
)

SIZE = 65


@pytest.fixture
def dot() -> Pixels:
    """Black, with a white dot of 3 × 3 at the centre."""
    picture = np.zeros((SIZE, SIZE, 3), np.float32)
    picture[31:34, 31:34] = 255
    return picture


@pytest.fixture
def noise() -> Pixels:
    return np.random.default_rng(0).uniform(0, 255, (32, 48, 3)).astype(np.float32)


def centre(picture: Pixels) -> tuple[float, float]:
    """(x, y) of the centre of what is bright, pixels from the picture's centre."""
    weights = picture[..., 0] / picture[..., 0].sum()
    y, x = np.indices(weights.shape)
    return float((weights * x).sum()) - (SIZE - 1) / 2, float((weights * y).sum()) - (SIZE - 1) / 2


def variant(picture: Pixels, draw: int, augmentation: Augmentation) -> Pixels:
    image, number = tf.constant(picture), tf.constant(draw, tf.int64)
    result: Pixels = flip(resample(image, number, augmentation), number, augmentation).numpy()
    return result


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(horizontal=True, vertical=True)])
def test_without_resampling_the_pixels_are_exactly_the_pictures(noise: Pixels, augmentation: Augmentation):
    for draw in (0, 1, 2, 3, 4, 2**62 - 1):
        assert set(variant(noise, draw, augmentation).ravel()) == set(noise.ravel())
    assert np.array_equal(variant(noise, 4, augmentation), noise)


def test_the_lowest_bits_of_a_draw_are_the_flips(noise: Pixels):
    both, vertical = Augmentation(horizontal=True, vertical=True), Augmentation(vertical=True)
    assert np.array_equal(variant(noise, 1, both), noise[:, ::-1])
    assert np.array_equal(variant(noise, 2, both), noise[::-1])
    assert np.array_equal(variant(noise, 3, both), noise[::-1, ::-1])
    assert np.array_equal(variant(noise, 1, vertical), noise[::-1])


def test_a_shift_moves_a_dot_by_at_most_its_range_in_all_directions(dot: Pixels):
    places = np.array([centre(resampled(dot, draw << 2, Augmentation(shift=0.2))) for draw in range(100)])
    assert np.abs(places).max() <= 0.2 * SIZE + 0.05  # OpenCV interpolates in 32nds of a pixel
    assert (np.abs(places).max(axis=0) > 0.18 * SIZE).all()
    assert len({(x > 0, y > 0) for x, y in places}) == 4


def test_a_zoom_makes_a_square_larger_or_smaller_within_its_range_where_it_is():
    square = np.zeros((SIZE, SIZE, 3), np.float32)
    square[22:43, 22:43] = 255
    shown = [resampled(square, draw << 2, Augmentation(zoom=0.5)) for draw in range(60)]
    factors = np.sqrt([picture[..., 0].sum() / 255 for picture in shown]) / 21
    assert 0.47 < factors.min() < 0.7
    assert 1.4 < factors.max() < 1.53
    assert np.allclose([centre(picture) for picture in shown], 0, atol=0.05)


def test_a_rotation_turns_a_dot_about_the_centre_by_at_most_its_range(dot: Pixels):
    beside = np.roll(dot, 20, axis=1)
    places = np.array([centre(resampled(beside, draw << 2, Augmentation(rotation=30.0))) for draw in range(100)])
    angles = np.degrees(np.arctan2(places[:, 1], places[:, 0]))
    assert np.allclose(np.hypot(*places.T), 20, atol=0.1)
    assert np.abs(angles).max() <= 30.2
    assert angles.min() < -25
    assert angles.max() > 25


def test_all_at_once_move_the_centre_by_the_shift_alone(dot: Pixels):
    moved = warped(dot, Geometry(zoom=1.3, rotation=20, shear_x=0.2, shift_x=0.1, shift_y=-0.2))
    assert centre(moved) == pytest.approx((0.1 * SIZE, -0.2 * SIZE), abs=0.05)


def test_beyond_its_edges_a_picture_is_reflected():
    picture = np.tile(np.arange(SIZE, dtype=np.float32)[None, :, None], (SIZE, 1, 3))
    moved = warped(picture, Geometry(shift_x=2 / SIZE))
    assert moved[0, :4, 0] == pytest.approx([1, 0, 0, 1], abs=1e-4)


def test_the_same_draw_makes_the_same_pixels_and_another_draw_others(noise: Pixels):
    everything = Augmentation(horizontal=True, zoom=0.1, shift=0.1, rotation=10.0, randaugment=True)
    first = variant(noise, 12345, everything)
    assert np.array_equal(first, variant(noise, 12345, everything))
    assert not np.array_equal(first, variant(noise, 12349, everything))


@pytest.mark.parametrize("name", NAMES[6:])
def test_every_colour_operation_changes_colours_and_stays_in_range(name: str):
    picture = np.random.default_rng(0).uniform(20, 240, (32, 32, 3)).astype(np.float32)
    for sign in (-1.0, 1.0):
        changed = recoloured(picture, name, sign)
        assert np.abs(changed - picture).mean() > 1
        assert changed.dtype == np.float32
        assert changed.min() >= 0
        assert changed.max() <= 255


def test_brightness_and_contrast_go_up_and_down():
    grey = np.full((8, 8, 3), 100, np.float32)
    assert recoloured(grey, "brightness", -1).mean() == pytest.approx(19, abs=1)  # 1 - 0.9 · 0.9
    assert recoloured(grey, "brightness", 1).mean() == pytest.approx(181, abs=1)
    grey[:4] = 120
    assert recoloured(grey, "contrast", -1).std() < grey.std() < recoloured(grey, "contrast", 1).std()


def test_randaugment_draws_each_of_the_14_operations_about_equally_often(noise: Pixels,
                                                                       monkeypatch: pytest.MonkeyPatch):
    drawn: list[str] = []

    def noted(picture: Pixels, name: str, sign: float) -> Pixels:
        drawn.append(name)
        return recoloured(picture, name, sign)

    monkeypatch.setattr("voc_cls.data.transforms.recoloured", noted)
    moved = 0
    for seed in range(700):
        _, geometry = randaugment(noise, Geometry(), np.random.default_rng(seed))
        moved += geometry != Geometry()
    assert len(NAMES) == 14
    assert {name: 60 < drawn.count(name) < 140 for name in NAMES[6:]} == dict.fromkeys(NAMES[6:], True)  # 100 each
    assert 320 < moved < 440  # 1 - (9/14)² of 700, less those that cancel


def boxes(augmentation: Augmentation, height: int = 300, width: int = 400) -> np.ndarray:
    """[300, 4]: top, left, height, width."""
    return np.array([crop_box(height, width, draw << 2, augmentation) for draw in range(300)])


@pytest.mark.parametrize("augmentation", [Augmentation(crop="random"), Augmentation(crop="multi-scale")])
@pytest.mark.parametrize("size", [(1, 1), (2, 300), (300, 400)])
def test_a_crop_lies_within_the_image(augmentation: Augmentation, size: tuple[int, int]):
    top, left, rows, columns = boxes(augmentation, *size).T
    assert min(top.min(), left.min()) >= 0
    assert min(rows.min(), columns.min()) >= 1
    assert (top + rows).max() <= size[0]
    assert (left + columns).max() <= size[1]


def test_a_random_crop_has_areas_and_proportions_over_all_of_their_ranges():
    _, _, rows, columns = boxes(Augmentation(crop="random", crop_area=0.3)).T
    areas, proportions = rows * columns / (300 * 400), columns / rows
    assert 0.29 < areas.min() < 0.33
    assert areas.max() > 0.9
    assert 0.74 < proportions.min() < 0.78
    assert 1.29 < proportions.max() < 1.35


def test_a_long_strip_is_shown_whole():
    assert crop_box(10, 4000, 0, Augmentation(crop="random", crop_area=0.9)) == (0, 0, 10, 4000)


def test_a_multi_scale_crop_takes_five_scales_a_side_at_thirteen_places():
    top, left, rows, columns = boxes(Augmentation(crop="multi-scale")).T
    assert set(rows) == {300, 262, 225, 198, 150}
    assert set(columns) == {400, 350, 300, 264, 200}
    assert not {(300, 200), (150, 400)} & set(zip(rows, columns, strict=True))  # would distort too much
    half = (rows == 150) & (columns == 200)
    assert set(zip(top[half], left[half], strict=True)) < {(row * 37.5 // 1, column * 50) for row in range(5)
                                                            for column in range(5) if (row - column) % 2 == 0}


def test_a_crop_is_a_part_of_the_pixels_and_the_same_for_the_same_draw(noise: Pixels):
    augmentation, draw = Augmentation(crop="random", crop_area=0.2), tf.constant(5 << 2, tf.int64)
    top, left, rows, columns = crop_box(32, 48, 5 << 2, augmentation)
    expected = noise[top:top + rows, left:left + columns]
    assert np.array_equal(crop(tf.constant(noise), draw, augmentation), expected)
    in_graph = tf.function(lambda image, number: crop(image, number, augmentation))
    assert np.array_equal(in_graph(tf.constant(noise), draw), expected)
    assert expected.shape != noise.shape
