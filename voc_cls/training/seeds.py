"""One training with several seeds: a run folder for each, and the mean and the spread of their results."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from voc_cls.config import check_ranges
from voc_cls.errors import Interrupted, RunError, UsageError, reason
from voc_cls.evaluation.report.charts import CHOSEN_BY
from voc_cls.evaluation.report.page import json_ready, percent
from voc_cls.files import read_json, write_json
from voc_cls.training.config import TrainConfig
from voc_cls.training.run_folder import SUMMARY, RunFolder, check_folder
from voc_cls.training.session import train
from voc_cls.training.tracking import Tracker
from voc_cls.training.trained_run import TrainedRun

MOST_COLUMNS = 5
"""Seeds up to which the table has a column for each; more do not fit into a terminal."""


@dataclass(frozen=True)
class SeedsSummary:
    """Results by seed, then by name: the best validation, the headline metrics, average precisions of the classes;
    0-1, NaN where not defined."""

    path: Path
    results: Mapping[int, Mapping[str, float]]

    @property
    def spread(self) -> dict[str, tuple[float, float]]:
        """Mean and sample standard deviation (NaN for one seed) of every result."""
        runs = list(self.results.values())
        values = {name: np.array([run.get(name, np.nan) for run in runs]) for name in (runs[0] if runs else ())}
        return {name: (float(row.mean()), float(row.std(ddof=1)) if len(row) > 1 else float("nan"))
                for name, row in values.items()}

    def write(self, seeds: Sequence[int]) -> None:
        """Writes seeds.json: `seeds`, those asked for, the results of those that are done, mean and spread."""
        mean, deviation = ({name: values[place] for name, values in self.spread.items()} for place in (0, 1))
        write_json(self.path, json_ready({"seeds": list(seeds), "results": dict(self.results), "mean": mean,
                                          "standard_deviation": deviation}))


def train_seeds(config: TrainConfig, seeds: Sequence[int], console: Console, command: Sequence[str] = (),
                handle_signals: bool = False) -> SeedsSummary:
    """As `train`, once with each of `seeds`, into the folders seed-<seed> of `out`; finished ones are only evaluated.

    UsageError where a seed is there twice, training is on several hosts, or, without `resume`, `out` holds something.
    """
    check_ranges(config.run)
    out, resume = config.run.out, config.run.resume
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"`seeds` {' '.join(map(str, seeds))}: a seed is there twice, which would be the same run")
    if config.run.hosts > 1:
        raise UsageError(f"`seeds`: not with `hosts` {config.run.hosts}; start a run with each `seed`")
    chosen = [replace(config, training=replace(config.training, seed=seed),
                      network=replace(config.network, weights=weights_of(config.network.weights, seed)))
              for seed in seeds]
    if not resume:
        check_folder(RunFolder(out), config)
    results: dict[int, dict[str, float]] = {}
    summary = SeedsSummary(out / SUMMARY, results)
    tracker = Tracker(RunFolder(out), config.run.mlflow)
    with tracker.following():
        for seed, of_seed in zip(seeds, chosen, strict=True):
            folder = out / f"seed-{seed}"
            console.rule(f"seed {seed}")
            run = replace(config.run, out=folder, mlflow=tracker.uri or None,
                          resume=resume and (folder / "config.yaml").is_file())
            try:
                results[seed] = results_of(train(replace(of_seed, run=run), console, command, handle_signals))
            except Interrupted as stopped:
                raise Interrupted(signal.Signals(stopped.exit_code - 128), f"at seed {seed}, continue with `resume`, "
                                  f"`seeds` {' '.join(map(str, seeds))} and `out` {out}") from stopped
            finally:
                if out.is_dir():
                    summary.write(seeds)
    return summary


def weights_of(weights: str, seed: int) -> str:
    """What the run with `seed` starts from: of a folder of several seeds, or a run in it, the run with the same seed,
    which had the same validation images. What a resumed run has recorded so becomes that of the other seeds."""
    path = Path(weights)
    folder = path.parent if path.name.startswith("seed-") else path
    return str(folder / f"seed-{seed}") if (folder / SUMMARY).is_file() else weights


def results_of(trained: TrainedRun) -> dict[str, float]:
    """The results of one run, by name."""
    results = {}
    for name in CHOSEN_BY:
        if lines := [line for line in trained.history if line.get(name) is not None]:
            by_loss = trained.config["training"].get("monitor") == "loss"
            best = min(lines, key=lambda line: line["val_loss"]) if by_loss else max(lines, key=lambda line: line[name])
            results[name] = best[name]
    if trained.report is not None:
        results |= trained.report.headline
        results |= {f"AP {record['class']}": record["ap"] for record in trained.report.per_class}
    return results


def recorded_seeds(out: Path) -> tuple[int, ...]:
    """The seeds that were asked for in `out`; none where it is no folder of several seeds."""
    path = out / SUMMARY
    try:
        return tuple(map(int, read_json(path)["seeds"])) if path.is_file() else ()
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: cannot be read ({reason(error)}); delete it and name the `seeds`") from error


def seeds_table(summary: SeedsSummary) -> Table:
    """For the terminal: every result in percent, with its mean and standard deviation."""
    shown = list(summary.results) if len(summary.results) <= MOST_COLUMNS else []
    heading = [f"seed {seed}" for seed in shown] + ["mean", "±"]
    table = Table("", *(Column(text, justify="right") for text in heading),
                  title=f"{len(summary.results)} seeds, in percent", caption="±: standard deviation over the seeds")
    for name, (mean, deviation) in summary.spread.items():
        values = [summary.results[seed].get(name, float("nan")) for seed in shown]
        table.add_row(escape(name), *(percent(value) for value in (*values, mean)), percent(deviation))
    return table
