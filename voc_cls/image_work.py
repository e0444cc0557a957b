"""How much work an image file makes, from its structure, before anything is decoded.

A small file can keep a decoder busy for minutes within the pixels of its header: a progressive JPEG may repeat a scan
of a few bytes hundreds of times, a PNG may unpack to gigabytes. Such files are refused here, and the parts of a file
that its pixels do not need (text, colour profiles, further frames) are not handed on to a decoder. Every loop is
bounded.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from voc_cls.image_header import (
    GIF_EXTENSION,
    GIF_IMAGE,
    JPEG_FRAME_HEADERS,
    JPEG_MARKER,
    MOST_PARTS,
    ImageError,
    ImageHeader,
    gif_colours,
    image_header,
    is_plain_bmp,
)

WORK_PER_PIXEL = 12
"""Passes over the largest image allowed; libjpeg's own progressive scripts have 10 scans, mozjpeg's up to 12."""
MOST_SCANS = 100
"""Of a JPEG, however small: libtiff's own limit, too."""
MOST_BLOCKS, MOST_STRIPS = 1 << 18, 1 << 16
"""Blocks of a GIF's data, 255 bytes each: 64 MiB. Strips or tiles of a TIFF, which may be one for each row."""
UNPACKED_AT_ONCE, UNPACKED_TOO_MUCH = 1 << 20, 1 << 16
"""Bytes of a PNG that are unpacked at a time, and that may follow its pixels: some writers add rows."""
PILLOW_WORK, RUN_LENGTH_WORK = 8, 64
"""Passes for each pixel of what Pillow decodes, and for each byte of a BMP with run lengths: that is done in Python."""
JPEG_SCAN, JPEG_END, PROGRESSIVE = 0xDA, 0xD9, 2
"""Markers SOS and EOI, and the frame header SOF2."""
GIF_CONTROL = b"\x21\xf9\4"
"""Begin of a graphic control extension (GIF89a, 23), which says what colour is transparent."""
PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
"""Those that the pixels need."""
PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Colour type → samples of a pixel (PNG 3, table 8)."""
TIFF_TYPES = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4)
"""Bytes of one number of each type (TIFF 6.0, section 2)."""
TIFF_STRIPS = (273, 324)
"""Tags: where the strips, or the tiles, are."""


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


def image_work(content: bytes, max_pixels: int | None = None) -> ImageWork:
    """What decoding a file takes. Raises ImageError where that is more than `max_pixels` and its kind justify."""
    header = image_header(content)
    _check_pixels(header.width * header.height, max_pixels)
    try:
        work = READERS[header.format](content, header)
    except (struct.error, IndexError):
        raise ImageError(f"a damaged {header.format} picture: it ends after {len(content)} bytes") from None
    _check_pixels(work.pixels, max_pixels)
    if max_pixels is not None and work.passes > WORK_PER_PIXEL * max_pixels:
        raise ImageError(f"too much work: {header.format} of {work.pixels / 1e6:.1f} megapixels, decoded in "
                         f"{work.passes / work.pixels:.0f} passes; this server makes up to {WORK_PER_PIXEL} over "
                         f"{max_pixels / 1e6:g} megapixels (`max_megapixels`)")
    return work


def _check_pixels(pixels: int, max_pixels: int | None) -> None:
    if max_pixels is not None and pixels > max_pixels:
        raise ImageError(f"too large: {pixels / 1e6:.1f} megapixels, this server decodes up to {max_pixels / 1e6:g} "
                         "(`max_megapixels`)")


def _most(number: int, limit: int, what: str) -> None:
    if number > limit:
        raise ImageError(f"a {what} than the {limit:,} that are decoded")


def _jpeg(content: bytes, header: ImageHeader) -> ImageWork:
    """Counts scans as libjpeg finds them: it skips anything between the segments."""
    pixels = header.width * header.height
    at, segments, scans, frames, complete = 2, 0, 0, 0, False
    while (found := JPEG_MARKER.search(content, at)) and (marker := content[found.end() - 1]) != JPEG_END:
        segments += 1
        frames += marker in JPEG_FRAME_HEADERS
        if marker == JPEG_SCAN:
            scans += 1
            if complete or frames > 1:
                raise ImageError("a JPEG with scans behind its last one")
            complete = header.frame_type != PROGRESSIVE and content[found.end() + 2] == header.components
        _most(segments, MOST_PARTS, "JPEG of more segments")
        _most(scans, MOST_SCANS, "JPEG of more scans")
        at = found.end() + struct.unpack_from(">H", content, found.end())[0]
    if found is None:
        raise ImageError(f"a damaged JPEG picture: its end is missing after {len(content)} bytes")
    return ImageWork(header, content, pixels, pixels * max(PILLOW_WORK if header.components == 4 else 1, scans))


def _png(content: bytes, header: ImageHeader) -> ImageWork:
    parts, kinds = [content[:8]], set()
    for number, (kind, begin, end) in enumerate(_chunks(content)):
        _most(number, MOST_PARTS, "PNG of more chunks")
        if kind[:1].isupper():
            if zlib.crc32(content[begin + 4:end - 4]) != int.from_bytes(content[end - 4:end], "big"):
                raise ImageError(f"a damaged PNG picture: the checksum of its {kind.decode('latin-1')} is wrong")
            if kind not in PNG_CHUNKS:
                raise ImageError("a PNG with parts that no decoder knows")
        if kind in PNG_CHUNKS:
            parts.append(content[begin:end])
        kinds.add(kind)
    if not {b"IHDR", b"IDAT", b"IEND"} <= kinds:
        raise ImageError(f"a damaged PNG picture: it ends after {len(content)} bytes")
    bits, interlaced = header.bits * PNG_SAMPLES.get(content[25], 4), content[28]
    row = 1 + (header.width * bits + 7) // 8  # led by its filter
    _unpack((part[8:-4] for part in parts[1:] if part[4:8] == b"IDAT"), row * header.height * (1 + bool(interlaced)))
    return _once(header, b"".join(parts))


def _chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Of a PNG: name, begin and end of each, up to IEND."""
    at, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", content, at)
        if at + 12 + length > len(content):
            raise IndexError
        yield kind, at, at + 12 + length
        at += 12 + length


