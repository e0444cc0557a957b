"""Verifying the port: our network against TF-Slim's own, on the same weights and images.

TF-Slim's network is the package tf_slim's, in a graph of its own. It shares no code with the port.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Group
from rich.table import Table
from rich.text import Text

from voc_cls.console import quiet_stderr
from voc_cls.errors import UsageError, WeightsError
from voc_cls.nets.registry import NetSpec, net_spec
from voc_cls.weights.diff import shortened
from voc_cls.weights.load import NamedWeights, load_weights_file
from voc_cls.weights.naming.slim import slim_shapes

Array = npt.NDArray[np.float32]
Outputs = Mapping[str, Array]
"""Of a network for N images: "grid", the last grid of features [N, h, w, channels], and "logits" [N, classes].

With batch normalisation also "logits in training", which go by the batch (without dropout), and by TF-Slim name what
one step adds to each moving average; they start at 0 there, so that it is not lost in rounding.
"""

TOLERANCE = 1e-4
"""Largest difference that counts as equal, relative: max|port − TF-Slim| / max|TF-Slim|. Two orders of summation in
float32 through 16 layers differ by about 1e-6; a wrong channel order or padding by more than 1e-2."""
IMAGES = 3
SEED = 0
MOST_LAYERS = 24
"""That are listed by name."""
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
class Comparison:
    """One output of both networks. `on_file_values`: every variable it depends on came from the file."""

    output: str
    difference: float
    """max|port − TF-Slim| / max|TF-Slim|; of several tensors the largest."""
    largest: float
    """max|TF-Slim|."""
    on_file_values: bool

    @property
    def equal(self) -> bool:
        """Whether the difference is within TOLERANCE (NaN is not)."""
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Verification:
    """How the port compares with TF-Slim on one file, or on random values."""

    file: str
    net: str
    classes: int
    size: int
    """Height and width of the images."""
    from_file: tuple[str, ...]
    """Layers that have the file's values, such as conv1/conv1_1."""
    filled: tuple[str, ...]
    """Layers that the file lacks; both sides got the same seeded values there."""
    comparisons: tuple[Comparison, ...]
    notes: tuple[str, ...] = ()

    def check(self) -> None:
        for comparison in self.comparisons:
            if not comparison.equal:
                raise WeightsError(f"{self.file}: {comparison.output} of voc-cls' {self.net} differs from TF-Slim's by "
                                   f"{comparison.difference:.1e}, more than {TOLERANCE:.0e}: please report this")

    def __rich__(self) -> Group:
        """A table with a row per output, and which layers had whose values."""
        table = Table(box=None, pad_edge=False)
        for column in ("output", "relative difference", "largest value", "weights", ""):
            table.add_column(column)
        for row in self.comparisons:
            weights = "the file's" if row.on_file_values else "partly filled in" if self.from_file else "random"
            table.add_row(row.output, f"{row.difference:.1e}", f"{row.largest:.4g}", weights,
                          Text("equal", style="green") if row.equal else Text("differs", style="bold red"))
        lines = [f"from the file: {shortened(self.from_file, MOST_LAYERS)}"] if self.from_file else []
        if self.filled:
            where = "not in the file, the" if self.from_file else "the"
            lines.append(f"{where} same random values on both sides: {shortened(self.filled, MOST_LAYERS)}")
        title = Text(f"{self.file}: voc-cls' {self.net} against TF-Slim's, {IMAGES} pictures of {self.size} × "
                     f"{self.size}, {self.classes} classes")
        return Group(title, table, Text("\n".join(lines)))


