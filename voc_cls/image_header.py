"""What the header of an image file says, read before anything is decoded.

A file of a few kilobytes can claim thousands of megapixels, and a decoder allocates what the header claims. The sizes
are taken where TensorFlow's decoders (libjpeg, libpng, giflib, its own BMP reader) and Pillow's (WebP, TIFF) take them.

EXIF's orientation says how the stored pixels are to be turned for display. It is read here and, with the same rules, in
the graph of `voc_cls/data/orientation.py`: anything damaged counts as upright.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import Literal

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
"""Of files in a folder that are taken for images; compare with `path.suffix.lower()`."""
FORMATS = "JPEG, PNG, BMP, GIF, WebP or TIFF"
MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n\x1a\n": "PNG", b"BM": "BMP", b"GIF8": "GIF", b"RIFF": "WebP",
         b"II*\0": "TIFF", b"MM\0*": "TIFF"}
JPEG_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers SOF0 … SOF15 (ITU-T T.81, table B.1); C4, C8 and CC between them are tables and reserved."""
JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
"""Not stuffed or fill bytes, and not TEM and RST0 … RST7, which no segment follows."""
JPEG_NO_HEADER = frozenset({0xD8, 0xD9, 0xDA})
"""SOI, EOI, SOS: the header is over."""
GIF_IMAGE, GIF_EXTENSION = 0x2C, 0x21
EXIF = b"Exif\0\0"
"""What EXIF begins with in a JPEG: a TIFF header and directory follow."""
ORIENTATION, SHORT = 0x0112, 3
"""The tag, and its type (EXIF 2.32, 4.6.4 A)."""
JPEG_DECODABLE = (0, 1, 2)
"""SOF0 to SOF2: baseline, extended and progressive Huffman coding, which libjpeg decodes at 8 bits a sample."""
TIFF_TAGS = {256: "width", 257: "height", 258: "bits", 262: "photometric", 322: "tile_width", 323: "tile_height",
             339: "sample_format"}
TIFF_BITS = (1, 2, 4, 8, 16)
TIFF_SAMPLES = {2: "signed", 3: "floating-point"}
"""SampleFormat (TIFF 6.0, section 19) of numbers that Pillow takes for unsigned ones, or not at all."""
LARGEST_TILE = 1 << 24
"""Pixels. libtiff allocates what the header claims."""
LAST_MARKER = 0xFFDB
"""From here down, a JPEG's segments (tables, frame headers) have no EXIF behind them; or it is no marker at all."""
MOST_PARTS = 1 << 14
"""Segments, chunks or frames of a file. A PNG of 32 MiB in chunks of 8 KiB has 4,096."""
MOST_SEGMENTS, MOST_ENTRIES = 64, 256
"""Segments or chunks before the pixels, and entries of a directory, in which EXIF's orientation is looked for."""


class ImageError(ValueError):
    """An image that cannot be used; the message continues "images[2] is …"."""


