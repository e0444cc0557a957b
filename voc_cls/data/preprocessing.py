"""From the bytes of an image to the input of a network: the same code in training, evaluation and the export.

Every op is TensorFlow's, so the export has this code in its graph and serving cannot deviate from training. Formats
that the graph does not take are converted before it, by `voc_cls/image_decoder.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from voc_cls import image_decoder
from voc_cls.data.orientation import jpeg_exif, png_exif, upright
from voc_cls.image_decoder import LEAST_BRIGHT, Preprocessing
from voc_cls.image_header import ImageError, image_work

if TYPE_CHECKING:
    import tensorflow as tf

JPEG_MAGIC, PNG_MAGIC = b"\xff\xd8\xff", b"\x89PNG"
GRAPH_FORMATS = ("JPEG", "PNG", "BMP", "GIF")
"""What `decode` takes; BMP: 24 or 32 bits a pixel, not compressed."""


def decode(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Decodes one JPEG, PNG, BMP or GIF (its first frame) to uint8 [height, width, 3] RGB, upright.

    The format is read from the bytes, not from a file name. JPEGs and PNGs are turned by their EXIF orientation.
    Greyscale is repeated over the channels, transparent parts of a PNG are laid on white, CMYK JPEGs are converted,
    16-bit PNGs keep their upper 8 bits. Raises InvalidArgumentError where the bytes are not such an image.
    """
    import tensorflow as tf

    part = _start(image_bytes)

    def jpeg() -> tf.Tensor:
        image = tf.io.decode_jpeg(image_bytes, channels=3, dct_method=preprocessing.jpeg_dct)
        return tf.cond(_is_plain_jpeg(part), lambda: image, lambda: upright(image, jpeg_exif(image_bytes)))

    def other() -> tf.Tensor:
        return tf.case([(_is_plain_png(part), lambda: tf.io.decode_png(image_bytes, channels=3)),
                        (part(0, 4) == PNG_MAGIC, lambda: _png(image_bytes))], lambda: _bmp_or_gif(image_bytes))

    return tf.ensure_shape(tf.cond(part(0, 3) == JPEG_MAGIC, jpeg, other), [None, None, 3])


def _start(image_bytes: tf.Tensor) -> Callable[[int, int], tf.Tensor]:
    """(place, length) → those of the first 41 bytes; zeros behind the end of a shorter file."""
    import tensorflow as tf

    start = tf.strings.join([tf.strings.substr(image_bytes, 0, 41), bytes(41)])
    return lambda at, length: tf.strings.substr(start, at, length)


def _is_plain_jpeg(part: Callable[[int, int], tf.Tensor]) -> tf.Tensor:
    """Whether a JPEG has no EXIF, which would stand before the table that follows JFIF's segment."""
    return (part(0, 6) == JPEG_MAGIC + b"\xe0\x00\x10") & (part(20, 2) == b"\xff\xdb")


def _is_plain_png(part: Callable[[int, int], tf.Tensor]) -> tf.Tensor:
    """Whether a PNG is RGB of 8 bits and its pixels follow the header."""
    return (part(0, 4) == PNG_MAGIC) & (part(24, 2) == b"\x08\x02") & (part(37, 4) == b"IDAT")


