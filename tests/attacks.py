"""Image files that cost a decoder far more than their size: of every format, made from real ones."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from PIL import Image

ZEROS = 1 << 26
"""Bytes of zeros in a PNG: 64 KiB of a file. As 1 GiB they take seconds to pack."""
MARKER_SOS, MARKER_EOI = b"\xff\xda", b"\xff\xd9"


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@cache
def flat(side: int, mode: str = "L") -> Image.Image:
    return Image.new(mode, (side, side), 7 if mode == "L" else (7, 70, 170))


@cache
def many_scans(side: int = 7900, scans: int = 500, mode: str = "L") -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    content = saved(flat(side, mode), "JPEG", progressive=True)
    last = content[content.rindex(MARKER_SOS):-len(MARKER_EOI)]
    return content[:-2] + last * (scans - content.count(MARKER_SOS)) + MARKER_EOI


def costly() -> bytes:
    """A transparent PNG of 62 megapixels in 261 kB that no rule refuses: 2 s of work on a quiet core."""
    return saved(Image.new("RGBA", (7900, 7900), (7, 70, 170, 7)), "PNG")


COSTLY = (costly,
          lambda: saved(Image.new("RGBA", (7900, 7900), (7, 70, 170, 7)), "WEBP", lossless=True, method=0),  # 38 bytes
          lambda: saved(Image.new("CMYK", (7900, 7900)), "JPEG", progressive=True))
"""Pictures that no rule refuses and that take much time or memory for their size."""


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(side: int, *chunks: bytes, behind: int = 0) -> bytes:
    """A grey PNG with other chunks before its pixels, and with zeros behind them."""
    packer = zlib.compressobj(9)
    packed = packer.compress(bytes((side + 1) * side))
    for _ in range(behind >> 20):
        packed += packer.compress(bytes(1 << 20))
    return b"".join((b"\x89PNG\r\n\x1a\n", png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
                     *chunks, png_chunk(b"IDAT", packed + packer.flush()), png_chunk(b"IEND", b"")))


def packed_zeros(number: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(number >> 20)), packer.flush()])


def gif(frames: int, side: int, canvas: int = 0) -> bytes:
    """A GIF of many frames, or of frames far larger than its canvas."""
    content = saved(flat(side).convert("P"), "GIF")
    start = 13 + 3 * 2 ** ((content[10] & 7) + 1)
    head = bytearray(content[:start])
    struct.pack_into("<HH", head, 6, canvas or side, canvas or side)
    return bytes(head) + content[start:-1] * frames + b";"


def run_lengths(side: int) -> bytes:
    """A BMP of runs of one pixel each, which Pillow decodes in Python."""
    rows = (b"\x01\x07" * side + b"\0\0") * side + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", 54 + 1024 + len(rows), 0, 0, 54 + 1024) + header + bytes(1024) + rows


def exif(entries: int, claimed: int) -> bytes:
    """A TIFF directory each of whose entries claims the same bytes."""
    table = b"".join(struct.pack("<HHII", 1_000 + entry, 7, claimed, 8) for entry in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + table + bytes(4)


def one_pixel_rows(side: int) -> bytes:
    """A BMP with run lengths of which each row says one pixel only: Pillow fills it up in Python."""
    content = run_lengths(1)
    return content[:18] + struct.pack("<ii", side, side) + content[26:1078] + b"\1\7\0\0" * side + b"\0\1"


def webp_chunks(number: int) -> bytes:
    """A WebP with empty chunks where EXIF is looked for."""
    pixels = saved(flat(64, "RGB"), "WEBP", lossless=True)[12:]
    body = b"WEBPVP8X\n\0\0\0\x08\0\0\0" + (63).to_bytes(3, "little") * 2 + pixels + b"JUNK\0\0\0\0" * number
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(side: int = 8, strips: int = 1, claimed: int = 0, entries: int = 0, tile: int = 0,
         compression: int = 1) -> bytes:
    """A TIFF of many strips, whose directory claims the file many times, or of tiles 16 pixels wide."""
    pixels = bytes(side * side)
    tags = [(256, 4, 1, side), (257, 4, 1, side), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1),
            (273, 4, strips, 8), (277, 3, 1, 1), (278, 4, 1, max(1, side // strips)), (279, 4, strips, 8)]
    tags += [(322, 4, 1, 16), (323, 4, 1, tile)] if tile else []
    tags += [(1_000 + entry, 7, claimed, 8) for entry in range(entries)]
    table = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = 8 + max(len(pixels), 4 * strips)
    return (b"II*\0" + struct.pack("<I", start) + pixels.ljust(4 * strips, b"\0") + struct.pack("<H", len(tags)) + table
            + bytes(4))


def jpeg_with(segment: bytes, times: int = 1) -> bytes:
    """A small JPEG with segments behind its first marker."""
    content = saved(flat(64, "RGB"), "JPEG")
    return content[:2] + segment * times + content[2:]


def cmyk_with_exif() -> bytes:
    """A CMYK JPEG whose EXIF claims its 64 KiB five thousand times: Pillow reads it for the resolution."""
    content = saved(flat(64, "RGB").convert("CMYK"), "JPEG")
    payload = b"Exif\0\0" + exif(5_000, 60_000)
    return content[:2] + b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload + content[2:]


REFUSED: Mapping[str, tuple[Callable[[], bytes], str]] = {
    "JPEG, 500 scans": (many_scans, "more scans"),
    "JPEG, 100 scans of many pixels": (lambda: many_scans(4000, 99), "too much work"),
    "JPEG, tiny segments": (lambda: jpeg_with(b"\xff\xfe\0\2", 1 << 20), "more segments"),
    "JPEG, two frame headers": (lambda: (one := saved(flat(64), "JPEG"))[:-2] + one[2:], "behind its last one"),
    "JPEG, arithmetic": (lambda: saved(flat(64), "JPEG").replace(b"\xff\xc0", b"\xff\xc9"), "SOF9"),
    "PNG, zeros behind the pixels": (lambda: png(64, behind=ZEROS), "unpacks to more"),
    "PNG, many chunks": (lambda: png(64, png_chunk(b"zTXt", b"") * (1 << 17)), "more chunks"),
    "GIF, frames beyond the canvas": (lambda: gif(1, 9000, canvas=8), "megapixels"),
    "GIF, many frames": (lambda: gif(20_000, 1), "more frames"),
    "GIF, tiny blocks": (lambda: gif(1, 1)[:-2] + b"\1\0" * (1 << 20) + b"\0;", "more blocks"),
    "GIF, empty extensions": (lambda: (one := gif(1, 1))[:-1] + b"\x21\xfe\0" * (1 << 20) + one[-1:],
                              "more frames and extensions"),
    "BMP, run lengths": (lambda: run_lengths(4000), "too much work"),
    "BMP, rows of one pixel": (lambda: one_pixel_rows(7900), "too much work"),
    "WebP, many chunks": (lambda: webp_chunks(1 << 20), "more chunks"),
    "TIFF, many strips": (lambda: tiff(64, strips=1 << 20), "more strips"),
    "TIFF, the file claimed many times": (lambda: tiff(64, claimed=4096, entries=30_000), "claims"),
    "TIFF, many entries": (lambda: tiff(64, entries=60_000), "more entries"),
    "TIFF, tiles beyond the image": (lambda: tiff(128, tile=1 << 20), "too much work"),
    "TIFF, progressive JPEG": (lambda: tiff(3000, compression=7) + b"\xff\xc2", "too much work"),
    "TIFF, huge page": (lambda: tiff(8).replace(struct.pack("<HII", 4, 1, 8), struct.pack("<HII", 4, 1, 1 << 30)),
                        "megapixels"),
}
"""Name → an attack on a server with 64 megapixels, and what the refusal says."""
HARMLESS: Mapping[str, Callable[[], bytes]] = {
    "JPEG, 16 MiB of profiles": lambda: jpeg_with(b"\xff\xe2\xff\xffICC_PROFILE\0".ljust(65537, b"\0"), 256),
    "CMYK JPEG, EXIF that claims 300 MB": cmyk_with_exif,
    "PNG, profile of zeros": lambda: png(64, png_chunk(b"iCCP", b"icc\0\0" + packed_zeros(ZEROS))),
    "PNG, texts of 1 GiB": lambda: png(64, png_chunk(b"zTXt", b"text\0\0" + packed_zeros(1 << 24)) * 64),
    "PNG, EXIF that claims 32 GB": lambda: png(64, png_chunk(b"eXIf", exif(60_000, 600_000))),
}
"""Name → an attack on what the pixels do not need: it is passed over, and the image is answered."""
