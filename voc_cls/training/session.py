"""A training run, from its config to evaluated weights."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import keras
from rich.console import Console

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.feature_cache import FeatureCache
from voc_cls.data.image_cache import cached_images
from voc_cls.data.pipeline import naming_broken_images, shuffled_order
from voc_cls.errors import UsageError, WeightsError
from voc_cls.evaluation.report.page import Report
from voc_cls.files import write_aside
from voc_cls.nets.network import Network, build_network
from voc_cls.paths import cache_folder
from voc_cls.training.checkpoint import Preemption
from voc_cls.training.config import TrainConfig
from voc_cls.training.devices import compiles, inference_precision, on_accelerator, policy
from voc_cls.training.distribution import Distribution
from voc_cls.training.fit import Plan, fit, predict_logits, shared_inputs
from voc_cls.training.freezing import Trained, freeze
from voc_cls.training.losses import build_loss
from voc_cls.training.multihost import joined
from voc_cls.training.resume import check_folder, pictures_digest, start_folder
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.splits import Splits, read_splits
from voc_cls.training.summary import show_start
from voc_cls.training.trainable_part import TrainablePart, on_backbone_features, whole_network, why_not_cached
from voc_cls.training.trained_run import TrainedRun, files_in, load_weights, write_fitted, write_results
from voc_cls.weights.load import load_weights_file
from voc_cls.weights.restore import network_digest, restore

LEAST_INTERVAL = 50
"""Steps between two checkpoints at least: a pass over a few pictures takes milliseconds when the backbone is frozen."""


def train(config: TrainConfig, console: Console) -> Report | None:
    """Trains as `config` says; returns the report on the best weights (None with --eval-split none).

    Raises UsageError, DataError, WeightsError or RunError before anything is written; from then on the run folder is
    whole at every moment, and --resume goes on from the last checkpoint. Interrupted where a signal came.
    """
    config = with_normalisation(config.resolved())
    folder = RunFolder(config.run.out)
    with joined(config.run.hosts, config.run.rank, config.run.coordinator) as distribution:
        console.quiet = not distribution.is_chief
        distribution.check(config.training.batch_size, config.training.accumulate)
        distribution.check_same(flags=[config.network, config.augmentation, config.training, config.loss,
                                       config.compute])
        distribution.broadcast(lambda: check_folder(folder, config))
        return train_joined(config, folder, distribution, console)


def train_joined(config: TrainConfig, folder: RunFolder, distribution: Distribution, console: Console
                 ) -> Report | None:
    """`train`, when all processes are there."""
    preemption = Preemption(distribution)
    with preemption.watching():
        splits = read_splits(config.dataset, config.training.seed)
        config.loss.for_task(splits.train.task)  # refuses a loss that does not fit, before anything is written
        distribution.check_same(pictures=[pictures_digest(split) for split in (splits.train, splits.val, splits.eval)
                                          if split])
        keras.utils.set_random_seed(config.training.seed)
        with distribution.scope():
            network = build_network(config.network.net, config.network.head, len(splits.train.classes),
                                    policy(config.compute.precision), config.network.image_size,
                                    config.network.normalisation)
        trained = freeze(network, config.network.trainable, config.training, config.network.exclude)
        policy(inference_precision(config.compute.inference_precision, on_accelerator()))  # told before all else
        weights = restore_weights(network, config, splits.train, console)
        distribution.check_same(weights=weights)
        distribution.broadcast(lambda: start_folder(folder, config, splits, weights,
                                                    network.spec.preprocessing))
        with naming_broken_images(splits.pictures, network.spec.preprocessing):
            return run(config, folder, splits, network, trained, preemption, console)


def run(config: TrainConfig, folder: RunFolder, splits: Splits, network: Network, trained: Trained,
        preemption: Preemption, console: Console) -> Report | None:
    """The run itself, in a folder that has been started."""
    training, pictures = config.training, len(splits.train)
    per_epoch = -(-pictures // training.batch_size)
    interval = training.interval or per_epoch * -(-LEAST_INTERVAL // per_epoch)
    show_start(config, splits, trained, interval, preemption.distribution, console)
    part = build_part(config, preemption.distribution, splits, network, trained.first, console)
    plan = Plan(training, shuffled_order(pictures, training.steps or 0, training.batch_size, training.seed),
                splits.train.paths, interval, build_loss(config.loss, splits.train),
                trained.factors(part.model.trainable_variables, network.spec.scope),
                jit=compiles(part.distribution.replicas))
    fit(part, plan, splits.val, folder, preemption, console)
    return finish(part, network, splits, folder)


def build_part(config: TrainConfig, distribution: Distribution, splits: Splits, network: Network, first: str,
               console: Console) -> TrainablePart:
    """What `fit` runs on: what is trained alone, on the frozen backbone's features, where these can be kept."""
    augmentation, compute, folder = config.augmentation.resolved(), config.compute, cache_folder(config.run.cache_dir)
    precision = inference_precision(compute.inference_precision, on_accelerator())

    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    reason = why_not_cached(network, first, splits, augmentation, precision, compute.cache_gb)
    if reason:
        pictures = cached_images(splits.train.paths, network.spec.preprocessing, compute.cache, folder / "arrays",
                                    compute.cache_gb * 1e9, say)
        part = whole_network(distribution, network, splits.train, augmentation, pictures)
    else:
        part = on_backbone_features(distribution, network, first, splits, augmentation, config.training.seed, precision,
                                    FeatureCache(folder / "arrays", compute.cache_gb, say))
    say(f"training {part.description}" + (f": {reason}" if reason else ""))
    return part


