"""Search for the settings of a head: each trial trains it on the cached features of the frozen layers, once for every
fold, and is scored on the images that were left out. Optuna chooses what to try, and keeps the trials."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import optuna
import yaml
from optuna.trial import FrozenTrial, Trial, TrialState
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError
from threadpoolctl import threadpool_limits

from voc_cls.data.dataset import Dataset
from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.data.load import NONE
from voc_cls.data.pipeline import naming_broken_images, shuffled_order
from voc_cls.errors import DataError, Interrupted, RunError, UsageError
from voc_cls.evaluation.tasks import score
from voc_cls.files import file_digests, locked, write_text
from voc_cls.nets.network import Network
from voc_cls.training.backbone import BATCH_SIZE, feature_batches, feature_rows
from voc_cls.training.callbacks import progress_bar
from voc_cls.training.checkpoint import Preemption
from voc_cls.training.config import RunConfig, TrainConfig, fraction_of, to_dict
from voc_cls.training.convex import Problem, Turn, problem
from voc_cls.training.devices import FeatureEngine, compiles
from voc_cls.training.distribution import SINGLE
from voc_cls.training.freezing import freeze
from voc_cls.training.initial_weights import CreatedNetwork, create_network
from voc_cls.training.losses import build_loss
from voc_cls.training.optimizer import averaged_weights, build_optimizer
from voc_cls.training.run_folder import REPEATABLE, images_digest
from voc_cls.training.search_space import TuneConfig, with_values
from voc_cls.training.splits import Splits, read_splits
from voc_cls.training.study_results import (
    ERROR,
    FOLDS,
    SECONDS,
    draw,
    ranked,
    results_table,
    shown,
    spread,
    write_table,
)
from voc_cls.training.trainable_part import TrainablePart, on_backbone_features, why_not_cached

Rows = npt.NDArray[np.int64]
SETTINGS, WEIGHTS, ENGINE = "settings", "weights", "engine"
"""What Optuna keeps of the study: all that decides its trials."""


@dataclass(frozen=True)
class CachedHead:
    """A head, and the features of all training images that it is trained on."""

    network: Network
    part: TrainablePart
    initial: tuple[npt.NDArray[Any], ...]
    """Of all variables of the part's model: every fold of every trial starts from them."""
    turned: dict[bytes, tuple[Problem, Turn]] = field(default_factory=dict)
    """What L-BFGS solves, by the images of the fold: the penalty alone differs from trial to trial."""

    def predict(self, config: TrainConfig, train: Dataset, rest: Rows, left_out: Rows) -> npt.NDArray[np.float32]:
        """Logits of the images `left_out` of `train`, as they are, after training on `rest`, as `config` says."""
        features, fold = self.part.rows, train.subset(rest, train.name)
        assert features is not None
        views, resolved = len(features) // len(train), config.resolved(fold)
        seen, loss = features.part((rest[:, None] * views + np.arange(views)).ravel()), build_loss(resolved.loss, fold)
        unseen, training = features.part(left_out * views), resolved.training
        if training.solver == "lbfgs":
            if (key := rest.tobytes()) not in self.turned:
                self.turned[key] = problem(vectors(seen), fold, loss).turned()
            turned, turn = self.turned[key]
            return turn.back(turned.solve(training.l2)).logits(vectors(unseen))
        model = self.part.model
        trained = freeze(self.network, "head", training, config.network.exclude)
        for variable, value in zip(model.variables, self.initial, strict=True):
            variable.assign(value)
        factors = trained.factors(model.trainable_variables, self.network.spec.scope)
        model.compile(build_optimizer(training, factors, float16=False), loss, jit_compile=compiles())
        order = shuffled_order(len(fold), training.steps, training.batch_size, training.seed)
        model.fit(feature_batches(seen, fold.targets, order), verbose=0, shuffle=False)
        with averaged_weights(model.optimizer) if training.eval_weights != "raw" else nullcontext():
            return self.part.logits(feature_rows(unseen, BATCH_SIZE), len(left_out))


def vectors(rows: CachedRows) -> npt.NDArray[np.float32]:
    """[N, …] as [N, D]."""
    return np.asarray(rows[:], np.float32).reshape(len(rows), -1)


