"""Weights from a file of any format into a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from voc_cls.errors import WeightsError
from voc_cls.weights.diff import Diff, compare
from voc_cls.weights.load import NamedWeights
from voc_cls.weights.tensors import WeightFile, tensors_digest

if TYPE_CHECKING:
    from voc_cls.nets.network import Network


def restore(network: Network, weights: NamedWeights, exclude: Sequence[str] = (),
            show: Callable[[Diff], object] | None = None) -> Diff:
    """Gives `network` the opened `weights` (any format) by name, its head excepted, and returns what went where.

    exclude: scopes that keep their random start (see `compare`). show: receives the Diff before it is judged, so that
    it is seen also when the restore is refused. Raises WeightsError when a variable other than the head is absent
    or of another shape, and when a value is not finite; UsageError for an `exclude` that matches nothing.
    """
    diff = compare(weights.shapes, network, exclude, weights.path.name)
    if show is not None:
        show(diff)
    diff.check()
    variables = network.variables()
    for name in diff.restored:
        variables[name].assign(read_weights(weights, name))
    return diff


def read_weights(file: WeightFile, name: str) -> npt.NDArray[np.float32]:
    """One tensor as float32; WeightsError for another type and for values that are not finite."""
    dtype = file.tensors[name].dtype
    if "float" not in dtype:
        raise WeightsError(f"{file.path}: {name} is of type {dtype}, where weights are floating-point numbers")
    with np.errstate(over="ignore"):  # a float64 too large becomes inf, which is named below
        weights = file.read(name).astype(np.float32, copy=False)
    if not np.isfinite(weights).all():
        broken = np.count_nonzero(~np.isfinite(weights))
        raise WeightsError(f"{file.path}: {name} has {broken:,} of {weights.size:,} values that are NaN or "
                           "infinite: the training that wrote it diverged, take an earlier checkpoint")
    return weights


def network_digest(network: Network) -> str:
    """SHA-256 over the network's weights by TF-Slim name: the digest of a checkpoint with these weights."""
    variables = sorted(network.variables().items())
    return tensors_digest((name, np.asarray(variable.numpy())) for name, variable in variables)
