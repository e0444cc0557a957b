"""The quick look at a picture file, and that it agrees with what TensorFlow decodes."""

from __future__ import annotations

import io
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from voc_cls.data.check import decode_all
from voc_cls.data.files import read_header
from voc_cls.errors import DataError
from voc_cls.image_header import ImageHeader

WIDTH, HEIGHT = 96, 64
PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8))


def encoded(form: str, mode: str = "RGB", **options: object) -> bytes:
    """The test picture as a file."""
    buffer = io.BytesIO()
    PICTURE.convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def sixteen_bits(form: str = "PNG") -> bytes:
    """A file of 16 bits a sample, as scanners write them."""
    buffer = io.BytesIO()
    Image.fromarray(10 * np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH)).save(buffer, form)
    return buffer.getvalue()


JPEG, PNG, BMP = encoded("JPEG"), encoded("PNG"), encoded("BMP")
THUMBNAIL = b"\xff\xe1" + struct.pack(">H", 2 + len(JPEG)) + JPEG  # a JPEG within the header of another one
GOOD = {
    "JPEG": ("JPEG", JPEG),
    "progressive JPEG": ("JPEG", encoded("JPEG", progressive=True)),
    "greyscale JPEG": ("JPEG", encoded("JPEG", "L")),
    "CMYK JPEG": ("JPEG", encoded("JPEG", "CMYK")),
    "JPEG with a thumbnail": ("JPEG", JPEG[:2] + THUMBNAIL + JPEG[2:]),
    "JPEG with fill bytes between segments": ("JPEG", JPEG[:2] + b"\xff\xff" + JPEG[2:]),
    "JPEG with bytes after its end": ("JPEG", JPEG + b"appended by a camera"),
    "PNG": ("PNG", PNG),
    "16-bit PNG": ("PNG", sixteen_bits()),
    "greyscale PNG with alpha": ("PNG", encoded("PNG", "LA")),
    "PNG with a palette": ("PNG", encoded("PNG", "P")),
    "BMP": ("BMP", BMP),
    "BMP with alpha": ("BMP", encoded("BMP", "RGBA")),
    "BMP with a palette": ("BMP", encoded("BMP", "P")),
    "BMP in black and white": ("BMP", encoded("BMP", "1")),
    "GIF": ("GIF", encoded("GIF")),
    "WebP": ("WebP", encoded("WEBP")),
    "lossless WebP": ("WebP", encoded("WEBP", lossless=True)),
    "WebP with alpha": ("WebP", encoded("WEBP", "RGBA")),
    "TIFF": ("TIFF", encoded("TIFF")),
    "TIFF with LZW": ("TIFF", encoded("TIFF", compression="tiff_lzw")),
    "16-bit TIFF": ("TIFF", sixteen_bits("TIFF")),
}
BAD = {
    "empty": (b"", "is empty"),
    "a web page": (b"<!DOCTYPE html>",
                   "is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: 15 bytes that start with '<!DOCTYP'"),
    "half a WebP": (encoded("WEBP")[:600], "is a truncated WebP of 600 bytes"),
    "a TIFF of 32 bits": (encoded("TIFF", "F"), "is a TIFF of 32 bits a sample, where 1, 2, 4, 8, 16 are decoded"),
    "a TIFF whose directory is missing": (encoded("TIFF")[:8], "is a damaged TIFF picture: its header ends after 8"),
    "half a JPEG": (JPEG[:len(JPEG) // 2], "is a truncated JPEG of "),
    "half a JPEG with a thumbnail": ((JPEG[:2] + THUMBNAIL + JPEG[2:])[:-len(JPEG) // 2], "is a truncated JPEG of "),
    "a JPEG that lacks two bytes": (JPEG[:-2], "its end-of-image marker is missing"),
    "a JPEG that ends in its header": (JPEG[:30], "is a damaged JPEG picture: its header ends after 30 bytes"),
    "a JPEG without a frame": (JPEG[:2] + b"\xff\xda" + JPEG[2:], "is a damaged JPEG picture: its header ends after "),
    "a JPEG of 12 bits": (JPEG.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc1\x00\x11\x0c"), "a JPEG of 12 bits a sample"),
    "a lossless JPEG": (JPEG.replace(b"\xff\xc0\x00\x11", b"\xff\xc3\x00\x11"), "coded as SOF3, where 8 bits"),
    "half a PNG": (PNG[:len(PNG) // 2], "is a truncated PNG of "),
    "a PNG that ends in its header": (PNG[:20], "is a damaged PNG picture: its header ends after 20 bytes"),
    "a PNG of four thousand million pixels": (PNG[:16] + struct.pack(">II", 65_535, 65_535) + PNG[24:],
                                              "has 65,535 × 65,535 pixels, more than 178,956,970"),
    "a PNG of no pixels": (PNG[:16] + struct.pack(">II", 0, 9) + PNG[24:], "whose header says 0 × 9 pixels"),
    "half a BMP": (BMP[:len(BMP) // 2], "is a truncated BMP of "),
}


@pytest.mark.parametrize("kind", GOOD)
def test_the_header_is_read_whatever_the_name_of_the_file(tmp_path: Path, kind: str) -> None:
    form, content = GOOD[kind]
    (tmp_path / "picture.jpg").write_bytes(content)
    assert read_header(tmp_path / "picture.jpg") == ImageHeader(form, WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", BAD)
def test_a_broken_picture_is_named_with_what_was_found(tmp_path: Path, kind: str) -> None:
    content, said = BAD[kind]
    (tmp_path / "picture.jpg").write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_header(tmp_path / "picture.jpg")
    assert str(caught.value).startswith(str(tmp_path / "picture.jpg"))
    assert said in str(caught.value)


def test_a_folder_or_a_pipe_in_place_of_a_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(DataError, match=r"folder\.jpg: is a folder where a file is expected"):
        read_header(tmp_path / "folder.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg: is a device, pipe or socket where a file is expected"):
        read_header(tmp_path / "pipe.jpg")


def test_tensorflow_decodes_every_picture_that_passes_the_quick_look(tmp_path: Path) -> None:
    paths = []
    for number, (_, content) in enumerate(GOOD.values()):
        paths.append(tmp_path / f"{number}.jpg")
        paths[-1].write_bytes(content)
    outcomes = list(decode_all(paths))
    assert [outcome for outcome in outcomes if isinstance(outcome, DataError)] == []
    assert len(outcomes) == len(GOOD)


def test_full_decoding_finds_what_the_quick_look_cannot_see(tmp_path: Path) -> None:
    garbled = JPEG.replace(b"\xff\xda", b"\xff\xe5")  # the pixels are no longer marked as such
    (tmp_path / "garbled.jpg").write_bytes(garbled)
    (tmp_path / "good.jpg").write_bytes(JPEG)
    assert read_header(tmp_path / "garbled.jpg") == ImageHeader("JPEG", WIDTH, HEIGHT)
    good, broken = decode_all([tmp_path / "good.jpg", tmp_path / "garbled.jpg"])
    assert isinstance(good, tuple)
    assert isinstance(broken, DataError)
    assert re.fullmatch(rf"{tmp_path}/garbled\.jpg: cannot be decoded \([^{{\[]+\); replace it", str(broken))
