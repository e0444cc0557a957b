"""Decoding without TensorFlow gives the graph's pixels, bit for bit, and what the graph refuses is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.fuzzing import Fuzzer, real_pictures
from tests.pictures import Pixels, encoded, lying, smooth
from voc_cls.data.preprocessing import Preprocessing, preprocess
from voc_cls.data.preprocessing import decode as decode_in_graph
from voc_cls.image_decoder import RESIZES, InputFormat, decodable, decode, prepare
from voc_cls.image_header import ImageError, image_work
from voc_cls.nets.registry import NETS

VGG = NETS["vgg_16"].preprocessing
VOC2007_ROOT = Path(os.environ.get("VOC2007_ROOT", Path(__file__).parents[3] / "shared/voc2007/VOCdevkit/VOC2007"))
REAL = sorted((VOC2007_ROOT / "JPEGImages").glob("*.jpg"))[::7]
COLOURS = smooth(37, 53)
MOST = 1_000_000


@pytest.fixture(scope="module")
def graph() -> Callable[[bytes], Pixels]:
    function = tf.function(lambda content: decode_in_graph(content, VGG),
                           input_signature=[tf.TensorSpec([], tf.string)])
    return lambda content: np.asarray(function(tf.constant(decodable(content))))


def decoded(content: bytes) -> Pixels:
    return decode(image_work(content, MOST))


def jpegs() -> list[bytes]:
    ways = (getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{way}") for way in (444, 422, 420, 411, 440))
    subsampled = [cv2.imencode(".jpg", COLOURS, [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, way])[1].tobytes() for way in ways]
    options: list[dict[str, Any]] = [{"progressive": True}, {"optimize": True}, {"quality": 3}, {"quality": 100},
               {"restart_marker_blocks": 1}, {"restart_marker_rows": 1, "progressive": True}, {"keep_rgb": True}]
    cmyk = Image.fromarray(np.dstack([COLOURS, smooth(37, 53, 1, 1)]), "CMYK")
    without_adobe = encoded(cmyk, "JPEG").replace(b"Adobe", b"adobe")
    return [*subsampled, *(encoded(COLOURS, "JPEG", **one) for one in options), encoded(COLOURS[..., 0], "JPEG"),
            encoded(cmyk, "JPEG"), encoded(cmyk, "JPEG", progressive=True), without_adobe]


def pngs() -> list[bytes]:
    palette = Image.fromarray(COLOURS).quantize(16)
    grey = Image.fromarray(COLOURS[..., 0])
    few = [encoded(palette.quantize(2**bits), "PNG", bits=bits) for bits in (1, 2, 4, 8)]
    return [*few, encoded(COLOURS, "PNG"), encoded(grey, "PNG"), encoded(grey.convert("1"), "PNG"),
            encoded(np.dstack([COLOURS, smooth(37, 53, 1, 1)]), "PNG"), encoded(grey.convert("LA"), "PNG"),
            encoded(palette, "PNG", transparency=3), encoded(grey, "PNG", transparency=int(COLOURS[0, 0, 0])),
            encoded(COLOURS, "PNG", transparency=tuple(COLOURS[2, 3].tolist())),
            encoded(COLOURS[..., 0].astype(np.uint16) << 8, "PNG"),
            encoded(COLOURS, "PNG", save_all=True, append_images=[Image.new("RGB", (9, 9))])]


def gifs() -> list[bytes]:
    palette = Image.fromarray(COLOURS).quantize(16)
    frames = [palette.rotate(turn) for turn in (0, 90, 180)]
    moved = bytearray(encoded(palette, "GIF"))
    at = moved.index(b"\x2c\0\0\0\0")
    moved[at + 1], moved[at + 3] = 5, 3
    return [encoded(palette, "GIF"), encoded(palette, "GIF", transparency=3), bytes(moved),
            encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), encoded(palette, "GIF", interlace=1)]


def others() -> list[bytes]:
    transparent = np.dstack([COLOURS, smooth(37, 53, 1, 1)])
    return [encoded(COLOURS, "BMP"), encoded(transparent, "BMP"), encoded(Image.fromarray(COLOURS).quantize(16), "BMP"),
            encoded(COLOURS, "WEBP"), encoded(transparent, "WEBP", lossless=True), encoded(COLOURS, "TIFF"),
            encoded(COLOURS, "TIFF", compression="tiff_lzw"), encoded(COLOURS, "TIFF", compression="jpeg")]


@pytest.mark.parametrize("make", [jpegs, pngs, gifs, others, real_pictures])
def test_the_pixels_of_every_kind_of_file_are_the_graphs(graph: Callable[[bytes], Pixels],
                                                         make: Callable[[], list[bytes]]) -> None:
    for content in make():
        np.testing.assert_array_equal(decoded(content), graph(content))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_orientations_are_the_graphs(graph: Callable[[bytes], Pixels], kind: str) -> None:
    for orientation in range(1, 9):
        content = lying(COLOURS, kind, orientation)
        np.testing.assert_array_equal(decoded(content), graph(content))


def test_damaged_files_are_refused_where_the_graph_refuses_them(graph: Callable[[bytes], Pixels]) -> None:
    """Where both take one, the pixels are the same but for JPEGs whose scans contradict each other."""
    fuzzer, outcomes = Fuzzer(3), {"refused": 0, "taken": 0}
    for _ in range(600):
        content = fuzzer.picture()
        try:
            pixels = decoded(content)
        except ImageError:
            outcomes["refused"] += 1
            continue
        expected = graph(content)
        outcomes["taken"] += 1
        assert pixels.shape == expected.shape
        assert np.mean(np.abs(pixels.astype(int) - expected)) < 1
    assert min(outcomes.values()) > 100, outcomes


@pytest.mark.skipif(not REAL, reason="no VOC2007: set VOC2007_ROOT")
def test_real_pictures_have_the_graphs_pixels_and_are_resized_as_by_it(graph: Callable[[bytes], Pixels]) -> None:
    assert len(REAL) > 200
    for file in REAL:
        pixels = decoded(content := file.read_bytes())
        np.testing.assert_array_equal(pixels, graph(content))
        np.testing.assert_allclose(prepare(pixels, InputFormat(VGG.size, VGG.mean)), preprocess(pixels, VGG), rtol=0,
                                   atol=0.006)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [8, 224, 331])
def test_pictures_of_any_size_are_resized_and_normalised_as_by_the_graph(size: int, resize: str) -> None:
    settings = Preprocessing(size, (123.68, 116.78, 103.94), (58.4, 57.1, 57.4), resize=resize)
    for height, width in ((1, 1), (2, 3), (7, 500), (224, 224), (449, 200), (600, 513), (3000, 12), (900, 1600)):
        pixels = smooth(height, width)
        expected = preprocess(pixels, settings).numpy()
        exact = max(height, width) > 512
        np.testing.assert_allclose(prepare(pixels, InputFormat(size, settings.mean, settings.std, resize)), expected,
                                   rtol=0, atol=2e-6 if exact else 0.006 / 57)
