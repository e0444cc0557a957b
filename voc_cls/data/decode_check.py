"""Decodes images completely, as training does, to find the broken ones: on all cores, each file read once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from voc_cls.data.preprocessing import Preprocessing, decode

LARGE = 1 << 24
"""Pixels. Larger images are decoded one after the other, so memory is bounded by cores × 50 MB and one of these."""
BATCH_SIZE = 16
"""Images that leave tf.data together; one by one, all cores would wait for Python."""
FINGERPRINTS = 2**63 - 1
DECODING = Preprocessing(size=1, mean=(0.0, 0.0, 0.0))
"""Decoding uses neither size nor mean."""


@dataclass(frozen=True)
class Decoded:
    """Image `number`: the FarmHash64 of its file, or what is wrong with it.

    Equal files have equal fingerprints, different files almost never (unless made to: the hash is not cryptographic).
    """

    number: int
    fingerprint: int | None
    problem: str | None = None


def decode_all(paths: Sequence[Path], pixels: Sequence[int]) -> Iterator[Decoded]:
    """Decodes each of `paths`; yields the results in any order, as soon as they are known.

    `pixels`: the number of pixels of each image. Leaving the loop, or Ctrl-C, stops the decoding at once.
    """
    import tensorflow as tf

    small = [number for number, area in enumerate(pixels) if area <= LARGE]
    large = [number for number, area in enumerate(pixels) if area > LARGE]
    yield from _decoded(paths, small, tf.data.AUTOTUNE)
    yield from _decoded(paths, large, 1)


def _decoded(paths: Sequence[Path], numbers: list[int], parallel: int) -> Iterator[Decoded]:
    """tf.data drops what raised an error; such images are decoded once more, alone, to get the error."""
    import tensorflow as tf

    if not numbers:
        return
    names = tf.constant([os.fsencode(path) for path in paths])

    def look(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        content = tf.io.read_file(names[number])
        with tf.control_dependencies([decode(content, DECODING)]):
            return tf.identity(number), tf.strings.to_hash_bucket_fast(content, FINGERPRINTS)

    options = tf.data.Options()
    options.threading.max_intra_op_parallelism = 1
    outcomes = tf.data.Dataset.from_tensor_slices(numbers).map(look, parallel, deterministic=False)
    outcomes = outcomes.ignore_errors().batch(BATCH_SIZE).with_options(options)
    left = dict.fromkeys(numbers)
    for decoded, fingerprints in outcomes.as_numpy_iterator():
        for number, fingerprint in zip(decoded.tolist(), fingerprints.tolist(), strict=True):
            del left[number]
            yield Decoded(number, fingerprint)
    for number in left:
        yield _decoded_alone(paths[number], number)


def _decoded_alone(path: Path, number: int) -> Decoded:
    import tensorflow as tf

    try:
        content = tf.io.read_file(os.fsencode(path))
        decode(content, DECODING)
    except tf.errors.OpError as error:
        message = re.sub(r"\{\{.*?\}\} *| *\[Op:[^]]*\].*", "", error.message.splitlines()[0])
        return Decoded(number, None, f"{path}: cannot be decoded ({message}); replace it")
    return Decoded(number, int(tf.strings.to_hash_bucket_fast(content, FINGERPRINTS)))
