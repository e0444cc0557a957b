"""A training run, from its settings to evaluated weights: `train` from a config, `train_network` from objects."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from voc_cls.console import say
from voc_cls.data.pipeline import cached_images, naming_broken_images, shuffled_order
from voc_cls.errors import UsageError
from voc_cls.evaluation.report.page import Report
from voc_cls.evaluation.tasks import fit, write_fitted
from voc_cls.files import write_aside
from voc_cls.nets.network import Network, build_network
from voc_cls.training.checkpoint import Preemption, checkpoints
from voc_cls.training.config import ResolvedConfig, RunConfig, TrainConfig, option_groups
from voc_cls.training.convex import solve_head, start_head
from voc_cls.training.devices import FeatureEngine, policy
from voc_cls.training.distribution import SINGLE, Distribution, joined
from voc_cls.training.fit import Fit
from voc_cls.training.freezing import Trained, freeze
from voc_cls.training.initial_weights import WeightsSource, describe_network, seeded
from voc_cls.training.losses import build_loss
from voc_cls.training.run_folder import RunFolder, check_folder, describe_start, images_digest, start_folder
from voc_cls.training.splits import Splits, check_splits, dataset_config, read_splits
from voc_cls.training.summary import show_start
from voc_cls.training.tracking import Tracker
from voc_cls.training.trainable_part import TrainablePart, on_backbone_features, whole_network, why_not_cached
from voc_cls.training.trained_run import TrainedRun, evaluate_run


@dataclass(frozen=True)
class Session:
    """One run: what is trained on what, how, on which devices, and where it is written and shown."""

    config: ResolvedConfig
    folder: RunFolder
    splits: Splits
    network: Network
    trained: Trained
    console: Console
    """Text about the start, and a line where something is noteworthy."""
    progress: Console
    """The progress bar; where it is not a terminal, some twenty lines instead."""
    distribution: Distribution = SINGLE
    preemption: Preemption = field(default_factory=Preemption)

    def run(self, command: Sequence[str], weights_digest: str | None, not_repeatable: Mapping[str, str]) -> TrainedRun:
        """Starts the folder or continues in it, trains, and evaluates the best weights."""
        config, train, folder = self.config, self.splits.train, self.folder
        reason = why_not_cached(self.network, self.trained.first, self.splits, config)
        if reason and config.training.solver == "lbfgs":  # before there is a folder
            raise UsageError(f"`solver` lbfgs: {reason}, but it needs cached features; choose descent")
        provenance = describe_start(command, weights_digest, train, self.network.spec.preprocessing, not_repeatable)
        self.distribution.broadcast(lambda: start_folder(folder, config.settings, train.classes, provenance))
        tracker = Tracker(folder, config.settings.run.mlflow)
        tracked = tracker.following() if self.distribution.is_chief else nullcontext()
        with tracked, naming_broken_images(self.splits.pictures):
            show_start(config, self.splits, self.trained, self.distribution, self.console)
            part, training = self._part(reason), config.training
            if training.solver == "lbfgs" and part.rows is not None:
                solve_head(part, part.rows, self.network, config, self.splits, folder, self.console, self.progress)
                return self._finish(part)
            if training.head_init == "lbfgs" and not checkpoints(folder):
                start_head(part, self.network, self.trained.first, config, self.splits, folder, self.console,
                           self.progress)
            order = shuffled_order(len(train), training.steps, training.batch_size, training.seed)
            factors = self.trained.factors(part.model.trainable_variables, self.network.spec.scope)
            Fit(part, training, self.splits, order, build_loss(config.loss, train), factors, folder, self.preemption,
                self.progress, tracker).run()
            return self._finish(part)

    def _part(self, reason: str) -> TrainablePart:
        """What `fit` runs on: what is trained alone, on the features of the frozen backbone, if there is no `reason`
        why they cannot be kept."""
        config, first, compute = self.config, self.trained.first, self.config.settings.compute

        show = partial(say, self.console)
        if reason:
            images = cached_images(self.splits.train.paths, self.network.spec.preprocessing, compute.cache,
                                   config.cache / "arrays", compute.cache_gb * 1e9, show)
            part = whole_network(self.distribution, self.network, self.splits.train, config.augmentation, images)
        else:
            part = on_backbone_features(self.distribution, self.network, first, self.splits, config, show,
                                        self._feature_engine)
        show(f"training {part.description}" + (f": {reason}" if reason else ""))
        return part

    def _feature_engine(self, faster: Callable[[], FeatureEngine]) -> FeatureEngine:
        """What computes the features: what the run was begun with, else what was asked for, else `faster`; recorded."""
        settings, folder = self.config.settings, self.folder

        def choose() -> FeatureEngine:
            begun: FeatureEngine | None = folder.read_config()["provenance"].get("features", {}).get("engine")
            plain = settings.run.resume or self.distribution.hosts > 1  # begun without a choice, or not for all alike
            engine = begun or settings.compute.feature_engine or ("keras" if plain else faster())
            folder.record("features", {"engine": engine, "precision": self.config.inference_precision})
            return engine

        return self.distribution.broadcast(choose)

    def _finish(self, part: TrainablePart) -> TrainedRun:
        """Of the best weights: thresholds and calibration on the validation split, results on the evaluation split."""
        distribution, folder = self.distribution, self.folder
        if self.splits.val is None and distribution.is_chief:
            write_aside(folder.best, lambda aside: shutil.copyfile(folder.last, aside))
        distribution.load_weights(self.network.model, folder.best)
        recorded = distribution.broadcast(folder.read_config)
        trained = TrainedRun(folder, recorded, self.splits.train.classes, self.network)
        if (val := self.splits.val) is not None:
            logits = part.logits(part.shared_inputs(val), len(val), "validate")
            distribution.broadcast(lambda: write_fitted(folder.path, fit(val, logits), trained.labels))
        if (evaluated := self.splits.eval) is None:
            return trained
        logits = part.logits(part.shared_inputs(evaluated), len(evaluated), "evaluate")

        def write() -> Report:
            with distribution.alone(self.network.model):  # Grad-CAM computes too
                return evaluate_run(trained, evaluated, files=[folder.results], logits=logits)

        return replace(trained, report=distribution.broadcast(write))


def train(config: TrainConfig, console: Console, command: Sequence[str] = (), handle_signals: bool = False,
          splits: Splits | None = None) -> TrainedRun:
    """Trains as `config` says; from the moment that the run folder exists it is whole at every moment.

    `console` is made quiet on all processes but the first. handle_signals: whether SIGTERM and Ctrl-C save a checkpoint
    and raise Interrupted. splits: those of `config`, where they have been read already.
    """
    folder = RunFolder(config.run.out)
    if config.run.resume and folder.config.is_file():
        folder.check_repeatable()
    config = config.checked()
    chosen = config.network
    weights = WeightsSource.open(chosen.weights, chosen.net, chosen.weights_entry)
    if chosen.normalisation == "auto":
        chosen = replace(chosen, normalisation=weights.normalisation(chosen.net))
        config = replace(config, network=chosen)
    with joined(config.run.hosts, config.run.rank, config.run.coordinator) as distribution:
        if not distribution.is_chief:
            console.quiet = True
        distribution.check(config.training.batch_size, config.training.accumulate)
        distribution.check_same(flags=[config.network, config.augmentation, config.training, config.loss,
                                       config.compute])
        distribution.broadcast(lambda: check_folder(folder, config))
        preemption = Preemption(distribution)
        with preemption.watching(handle_signals):
            splits = splits or read_splits(config.dataset, config.training.seed)
            resolved = config.resolved(splits.train)  # a loss that does not fit is refused here
            distribution.check_same(pictures=[images_digest(split) for split in splits.all])
            with seeded(config.training.seed), distribution.scope():
                network = build_network(chosen.net, chosen.head, len(splits.train.classes),
                                        policy(config.compute.precision), chosen.image_size, chosen.normalisation,
                                        chosen.cut, chosen.resize)
            trained = freeze(network, chosen.trainable, resolved.training, chosen.exclude)
            digest = weights.restore(network, chosen.exclude, splits.train.classes, splits.task, console)
            distribution.check_same(weights=digest)
            session = Session(resolved, folder, splits, network, trained, console, console, distribution, preemption)
            return session.run(command, digest, not_repeatable={})


def train_network(network: Network, splits: Splits, out: Path | str, *, trainable: str = "all", resume: bool = False,
                  cache_dir: Path | None = None, console: Console | None = None, progress: bool = True, **options: Any
                  ) -> TrainedRun:
    """`voc_cls.train`: in this process and on one device. Leaves signals and global seeds alone."""
    check_splits(splits)
    if network.classes != len(splits.train.classes):
        raise UsageError(f"`train`: has {len(splits.train.classes)} classes, the network {network.classes} outputs; "
                         "create it with classes=train.classes")
    groups = option_groups(options)
    seed = groups["training"].seed
    chosen, precision, digest, changed = describe_network(network, trainable, seed)
    dataset, unreadable = dataset_config(splits, seed)
    groups["compute"] = replace(groups["compute"], precision=precision)
    settings = TrainConfig(dataset, chosen, **groups, run=RunConfig(Path(out), resume, cache_dir=cache_dir)).checked()
    folder = RunFolder(settings.run.out)
    check_folder(folder, settings)
    config = settings.resolved(splits.train)
    trained = freeze(network, trainable, config.training, settings.network.exclude)
    bars = Console(stderr=True)
    bars.quiet = not (progress and (bars.is_terminal or bars.is_jupyter))
    session = Session(config, folder, splits, network, trained, console or Console(quiet=True), bars)
    reasons = {"dataset": unreadable, "network": changed}
    with seeded(seed):
        return session.run((), digest, {group: reason for group, reason in reasons.items() if reason})
