"""The table of networks by name, for the builders of the families and for people. Imports nothing heavy."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import Literal, get_args

from voc_cls.errors import UsageError
from voc_cls.image_decoder import Preprocessing

LARGEST_IMAGE = 2048

Family = Literal["vgg", "resnet_v1", "resnet_v2", "alexnet", "inception_v1", "inception_v2", "inception_v3",
                 "inception_v4", "inception_resnet_v2", "mobilenet_v1", "nasnet"]
Normalisation = Literal["auto", "vgg", "caffe", "inception", "torch"]
Head = Literal["fc", "gap", "gap+max", "gap+max+lower", "csra", "flatten"]
Resize = Literal["bilinear", "bilinear-constant"]
Blocks = tuple[tuple[int, int], ...]

NORMALISATIONS: dict[Normalisation, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    # (mean, std), grey levels 0-255, RGB
    "vgg": ((123.68, 116.78, 103.94), (1.0, 1.0, 1.0)),  # TF-Slim, preprocessing/vgg_preprocessing.py
    "caffe": ((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),  # the VGG authors' own, with which VGG16.npz files come
    "inception": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),  # …/inception_preprocessing.py: to -1 … 1
    "torch": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # torchvision's weights: 255 × its mean and std
}


@dataclass(frozen=True)
class Published:
    """TF-Slim's own ImageNet checkpoint, from the table of its README (tensorflow/models, research/slim)."""

    top1: float
    """Accuracy on ImageNet's validation images, one crop, percent."""
    archive: str
    """File name below download.tensorflow.org/models/."""
    checkpoint: str = ""
    """Name of the checkpoint in it; empty: NAME.ckpt."""


@dataclass(frozen=True)
class NetSpec:
    """One network as TF-Slim knows it."""

    name: str
    """What --net takes: the name of TF-Slim's function."""
    scope: str
    """TF-Slim's outermost variable scope, such as vgg_16 or InceptionV1; NASNet has none: empty."""
    family: Family
    preprocessing: Preprocessing
    slim_head: str
    """TF-Slim's path of the classifier that ours replaces, below `scope`; never restored into the new head."""
    head: str
    """Name of the new classifier, as in the lectures: m_fc8, m_logits."""
    parameters: int
    """Of TF-Slim's network with its ImageNet classes; moving means and variances are not counted."""
    published: Published | None
    imagenet_classes: int = 1000
    """1001 where TF-Slim's checkpoint has a background class first."""
    smallest: int = 32
    """Pixels that the convolutions need to leave a grid at all."""
    blocks: Blocks = ()
    """VGG: (filters, convolutions) of conv1 … conv5. ResNet: (depth of the bottleneck, units) of block1 … block4.
    MobileNet: (filters, stride) of Conv2d_0 … Conv2d_13. NASNet: (filters, cells) of conv0 and of the three sizes of
    grid."""
    matrices: tuple[str, ...] = ()
    """Scopes whose weights are matrices in TF-Slim and 1 × 1 convolutions here: fully connected classifiers."""
    cut: str | None = None
    """The last scope or pool of a network that is cut off behind it, such as pool3 or block4, without `scope`."""

    @property
    def title(self) -> str:
        """For people: the name, and where the network is cut."""
        return self.name if self.cut is None else f"{self.name} up to {self.cut}"

    def path(self, below: str) -> str:
        """TF-Slim's whole name of what lies `below` the network's scope."""
        return f"{self.scope}/{below}" if self.scope else below

    def slim_path(self, name: str) -> str:
        """TF-Slim's name of a variable: another one where it is of the classifier."""
        ours = self.path(f"{self.head}/")
        return self.path(f"{self.slim_head}/{name.removeprefix(ours)}") if name.startswith(ours) else name


HEADS = get_args(Head)


def normalisation_of(preprocessing: Preprocessing) -> Normalisation:
    """The name of a mean and divisor; "auto" for a network whose own are not among the known ones."""
    return next((name for name, values in NORMALISATIONS.items()
                 if values == (preprocessing.mean, preprocessing.std)), "auto")


