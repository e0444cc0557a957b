"""A training run, from its config to evaluated weights."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import naming_broken_pictures, shuffled_order
from voc_cls.errors import RunError, UsageError
from voc_cls.evaluation.average_precision import Evaluation
from voc_cls.files import write_aside, write_text
from voc_cls.nets.network import Network, build_network
from voc_cls.training.config import TrainConfig, to_dict
from voc_cls.training.fit import evaluate_part, fit
from voc_cls.training.freezing import Trained, first_trained, freeze
from voc_cls.training.part import Part, on_trunk_outputs, trunk_fits, whole_network
from voc_cls.training.precision import inference_precision, policy
from voc_cls.training.provenance import device, on_accelerator, pictures_digest, provenance
from voc_cls.training.run_folder import REPEATABLE, RunFolder
from voc_cls.training.splits import Splits, read_splits
from voc_cls.weights.restore import restore
from voc_cls.weights.slim import digest

LEAST_INTERVAL = 50
"""Steps between two checkpoints at least: a pass over a few pictures takes milliseconds when the trunk is frozen."""


def train(config: TrainConfig, console: Console) -> Evaluation | None:
    """Trains as `config` says; returns the evaluation of the best weights (None with --eval-split none).

    Raises UsageError, DataError, WeightsError or RunError before anything is written; from then on the run folder is
    whole at every moment, and --resume goes on from the last checkpoint.
    """
    config = config.resolved()
    folder = RunFolder(config.run.out)
    check_folder(folder, config)
    splits = read_splits(config.dataset)
    keras.utils.set_random_seed(config.training.seed)
    network = build_network(config.network.net, config.network.head, len(splits.train.classes),
                            policy(config.training.precision))
    first_trained(network, config.network.trainable)  # a flag that is wrong is told before anything is written
    policy(inference_precision(config.training.inference_precision, on_accelerator()))
    weights_digest = restore_weights(network, config, console)
    if config.run.resume:
        check_provenance(folder, weights_digest, splits)
    start_folder(folder, config, splits, weights_digest)
    with naming_broken_pictures(splits.pictures, network.spec.preprocessing):
        return run(config, folder, splits, network, console)


def run(config: TrainConfig, folder: RunFolder, splits: Splits, network: Network, console: Console
        ) -> Evaluation | None:
    """The run itself, in a folder that has been started."""
    training = config.training
    trained = freeze(network, config.network.trainable, training.l2 or 0.0)
    console.print(trained.table())
    if config.network.weights == "none" and trained.frozen_parameters:
        console.print("[yellow]warning:[/yellow] the frozen layers have random weights (--weights none)")
    for scope in config.network.exclude:
        if any(row.scope == scope.split("/")[-1] and not row.trained for row in trained.rows):
            console.print(f"[yellow]warning:[/yellow] {scope} was not restored (--exclude) and is frozen: it stays "
                          f"random; --trainable {scope}+ trains it")
    precision = inference_precision(training.inference_precision, on_accelerator())
    cached = trunk_fits(network, trained.first, splits.most_views(training.flip), training.trunk_memory_gb)
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


def check_provenance(folder: RunFolder, weights_digest: str | None, splits: Splits) -> None:
    """RunError where the run in `folder` began with other weights or pictures, behind the same names."""
    now = {"weights_digest": weights_digest, "pictures_digest": pictures_digest(splits.train)}
    recorded = folder.read_config()["provenance"]
    changed = [key for key, value in now.items() if recorded.get(key) != value]
    if changed:
        raise RunError(f"--resume: {folder.config} has another {' and '.join(changed)} than --weights and "
                       "--train-split have now; start anew in another folder")


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
        values["provenance"] = provenance(sys.argv, weights_digest, pictures_digest(splits.train),
                                          len(splits.train))
        write_text(folder.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise RunError(f"--out {folder.path}: cannot be written ({error.strerror}); choose another folder") from error


def summary(config: TrainConfig, splits: Splits, trained: Trained, steps_per_epoch: int) -> Table:
    """What is about to happen, for the start of the run."""
    training, steps = config.training, config.training.steps or 0
    table = Table(show_header=False, box=None)
    table.add_row("device", device())
    table.add_row("train", f"{escape(splits.train.name)}, {len(splits.train):,} pictures, "
                           f"{len(splits.train.classes)} classes")
    table.add_row("difficult objects", splits.train.difficult.participle)
    for name, split in (("validation", splits.val), ("evaluation", splits.eval)):
        table.add_row(name, escape(f"{split.name}, {len(split):,} pictures") if split else "none")
    table.add_row("weights", f"{trained.parameters:,} parameters trained, {trained.frozen_parameters:,} frozen")
    table.add_row("steps", f"{steps:,} of {training.batch_size} pictures = {steps / steps_per_epoch:.1f} epochs of "
                           f"{steps_per_epoch:,} steps")
    table.add_row("optimiser", f"Adam, learning rate {training.lr:g}, L2 {training.l2:g}, seed {training.seed}, "
                               f"{training.precision}")
    table.add_row("run folder", escape(str(config.run.out)))
    return table
