"""TF-Slim's own network on a checkpoint: what our port is compared with.

A process of its own (`python -m voc_cls.weights.slim_reference`), because TF-Slim needs TensorFlow's graph mode. It
restores the file with TensorFlow's own Saver and shares no code with the port but `filler`.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt


def filler(name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Values for a variable that the file lacks: normal, seeded by the name, on both sides the same.

    Weights have the standard deviation √(2 / fan-in) (He et al. 2015, arXiv:1502.01852), so activations keep their
    size; biases have 0.1.
    """
    spread = np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    values *= np.float32(spread)
    return values


def main() -> None:
    """Reads pictures from an .npy, writes pool5, logits and the names of the filled variables to an .npz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="prefix of the checkpoint")
    parser.add_argument("--net", required=True, help="function of tf_slim.nets.vgg, such as vgg_16")
    parser.add_argument("--head", required=True, help="scope of the classifier in the file, such as fc8")
    parser.add_argument("--classes", required=True, type=int, help="number of logits")
    parser.add_argument("--pictures", required=True, type=Path, help=".npy, float32 [N, size, size, 3] preprocessed")
    parser.add_argument("--out", required=True, type=Path, help=".npz to write")
    options = parser.parse_args()

    import tensorflow as tf
    from tf_slim.nets import vgg

    v1 = tf.compat.v1
    pictures = np.load(options.pictures)
    with tf.Graph().as_default(), v1.Session() as session:
        fed = v1.placeholder(tf.float32, pictures.shape)
        logits, layers = getattr(vgg, options.net)(fed, num_classes=options.classes, is_training=False)
        in_file = {name: tuple(shape) for name, shape in tf.train.list_variables(options.checkpoint)}
        restored, filled = {}, []
        for variable in v1.global_variables():
            name = variable.op.name.replace(f"{options.net}/fc8/", f"{options.net}/{options.head}/")
            shape = tuple(variable.shape.as_list())
            if in_file.get(name) == shape:
                restored[name] = variable
            else:
                variable.load(filler(name, shape), session)
                filled.append(name)
        if restored:
            v1.train.Saver(restored).restore(session, options.checkpoint)
        results = session.run([layers[f"{options.net}/pool5"], logits], {fed: pictures})
    np.savez(options.out, pool5=results[0], logits=results[1], filled=np.array(filled, dtype=np.str_))


if __name__ == "__main__":
    main()
