"""What the graph does not take is converted, or refused by name; nothing is decoded wrongly."""

from __future__ import annotations

import contextlib
import struct
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.pictures import Pixels, encoded, smooth
from voc_cls.data.check import decode_all
from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.data.preprocessing import decode
from voc_cls.errors import DataError
from voc_cls.image_decoder import as_displayed, decodable
from voc_cls.image_header import ImageError
from voc_cls.nets.registry import NETS

VGG = NETS["vgg_16"].preprocessing
COLOURS = smooth(20, 28)
ALPHA = smooth(20, 28, seed=1)[..., :1]
ON_WHITE = np.rint(COLOURS * (ALPHA / 255) + 255 * (1 - ALPHA / 255)).astype(np.uint8)
PALETTE = Image.fromarray(COLOURS).quantize(16)
INDEXED = np.asarray(PALETTE.convert("RGB"))


def decoded(content: bytes) -> Pixels:
    """As training, evaluation and the server decode it."""
    image: Pixels = decode(tf.constant(decodable(content)), VGG).numpy()
    return image


def bmp(bits: int, rows: bytes, compression: int = 0, between: bytes = b"", size: int = 40) -> bytes:
    """A BMP of 28 × 20 pixels; `between`: palette or masks."""
    start = 14 + size + len(between)
    header = struct.pack("<IiiHHIIiiII", 40, 28, 20, 1, bits, compression, len(rows), 0, 0, 0, 0)
    if size == 12:
        header = struct.pack("<IHHHH", 12, 28, 20, 1, bits)
    return struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + header + between + rows


def palette_of(entry: int) -> bytes:
    table = np.zeros((16, entry), np.uint8)
    table[:, :3] = np.array(PALETTE.getpalette()[:48], np.uint8).reshape(16, 3)[:, ::-1]
    return table.tobytes()


UPSIDE_DOWN = np.asarray(PALETTE)[::-1]
FIVE_BITS = (COLOURS >> 3).astype(np.uint16)[::-1]
BGR = COLOURS[::-1, :, ::-1]
ODD_BMPS = {
    "8 bits": (encoded(PALETTE, "BMP"), INDEXED),
    "4 bits": (bmp(4, np.pad(UPSIDE_DOWN[:, ::2] << 4 | UPSIDE_DOWN[:, 1::2], ((0, 0), (0, 2))).tobytes(),
                   between=palette_of(4).ljust(64, b"\0")), INDEXED),
    "1 bit": (encoded(Image.fromarray(COLOURS).convert("1"), "BMP"),
              np.asarray(Image.fromarray(COLOURS).convert("1").convert("RGB"))),
    "16 bits": (bmp(16, (FIVE_BITS[..., 0] << 10 | FIVE_BITS[..., 1] << 5 | FIVE_BITS[..., 2]).tobytes()),
                (COLOURS >> 3).astype(int) * 255 // 31),
    "masks": (bmp(32, np.dstack([BGR[..., :1], BGR]).tobytes(), 3, struct.pack("<III", 0xFF << 24, 0xFF0000, 0xFF00)),
              COLOURS),
    "of OS/2": (bmp(24, BGR.tobytes(), size=12), COLOURS),
    "run lengths": (bmp(8, b"".join(b"".join(bytes((1, index)) for index in row) + b"\0\0" for row in UPSIDE_DOWN)
                        + b"\0\1", 1, palette_of(4).ljust(1024, b"\0")), INDEXED),
}


@pytest.mark.parametrize("kind", ODD_BMPS)
def test_unusual_bmps_have_the_right_colours_and_the_graph_alone_refuses_them(kind: str):
    content, pixels = ODD_BMPS[kind]
    assert np.abs(decoded(content).astype(int) - pixels).max() <= 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="BMP of 24 or 32 bits a pixel"):
        decode(tf.constant(content), VGG)


def test_usual_files_are_left_as_they_are():
    for content in (encoded(COLOURS, "JPEG"), encoded(COLOURS, "PNG"), encoded(COLOURS, "BMP"), encoded(COLOURS, "GIF"),
                    encoded(np.dstack([COLOURS, ALPHA]), "BMP")):
        assert decodable(content) is content


