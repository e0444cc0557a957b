"""fit: exact numbers of steps, checkpoints that carry everything, signals, a loss that is no number."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.data.pipeline import Order, prefetched, shuffled_order
from voc_cls.errors import Interrupted, RunError
from voc_cls.evaluation.tasks import score
from voc_cls.training import callbacks
from voc_cls.training.backbone import feature_rows
from voc_cls.training.callbacks import RANK, Validation
from voc_cls.training.checkpoint import Preemption, checkpoints
from voc_cls.training.config import ResolvedTraining
from voc_cls.training.fit import Fit
from voc_cls.training.losses import MultiLabelLoss, SingleLabelLoss
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.splits import Splits
from voc_cls.training.tracking import Tracker
from voc_cls.training.trainable_part import TrainablePart, finite

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(30, 8)).astype(np.float32)
TARGETS = (RANDOM.random((30, 3)) < 0.5).astype(np.float32)
PICTURES = [Path(f"{number:02d}.jpg") for number in range(30)]
TRAIN = Dataset("train", ("a", "b", "c"), tuple(PICTURES), TARGETS, np.zeros(TARGETS.shape, bool),
                DifficultPolicy.IGNORE)
VAL = replace(TRAIN, name="val")
INTERVAL = 5
Hook = Callable[[int], Any]


def nothing(_: int) -> None:
    """The hook of most tests."""


def part(dtype: str = "float32", hook: Hook = nothing, features: np.ndarray = FEATURES) -> TrainablePart:
    """A small network with dropout; `hook` is called with the number of every batch that is read."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(16, dtype=dtype)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, dtype="float32")(hidden))

    def batches(order: Order) -> tf.data.Dataset:
        def read() -> Any:
            for number, index in enumerate(order.index):
                hook(number)
                yield features[index], TARGETS[index]

        shapes = tf.TensorSpec((None, 8)), tf.TensorSpec((None, 3))
        return prefetched(tf.data.Dataset.from_generator(read, output_signature=shapes))

    return TrainablePart(model, model, batches, lambda _: feature_rows(features, 32), "")


def train(folder: Path, steps: int, of: int | None = None, val: Dataset | None = None,
          preemption: Preemption | None = None, made: TrainablePart | None = None, **config: Any) -> keras.Model:
    """Trains `steps` of the `of` steps whose order was planned, as a run killed at a checkpoint has."""
    folder.mkdir(exist_ok=True)
    trained = made or part()
    order = shuffled_order(30, of or steps, 4, seed=0).steps_between(0, steps)
    settings = ResolvedTraining(**{"lr": 1e-2, "l2": 0.0, "steps": of or steps, "eval_weights": "raw",
                                   "interval": INTERVAL, **config})
    loss = SingleLabelLoss() if val is not None and val.single_label else MultiLabelLoss()
    Fit(trained, settings, Splits(TRAIN, val), order, loss, (1.0,) * 4, RunFolder(folder),
        preemption or Preemption(), Console(quiet=True), Tracker(RunFolder(folder), None)).run()
    return trained.model


def same(first: keras.Model, second: keras.Model) -> bool:
    return all(np.array_equal(ours.numpy(), theirs.numpy())
               for ours, theirs in zip(first.variables, second.variables, strict=True))


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line in found:
        line.pop("seconds")
    return found


EVERYTHING: dict[str, Any] = {"schedule": "plateau", "plateau_patience": 1, "ema": 0.9, "eval_weights": "ema",
                              "early_stopping": 100, "clip_norm": 1.0, "accumulate": 2}


Run = tuple[keras.Model, list[dict[str, Any]]]
"""A trained model and the lines of its metrics.jsonl."""