def _normalised(size: int, normalisation: Normalisation) -> Preprocessing:
    mean, std = NORMALISATIONS[normalisation]
    return Preprocessing(size=size, mean=mean, std=std)


def _vgg(name: str, convolutions: tuple[int, ...], parameters: int, top1: float) -> NetSpec:
    """Simonyan & Zisserman 2014; names and shapes: tf_slim.nets.vgg."""
    return NetSpec(name, name, "vgg", _normalised(224, "vgg"), "fc8", "m_fc8", parameters,
                   Published(top1, f"{name}_2016_08_28.tar.gz"),
                   blocks=tuple(zip((64, 128, 256, 512, 512), convolutions, strict=True)))


def _resnet(version: Literal[1, 2], depth: int, units: tuple[int, ...], parameters: int, top1: float | None,
            size: int = 299) -> NetSpec:
    """He et al. 2015 (arXiv:1512.03385) and 2016 (arXiv:1603.05027); names, shapes and strides: tf_slim.nets.

    "ResNet V2 models use Inception pre-processing and input image size of 299", says TF-Slim's README below its table,
    against the preprocessing factory of the same repository and against default_image_size.
    """
    name = f"resnet_v{version}_{depth}"
    family: Family = "resnet_v1" if version == 1 else "resnet_v2"
    date = "2016_08_28" if version == 1 else "2017_04_14"
    return NetSpec(name, name, family, _normalised(224, "vgg") if version == 1 else _normalised(size, "inception"),
                   "logits", "m_logits", parameters, Published(top1, f"{name}_{date}.tar.gz") if top1 else None,
                   imagenet_classes=1000 if version == 1 else 1001,
                   blocks=tuple(zip((64, 128, 256, 512), units, strict=True)))


def _inception(name: Family, size: int, classifier: str, parameters: int, top1: float, smallest: int = 32) -> NetSpec:
    """Szegedy et al. 2014 and 2015, Ioffe & Szegedy 2015; tables: inception.py, from tf_slim.nets."""
    return NetSpec(name, f"InceptionV{name[-1]}", name, _normalised(size, "inception"), f"Logits/{classifier}",
                   "m_logits", parameters, Published(top1, f"{name}_2016_08_28.tar.gz"), imagenet_classes=1001,
                   smallest=smallest)


