"""Probable label errors among the images of a run, judged on the features that its network has before the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from voc_cls.data.dataset import Dataset
from voc_cls.data.feature_cache import FeatureCache
from voc_cls.data.load import read_dataset
from voc_cls.data.pipeline import naming_broken_images
from voc_cls.data.stratify import AUTO
from voc_cls.errors import UsageError
from voc_cls.evaluation.predictions import Floats
from voc_cls.evaluation.suspects import Suspects, find_suspects
from voc_cls.files import file_digests
from voc_cls.paths import cache_folder
from voc_cls.training.backbone import View, frozen_backbone
from voc_cls.training.config import recorded_dataset
from voc_cls.training.devices import inference_precision
from voc_cls.training.trained_run import TrainedRun, check_dataset


def run_suspects(trained: TrainedRun, split: str | None = None, folds: int = 5, group: str | None = None,
                 cache_dir: Path | None = None, report: Callable[[str], object] = lambda _: None) -> Suspects:
    """Ranks the images of a run by how probably they are labelled wrongly; as `find_suspects`, `run_images` and
    `run_features`. group: by default the run's."""
    dataset, group = run_images(trained, split), group or trained.config["dataset"].get("group", AUTO)
    dataset.grouping(group)  # an error comes before the features are computed
    features = run_features(trained, dataset, cache_dir, report)
    suspects = find_suspects(dataset, features, folds, trained.config["training"]["seed"], group)
    trainable = trained.config["network"]["trainable"]
    note = f"the run trained {trainable}, so its features may have seen these labels and hide errors"
    return suspects if trainable == "head" else replace(suspects, notes=(*suspects.notes, note))


def run_images(trained: TrainedRun, split: str | None = None) -> Dataset:
    """A split of the run's data set, by default all that it trained and, with `val_split` auto, validated on."""
    recorded = recorded_dataset(trained.config["dataset"])
    reasons = trained.config["provenance"].get("not_repeatable", {})
    if "dataset" in reasons:
        raise UsageError(f"{trained.folder.path}: {reasons['dataset']}, so its labels cannot be judged")
    dataset = read_dataset(recorded.data, recorded.root, split or recorded.train_split or "", recorded.difficult,
                           recorded.classes)
    check_dataset(trained, dataset)
    return dataset


def run_features(trained: TrainedRun, dataset: Dataset, cache_dir: Path | None, report: Callable[[str], object]
                 ) -> Floats:
    """float32 [N, D]: what enters the head of the run's network, from the cache as far as it is there.

    cache_dir: folder for caches; None: the user's. report: is told where the features come from.
    """
    precision = inference_precision(trained.config["compute"]["inference_precision"])
    backbone = frozen_backbone(trained.network, trained.network.scopes[-1], precision)
    limit_gb = trained.config["compute"]["cache_gb"] or np.inf  # a run that kept no features may keep these
    views = [View(path, digest) for path, digest in zip(dataset.paths, file_digests(dataset.paths), strict=True)]
    with naming_broken_images(dataset.paths):
        rows = backbone.features(views, FeatureCache(cache_folder(cache_dir) / "arrays", limit_gb, report))
    return np.asarray(rows[:], np.float32).reshape(len(dataset), -1)
