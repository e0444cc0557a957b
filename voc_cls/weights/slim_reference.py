"""TF-Slim's network on a checkpoint: what our port is compared with.

A separate process (`python -m voc_cls.weights.slim_reference`), because TF-Slim needs TensorFlow's graph mode and,
for batch normalisation, the Keras 2 of tf_keras. It restores the file with TensorFlow's own Saver and shares no code
with the port but `filler` and `Outputs`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

GRIDS = {  # net that tf_slim has → module of tf_slim.nets, end point or tensor that is the last grid of features
    "vgg_16": ("vgg", "vgg_16/conv5/conv5_3"),
    "vgg_19": ("vgg", "vgg_19/conv5/conv5_4"),
    **{f"resnet_v1_{depth}": ("resnet_v1", f"resnet_v1_{depth}/block4") for depth in (50, 101, 152)},
    **{f"resnet_v2_{depth}": ("resnet_v2", f"resnet_v2_{depth}/postnorm/Relu:0") for depth in (50, 101, 152, 200)},
    "inception_v1": ("inception_v1", "Mixed_5c"),
    "inception_v2": ("inception_v2", "Mixed_5c"),
    "inception_v3": ("inception_v3", "Mixed_7c"),
    "alexnet_v2": ("alexnet", "alexnet_v2/conv5"),
}
MOVING = ("/moving_mean", "/moving_variance")


@dataclass(frozen=True)
class Outputs:
    """What a network computes from the images, ours or TF-Slim's.

    arrays: "grid", float32 [N, h, w, channels], and "logits", float32 [N, classes]. With batch normalisation also
    "logits in training", which go by the batch (without dropout), and by TF-Slim name what one step adds to each moving
    average; they start at 0 there, so that it is not lost in rounding.
    """

    arrays: Mapping[str, Array]
    filled: frozenset[str]
    """Variables that the file lacks, by the file's names."""

    def save(self, path: Path) -> None:
        """Writes an .npz."""
        arrays: dict[str, Any] = {**self.arrays, "filled": np.array(sorted(self.filled), dtype=np.str_)}
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Outputs:
        """Reads what `save` wrote."""
        with np.load(path) as saved:
            arrays = dict(saved)
        return cls(arrays, frozenset(arrays.pop("filled").tolist()))


def filler(name: str, shape: tuple[int, ...]) -> Array:
    """Values for a variable that the file lacks: normal, seeded by the name, on both sides the same.

    Weights have the standard deviation √(2 / fan-in) (He et al. 2015, arXiv:1502.01852), so activations keep their
    size; a moving variance is from 0.5 to 1.5. A gamma and a beta are about 1: with batch normalisation whose ReLUs cut
    half of all values, each layer would make rounding errors a fifth larger. Biases and means have 0.1.
    """
    random, word = np.random.default_rng(zlib.crc32(name.encode())), name.rpartition("/")[2]
    if word == "moving_variance":
        return random.random(shape, dtype=np.float32) + np.float32(0.5)
    values = random.standard_normal(shape, dtype=np.float32)
    values *= np.float32(np.sqrt(2 / np.prod(shape[:-1])) if len(shape) > 1 else 0.1)
    return values + np.float32(1) if word in ("gamma", "beta") else values


