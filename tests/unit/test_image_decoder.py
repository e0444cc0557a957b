"""Decoding without TensorFlow gives the graph's pixels, bit for bit, and what the graph refuses is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tests.fuzzing import Fuzzer, real_pictures
from tests.image_kinds import COLOURS, every_kind, gifs, jpegs, others, photographs, pngs
from tests.pictures import Pixels, lying, smooth
from voc_cls import image_decoder
from voc_cls.data.preprocessing import decode as decode_in_graph
from voc_cls.data.preprocessing import preprocess
from voc_cls.image_decoder import RESIZES, Preprocessing, decodable, decode, prepare
from voc_cls.image_header import ImageError, image_work
from voc_cls.nets.registry import NETS

VGG = NETS["vgg_16"].preprocessing
MOST = 1_000_000


@pytest.fixture(scope="module")
def graph() -> Callable[[bytes], Pixels]:
    function = tf.function(lambda content: decode_in_graph(content, VGG),
                           input_signature=[tf.TensorSpec([], tf.string)])
    return lambda content: np.asarray(function(tf.constant(decodable(content))))


def decoded(content: bytes) -> Pixels:
    return decode(image_work(content, MOST))


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


def test_photographs_and_every_kind_have_the_graphs_pixels_and_are_resized_as_by_it(
        graph: Callable[[bytes], Pixels]) -> None:
    files = photographs()
    assert len(files) >= 200
    for content in (*files, *every_kind()):
        pixels = decoded(content)
        np.testing.assert_array_equal(pixels, graph(content))
        np.testing.assert_allclose(prepare(pixels, VGG), preprocess(pixels, VGG), rtol=0, atol=0.006)


def test_without_opencv_pillow_and_numpy_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [*photographs()[:40], *every_kind()]
    expected = [decoded(content) for content in files]
    monkeypatch.setattr(image_decoder, "opencv", lambda: None)
    for content, pixels in zip(files, expected, strict=True):
        np.testing.assert_array_equal(decoded(content), pixels)
        np.testing.assert_allclose(prepare(pixels, VGG), preprocess(pixels, VGG), rtol=0, atol=2e-5)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("size", [8, 224, 331])
def test_pictures_of_any_size_are_resized_and_normalised_as_by_the_graph(size: int, resize: str) -> None:
    settings = Preprocessing(size, (123.68, 116.78, 103.94), (58.4, 57.1, 57.4), resize=resize)
    for height, width in ((1, 1), (2, 3), (7, 500), (224, 224), (449, 200), (600, 513), (3000, 12), (900, 1600)):
        pixels = smooth(height, width)
        expected = preprocess(pixels, settings).numpy()
        exact = max(height, width) > 512
        np.testing.assert_allclose(prepare(pixels, settings), expected, rtol=0,
                                   atol=2e-6 if exact else 0.006 / 57)
