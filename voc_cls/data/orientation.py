"""EXIF's orientation with TensorFlow's ops, so that an export turns images upright in its graph.

The rules are those of `voc_cls/image_header.py`, to the bit: the tag 0x0112 of the first directory, in both byte
orders; what is damaged or cut off counts as upright.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from voc_cls.image_header import LAST_MARKER, MOST_ENTRIES, MOST_SEGMENTS, ORIENTATION, SHORT

if TYPE_CHECKING:
    import tensorflow as tf

APP1_EXIF = (0xFFE1, 0x4578, 0x6966, 0)
"""The marker of a JPEG's segment and, after its length, "Exif" and two zeros."""
FILL = 0xFFFF
EXIF_CHUNK, PIXEL_CHUNK = (0x6558, 0x4966), (0x4944, 0x4154)
"""The names of a PNG's chunks, eXIf and IDAT."""


def jpeg_exif(content: tf.Tensor) -> tf.Tensor:
    """The bytes of a JPEG → those of its EXIF, a TIFF structure; empty without one."""
    import tensorflow as tf

    def is_exif(head: tf.Tensor) -> tf.Tensor:
        return tf.reduce_all(tf.gather(head, [0, 2, 3, 4]) == APP1_EXIF)

    at, head = _search(content, 2, 5, lambda head: (head[0] > LAST_MARKER) & ~is_exif(head),
                       lambda head: tf.where(head[0] == FILL, tf.constant(1, tf.int64), 2 + head[1]))
    return _part(content, at + 10, tf.where(is_exif(head), head[1] - 8, 0))


def png_exif(content: tf.Tensor) -> tf.Tensor:
    """The bytes of a PNG → those of its EXIF, where that precedes the pixels; else empty."""
    import tensorflow as tf

    def is_chunk(head: tf.Tensor, name: tuple[int, int]) -> tf.Tensor:
        return tf.reduce_all(head[2:] == name)

    def length(head: tf.Tensor) -> tf.Tensor:
        return head[0] * 0x10000 + head[1]

    at, head = _search(content, 8, 4, lambda head: ~is_chunk(head, EXIF_CHUNK) & ~is_chunk(head, PIXEL_CHUNK),
                       lambda head: 12 + length(head))
    return _part(content, at + 8, tf.where(is_chunk(head, EXIF_CHUNK), length(head), 0))


def orientation(exif: tf.Tensor) -> tf.Tensor:
    """A TIFF structure → the orientation in its first directory, int64 from 1 to 8."""
    import tensorflow as tf

    order = tf.strings.substr(exif, 0, 2)
    little = order == b"II"

    def words(at: tf.Tensor | int, number: int) -> tf.Tensor:
        return tf.where(little, _words(exif, at, number, True), _words(exif, at, number, False))

    start = words(4, 2)
    start = tf.where(little, start[0] + start[1] * 0x10000, start[1] + start[0] * 0x10000)
    entries = words(start, 1)[0]
    table = tf.reshape(words(start + 2, 6 * MOST_ENTRIES), [MOST_ENTRIES, 6])
    found = ((table[:, 0] == ORIENTATION) & (table[:, 1] == SHORT) & (tf.range(MOST_ENTRIES, dtype=tf.int64) < entries)
             & (little | (order == b"MM")))
    first = tf.argmax(tf.cast(found, tf.int32))
    value = table[first, 4]
    return tf.where(found[first] & (value >= 1) & (value <= 8), value, 1)


def upright(image: tf.Tensor, exif: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, 3] as stored → as displayed."""
    import tensorflow as tf

    def transposed() -> tf.Tensor:  # tf.transpose of whole numbers prints an error of oneDNN's on many processors
        height, width = tf.unstack(tf.shape(image)[:2])
        return tf.gather(tf.reshape(image, [-1, 3]), tf.range(height) * width + tf.range(width)[:, None])

    def turned() -> tf.Tensor:
        value = orientation(exif)
        turned = tf.cond(value > 4, transposed, lambda: image)
        across, down = (value % 4) // 2 == 1, ((value - 1) % 4) // 2 == 1
        return tf.raw_ops.Reverse(tensor=turned, dims=tf.stack([down, across, False]))

    return tf.cond(tf.strings.length(exif) > 0, turned, lambda: image)


def _search(content: tf.Tensor, start: int, number: int, going_on: Callable[[tf.Tensor], tf.Tensor],
            length: Callable[[tf.Tensor], tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """(place, first words) of the first segment from `start` on that `going_on` does not skip, or of the last one.

    Both functions take the first `number` words of a segment; `length` gives the bytes from there to the next one.
    """
    import tensorflow as tf

    def skip(at: tf.Tensor, head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        at += length(head)
        return at, _words(content, at, number)

    first = tf.constant(start, tf.int64)
    at, head = tf.while_loop(lambda _, head: going_on(head), skip, (first, _words(content, first, number)),
                             maximum_iterations=MOST_SEGMENTS - 1)
    return at, head


def _words(content: tf.Tensor, at: tf.Tensor | int, number: int, little: bool = False) -> tf.Tensor:
    """int64 [number] from unsigned 16-bit numbers; 0 after the end of `content`."""
    import tensorflow as tf

    piece = _part(content, tf.cast(at, tf.int64), tf.constant(2 * number, tf.int64))
    words = tf.io.decode_raw(piece, tf.uint16, little_endian=little, fixed_length=2 * number)
    return tf.ensure_shape(tf.cast(words, tf.int64), [number])


def _part(content: tf.Tensor, at: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """Up to `length` bytes from `at` on; empty beyond the end, where `substr` would raise an error."""
    import tensorflow as tf

    return tf.strings.substr(content, tf.minimum(at, tf.cast(tf.strings.length(content), tf.int64)),
                             tf.maximum(length, 0))
