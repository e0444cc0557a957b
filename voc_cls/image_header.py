"""What the structure of an image file says, read before anything is decoded: its size, and how much work it makes.

A file of a few kilobytes can claim thousands of megapixels, and a decoder allocates what the header claims. The sizes
are taken where TensorFlow's decoders (libjpeg, libpng, giflib, its own BMP reader) and Pillow's (WebP, TIFF) take them.

Within the pixels of its header, a JPEG may repeat a scan of a few bytes hundreds of times, a PNG unpack to gigabytes.
`image_work` refuses such files, and leaves out the parts that the pixels do not need (text, colour profiles, further
frames). Every loop is bounded.

EXIF's orientation says how the stored pixels are to be turned for display. It is read here and, with the same rules, in
the graph of `voc_cls/data/orientation.py`: anything damaged counts as upright.
"""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
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
JPEG_START, JPEG_END, JPEG_SCAN = 0xD8, 0xD9, 0xDA
"""Markers SOI, EOI and SOS: behind them there is no frame header."""
GIF_IMAGE, GIF_EXTENSION = 0x2C, 0x21
GIF_CONTROL = b"\x21\xf9\4"
"""Begin of a graphic control extension (GIF89a, 23), which says what colour is transparent."""
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Those that the pixels need."""
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type → samples of a pixel (PNG 3, table 8)."""
EXIF = b"Exif\0\0"
"""What EXIF begins with in a JPEG: a TIFF header and directory follow."""
ORIENTATION, SHORT = 0x0112, 3
"""The tag, and its type (EXIF 2.32, 4.6.4 A)."""
PROGRESSIVE = 2
"""SOF2. libjpeg decodes SOF0 to SOF2 at 8 bits a sample: baseline, extended and progressive Huffman coding."""
TIFF_TAGS = {256: "width", 257: "height", 258: "bits", 259: "compression", 262: "photometric", 322: "tile_width",
             323: "tile_height", 339: "sample_format"}
