"""Fine-tune an ImageNet network to tell the classes of images, evaluate it, export it. See docs/python.md.

```python
import voc_cls as vc

data = vc.load_dataset("VOCdevkit/VOC2007")
train, val = data["trainval"].split(0.15, seed=0)
net = vc.create_network("vgg_16", classes=train.classes, head="gap", weights=vc.fetch_weights("vgg_16_conv"))
run = vc.train(net, train, val, trainable="head", out="runs/voc")
report = vc.evaluate(run, data["test"])
vc.export(run, "models/voc")
```

Importing it is quick: TensorFlow is imported by the first function that needs it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from voc_cls.console import import_tensorflow
from voc_cls.version import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from export.options import Form, Precision
    from voc_cls.data.dataset import DataKind, Dataset, DifficultPolicy
    from voc_cls.data.load import DatasetDict
    from voc_cls.evaluation.report.page import Report
    from voc_cls.loaded_model import LoadedModel
    from voc_cls.model_metadata import Tta
    from voc_cls.nets.network import Network
    from voc_cls.nets.registry import Head, Normalisation
    from voc_cls.training.trained_run import TrainedRun

__all__ = ["__version__", "create_network", "evaluate", "export", "fetch_weights", "load_dataset", "load_model",
           "open_run", "train"]

logger = logging.getLogger("voc_cls")


def load_dataset(root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], kind: DataKind | None = None,
                 difficult: DifficultPolicy | str = "ignore", classes: Sequence[str] = ()) -> DatasetDict:
    """Opens a data set; each split is read when you first ask for it: `load_dataset("VOCdevkit/VOC2007")["trainval"]`.

    Args:
        root: The folder or file of the data set: one year of a VOC devkit or a list of several, images with VOC
            annotations, `cifar-10-batches-py` or its archive, CSV lists, a folder with a folder for each class, or
            COCO's annotations, or an export of Label Studio.
        kind: "voc", "cifar10", "csv", "folder", "coco" or "label-studio". Default: recognised from the content of
            `root`.
        difficult: For VOC, what an image is for a class of which it shows only difficult objects: "ignore" (neither
            positive nor negative, as VOC scores it), "positive" or "negative".
        classes: The classes to read, in this order; others are ignored. Default: all.

    Returns:
        A read-only mapping from split to data set, with `.classes` and `.task`.

    Raises:
        DataError: `root` is not such a data set, or its kind cannot be recognised.
    """
    from voc_cls.data import load

    return load.load_dataset(root, kind, difficult, classes)


def fetch_weights(name: str = "vgg_16_conv", folder: str | os.PathLike[str] | None = None,
                  console: Console | None = None) -> Path:
    """Downloads published ImageNet weights once, checks them and returns the file.

    Args:
        name: As in `voc-weights list`, such as "vgg_16_conv" or "resnet_v1_50".
        folder: Where the file is kept. Default: the cache folder, $VOC_CACHE_DIR or ~/.cache/voc-cls.
        console: Where a progress bar is shown. Default: nowhere. The source and the licence go to the logger "voc_cls".

    Raises:
        UsageError: No weights of that name can be fetched.
        DownloadError, WeightsError: The file does not arrive, or is not the expected one.
    """
    from voc_cls.files import weights_folder
    from voc_cls.weights.fetch import fetch, fetch_source

    import_tensorflow(whole=True)
    target = weights_folder() if folder is None else Path(folder)
    return fetch(fetch_source(name), target.absolute(), say=logger.info, console=console)


def create_network(name: str = "vgg_16", *, classes: Sequence[str], head: Head = "gap", cut: str | None = None,
                   weights: str | os.PathLike[str] | None = None, image_size: int | None = None,
                   normalisation: Normalisation = "auto",
                   precision: Literal["float32", "bfloat16", "float16"] = "float32",
                   exclude: Sequence[str] = (), seed: int = 0, weights_entry: str | None = None) -> Network:
    """Builds a network with a new head for your classes and restores its weights. `net.model` is a `keras.Model`.

    Args:
        name: One of the networks of `voc-nets`.
        classes: The labels, in the order of the network's outputs; usually `data.classes`.
        head: "gap" (the L2-normalised mean of the last grid, for weight files that hold the convolutions only),
            "gap+max" (its maximum too, better for small objects), "gap+max+lower" (also that of the grid before the
            last scope), "csra" (class-specific attention, for large images), "flatten" (a dense layer on all
            values of the grid) or "fc" (the paper's own).
        cut: The scope or pool behind which the network ends, such as "pool3" or "block4". Default: the whole network.
        weights: A weight file of any known format, the folder of an earlier run with the same head, or None for random
            weights.
        image_size: Height and width of the input, pixels. Default: the network's own, 224 for VGG.
        normalisation: Mean and divisor of the pixels. "auto": those that the weights were trained with.
        precision: Number format of the layers that are trained; weights, head and loss are float32 in each.
        exclude: Scopes that are not restored, such as "fc6".
        seed: Of the random weights and of dropout. The process's own random generators are not changed.
        weights_entry: Key or prefix of the weights in their file, such as "model_ema". Default: the only network; of a
            network and its moving average the network.

    Raises:
        UsageError: There is no such network, head, size or scope.
        WeightsError: `weights` cannot be read or does not fit the network.
    """
    import_tensorflow(whole=True)
    from voc_cls.training import initial_weights
    from voc_cls.training.config import NetworkConfig

    config = NetworkConfig("none" if weights is None else str(Path(weights).absolute()), weights_entry, name, head, cut,
                           image_size, normalisation, exclude=tuple(exclude))
    return initial_weights.create_network(config, classes, precision, seed)


def train(network: Network, train: Dataset, val: Dataset | None = None, *, out: str | os.PathLike[str],
          test: Dataset | None = None, trainable: str = "all", resume: bool = False,
          cache_dir: str | os.PathLike[str] | None = None, console: Console | None = None, progress: bool = True,
          **options: Any) -> TrainedRun:
    """Trains a network on a data set and writes a run folder. Afterwards the network has the best weights.

    Args:
        network: From `create_network`; trained in place.
        train: The images to train on.
        val: The images that choose the best weights, thresholds and calibration. None: the last weights are the best.
        out: The run folder; it must not exist yet, unless `resume`.
        test: The images of a final evaluation, whose report becomes `run.report` and report.html in the run folder.
        trainable: "head", "conv5+" (conv5 and everything after it), "all", or a regular expression over the scopes.
        resume: Continue the interrupted run in `out`, from the same network and images.
        cache_dir: The folder of caches, such as the outputs of frozen layers. Default: $VOC_CACHE_DIR or
            ~/.cache/voc-cls.
        console: Where the settings and the table of layers are printed. Default: nowhere.
        progress: Whether a progress bar is shown, on a terminal or in a notebook.
        options: Any other option of `voc-train` about training, loss, augmentation and caches: `steps=500`,
            `lr=1e-3`, `augment="mild"`, `loss="focal"`, `seed=1`.

    Returns:
        The run: `run.history`, `run.predict(paths)`, `run.network`, `run.report`.

    Raises:
        UsageError: An option does not exist or cannot be used.
        DataError: An image cannot be decoded, or two data sets share images.
        RunError: The loss becomes NaN or infinite, or `out` cannot be written.
    """
    import_tensorflow(whole=True)
    from voc_cls.training.session import train_network
    from voc_cls.training.splits import Splits

    return train_network(network, Splits(train, val, test), Path(out), trainable=trainable, resume=resume,
                         cache_dir=None if cache_dir is None else Path(cache_dir), console=console, progress=progress,
                         **options)


def open_run(path: str | os.PathLike[str], weights: Literal["best", "last"] = "best") -> TrainedRun:
    """Opens the folder of a finished run, of `vc.train` or `voc-train`.

    Args:
        path: The run folder.
        weights: "best": those with the best validation score. "last": those after the last step.

    Raises:
        RunError: It is not a run folder, or the run is not finished.
    """
    import_tensorflow(whole=True)
    from voc_cls.training import trained_run

    return trained_run.open_run(Path(path), which=weights)


def evaluate(run: TrainedRun | str | os.PathLike[str], dataset: Dataset, *, classes: Sequence[str] = (),
             tta: Tta = "none", bootstrap: int = 1000, pointing: bool = False) -> Report:
    """Measures a run on a data set. Nothing is written.

    Args:
        run: A run or its folder.
        dataset: Images with their labels, which must be those of the run.
        classes: The classes to report and to average over. Default: all.
        tta: Test-time augmentation, the mean over views of each image: "none", "flip", "multi-scale" or "both".
        bootstrap: Resamples of the images for the 95 % confidence intervals.
        pointing: Compare the heat maps of all labels with the boxes (VOC, COCO, Label Studio); as long as predicting.

    Returns:
        The report: `.map`, `.per_class`, `.to_dict()`, `.to_html(path)`; single-label reports have `.accuracy`.

    Raises:
        UsageError: The data set has other classes than the run, or `classes` names one that is not there.
        DataError: An image cannot be decoded.
    """
    import_tensorflow(whole=True)
    from voc_cls.training.trained_run import TrainedRun, evaluate_run

    opened = run if isinstance(run, TrainedRun) else open_run(run)
    return evaluate_run(opened, dataset, tta, classes, bootstrap, pointing=pointing)


def export(run: TrainedRun | str | os.PathLike[str], model_dir: str | os.PathLike[str], version: int | None = None, *,
           format: Form | Sequence[Form] = "savedmodel", precision: Precision = "float32", calibration: int = 300,
           max_drop: float = 0.5, evaluate: bool = True, calibrated: bool = False, tta: Tta = "none",
           console: Console | None = None) -> Path:
    """Exports the best weights of a run in forms that have been verified against the run; returns the version's folder.

    Args:
        run: A run or its folder.
        model_dir: The folder of the model, such as "models/voc"; the version becomes a folder in it.
        version: From 1. Default: one above the highest that exists.
        format: One or several of "savedmodel", "onnx" and "openvino".
        precision: Of "openvino": "float32", or "int8", quantised after training.
        calibration: For int8: how many training images set the ranges of the activations.
        max_drop: For int8: points of mean AP (single-label: of accuracy) that may be lost on the validation split.
        evaluate: Whether mean AP of ONNX and OpenVINO is measured on the evaluation split, if its images are there.
        calibrated: Whether every form gives calibrated probabilities, by what was fitted to the validation split.
        tta: Adds the signature `predict_augmented`, the mean over views as `evaluate` has it: "flip" takes twice the
            time, "multi-scale" four times, "both" eight times.
        console: Where the result is printed. Default: nowhere; it is in MODEL_CARD.md.

    Raises:
        ExportError: The version exists already, cannot be written, does not answer as the run does, or loses too much.
        DataError: int8 needs the images of the run, and they are not there any more.
    """
    import_tensorflow(whole=True)
    from export.options import ExportOptions
    from export.version_folder import export_run
    from voc_cls.training.trained_run import TrainedRun

    forms = (format,) if isinstance(format, str) else tuple(format)
    return export_run(run if isinstance(run, TrainedRun) else Path(run), Path(model_dir), version, console,
                      ExportOptions(forms, precision, calibration, max_drop, evaluate, calibrated, tta))


def load_model(path: str | os.PathLike[str]) -> LoadedModel:
    """Loads an exported model into this process: `load_model("models/voc").predict(["a.jpg"])`.

    With a model.xml in it, OpenVINO computes it, and TensorFlow is neither imported nor needed.

    Args:
        path: The folder of the model, of which the highest version is loaded, or of a version.

    Raises:
        ExportError: There is no version, or it is damaged.
    """
    from voc_cls.loaded_model import LoadedModel

    return LoadedModel(Path(path))
