"""The size of a picture is known before anything of it is decoded."""

from __future__ import annotations

import io
import struct
from typing import Any

import pytest
from PIL import Image

from voc_cls.image_header import ImageError, image_format, image_header

WIDTH, HEIGHT = 301, 203


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, "white").save(buffer, kind, **options)
    return buffer.getvalue()


def size(content: bytes) -> tuple[int, int]:
    header = image_header(content)
    return header.width, header.height


@pytest.mark.parametrize(("kind", "options"), [
    ("JPEG", {}), ("JPEG", {"progressive": True}), ("JPEG", {"exif": b"Exif\0\0" + bytes(3000)}),
    ("PNG", {}), ("BMP", {}),
])
def test_width_and_height_are_read_from_the_header(kind: str, options: dict[str, Any]) -> None:
    content = encoded(kind, **options)
    assert image_format(content) == kind
    assert size(content) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colour_spaces_have_a_size_too(mode: str) -> None:
    assert size(encoded("JPEG", mode)) == (WIDTH, HEIGHT)


def test_a_thumbnail_inside_a_jpeg_is_not_its_size() -> None:
    thumbnail = encoded("JPEG", size=(16, 16))
    content = encoded("JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert size(content[:2] + segment + content[2:]) == (WIDTH, HEIGHT)


def test_a_bmp_from_top_to_bottom_has_a_positive_size() -> None:
    content = bytearray(encoded("BMP"))
    content[22:26] = struct.pack("<i", -HEIGHT)
    assert size(bytes(content)) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF"])
def test_a_header_cut_off_anywhere_is_named_and_never_an_error_of_ours(kind: str) -> None:
    content = encoded(kind)
    needed = {"JPEG": 160, "PNG": 24, "BMP": 26, "GIF": 10}[kind]  # where the size stands, at the earliest
    for length in range(8, needed):
        with pytest.raises(ImageError, match=f"^a damaged {kind} picture: its header ends after {length} bytes$"):
            image_header(content[:length])


@pytest.mark.parametrize("content", [b"", b"%PDF", b"RIFF....WAVE", b"\x00" * 100])
def test_anything_else_is_no_picture(content: bytes) -> None:
    with pytest.raises(ImageError, match=r"^not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: "):
        image_header(content)
