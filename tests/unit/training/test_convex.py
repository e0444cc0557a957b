"""A head at the optimum of its loss: as scikit-learn finds it, whatever is ignored, and a run like any other."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.feature_cache import vectors
from voc_cls.errors import UsageError
from voc_cls.nets.network import Network
from voc_cls.training.config import DatasetConfig, LossConfig, NetworkConfig, TrainConfig, TrainingConfig
from voc_cls.training.convex import FOLDS, attended, choose_l2, problem
from voc_cls.training.losses import build_loss
from voc_cls.training.session import train_network
from voc_cls.training.splits import Splits
from voc_cls.training.trained_run import TrainedRun, open_run

RANDOM = np.random.default_rng(0)
FEATURES = (5 * RANDOM.normal(size=(120, 6))).astype(np.float32)
LABELS = (FEATURES @ RANDOM.normal(size=(6, 3)) + 10 * RANDOM.normal(size=(120, 3)) > 3).astype(np.float32)
L2 = 3e-3


def dataset(labels: np.ndarray, ignored: np.ndarray | None = None, task: Task = Task.MULTI_LABEL) -> Dataset:
    paths = tuple(Path(f"{row}.jpg") for row in range(len(labels)))
    return Dataset("made", ("a", "b", "c"), paths, labels, np.zeros(labels.shape, bool) if ignored is None else ignored,
                   task=task)


def solved(features: np.ndarray, train: Dataset, **loss: object) -> np.ndarray:
    built = build_loss(LossConfig(**loss).for_task(train.task), train)  # type: ignore[arg-type]
    made = problem(features, train, built)
    return made.back(made.solve(L2)).weights


def by_sklearn(features: np.ndarray, labels: np.ndarray, entries: int, **options: object) -> np.ndarray:
    fitted = LogisticRegression(C=1 / (2 * L2 * entries), tol=1e-8, max_iter=10000, **options).fit(features, labels)
    return np.concatenate([fitted.coef_.T, fitted.intercept_[None]])


def test_every_class_has_the_logistic_regression_of_scikit_learn():
    ours = solved(FEATURES, dataset(LABELS))
    for column in range(3):
        theirs = by_sklearn(FEATURES, LABELS[:, column], LABELS.size)
        np.testing.assert_allclose(ours[:, column:column + 1], theirs, rtol=2e-3, atol=2e-4)


def test_the_hinge_loss_gives_the_support_vector_machine_of_scikit_learn():
    ours = solved(FEATURES, dataset(LABELS), loss="hinge")
    for column in range(3):
        theirs = LinearSVC(C=1 / (2 * L2 * LABELS.size), intercept_scaling=1e3, tol=1e-8, max_iter=100000).fit(
            FEATURES, LABELS[:, column])
        np.testing.assert_allclose(ours[:-1, column], theirs.coef_[0], rtol=0.02, atol=2e-3)


def test_one_class_a_picture_is_multinomial_regression():
    classes = LABELS.cumsum(axis=1).argmax(axis=1)
    ours = solved(FEATURES, dataset(np.eye(3, dtype=np.float32)[classes], task=Task.SINGLE_LABEL))
    theirs = by_sklearn(FEATURES, classes, len(LABELS))
    np.testing.assert_allclose(ours - ours.mean(axis=1, keepdims=True), theirs - theirs.mean(axis=1, keepdims=True),
                               rtol=2e-3, atol=2e-4)


def test_a_picture_whose_label_of_a_class_is_ignored_does_not_count_for_that_class():
    ignored = np.zeros(LABELS.shape, bool)
    ignored[:20, 1] = True
    ours = solved(FEATURES, dataset(np.where(ignored, np.float32(0), LABELS), ignored))
    theirs = by_sklearn(FEATURES[20:], LABELS[20:, 1], LABELS.size)
    np.testing.assert_allclose(ours[:, 1:2], theirs, rtol=2e-3, atol=2e-4)
    np.testing.assert_allclose(ours[:, [0, 2]], solved(FEATURES, dataset(LABELS))[:, [0, 2]], rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("loss", [{"class_weights": "balanced"}, {"label_smoothing": 0.2}, {"loss": "hinge"}])
def test_weights_and_smoothing_are_those_of_the_loss_that_descent_has(loss: dict[str, object]):
    train = dataset(LABELS)
    built = build_loss(LossConfig(**loss).for_task(train.task), train)
    made = problem(FEATURES, train, built)
    solution = made.back(made.solve(L2))
    expected = float(built(train.targets, solution.logits(FEATURES))) + L2 * np.square(solution.weights[:-1]).sum()
    assert solution.loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", ["sigmoid", "hinge"])
def test_with_attention_a_class_learns_from_the_places_where_it_scores_highest(loss: str):
    grids = np.random.default_rng(0).normal(size=(120, 3, 3, 6)).astype(np.float32)
    train = dataset((grids[..., :3].max(axis=(1, 2)) > 1.5).astype(np.float32))  # one place of nine shows it
    built = build_loss(LossConfig(loss=loss), train)  # type: ignore[arg-type]
    whole = problem(1.5 * vectors(grids), train, built)
    plain = whole.back(whole.solve(L2))
    solution = whole.back(attended(whole, grids, plain.weights[:-1], 0.5).solve(L2))
    places = grids.reshape(120, 9, 6)
    highest = (places @ plain.weights[:-1]).argmax(axis=1)
    for column in range(3):
        seen = places.mean(axis=1) + 0.5 * places[np.arange(120), highest[:, column]]
        np.testing.assert_allclose(solution.weights[:, column], solved(seen, train, loss=loss)[:, column], rtol=2e-3,
                                   atol=2e-4)
    assert solution.loss < 0.95 * plain.loss


def test_the_penalty_is_chosen_by_what_is_left_out():
    noisy = np.concatenate([FEATURES, 5 * np.random.default_rng(1).normal(size=(120, 200)).astype(np.float32)], axis=1)
    train = dataset(LABELS)
    l2, scores = choose_l2(problem(noisy, train, build_loss(LossConfig(loss="sigmoid"), train)), train, 0, "none",
                           Console(quiet=True))
    assert scores[l2] == max(scores.values()) > min(scores.values()) + 0.01


def test_too_few_pictures_for_folds_take_a_plain_penalty():
    few = dataset(LABELS[:FOLDS - 1])
    l2, scores = choose_l2(problem(FEATURES[:FOLDS - 1], few, build_loss(LossConfig(loss="sigmoid"), few)), few, 0,
                           "none", Console(quiet=True))
    assert l2 > 0
    assert not scores


@pytest.mark.slow  # builds whole networks
def test_a_head_alone_is_solved_by_default_and_a_run_broken_off_ends_with_the_same_weights(
        small_network: Callable[..., Network], small_dataset: Callable[..., Dataset], tmp_path: Path):
    splits = Splits(small_dataset("train", 30), small_dataset("val", 9))

    def run(**options: object) -> tuple[TrainedRun, str]:
        said = Console(file=io.StringIO(), record=True, width=200)
        trained = train_network(small_network(), splits, tmp_path / "run", trainable="head", console=said,
                                cache_dir=tmp_path / "cache", **options)
        return trained, said.export_text()

    with pytest.raises(UsageError, match=r"^`solver` lbfgs: .* features take .* GB, more than .* may take, 1e-09 GB"):
        run(solver="lbfgs", cache_gb=1e-9)
    trained, text = run()  # which finds no folder yet
    assert "L-BFGS, L2 chosen by cross-validation" in text
    (line,) = trained.history
    assert {"step", "seconds", "loss", "val_map"} <= set(line)
    config = trained.folder.read_config()
    assert config["training"]["solver"] == "lbfgs"
    assert len(config["provenance"]["solver"]["cross_validation"]) > 1
    weights, logits = trained.network.model.get_weights(), trained.logits(splits.val.paths)
    trained.folder.last.unlink()  # as if it had been killed
    trained.folder.best.unlink()
    again, _ = run(resume=True)
    assert all(map(np.array_equal, again.network.model.get_weights(), weights))
    np.testing.assert_array_equal(open_run(trained.folder.path).logits(splits.val.paths), logits)
    with pytest.raises(UsageError, match=r"^`resume`: the settings differ from .*: l2 was null, is 0\.5; "):
        run(resume=True, l2=0.5)


@pytest.mark.slow  # builds whole networks
@pytest.mark.parametrize(("trainable", "head", "within"), [
    ("m_fc8", "gap", 1e-3), ("conv3|m_fc8", "gap", 1e-3), ("all", "gap", 1e-3),
    ("conv3|m_fc8", "csra", 1e-2)])  # another place may have the maximum by a rounding error
def test_fine_tuning_can_start_from_the_heads_optimum_and_keeps_it_when_it_is_resumed(
        trainable: str, head: str, within: float, small_network: Callable[..., Network],
        small_dataset: Callable[..., Dataset], tmp_path: Path):
    splits = Splits(small_dataset("train", 30))

    def run(out: str, **options: object) -> list[np.ndarray]:
        trained = train_network(small_network(head=head), splits, tmp_path / out, cache_dir=tmp_path / "cache",
                                inference_precision="float32", augment="none", **options)
        classifier = trained.network.model.get_layer(trained.network.spec.head)
        return [np.asarray(variable) for variable in classifier.variables]

    optimum = run("head", trainable="head")
    settings = {"trainable": trainable, "steps": 2, "lr": 1e-30, "head_init": "lbfgs"}
    started = run("tuned", **settings)
    for found, best in zip(started, optimum, strict=True):
        np.testing.assert_allclose(found, best, rtol=within, atol=within * np.abs(best).max())
    assert all(map(np.array_equal, run("tuned", resume=True, **settings), started))


def test_a_heads_optimum_to_start_from_needs_a_convex_loss():
    config = replace(HEAD, network=replace(HEAD.network, trainable="conv5+"),
                     training=TrainingConfig(head_init="lbfgs"))
    assert config.checked().training.head_init == "lbfgs"
    with pytest.raises(UsageError, match=r"^`head_init` lbfgs: minimises a convex loss, not `loss` focal; omit it"):
        replace(config, loss=LossConfig(loss="focal")).checked()


HEAD = TrainConfig(DatasetConfig(root=(Path("devkit"),)), NetworkConfig("none", head="gap", trainable="head"))


@pytest.mark.parametrize(("group", "setting", "message"), [
    ("network", {"trainable": "conv5+"}, "only a head alone has an optimum .*, not `trainable` conv5[+]"),
    ("training", {"steps": 10}, "has no `steps`, which is of descent; omit it"),
    ("training", {"ema": 0.9}, "has no `ema`, which is of descent; omit it"),
    ("loss", {"loss": "focal"}, "minimises a convex loss, not `loss` focal"),
    ("augmentation", {"mixup": 0.2}, "needs cached features"),
    ("augmentation", {"augment": "mild"}, "needs cached features"),
    ("compute", {"cache_gb": 0.0}, "needs cached features"),
    ("run", {"hosts": 2}, "runs in one process, not with `hosts`"),
])
def test_what_has_no_such_optimum_is_left_to_descent_and_refused_where_it_is_asked_for(group, setting, message):
    config = replace(HEAD, **{group: replace(getattr(HEAD, group), **setting)})
    assert config.checked().training.solver is None
    assert config.checked().training.lr > 0
    with pytest.raises(UsageError, match=f"^`solver` lbfgs: {message}.*, or choose descent$"):
        replace(config, training=replace(config.training, solver="lbfgs")).checked()


def test_the_default_for_a_head_is_the_optimum_and_descent_can_be_chosen():
    assert HEAD.checked().training.solver == "lbfgs"
    assert HEAD.checked().training.steps is None
    assert HEAD.checked().checked() == HEAD.checked()
    descent = replace(HEAD, training=TrainingConfig(solver="descent")).checked().training
    assert (descent.solver, descent.steps) == ("descent", 3000)
