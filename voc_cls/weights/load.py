"""A weight file of any format under TF-Slim's names and in TF-Slim's shapes: a summary, and into a network.

Trainers put the tensors of a network under a key, behind a prefix, beside averaged ones: `select_network` finds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NetSpec, Normalisation, net_spec
from voc_cls.weights.diff import Diff, compare, shortened
from voc_cls.weights.formats import recognise
from voc_cls.weights.naming import NamingScheme, keras, slim, torchvision, vgg_numpy
from voc_cls.weights.tensors import KEY, Shape, TensorInfo, WeightFile, damage_reported, tensors_digest

if TYPE_CHECKING:
    from voc_cls.nets.network import Network

SCHEMES = (keras.SCHEME, torchvision.SCHEME, torchvision.TRANSFORMERS, keras.TF2ONNX, vgg_numpy.SCHEME, vgg_numpy.OWN)
"""Every naming scheme beside TF-Slim's, in the order in which they are tried."""
MARKS = tuple(mark for scheme in SCHEMES for mark in scheme.marks)
"""Tensors by which a naming scheme recognises a network."""
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DataParallel, torch.compile, FSDP and activation checkpointing put before the names of the layers within."""
WRAPPER = re.compile(rf"(?:^|(?<=\.))(?:{'|'.join(WRAPPERS)})\.")
AVERAGED = re.compile(r"(?<![a-z])(ema|swa|avg|averaged?)(?![a-z])", re.IGNORECASE)
"""In a key or prefix: the weights are a moving average of those of the training."""


@dataclass(frozen=True)
class NamedWeights(WeightFile):
    """An opened weight file, whose `tensors` have TF-Slim's names and shapes."""

    net: str | None = None
    """The network that the names belong to (nets/registry.py); None if unknown."""
    normalisation: Normalisation = "auto"
    """What the images went through that the weights were trained with; "auto": as TF-Slim's."""
    notes: tuple[str, ...] = ()
    """What of the file was taken, and where the same values do not make the same function."""
    unnamed: Mapping[str, TensorInfo] = field(default_factory=dict)
    """What TF-Slim has no name for, under the names of the file; `read` reads it too."""

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name → shape of everything in the file."""
        return {name: info.shape for name, info in (*self.tensors.items(), *self.unnamed.items())}


@dataclass(frozen=True)
class TensorSummary:
    """One tensor; minimum, mean and maximum of its finite values (None where it has none, or holds strings)."""

    name: str
    shape: Shape
    dtype: str
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    not_finite: int = 0
    """Values that are NaN or infinite."""

    @property
    def elements(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class WeightsSummary:
    """The tensors of a weight file under TF-Slim's names, then those that have none, and the digest of the former."""

    path: str
    format: str
    net: str | None
    digest: str
    elements: int
    """Number of values in all."""
    tensors: tuple[TensorSummary, ...]
    notes: tuple[str, ...] = ()

    def __rich__(self) -> Group:
        table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("name", overflow="fold", min_width=28)
        for column in ("type", "shape"):
            table.add_column(column, no_wrap=True)
        for column in ("elements", "min", "max"):
            table.add_column(column, justify="right", no_wrap=True)
        for tensor in self.tensors:
            name = f"{tensor.name} ({tensor.not_finite:,} not finite)" if tensor.not_finite else tensor.name
            table.add_row(escape(name), tensor.dtype, "×".join(map(str, tensor.shape)), f"{tensor.elements:,}",
                          *("" if value is None else f"{value:.4g}" for value in (tensor.min, tensor.max)),
                          style="bold red" if tensor.not_finite else "")
        of = f" of {self.net}" if self.net else ""
        return Group(Text(f"{self.path} ({self.format})"), table,
                     Text(f"{len(self.tensors)} tensors{of}, {self.elements:,} values\ndigest sha256:{self.digest}"))