MOBILENET_V1 = (  # filters of the paper's width, stride: tf.slim's mobilenet_v1.MOBILENETV1_CONV_DEFS
    (32, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
MOBILENET_V1_TOP1 = {  # width → pixels → top-1 %, from TF-Slim's mobilenet_v1.md
    1.0: {224: 70.9, 192: 70.0, 160: 68.0, 128: 65.2}, 0.75: {224: 68.4, 192: 67.2, 160: 65.3, 128: 62.1},
    0.5: {224: 63.3, 192: 61.7, 160: 59.1, 128: 56.3}, 0.25: {224: 49.8, 192: 47.7, 160: 45.5, 128: 41.5}}
MOBILENET_V1_NAME = re.compile(r"mobilenet_v1_(\d{1,2}(?:\.\d{1,4})?)_(\d{1,5})")
WIDEST = 4.0
"""Of MobileNet-v1: 67 million parameters."""
LEAST_FILTERS = 8
"""MobileNet-v1's min_depth."""


def mobilenet_v1(width: float, size: int) -> NetSpec:
    """Howard et al. 2017 (arXiv:1704.04861) with `width` times its filters; names and shapes: TF-Slim's mobilenet_v1.

    Any width and size make a network; those of the paper are published.
    """
    name = f"mobilenet_v1_{width}_{size}"
    top1 = MOBILENET_V1_TOP1.get(width, {}).get(size)
    blocks = tuple((max(int(filters * width), LEAST_FILTERS), stride) for filters, stride in MOBILENET_V1)
    depths = [filters for filters, _ in blocks]
    separable = sum((9 + 2) * before + before * after + 2 * after for before, after in itertools.pairwise(depths))
    return NetSpec(name, "MobilenetV1", "mobilenet_v1", _normalised(size, "inception"), "Logits/Conv2d_1c_1x1",
                   "m_logits", (27 + 2) * depths[0] + separable + (depths[-1] + 1) * 1001,
                   Published(top1, f"mobilenet_v1_2018_02_22/{name}.tgz") if top1 else None, imagenet_classes=1001,
                   blocks=blocks)


def _nasnet(size: Literal["mobile", "large"], pixels: int, stem: int, filters: int, cells: int, parameters: int,
            top1: float) -> NetSpec:
    """Zoph et al. 2017 (arXiv:1707.07012); names and shapes: TF-Slim's nets/nasnet."""
    return NetSpec(f"nasnet_{size}", "", "nasnet", _normalised(pixels, "inception"), "final_layer/FC", "m_logits",
                   parameters,
                   Published(top1, f"nasnet-a_{size}_04_10_2017.tar.gz", "model.ckpt"), imagenet_classes=1001,
                   blocks=((stem, 1), (filters, cells), (2 * filters, cells), (4 * filters, cells)),
                   matrices=("final_layer/FC",))


NETS = {spec.name: spec for spec in (
    _vgg("vgg_16", (2, 2, 3, 3, 3), 138_357_544, 71.5),
    _vgg("vgg_19", (2, 2, 4, 4, 4), 143_667_240, 71.1),
    _resnet(1, 50, (3, 4, 6, 3), 25_557_032, 75.2),
    _resnet(1, 101, (3, 4, 23, 3), 44_549_160, 76.4),
    _resnet(1, 152, (3, 8, 36, 3), 60_192_808, 76.8),
    _resnet(2, 50, (3, 4, 6, 3), 25_570_409, 75.6),
    _resnet(2, 101, (3, 4, 23, 3), 44_579_945, 77.0),
    _resnet(2, 152, (3, 8, 36, 3), 60_238_953, 77.8),
    _resnet(2, 200, (3, 24, 36, 3), 64_728_169, None, size=224),  # its archive is "TBA" in TF-Slim's table
    _inception("inception_v1", 224, "Conv2d_0c_1x1", 6_618_649, 69.8),
    _inception("inception_v2", 224, "Conv2d_1c_1x1", 11_179_361, 73.9),
    _inception("inception_v3", 299, "Conv2d_1c_1x1", 27_145_970, 78.0, smallest=75),
    NetSpec("inception_v4", "InceptionV4", "inception_v4", _normalised(299, "inception"), "Logits/Logits", "m_logits",
            46_009_106, Published(80.2, "inception_v4_2016_09_09.tar.gz"), imagenet_classes=1001, smallest=75,
            matrices=("Logits/Logits", "AuxLogits/Aux_logits")),
    NetSpec("inception_resnet_v2", "InceptionResnetV2", "inception_resnet_v2", _normalised(299, "inception"),
            "Logits/Logits", "m_logits", 59_182_258,
            Published(80.4, "inception_resnet_v2_2016_08_30.tar.gz", "inception_resnet_v2_2016_08_30.ckpt"),
            imagenet_classes=1001, smallest=75, matrices=("Logits/Logits", "AuxLogits/Logits")),
    mobilenet_v1(1.0, 224),
    mobilenet_v1(0.5, 160),
    mobilenet_v1(0.25, 128),
    _nasnet("mobile", 224, 32, 44, 4, 5_291_035, 74.0),
    _nasnet("large", 331, 96, 168, 6, 88_757_183, 82.7),
    NetSpec("alexnet_v2", "alexnet_v2", "alexnet", _normalised(224, "vgg"), "fc8", "m_fc8", 50_303_912, None,
            smallest=67),
)}


def net_spec(name: str, image_size: int | None = None, normalisation: Normalisation = "auto",
             cut: str | None = None, resize: Resize = "bilinear") -> NetSpec:
    """The network called `name`: a row of NETS, or MobileNet-v1 of any width, such as mobilenet_v1_0.75_192.

    `image_size` is the height and width of the input, pixels; None: the network's own. `normalisation`: another mean
    and divisor, for weights that were trained with it. `cut`: as `NetSpec.cut`; it may begin with `scope`, as TF-Slim's
    end points do; `build` knows whether it exists, and whether the image is large enough for what is left. UsageError
    for an unknown name, with the known ones, and for a size that the network cannot take.
    """
    spec, mobilenet = NETS.get(name), MOBILENET_V1_NAME.fullmatch(name)
    if spec is None and mobilenet is not None:
        width = float(mobilenet[1])
        if not 0 < width <= WIDEST:
            raise UsageError(f"`net` {name}: the width {mobilenet[1]} of MobileNet-v1 must be above 0 and at most "
                             f"{WIDEST:g}")
        spec = mobilenet_v1(width, int(mobilenet[2]))
    if spec is None:
        raise UsageError(f"`net` {name}: no such network; known are {', '.join(NETS)}, and mobilenet_v1_WIDTH_SIZE "
                         "with other numbers")
    size, smallest = spec.preprocessing.size if image_size is None else image_size, 1 if cut else spec.smallest
    if not smallest <= size <= LARGEST_IMAGE:
        raise UsageError(f"`image_size` {size}: must be from {smallest} to {LARGEST_IMAGE} for {name}")
    preprocessing = replace(spec.preprocessing, size=size, resize=resize)
    if normalisation != "auto":
        mean, std = NORMALISATIONS[normalisation]
        preprocessing = replace(preprocessing, mean=mean, std=std)
    return replace(spec, preprocessing=preprocessing, cut=cut and cut.removeprefix(f"{spec.scope}/"))


COLUMNS = {"net": "net", "parameters": "parameters", "pixels": "size", "values": "normalisation", "order": "channels",
           "top-1 %": "top1", "weights": "fetch"}
"""Heading → key in `networks_as_json`."""
NUMBERS = ("parameters", "pixels", "top-1 %")
NOTES = """net: also MobileNet-v1 of any width and size, such as mobilenet_v1_0.75_192.
parameters: with ImageNet's classes, without moving averages.
pixels: height and width of the input. order: of the colour channels.
values: vgg subtracts ImageNet's mean, inception maps 0 … 255 to −1 … 1.
top-1 %: accuracy of TF-Slim's checkpoint on ImageNet's validation images, one
  crop, from TF-Slim's README.
weights: whether `voc-weights fetch NET` has TF-Slim's checkpoint; –: none is
  published."""


def networks_as_json() -> list[dict[str, object]]:
    """The properties by which to choose a network, for each of them.

    size: pixels. normalisation: a key of NORMALISATIONS. top1: percent. fetch: what `voc-weights fetch` takes. archive:
    what it downloads.
    """
    rows: list[dict[str, object]] = []
    for spec in NETS.values():
        pixels, published = spec.preprocessing, spec.published
        rows.append({"net": spec.name, "parameters": spec.parameters, "size": pixels.size,
                     "normalisation": normalisation_of(pixels), "channels": pixels.channels, "head": spec.head,
                     "top1": published.top1 if published else None, "fetch": spec.name if published else None,
                     "archive": f"download.tensorflow.org/models/{published.archive}" if published else None})
    return rows


def networks_as_text() -> str:
    """A table of all networks, for a terminal or a --help; lines of at most 80 columns."""
    def shown(value: object) -> str:
        return "–" if value is None else value if isinstance(value, str) else f"{value:,}"

    rows = [list(COLUMNS), *([shown(row[key]) for key in COLUMNS.values()] for row in (
        {**row, "fetch": row["fetch"] and "yes"} for row in networks_as_json()))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) if heading in NUMBERS else cell.ljust(width)
                               for heading, cell, width in zip(COLUMNS, row, widths, strict=True)).rstrip()
                     for row in rows)
