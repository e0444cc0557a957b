"""What is printed when a run starts: the layers, the settings, and a warning for what cannot be meant."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from voc_cls.config import settings_of
from voc_cls.console import with_flags
from voc_cls.data.check import class_warnings, never_shown
from voc_cls.data.readers.split_scan import shown_classes
from voc_cls.data.readers.voc import CLASSES
from voc_cls.training.config import ResolvedConfig
from voc_cls.training.devices import device
from voc_cls.training.distribution import Distribution
from voc_cls.training.freezing import Trained
from voc_cls.training.splits import Splits
from voc_cls.weights.diff import below

SHOWN = ("steps", "batch_size", "interval", "optimizer", "lr", "schedule", "seed", "loss")
"""Settings that the table has in any case."""


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
        table.add_row("optimiser", f"{training.optimizer}, learning rate {training.lr:g}, {training.schedule}, "
                                   f"{changed(training)}seed {training.seed}")
    loss = config.loss.loss + (" cross-entropy" if config.loss.loss in ("sigmoid", "softmax") else "")
    table.add_row("loss", f"{loss}, {changed(config.loss)}{settings.compute.precision}")
    table.add_row("augmentation", f"{settings.augmentation.augment}, {changed(config.augmentation)}".rstrip(", "))
    table.add_row("run folder", escape(str(settings.run.out)))
    console.print(table)


def changed(group: object) -> str:
    """The settings of a group that are not the plain default, but for those in SHOWN: "clip norm 1, ema 0.9, "."""
    text = ""
    for setting in settings_of(type(group)):
        value, name = getattr(group, setting.name), setting.name.replace("_", " ")
        if setting.name not in SHOWN and value not in (setting.default, 0, "raw"):
            shown = f" {value:g}" if isinstance(value, float) else f" {value}"
            text += f"{name}, " if value is True else f"{name}{shown}, "
    return text