@dataclass(frozen=True)
class Search:
    """A study that goes on: what varies in the training `base`, and what its trials are computed from."""

    config: TuneConfig
    base: TrainConfig
    train: Dataset
    folds: list[tuple[Rows, Rows]]
    heads: dict[tuple[Any, ...], CachedHead]
    """By what decides the features, in the order of `TuneConfig.choices`."""
    study: optuna.Study
    console: Console

    def run(self) -> None:
        """Trials until there are enough, or the time is up."""
        limits, started = self.config.study, time.monotonic()
        with progress_bar(self.console) as bar:
            task = bar.add_task("trials", total=limits.trials, note="")
            while (done := len(finished(self.study))) < limits.trials:
                bar.update(task, completed=done, note=self._best())
                if limits.timeout is not None and time.monotonic() - started >= 60 * limits.timeout:
                    break
                # by the number of trials, not by what was drawn before: so a study that is continued goes on exactly
                self.study.sampler = optuna.samplers.TPESampler(seed=self.base.training.seed + done)
                self._try(self.study.ask())
            bar.update(task, completed=done, note=self._best())

    def _try(self, trial: Trial) -> None:
        """One trial; whatever fails in it is recorded."""
        started, best = time.monotonic(), self._best()
        try:
            value = self._score(trial)
        except optuna.TrialPruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        except BaseException as error:
            if isinstance(error, Exception):
                trial.set_user_attr(ERROR, f"{type(error).__name__}: {' '.join(str(error).split())}")
            self.study.tell(trial, state=TrialState.FAIL)
            if not isinstance(error, Exception):
                raise
        else:
            trial.set_user_attr(SECONDS, round(time.monotonic() - started, 2))
            self.study.tell(trial, value)
            if self._best() != best:
                self.console.print(f"{self._best()}: {described(trial.params)}", highlight=False, soft_wrap=True)

    def _score(self, trial: Trial) -> float:
        """The mean score over the folds; TrialPruned as soon as it is below the median of the trials before."""
        limits, choices = self.config.study, self.config.choices()
        values = {name: trial.suggest_categorical(name, options) for name, options in choices.items()}
        head = self.heads[tuple(values.values())]
        if self.base.training.l2 is None:
            values["l2"] = trial.suggest_float("l2", *limits.l2_range, log=True)
        config = with_values(self.base, values)
        if config.training.solver != "lbfgs" and self.base.training.lr is None:
            config = with_values(self.base, values | {"lr": trial.suggest_float("lr", *limits.lr_range, log=True)})
        scores: list[float] = []
        for rest, left_out in self.folds:
            logits = head.predict(config, self.train, rest, left_out)
            scores.append(score(self.train.subset(left_out, self.train.name), logits).rank)
            trial.set_user_attr(FOLDS, scores)
            trial.report(float(np.mean(scores)), len(scores))
            if math.isnan(scores[-1]):
                raise DataError(f"{self.train.name}: no class is in all of its folds; choose fewer `folds`")
            if len(scores) < len(self.folds) and trial.should_prune():
                raise optuna.TrialPruned
        return float(np.mean(scores))

    def _best(self) -> str:
        done = ranked(self.study.trials)
        return f"best {100 * (done[0].value or 0):.2f} in trial {done[0].number}" if done else ""


