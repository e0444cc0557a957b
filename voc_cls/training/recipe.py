"""What voc-train chooses where no weights are named, by the pictures and the machine: network, head, weights, and what
to evaluate on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from voc_cls.console import say
from voc_cls.data.dataset import Task
from voc_cls.data.files import read_header
from voc_cls.data.load import NONE, open_reader
from voc_cls.data.readers.split_scan import split_for
from voc_cls.errors import DownloadError
from voc_cls.files import weights_folder
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig
from voc_cls.training.devices import accelerators
from voc_cls.training.run_folder import RunFolder, check_folder
from voc_cls.training.splits import Splits, read_splits
from voc_cls.weights.fetch import fetch, fetch_source

FAST, ACCURATE = "mobilenet_v1_1.0_224", "vgg_16"
"""Without and with a GPU: on CPUs FAST takes a tenth of the time, and ranks the real VOC2007 part a point lower."""
LARGE = 448
"""Pixels: shows small objects, and takes four times as long as 224."""
SMALL_PICTURES = 300
"""Pixels of the longer side: enlarging such pictures to LARGE would show nothing new."""
MANY = 5000
"""Pictures from which on a machine without a GPU would take longer than ten minutes for LARGE."""
LOOKED_AT = 100
"""Pictures whose size is read."""
HELD_OUT = "0.2"
"""Part of the training pictures to evaluate on, where no split is for it."""


def fetched(network: NetworkConfig, console: Console) -> NetworkConfig:
    """With the path of the ImageNet weights for its network and head, fetched unless they are there already."""
    name = "vgg_16_conv" if network.net == "vgg_16" and network.head != "fc" else network.net
    try:
        path = fetch(fetch_source(name), weights_folder().absolute(), console=Console(stderr=True),
                     say=partial(say, console))
    except DownloadError as error:
        reason = str(error).replace("with `archive`", f"to `voc-weights fetch {name} --archive`")
        raise DownloadError(f"the ImageNet weights of {network.net} are not here, and {reason}; or name a weight file "
                            "with `weights`, or none for random ones, which need many more pictures") from error
    return replace(network, weights=str(path))


def choose(config: TrainConfig, given: Collection[str], console: Console) -> tuple[TrainConfig, Splits]:
    """`config` with weights, and with values for the settings that are not in `given`, which it explains on `console`;
    and the pictures that it has read for it."""
    check_folder(RunFolder(config.run.out), config)
    dataset, evaluated = config.dataset.checked(), ""
    if "eval_split" not in given and dataset.eval_split == NONE:
        dataset, evaluated = with_evaluation(dataset)
    splits = read_splits(dataset, config.training.seed)
    count, gpu = len(splits.pictures), bool(accelerators())
    chosen: dict[str, Any] = {"net": ACCURATE if gpu else FAST, "trainable": "head",
                              "head": "gap+max" if "net" in given else "gap+max+lower"}
    small = longer_side(splits) < SMALL_PICTURES
    if "net" not in given and not small and (gpu or count <= MANY):
        chosen["image_size"] = LARGE
    network = replace(config.network, **{name: value for name, value in chosen.items() if name not in given})

    table = Table(show_header=False, box=None, title="chosen, as no --weights are given", title_justify="left")
    labels = "one class" if splits.task is Task.SINGLE_LABEL else "any number of classes"
    table.add_row("pictures", f"{count:,}, each with {labels}: read as {dataset.data} (--data)")
    if evaluated:
        table.add_row("evaluation", f"{evaluated} (--eval-split)")
    if "net" not in given:
        table.add_row("network", f"{network.net}: " + (
            "there is a GPU" if gpu else "without a GPU, a tenth of VGG-16's time for nearly its scores")
            + " (--net)")
    if "image_size" in chosen and "image_size" not in given:
        table.add_row("image size", f"{LARGE} pixels, which shows small objects; 224 is four times as fast "
                                    "(--image-size)")
    elif "net" not in given and "image_size" not in given:
        table.add_row("image size", "the network's own, as the pictures are " + (
            "small" if small else "many for a machine without a GPU") + " (--image-size)")
    if not {"head", "trainable"} & set(given):
        table.add_row("trained", f"the head {network.head} on frozen layers: minutes instead of hours, as each picture "
                                 "passes them once (--head, --trainable)")
    console.print(table, highlight=False)
    return replace(config, dataset=dataset, network=fetched(network, console)), splits


def with_evaluation(dataset: DatasetConfig) -> tuple[DatasetConfig, str]:
    """A data set without a test split with another one to evaluate on, and which it is, for people."""
    labelled = open_reader(dataset.data, dataset.root).labelled_splits
    name = split_for("val", labelled)
    if name and name not in (dataset.train_split, dataset.val_split):
        return replace(dataset, eval_split=name), f"{name}, as no split is called test"
    return (replace(dataset, eval_split=HELD_OUT),
            f"{float(HELD_OUT):.0%} of {dataset.train_split}, as there is no other split to evaluate on")


def longer_side(splits: Splits) -> float:
    """Pixels; the median over some of the training pictures."""
    paths = splits.train.paths
    headers = [read_header(path) for path in paths[::-(-len(paths) // LOOKED_AT)]]
    return median(max(header.width, header.height) for header in headers)
