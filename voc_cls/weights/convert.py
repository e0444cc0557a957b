"""Weights from one format into another: the same values under other names and in another layout."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from voc_cls.errors import WeightsError, reason
from voc_cls.nets.registry import NetSpec, net_spec
from voc_cls.weights.diff import Diff, Entry, Status, is_training_state, shortened
from voc_cls.weights.formats import TF_CHECKPOINT, Format, format_to_write
from voc_cls.weights.formats.tf_checkpoint import checkpoint_files
from voc_cls.weights.load import SCHEMES, NamedWeights, load_weights_file
from voc_cls.weights.naming import Layout, NamingScheme, TensorMapping
from voc_cls.weights.naming.slim import slim_shapes
from voc_cls.weights.tensors import Array, Shape, TensorInfo


@dataclass(frozen=True)
class Conversion:
    """What will be written, and how that compares with what there is; `notes` are for a person."""

    target: Path
    format: Format
    diff: Diff
    sources: Mapping[str, NamedWeights]
    """TF-Slim name → the file that has the tensor, for what will be written."""
    mappings: Mapping[str, TensorMapping]
    """TF-Slim name → its name and layout in the new file."""
    notes: tuple[str, ...]

    @property
    def tensors(self) -> dict[str, TensorInfo]:
        """What will be written, by TF-Slim name."""
        return {name: source.tensors[name] for name, source in self.sources.items()}

    @property
    def nbytes(self) -> int:
        return sum(info.nbytes for info in self.tensors.values())

    def check(self, partial: bool = False) -> None:
        """WeightsError where something would be lost that is not meant to be, and where nothing would be left."""
        lost = [entry.name for entry in self.diff.of(Status.NO_NAME)]
        if not self.tensors:
            raise WeightsError(f"{self.diff.file} has nothing that {self.format.name} has a name for: say with `net` "
                               "which network it is of, or choose .npz or .ckpt")
        if lost and not partial:
            raise WeightsError(f"{self.target.name} cannot have {shortened(lost)}: {self.format.name} has "
                               "no name for it; choose another format, or leave it out with `partial`")
        for name, info in self.tensors.items():
            if info.dtype in self.format.lacks:
                raise WeightsError(f"{name} is of type {info.dtype}, which {self.format.name} cannot hold: choose "
                                   ".ckpt or .safetensors")

    def write(self, progress: Callable[[int], object] = lambda _: None) -> None:
        """Writes the target, aside first. progress: called with the bytes of each tensor that has been read."""
        assert self.format.write is not None  # format_to_write sees to it
        arrays: dict[str, Array] = {}
        for name, mapping in self.mappings.items():
            array = self.sources[name].read(name)
            arrays |= mapping.to_foreign(array)
            progress(array.nbytes)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.target.parent, prefix=f".{self.target.name}-") as aside:
            known = self.target.suffix.lower() in self.format.suffixes
            written = Path(aside) / (self.target.name if known else f"new{self.format.suffixes[0]}")
            try:
                self.format.write(written, arrays)
            except (ValueError, TypeError, RuntimeError) as error:  # of the library that writes
                raise WeightsError(f"{self.target} cannot be written as {self.format.name} ({reason(error)}): choose "
                                   "another format") from error
            self.format.move(written, self.target)


def plan_conversion(sources: Sequence[Path], target: Path, net: str | None = None, to: str | None = None,
                    overwrite: bool = False, entry: str | None = None) -> Conversion:
    """Opens the sources, which have the tensors between them, and names these for the target, whose format `to` says
    where its suffix does not.

    WeightsError for sources of several networks or with the same tensor, and for a target that exists, unless
    `overwrite`; the rest is as of `load_weights_file` and `format_to_write`.
    """
    format_ = format_to_write(target, to)
    existing = checkpoint_files(target)  # the one file of another format too
    if existing and not overwrite:
        raise WeightsError(f"{existing[0]} exists already: choose another name, or replace it with `overwrite`")
    opened = [load_weights_file(source, net, entry) for source in sources]
    spec = _spec(opened, net)
    owners: dict[str, NamedWeights] = {}
    for weights in opened:
        for name in weights.tensors:
            if name in owners:
                raise WeightsError(f"{owners[name].path} and {weights.path} both have {name}: give one of them")
            owners[name] = weights
    tensors = {name: weights.tensors[name] for name, weights in owners.items()}
    scheme = next((scheme for scheme in SCHEMES if scheme.name == format_.scheme), None)
    mappings = _mappings(format_, scheme, spec, tensors)
    shapes = {name: shape for weights in opened for name, shape in weights.shapes.items()}
    diff = _compared(" + ".join(weights.path.name for weights in opened), f"{target.name} ({format_.name})", spec,
                     shapes, mappings)
    notes = [note for weights in opened for note in weights.notes] + [_note(scheme, spec, mappings)]
    return Conversion(target, format_, diff, {name: owners[name] for name in mappings}, mappings,
                      tuple(dict.fromkeys(note for note in notes if note)))


def _spec(opened: Sequence[NamedWeights], net: str | None) -> NetSpec | None:
    """The network that all files are of; None where none of them shows it."""
    nets = {weights.net: weights for weights in opened if weights.net is not None}
    if len(nets) > 1:
        raise WeightsError(" and ".join(f"{weights.path} is of {net}" for net, weights in nets.items())
                           + ": convert them one by one, or say with `net` what they are")
    return net_spec(next(iter(nets))) if nets else net_spec(net) if net is not None else None


def _mappings(format_: Format, scheme: NamingScheme | None, spec: NetSpec | None,
              tensors: Mapping[str, TensorInfo]) -> dict[str, TensorMapping]:
    """TF-Slim's name → its mapping. What is left out has no name in the format."""
    mappings = scheme.mappings(spec, tensors) if scheme is not None and spec is not None else ()
    if mappings:
        return {mapping.slim: mapping for mapping in mappings}
    if not format_.takes_any_name:
        return {}
    return {name: TensorMapping(name, name, Layout()) for name, info in tensors.items()
            if info.dtype != "string" or format_ is TF_CHECKPOINT}


def _note(scheme: NamingScheme | None, spec: NetSpec | None, mappings: Mapping[str, TensorMapping]) -> str:
    if scheme is None or spec is None:
        return ""
    if mappings and all(mapping.foreign == name for name, mapping in mappings.items()):
        return f"{scheme.name} has no names for {spec.name}: TF-Slim's are written, and its layout"
    return scheme.notes.get(spec.family, "")


def _compared(file: str, target: str, spec: NetSpec | None, shapes: Mapping[str, Shape],
              mappings: Container[str]) -> Diff:
    """What is converted, what is not, and what the whole network has and the files have not."""
    whole = slim_shapes(spec) if spec is not None else {}
    head = f"{spec.scope}/{spec.slim_head}/" if spec is not None else ""

    def status(name: str) -> Status:
        if name in mappings:
            differs = name in whole and whole[name] != shapes[name] and not name.startswith(head)
            return Status.SHAPE_DIFFERS if differs else Status.RESTORED
        if name not in shapes:
            return Status.ABSENT
        return Status.NOT_WEIGHTS if is_training_state(name, shapes) else Status.NO_NAME

    names = [*shapes, *(name for name in whole if name not in shapes)]
    entries = tuple(Entry(name, status(name), whole.get(name, shapes.get(name) if name in mappings else None),
                          shapes.get(name)) for name in names)
    return Diff(file, target, spec.scope if spec is not None else "", entries, done="converted")