def decode_file(path: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """As `decode`, of the file at `path` (string scalar) and of every format that is decoded. Not for an export.

    What is not plain is decoded by `voc_cls/image_decoder.py`, to the same bits. That is one op; the branches of
    `decode` cost 0.5 ms for every image, as much as decoding itself, though they are not taken.
    """
    import tensorflow as tf

    content = tf.io.read_file(path)
    part = _start(content)

    def decoded(content: Any) -> Any:
        content = np.asarray(content, object).item()  # a scalar comes as bytes or, eagerly, as an array
        try:
            return image_decoder.decode(image_work(content, max_pixels=sys.maxsize))
        except ImageError:  # it takes fewer damaged files than `decode`, which decides
            return decode(tf.constant(image_decoder.decodable(content)), preprocessing).numpy()

    def other() -> tf.Tensor:
        return tf.cond(_is_plain_png(part), lambda: tf.io.decode_png(content, channels=3),
                       lambda: tf.numpy_function(decoded, [content], tf.uint8, stateful=False))

    image = tf.cond(_is_plain_jpeg(part),
                    lambda: tf.io.decode_jpeg(content, channels=3, dct_method=preprocessing.jpeg_dct), other)
    return tf.ensure_shape(image, [None, None, 3])


def _png(image_bytes: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    pixels = tf.io.decode_png(image_bytes, channels=4)
    colours, alpha = pixels[..., :3], pixels[..., 3:]

    def on_white() -> tf.Tensor:
        level, opacity = tf.cast(colours, tf.int32), tf.cast(alpha, tf.int32)
        return tf.cast((level * opacity + 255 * (255 - opacity) + 127) // 255, tf.uint8)

    bits = tf.cast(tf.io.decode_raw(tf.strings.substr(image_bytes, 24, 1), tf.uint8)[0], tf.int32)
    full = tf.cast(2**tf.minimum(bits, 8) - 1, tf.uint8)  # what TensorFlow adds where a PNG has no alpha: 15 for 4 bits
    scaled = tf.cond(bits == 16, lambda: tf.reduce_max(colours) >= LEAST_BRIGHT, lambda: True)
    with tf.control_dependencies([tf.debugging.Assert(
            scaled, [f"PNG of 16 bits a sample whose values are all below {LEAST_BRIGHT << 8} (of 65535)"])]):
        image = tf.cond(tf.reduce_all(alpha == full), lambda: colours, on_white)
    return upright(image, png_exif(image_bytes))


def _bmp_or_gif(image_bytes: tf.Tensor) -> tf.Tensor:
    import tensorflow as tf

    header = tf.cast(tf.io.decode_raw(image_bytes, tf.uint16, fixed_length=34), tf.int32)  # little-endian
    size, bits, compression = header[7], header[14], header[15] | header[16]
    is_plain_bmp = ((tf.strings.substr(image_bytes, 0, 2) == b"BM") & (size >= 40) & (compression == 0)
                    & ((bits == 24) | (bits == 32)))
    taken = is_plain_bmp | (tf.strings.substr(image_bytes, 0, 4) == b"GIF8")
    with tf.control_dependencies([tf.debugging.Assert(
            taken, ["Unknown image file format. JPEG, PNG, GIF and BMP of 24 or 32 bits a pixel are decoded"])]):
        return tf.io.decode_image(image_bytes, channels=3, expand_animations=False)


def resize(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """uint8 (or float, 0-255) [..., H, W, 3] RGB → float32 [..., size, size, 3], 0-255."""
    import tensorflow as tf

    size = preprocessing.size
    resized = tf.image.resize(images, [size, size], "bilinear")  # float32, also of uint8
    if preprocessing.resize == "bilinear":
        return resized

    def inside(length: tf.Tensor) -> tf.Tensor:
        """The weight that the image has in each of the new places, beside the black beyond its edges: [size]."""
        pixels = tf.cast(length, tf.float32)
        places = (tf.range(size, dtype=tf.float32) + 0.5) * pixels / size - 0.5
        return tf.clip_by_value(1 + tf.minimum(places, pixels - 1 - places), 0.0, 1.0)

    height, width = inside(tf.shape(images)[-3]), inside(tf.shape(images)[-2])
    return resized * height[:, None, None] * width[:, None]


def normalise(images: Any, preprocessing: Preprocessing) -> Any:
    """Grey levels float32 [..., size, size, 3], 0-255 → the network's input: minus the mean, divided by `std`."""
    import tensorflow as tf

    shifted = images - tf.constant(preprocessing.mean, tf.float32)
    return shifted if preprocessing.std == (1.0, 1.0, 1.0) else shifted / tf.constant(preprocessing.std, tf.float32)


def grey_levels(inputs: Any, preprocessing: Preprocessing) -> Any:
    """The inverse of `normalise`, for NumPy arrays: an image to look at."""
    return inputs * preprocessing.std + preprocessing.mean


def preprocess(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """uint8 (or float, 0-255) [..., H, W, 3] RGB → float32 [..., size, size, 3], resized and normalised."""
    return normalise(resize(images, preprocessing), preprocessing)
