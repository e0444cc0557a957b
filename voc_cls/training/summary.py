"""What is printed when a run starts: the layers, the settings, and a warning for what cannot be meant."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.dataset import Task
from voc_cls.training.config import TrainConfig, TrainingConfig
from voc_cls.training.devices import device
from voc_cls.training.distribution import Distribution
from voc_cls.training.freezing import Trained
from voc_cls.training.splits import Splits
from voc_cls.weights.diff import below


def show_start(config: TrainConfig, splits: Splits, trained: Trained, interval: int, distribution: Distribution,
               console: Console) -> None:
    """Prints what is about to happen: the layers, the run, and a warning for what cannot be meant."""
    console.print(trained.table(config.training.lr or 0.0))
    if config.network.weights == "none" and trained.frozen_parameters:
        console.print("[yellow]warning:[/yellow] the frozen layers have random weights (--weights none)")
    for scope in config.network.exclude:
        net = config.network.net
        if any(below(f"{net}/{row.path}", scope, net) and not row.trained for row in trained.rows):
            console.print(f"[yellow]warning:[/yellow] {scope} was not restored (--exclude) and is frozen: it stays "
                          f"random; --trainable {scope}+ trains it")
    if distribution.description:
        console.print(distribution.description, highlight=False)
    console.print(summary(config, splits, trained, interval))


def summary(config: TrainConfig, splits: Splits, trained: Trained, interval: int) -> Table:
    """What is about to happen, a line for each matter."""
    training, steps = config.training, config.training.steps or 0
    per_epoch = -(-len(splits.train) // training.batch_size)
    table = Table(show_header=False, box=None)
    table.add_row("device", device())
    table.add_row("train", f"{escape(splits.train.name)}: {len(splits.train):,} pictures, "
                           f"{len(splits.train.classes)} classes")
    if config.dataset.data == "voc":
        table.add_row("difficult objects", splits.train.difficult.participle)
    for name, split in (("validation", splits.val), ("evaluation", splits.eval)):
        table.add_row(name, escape(f"{split.name}: {len(split):,} pictures") if split else "none")
    table.add_row("weights", f"{trained.parameters:,} parameters trained, {trained.frozen_parameters:,} frozen")
    table.add_row("steps", f"{steps:,} of {training.batch_size} pictures = {steps / per_epoch:.1f} epochs of "
                           f"{per_epoch:,} steps; a checkpoint every {interval:,}")
    table.add_row("optimiser", optimiser(training))
    table.add_row("loss", loss(config, splits.train.task))
    table.add_row("augmentation", augmentation(config.augmentation.resolved()))
    table.add_row("run folder", escape(str(config.run.out)))
    return table


def optimiser(training: TrainingConfig) -> str:
    """Adam and everything about its steps that is not the plain default."""
    said = [f"Adam, learning rate {training.lr:g} {training.schedule}"]
    said += [f"after {training.warmup_steps:,} steps of warm-up"] if training.warmup_steps else []
    said += [f"early stopping after {training.early_stopping} validations"] if training.early_stopping else []
    said += [f"L2 {training.l2:g}"] if training.l2 else []
    said += [f"gradients of {training.accumulate} steps averaged"] if training.accumulate > 1 else []
    said += [f"clipped to norm {training.clip_norm:g}"] if training.clip_norm is not None else []
    said += [f"weights averaged with {training.ema:g}, {training.eval_weights} evaluated"] if training.ema else []
    return ", ".join([*said, f"seed {training.seed}"])


def loss(config: TrainConfig, task: Task) -> str:
    """The loss and the number format it is reached in."""
    chosen = config.loss.for_task(task)
    said = [{"sigmoid": "sigmoid cross-entropy", "softmax": "softmax cross-entropy",
             "focal": f"focal, gamma {chosen.focal_gamma:g}", "asymmetric": "asymmetric"}[chosen.loss]]
    said += [f"labels smoothed by {chosen.label_smoothing:g}"] if chosen.label_smoothing else []
    said += ["classes balanced"] if chosen.class_weights == "balanced" else []
    return ", ".join([*said, config.compute.precision])


def augmentation(chosen: Augmentation) -> str:
    """How training pictures are varied."""
    said = [name for name, given in (("mirrored", chosen.horizontal), ("upside down", chosen.vertical)) if given]
    said += [f"zoomed by up to {100 * chosen.zoom:g} %"] if chosen.zoom else []
    said += [f"shifted by up to {100 * chosen.shift:g} %"] if chosen.shift else []
    said += [f"rotated by up to {chosen.rotation:g}°"] if chosen.rotation else []
    said += ["RandAugment"] if chosen.randaugment else []
    said += [f"mixup, alpha {chosen.mixup:g}"] if chosen.mixup else []
    said += [f"CutMix, alpha {chosen.cutmix:g}"] if chosen.cutmix else []
    return ", ".join(said) or "none"