@pytest.mark.parametrize(("content", "pixels"), [
    (encoded(COLOURS, "WEBP", lossless=True), COLOURS),
    (encoded(COLOURS, "WEBP", lossless=True, save_all=True, append_images=[Image.new("RGB", (28, 20))]), COLOURS),
    (encoded(COLOURS, "TIFF"), COLOURS),
    (encoded(COLOURS, "TIFF", compression="tiff_lzw"), COLOURS),
    (encoded(COLOURS, "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 9))]), COLOURS),
    (encoded(PALETTE, "TIFF"), INDEXED),
    (encoded(COLOURS[..., 0].astype(np.uint16) * 256 + 7, "TIFF"), COLOURS[..., :1].repeat(3, 2)),
    (encoded(COLOURS[..., 0], "TIFF"), COLOURS[..., :1].repeat(3, 2)),
], ids=["WebP", "animated WebP", "TIFF", "TIFF with LZW", "TIFF of two pages", "TIFF with palette", "TIFF of 16 bits",
        "grey TIFF"])
def test_webp_and_tiff_are_decoded_the_first_picture_of_several(content: bytes, pixels: Pixels):
    np.testing.assert_array_equal(decoded(content), pixels)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparent_parts_are_white_in_every_format(kind: str):
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    content = encoded(np.dstack([COLOURS, ALPHA]), kind, **options)
    assert np.abs(decoded(content).astype(int) - ON_WHITE).max() <= 1
    np.testing.assert_array_equal(decoded(content), as_displayed(content))


def test_other_kinds_of_transparency_are_white_too():
    for content in (encoded(Image.fromarray(COLOURS).convert("LA"), "PNG"), encoded(PALETTE, "PNG", transparency=3),
                    encoded(COLOURS, "PNG", transparency=tuple(COLOURS[2, 3].tolist()))):
        np.testing.assert_array_equal(decoded(content), as_displayed(content))
    assert (decoded(encoded(COLOURS, "PNG", transparency=tuple(COLOURS[2, 3].tolist())))[2, 3] == 255).all()


def test_an_opaque_alpha_channel_changes_no_bit():
    opaque = np.dstack([COLOURS, np.full_like(ALPHA, 255)])
    np.testing.assert_array_equal(decoded(encoded(opaque, "PNG")), COLOURS)


def tiff(numbers: str, photometric: int = 1) -> bytes:
    """A grey TIFF of 28 × 20 pixels of any type of numbers."""
    pixels = (np.arange(560) % 100 * (300 if numbers == "uint16" else 1)).astype(numbers)
    sample_format = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags = {256: 28, 257: 20, 258: 8 * pixels.itemsize, 259: 1, 262: photometric, 273: 8 + 2 + 9 * 12 + 4, 278: 20,
            279: pixels.nbytes, 339: sample_format}
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4) + pixels.tobytes()


DARK = np.full((20, 28), 4095, np.uint16)
REFUSED = {
    "16-bit PNG with 12 bits": (encoded(DARK, "PNG"), "a PNG of 16 bits a sample whose values are all below 16,384"),
    "16-bit TIFF with 12 bits": (encoded(DARK, "TIFF"), "a TIFF of 16 bits a sample whose values are all below 16,384"),
    "floating-point TIFF": (encoded(DARK.astype(np.float32), "TIFF"), "a TIFF of 32 bits a sample"),
    "signed TIFF": (tiff("int8"), "a TIFF of signed numbers"),
    "half-precision TIFF": (tiff("float16"), "a TIFF of floating-point numbers"),
    "16-bit TIFF where 0 is white": (tiff("uint16", photometric=0), "a TIFF of 16 bits a sample in which 0 is white"),
    "half a WebP": (encoded(COLOURS, "WEBP")[:-30], "a WebP picture of "),
    "half a TIFF": (encoded(COLOURS, "TIFF")[:-300], "a TIFF picture of "),
}


def test_what_cannot_be_decoded_rightly_is_refused_in_the_same_words_everywhere(tmp_path: Path):
    paths = [tmp_path / f"{number}.jpg" for number in range(len(REFUSED))]
    for path, (content, words) in zip(paths, REFUSED.values(), strict=True):
        path.write_bytes(content)
        with pytest.raises(ImageError) as refused:
            decodable(content)
        assert str(refused.value).startswith(words)
        (problem,) = decode_all([path])
        assert str(problem) == f"{path}: is {refused.value}; replace it, or convert it to JPEG"
    with pytest.raises(DataError) as caught, naming_broken_images(paths):
        list(image_batches(paths, 1, VGG))
    assert str(caught.value) == str(next(decode_all(paths)))


def test_the_graph_alone_refuses_16_bits_of_which_12_are_used():
    with pytest.raises(tf.errors.InvalidArgumentError, match="PNG of 16 bits a sample whose values are all below"):
        decode(tf.constant(REFUSED["16-bit PNG with 12 bits"][0]), VGG)


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP"])
def test_damaged_files_are_refused_or_decoded_and_never_an_error_of_pillows(kind: str):
    random = np.random.default_rng(0)
    content = encoded(PALETTE if kind == "BMP" else COLOURS, kind,
                      **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(random.integers(1, 5)):
            damaged[random.integers(4, len(damaged))] = random.integers(256)
        with contextlib.suppress(ImageError):
            decodable(bytes(damaged[:random.integers(20, 4 * len(damaged))]))
