"""What a study comes to: trials.csv, trials.png, and a table of the best trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from rich.table import Column, Table

from voc_cls.data.figure_text import save_figure
from voc_cls.evaluation.report.page import percent
from voc_cls.files import write_csv

FOLDS, SECONDS, ERROR = "folds", "seconds", "error"
"""What Optuna keeps of a trial beside its settings: the scores, 0 to 1, how long it took, why it failed."""
BEST = 10
"""Trials in the table."""
PANEL = 3.2
"""Height of a chart, inches."""


def scores(trial: FrozenTrial) -> list[float]:
    """Of the folds that were computed, 0 to 1."""
    return list(trial.user_attrs.get(FOLDS, []))


def spread(trial: FrozenTrial) -> float:
    """Standard deviation of the scores over the folds."""
    return float(np.std(scores(trial), ddof=1))


def ranked(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Those with all folds, the best first."""
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: (-(trial.value or 0.0), trial.number))


def shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def parameters(trials: Sequence[FrozenTrial]) -> list[str]:
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def results_table(trials: Sequence[FrozenTrial], metric: str) -> Table:
    """The best trials, for 80 columns."""
    names, best = parameters(trials), ranked(trials)[:BEST]
    table = Table("trial", Column(metric, justify="right"), *names, title="The best trials, in percent",
                  caption="±: standard deviation over the folds")
    for trial in best:
        table.add_row(str(trial.number), f"{percent(trial.value or 0.0)} ± {percent(spread(trial))}",
                      *(shown(trial.params.get(name, "")) for name in names))
    return table


def write_table(path: Path, trials: Sequence[FrozenTrial]) -> None:
    """A CSV with a line for each trial; scores 0 to 1."""
    names, folds = parameters(trials), max(len(scores(trial)) for trial in trials)
    rows = [[trial.number, trial.state.name.lower(), trial.value, spread(trial) if len(scores(trial)) > 1 else None,
             *(dict(enumerate(scores(trial))).get(fold) for fold in range(folds)),
             *(trial.params.get(name) for name in names), trial.user_attrs.get(SECONDS), trial.user_attrs.get(ERROR)]
            for trial in trials]
    heading = ["trial", "state", "mean", "spread", *(f"fold_{fold}" for fold in range(1, folds + 1)), *names, SECONDS,
               ERROR]
    write_csv(path, heading, rows)


def draw(path: Path, trials: Sequence[FrozenTrial], metric: str) -> None:
    """A PNG: the score of each trial, and by each setting that varied; rings: pruned after some of the folds."""
    from matplotlib.figure import Figure

    drawn = [trial for trial in trials if scores(trial)]
    means = [100 * float(np.mean(scores(trial))) for trial in drawn]
    varied = [name for name in parameters(drawn) if len({trial.params.get(name) for trial in drawn}) > 1]
    figure = Figure(figsize=(PANEL * (1 + len(varied)), PANEL), layout="constrained")
    panels = figure.subplots(1, 1 + len(varied), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, ["trial", *varied], strict=True):
        values = [trial.number if name == "trial" else trial.params.get(name) for trial in drawn]
        number = isinstance(values[0], float)
        for pruned in (True, False):
            chosen = [place for place, trial in enumerate(drawn) if (trial.state is TrialState.PRUNED) is pruned]
            panel.scatter([values[place] if number or name == "trial" else str(values[place]) for place in chosen],
                          [means[place] for place in chosen], s=16, facecolors="none" if pruned else "tab:blue",
                          edgecolors="tab:blue", alpha=0.6)
        panel.set_xlabel(name)
        if number:
            panel.set_xscale("log")
    panels[0].set_ylabel(f"{metric}, mean over the folds, %")
    save_figure(figure, path)
