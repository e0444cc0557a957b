"""voc-train: fine-tune a network."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import get_type_hints

from voc_cls.config import Program, Settings, check_ranges, flag_value, read_yaml
from voc_cls.console import import_tensorflow, new_console, run, say
from voc_cls.errors import RunError, UsageError
from voc_cls.nets.registry import networks_as_text
from voc_cls.stores import connected, tracking_uri
from voc_cls.training.config import RunConfig, TrainConfig

DESCRIPTION = f"""Fine-tune an ImageNet network on your own pictures.

On any data set; network, head and weights are chosen, and explained:
  voc-train --root photos --out runs/photos

All layers, from a TF-Slim checkpoint, as in the lecture:
  voc-train --root VOCdevkit/VOC2007 --weights vgg_16.ckpt --out runs/voc07

Only the classifier of another network, on frozen layers:
  voc-train --root cifar-10-batches-py --net resnet_v1_50 --trainable head \\
            --weights $(voc-weights fetch resnet_v1_50) --out runs/cifar10

With several seeds, for the mean and the spread of the results:
  voc-train --root VOCdevkit/VOC2007 --seeds 0 1 2 --out runs/voc07

Continue after an interruption:
  voc-train --out runs/head --resume

{indent(networks_as_text(), "  ")}"""
PROGRAM = Program("voc-train", DESCRIPTION, get_type_hints(TrainConfig),
                  ignored=("provenance",))  # what a run recorded


def main() -> None:
    sys.exit(run(PROGRAM.name, train))


def train() -> None:
    if "--doctor" in sys.argv[1:]:
        examine()
        return
    settings = read_settings(sys.argv[1:], os.environ)
    config = settings.config(TrainConfig)
    check_ranges(config.run)
    if config.run.workers is not None and config.run.hosts == 1:  # not in the processes that it starts
        from voc_cls.training.ray_hosts import train_on_workers

        train_on_workers(main, sys.argv[1:], config.run.workers, config.run.out / "config.yaml")
        return
    import_tensorflow()
    from voc_cls.evaluation.tables import report_tables
    from voc_cls.training.seeds import recorded_seeds, seeds_table, train_seeds
    from voc_cls.training.session import train as train_run

    console, splits = new_console(stderr=config.run.json), None
    if config.run.mlflow and not config.run.resume:
        with connected(tracking_uri(config.run.mlflow)) as mlflow:  # for its error, before there is something to lose
            mlflow.search_experiments(max_results=1)
    if config.network.weights == "auto":
        from voc_cls.training.recipe import choose, fetched

        with settings.explaining():
            if "config" in settings.given or os.environ.get(PROGRAM.variable("config")):
                config = replace(config, network=fetched(config.network, console))
            else:
                config, splits = choose(config, settings.given, console)
    recorded = recorded_seeds(config.run.out) if config.run.resume else ()
    seeds = (*recorded, *(seed for seed in config.run.seeds if seed not in recorded))
    with settings.explaining():
        if seeds:
            summary = train_seeds(config, seeds, console, sys.argv, handle_signals=True)
            console.print(seeds_table(summary))
            say(console, f"written: {summary.path}")
            if config.run.json:
                print(summary.path.read_text(encoding="utf-8"), end="")
            return
        report = train_run(config, console, sys.argv, handle_signals=True, splits=splits).report
    if report is not None:
        console.print(report_tables(report))
    results = " (report.html shows the results)" if report is not None else ""
    say(console, f"run folder: {config.run.out}{results}")
    if config.run.json:
        print(json.dumps({"run": str(config.run.out)} | (report.to_dict() if report is not None else {}), indent=2))


def examine() -> None:
    """--doctor: prints what this installation can do; RunError where training cannot work."""
    import_tensorflow()
    from voc_cls.files import cache_folder
    from voc_cls.training.doctor import doctor

    folder = flag_value(sys.argv[1:], "--cache-dir") or os.environ.get(PROGRAM.variable("cache_dir"))
    report = doctor(new_console(quiet="--json" in sys.argv), cache_folder(Path(folder) if folder else None))
    if "--json" in sys.argv:
        print(json.dumps(report, indent=2))
    if not report["works"]:
        raise RunError("training cannot work here; follow the advice above")


def read_settings(args: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Flags, environment and YAML file: --config, or with --resume the run's own."""
    out = flag_value(args, "--out") or environment.get(PROGRAM.variable("out")) or RunConfig.out
    resume = "--resume" in args or environment.get(PROGRAM.variable("resume"))
    # a run's own config, or that of the first of several seeds
    own = [path for pattern in ("config.yaml", "seed-*/config.yaml") for path in sorted(Path(out).glob(pattern))
           ] if resume else []
    if "--resume" in args and not own and {"--root", "--seeds", "--help", "-h"}.isdisjoint(args):
        raise UsageError(f"`resume`: {out} does not hold a run; name one by `out`, or omit `resume`")
    settings = PROGRAM.read(args, environment, own[0] if own else None)
    file = flag_value(args, "--config") or environment.get(PROGRAM.variable("config"))
    if file and not resume:
        check_repeatable(settings, file)
    return settings


def check_repeatable(settings: Settings, file: str) -> None:
    """UsageError where `file` is of a run from Python that it cannot repeat, and nothing replaces what it lacks."""
    provenance = read_yaml(Path(file), file).get("provenance")
    reasons = provenance.get("not_repeatable", {}) if isinstance(provenance, dict) else {}
    missing = [name for name, group in (("root", "dataset"), ("weights", "network"))
               if group in reasons and settings.sources.get(name, "").startswith(f"{file}: ")]
    if missing:
        raise UsageError(f"--config {file}: this run cannot be repeated, {' and '.join(reasons.values())}; pass "
                         f"{' and '.join(f'`{name}`' for name in missing)}")