def verify(path: Path | None, net: str = "vgg_16", image_size: int | None = None,
           entry: str | None = None) -> Verification:
    """Runs both networks, with the paper's head, on the same images and compares the last grid and the logits.

    The classifier is the file's, TF-Slim's or our new one; it has the ImageNet classes where there is none. Both run on
    the CPU, so that only the code differs. VGG takes about 3 GB of memory.

    `path` is a weight file of any format, which may lack layers of `net`; None compares on random values. WeightsError
    for a layer in another shape; UsageError for a network that the package tf_slim does not have.
    """
    spec = net_spec(net, image_size)
    if net not in GRIDS:
        raise UsageError(f"`net` {net}: tf_slim has no such network to compare with; voc-cls' own tests compare ours "
                         "with what TF-Slim's repository computed")
    nothing: dict[str, Array] = {}
    file = (NamedWeights(Path("random values"), "", {}, nothing.__getitem__) if path is None
            else load_weights_file(path, net, entry))
    head, classes = _classifier(file, spec)
    values, filled = _values(file, spec, head, classes)
    images = random_images(spec)
    port = port_outputs(values, spec, images)
    with quiet_stderr():  # TF-Slim calls what TensorFlow warns of
        slim = reference(values, spec, images)
    layers = {name: _name_in_file(name, spec, head).partition("/")[2].rpartition("/")[0] for name in values}
    random = dict.fromkeys(layers[name] for name in filled)
    given = dict.fromkeys(layer for layer in layers.values() if layer not in random)
    return Verification(file.path.name, net, classes, spec.preprocessing.size, tuple(given), tuple(random),
                        compare_outputs(port, slim, spec, filled), file.notes)


def _classifier(file: NamedWeights, spec: NetSpec) -> tuple[str, int]:
    """The path of the file's classifier and its classes."""
    inputs = slim_shapes(spec)[f"{spec.scope}/{spec.slim_head}/weights"][:-1]
    for head in (spec.slim_head, spec.head):
        shape = file.shapes.get(f"{spec.scope}/{head}/weights", ())
        if shape and shape[:-1] == inputs:
            return head, shape[-1]
    return spec.slim_head, spec.imagenet_classes


def _values(file: NamedWeights, spec: NetSpec, head: str, classes: int) -> tuple[dict[str, Array], list[str]]:
    """TF-Slim name → value, the file's or a filler, of each variable that both networks have; names of the fillers."""
    values, filled, shapes = {}, [], file.shapes
    for name, shape in slim_shapes(spec, classes).items():
        if name.startswith(f"{spec.scope}/AuxLogits/"):
            continue
        in_file = _name_in_file(name, spec, head)
        if shapes.get(in_file) == shape:
            values[name] = file.read_weights(in_file)
        elif in_file in shapes and f"/{spec.slim_head}/" not in name:
            raise WeightsError(f"{file.path.name}: {in_file} is {list(shapes[in_file])}, where TF-Slim's {spec.name} "
                               f"has {list(shape)}: `voc-weights diff` says more")
        else:
            values[name] = filler(name, shape)
            filled.append(name)
    return values, filled