def load_weights_file(path: Path, net: str | None = None, entry: str | None = None) -> NamedWeights:
    """Opens the weights that `path` means; a tensor is read when it is asked for.

    `path` is a file of any format, or a TF-Slim checkpoint's prefix or folder. `net` is the network that they are for,
    where the names leave a choice (a file with fc6 alone may be of VGG-16 or VGG-19). `entry` is as of
    `select_network`. WeightsError for a path that is not one, a damaged file, one of another format than its name says,
    and one of several networks; UsageError for a network that is not known.
    """
    if net is not None:
        net_spec(net)  # is known
    file, selected = select_network(recognise(path).read(path), entry)
    names = slim.spellings(file.tensors)
    tensors = {name: file.tensors[spelled] for name, spelled in names.items()}
    try:
        of_slim = slim.recognise(tensors, net)
        if of_slim is not None:
            return NamedWeights(file.path, file.format, tensors, lambda name: file.read(names[name]), of_slim,
                                notes=_notes(selected))
        for scheme in SCHEMES:
            recognised = scheme.recognise(file.tensors)
            if recognised is not None:
                with damage_reported("the shape of a tensor"):  # an impossible one
                    spec = _chosen(file, scheme, recognised, net)
                    weights = _translated(file, scheme, spec, selected)
                return replace(weights, net=slim.of_size(spec.name, weights.tensors, net))
    except WeightsError as error:  # names a network, not the file
        raise WeightsError(f"{path}: {error}") from error
    return NamedWeights(file.path, file.format, file.tensors, file.read, notes=_notes(selected))


def select_network(file: WeightFile, entry: str | None) -> tuple[WeightFile, str]:
    """The file with the tensors of one network under their bare names, and a sentence on what was taken.

    `entry` is the key or prefix of the network, such as "model_ema"; None: the only network, but for averages.
    WeightsError for an entry that is not there, and where the choice is not clear.
    """
    starts = list(dict.fromkeys(_starts_of_networks(file.tensors)))
    if not starts:
        starts = list(dict.fromkeys(_dictionary(name) for name in file.tensors))
    start = _chosen_start(file, starts, entry) if starts else ""
    dictionary = _dictionary(start)
    within = [name for name in file.tensors if name.startswith(start) and KEY not in name.removeprefix(start)]
    within.sort(key=lambda name: WRAPPER.search(name.removeprefix(start)) is None)  # of x and module.x the bare x
    names = {WRAPPER.sub("", name.removeprefix(start)): name for name in within}
    taken = tuple(names.values())
    for name in sorted(file.tensors.keys() - set(names.values())):  # such as a head outside the backbone
        bare = name.removeprefix(dictionary)
        if name.startswith(dictionary) and KEY not in bare:
            names[f"{bare} beside {start.removeprefix(dictionary)}" if bare in names else bare] = name
    if (len(starts) <= 1 and len(names) == len(file.tensors)
            and all(bare == name for bare, name in names.items())):
        return file, ""
    selected = WeightFile(file.path, file.format, {bare: file.tensors[name] for bare, name in names.items()},
                          lambda bare: file.read(names[bare]))
    return selected, _taken(file, start, starts, taken)


def _starts_of_networks(names: Iterable[str]) -> Iterable[str]:
    """What stands before each tensor that marks a network; of two marks that fit, before the longer one."""
    between = rf"\.(?:(?:{'|'.join(WRAPPERS)})\.)*"
    patterns = [re.compile(rf"(|.*(?:\.|{KEY})){between.join(map(re.escape, mark.split('.')))}")
                for mark in sorted(MARKS, key=len, reverse=True)]
    for name in names:
        match = next(filter(None, (pattern.fullmatch(name) for pattern in patterns)), None)
        if match is not None:
            yield match[1]


def _chosen_start(file: WeightFile, starts: Collection[str], entry: str | None) -> str:
    chosen = [start for start in starts if entry is None or f".{entry}." in f".{_label(start)}."]
    if not chosen:
        raise WeightsError(f"{file.path} has no weights under `weights_entry` {entry}; it has {_listed(starts)}")
    plain = [start for start in chosen if not AVERAGED.search(start)] or chosen
    outermost = min(plain, key=len)
    if not all(start.startswith(outermost) for start in plain):
        raise WeightsError(f"{file.path} has weights of several networks: {_listed(chosen)}; choose with "
                           "`weights_entry`")
    return outermost