TIFF_BITS = (1, 2, 4, 8, 16)
TIFF_SAMPLES = {2: "signed", 3: "floating-point"}
"""SampleFormat (TIFF 6.0, section 19) of numbers that Pillow takes for unsigned ones, or not at all."""
TIFF_TYPES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
"""Bytes of one number of each type (TIFF 6.0, section 2)."""
TIFF_JPEG, PROGRESSIVE_HEADER = (6, 7), b"\xff\xc2"
"""Compressions by JPEG (TIFF 6.0, section 22, and its technical note 2), and the marker SOF2."""
TIFF_STRIPS = (273, 324)
"""Tags: where the strips, or the tiles, are."""
LARGEST_TILE = 1 << 24
"""Pixels. libtiff allocates what the header claims."""
LAST_MARKER = 0xFFDB
"""From here down, a JPEG's segments (tables, frame headers) have no EXIF behind them; or it is no marker at all."""
MOST_PARTS = 1 << 14
"""Segments, chunks or frames of a file. A PNG of 32 MiB in chunks of 8 KiB has 4,096."""
MOST_SEGMENTS, MOST_ENTRIES, MOST_TAGS = 64, 256, 4_096
"""Segments or chunks before the pixels, and entries of a directory, in which EXIF's orientation is looked for; entries
of a TIFF's directory, each of which Pillow reads in Python."""
MOST_SCANS = 100
"""Of a JPEG, however small: libtiff's own limit, too."""
MOST_BLOCKS, MOST_STRIPS = 1 << 18, 1 << 16
"""Blocks of a GIF's data, 255 bytes each: 64 MiB. Strips or tiles of a TIFF, which may be one for each row; frames and
extensions of a GIF."""
WORK_PER_PIXEL = 12
"""Passes over the largest image allowed; libjpeg's own progressive scripts have 10 scans, mozjpeg's up to 12."""
UNPACKED_AT_ONCE, UNPACKED_TOO_MUCH = 1 << 20, 1 << 16
"""Bytes of a PNG that are unpacked at a time, and that may follow its pixels: some writers add rows."""
PILLOW_WORK, RUN_LENGTH_WORK = 8, 64
"""Passes for each pixel of what Pillow decodes, and for each byte and pixel of a BMP with run lengths: that is done in
Python."""


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
    """JPEG, PNG: bytes from the start of the file to the end of the size."""
    components: int = field(default=3, compare=False)
    """JPEG: 1 is grey, 3 colours, 4 CMYK."""
    passes: int = field(default=0, compare=False)
    """TIFF: pixels that decoding its tiles passes over, which may be far larger than the image."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) as displayed."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)


@dataclass(frozen=True)
class ImageWork:
    """An image file that may be decoded."""

    header: ImageHeader
    content: bytes
    """The file, or only those parts of it that its pixels need."""
    pixels: int
    """Of the decoded image; of a GIF, those of all frames."""
    passes: int
    """Pixels that decoding it passes over, 1 to 6 nanoseconds each."""
    place: tuple[int, int, int, int] = (0, 0, 0, 0)
    """GIF: left and top edge of the first frame on the canvas, whose width and height follow."""


def image_format(content: bytes) -> str:
    """JPEG, PNG, BMP, GIF, WebP or TIFF, by the first bytes; ImageError for anything else."""
    for magic, name in MAGIC.items():
        if content.startswith(magic) and (name != "WebP" or content[8:12] == b"WEBP"):
            return name
    begin = content[:8].decode("latin-1")  # as text, where it is some
    begin = f"'{begin}'" if begin.isascii() and begin.isprintable() else f"the bytes {content[:8].hex(' ')}"
    raise ImageError(f"not a {FORMATS} picture: " + (f"{len(content)} bytes that start with {begin}" if content else
                                                     "empty"))


def image_header(content: bytes) -> ImageHeader:
    """The header of an image file, of which `content` is the beginning or all.

    Raises ImageError when the format is unknown, the header is cut off or damaged, or nothing here decodes its kind.
    """
    name = image_format(content)
    try:
        header = HEADERS[name](content)
    except (struct.error, IndexError):
        raise ImageError(f"a damaged {name} picture: its header ends after {len(content)} bytes") from None
    if name == "JPEG" and (header.frame_type > PROGRESSIVE or header.bits != 8):
        raise ImageError(f"a JPEG of {header.bits} bits a sample coded as SOF{header.frame_type}, where 8 bits, "
                         "baseline or progressive (SOF0 to SOF2), are decoded")
    if name == "TIFF" and header.bits not in TIFF_BITS:
        raise ImageError(f"a TIFF of {header.bits} bits a sample, where {', '.join(map(str, TIFF_BITS))} are decoded")
    if header.width < 1 or header.height < 1:
        raise ImageError(f"a {name} whose header says {header.width} × {header.height} pixels")
    return header


def image_work(content: bytes, max_pixels: int) -> ImageWork:
    """What decoding a file takes. Raises ImageError where that is more than `max_pixels` and its kind justify."""
    header = image_header(content)
    _check_pixels(header.width * header.height, max_pixels)
    try:
        work = WORKS[header.format](content, header)
    except (struct.error, IndexError):
        raise ImageError(f"a damaged {header.format} picture: it ends after {len(content)} bytes") from None
    _check_pixels(work.pixels, max_pixels)
    if work.passes > WORK_PER_PIXEL * max_pixels:
        raise ImageError(f"too much work: {header.format} of {work.pixels / 1e6:.1f} megapixels, decoded in "
                         f"{work.passes / work.pixels:.0f} passes; this server makes up to {WORK_PER_PIXEL} over "
                         f"{max_pixels / 1e6:g} megapixels (`max_megapixels`)")
    return work


def is_plain_bmp(content: bytes) -> bool:
    """Whether a BMP is of the only kind that TensorFlow decodes rightly: 24 or 32 bits a pixel, not compressed."""
    size, _, _, _, bits, compression = struct.unpack("<IiiHHI", content[14:34].ljust(20, b"\0"))
    return size >= 40 and bits in (24, 32) and compression == 0


def _check_pixels(pixels: int, max_pixels: int) -> None:
    if pixels > max_pixels:
        raise ImageError(f"too large: {pixels / 1e6:.1f} megapixels, this server decodes up to {max_pixels / 1e6:g} "
                         "(`max_megapixels`)")


def _most(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise ImageError(f"a {what} than the {limit:,} that are decoded")


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int]]:
    """Marker and begin, behind it, of each (ITU-T T.81, annex B); bytes between them are skipped, as by libjpeg."""
    at, segments = 2, 0
    while found := JPEG_MARKER.search(content, at):
        segments += 1
        _most(segments, MOST_PARTS, "JPEG of more segments")
        at = found.end()
        yield content[at - 1], at
        at += struct.unpack_from(">H", content, at)[0]


def _jpeg(content: bytes) -> ImageHeader:
    for marker, at in _jpeg_segments(content):
        if marker in JPEG_FRAME_HEADERS:
            bits, height, width, components = struct.unpack_from(">BHHB", content, at + 2)
            return ImageHeader("JPEG", width, height, _jpeg_orientation(content), bits, marker - 0xC0, at + 7,
                               components)
        if marker in (JPEG_START, JPEG_END, JPEG_SCAN):
            break
    raise IndexError("no frame header")


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
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    start = int.from_bytes(tiff[4:8].ljust(4, b"\0"), order)
    entries = int.from_bytes(tiff[start:start + 2].ljust(2, b"\0"), order)
    table = tiff[start + 2:start + 2 + 12 * MOST_ENTRIES].ljust(12 * MOST_ENTRIES, b"\0")
    for at in range(0, 12 * min(entries, MOST_ENTRIES), 12):
        tag, kind = (int.from_bytes(table[at + place:at + place + 2], order) for place in (0, 2))
        if (tag, kind) == (ORIENTATION, SHORT) and tiff[:2] in (b"II", b"MM"):
            value = int.from_bytes(table[at + 8:at + 10], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, begin and end of each; struct.error behind the last one."""
    at = 8
    while True:
        length, kind = struct.unpack_from(">I4s", content, at)
        yield kind, at, at + 12 + length
        at += 12 + length


