"""A weight file of any format under TF-Slim's names and in TF-Slim's shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NETS, NetSpec, Normalisation, net_spec
from voc_cls.weights.naming import Dialect, Row, dialects
from voc_cls.weights.recognise import recognise
from voc_cls.weights.slim import tensors_digest
from voc_cls.weights.tensors import Array, Shape, TensorInfo, WeightFile


@dataclass(frozen=True)
class NamedWeights:
    """An opened weight file, whose `tensors` have TF-Slim's names and shapes, sorted by name."""

    path: Path
    format: str
    net: str | None
    """The network that the names belong to (nets/registry.py); None where they are of none that is known."""
    normalisation: Normalisation
    """What the pictures went through that the weights were trained with; "auto": as TF-Slim's own."""
    note: str
    """Where the same values do not make the same function; empty where they do."""
    tensors: Mapping[str, TensorInfo]
    unnamed: Mapping[str, TensorInfo]
    """What TF-Slim has no name for, under the names of the file."""
    _read: Callable[[str], Array] = field(repr=False, compare=False)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name → shape of everything in the file."""
        return {name: info.shape for name, info in (*self.tensors.items(), *self.unnamed.items())}

    def read(self, name: str) -> Array:
        """One of `tensors` or `unnamed`, perhaps a view with other strides; WeightsError when its bytes are damaged."""
        return self._read(name)

    def digest(self) -> str:
        """`tensors_digest` of `tensors`: the same weights have the same digest in every format."""
        return tensors_digest((name, self.read(name)) for name in self.tensors)


def load_weights_file(path: Path, net: str | None = None) -> NamedWeights:
    """Opens the weights that `path` means: a file of one of the formats of recognise.py, or a checkpoint's prefix.

    net: the network that they are for, where the names in the file leave a choice (a file with fc6 alone may be of
    VGG-16 or VGG-19). Raises WeightsError for a path that is none, a damaged file, and one of another format than its
    name says; UsageError for a network that is not known.
    """
    if net is not None:
        net_spec(net)  # is known
    file = recognise(path).open(path)
    named = next((spec.name for spec in NETS.values() if any(below(name, spec) for name in file.tensors)), None)
    for dialect in dialects() if named is None else ():
        try:
            found = dialect.recognise(file.tensors)
        except WeightsError as error:
            raise WeightsError(f"{path}: {error}") from error
        if found is not None:
            return _translated(file, dialect, _chosen(file, dialect, found, net))
    return NamedWeights(file.path, file.format, named, "auto", "", file.tensors, {}, file.read)


def digest(path: Path, net: str | None = None) -> str:
    """`NamedWeights.digest` of the file at `path`."""
    return load_weights_file(path, net).digest()


def below(name: str, spec: NetSpec) -> bool:
    """Whether a tensor's name lies in TF-Slim's scope of a network."""
    return name.startswith(f"{spec.scope}/")


def _chosen(file: WeightFile, dialect: Dialect, found: str, net: str | None) -> NetSpec:
    """The network `net` where it has a place for all that `found`, which the names show, has a place for."""
    spec = net_spec(found)
    if net is None or net == found:
        return spec
    wanted = net_spec(net)
    theirs, ours = ({row.foreign for row in dialect.rows(s, file.tensors)} for s in (spec, wanted))
    return wanted if theirs <= ours else spec


def _translated(file: WeightFile, dialect: Dialect, spec: NetSpec) -> NamedWeights:
    rows: dict[str, Row] = {row.slim: row for row in dialect.rows(spec, file.tensors)}
    used = {name for row in rows.values() for name in row.names}
    return NamedWeights(
        file.path, f"{file.format}, names of {dialect.name}", spec.name, dialect.normalisation, dialect.note(spec),
        {name: rows[name].info(file.tensors) for name in sorted(rows)},
        {name: info for name, info in file.tensors.items() if name not in used},
        lambda name: rows[name].read(file) if name in rows else file.read(name))