def reference(net: str, images: Array, classes: int, slim_head: str, head: str, checkpoint: str | None) -> Outputs:
    """TF-Slim's outputs for preprocessed images, float32 [N, size, size, 3].

    slim_head: TF-Slim's path of the classifier; head: the path it has in the file. checkpoint: prefix, None where all
    values are filled in.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    with quick_graphs(), tf.Graph().as_default() as graph, v1.Session() as session:
        fed = v1.placeholder(tf.float32, images.shape)
        network = _network(net)
        plain, layers = network(fed, num_classes=classes, is_training=False)
        with v1.variable_scope(v1.get_variable_scope(), reuse=True):
            trained, _ = network(fed, num_classes=classes, is_training=True)
        plain, trained = (tf.reshape(logits, [len(images), classes]) for logits in (plain, trained))
        names = {variable: variable.op.name.replace(f"/{slim_head}/", f"/{head}/")
                 for variable in v1.global_variables()}
        filled = _restore(names, checkpoint, session)
        name = GRIDS[net][1]
        grid, logits = session.run([layers[name] if name in layers else graph.get_tensor_by_name(name), plain],
                                   {fed: images})
        moving = [variable for variable in names if variable.op.name.endswith(MOVING)]
        if not moving:
            return Outputs({"grid": grid, "logits": logits}, filled)
        _assign({variable: np.zeros(variable.shape, np.float32) for variable in moving}, session)
        trained_logits, _ = session.run([trained, v1.get_collection(v1.GraphKeys.UPDATE_OPS)], {fed: images})
        averages = session.run({names[variable]: variable for variable in moving})
        return Outputs({"grid": grid, "logits": logits, "logits in training": trained_logits, **averages}, filled)


def _restore(names: Mapping[Any, str], checkpoint: str | None, session: Any) -> frozenset[str]:
    """Gives the variables the file's values; returns the names of those that it lacks, which are filled."""
    import tensorflow as tf

    in_file = {} if checkpoint is None else dict(tf.train.list_variables(checkpoint))
    restored = {name: variable for variable, name in names.items() if in_file.get(name) == variable.shape.as_list()}
    _assign({variable: filler(name, tuple(variable.shape.as_list())) for variable, name in names.items()
             if name not in restored}, session)
    if restored:
        tf.compat.v1.train.Saver(restored).restore(session, checkpoint)
    return frozenset(names.values()) - frozenset(restored)


def _assign(values: Mapping[Any, Array], session: Any) -> None:
    """All in one run, because TensorFlow plans every other set of outputs anew."""
    session.run([variable.initializer for variable in values],
                {variable.initializer.inputs[1]: value for variable, value in values.items()})


def _network(net: str) -> Any:
    """TF-Slim's function within its argument scope, without dropout and without an auxiliary classifier."""
    import tf_slim

    lend_batch_norm()
    module = importlib.import_module(f"tf_slim.nets.{GRIDS[net][0]}")
    family = "resnet" if net.startswith("resnet") else GRIDS[net][0].replace("alexnet", "alexnet_v2")
    options: dict[str, Any] = {} if family == "resnet" else {"dropout_keep_prob": 1.0}
    if net == "inception_v3":
        options["create_aux_logits"] = False

    def build(*args: Any, **more: Any) -> Any:
        with tf_slim.arg_scope(getattr(module, f"{family}_arg_scope")()):
            return getattr(module, net)(*args, **options, **more)

    return build


@contextlib.contextmanager
def quick_graphs() -> Iterator[None]:
    """TensorFlow builds graphs in half the time: it does not look up its mode at every use of a variable."""
    import tensorflow as tf

    v1 = tf.compat.v1
    v1.disable_tensor_equality()
    v1.disable_resource_variables()
    try:
        yield
    finally:
        v1.enable_resource_variables()
        v1.enable_tensor_equality()


def lend_batch_norm() -> None:
    """TensorFlow 2.21 looks for the layers that TF-Slim builds on where tf_keras 2.21 no longer has them."""
    for name in ("", ".base", ".convolutional", ".core", ".normalization", ".pooling"):
        # Private, because tf_keras 2.21 exports these layers nowhere else.
        module = importlib.import_module(f"tf_keras.src.legacy_tf_layers{name}")
        sys.modules.setdefault(f"tf_keras.legacy_tf_layers{name}", module)


if __name__ == "__main__":
    # arguments: .npy of the images, .npz to write, JSON of what else `reference` takes
    reference(images=np.load(sys.argv[1]), **json.loads(sys.argv[3])).save(Path(sys.argv[2]))