@pytest.fixture(scope="module")
def with_everything(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """20 steps without an interruption: what interrupted runs must end as."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return train(folder, 20, val=VAL, **EVERYTHING), lines(folder)


@pytest.mark.parametrize("config", [{}, {"schedule": "cosine", "warmup_steps": 3, "swa": 0.4, "eval_weights": "swa"}])
def test_a_run_goes_on_bit_for_bit(tmp_path: Path, config: dict[str, Any]):
    whole = train(tmp_path / "whole", 20, val=VAL, **config)
    assert_goes_on(tmp_path / "parts", (whole, lines(tmp_path / "whole")), config)


def test_a_run_goes_on_bit_for_bit_with_what_its_callbacks_remember(tmp_path: Path, with_everything: Run):
    assert_goes_on(tmp_path / "parts", with_everything, EVERYTHING)


def assert_goes_on(folder: Path, whole: Run, config: dict[str, Any]) -> None:
    train(folder, 15, of=20, val=VAL, **config)
    unfinish(folder)
    assert same(train(folder, 20, val=VAL, **config), whole[0])
    assert lines(folder) == whole[1]


def unfinish(folder: Path) -> None:
    """A run of fewer steps says that it is finished; one that was killed there does not."""
    path = checkpoints(RunFolder(folder))[-1]
    with np.load(path) as arrays:
        values = dict(arrays)
    values["saved"] = np.array(json.dumps(json.loads(str(values["saved"])) | {"finished": False}))
    np.savez(path, **values)


@pytest.mark.parametrize("batch", [2, 5, 6, 17])
def test_sigterm_saves_within_an_interval_and_the_run_ends_as_if_it_had_not_come(
        tmp_path: Path, batch: int, with_everything: Run):
    preemption = Preemption()

    def terminate(number: int) -> None:
        if number == batch:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match=r"stopped by SIGTERM; step \d+ of 20 is saved") as stopped, \
            preemption.watching():
        train(tmp_path / "parts", 20, val=VAL, preemption=preemption, made=part(hook=terminate), **EVERYTHING)
    assert stopped.value.exit_code == 143
    assert same(train(tmp_path / "parts", 20, val=VAL, **EVERYTHING), with_everything[0])
    assert lines(tmp_path / "parts") == with_everything[1]


def test_exactly_the_steps_asked_for_are_taken(tmp_path: Path):
    assert int(train(tmp_path / "run", 13).optimizer.iterations.numpy()) == 13


def test_a_plateau_lowers_the_rate_and_early_stopping_ends_the_run_for_good(tmp_path: Path):
    stuck: dict[str, Any] = {"lr": 1e-12}
    model = train(tmp_path / "plateau", 20, val=VAL, **stuck | {"schedule": "plateau", "plateau_patience": 2,
                                                               "plateau_factor": 0.1})
    assert float(model.optimizer.learning_rate) < 1.1e-13
    stopped = train(tmp_path / "early", 100, val=VAL, early_stopping=2, **stuck)
    assert int(stopped.optimizer.iterations.numpy()) == 3 * INTERVAL
    resumed = train(tmp_path / "early", 100, val=VAL, early_stopping=2, **stuck)
    assert same(resumed, stopped)
    assert len(lines(tmp_path / "early")) == 3


def test_a_single_label_run_keeps_the_weights_of_the_best_accuracy_and_of_equal_ones_the_lowest_loss(tmp_path: Path):
    one_hot = np.eye(3, dtype=np.float32)[TARGETS.argmax(axis=1)]
    single = replace(VAL, labels=one_hot, task=Task.SINGLE_LABEL)
    model = train(tmp_path / "run", 60, val=single, lr=1e-1)
    written = lines(tmp_path / "run")
    assert len(written) == 12
    assert all(set(line) == {"step", "lr", "loss", "val_accuracy", "val_loss"} for line in written)
    best = max(written, key=lambda line: (line["val_accuracy"], -line["val_loss"]))
    model.load_weights(tmp_path / "run/best.weights.h5")
    found = score(single, model.predict(FEATURES, verbose=0)).metrics
    assert found["val_accuracy"] == pytest.approx(best["val_accuracy"], abs=1e-5)
    assert found["val_loss"] == pytest.approx(best["val_loss"], abs=1e-5)


def test_an_early_end_waits_while_the_loss_falls_at_the_same_accuracy():
    always = replace(VAL, labels=np.eye(3, dtype=np.float32)[np.zeros(30, int)], task=Task.SINGLE_LABEL)
    sure = np.repeat(np.array([[1.0, 0, 0]], np.float32), 30, axis=0)
    falling = iter([factor * sure for factor in (1, 2, 3, 3, 3, 3)])  # right from the start, and surer twice
    validation = Validation(lambda: next(falling), lambda logits: score(always, logits), lambda: None)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    stop = keras.callbacks.EarlyStopping(patience=2, monitor=RANK, mode="max")
    history = model.fit(np.zeros((2, 1)), np.zeros((2, 1)), epochs=6, verbose=0, callbacks=[validation, stop])
    assert len(history.epoch) == 5
    assert history.history["val_accuracy"] == [1.0] * 5


def test_the_loss_can_decide_instead_of_the_score_and_small_gains_may_not_count(tmp_path: Path):
    model = train(tmp_path / "run", 60, val=VAL, lr=1e-1, monitor="loss")
    written = lines(tmp_path / "run")
    best = min(written, key=lambda line: line["val_loss"])
    assert best["val_loss"] < written[-1]["val_loss"]
    model.load_weights(tmp_path / "run/best.weights.h5")
    logits = model.predict(FEATURES, verbose=0)
    assert float(MultiLabelLoss()(TARGETS, logits)) == pytest.approx(best["val_loss"], abs=1e-5)
    train(tmp_path / "early", 100, val=VAL, lr=1e-6, monitor="loss", early_stopping=2, min_delta=0.5)
    assert len(lines(tmp_path / "early")) == 3  # the loss falls in each, but by less than 0.5


def test_the_average_is_validated_and_both_kinds_of_last_weights_are_kept(tmp_path: Path):
    model = train(tmp_path / "run", 20, val=VAL, ema=0.9, eval_weights="ema")
    raw = model.get_weights()
    model.load_weights(tmp_path / "run/last.raw.weights.h5")
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(model.get_weights(), raw, strict=True))
    model.load_weights(tmp_path / "run/last.weights.h5")
    assert not np.array_equal(model.get_weights()[0], raw[0])


def test_float16_layers_are_trained_with_a_scaled_loss(tmp_path: Path):
    assert isinstance(train(tmp_path / "run", 5, made=part("mixed_float16")).optimizer,
                      keras.optimizers.LossScaleOptimizer)


def test_as_many_checkpoints_are_kept_as_asked_for(tmp_path: Path):
    train(tmp_path / "run", 23, keep_checkpoints=3)
    assert [path.name for path in checkpoints(RunFolder(tmp_path / "run"))] == [
        "step-00000015.npz", "step-00000020.npz", "step-00000023.npz"]


def test_an_unreadable_checkpoint_falls_back_on_the_one_before(tmp_path: Path):
    whole = train(tmp_path / "whole", 20)
    train(tmp_path / "parts", 15, of=20, keep_checkpoints=2)
    newest = checkpoints(RunFolder(tmp_path / "parts"))[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    assert same(train(tmp_path / "parts", 20, keep_checkpoints=2), whole)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    np.savez(tmp_path / "checkpoints/step-00000005.npz", saved="{}", v0=np.zeros(3))
    with pytest.raises(RunError, match="has 1 variables"):
        train(tmp_path, 10)


def test_a_checkpoint_that_is_no_file_of_ours_is_refused(tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/step-00000005.npz").write_bytes(b"half")
    with pytest.raises(RunError, match="cannot be read"):
        train(tmp_path, 10)


def test_a_loss_that_is_no_number_names_the_step_and_its_pictures(tmp_path: Path):
    broken = FEATURES.copy()
    broken[17] = np.nan
    order = shuffled_order(30, 20, 4, seed=0)
    step = next(number for number, index in enumerate(order.index) if 17 in index)
    names = ", ".join(PICTURES[index].name for index in order.index[step])
    with pytest.raises(RunError, match=f"the loss is nan at step {step + 1}, whose pictures are {names};"):
        train(tmp_path / "run", 20, made=part(features=broken))


class OnDevice:
    """A loss on an accelerator, which counts how often it is fetched."""

    fetched = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def __float__(self) -> float:
        type(self).fetched += 1
        return self.value


def test_the_loss_is_fetched_now_and_then_and_at_the_end_of_an_interval(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(callbacks, "LOSS_SECONDS", 1e9)
    steps = callbacks.Steps(0, 100, 100)
    watch = callbacks.FiniteLoss(steps, shuffled_order(30, 100, 4, seed=0), PICTURES)
    for _ in range(50):
        steps.done += 1
        watch.on_train_batch_end(0, {"loss": OnDevice(1.0)})
    assert OnDevice.fetched == 1
    watch.on_train_batch_end(0, {"loss": OnDevice(np.inf)})
    with pytest.raises(RunError, match="the loss is inf at step 50,"):
        watch.on_epoch_end(0)


def test_keras_does_not_fetch_the_logs_of_a_step_for_the_callbacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kinds = []
    monkeypatch.setattr(callbacks.FiniteLoss, "on_train_batch_end",
                        lambda _, batch, logs: kinds.append(type(logs["loss"])))  # noqa: ARG005
    train(tmp_path / "run", 5)
    assert len(kinds) == 5
    assert float not in kinds


def test_a_run_that_diverged_is_not_saved_when_a_signal_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(callbacks, "LOSS_SECONDS", 1e9)
    preemption = Preemption()

    def terminate(number: int) -> None:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunError, match="the loss is nan at step 1,"), preemption.watching():
        train(tmp_path / "run", 20, preemption=preemption, made=part(hook=terminate, features=FEATURES * np.nan),
              interval=20)
    assert not checkpoints(RunFolder(tmp_path / "run"))


def test_outputs_that_are_no_numbers_end_the_run():
    with pytest.raises(RunError, match="diverged"):
        finite(np.array([[0.0, np.nan]], np.float32))
