"""A training run, from its config to evaluated weights."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import keras
import yaml
from rich.console import Console
from rich.table import Table

from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import naming_broken_pictures, shuffled_order
from voc_cls.data.readers import read_dataset
from voc_cls.errors import RunError, UsageError
from voc_cls.evaluation.average_precision import Evaluation
from voc_cls.files import write_aside, write_text
from voc_cls.nets.network import Network, build_network
from voc_cls.training.config import TrainConfig, to_dict
from voc_cls.training.fit import evaluate_part, fit
from voc_cls.training.freezing import Trained, freeze
from voc_cls.training.part import Part, on_trunk_outputs, trunk_fits, whole_network
from voc_cls.training.precision import inference_precision, policy
from voc_cls.training.provenance import device, on_accelerator, provenance
from voc_cls.training.run_folder import RunFolder
from voc_cls.weights.restore import restore
from voc_cls.weights.slim import digest

LEAST_INTERVAL = 50
"""Steps between two checkpoints at least: a pass over a few pictures takes milliseconds when the trunk is frozen."""
REPEATABLE = ("dataset", "network", "training")
"""The groups of the config that decide what a run computes."""


@dataclass(frozen=True)
class Splits:
    """The pictures of a run; `val` and `eval` are None where none was asked for."""

    train: Dataset
    val: Dataset | None
    eval: Dataset | None

    @property
    def pictures(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(path for split in (self.train, self.val, self.eval) if split for path in split.paths)


def train(config: TrainConfig, console: Console) -> Evaluation | None:
    """Trains as `config` says; returns the evaluation of the best weights (None with --eval-split none).

    Raises UsageError, DataError, WeightsError or RunError before anything is written; from then on the run folder is
    whole at every moment, and --resume goes on from the last checkpoint.
    """
    config = config.resolved()
    folder = RunFolder(config.run.out)
    check_folder(folder, config)
    splits = read_splits(config)
    keras.utils.set_random_seed(config.training.seed)
    network = build_network(config.network.net, config.network.head, len(splits.train.classes),
                            policy(config.training.precision))
    weights_digest = restore_weights(network, config, console)
    start_folder(folder, config, splits, weights_digest)
    with naming_broken_pictures(splits.pictures, network.spec.preprocessing):
        return run(config, folder, splits, network, console)


def run(config: TrainConfig, folder: RunFolder, splits: Splits, network: Network, console: Console
        ) -> Evaluation | None:
    """The run itself, in a folder that has been started."""
    training = config.training
    trained = freeze(network, config.network.trainable, training.l2 or 0.0)
    console.print(trained.table())
    precision = inference_precision(training.inference_precision, on_accelerator())
    cached = trunk_fits(network, trained.first, splits.train, training.flip, training.trunk_memory_gb)
    steps_per_epoch = -(-len(splits.train) // training.batch_size)
    console.print(summary(config, splits, trained, steps_per_epoch))
    part = (on_trunk_outputs(network, trained.first, splits.train, training.flip, precision) if cached
            else whole_network(network, splits.train))
    console.print(f"training {part.description}", highlight=False)
    interval = steps_per_epoch * -(-LEAST_INTERVAL // steps_per_epoch)
    order = shuffled_order(len(splits.train), training.steps or 0, training.batch_size, training.seed, training.flip)
    fit(part, order, training.lr or 0.0, interval, splits.val, folder,
        save_best=lambda: save(network, folder.best), jit=on_accelerator(), console=console)
    save(network, folder.last)
    if splits.val is None:
        save(network, folder.best)
    if splits.eval is None:
        return None
    return report(part, network, splits.eval, folder)


def report(part: Part, network: Network, dataset: Dataset, folder: RunFolder) -> Evaluation:
    """Evaluates the best weights and writes evaluation.json."""
    network.model.load_weights(folder.best)
    evaluation = evaluate_part(part, part.inputs(dataset), dataset)
    folder.write_evaluation(evaluation.to_dict())
    return evaluation


def save(network: Network, path: Path) -> None:
    """Writes the weights of the whole network, all or nothing."""
    write_aside(path, lambda aside: network.model.save_weights(aside))


def check_folder(folder: RunFolder, config: TrainConfig) -> None:
    """UsageError where --out holds something else, or, with --resume, a run that computes something else."""
    out = folder.path
    if not config.run.resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"--out {out}: exists already; choose another folder, delete it, or go on with --resume")
        return
    if not folder.config.exists():
        raise UsageError(f"--resume: {out} holds no run; leave --resume away to start one")
    old, new = folder.read_config(), to_dict(config)
    changed = [f"{key} was {old.get(group, {}).get(key)!r}, is {value!r}" for group in REPEATABLE
               for key, value in new[group].items() if old.get(group, {}).get(key) != value]
    if changed:
        raise UsageError(f"--resume: {folder.config} differs from the flags: {'; '.join(changed)}")


def read_splits(config: TrainConfig) -> Splits:
    """Reads the training, validation and evaluation pictures."""
    def read(split: str) -> Dataset | None:
        chosen = config.dataset
        return None if split == "none" else read_dataset(chosen.data, chosen.root, split, chosen.difficult)

    training = read(config.dataset.train_split)
    if training is None:
        raise UsageError("--train-split none: there is nothing to train on; name a split")
    return Splits(training, read(config.dataset.val_split), read(config.dataset.eval_split))


def restore_weights(network: Network, config: TrainConfig, console: Console) -> str | None:
    """Restores the checkpoint into `network` and prints what was; returns its digest, None for --weights none."""
    if config.network.weights == "none":
        console.print("weights: random (--weights none)")
        return None
    path = Path(config.network.weights)
    restore(network, path, config.network.exclude, show=console.print)
    return digest(path)


def start_folder(folder: RunFolder, config: TrainConfig, splits: Splits, weights_digest: str | None) -> None:
    """Makes the run folder with its config and labels."""
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.labels, "".join(f"{name}\n" for name in splits.train.classes))
        values = {key: value for key, value in to_dict(config).items() if key in REPEATABLE}
        values["provenance"] = provenance(sys.argv, weights_digest, len(splits.train))
        write_text(folder.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise RunError(f"--out {folder.path}: cannot be written ({error.strerror}); choose another folder") from error


def summary(config: TrainConfig, splits: Splits, trained: Trained, steps_per_epoch: int) -> Table:
    """What is about to happen, for the start of the run."""
    training, steps = config.training, config.training.steps or 0
    table = Table(show_header=False, box=None)
    table.add_row("device", device())
    table.add_row("train", f"{splits.train.name}, {len(splits.train):,} pictures, {len(splits.train.classes)} classes, "
                           f"difficult objects {splits.train.difficult.participle}")
    for name, split in (("validation", splits.val), ("evaluation", splits.eval)):
        table.add_row(name, f"{split.name}, {len(split):,} pictures" if split else "none")
    table.add_row("weights", f"{trained.parameters:,} parameters trained, {trained.frozen_parameters:,} frozen")
    table.add_row("steps", f"{steps:,} of {training.batch_size} pictures = {steps / steps_per_epoch:.1f} epochs of "
                           f"{steps_per_epoch:,} steps")
    table.add_row("optimiser", f"Adam, learning rate {training.lr:g}, L2 {training.l2:g}, seed {training.seed}, "
                               f"{training.precision}")
    table.add_row("run folder", str(config.run.out))
    return table
