"""What is in a weight file: a table for a person, a mapping for a program."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voc_cls.weights.load import NamedWeights, load_weights_file
from voc_cls.weights.tensors import Shape, TensorInfo

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class TensorSummary:
    """One tensor; minimum, mean and maximum of its finite values (None where it has none, or holds strings)."""

    name: str
    shape: Shape
    dtype: str
    minimum: float | None
    mean: float | None
    maximum: float | None
    not_finite: int
    """Values that are NaN or infinite."""

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Summary:
    """The tensors of a weight file under TF-Slim's names, then those that have none, and the digest of the former
    (`NamedWeights.digest`)."""

    path: Path
    format: str
    net: str | None
    """The network that the names are of."""
    digest: str
    tensors: tuple[TensorSummary, ...]

    @property
    def elements(self) -> int:
        """Number of values in all."""
        return sum(tensor.elements for tensor in self.tensors)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {
            "path": str(self.path), "format": self.format, "net": self.net, "digest": self.digest,
            "elements": self.elements,
            "tensors": [{"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype,
                         "min": tensor.minimum, "mean": tensor.mean, "max": tensor.maximum,
                         "not_finite": tensor.not_finite} for tensor in self.tensors],
        }

    def __rich__(self) -> Group:
        """A table with a row per tensor."""
        from rich.console import Group
        from rich.markup import escape
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("name", overflow="fold", min_width=28)
        for column in ("type", "shape"):
            table.add_column(column, no_wrap=True)
        for column in ("elements", "min", "max"):
            table.add_column(column, justify="right", no_wrap=True)
        for tensor in self.tensors:
            name = f"{tensor.name} ({tensor.not_finite:,} not finite)" if tensor.not_finite else tensor.name
            table.add_row(escape(name), tensor.dtype, "×".join(map(str, tensor.shape)), f"{tensor.elements:,}",
                          *("" if value is None else f"{value:.4g}" for value in (tensor.minimum, tensor.maximum)),
                          style="bold red" if tensor.not_finite else "")
        of = f" of {self.net}" if self.net else ""
        return Group(Text(f"{self.path} ({self.format})"), table,
                     Text(f"{len(self.tensors)} tensors{of}, {self.elements:,} values\ndigest sha256:{self.digest}"))


def summarise(path: Path) -> Summary:
    """Reads every tensor once for its statistics and once for the digest; WeightsError as of `load_weights_file`."""
    weights = load_weights_file(path)
    tensors = tuple(_summarise_tensor(name, info, weights) for name, info in (
        *weights.tensors.items(), *weights.unnamed.items()))
    return Summary(weights.path, weights.format, weights.net, weights.digest(), tensors)


def _summarise_tensor(name: str, info: TensorInfo, file: NamedWeights) -> TensorSummary:
    values = file.read(name)
    if values.dtype == object:  # strings
        return TensorSummary(name, info.shape, info.dtype, None, None, None, 0)
    finite = np.isfinite(values)
    not_finite = int(values.size - np.count_nonzero(finite))
    kept = values if not not_finite else values[finite]
    if not kept.size:
        return TensorSummary(name, info.shape, info.dtype, None, None, None, not_finite)
    mean = float(kept.mean(dtype=np.float64))
    return TensorSummary(name, info.shape, info.dtype, float(kept.min()), mean, float(kept.max()), not_finite)