def finish(part: TrainablePart, network: Network, splits: Splits, folder: RunFolder) -> Report | None:
    """Thresholds and calibration from the validation split, results on the evaluation split, of the best weights."""
    distribution = part.distribution
    if splits.val is None and distribution.is_chief:
        write_aside(folder.best, lambda aside: shutil.copyfile(folder.last, aside))
    distribution.load_weights(network.model, folder.best)
    config = distribution.broadcast(folder.read_config)
    trained = TrainedRun(folder, config, splits.train.classes, network)
    if (val := splits.val) is not None:
        fitted = predict_logits(part, shared_inputs(part, val), len(val))
        distribution.broadcast(lambda: write_fitted(trained, val, fitted))
    if (evaluated := splits.eval) is None:
        return None
    logits = predict_logits(part, shared_inputs(part, evaluated), len(evaluated))

    def write() -> Report:
        with distribution.alone(network.model):  # Grad-CAM computes too
            return write_results(trained, evaluated, logits, [files_in(folder)])

    return distribution.broadcast(write)


def restore_weights(network: Network, config: TrainConfig, train: Dataset, console: Console) -> str | None:
    """Gives `network` what --weights names and prints what that was; returns its digest, None for `none`."""
    if config.network.weights == "none":
        console.print("weights: random (--weights none)")
        return None
    path = Path(config.network.weights)
    if RunFolder(path).config.is_file():
        return continue_run(network, RunFolder(path), config, train, console)
    weights = load_weights_file(path, config.network.net)
    restore(network, weights, config.network.exclude, show=console.print)
    return weights.digest()


def with_normalisation(config: TrainConfig) -> TrainConfig:
    """`--normalisation auto` replaced by what the weights were trained with; stays auto where they do not say."""
    chosen = config.network
    if chosen.normalisation != "auto" or chosen.weights == "none":
        return config
    earlier = RunFolder(Path(chosen.weights))
    if earlier.config.is_file():
        found = earlier.read_config()["network"].get("normalisation", "auto")
    else:
        found = load_weights_file(Path(chosen.weights), chosen.net).normalisation
    return replace(config, network=replace(chosen, normalisation=found))


def continue_run(network: Network, earlier: RunFolder, config: TrainConfig, train: Dataset, console: Console) -> str:
    """Gives `network` the best weights of the run `earlier`, head and all; returns their digest."""
    chosen, before = config.network, earlier.read_config()
    task = before["provenance"].get("task", Task.MULTI_LABEL)  # not recorded before 0.4.0
    for key, ours, theirs in (("--net", chosen.net, before["network"]["net"]),
                              ("--head", chosen.head, before["network"]["head"]),
                              ("the task", train.task.value, str(task)),
                              ("classes", train.classes, earlier.read_labels())):
        if ours != theirs:
            raise WeightsError(f"--weights {earlier.path}: that run has {key} {_said(theirs)}, this one {_said(ours)}; "
                               "start from a run of the same kind, or from a checkpoint")
    if chosen.exclude:
        raise UsageError(f"--exclude {' '.join(chosen.exclude)}: an earlier run's weights are taken whole; leave it "
                         "away")
    load_weights(network, earlier, "best")
    console.print(f"weights: the best of {earlier.path}, with its head", highlight=False, markup=False, soft_wrap=True)
    return network_digest(network)


def _said(value: object) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
