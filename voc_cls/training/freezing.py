"""What is trained and how fast: `trainable` and the rates' factors turned into a table of layers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import keras
import numpy as np
from rich.markup import escape
from rich.table import Column, Table

from voc_cls.errors import UsageError
from voc_cls.nets.layers import STATISTICS, BatchNorm, slim_name
from voc_cls.nets.network import Network
from voc_cls.training.config import TrainingConfig
from voc_cls.weights.diff import below

MOST_ROWS = 40
"""Layers in the table; a larger network is shown scope by scope."""
MOST_FROZEN = 12
"""Frozen layers in a row up to which each has its line in the table."""
MOST_NAMES = 6
"""Layers that an error names from either end of a larger network."""


@dataclass(frozen=True)
class LayerRow:
    path: str
    """Below the net's scope, such as conv5/conv5_1 or conv1/BatchNorm."""
    parameters: int
    """What training can change; the moving averages of a batch normalisation do not count."""
    trained: bool
    factor: float
    """Of the learning rate."""

    @property
    def scope(self) -> str:
        """The part of the network it belongs to, such as conv5."""
        return self.path.split("/")[0]


@dataclass(frozen=True)
class Trained:
    """Layers in order. Nothing before the scope `first` changes, so it can run once for all."""

    first: str
    rows: tuple[LayerRow, ...]

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows if row.trained)

    @property
    def frozen_parameters(self) -> int:
        return sum(row.parameters for row in self.rows if not row.trained)

    def factors(self, variables: Sequence[Any], scope: str) -> tuple[float, ...]:
        """The learning rate's factor of each trained variable of the network whose scope is `scope`."""
        by_path = {row.path: row.factor for row in self.rows}
        return tuple(by_path[layer_path(variable, scope)] for variable in variables)

    def table(self, rate: float | None) -> Table:
        """For the terminal: layer, parameters, trained or frozen, learning rate at its highest; None: it has none."""
        table = Table("layer", Column("parameters", justify="right"), "", Column("learning rate", justify="right"))
        shown: dict[tuple[str, bool], list[LayerRow]] = {}
        for row in self.rows:
            name = row.path if len(self.rows) <= MOST_ROWS else row.scope
            shown.setdefault((name, row.trained), []).append(row)
        for trained, alike in groupby(shown.items(), lambda entry: entry[0][1]):
            named = [(name, rows) for (name, _), rows in alike]
            if not trained and len(named) > MOST_FROZEN:
                named = [(f"{named[0][0]} … {named[-1][0]}", [row for _, rows in named for row in rows])]
            for name, rows in named:
                shown_rate = f"{rate * rows[0].factor:.3g}" if trained and rate is not None else ""
                state = ("trained" if trained else "[dim]frozen[/dim]", shown_rate)
                table.add_row(escape(name), f"{sum(row.parameters for row in rows):,}", *state)
        return table


def layer_path(variable: Any, scope: str) -> str:
    """`vgg_16/conv5.conv5_1/kernel` → `conv5/conv5_1`: as TF-Slim and people write it, below the network's scope."""
    return (slim_name(variable) or "").removeprefix(f"{scope}/").rpartition("/")[0]


def layers(network: Network) -> dict[str, Any]:
    """The layers that hold weights, by path, in order; random generators have none."""
    return {layer_path(variable, network.spec.scope): layer for layer in network.model.layers
            for variable in layer.weights if slim_name(variable) is not None}


def trained_layers(network: Network, trainable: str) -> frozenset[str]:
    """Paths of the layers that `trainable` names: head, all, `<scope>+`, or a regular expression."""
    paths, scopes = list(layers(network)), network.scopes
    if trainable == "all":
        return frozenset(paths)
    first = scopes[-1] if trainable == "head" else trainable.removesuffix("+")
    if first in scopes and (trainable == "head" or trainable.endswith("+")):
        below = scopes[:scopes.index(first)]
        return frozenset(path for path in paths if path.split("/")[0] not in below)
    try:
        chosen = frozenset(path for path in paths if re.search(trainable, path))
    except re.error as error:
        raise UsageError(f"`trainable` {trainable}: neither head, all, nor {scopes[0]}+ and so on, nor a regular "
                         f"expression ({error})") from error
    if not chosen:
        known = ", ".join(f"{scope}+" for scope in scopes[:-1])
        shown = paths if len(paths) <= MOST_ROWS else [*paths[:MOST_NAMES], "…", *paths[-MOST_NAMES:]]
        raise UsageError(f"`trainable` {trainable}: matches no layer; give head, all, {known}, or a regular expression "
                         f"over {', '.join(shown)}")
    if scopes[-1] not in chosen:
        raise UsageError(f"`trainable` {trainable}: leaves out {scopes[-1]}, which is new and would stay random; write "
                         f"{trainable}|{scopes[-1]}, or a scope with a + behind it for all that follow too")
    return chosen


def freeze(network: Network, trainable: str, config: TrainingConfig, exclude: Sequence[str] = ()) -> Trained:
    """Freezes what `trainable` does not name, and puts `l2` on the kernels of the rest, as TF-Slim does.

    What a frozen batch normalisation does is said by `frozen_bn`. exclude: scopes that were not restored: they are new
    layers as the head is. The L2 factor is of the sum of squares, as `keras.regularizers.L2` has it (TF-Slim's counts
    half the sum). UsageError for a `trainable` that cannot be, and for a `bn_decay` without batch normalisation.
    """
    chosen, scope = trained_layers(network, trainable), network.spec.scope

    def new(path: str) -> bool:
        return path == network.scopes[-1] or any(below(f"{scope}/{path}", name, scope) for name in exclude)

    old_scopes = [name for name in reversed(network.scopes) if not new(name)]
    factors = {name: config.layer_decay ** distance for distance, name in enumerate(old_scopes)}
    rows, updated = [], []
    for path, layer in layers(network).items():
        trained = layer.trainable = path in chosen
        if isinstance(layer, BatchNorm):
            layer.momentum = layer.norm.decay if config.bn_decay is None else config.bn_decay
            if config.frozen_bn == "update":
                updated.append(path.split("/")[0])
                layer.trainable = True
                for variable in (variable for variable in layer.weights if variable.name not in STATISTICS):
                    variable.trainable = trained
        for variable in layer.weights:
            if variable.name.endswith("kernel"):  # None where an earlier training had a penalty
                variable.regularizer = keras.regularizers.L2(config.l2) if trained and config.l2 else None
        factor = config.head_lr_multiplier if new(path) else factors[path.split("/")[0]]
        parameters = sum(int(np.prod(variable.shape)) for variable in layer.weights if variable.name not in STATISTICS)
        rows.append(LayerRow(path, parameters, trained, factor))
    if config.bn_decay is not None and not any(isinstance(layer, BatchNorm) for layer in network.model.layers):
        raise UsageError(f"`bn_decay` {config.bn_decay:g}: {network.spec.name} has no batch normalisation; omit it")
    changing = {row.scope for row in rows if row.trained} | set(updated)
    return Trained(next(scope for scope in network.scopes if scope in changing), tuple(rows))