def described(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {shown(value)}" for name, value in values.items())


def finished(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that count: none that was interrupted."""
    return [trial for trial in study.trials if trial.state.is_finished()
            and (trial.state is not TrialState.FAIL or ERROR in trial.user_attrs)]


def write_results(folder: Path, study: optuna.Study, base: TrainConfig, metric: str, console: Console) -> None:
    """Writes trials.csv, trials.png and best.yaml, as far as there are trials for them, and prints the best ones."""
    trials = finished(study)
    if trials:
        write_table(folder / "trials.csv", trials)
    if best := ranked(trials):
        draw(folder / "trials.png", trials, metric)
        text = yaml.safe_dump({group: values for group, values in to_dict(with_values(base, best[0].params)).items()
                               if group in REPEATABLE}, sort_keys=False, allow_unicode=True)
        write_text(folder / "best.yaml", f"# Trial {best[0].number} of voc-tune: {metric} {best[0].value:.4f} ± "
                                         f"{spread(best[0]):.4f} over the folds\n{text}")
        console.print(results_table(trials, metric))
        console.print(f"voc-train --config {folder / 'best.yaml'} --out runs/best", highlight=False, soft_wrap=True)


def tune(config: TuneConfig, console: Console) -> None:
    """Begins or continues a study, and writes its results, also where Ctrl-C or SIGTERM end it (Interrupted).

    The images of the evaluation split are not read.
    """
    base, folder = config.base(), config.study.study
    chosen, seed = base.dataset, base.training.seed
    evaluated = NONE if fraction_of(chosen.eval_split) is None else chosen.eval_split
    train = read_splits(replace(chosen, val_split=NONE, eval_split=evaluated), seed).train
    folds = train.stratified(train.grouping(chosen.group), file_digests(train.paths)).folds(config.study.folds, seed)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, partial(_refuse, folder)), Preemption().watching(), naming_broken_images(train.paths):
        study = open_study(folder, {**to_dict(replace(base, run=RunConfig())), "choices": config.choices(),
                                    "folds": config.study.folds, "l2_range": config.study.l2_range,
                                    "lr_range": config.study.lr_range, "pictures": images_digest(train)})
        console.print(f"{train.name}: {len(train):,} pictures in {len(folds)} folds; {len(finished(study))} of "
                      f"{config.study.trials} trials are done", highlight=False)
        try:
            heads = cached_heads(base, train, config.choices(), study, console)
            with threadpool_limits(1, "blas"):  # matrices are small; threads that wait for each other cost more
                Search(config, base, train, folds, heads, study, console).run()
        except Interrupted as error:
            raise Interrupted(Signals(error.exit_code - 128), "the same command continues the study") from None
        finally:
            write_results(folder, study, base, "accuracy" if train.single_label else "mean AP", console)
    if not ranked(study.trials):
        raise RunError(f"`study` {folder}: none of its trials succeeded; the last one: "
                       f"{finished(study)[-1].user_attrs.get(ERROR)}")


def _refuse(folder: Path) -> None:
    raise RunError(f"`study` {folder}: another voc-tune is running there; wait for it, or choose another folder")


def open_study(folder: Path, settings: Mapping[str, Any]) -> optuna.Study:
    """The study in `folder`, a new one where there is none; UsageError where it was begun with other settings."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    file = (folder / "study.db").absolute()
    try:
        study = optuna.create_study(storage=f"sqlite:///{file}", study_name="voc-tune", direction="maximize",
                                    pruner=optuna.pruners.MedianPruner(), load_if_exists=True)
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise RunError(f"{file}: not a study of voc-tune ({str(error).splitlines()[0]}); choose another `study`"
                       ) from error
    now = flat(json.loads(json.dumps(settings, default=str)))
    begun = study.user_attrs.get(SETTINGS, now)
    if changed := [name for name in now if now[name] != begun.get(name)]:
        raise UsageError(f"`study` {folder}: was begun with {changed[0]} {begun.get(changed[0])}, now it is "
                         f"{now[changed[0]]}; choose another folder, or the same settings")
    study.set_user_attr(SETTINGS, now)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)  # its process was killed
    return study


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """{"training": {"seed": 0}} → {"training.seed": 0}."""
    return {name if key is None else f"{name}.{key}": entry for name, value in settings.items()
            for key, entry in (value.items() if isinstance(value, dict) else [(None, value)])}


def cached_heads(base: TrainConfig, train: Dataset, choices: Mapping[str, Sequence[Any]], study: optuna.Study,
                 console: Console) -> dict[tuple[Any, ...], CachedHead]:
    """What trials are computed from, for all combinations of the `choices`. A network is built once for a head and a
    size; the features come from the cache or are computed, by one engine for the whole study."""
    def show(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    def engine(faster: Callable[[], FeatureEngine]) -> FeatureEngine:
        chosen: FeatureEngine = study.user_attrs.get(ENGINE) or base.compute.feature_engine or faster()
        study.set_user_attr(ENGINE, chosen)
        return chosen

    splits, networks = Splits(train), dict[tuple[Any, ...], CreatedNetwork]()
    heads = dict[tuple[Any, ...], CachedHead]()
    combinations = itertools.product(*choices.values())
    for values in sorted(combinations, key=lambda values: values[-1] == "none"):  # their features are part of others'
        config = with_values(base, dict(zip(choices, values, strict=True)))
        resolved, chosen = config.resolved(train), config.network
        if (network := networks.get(values[:2])) is None:
            show(f"{described(dict(zip(choices, values[:2], strict=False)))}:")
            network = networks[values[:2]] = create_network(chosen, train.classes, base.compute.precision,
                                                            base.training.seed)
            if study.user_attrs.get(WEIGHTS, network.digest) != network.digest:
                raise UsageError(f"`weights` {chosen.weights}: are not those that the study was begun with; choose "
                                 "another `study`")
            study.set_user_attr(WEIGHTS, network.digest)
        first = freeze(network, "head", resolved.training, chosen.exclude).first
        if reason := why_not_cached(network, first, splits, resolved):
            raise UsageError(f"`augments` {values[-1]}, `head` {chosen.head}: {reason}, but a search needs cached "
                             "features")
        cache = FeatureCache(resolved.cache / "arrays", base.compute.cache_gb, show)
        part = on_backbone_features(SINGLE, network, first, splits, resolved, cache, engine)
        initial = tuple(keras.ops.convert_to_numpy(variable) for variable in part.model.variables)
        heads[values] = CachedHead(network, part, initial)
    return heads
