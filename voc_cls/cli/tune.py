"""voc-tune: search for the settings of a head."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import get_type_hints

from voc_cls.config import Program
from voc_cls.console import import_tensorflow, new_console, run
from voc_cls.training.search_space import TuneConfig

DESCRIPTION = """Search for the settings of a head on frozen layers, by cross-validation.

  voc-tune --root VOCdevkit/VOC2007 --weights $(voc-weights fetch vgg_16_conv) \\
           --image-sizes 224 320 --study studies/voc07
  voc-train --config studies/voc07/best.yaml --out runs/voc07

Takes the settings of voc-train. Those that are given are fixed; the others of head,
image size, augmentation, L2 penalty and learning rate vary. Only --train-split is
used. The same command continues a search that was interrupted."""
GROUPS = {name: group for name, group in get_type_hints(TuneConfig).items() if name != "run"}
PROGRAM = Program("voc-tune", DESCRIPTION, GROUPS, ignored=("provenance", "run"))


def main() -> None:
    sys.exit(run(PROGRAM.name, tune))


def tune() -> None:
    settings = PROGRAM.read(sys.argv[1:], os.environ)
    config = settings.config(TuneConfig)
    import_tensorflow()
    from voc_cls.training.tune import tune as search

    console = new_console(stderr=config.study.json, highlight=False, markup=False, soft_wrap=True)
    with settings.explaining():
        if config.network.weights == "auto":
            from voc_cls.training.recipe import fetched

            pooling = replace(config.network, head="gap")  # as all heads that are tried
            config = replace(config, network=replace(config.network, weights=fetched(pooling, console).weights))
        trials = search(config, console)
    if config.study.json:
        print(json.dumps({"study": str(config.study.study), "trials": trials}, indent=2))
