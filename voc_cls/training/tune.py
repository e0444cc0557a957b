"""Search for the settings of a head: each trial trains it on the cached features of the frozen layers, once for every
fold, and is scored on the images that were left out. Optuna chooses what to try, and keeps the trials."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.table import Column, Table
from sqlalchemy.exc import SQLAlchemyError

from voc_cls.console import progress_bar
from voc_cls.data.dataset import Dataset
from voc_cls.data.feature_cache import vectors
from voc_cls.data.figure_text import save_figure
from voc_cls.data.load import NONE
from voc_cls.data.pipeline import naming_broken_images, shuffled_order
from voc_cls.errors import RunError, UsageError
from voc_cls.files import locked, write_csv, write_text
from voc_cls.nets.network import Network
from voc_cls.ray_cluster import connected
from voc_cls.training.checkpoint import Preemption
from voc_cls.training.config import ResolvedConfig, fraction_of, to_dict
from voc_cls.training.convex import Problem, problem
from voc_cls.training.devices import compiles
from voc_cls.training.distribution import SINGLE
from voc_cls.training.freezing import freeze
from voc_cls.training.initial_weights import create_network
from voc_cls.training.losses import build_loss
from voc_cls.training.optimizer import averaged_weights, build_optimizer
from voc_cls.training.run_folder import REPEATABLE, differences, images_digest
from voc_cls.training.search_space import StudyConfig, TuneConfig
from voc_cls.training.splits import CrossValidation, Fold, Splits, read_splits
from voc_cls.training.trainable_part import TrainablePart, on_backbone_features, why_not_cached

Score = Callable[[tuple[Any, ...], ResolvedConfig, int], float]
"""(values of `TuneConfig.choices`, settings of a trial, index of a fold) → score, 0 to 1."""


@dataclass(frozen=True)
class CachedHead:
    """A head on the features of all training images, and the values that its variables have before each training."""

    network: Network
    part: TrainablePart
    initial: tuple[npt.NDArray[Any], ...]
    problem: Problem | None
    """What L-BFGS solves; None: the head is trained by descent."""

    def predict(self, config: ResolvedConfig, train: Dataset, fold: Fold) -> npt.NDArray[np.float32]:
        """Logits of the images of `train` that `fold` leaves out, after training on the others as `config` says."""
        if self.problem is not None:
            return self.problem.left_out(fold, config.training.l2)[0]
        (rest, left_out), part, training = fold, self.part, config.training
        trained = freeze(self.network, "head", training, config.settings.network.exclude)
        for variable, value in zip(part.model.variables, self.initial, strict=True):
            variable.assign(value)
        factors = trained.factors(part.model.trainable_variables, self.network.spec.scope)
        part.model.compile(build_optimizer(training, factors, float16=False), build_loss(config.loss, train),
                           jit_compile=compiles())
        order = shuffled_order(len(rest), training.steps, training.batch_size, training.seed)
        part.model.fit(part.batches(replace(order, index=rest[order.index])), verbose=0, shuffle=False)
        with averaged_weights(part.model.optimizer, training.eval_weights):
            return part.logits(part.inputs(train.subset(left_out, train.name)), len(left_out))


def cross_validation(base: TuneConfig) -> CrossValidation:
    """The training split and its folds; the images of the evaluation split are not read."""
    chosen, seed = base.dataset, base.training.seed
    evaluated = NONE if fraction_of(chosen.eval_split) is None else chosen.eval_split
    train = read_splits(replace(chosen, val_split=NONE, eval_split=evaluated), seed).train
    return CrossValidation.draw(train, base.study.folds, seed, chosen.group)


def cached_heads(base: TuneConfig, train: Dataset, check: Callable[[str | None], object], console: Console
                 ) -> dict[tuple[Any, ...], CachedHead]:
    """What trials are computed from, by the values of `TuneConfig.choices`. Parts of `train` are also validated.

    check: given the digest of the weights of each network.
    """
    splits, heads = Splits(train, val=train), dict[tuple[Any, ...], CachedHead]()
    for values in itertools.product(*base.choices.values()):
        config = base.varied(dict(zip(base.choices, values, strict=True))).resolved(train)
        chosen = config.settings.network
        console.print(f"head {chosen.head}, image size {chosen.image_size}, augmentation {values[-1]}:")
        network = create_network(chosen, train.classes, base.compute.precision, base.training.seed)
        check(network.digest)
        first = freeze(network, "head", config.training, chosen.exclude).first
        if reason := why_not_cached(network, first, splits, config):
            raise UsageError(f"`augments` {values[-1]}, `head` {chosen.head}: {reason}, but a search needs cached "
                             "features")
        part = on_backbone_features(SINGLE, network, first, splits, config, console.print,
                                    lambda faster: base.compute.feature_engine or faster())
        initial = tuple(keras.ops.convert_to_numpy(variable) for variable in part.model.variables)
        solved = (problem(vectors(part.rows), train, build_loss(config.loss, train))
                  if part.rows is not None and config.training.solver == "lbfgs" else None)
        heads[values] = CachedHead(network, part, initial, solved)
    return heads


@cache
def of_worker(base: TuneConfig) -> tuple[CrossValidation, dict[tuple[Any, ...], CachedHead]]:
    """What a worker of Ray computes all its folds from; the features are in the cache."""
    parts = cross_validation(base)
    return parts, cached_heads(base, parts.train, lambda _: None, Console(quiet=True))


def fold_score(parts: CrossValidation, heads: Mapping[tuple[Any, ...], CachedHead], choice: tuple[Any, ...],
               config: ResolvedConfig, fold: int) -> float:
    """The score on one fold of the head for these values of `TuneConfig.choices`, trained as `config` says."""
    return parts.score(parts.folds[fold], heads[choice].predict(config, parts.train, parts.folds[fold]))


@contextmanager
def scoring(base: TuneConfig, parts: CrossValidation, heads: Mapping[tuple[Any, ...], CachedHead]
            ) -> Iterator[tuple[Score, int]]:
    """What scores a fold, here or in the workers of Ray, and how many trials wait for it at once."""
    if not base.run.ray:
        yield partial(fold_score, parts, heads), 1
        return
    with connected() as ray:
        own = replace(base, run=replace(base.run, ray=False))
        worker = ray.remote(lambda *fold: fold_score(*of_worker(own), *fold))
        yield lambda *fold: float(ray.get(worker.remote(*fold))), int(ray.cluster_resources()["CPU"])


def mean_score(trial: optuna.Trial, base: TuneConfig, parts: CrossValidation,
               heads: Mapping[tuple[Any, ...], CachedHead], score: Score) -> float:
    """The mean score over the folds; TrialPruned as soon as it is below the median of the trials before. Other errors
    are kept with the trial."""
    scores = list[float]()
    try:
        values = {name: trial.suggest_categorical(name, options) for name, options in base.choices.items()}
        choice = tuple(values.values())
        ranges = {"l2": base.study.l2_range} | ({} if heads[choice].problem else {"lr": base.study.lr_range})
        values |= {name: trial.suggest_float(name, min(limits), max(limits), log=True)
                   for name, limits in ranges.items() if getattr(base.training, name) is None}
        config = base.varied(values).resolved(parts.train)
        for number in range(1, len(parts.folds) + 1):
            scores.append(score(choice, config, number - 1))
            trial.set_user_attr(f"fold_{number}", scores[-1])
            trial.report(float(np.mean(scores)), number)
            if number < len(parts.folds) and trial.should_prune():
                raise optuna.TrialPruned
    except Exception as error:
        if not isinstance(error, optuna.TrialPruned):
            cause = getattr(error, "cause", error)  # Ray's has the traceback in its text
            trial.set_user_attr("error", f"{type(cause).__name__}: {' '.join(str(cause).split())}")
        raise
    trial.set_user_attr("spread", float(np.std(scores, ddof=1)))
    return float(np.mean(scores))


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Makes the folder of a study; inside and before, RunError where study.db is damaged or cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, PermissionError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise RunError(f"`study` {folder}: cannot be used ({getattr(error, 'orig', error)}); choose another folder, or "
                       "delete it to begin again") from error


def tune(config: TuneConfig, console: Console) -> list[dict[str, Any]]:
    """Begins or continues a study, and writes its results, also where Ctrl-C or SIGTERM end it (Interrupted). Returns
    what trials.csv has."""
    base = config.base()
    folder, seed = base.study.study, base.training.seed
    parts = cross_validation(base)
    train = parts.train

    def reseed(study: optuna.Study) -> None:
        # by the number of trials, not by what was drawn before: a study that is continued goes on exactly. A trial
        # whose process was killed stays RUNNING, and counts nowhere
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(finished(study)), constant_liar=base.run.ray)

    with (usable(folder), locked(folder, lambda: console.print(f"{folder}: waiting for another voc-tune")),
          Preemption(then="the same command continues the study").watching(), naming_broken_images(train.paths)):
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it tells a failed trial with Python's traceback
        study = optuna.create_study(storage=f"sqlite:///{(folder / 'study.db').absolute()}", study_name="voc-tune",
                                    direction="maximize", pruner=optuna.pruners.MedianPruner(), load_if_exists=True)
        settings = to_dict(replace(base, study=replace(base.study, study=Path(), trials=1)))
        del settings["study"]["json"]  # decides nothing
        keep(study, base.study, {group: settings[group] for group in (*REPEATABLE, "study")}
             | {"data": {"pictures_digest": images_digest(train)}})
        done = len(finished(study))
        console.print(f"{train.name}: {len(train):,} pictures in {len(parts.folds)} folds; {done} of "
                      f"{max(done, base.study.trials)} trials are done")
        try:
            heads = cached_heads(base, train, lambda digest: keep(study, base.study, {
                "weights": {"weights_digest": digest}}), console)
            reseed(study)
            with scoring(base, parts, heads) as (score, jobs), progress_bar(console) as bar:
                task = bar.add_task("search", total=base.study.trials, completed=done, note="trials")

                def follow(study: optuna.Study, trial: FrozenTrial) -> None:
                    reseed(study)
                    told = f"{trial.value:.4f}" if trial.state is TrialState.COMPLETE else "pruned"
                    console.print(f"trial {trial.number}: {trial.user_attrs.get('error', told)}")
                    bar.advance(task)

                study.optimize(lambda trial: mean_score(trial, base, parts, heads, score), base.study.trials - done,
                               n_jobs=jobs, catch=(Exception,), callbacks=[follow])
        finally:
            rows = write_results(base, study, "accuracy" if train.single_label else "mean AP", console)
    if not any(row["state"] == "complete" for row in rows):
        raise RunError(f"`study` {folder}: none of its trials succeeded; the last one: "
                       f"{rows[-1].get('error', 'no score')}")
    return rows


def keep(study: optuna.Study, chosen: StudyConfig, settings: Mapping[str, Mapping[str, Any]]) -> None:
    """Records what decides the trials; UsageError where the study was begun with something else."""
    if changed := differences({**settings, **study.user_attrs}, settings):
        raise UsageError(f"`study` {chosen.study}: was begun with other settings: {'; '.join(changed)}; choose another "
                         "folder, or the same settings")
    for group, values in settings.items():
        study.set_user_attr(group, values)


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: none that was interrupted."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL))


def write_results(base: TuneConfig, study: optuna.Study, metric: str, console: Console) -> list[dict[str, Any]]:
    """Writes trials.csv (returned) and, where one has all folds, trials.png and best.yaml; prints the best. 0-1."""
    folder = base.study.study
    rows: list[dict[str, Any]] = [
        {"trial": trial.number, "state": trial.state.name.lower(), "mean": trial.value, **trial.user_attrs,
         **trial.params, "seconds": trial.duration and trial.duration.total_seconds()} for trial in finished(study)]
    heading = list(dict.fromkeys(name for row in rows for name in row))
    write_csv(folder / "trials.csv", heading, [[row.get(name) for name in heading] for row in rows])
    complete = sorted((row for row in rows if row["state"] == "complete"), key=lambda row: -row["mean"])
    if not complete:
        return rows
    values, best = study.best_params, complete[0]
    settings = to_dict(base.varied(values))
    text = yaml.safe_dump({group: settings[group] for group in REPEATABLE}, sort_keys=False, allow_unicode=True)
    write_text(folder / "best.yaml", f"# Trial {best['trial']} of voc-tune: {metric} {best['mean']:.4f} ± "
                                     f"{best['spread']:.4f} over the folds\n{text}")
    draw(folder / "trials.png", complete, ["trial", *values], metric)
    table = Table("trial", metric, "±", *(Column(name, overflow="fold") for name in values), title="The best trials")
    for row in complete[:10]:
        cells = (f"{row[name]:.3g}" if isinstance(row[name], float) else str(row[name]) for name in values)
        table.add_row(str(row["trial"]), f"{row['mean']:.4f}", f"{row['spread']:.4f}", *cells)
    console.print(table, soft_wrap=False)
    console.print(f"voc-train --config {folder / 'best.yaml'} --out runs/best")
    return rows


def draw(path: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str], metric: str) -> None:
    """A PNG: the score of trials by each of `names`: their number, and their settings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(names), 3), layout="constrained")
    for panel, name in zip(figure.subplots(1, len(names), sharey=True), names, strict=True):
        values = [str(row[name]) if name == "image_size" else row[name] for row in rows]
        panel.scatter(values, [row["mean"] for row in rows], s=16, alpha=0.6)
        panel.set_xlabel(name)
        if isinstance(values[0], float):
            panel.set_xscale("log")
    figure.supylabel(f"{metric}, mean over the folds")
    save_figure(figure, path)