def _unpack(pieces: Iterator[bytes], most: int) -> None:
    """Unpacks a PNG's pixels, keeping nothing; ImageError where they are many more than its header says."""
    unpacker, total = zlib.decompressobj(), 0
    with contextlib.suppress(zlib.error):  # the decoder will say so, unless it is behind the pixels
        for piece in pieces:
            while piece and not unpacker.eof:
                total += len(unpacker.decompress(piece, UNPACKED_AT_ONCE))
                piece = unpacker.unconsumed_tail
                if total > most + UNPACKED_TOO_MUCH:
                    raise ImageError(f"a PNG that unpacks to more than the {most:,} bytes of its pixels")


def _bmp(content: bytes, header: ImageHeader) -> ImageWork:
    if not is_plain_bmp(content):
        pixels, runs = header.width * header.height, content[14] >= 40 and content[30] in (1, 2)
        return ImageWork(header, content, pixels, pixels + runs * RUN_LENGTH_WORK * len(content))
    start, = struct.unpack_from("<I", content, 10)
    length = start + (header.width * header.bits + 31) // 32 * 4 * header.height
    if length != len(content):
        raise ImageError(f"a damaged BMP picture: it has {len(content):,} bytes, its header says {length:,}")
    return _once(header, content)


def _gif(content: bytes, header: ImageHeader) -> ImageWork:
    """The first frame as a file of its own; TensorFlow's decoder makes transparent pixels black."""
    frames = list(_frames(content))
    if not frames or not frames[0][1][2] or not frames[0][1][3]:
        raise ImageError("a GIF without a picture")
    begin, (left, top, width, height), end, transparent = frames[0]
    frame = bytearray().join((
        content[:6], struct.pack("<HH", width, height), content[10:13 + gif_colours(content[10])],
        struct.pack("<BHHHH", GIF_IMAGE, 0, 0, width, height), content[begin + 9:end], b";"))
    colours = gif_colours(content[10]), gif_colours(content[begin + 9])
    if 3 * transparent < (colours[1] or colours[0]) and transparent >= 0:
        black = 3 * transparent + (23 + colours[0] if colours[1] else 13)
        frame[black:black + 3] = bytes(3)
    sizes = [size for _, (_, _, *size), _, _ in frames]
    canvas = max(width for width, _ in sizes), max(height for _, height in sizes)
    pixels = max(header.width * header.height, canvas[0] * canvas[1]) + sum(width * height for width, height in sizes)
    return ImageWork(header, bytes(frame), pixels, pixels, (left, top, *canvas))


def _frames(content: bytes) -> Iterator[tuple[int, tuple[int, int, int, int], int, int]]:
    """Of a GIF: begin, (left, top, width, height), end and transparent colour (-1: none) of each frame."""
    at, blocks, frames, transparent = 13 + gif_colours(content[10]), 0, 0, -1
    while at < len(content) and content[at] in (GIF_IMAGE, GIF_EXTENSION):
        begin, is_frame = at, content[at] == GIF_IMAGE
        place = struct.unpack_from("<HHHH", content, at + 1) if is_frame else (0, 0, 0, 0)
        if content[at:at + 3] == GIF_CONTROL:
            transparent = content[at + 6] if content[at + 3] & 1 else -1
        at += 11 + gif_colours(content[at + 9]) if is_frame else 2
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


def _tiff(content: bytes, header: ImageHeader) -> ImageWork:
    """The first directory: Pillow reads what all of its entries claim."""
    order = "<" if content[:2] == b"II" else ">"
    start, = struct.unpack_from(order + "I", content, 4)
    entries, = struct.unpack_from(order + "H", content, start)
    claimed = 0
    for at in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", content, at)
        claimed += number * TIFF_TYPES[kind] if kind < len(TIFF_TYPES) else 0
        if tag in TIFF_STRIPS:
            _most(number, MOST_STRIPS, "TIFF of more strips or tiles")
    if claimed > len(content):
        raise ImageError(f"a TIFF whose directory claims {claimed:,} bytes of {len(content):,}")
    return _once(header, content)


def _once(header: ImageHeader, content: bytes) -> ImageWork:
    """Work of Pillow's in which each pixel is passed over once."""
    pixels = header.width * header.height
    return ImageWork(header, content, pixels, pixels * PILLOW_WORK)


READERS: Mapping[str, Callable[[bytes, ImageHeader], ImageWork]] = {
    "JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "GIF": _gif, "TIFF": _tiff,
    "WebP": lambda content, header: _once(header, content)}