def _png(content: bytes) -> ImageHeader:
    width, height, bits = struct.unpack_from(">IIB", content, 16)
    orientation = 1
    for kind, begin, end in islice(_png_chunks(content), MOST_SEGMENTS):
        if kind == b"eXIf":
            orientation = _orientation(content[begin + 8:end - 4])
        if kind in (b"eXIf", b"IDAT"):
            break
    return ImageHeader("PNG", width, height, orientation, bits, length=24)


def _bmp(content: bytes) -> ImageHeader:
    if struct.unpack_from("<I", content, 14)[0] == 12:  # OS/2's
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        return ImageHeader("BMP", width, height, bits=bits)
    width, height, _, bits = struct.unpack_from("<iiHH", content, 18)
    return ImageHeader("BMP", abs(width), abs(height), bits=bits)  # a negative height: from the top down


def _gif(content: bytes) -> ImageHeader:
    width, height = struct.unpack_from("<HH", content, 6)
    return ImageHeader("GIF", width, height)


def _webp(content: bytes) -> ImageHeader:
    """https://developers.google.com/speed/webp/docs/riff_container; EXIF follows the pixels."""
    kind, _, first = struct.unpack_from("<4sIQ", content, 12)
    if kind == b"VP8X" and len(content) >= 30:
        width, height = (1 + int.from_bytes(content[at:at + 3], "little") for at in (24, 27))
        return ImageHeader("WebP", width, height, _webp_orientation(content) if first & 0x08 else 1)
    if kind == b"VP8L":
        size = first >> 8
        return ImageHeader("WebP", 1 + (size & 0x3FFF), 1 + (size >> 14 & 0x3FFF))
    if kind != b"VP8 ":
        raise IndexError("no image")
    width, height = struct.unpack_from("<HH", content, 26)
    return ImageHeader("WebP", width & 0x3FFF, height & 0x3FFF)


def _webp_orientation(content: bytes) -> int:
    at, chunks, end = 12, 0, 8 + struct.unpack_from("<I", content, 4)[0]
    while at < end:
        chunks += 1
        _most(chunks, MOST_PARTS, "WebP of more chunks")
        kind, length = struct.unpack_from("<4sI", content, at)
        if kind == b"EXIF":
            return _orientation(content[at + 8:at + 8 + length].removeprefix(EXIF))
        at += 8 + length + length % 2
    return 1


