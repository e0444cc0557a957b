"""Weights from one format into another: the same values under other names and in another layout.

A tensor is read when its turn comes to be written, so that the memory is that of the largest, not of the file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NetSpec, net_spec
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.diff import Diff, Entry, Status, is_training_state, shortened
from voc_cls.weights.load import NamedWeights, load_weights_file
from voc_cls.weights.naming import Dialect, Row, dialects
from voc_cls.weights.recognise import SLIM, Format, format_to_write
from voc_cls.weights.tensors import Array, Outgoing, Shape, TensorInfo, numpy_dtype


@dataclass(frozen=True)
class Plan:
    """What a conversion will write, and how that compares with what there is; `notes` are for a person."""

    target: Path
    format: Format
    diff: Diff
    outgoing: tuple[Outgoing, ...]
    notes: tuple[str, ...]

    @property
    def size(self) -> int:
        """Bytes of all values that will be written."""
        return sum(_size(tensor) for tensor in self.outgoing)

    def check(self, partial: bool = False) -> None:
        """WeightsError where something would be lost that is not meant to be, and where nothing would be left."""
        lost = [entry.name for entry in self.diff.of(Status.NO_NAME)]
        if not self.outgoing:
            raise WeightsError(f"{self.diff.file} has nothing that {self.format.name} has a name for: say with --net "
                               "which network it is of, or choose .npz or .ckpt")
        if lost and not partial:
            raise WeightsError(f"{self.target.name} cannot have {shortened(', '.join(lost))}: {self.format.name} has "
                               "no name for it; choose another format, or leave it out with --partial")

    def write(self, progress: Callable[[int], object] = lambda _: None) -> None:
        """Writes the target, aside first. progress: told the bytes of each tensor when it has been read."""
        self.target.parent.mkdir(parents=True, exist_ok=True)
        watched = [replace(tensor, read=partial(_told, tensor, progress)) for tensor in self.outgoing]
        with tempfile.TemporaryDirectory(dir=self.target.parent, prefix=f".{self.target.name}-") as aside:
            known = self.target.suffix.lower() in self.format.suffixes
            written = Path(aside) / (self.target.name if known else f"new{self.format.suffixes[0]}")
            self.format.write(written, watched)
            self.format.move(written, self.target)


def plan(sources: Sequence[Path], target: Path, net: str | None = None, to: str | None = None,
         overwrite: bool = False) -> Plan:
    """Opens `sources`, which have their tensors between them, and names them for `target`.

    net: as in `load_weights_file`. to: the target's format, where its suffix does not say it. Raises WeightsError for
    a source that cannot be read, for sources of several networks or with the same tensor, and for a target that
    exists; UsageError for a format that is not known.
    """
    format_ = format_to_write(target, to)
    there = format_.files(target)
    if there and not overwrite:
        raise WeightsError(f"{there[0]} exists already: choose another name, or replace it with --overwrite")
    opened = [load_weights_file(source, net) for source in sources]
    spec = _spec(opened, net)
    tensors: dict[str, tuple[NamedWeights, TensorInfo]] = {}
    for weights in opened:
        for name, info in weights.tensors.items():
            if name in tensors:
                raise WeightsError(f"{tensors[name][0].path} and {weights.path} both have {name}: give one of them")
            tensors[name] = weights, info
    rows = _rows(format_, spec, {name: info for name, (_, info) in tensors.items()})
    outgoing: list[Outgoing] = []
    for name, row in rows.items():
        weights, info = tensors[name]
        read = partial(weights.read, name)
        outgoing += row.outgoing(info, read) if row is not None else [Outgoing(name, info, read)]
    file = " + ".join(weights.path.name for weights in opened)
    found = {name: info.shape for name, (_, info) in tensors.items()}
    found |= {name: info.shape for weights in opened for name, info in weights.unnamed.items()}
    diff = _compared(file, f"{target.name} ({format_.name})", spec, found, rows)
    notes = [weights.note for weights in opened] + [_note(format_, spec, rows)]
    return Plan(target, format_, diff, tuple(outgoing), tuple(dict.fromkeys(note for note in notes if note)))


def _spec(opened: Sequence[NamedWeights], net: str | None) -> NetSpec | None:
    """The network that all files are of; None where none of them shows it."""
    nets = {weights.net: weights for weights in opened if weights.net is not None}
    if len(nets) > 1:
        raise WeightsError(" and ".join(f"{weights.path} is of {net}" for net, weights in nets.items())
                           + ": convert them one by one, or say with --net what they are")
    return net_spec(next(iter(nets))) if nets else net_spec(net) if net is not None else None


def _rows(format_: Format, spec: NetSpec | None, tensors: dict[str, TensorInfo]) -> dict[str, Row | None]:
    """TF-Slim's name → the row of the format's dialect, or nothing where the name stays as it is. What is left out has
    no name there."""
    dialect = _dialect(format_)
    rows = dialect.rows(spec, tensors) if dialect is not None and spec is not None else ()
    if rows:
        return {row.slim: row for row in rows}
    if not format_.takes_any_name:
        return {}
    return {name: None for name, info in tensors.items() if info.dtype != "string" or format_ is SLIM}


def _note(format_: Format, spec: NetSpec | None, rows: dict[str, Row | None]) -> str:
    dialect = _dialect(format_)
    if dialect is None or spec is None:
        return ""
    if rows and not any(rows.values()):
        return f"{dialect.name} has no names for {spec.name}: TF-Slim's are written, and its layout"
    return dialect.note(spec)


def _dialect(format_: Format) -> Dialect | None:
    return next((dialect for dialect in dialects() if dialect.name == format_.dialect), None)


def _compared(file: str, target: str, spec: NetSpec | None, found: dict[str, Shape],
              rows: dict[str, Row | None]) -> Diff:
    """What is converted, what is not, and what the whole network has and the files have not."""
    whole = slim_shapes(spec) if spec is not None else {}
    head = f"{spec.scope}/{spec.slim_head}/" if spec is not None else ""

    def status(name: str) -> Status:
        if name in rows:
            differs = name in whole and whole[name] != found[name] and not name.startswith(head)
            return Status.SHAPE_DIFFERS if differs else Status.RESTORED
        if name not in found:
            return Status.ABSENT
        return Status.NOT_WEIGHTS if is_training_state(name, found) else Status.NO_NAME

    names = [*found, *(name for name in whole if name not in found)]
    entries = tuple(Entry(name, status(name), whole.get(name, found.get(name) if name in rows else None),
                          found.get(name)) for name in names)
    return Diff(file, target, spec.scope if spec is not None else "", entries, done="converted")


def _told(tensor: Outgoing, progress: Callable[[int], object]) -> Array:
    value = tensor.read()
    progress(_size(tensor))
    return value


def _size(tensor: Outgoing) -> int:
    return tensor.info.elements * numpy_dtype(tensor.info.dtype).itemsize
