"""Pictures are turned upright by EXIF's orientation, before the graph and in it; hostile EXIF does no harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tensorflow as tf

from tests.pictures import encoded, exif, lying, segment, smooth
from voc_cls.data.orientation import jpeg_exif, orientation, png_exif
from voc_cls.data.preprocessing import decode_file
from voc_cls.image_decoder import as_displayed
from voc_cls.image_header import ImageError, image_header
from voc_cls.nets.registry import NETS

pytestmark = pytest.mark.slow  # takes seconds; `make test-fast` leaves it out

VGG = NETS["vgg_16"].preprocessing
UPRIGHT = smooth(32, 48)
JPEG, PNG = encoded(UPRIGHT, "JPEG"), encoded(UPRIGHT, "PNG")
EXIF = b"Exif\0\0"


@pytest.fixture(scope="module")
def in_graph() -> Any:
    """The bytes of a JPEG and of a PNG → their orientations, as an export finds them."""
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)] * 2)
    def read(jpeg: tf.Tensor, png: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return orientation(jpeg_exif(jpeg)), orientation(png_exif(png))

    return read


def read_both_ways(in_graph: Any, content: bytes) -> int:
    """The orientation of a JPEG, on which the graph and the header agree."""
    value = int(in_graph(tf.constant(content), tf.constant(b""))[0])
    assert image_header(content).orientation == value
    return value


def with_segments(*segments: bytes) -> bytes:
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_eight_orientations_give_one_picture(kind: str, order: Literal["little", "big"], tmp_path: Path):
    for value in range(1, 9):
        path = tmp_path / f"{value}.jpg"
        path.write_bytes(lying(UPRIGHT, kind, value, order))
        header = image_header(path.read_bytes())
        assert (header.orientation, header.upright_size) == (value, (48, 32))
        assert (header.width, header.height) == ((32, 48) if value > 4 else (48, 32))
        for image in (decode_file(tf.constant(str(path)), VGG).numpy(), as_displayed(path.read_bytes())):
            assert image.shape == UPRIGHT.shape
            assert np.abs(image.astype(int) - UPRIGHT).max() <= (4 if kind == "JPEG" else 0)


def test_exif_is_found_behind_other_segments_of_a_jpeg(in_graph: Any):
    other = [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + EXIF + exif(8)), segment(0xE2, bytes(60_000)),
             segment(0xFE, b"a comment")]
    assert read_both_ways(in_graph, with_segments(*other, segment(0xE1, EXIF + exif(6)))) == 6
    assert read_both_ways(in_graph, with_segments(b"\xff\xff", segment(0xE1, EXIF + exif(3)))) == 3  # fill bytes


@pytest.mark.parametrize("order", ["little", "big"])
def test_the_tag_is_found_anywhere_in_the_first_directory(in_graph: Any, order: Literal["little", "big"]):
    entries = b"".join((number + 256).to_bytes(2, order) + bytes(10) for number in range(12))
    assert read_both_ways(in_graph, with_segments(segment(0xE1, EXIF + exif(5, order, before=entries)))) == 5
    assert read_both_ways(in_graph, with_segments(segment(0xE1, EXIF + exif(5, order, start=2000)))) == 5


@pytest.mark.parametrize("content", [
    exif(0), exif(9), exif(65_535), exif(6, kind=4), exif(6, kind=2), b"", b"MM", b"XX" + exif(6)[2:], exif(6)[:17],
    b"MM\0*\xff\xff\xff\xff", b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff", exif(6, before=bytes(12 * 300)),
])
def test_exif_without_a_valid_orientation_counts_as_upright(in_graph: Any, content: bytes):
    assert read_both_ways(in_graph, with_segments(segment(0xE1, EXIF + content))) == 1


def test_exif_outside_its_segment_is_not_read(in_graph: Any):
    cut = segment(0xE1, EXIF + exif(6)[:12])
    assert read_both_ways(in_graph, with_segments(cut, segment(0xFE, exif(6)[12:]))) == 1


def test_the_graph_and_the_header_agree_on_damaged_files_and_never_fail(in_graph: Any):
    random = np.random.default_rng(0)
    jpeg = with_segments(segment(0xE1, EXIF + exif(6, "little")))
    png = lying(UPRIGHT, "PNG", 6)
    for number in range(400):
        damaged = [bytearray(jpeg), bytearray(png)]
        for content in damaged:
            for _ in range(random.integers(1, 4)):
                content[random.integers(0, 90)] = random.choice([0, 1, 8, 0x49, 0x4D, 0xDA, 0xFF, random.integers(256)])
            del content[random.integers(2, 120) if number % 4 == 0 else len(content):]
        values = in_graph(*(tf.constant(bytes(content)) for content in damaged))
        for content, value in zip(damaged, values, strict=True):
            assert 1 <= int(value) <= 8
            try:
                header = image_header(bytes(content))
            except ImageError:
                continue
            if header.format in ("JPEG", "PNG"):
                assert header.orientation == int(value), bytes(content[:120])


def test_in_the_pipelines_graph_every_format_is_turned_too(tmp_path: Path):
    paths = []
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"):
        paths.append(tmp_path / f"{kind}.jpg")
        paths[-1].write_bytes(lying(UPRIGHT, kind, 6) if kind not in ("BMP", "GIF") else encoded(UPRIGHT, kind))
    names = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    for image in names.map(lambda name: decode_file(name, VGG)).as_numpy_iterator():
        assert image.shape == UPRIGHT.shape
        assert np.abs(image.astype(int) - UPRIGHT).mean() < 6  # a GIF has 256 colours
