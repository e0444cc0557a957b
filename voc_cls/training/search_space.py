"""What voc-tune is told: the training that a search starts from, which of its settings vary, and among what."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from voc_cls.config import FlagOnly, Range, check_ranges
from voc_cls.data.augmentation import Preset
from voc_cls.errors import UsageError
from voc_cls.nets.registry import Head, net_spec
from voc_cls.training.config import RunConfig, TrainConfig

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
    """Number of parts of --train-split that are left out and predicted in turn; stratified. A trial's score is the mean
    over them (mean AP of the classes with 10 pictures in each part; single-label: accuracy)."""
    heads: tuple[Head, ...] = ("gap", "gap+max", "gap+max+lower")
    """Heads to try unless --head is given. The default has all that pool the last grid."""
    image_sizes: tuple[int, ...] = ()
    """Image sizes to try, pixels, such as 224 320. Default: --image-size. The features of each size are computed once,
    which takes most of the time of a search."""
    augments: tuple[Preset, ...] = ("flip", "none")  # in this order features are computed at once
    """Values of --augment to try unless it is given; others than none and flip need --views."""
    l2_range: Annotated[tuple[float, float], Range(1e-30)] = (1e-6, 1e-1)
    """Least and greatest --l2 to try, on a logarithmic scale. The default reaches far beyond the best values for the
    heads that normalise their features."""
    lr_range: Annotated[tuple[float, float], Range(1e-30)] = (1e-4, 1e-1)
    """Least and greatest --lr to try where the head is trained by descent, on a logarithmic scale; the default of a
    head, 2e-3, is in the middle."""
    ray: Annotated[bool, FlagOnly()] = False
    """Compute the features and as many trials at once as a Ray cluster has cores: that of $RAY_ADDRESS, or of `ray
    start` on this machine; otherwise with the cores of this machine (extra `ray`; docs/scale.md)."""
    config: Annotated[Path | None, FlagOnly()] = None
    """YAML file with values for any of these flags, such as a run's config.yaml. Flags and the variables VOC_TUNE_…
    take precedence. Default: $VOC_TUNE_CONFIG."""
    json: Annotated[bool, FlagOnly()] = False
    """Print the trials as JSON, as trials.csv has them; all else goes to stderr."""
    cache_dir: Path | None = None
    """Folder for caches. Default: $VOC_CACHE_DIR, otherwise ~/.cache/voc-cls."""


@dataclass(frozen=True)
class TuneConfig(TrainConfig):
    """A training of a head alone, and the study that varies it; `run` is not set."""

    study: StudyConfig = field(default_factory=StudyConfig)

    def base(self) -> TuneConfig:
        """With the values to try filled in; UsageError for what a search cannot have."""
        network, training, study, augment = self.network, self.training, self.study, self.augmentation.augment
        check_ranges(study)
        validated = "needs a validation during training, which trials do not have"
        for name, value, usable, reason in (
                ("trainable", network.trainable, ("all", "head"), "a search trains heads alone"),  # all: the default
                ("schedule", training.schedule, ("constant", "cosine"), validated),
                ("early_stopping", training.early_stopping, (None,), validated)):
            if value not in usable:
                raise UsageError(f"`{name}` {value}: {reason}; omit it")
        size = net_spec(network.net, network.image_size).preprocessing.size
        study = replace(study, heads=study.heads if network.head == "fc" else (network.head,),
                        augments=study.augments if augment == "flip" else (augment,),
                        image_sizes=study.image_sizes or (size,), config=None, cache_dir=None, ray=False)
        base = replace(self, dataset=self.dataset.checked(), network=replace(network, trainable="head"), study=study,
                       run=RunConfig(cache_dir=self.study.cache_dir, ray=self.study.ray))
        for values in itertools.product(*base.choices.values()):  # all, before features are computed for the first
            config = base.varied(dict(zip(base.choices, values, strict=True)))
            if config.network.head == "csra" and config.training.solver == "lbfgs":
                raise UsageError("`head` csra: a search computes it by descent only; choose `solver` descent")
        return base

    @property
    def choices(self) -> dict[str, tuple[Any, ...]]:
        """What decides the features, and the values of it to try."""
        return {"head": self.study.heads, "image_size": self.study.image_sizes, "augment": self.study.augments}

    def varied(self, values: Mapping[str, Any]) -> TuneConfig:
        """With other values of what is in GROUPS, `checked`."""
        config = self
        for name, value in values.items():
            config = replace(config, **{GROUPS[name]: replace(getattr(config, GROUPS[name]), **{name: value})})
        return config.checked()
