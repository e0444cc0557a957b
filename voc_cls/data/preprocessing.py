"""From the bytes of an image to the input of a network: the same code in training, evaluation and the export.

Every op is TensorFlow's, so the export has this code in its graph and serving cannot deviate from training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import tensorflow as tf

JPEG_MAGIC = b"\xff\xd8\xff"


@dataclass(frozen=True)
class Preprocessing:
    """What happens to a decoded image before it enters the network; stored with every run and export."""

    size: int
    """Height and width of the network's input, pixels."""
    mean: tuple[float, float, float]
    """Subtracted per channel, in grey levels 0-255, in the order of `channels`."""
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divisor of each channel afterwards, grey levels."""
    channels: str = "RGB"
    """Order of the colour channels. Keras' own VGG-16 is BGR, TF-Slim's is RGB: recorded, never assumed."""
    resize: str = "bilinear"
    """Interpolation; half-pixel centres, no antialiasing, aspect ratio not kept (as in the lecture)."""
    jpeg_dct: str = "INTEGER_ACCURATE"
    """libjpeg's inverse DCT. TensorFlow's default is the fast one, up to 5 grey levels off."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form, the inverse of `from_dict`."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """From `to_dict`'s form; `std` may be missing, as in runs before 0.4.0."""
        channelwise: dict[str, Any] = {key: tuple(values[key]) for key in ("mean", "std") if key in values}
        return cls(**{**values, **channelwise})


def decode(image_bytes: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """Decodes one JPEG, PNG, BMP or GIF (its first frame) to uint8 [height, width, 3] RGB.

    The format is read from the bytes, not from a file name. Greyscale is repeated over the channels, alpha is
    dropped, CMYK JPEGs are converted, 16-bit PNGs keep their upper 8 bits. Raises InvalidArgumentError where
    the bytes are not such an image.
    """
    import tensorflow as tf

    def jpeg() -> tf.Tensor:
        return tf.io.decode_jpeg(image_bytes, channels=3, dct_method=preprocessing.jpeg_dct)

    def other() -> tf.Tensor:
        return tf.io.decode_image(image_bytes, channels=3, expand_animations=False)

    image = tf.cond(tf.strings.substr(image_bytes, 0, len(JPEG_MAGIC)) == JPEG_MAGIC, jpeg, other)
    return tf.ensure_shape(image, [None, None, 3])


def resize(images: tf.Tensor, preprocessing: Preprocessing) -> tf.Tensor:
    """uint8 (or float, 0-255) [..., H, W, 3] RGB → float32 [..., size, size, 3], 0-255."""
    import tensorflow as tf

    size = preprocessing.size
    return tf.image.resize(images, [size, size], preprocessing.resize)  # float32, also of uint8


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
