"""voc-tune: trials on cached features that are scored by cross-validation, kept, pruned and continued."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest
import yaml
from rich.console import Console

from tests.commands import command_in_process as command
from voc_cls.data.dataset import Dataset
from voc_cls.errors import Interrupted, RunError, UsageError
from voc_cls.nets.network import Network
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainingConfig
from voc_cls.training.search_space import StudyConfig, TuneConfig
from voc_cls.training.splits import Fold
from voc_cls.training.tune import CachedHead, tune

pytestmark = pytest.mark.slow  # builds networks; `make test-fast` leaves it out


@pytest.fixture
def search(devkit: Path, tmp_path: Path, small_network: Callable[..., Network]) -> Callable[..., str]:
    """Runs a study of a network of three blocks and returns what it prints: `search("study", trials=3)`."""
    small_network()  # known to the registry from now on

    def run(name: str, trials: int, training: TrainingConfig = TrainingConfig(), **study: object) -> str:  # noqa: B008
        said = Console(file=io.StringIO(), width=80, soft_wrap=True)
        study = {"heads": ("gap",), "augments": ("flip",), "cache_dir": tmp_path / "cache"} | study
        # the evaluation split, which does not exist, is not read
        config = TuneConfig(DatasetConfig((devkit,), eval_split="missing"), NetworkConfig("none", net="small_vgg"),
                            training=training, study=StudyConfig(tmp_path / name, trials, **study))  # type: ignore[arg-type]
        try:
            tune(config, said)
        finally:
            output = said.file.getvalue()  # type: ignore[attr-defined]
        return output

    return run


def trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open() as file:
        return list(csv.DictReader(file))


def outcomes(folder: Path) -> list[tuple[str, ...]]:
    """What the trials were and came to, without numbers and times."""
    return [tuple(value for name, value in trial.items() if name not in ("trial", "seconds"))
            for trial in trials(folder)]


def test_a_search_ends_with_its_trials_a_plot_and_a_config_that_voc_train_takes(search, tmp_path):
    said = search("study", 4, heads=("gap", "gap+max"), augments=("none", "flip"))
    table = trials(tmp_path / "study")
    assert [trial["state"] for trial in table] == ["complete"] * 4
    for trial in table:
        folds = [float(trial[f"fold_{number}"]) for number in (1, 2, 3)]
        assert float(trial["mean"]) == pytest.approx(np.mean(folds))
        assert float(trial["spread"]) == pytest.approx(np.std(folds, ddof=1))
    assert (tmp_path / "study/trials.png").read_bytes().startswith(b"\x89PNG")
    best = max(table, key=lambda trial: float(trial["mean"]))
    config = yaml.safe_load((tmp_path / "study/best.yaml").read_text())
    assert [config["network"]["head"], config["augmentation"]["augment"]] == [best["head"], best["augment"]]
    assert config["training"]["l2"] == float(best["l2"])
    assert "The best trials" in said
    assert max(map(len, said[said.index("The best trials"):].splitlines()[1:-1])) <= 80
    trained = command("voc-train", "--config", tmp_path / "study/best.yaml", "--train-split", "train",
                      "--val-split", "val", "--eval-split", "none", "--out", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    assert f"L2 {float(best['l2']):g}" in trained.stdout


def test_a_study_that_was_killed_goes_on_as_if_it_had_not_been(search, tmp_path):
    search("whole", 11)  # after ten random ones the sampler learns from the trials
    search("killed", 9)
    database = f"sqlite:///{tmp_path}/killed/study.db"
    optuna.load_study(study_name="voc-tune", storage=database).ask()  # a trial whose process is gone
    assert "9 of 11 trials are done" in search("killed", 11)
    assert outcomes(tmp_path / "killed") == outcomes(tmp_path / "whole")
    with pytest.raises(UsageError, match=r"^`study` .*killed: was begun with other settings: seed was 0, is 1; "):
        search("killed", 11, TrainingConfig(seed=1))


def test_ctrl_c_ends_a_search_with_what_it_has_and_another_command_continues_it(search, tmp_path, monkeypatch):
    predict = CachedHead.predict

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 5:
            signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # a real one would end the tests if it came too late
        return predict(*arguments)  # type: ignore[arg-type]

    calls: list[int] = []
    monkeypatch.setattr(CachedHead, "predict", interrupted)
    with pytest.raises(Interrupted, match=r"^stopped by SIGINT; the same command continues the study$") as stopped:
        search("study", 3)
    assert stopped.value.exit_code == 130
    assert len(trials(tmp_path / "study")) == 1
    search("study", 3)
    assert len(trials(tmp_path / "study")) == 3


def test_a_trial_below_the_median_of_the_others_is_pruned_after_its_first_fold(search, tmp_path, monkeypatch):
    def predict(_: CachedHead, __: object, train: Dataset, fold: Fold) -> np.ndarray:
        study = optuna.load_study(study_name="voc-tune", storage=f"sqlite:///{tmp_path}/study/study.db")
        sign = 1 if len(study.trials) <= 6 else -1
        return sign * train.labels[fold[1]]

    monkeypatch.setattr(CachedHead, "predict", predict)
    search("study", 7)
    table = trials(tmp_path / "study")
    assert [trial["state"] for trial in table] == ["complete"] * 6 + ["pruned"]
    assert [bool(table[6][f"fold_{number}"]) for number in (1, 2, 3)] == [True, False, False]


def test_a_smaller_number_of_trials_than_are_done_adds_none(search, tmp_path):
    search("study", 3)
    assert "3 of 3 trials are done" in search("study", 2)
    assert len(trials(tmp_path / "study")) == 3


def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(search, tmp_path, monkeypatch, caplog):
    def predict(*_: object) -> object:
        raise RunError("too much")

    search("study", 1)
    with monkeypatch.context() as patch:
        patch.setattr(CachedHead, "predict", predict)
        patch.setattr(logging.getLogger("optuna"), "propagate", True)
        assert "trial 1: RunError: too much\n" in search("study", 2)
        assert not caplog.records  # Optuna's, with Python's traceback
        with pytest.raises(RunError, match=r"none of its trials succeeded; the last one: RunError: too much$"):
            search("other", 1)
    search("study", 3)
    table = trials(tmp_path / "study")
    assert [(trial["state"], trial["error"]) for trial in table] == [
        ("complete", ""), ("fail", "RunError: too much"), ("complete", "")]


@pytest.mark.parametrize("damaged", [None, b"text", b"SQLite format 3\0" + bytes(4096)])
def test_a_study_that_cannot_be_used_is_refused_in_a_sentence(damaged, search, tmp_path):
    path = tmp_path / "study"
    if damaged is None:
        path.write_text("")
    else:
        path.mkdir()
        (path / "study.db").write_bytes(damaged)
    with pytest.raises(RunError, match=r"^`study` .*study: cannot be used \(.*\); choose another folder, or delete it"):
        search("study", 1)


def test_by_descent_the_learning_rate_varies_and_what_is_given_does_not(search, tmp_path):
    search("study", 2, TrainingConfig(steps=3, batch_size=8, l2=1e-4, schedule="cosine", swa=0.5), folds=2)
    table = trials(tmp_path / "study")
    assert "l2" not in table[0]
    assert len({trial["lr"] for trial in table}) == 2
    assert yaml.safe_load((tmp_path / "study/best.yaml").read_text())["training"]["l2"] == 1e-4


@pytest.mark.parametrize(("flags", "error"), [
    (("--augments", "mild"), "--augments mild, --head gap: every augmented picture is new; .*needs cached features"),
    (("--image-sizes", 32, -5), "--image-size -5: must be from"),
    (("--heads", "gap", "csra"), "--head csra: a search computes it by descent only; choose --solver descent"),
    (("--l2-range", 0, 0.1), "--l2-range 0: must be at least 1e-30"),
    (("--trainable", "conv5+"), "--trainable conv5[+]: a search trains heads alone; omit it"),
    (("--early-stopping", 3), "--early-stopping 3: needs a validation during training"),
    (("--folds", 1000), "--folds 1000: .* choose at most"),
])
def test_what_cannot_be_searched_is_refused_by_its_flag(flags, error, devkit, tmp_path, small_network):
    small_network()
    done = command("voc-tune", "--root", devkit, "--weights", "none", "--net", "small_vgg", "--heads", "gap", "--study",
                   tmp_path / "study", *flags)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert re.match(f"voc-tune: error: {error}", done.stderr), done.stderr


def test_a_head_that_does_not_exist_is_refused_wherever_it_is_named(devkit, tmp_path):
    flags = ("--root", devkit, "--weights", "none")
    assert command("voc-tune", *flags, "--heads", "gap", "pap").returncode == 2
    (tmp_path / "tune.yaml").write_text("study: {heads: [gap, pap]}\n")
    done = command("voc-tune", *flags, "--config", tmp_path / "tune.yaml")
    assert "study.heads: 'pap' is not one of fc, gap" in done.stderr


def test_trials_are_printed_as_json_and_nothing_else_is(devkit, tmp_path, small_network):
    small_network()
    done = command("voc-tune", "--root", devkit, "--weights", "none", "--net", "small_vgg", "--heads", "gap", "--study",
                   tmp_path / "study", "--trials", 2, "--eval-split", "none", "--json")
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [(trial["trial"], trial["state"]) for trial in printed["trials"]] == [(0, "complete"), (1, "complete")]
    assert f"trial 1: {printed['trials'][1]['mean']:.4f}" in done.stderr
