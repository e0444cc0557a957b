"""An exported model: its signatures, and its metadata, assets/voc_cls.json."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from voc_cls.errors import ExportError, reason, shown
from voc_cls.image_decoder import RESIZES, Preprocessing

FORMAT = 1
"""Of voc_cls.json: the newest that is read, and what is written. Raised when an older reader would misunderstand it."""
LARGEST_VERSION = 2**63 - 1
"""ModelSpec.version is an int64."""
LARGEST_SIZE = 2_364
"""Of a network's input, pixels: 64 MiB."""
DEFAULT = "serving_default"
CLASSIFY = "classify"
AUGMENTED = "predict_augmented"
"""In exports with test-time augmentation. Names as TensorFlow Serving wants them
(https://www.tensorflow.org/tfx/serving/signature_defs)."""
EXPLAIN, EMBED, EXPLAIN_TENSORS = EXPLAINING = "explain", "embed", "explain_tensors"
"""In exports with heat maps and embeddings; all have the others."""
EXPORT_AGAIN = "was exported without heat maps and embeddings, as before 0.5: export it again with voc-export"
"""What there is to say of a version that has none."""
IMAGE_FEATURE = "image/encoded"
"""Key of the image's bytes in a tf.Example, as in TensorFlow's own image data sets."""


Tta = Literal["none", "flip", "multi-scale", "both"]
"""Test-time augmentation. flip: the image and its mirror image (Simonyan & Zisserman 2014, section 3.2). multi-scale:
the whole image at several sizes; nothing is cropped."""
SCALES = (1, 8 / 7, 9 / 7)
"""Relative to the training size: 224, 256 and 288 for 224 pixels. Smaller images would be too small for fc6."""


@dataclass(frozen=True)
class Views:
    """What test-time augmentation sees of each image: the image at every size, its mirror image too if `mirrored`."""

    sizes: tuple[int, ...]
    """Height and width, pixels; the network's own come first."""
    mirrored: bool = False
    tta: str = ""
    """What voc-eval calls it: flip, multi-scale, both, or none."""

    @classmethod
    def of(cls, tta: Tta, size: int) -> Views:
        """The views of a network whose input has `size`, pixels."""
        scales = SCALES if tta in ("multi-scale", "both") else SCALES[:1]
        return cls(tuple(round(size * scale) for scale in scales), tta in ("flip", "both"), tta)

    @property
    def number(self) -> int:
        """Of views."""
        return len(self.sizes) * (1 + self.mirrored)


@dataclass(frozen=True)
class ModelMetadata:
    """What a server, its callers and `voc_cls.load_model` need to know about a model besides its graph.

    All fields but the first three may be empty, in exports of older versions and in those without an evaluation.
    """

    labels: tuple[str, ...]
    """In the order of the columns of `probabilities`."""
    net: str
    preprocessing: Preprocessing
    activation: str = "sigmoid"
    """From logits to probabilities: sigmoid, each label independently, or softmax, where they sum to 1."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Label → least probability with which it counts as present."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Results on the evaluation split, under the names of `voc-eval --json`: map, map_11pt, of1 and so on."""
    average_precisions: Mapping[str, float] = field(default_factory=dict)
    """Label → average precision on the evaluation split, 0-1; a label without positives there has none."""
    weights_digest: str = ""
    """SHA-256 over the exported weights."""
    calibration: str = ""
    """How the graph calibrates: platt (a line) or temperature; empty: probabilities are the network's own. Thresholds
    are of what is served."""
    of_forms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Form → the fields above that are its own, by name. In int8 thresholds are chosen again, and of `metrics` and
    `average_precisions` only map or accuracy is measured."""
    augmented: Views | None = None
    """Of the signature predict_augmented; None: the model has no such signature."""

    explains: bool = False
    """Whether it has heat maps and embeddings."""
    training_data: str = ""
    """For people, as in the card; empty: the export does not say."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path in the version's folder → SHA-256, of all files but this one and the card; empty: an export up to 0.4."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """By name."""
        return signatures_of(self.augmented is not None, self.explains)

    def as_form(self, form: str) -> ModelMetadata:
        """With what is the own of the form that is computed: savedmodel or openvino."""
        return replace(self, **self.of_forms.get(form, {}))


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives; the names and types are fixed by the export format."""

    input: str
    dtype: Literal["string", "uint8", "float32"]
    shape: tuple[str | int, ...]
    """Dimensions: "size" is the network's input size, "labels" the number of labels; other names are from 1 up."""
    outputs: tuple[str, ...]
    other_names: tuple[str, ...] = ()
    """Names of the input in exports of voc-cls up to 0.4; callers may use them too."""