def filler(name: str, shape: tuple[int, ...]) -> Array:
    """Values for a variable that the file lacks: normal, seeded by the name.

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


def _name_in_file(name: str, spec: NetSpec, head: str) -> str:
    return name.replace(f"/{spec.slim_head}/", f"/{head}/")


def random_images(spec: NetSpec) -> Array:
    """Random images, preprocessed: squares of 8 × 8 pixels, so that they are not mere noise."""
    preprocessing = spec.preprocessing
    size = preprocessing.size
    rough = np.random.default_rng(SEED).integers(0, 256, (IMAGES, -(-size // 8), -(-size // 8), 3))
    levels = np.kron(rough, np.ones((1, 8, 8, 1)))[:, :size, :size]
    images: Array = ((levels - preprocessing.mean) / preprocessing.std).astype(np.float32)
    return images


def port_outputs(values: Mapping[str, Array], spec: NetSpec, images: Array) -> Outputs:
    """What the Keras network computes with `values`, which are by TF-Slim name."""
    import keras
    import tensorflow as tf

    from voc_cls.nets.network import build

    with tf.device("CPU"):
        network = build(spec, "fc", _classes(values, spec))
        variables = {spec.slim_path(name): variable for name, variable in network.variables().items()}
        for name, variable in variables.items():
            variable.assign(values[name])
        model = keras.Model(network.model.input, [network.grid, network.model.output])
        grid, logits = (np.asarray(output) for output in model(images))
        moving = {name: variable for name, variable in variables.items() if name.endswith(MOVING)}
        if not moving:
            return {"grid": grid, "logits": logits}
        for variable in moving.values():
            variable.assign(np.zeros(variable.shape, np.float32))
        for layer in network.model.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0
        trained = np.asarray(network.model(images, training=True))
    averages = {name: np.asarray(variable) for name, variable in moving.items()}
    return {"grid": grid, "logits": logits, "logits in training": trained, **averages}


def reference(values: Mapping[str, Array], spec: NetSpec, images: Array) -> Outputs:
    """What TF-Slim's network computes; WeightsError where it has other variables than `values`."""
    import tensorflow as tf

    v1, classes = tf.compat.v1, _classes(values, spec)
    on_cpu = v1.ConfigProto(device_count={"GPU": 0})
    with quick_graphs(), tf.Graph().as_default() as graph, v1.Session(config=on_cpu) as session:
        fed = v1.placeholder(tf.float32, images.shape)
        network = _slim_network(spec.name)
        plain, layers = network(fed, num_classes=classes, is_training=False)
        with v1.variable_scope(v1.get_variable_scope(), reuse=True):
            trained, _ = network(fed, num_classes=classes, is_training=True)
        plain, trained = (tf.reshape(logits, [len(images), classes]) for logits in (plain, trained))
        variables = {variable.op.name: variable for variable in v1.global_variables()}
        if variables.keys() != values.keys():
            raise WeightsError(f"TF-Slim's {spec.name} and voc-cls' do not share the variables "
                               f"{shortened(sorted(variables.keys() ^ values.keys()))}: please report this")
        _assign({variable: values[name] for name, variable in variables.items()}, session)
        name = GRIDS[spec.name][1]
        grid, logits = session.run([layers[name] if name in layers else graph.get_tensor_by_name(name), plain],
                                   {fed: images})
        moving = {name: variable for name, variable in variables.items() if name.endswith(MOVING)}
        if not moving:
            return {"grid": grid, "logits": logits}
        _assign({variable: np.zeros(variable.shape, np.float32) for variable in moving.values()}, session)
        trained_logits, _ = session.run([trained, v1.get_collection(v1.GraphKeys.UPDATE_OPS)], {fed: images})
        return {"grid": grid, "logits": logits, "logits in training": trained_logits, **session.run(moving)}


def _classes(values: Mapping[str, Array], spec: NetSpec) -> int:
    return len(values[f"{spec.scope}/{spec.slim_head}/biases"])


def _assign(values: Mapping[Any, Array], session: Any) -> None:
    """All in one run, because TensorFlow plans every other set of outputs anew."""
    session.run([variable.initializer for variable in values],
                {variable.initializer.inputs[1]: value for variable, value in values.items()})


def _slim_network(net: str) -> Any:
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


def compare_outputs(port: Outputs, reference: Outputs, spec: NetSpec,
                    filled: Collection[str] = ()) -> tuple[Comparison, ...]:
    """The port beside TF-Slim, output by output. filled: names of the variables whose values are not the file's."""
    behind = ("fc6", "fc7", spec.slim_head)  # what the last grid does not depend on
    backbone = all(name.partition("/")[2].startswith(behind) for name in filled)
    tensors: dict[str, list[str]] = {}
    for name in reference:
        _, moving, average = name.rpartition("/")
        tensors.setdefault(f"{average.replace('_', ' ')}s" if moving else name, []).append(name)
    return tuple(
        Comparison(output, float(np.max([_difference(port[name], reference[name]) for name in names])),
                   float(np.max([np.abs(reference[name]).max() for name in names])),
                   not filled if output.startswith("logits") else backbone)
        for output, names in tensors.items())


def _difference(port: Array, reference: Array) -> float:
    """max|port − TF-Slim| / max|TF-Slim|; NaN where a value is NaN, infinite for another shape."""
    if port.shape != reference.shape:
        return float("inf")
    return float(np.abs(port - reference).max() / (np.abs(reference).max() or 1))