@dataclass(frozen=True)
class ImageHeader:
    """Format and size of an image file, as stored."""

    format: str
    """JPEG, PNG, BMP, GIF, WebP or TIFF."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    orientation: int = 1
    """EXIF's: 1 is upright; 3 upside down; 6 and 8 lie on a side; 2, 4, 5 and 7 are mirrored too."""
    bits: int = field(default=8, compare=False)
    """JPEG, PNG, TIFF: bits of a sample; BMP: bits of a pixel."""
    frame_type: int = field(default=0, compare=False)
    """JPEG: number of the frame header, SOF0 to SOF15, which says how the samples are coded."""
    length: int = field(default=0, compare=False)
    """Bytes from the start of the file to the end of what was read."""
    components: int = field(default=3, compare=False)
    """JPEG: 1 is grey, 3 colours, 4 CMYK."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) as displayed."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)


def image_format(content: bytes) -> str:
    """JPEG, PNG, BMP, GIF, WebP or TIFF, by the first bytes; ImageError for anything else."""
    for magic, name in MAGIC.items():
        if content.startswith(magic) and (name != "WebP" or content[8:12] == b"WEBP"):
            return name
    start = f"{len(content)} bytes that start with {content[:8]!r}" if content else "empty"
    raise ImageError(f"not a {FORMATS} picture: {start}")


def image_header(content: bytes) -> ImageHeader:
    """The header of an image file, of which `content` is the beginning or all.

    Raises ImageError when the format is unknown, the header is cut off or damaged, or nothing here decodes its kind.
    """
    name = image_format(content)
    try:
        header = READERS[name](content)
    except ImageError:
        raise
    except (struct.error, IndexError, ValueError):
        raise _damaged(name, content) from None
    if name == "JPEG" and (header.frame_type not in JPEG_DECODABLE or header.bits != 8):
        raise ImageError(f"a JPEG of {header.bits} bits a sample coded as SOF{header.frame_type}, where 8 bits, "
                         "baseline or progressive (SOF0 to SOF2), are decoded")
    if name == "TIFF" and header.bits not in TIFF_BITS:
        raise ImageError(f"a TIFF of {header.bits} bits a sample, where {', '.join(map(str, TIFF_BITS))} are decoded")
    if header.width < 1 or header.height < 1:
        raise ImageError(f"a {name} whose header says {header.width} × {header.height} pixels")
    return header


def is_plain_bmp(content: bytes) -> bool:
    """Whether a BMP is of the only kind that TensorFlow decodes rightly: 24 or 32 bits a pixel, not compressed."""
    size, _, _, _, bits, compression = struct.unpack("<IiiHHI", content[14:34].ljust(20, b"\0"))
    return size >= 40 and bits in (24, 32) and compression == 0


def _damaged(name: str, content: bytes) -> ImageError:
    return ImageError(f"a damaged {name} picture: its header ends after {len(content)} bytes")


def _jpeg(content: bytes) -> ImageHeader:
    """Walks over the segments (ITU-T T.81, annex B) to the frame header; bytes between them are skipped by libjpeg."""
    at = 2
    for _ in range(MOST_PARTS):
        found = JPEG_MARKER.search(content, at)
        if found is None:
            break
        marker, at = content[found.end() - 1], found.end()
        if marker in JPEG_FRAME_HEADERS:
            bits, height, width, components = struct.unpack_from(">BHHB", content, at + 2)
            return ImageHeader("JPEG", width, height, _jpeg_orientation(content), bits, marker - 0xC0, at + 7,
                               components)
        if marker in JPEG_NO_HEADER:
            break
        at += struct.unpack_from(">H", content, at)[0]
    else:
        raise ImageError(f"a JPEG of more segments than the {MOST_PARTS:,} that are decoded")
    raise ValueError("no frame header")


def _jpeg_orientation(content: bytes) -> int:
    at = 2
    for _ in range(MOST_SEGMENTS):
        marker, length = struct.unpack(">HH", content[at:at + 4].ljust(4, b"\0"))
        if marker <= LAST_MARKER:
            break
        if marker == 0xFFE1 and content[at + 4:at + 10] == EXIF:
            return _orientation(content[at + 10:at + 2 + length])
        at += 1 if marker == 0xFFFF else 2 + length  # fill bytes may precede a marker
    return 1


def _orientation(tiff: bytes) -> int:
    """Of the first directory of a TIFF structure; 1 where it is damaged or has none. What is cut off counts as 0."""
    order = _byte_order(tiff)
    start = int.from_bytes(tiff[4:8].ljust(4, b"\0"), order)
    entries = int.from_bytes(tiff[start:start + 2].ljust(2, b"\0"), order)
    table = tiff[start + 2:start + 2 + 12 * MOST_ENTRIES].ljust(12 * MOST_ENTRIES, b"\0")
    for at in range(0, 12 * min(entries, MOST_ENTRIES), 12):
        tag, kind = (int.from_bytes(table[at + place:at + place + 2], order) for place in (0, 2))
        if (tag, kind) == (ORIENTATION, SHORT) and tiff[:2] in (b"II", b"MM"):
            value = int.from_bytes(table[at + 8:at + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _byte_order(tiff: bytes) -> Literal["little", "big"]:
    return "little" if tiff[:2] == b"II" else "big"


def _png(content: bytes) -> ImageHeader:
    width, height, bits = struct.unpack_from(">IIB", content, 16)
    orientation, at = 1, 8
    for _ in range(MOST_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", content, at)
        if kind == b"IDAT":
            break
        if kind == b"eXIf":
            orientation = _orientation(content[at + 8:at + 8 + length])
            break
        at += 12 + length
    return ImageHeader("PNG", width, height, orientation, bits, length=24)


def _bmp(content: bytes) -> ImageHeader:
    if struct.unpack_from("<I", content, 14)[0] == 12:  # OS/2's
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        return ImageHeader("BMP", width, height, bits=bits, length=26)
    width, height, _, bits = struct.unpack_from("<iiHH", content, 18)
    return ImageHeader("BMP", abs(width), abs(height), bits=bits, length=30)  # a negative height: from the top down


def _gif(content: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", content, 6)
    return ImageHeader("GIF", width, height, length=10)


def _webp(content: bytes) -> ImageHeader:
    """https://developers.google.com/speed/webp/docs/riff_container; EXIF follows the pixels."""
    kind, _, first = struct.unpack_from("<4sIQ", content, 12)
    if kind == b"VP8X" and len(content) >= 30:
        width, height = (1 + int.from_bytes(content[at:at + 3], "little") for at in (24, 27))
        return ImageHeader("WebP", width, height, _webp_orientation(content) if first & 0x08 else 1, length=30)
    if kind == b"VP8L":
        size = first >> 8
        return ImageHeader("WebP", 1 + (size & 0x3FFF), 1 + (size >> 14 & 0x3FFF), length=25)
    if kind != b"VP8 ":
        raise ValueError("no image")
    width, height = struct.unpack_from("<HH", content, 26)
    return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF, length=30)