SIGNATURES: Mapping[str, Signature] = {
    DEFAULT: Signature("image_bytes", "string", ("N",), ("probabilities",)),
    "predict_images": Signature("images", "uint8", ("N", "height", "width", 3), ("probabilities",)),
    "predict_tensors": Signature("inputs", "float32", ("N", "size", "size", 3), ("probabilities", "logits")),
    "preprocess": Signature("image_bytes", "string", ("N",), ("inputs",)),
    CLASSIFY: Signature("inputs", "string", ("N",), ("scores", "classes"), ("examples",)),
    AUGMENTED: Signature("image_bytes", "string", ("N",), ("probabilities", "logits")),
    EXPLAIN: Signature("image_bytes", "string", ("N",), ("probabilities", "heat_maps")),
    EMBED: Signature("image_bytes", "string", ("N",), ("embedding",)),
    EXPLAIN_TENSORS: Signature("inputs", "float32", ("N", "size", "size", 3),
                               ("probabilities", "logits", "heat_maps", "embedding")),
}
OUTPUTS = {**dict.fromkeys(("probabilities", "logits", "scores"), ("float32", ("N", "labels"))),
           "classes": ("string", ("N", "labels")), "inputs": ("float32", ("N", "size", "size", 3)),
           "heat_maps": ("float32", ("N", "labels", "height", "width")), "embedding": ("float32", ("N", "features"))}
"""Type and shape of each output."""


def signatures_of(augmented: bool, explains: bool = False) -> Mapping[str, Signature]:
    """By name, those of a model, with or without test-time augmentation, and heat maps and embeddings."""
    left_out = {*(() if augmented else (AUGMENTED,)), *(() if explains else EXPLAINING)}
    return {name: signature for name, signature in SIGNATURES.items() if name not in left_out}


Check = tuple[str, Callable[[Any], bool]]
"""What a value must do, for messages, and whether it does."""
TEXT: Check = ("be text", lambda value: isinstance(value, str))
FRACTION: Check = ("be from 0 to 1", lambda value: value is None or (_is_number(value) and 0 <= value <= 1))
GREY_LEVELS: Check = ("be three grey levels",
                      lambda value: isinstance(value, list) and len(value) == 3 and all(map(_is_number, value)))


def version_number(text: str) -> int | None:
    """The version that a folder's name, a URL or a flag means, as TensorFlow Serving reads it: 007 is 7.

    None if it is not a whole number in ASCII digits, such as +12 or 1e3.
    """
    digits = re.fullmatch(r"0*([0-9]{1,19})", text)
    return int(digits[1]) if digits and int(digits[1]) <= LARGEST_VERSION else None


