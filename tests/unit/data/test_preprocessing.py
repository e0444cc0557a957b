"""Decoding and preprocessing: formats, colours, and OpenCV as the second opinion."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from voc_cls.data.preprocessing import decode, preprocess, resize
from voc_cls.image_decoder import Preprocessing
from voc_cls.nets.registry import NETS

VGG = NETS["vgg_16"].preprocessing
RED = (200, 30, 40)  # RGB


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    import io

    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    return decode(tf.constant(data), VGG).numpy()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_every_format_decodes_to_rgb(kind: str):
    image = decoded(encoded(Image.new("RGB", (20, 10), RED), kind))
    assert image.shape == (10, 20, 3)
    assert np.abs(image.astype(int) - RED).max() <= 3


@pytest.mark.parametrize(("mode", "colour"), [("L", 90), ("RGBA", (*RED, 128)), ("P", 0)])
def test_other_colour_modes_of_png_become_rgb(mode: str, colour: object):
    assert decoded(encoded(Image.new(mode, (6, 4), colour), "PNG")).shape == (4, 6, 3)  # type: ignore[arg-type]


def test_a_16_bit_png_keeps_its_upper_bits():
    data = np.full((4, 4, 3), 0x8040, np.uint16)
    image = decoded(cv2.imencode(".png", data)[1].tobytes())
    assert np.array_equal(image, np.full((4, 4, 3), 0x80))


def test_a_cmyk_jpeg_is_converted():
    cmyk = Image.new("RGB", (16, 16), RED).convert("CMYK")
    assert np.abs(decoded(encoded(cmyk, "JPEG", quality=95)).astype(int).mean((0, 1)) - RED).max() < 8


def test_a_greyscale_jpeg_is_repeated_over_the_channels():
    image = decoded(encoded(Image.new("L", (16, 16), 77), "JPEG"))
    assert np.array_equal(image, np.full((16, 16, 3), 77))


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff\xe0 half a JPEG"])
def test_bytes_that_are_no_picture_are_refused(data: bytes):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoded(data)


def test_a_jpeg_decodes_bit_for_bit_as_with_opencv():
    random = np.random.default_rng(0)
    smooth = cv2.resize(random.integers(0, 256, (12, 16, 3), np.uint8), (500, 375), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", smooth)[1].tobytes()
    theirs = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    assert np.array_equal(decoded(data), theirs)


def test_the_networks_input_is_resized_rgb_minus_the_mean():
    inputs = preprocess(tf.constant(np.full((1, 30, 40, 3), RED, np.uint8)), VGG)
    assert inputs.shape == (1, 224, 224, 3)
    np.testing.assert_allclose(inputs[0, 100, 100], np.array(RED) - [123.68, 116.78, 103.94], rtol=1e-5)


def test_the_resize_agrees_with_opencvs_bilinear_one():
    image = np.random.default_rng(1).integers(0, 256, (375, 500, 3)).astype(np.uint8)
    ours = preprocess(tf.constant(image), Preprocessing(size=224, mean=(0.0, 0.0, 0.0))).numpy()
    theirs = cv2.resize(image.astype(np.float32), (224, 224), interpolation=cv2.INTER_LINEAR)
    assert np.abs(ours - theirs).max() < 0.01


def test_it_survives_the_way_through_json():
    values = json.loads(json.dumps(asdict(VGG)))
    assert Preprocessing(**values | {key: tuple(values[key]) for key in ("mean", "std")}) == VGG


@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 50), (300, 10)])
def test_constant_edges_are_black_beyond_the_picture(height: int, width: int):
    """As scikit-image's resize(order=1, mode="constant"): worked out on the picture with a black frame."""
    image = np.random.default_rng(0).integers(1, 256, (height, width, 3), np.uint8)
    frame = np.pad(image, ((1, 1), (1, 1), (0, 0))).astype(np.float64)

    def places(length: int) -> tuple[np.ndarray, np.ndarray]:
        place = np.clip((np.arange(224) + 0.5) * length / 224 - 0.5, -1, length - 1e-9) + 1
        return np.floor(place).astype(int), place % 1

    (top, down), (left, right) = places(height), places(width)
    rows = frame[top] * (1 - down)[:, None, None] + frame[top + 1] * down[:, None, None]
    expected = rows[:, left] * (1 - right)[:, None] + rows[:, left + 1] * right[:, None]
    settings = replace(VGG, resize="bilinear-constant")
    np.testing.assert_allclose(resize(tf.constant(image), settings), expected, atol=0.01)
    np.testing.assert_allclose(resize(tf.constant(image[None]), settings)[0], expected, atol=0.01)
