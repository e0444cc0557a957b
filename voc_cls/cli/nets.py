"""voc-nets: the networks that can be trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from voc_cls.console import parse, run

PROGRAM = "voc-nets"
DESCRIPTION = """List the networks: size, input, ImageNet accuracy, pretrained weights.

  voc-nets
  weights=$(voc-weights fetch resnet_v1_50)
  voc-train --net resnet_v1_50 --weights $weights ..."""


@dataclass(frozen=True)
class Nets:
    """List the networks: size, input, ImageNet accuracy, pretrained weights."""

    json: bool = False
    """Print a JSON list with one object per network."""

    def run(self) -> None:
        from voc_cls.nets.registry import NOTES, networks_as_json, networks_as_text

        if self.json:
            print(json.dumps(networks_as_json(), indent=2))
        else:
            print(f"{networks_as_text()}\n\n{NOTES}")


def main(args: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run(PROGRAM, lambda: parse(Nets, PROGRAM, DESCRIPTION, args).run())