def _tiff(content: bytes) -> ImageHeader:
    """The first page (TIFF 6.0, section 2: Image File Directory), which may be anywhere in the file.

    Pillow reads what all of its entries claim.
    """
    order = "<" if content[:2] == b"II" else ">"
    start, = struct.unpack_from(order + "I", content, 4)
    entries, = struct.unpack_from(order + "H", content, start)
    values, claimed = {"bits": 1}, 0
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", content, at)
        value = order + ("H" if kind == SHORT else "I")
        place = at + 8 if number * struct.calcsize(value) <= 4 else struct.unpack_from(order + "I", content, at + 8)[0]
        if tag in TIFF_TAGS:
            values[TIFF_TAGS[tag]], = struct.unpack_from(value, content, place)
        if tag in TIFF_STRIPS:
            _most(number, MOST_STRIPS, "TIFF of more strips or tiles")
        claimed += number * TIFF_TYPES[kind] if kind < len(TIFF_TYPES) else 0
    if claimed > len(content):
        raise ImageError(f"a TIFF whose directory claims {claimed:,} bytes of {len(content):,}")
    sample_format, photometric = values.pop("sample_format", 1), values.pop("photometric", 1)
    if sample_format in TIFF_SAMPLES and values["bits"] in TIFF_BITS:
        raise ImageError(f"a TIFF of {TIFF_SAMPLES[sample_format]} numbers; unsigned whole ones are decoded")
    if photometric == 0 and values["bits"] == 16:
        raise ImageError("a TIFF of 16 bits a sample in which 0 is white; save it with 0 as black")
    _most(entries, MOST_TAGS, "TIFF of more entries")
    tile_width, tile_height = (max(1, values.pop(name, 1)) for name in ("tile_width", "tile_height"))
    if tile_width * tile_height > LARGEST_TILE:
        raise IndexError("no tile")
    if not {"width", "height"} <= values.keys():
        raise IndexError("no size")
    tiles = -(-values["width"] // tile_width) * -(-values["height"] // tile_height)
    scans = values.pop("compression", 1) in TIFF_JPEG and PROGRESSIVE_HEADER in content
    passes = tiles * tile_width * tile_height * (MOST_SCANS if scans else PILLOW_WORK)
    return ImageHeader("TIFF", **values, orientation=_orientation(content), passes=passes)


def _jpeg_work(content: bytes, header: ImageHeader) -> ImageWork:
    """Counts scans as libjpeg finds them."""
    scans, frames, complete = 0, 0, False
    for marker, at in _jpeg_segments(content):
        if marker == JPEG_END:
            return _work(content, header, max(PILLOW_WORK if header.components == 4 else 1, scans))
        frames += marker in JPEG_FRAME_HEADERS
        if marker == JPEG_SCAN:
            scans += 1
            _most(scans, MOST_SCANS, "JPEG of more scans")
            if complete or frames > 1:
                raise ImageError("a JPEG with scans behind its last one")
            complete = header.frame_type != PROGRESSIVE and content[at + 2] == header.components
    raise ImageError(f"a damaged JPEG picture: its end is missing after {len(content)} bytes")


def _png_work(content: bytes, header: ImageHeader) -> ImageWork:
    parts, kinds = [content[:8]], set()
    for number, (kind, begin, end) in enumerate(_png_chunks(content)):
        _most(number, MOST_PARTS, "PNG of more chunks")
        if end > len(content):
            break
        if kind[:1].isupper():
            if zlib.crc32(content[begin + 4:end - 4]) != int.from_bytes(content[end - 4:end], "big"):
                raise ImageError(f"a damaged PNG picture: the checksum of its {kind.decode('latin-1')} is wrong")
            if kind not in PNG_CHUNKS:
                raise ImageError("a PNG with parts that no decoder knows")
        if kind in PNG_CHUNKS:
            parts.append(content[begin:end])
        kinds.add(kind)
        if kind == b"IEND":
            break
    if not {b"IHDR", b"IDAT", b"IEND"} <= kinds:
        raise IndexError("no end")
    bits, interlaced = header.bits * PNG_SAMPLES.get(content[25], 4), content[28]
    row = 1 + (header.width * bits + 7) // 8  # led by its filter
    _unpack((part[8:-4] for part in parts[1:] if part[4:8] == b"IDAT"), row * header.height * (1 + bool(interlaced)))
    return _work(b"".join(parts), header)


def _unpack(pieces: Iterable[bytes], most: int) -> None:
    """Unpacks a PNG's pixels, keeping nothing; ImageError where they are many more than its header says."""
    unpacker, total = zlib.decompressobj(), 0
    with contextlib.suppress(zlib.error):  # the decoder will say so, unless it is behind the pixels
        for piece in pieces:
            while piece and not unpacker.eof:
                total += len(unpacker.decompress(piece, UNPACKED_AT_ONCE))
                piece = unpacker.unconsumed_tail
                if total > most + UNPACKED_TOO_MUCH:
                    raise ImageError(f"a PNG that unpacks to more than the {most:,} bytes of its pixels")


def _bmp_work(content: bytes, header: ImageHeader) -> ImageWork:
    if not is_plain_bmp(content):
        pixels, runs = header.width * header.height, content[14] >= 40 and content[30] in (1, 2)
        return ImageWork(header, content, pixels, pixels + runs * RUN_LENGTH_WORK * (pixels + len(content)))
    start, = struct.unpack_from("<I", content, 10)
    length = start + (header.width * header.bits + 31) // 32 * 4 * header.height
    if length != len(content):
        raise ImageError(f"a damaged BMP picture: it has {len(content):,} bytes, its header says {length:,}")
    return _work(content, header)


def _gif_work(content: bytes, header: ImageHeader) -> ImageWork:
    """The first frame as a file of its own; TensorFlow's decoder makes transparent pixels black."""
    frames = list(_gif_frames(content))
    if not frames or not frames[0][1][2] or not frames[0][1][3]:
        raise ImageError("a GIF without a picture")
    begin, (left, top, width, height), end, transparent = frames[0]
    frame = bytearray().join((
        content[:6], struct.pack("<HH", width, height), content[10:13 + _gif_colours(content[10])],
        struct.pack("<BHHHH", GIF_IMAGE, 0, 0, width, height), content[begin + 9:end], b";"))
    colours = _gif_colours(content[10]), _gif_colours(content[begin + 9])
    if 3 * transparent < (colours[1] or colours[0]) and transparent >= 0:
        black = 3 * transparent + (23 + colours[0] if colours[1] else 13)
        frame[black:black + 3] = bytes(3)
    sizes = [size for _, (_, _, *size), _, _ in frames]
    canvas = max(width for width, _ in sizes), max(height for _, height in sizes)
    pixels = max(header.width * header.height, canvas[0] * canvas[1]) + sum(width * height for width, height in sizes)
    return ImageWork(header, bytes(frame), pixels, pixels, (left, top, *canvas))


def _gif_frames(content: bytes) -> Iterator[tuple[int, tuple[int, int, int, int], int, int]]:
    """Of a GIF: begin, (left, top, width, height), end and transparent colour (-1: none) of each frame."""
    at, blocks, frames, parts, transparent = 13 + _gif_colours(content[10]), 0, 0, 0, -1
    while at < len(content) and content[at] in (GIF_IMAGE, GIF_EXTENSION):
        parts += 1
        _most(parts, MOST_STRIPS, "GIF of more frames and extensions")
        begin, is_frame = at, content[at] == GIF_IMAGE
        place = struct.unpack_from("<HHHH", content, at + 1) if is_frame else (0, 0, 0, 0)
        if content[at:at + 3] == GIF_CONTROL:
            transparent = content[at + 6] if content[at + 3] & 1 else -1
        at += 11 + _gif_colours(content[at + 9]) if is_frame else 2
        while at < len(content) and content[at]:  # blocks, each led by its length, up to an empty one
            at += content[at] + 1
            blocks += 1
            _most(blocks, MOST_BLOCKS, "GIF of more blocks")
        at += 1
        if is_frame and at <= len(content):
            frames += 1
            _most(frames, MOST_PARTS, "GIF of more frames")
            yield begin, place, at, transparent
            transparent = -1


def _gif_colours(flags: int) -> int:
    """Bytes of the colour table that a flags byte announces."""
    return 3 * 2 ** ((flags & 0x07) + 1) if flags & 0x80 else 0


def _work(content: bytes, header: ImageHeader, passes: int = PILLOW_WORK) -> ImageWork:
    pixels = header.width * header.height
    return ImageWork(header, content, pixels, header.passes or pixels * passes)


HEADERS = {"JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "GIF": _gif, "WebP": _webp, "TIFF": _tiff}
WORKS = {"JPEG": _jpeg_work, "PNG": _png_work, "BMP": _bmp_work, "GIF": _gif_work, "WebP": _work, "TIFF": _work}
