"""What is printed when a run starts: the layers, the settings, and a warning for what cannot be meant."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from voc_cls.console import with_flags
from voc_cls.data.augmentation import Augmentation
from voc_cls.data.check import class_warnings, never_shown
from voc_cls.data.readers.split_scan import shown_classes
from voc_cls.data.readers.voc import CLASSES
from voc_cls.training.config import LossConfig, ResolvedConfig, ResolvedTraining
from voc_cls.training.devices import device
from voc_cls.training.distribution import Distribution
from voc_cls.training.freezing import Trained
from voc_cls.training.splits import Splits
from voc_cls.weights.diff import below

OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "gradient descent", "momentum": "momentum", "adagrad": "Adagrad",
              "rmsprop": "RMSprop"}


def show_start(config: ResolvedConfig, splits: Splits, trained: Trained, distribution: Distribution, console: Console
               ) -> None:
    """Prints what is about to happen: the layers, the run, and a warning for what cannot be meant."""
    training, settings, network = config.training, config.settings, config.settings.network
    odd_classes = [f"{splits.train.name}: {warning}" for warning in (*class_warnings([splits.train]),
                                                                     *never_shown(splits.train))]
    for warning in dict.fromkeys([*(warning for split in splits.all for warning in split.warnings), *odd_classes]):
        console.print(f"[yellow]warning:[/yellow] {escape(warning)}", highlight=False, soft_wrap=True)
    console.print(trained.table(None if training.solver == "lbfgs" else training.lr))
    if network.weights == "none" and trained.frozen_parameters:
        console.print("[yellow]warning:[/yellow] the frozen layers have random weights")
    for scope in network.exclude:
        if any(below(f"{network.net}/{row.path}", scope, network.net) and not row.trained for row in trained.rows):
            console.print(f"[yellow]warning:[/yellow] {scope} was excluded from the restored weights and is frozen: it "
                          f"stays random; trainable {scope}+ trains it")
    if distribution.description:
        console.print(distribution.description, highlight=False)
    table = Table(show_header=False, box=None)
    table.add_row("device", device())
    table.add_row("train", f"{escape(splits.train.name)}: {len(splits.train):,} pictures, "
                           f"{len(splits.train.classes)} classes")
    if splits.train.classes != CLASSES:
        table.add_row("classes", escape(shown_classes(splits.train.classes)))
    if settings.dataset.data == "voc":
        table.add_row("difficult objects", splits.train.difficult.participle)
    for name, split in (("validation", splits.val), ("evaluation", splits.eval)):
        table.add_row(name, escape(f"{split.name}: {len(split):,} pictures") if split else "none")
    if splits.groups:
        table.add_row("kept together", escape(with_flags(splits.groups)))
    table.add_row("weights", f"{trained.parameters:,} parameters trained, {trained.frozen_parameters:,} frozen")
    if training.solver == "lbfgs":
        penalty = "chosen by cross-validation" if settings.training.l2 is None else f"{settings.training.l2:g}"
        table.add_row("solver", f"L-BFGS, L2 {penalty}, seed {training.seed}")
    else:
        epoch = -(-len(splits.train) // training.batch_size)
        table.add_row("steps", f"{training.steps:,} of {training.batch_size} pictures = {training.steps / epoch:.1f} "
                               f"epochs of {epoch:,} steps; a checkpoint every {training.interval:,}")
        table.add_row("optimiser", optimiser(training))
    table.add_row("loss", loss(config.loss, settings.compute.precision))
    table.add_row("augmentation", augmentation(config.augmentation))
    table.add_row("run folder", escape(str(settings.run.out)))
    console.print(table)


def optimiser(training: ResolvedTraining) -> str:
    """Its name and everything about its steps that is not the plain default."""
    parts = [f"{OPTIMIZERS[training.optimizer]}, learning rate {training.lr:g} {training.schedule}"]
    parts += [f"momentum {training.momentum:g}"] if training.momentum is not None else []
    parts += [f"weight decay {training.weight_decay:g}"] if training.weight_decay is not None else []
    parts += [f"the lowest {training.monitor} is best"] if training.monitor == "loss" else []
    parts += [f"batch normalisation's decay {training.bn_decay:g}"] if training.bn_decay is not None else []
    parts += ["updated in frozen layers too"] if training.frozen_bn == "update" else []
    parts += [f"after {training.warmup_steps:,} steps of warm-up"] if training.warmup_steps else []
    parts += [f"early stopping after {training.early_stopping} validations"] if training.early_stopping else []
    parts += [f"L2 {training.l2:g}"] if training.l2 else []
    parts += [f"gradients of {training.accumulate} steps averaged"] if training.accumulate > 1 else []
    parts += [f"clipped to norm {training.clip_norm:g}"] if training.clip_norm is not None else []
    parts += [f"weights averaged with {training.ema:g}, {training.eval_weights} evaluated"] if training.ema else []
    parts += [f"weights averaged over the last {100 * training.swa:g} % of the steps, {training.eval_weights} "
              "evaluated"] if training.swa else []
    return ", ".join([*parts, f"seed {training.seed}"])


def loss(chosen: LossConfig, precision: str) -> str:
    parts = [{"sigmoid": "sigmoid cross-entropy", "softmax": "softmax cross-entropy",
              "focal": f"focal, gamma {chosen.focal_gamma:g}", "asymmetric": "asymmetric",
              "hinge": "squared hinge"}[chosen.loss]]
    parts += [f"labels smoothed by {chosen.label_smoothing:g}"] if chosen.label_smoothing else []
    parts += ["classes balanced"] if chosen.class_weights == "balanced" else []
    return ", ".join([*parts, precision])


def augmentation(chosen: Augmentation) -> str:
    parts = [name for name, given in (("mirrored", chosen.horizontal), ("upside down", chosen.vertical)) if given]
    parts += [f"cropped to {100 * chosen.crop_area:g} % or more of the area"] if chosen.crop == "random" else []
    parts += ["cropped at several scales"] if chosen.crop == "multi-scale" else []
    parts += [f"zoomed by up to {100 * chosen.zoom:g} %"] if chosen.zoom else []
    parts += [f"shifted by up to {100 * chosen.shift:g} %"] if chosen.shift else []
    parts += [f"rotated by up to {chosen.rotation:g}°"] if chosen.rotation else []
    parts += ["wrapping beyond the edges"] if chosen.edges == "wrap" and chosen.resamples else []
    parts += ["RandAugment"] if chosen.randaugment else []
    parts += [f"mixup, alpha {chosen.mixup:g}"] if chosen.mixup else []
    parts += [f"CutMix, alpha {chosen.cutmix:g}"] if chosen.cutmix else []
    return ", ".join(parts) or "none"
