"""What a weight file has against what a network or another format wants, shown like a diff; gaps must be meant."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voc_cls.errors import UsageError, WeightsError
from voc_cls.weights.tensors import Shape

if TYPE_CHECKING:
    from voc_cls.nets.network import Network

MOST_SCOPES = 12
"""Restored scopes up to which each has its line in the table."""
TRAINING_STATE = ("global_step", "beta1_power", "beta2_power", "mean_rgb", "num_batches_tracked")
"""Last words of tensors that TF-Slim and PyTorch keep beside weights; the official vgg_16.ckpt has global_step and
mean_rgb."""


class Status(Enum):
    """What becomes of a variable: (mark, style, explanation)."""

    RESTORED = ("=", "", "restored")
    MISSING = ("+", "bold red", "new: not in the file")
    SHAPE_DIFFERS = ("≠", "bold red", "shape differs")
    EXCLUDED = ("+", "yellow", "new: excluded on purpose")
    NEW_HEAD = ("+", "green", "new: the head")
    OLD_HEAD = ("−", "dim", "unused: another head")
    UNUSED = ("−", "dim", "unused: not in the network")
    NOT_WEIGHTS = ("−", "dim", "unused: no weights")
    ABSENT = ("+", "yellow", "not in the file")
    NO_NAME = ("−", "bold red", "no name for it in the other format")

    @property
    def is_gap(self) -> bool:
        """Whether it stops a restore."""
        return self in (Status.MISSING, Status.SHAPE_DIFFERS)


@dataclass(frozen=True)
class Entry:
    """One variable: its TF-Slim name, and its shape on either side (None where it is absent)."""

    name: str
    status: Status
    wanted: Shape | None
    in_file: Shape | None

    @property
    def parameters(self) -> int:
        """Number of values, of the network's shape where it has one."""
        return prod(self.wanted if self.wanted is not None else self.in_file or ())


@dataclass(frozen=True)
class Diff:
    """The comparison of `file` with `network` (both as a person would name them)."""

    file: str
    network: str
    scope: str
    """TF-Slim's outermost scope, such as vgg_16; left out of the table."""
    entries: tuple[Entry, ...]
    done: str = "restored"
    """What has been done with what fits."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: shapes are None where a variable is absent."""
        return {"file": self.file, "network": self.network, "variables": [
            {"name": entry.name, "status": entry.status.name.lower(), "wanted": entry.wanted, "in_file": entry.in_file}
            for entry in self.entries]}

    def of(self, *statuses: Status) -> tuple[Entry, ...]:
        """The entries with one of these statuses."""
        return tuple(entry for entry in self.entries if entry.status in statuses)

    @property
    def restored(self) -> tuple[str, ...]:
        """Names of the variables that the file gives."""
        return tuple(entry.name for entry in self.of(Status.RESTORED))

    def check(self) -> None:
        """Raises WeightsError unless every gap is a head or was excluded."""
        gaps = [entry for entry in self.entries if entry.status.is_gap]
        if not gaps:
            return
        if not any(entry.wanted is not None and entry.in_file is not None for entry in self.entries):
            others = [entry.name for entry in self.entries if entry.wanted is None] or ["nothing"]
            raise WeightsError(f"{self.file} has none of the variables of {self.network}, such as {gaps[0].name}; it "
                               f"has {shortened(others)}: are these the weights of this network?")
        scopes = " ".join(dict.fromkeys(self._scope(entry.name) for entry in gaps))
        misfit = next((entry for entry in gaps if entry.status is Status.SHAPE_DIFFERS), None)
        if misfit is None:
            names = shortened([entry.name for entry in gaps])
            raise WeightsError(f"{self.file} does not have {names}, which {self.network} wants: choose a file or a "
                               f"`head` that fits, or start them at random with `exclude` {scopes}")
        raise WeightsError(f"{self.file} has {misfit.name} as {_shape(misfit.in_file)} and {self.network} wants "
                           f"{_shape(misfit.wanted)}{_dense_hint(misfit)}; save it in that shape, or start it at "
                           f"random with `exclude` {scopes}")

    def __rich__(self) -> Group:
        """A table between a title and a summary: one row per scope, but each gap and each new variable on its own."""
        table = Table(box=None, pad_edge=False)
        table.add_column("")
        table.add_column("variables")
        table.add_column("parameters", justify="right")
        table.add_column("")
        for what, entries in self._rows():
            status = entries[0].status
            mark, style, explanation = status.value
            if status is Status.RESTORED:
                explanation = self.done
            if status is Status.SHAPE_DIFFERS:
                explanation += f": {_shape(entries[0].in_file)} in the file, {_shape(entries[0].wanted)} wanted"
            table.add_row(mark, escape(what), f"{sum(entry.parameters for entry in entries):,}", escape(explanation),
                          style=style)
        wanted, restored = [entry for entry in self.entries if entry.wanted is not None], self.of(Status.RESTORED)
        summary = (f"{len(restored)} of {len(wanted)} variables {self.done}, "
                   f"{sum(e.parameters for e in restored):,} of {sum(e.parameters for e in wanted):,} parameters")
        return Group(Text(f"{self.file} → {self.network}", style="bold"), table, Text(summary))

    def _rows(self) -> list[tuple[str, list[Entry]]]:
        """(what is shown, its entries), by status."""
        groups: dict[tuple[Status, str], list[Entry]] = {}
        scopes = list(dict.fromkeys(self._scope(entry.name) for entry in self.of(Status.RESTORED)))
        for status in Status:
            alone = status.is_gap or status in (Status.NEW_HEAD, Status.EXCLUDED, Status.NO_NAME)
            for entry in self.of(status):
                key = entry.name.removeprefix(f"{self.scope}/") if alone else self._scope(entry.name)
                if status is Status.RESTORED and len(scopes) > MOST_SCOPES:
                    key = f"{scopes[0]} … {scopes[-1]}"
                groups.setdefault((status, "" if status is Status.NOT_WEIGHTS else key), []).append(entry)
        return [(shortened([entry.name for entry in entries]) if status is Status.NOT_WEIGHTS
                 else key if len(entries) == 1 else f"{key} ({len(entries)})", entries)
                for (status, key), entries in groups.items()]

    def _scope(self, name: str) -> str:
        return name.removeprefix(f"{self.scope}/").split("/")[0]