def _webp_orientation(content: bytes) -> int:
    at, end = 12, 8 + struct.unpack_from("<I", content, 4)[0]
    while at < end:
        kind, length = struct.unpack_from("<4sI", content, at)
        if kind == b"EXIF":
            return _orientation(content[at + 8:at + 8 + length].removeprefix(EXIF))
        at += 8 + length + length % 2
    return 1


def _tiff(content: bytes) -> ImageHeader:
    """The first page (TIFF 6.0, section 2: Image File Directory), which may be anywhere in the file."""
    order = "<" if _byte_order(content) == "little" else ">"
    start, = struct.unpack_from(order + "I", content, 4)
    entries, = struct.unpack_from(order + "H", content, start)
    values = {"bits": 1}
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", content, at)
        value = order + ("H" if kind == SHORT else "I")
        place = at + 8 if number * struct.calcsize(value) <= 4 else struct.unpack_from(order + "I", content, at + 8)[0]
        if tag in TIFF_TAGS:
            values[TIFF_TAGS[tag]], = struct.unpack_from(value, content, place)
    sample_format, photometric = values.pop("sample_format", 1), values.pop("photometric", 1)
    if sample_format in TIFF_SAMPLES and values["bits"] in TIFF_BITS:
        raise ImageError(f"a TIFF of {TIFF_SAMPLES[sample_format]} numbers; unsigned whole ones are decoded")
    if photometric == 0 and values["bits"] == 16:
        raise ImageError("a TIFF of 16 bits a sample in which 0 is white; save it with 0 as black")
    if values.pop("tile_width", 0) * values.pop("tile_height", 0) > LARGEST_TILE:
        raise ValueError("no tile")
    if not {"width", "height"} <= values.keys():
        raise ValueError("no size")
    return ImageHeader("TIFF", **values, orientation=_orientation(content), length=start)


READERS = {"JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "GIF": _gif, "WebP": _webp, "TIFF": _tiff}


def gif_colours(flags: int) -> int:
    """Bytes of the colour table that a flags byte announces."""
    return 3 * 2 ** ((flags & 0x07) + 1) if flags & 0x80 else 0
