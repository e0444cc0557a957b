"""What voc-tune is told: the training that a search starts from, which of its settings vary, and among what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from voc_cls.config import FlagOnly, Range, check_ranges
from voc_cls.data.augmentation import AugmentationConfig, Preset
from voc_cls.errors import UsageError
from voc_cls.nets.registry import HEADS, Head, net_spec
from voc_cls.training.config import (
    ComputeConfig,
    DatasetConfig,
    LossConfig,
    NetworkConfig,
    RunConfig,
    TrainConfig,
    TrainingConfig,
)

UNPOOLED = ("fc", "flatten")
"""Heads that are tried only when they are named: their layers fix the size of the images, or are large."""
GROUPS = {"head": "network", "image_size": "network", "augment": "augmentation", "l2": "training", "lr": "training"}
"""What can vary, and the group of settings that it is in."""


@dataclass(frozen=True)
class StudyConfig:
    """The search. Settings that are given above, such as --head or --l2, do not vary."""

    study: Path = Path("studies/voc")
    """Folder of the study: study.db (SQLite; the same command continues it), trials.csv, trials.png, and best.yaml for
    voc-train --config."""
    trials: Annotated[int, Range(1)] = 100
    """Number of trials, those of earlier commands included."""
    folds: Annotated[int, Range(2)] = 3
    """Number of parts of --train-split that are left out and predicted in turn; stratified, as `voc-data split --folds`
    draws them. A trial's score is the mean over them (mean AP; single-label: accuracy)."""
    timeout: Annotated[float | None, Range(0.001)] = None
    """Minutes after which no further trial begins. Default: no limit."""
    heads: tuple[Head, ...] = ()
    """Heads to try, such as gap gap+max. Default: --head; if that is fc, all heads that pool the last grid."""
    image_sizes: tuple[int, ...] = ()
    """Image sizes to try, pixels, such as 224 320. Default: --image-size. The features of each size are computed once,
    which takes most of the time of a search."""
    augments: tuple[Preset, ...] = ()
    """Values of --augment to try; others than none and flip need --views. Default: --augment; if that is flip, none and
    flip."""
    l2_range: tuple[float, float] = (1e-6, 1e-1)
    """Least and greatest --l2 to try, on a logarithmic scale. The default reaches far beyond the best values
    for the heads that normalise their features."""
    lr_range: tuple[float, float] = (1e-4, 1e-1)
    """Least and greatest --lr to try where the head is trained by descent, on a logarithmic scale; the default of a
    head, 2e-3, is in the middle."""
    config: Annotated[Path | None, FlagOnly()] = None
    """YAML file with values for any of these flags, such as a run's config.yaml. Flags and the variables VOC_TUNE_…
    take precedence. Default: $VOC_TUNE_CONFIG."""
    cache_dir: Path | None = None
    """Folder for caches. Default: $VOC_CACHE_DIR, otherwise ~/.cache/voc-cls."""


@dataclass(frozen=True)
class TuneConfig:
    """A search: all settings of a training but those of its run, and the study."""

    dataset: DatasetConfig
    network: NetworkConfig
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    study: StudyConfig = field(default_factory=StudyConfig)

    def base(self) -> TrainConfig:
        """The training that trials vary, of a head alone; UsageError for what a search cannot have."""
        study, training, trainable = self.study, self.training, self.network.trainable
        check_ranges(study)
        for name, limits in (("l2_range", study.l2_range), ("lr_range", study.lr_range)):
            if len(limits) != 2 or not 0 < limits[0] < limits[1]:
                raise UsageError(f"`{name}` {' '.join(f'{limit:g}' for limit in limits)}: give two numbers above 0, "
                                 "the smaller one first")
        if trainable not in ("all", "head"):  # all: the default
            raise UsageError(f"`trainable` {trainable}: a search trains heads alone; omit it")
        for name, value, plain in (("schedule", training.schedule, ("constant", "cosine")),
                                   ("early_stopping", training.early_stopping, (None,))):
            if value not in plain:
                raise UsageError(f"`{name}` {value}: needs a validation during training, which trials do not have; "
                                 "omit it")
        return TrainConfig(self.dataset.checked(), replace(self.network, trainable="head"), self.augmentation, training,
                           self.loss, self.compute, RunConfig(cache_dir=study.cache_dir))

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """What decides the features → the values to try."""
        network, study, augment = self.network, self.study, self.augmentation.augment
        pooled = tuple(head for head in HEADS if head not in UNPOOLED)
        size = net_spec(self.network.net, self.network.image_size).preprocessing.size
        return {"head": study.heads or ((network.head,) if network.head != "fc" else pooled),
                "image_size": study.image_sizes or (size,),
                "augment": study.augments or (("none", "flip") if augment == "flip" else (augment,))}


def with_values(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """`base` with other values of the settings in GROUPS, checked as `TrainConfig.checked` does."""
    for name, value in values.items():
        base = replace(base, **{GROUPS[name]: replace(getattr(base, GROUPS[name]), **{name: value})})
    return base.checked()