def compare(shapes: Mapping[str, Shape], network: Network, exclude: Sequence[str] = (),
            file: str = "the file") -> Diff:
    """Compares the shapes a file has with those a network wants.

    The head (ours, and the one it replaces) and the state of a training (global_step, mean_rgb, optimizer slots) are
    set aside by themselves. `exclude` has scopes or other beginnings of names, with or without the network's own scope:
    `fc6`, `vgg_16/fc6` or `conv5/conv5_3` each mean every variable below, `fc` those of fc6, fc7 and fc8. UsageError
    when a scope matches nothing.
    """
    wanted = {name: tuple(variable.shape) for name, variable in network.variables().items()}
    outer = network.spec.scope
    for scope in exclude:
        if not any(below(name, scope, outer) for name in (*wanted, *shapes)):
            known = dict.fromkeys(name.removeprefix(f"{outer}/").split("/")[0] for name in (*wanted, *shapes))
            raise UsageError(f"`exclude` {scope}: neither the network nor the file has such a scope; "
                             f"there are {', '.join(known)}")

    def status(name: str) -> Status:
        if name not in wanted:
            if is_training_state(name, shapes):
                return Status.NOT_WEIGHTS
            return Status.OLD_HEAD if network.is_head(name) else Status.UNUSED
        if network.is_head(name):
            return Status.NEW_HEAD
        if any(below(name, scope, outer) for scope in exclude):
            return Status.EXCLUDED
        if name not in shapes:
            return Status.MISSING
        return Status.RESTORED if tuple(shapes[name]) == wanted[name] else Status.SHAPE_DIFFERS

    names = [*wanted, *(name for name in sorted(shapes) if name not in wanted)]
    entries = tuple(Entry(name, status(name), wanted.get(name), shapes.get(name)) for name in names)
    return Diff(file, f"{network.spec.title} ({network.head} head, {network.classes} classes)", outer, entries)


def below(name: str, scope: str, outer: str) -> bool:
    """Whether a variable's name begins with `scope`; the network's outer scope may be left out.

    So do the prefixes that TF-Slim excludes from a restore; but a number is whole, cell_1 does not stand for cell_10.
    """
    beginnings = (re.escape(full) for full in (scope.strip("/"), f"{outer}/{scope.strip('/')}"))
    return any(re.match(rf"{beginning}(?!(?<=\d)\d)", name) for beginning in beginnings)


def is_training_state(name: str, names: Container[str]) -> bool:
    """Whether a tensor is not a weight but a known counter, or a slot kept below a variable (`…/weights/Adam_1`)."""
    return re.split("[/.]", name)[-1] in TRAINING_STATE or name.rpartition("/")[0] in names


def _dense_hint(entry: Entry) -> str:
    if len(entry.in_file or ()) != 2 or prod(entry.in_file or ()) != prod(entry.wanted or ()):
        return ""
    return " (there a dense layer, here a convolution; the rows must be in the order height, width, channel)"


def _shape(shape: Shape | None) -> str:
    return str(list(shape or ()))


def shortened(names: Sequence[str], limit: int = 4) -> str:
    """The first few names, and how many there are."""
    return ", ".join(names) if len(names) <= limit else f"{', '.join(names[:limit])} … ({len(names)} in all)"