def _taken(file: WeightFile, start: str, starts: Collection[str], taken: Iterable[str]) -> str:
    """What was taken and what was not."""
    dictionary, others = _dictionary(start), [other for other in starts if other != start]
    wrappers = {match[0] for name in taken if name.startswith(start)
                for match in WRAPPER.finditer(name.removeprefix(start))}
    prefixes = " and ".join(filter(None, (start.removeprefix(dictionary), *sorted(wrappers))))
    return (f"{file.path.name}: took the weights" + (f" under the key {_label(dictionary)}" if dictionary else "")
            + (f", without the prefix {prefixes} of their names" if prefixes else "")
            + (f"; the file also has {_listed(others)}: choose with `weights_entry`" if others else ""))


def _dictionary(name: str) -> str:
    """The keys before a name, or before a prefix."""
    return name[:name.rfind(KEY) + len(KEY)] if KEY in name else ""


def _label(start: str) -> str:
    """As `weights_entry` names it."""
    return start.replace(KEY, ".").rstrip(".")


def _listed(starts: Iterable[str]) -> str:
    return shortened([_label(start) or "names without key or prefix" for start in starts], 12)


def _chosen(file: WeightFile, scheme: NamingScheme, recognised: str, net: str | None) -> NetSpec:
    """The network `net` where it has a place for all that the `recognised` one has a place for."""
    spec = net_spec(recognised)
    if net is None or net == recognised:
        return spec
    wanted = net_spec(net)
    placed, wanted_placed = ({mapping.foreign for mapping in scheme.mappings(spec_, file.tensors)}
                             for spec_ in (spec, wanted))
    return wanted if placed <= wanted_placed else spec


def _translated(file: WeightFile, scheme: NamingScheme, spec: NetSpec, selected: str) -> NamedWeights:
    mappings = {mapping.slim: mapping for mapping in scheme.mappings(spec, file.tensors)}
    used = {name for mapping in mappings.values() for name in (mapping.foreign, mapping.folded)}
    return NamedWeights(
        file.path, f"{file.format}, names of {scheme.name}",
        {name: mapping.info(file.tensors) for name, mapping in mappings.items()},
        lambda name: mappings[name].read(file) if name in mappings else file.read(name),
        spec.name, scheme.normalisation, _notes(selected, scheme.notes.get(spec.family, "")),
        {name: info for name, info in file.tensors.items() if name not in used})


def _notes(*notes: str) -> tuple[str, ...]:
    return tuple(filter(None, notes))


def restore(network: Network, weights: NamedWeights, exclude: Sequence[str] = (),
            show: Callable[[Diff], object] | None = None) -> Diff:
    """Gives `network` the opened `weights` (any format) by name, its head excepted, and returns what went where.

    exclude: scopes that keep their random start (see `compare`). show: receives the Diff before it is judged, so that
    it is seen also when the restore is refused, as by `Diff.check`, or for a value that is not finite.
    """
    diff = compare(weights.shapes, network, exclude, weights.path.name)
    if show is not None:
        show(diff)
    diff.check()
    variables = network.variables()
    for name in diff.restored:
        variables[name].assign(weights.read_weights(name))
    return diff


def network_digest(network: Network) -> str:
    """SHA-256 over the network's weights by TF-Slim name: the digest of a checkpoint with these weights."""
    variables = sorted(network.variables().items())
    return tensors_digest((name, np.asarray(variable.numpy())) for name, variable in variables)


def summarise(path: Path, entry: str | None = None) -> WeightsSummary:
    """Reads every tensor for its statistics and for the digest; WeightsError as of `load_weights_file`."""
    weights = load_weights_file(path, entry=entry)
    tensors = tuple(_summarise_tensor(name, info, weights) for name, info in (
        *weights.tensors.items(), *weights.unnamed.items()))
    return WeightsSummary(str(weights.path), weights.format, weights.net, weights.digest(),
                          sum(tensor.elements for tensor in tensors), tensors, weights.notes)


def _summarise_tensor(name: str, info: TensorInfo, weights: NamedWeights) -> TensorSummary:
    summary = TensorSummary(name, info.shape, info.dtype)
    if info.dtype == "string":
        return summary
    values = weights.read(name)
    finite = values[np.isfinite(values)]
    summary = replace(summary, not_finite=values.size - finite.size)
    if not finite.size:
        return summary
    return replace(summary, min=float(finite.min()), mean=float(finite.mean(dtype=np.float64)), max=float(finite.max()))
