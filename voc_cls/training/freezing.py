"""What is trained: `--trainable` turned into frozen and trained scopes of a network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from voc_cls.errors import UsageError
from voc_cls.nets.network import Network


@dataclass(frozen=True)
class ScopeRow:
    """A scope of the network, its number of parameters, and whether it is trained."""

    scope: str
    parameters: int
    trained: bool


@dataclass(frozen=True)
class Trained:
    """The network cut in two: scopes before `first` are frozen, `first` and what follows is trained."""

    first: str
    rows: tuple[ScopeRow, ...]

    @property
    def parameters(self) -> int:
        """Number of parameters that are trained."""
        return sum(row.parameters for row in self.rows if row.trained)

    @property
    def frozen_parameters(self) -> int:
        """Number of parameters that are not."""
        return sum(row.parameters for row in self.rows if not row.trained)

    def table(self) -> Table:
        """For the terminal: scope, parameters, trained or frozen."""
        table = Table()
        table.add_column("scope")
        table.add_column("parameters", justify="right")
        table.add_column("")
        for row in self.rows:
            table.add_row(row.scope, f"{row.parameters:,}", "trained" if row.trained else "[dim]frozen[/dim]")
        return table


def first_trained(network: Network, trainable: str) -> str:
    """The scope from which on the network is trained: `head`, `all`, or `<scope>+` such as `conv5+`."""
    scopes = network.scopes
    if trainable == "all":
        return scopes[0]
    if trainable == "head":
        return scopes[-1]
    scope = trainable.removesuffix("+")
    if not trainable.endswith("+") or scope not in scopes:
        known = ", ".join(f"{scope}+" for scope in scopes[:-1])
        raise UsageError(f"--trainable {trainable}: not one of head, all, {known}")
    return scope


def freeze(network: Network, trainable: str, l2: float) -> Trained:
    """Freezes everything before the scope that `trainable` names; puts an L2 penalty on the kernels after it.

    l2: factor of the sum of squares, as `keras.regularizers.L2` has it (TF-Slim's counts half the sum).
    """
    import keras

    first = first_trained(network, trainable)
    trained_scopes = network.scopes[network.scopes.index(first):]
    parameters = dict.fromkeys(network.scopes, 0)
    for layer in network.model.layers:
        if not layer.weights:
            continue
        holders = [variable for variable in layer.weights if variable.path.startswith(f"{network.spec.name}/")]
        if not holders:  # a dropout layer's random generator
            continue
        scope = holders[0].path.split("/")[1]
        layer.trainable = scope in trained_scopes
        parameters[scope] += sum(int(np.prod(variable.shape)) for variable in holders)
        if layer.trainable and l2 > 0:
            layer.kernel.regularizer = keras.regularizers.L2(l2)
    return Trained(first, tuple(ScopeRow(scope, parameters[scope], scope in trained_scopes)
                                for scope in network.scopes))