def versions(folder: Path) -> dict[int, Path]:
    """The versions in the folder of a model, by their numbers."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return {number: path for path in paths if (number := version_number(path.name)) is not None}


def read_metadata(version_folder: Path) -> ModelMetadata:
    """Reads assets/voc_cls.json of an exported version; ExportError if it is missing, too new or damaged."""
    path = version_folder / "assets" / "voc_cls.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ExportError(f"{version_folder} has no assets/voc_cls.json, so it was not made by voc-export: "
                         "export the run with voc-export RUN models/NAME") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{path} cannot be read ({reason(error)}): export the model again with voc-export") from None
    version = content.get("format") if isinstance(content, dict) else None
    if not isinstance(version, int):
        raise ExportError(f"{path} has no number as its \"format\": it is not voc-export's; export the model again")
    if version > FORMAT:
        raise ExportError(f"{path} has format {version}, this voc-cls reads up to {FORMAT}: upgrade voc-cls")
    return _metadata(_Section(path, "", content))


@dataclass(frozen=True)
class _Section:
    """An object within the file; errors are ExportErrors that name the file and the key."""

    path: Path
    prefix: str
    values: dict[str, Any]

    def get(self, key: str, expected: str, valid: Callable[[Any], bool], default: Any = None) -> Any:
        value = self.values.get(key, default)
        if not valid(value):
            raise ExportError(f"{self.path}: \"{self.prefix}{key}\" must {expected}, found {shown(value)}: export the "
                              "model again with voc-export")
        return value

    def section(self, key: str) -> _Section:
        """The object under `key`; empty if it is absent or null."""
        value = self.get(key, "have keys and values", lambda value: value is None or isinstance(value, dict))
        return _Section(self.path, f"{self.prefix}{key}.", value or {})


def _metadata(content: _Section) -> ModelMetadata:
    labels = tuple(content.get("labels", "be a list of names", _are_names))
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        raise ExportError(f"{content.path}: \"labels\" has {', '.join(repeated)} more than once: export the "
                          "model again")
    metrics, forms, augmented = map(content.section, ("metrics", "forms", "augmented"))
    preprocessing, classes = _preprocessing(content.section("preprocessing")), metrics.section("classes")
    size = preprocessing.size
    sizes = augmented.get("sizes", f"be {size} and larger sizes", lambda sizes: isinstance(sizes, list) and sizes[:1] ==
                          [size] and all(type(one) is int and size <= one <= LARGEST_SIZE for one in sizes), [size])
    mirrored = augmented.get("mirrored", "be true or false", lambda value: isinstance(value, bool), False)
    return ModelMetadata(
        labels=labels,
        net=content.get("net", *TEXT, "?"),
        preprocessing=preprocessing,
        activation=content.get("activation", *TEXT, "sigmoid"),
        thresholds=_thresholds(content, labels),
        metrics=_numbers(metrics.values),
        average_precisions=_present({label: classes.section(label).get("ap", *FRACTION) for label in labels}),
        weights_digest=content.get("weights_digest", *TEXT, ""),
        calibration=content.section("calibration").get("method", *TEXT, ""),
        of_forms={form: _of_form(forms.section(form), labels) for form in forms.values},
        augmented=Views(tuple(sizes), mirrored, augmented.get("tta", *TEXT, "")) if augmented.values else None,
        explains=content.get("explains", "be true or false", lambda value: isinstance(value, bool), False),
        training_data=_training_data(content),
        files=content.section("files").values,
    )


def _preprocessing(section: _Section) -> Preprocessing:
    """What `voc_cls.image_decoder` can make of an image; exports before 0.4 have no `std`."""
    size = section.get("size", f"be from 1 to {LARGEST_SIZE} pixels",
                       lambda size: type(size) is int and 1 <= size <= LARGEST_SIZE)
    mean = section.get("mean", *GREY_LEVELS)
    std = section.get("std", *GREY_LEVELS, [1, 1, 1])
    return Preprocessing(size, tuple(map(float, mean)), tuple(map(float, std)),
                         section.get("channels", "be RGB", "RGB".__eq__),
                         section.get("resize", f"be {' or '.join(RESIZES)}", RESIZES.__contains__))


def _of_form(form: _Section, labels: tuple[str, ...]) -> dict[str, Any]:
    own: dict[str, Any] = {"thresholds": thresholds} if (thresholds := _thresholds(form, labels)) else {}
    if form.values.get("precision") == "int8":
        measured = {name: form.values.get(name) for name in ("map", "accuracy")}
        own |= {"metrics": _numbers(measured), "average_precisions": {}}
    return own


def _training_data(content: _Section) -> str:
    """In sentences."""
    if not (data := content.section("trained_on")).values:
        return ""
    kind, split, difficult = (data.values.get(key) for key in ("data", "train_split", "difficult"))
    policy = f"; pictures with only difficult objects of a class: {difficult}" if kind == "voc" else ""
    licence = ("VGG weights: Simonyan & Zisserman, CC BY 4.0" if str(content.values.get("net")).startswith("vgg_")
               else "under the licence of its publisher")
    digest = content.values.get("pretrained_digest")
    return (f"{kind}, split {split}, {data.get('pictures', 'be a number', _is_number):,} pictures{policy}. Pretrained "
            f"weights: {f'checkpoint with SHA-256 {digest} ({licence})' if digest else 'none'}.")


def _thresholds(content: _Section, labels: tuple[str, ...]) -> dict[str, float]:
    thresholds = content.section("thresholds")
    for label in set(thresholds.values) - set(labels):
        thresholds.get(label, "be for one of \"labels\"", lambda _: False)
    return _present({label: thresholds.get(label, *FRACTION) for label in labels})


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(label, str) and label for label in value)


def _present(values: Mapping[str, float | None]) -> dict[str, float]:
    return {label: value for label, value in values.items() if value is not None}


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if _is_number(value)}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
