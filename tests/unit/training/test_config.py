"""Defaults that depend on each other, and values that cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from voc_cls.cli.train import from_yaml
from voc_cls.errors import UsageError
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig, TrainingConfig


def config(**training: object) -> TrainConfig:
    return TrainConfig(DatasetConfig(root=Path("devkit")), NetworkConfig(weights="none"),
                       training=TrainingConfig(**training))  # type: ignore[arg-type]


def test_fine_tuning_everything_has_the_lectures_defaults():
    training = config().resolved().training
    assert (training.steps, training.lr, training.batch_size, training.l2) == (6000, 1e-5, 32, 0.0)


def test_the_head_alone_has_defaults_of_its_own_and_given_values_win():
    head = replace(config(), network=NetworkConfig(weights="none", head="gap", trainable="head"))
    assert head.resolved().training.lr > 1e-4
    for name, l2 in (("fc", 0.0), ("gap", 5e-4), ("gap+max", 5e-4)):
        assert replace(head, network=replace(head.network, head=name)).resolved().training.l2 == l2
    assert replace(head, training=TrainingConfig(lr=0.5)).resolved().training.lr == 0.5


@pytest.mark.parametrize("wrong", [
    {"steps": 0}, {"batch_size": 0}, {"lr": 0.0}, {"lr": -1.0}, {"lr": float("nan")}, {"seed": -1}, {"seed": 2**32},
    {"l2": float("nan")}, {"l2": -0.1}, {"accumulate": 0}, {"ema": 1.0}, {"clip_norm": 0.0}, {"layer_decay": 1.5},
    {"head_lr_multiplier": -1.0}, {"interval": 0}, {"keep_checkpoints": 0}, {"early_stopping": 0},
    {"plateau_factor": 1.0}, {"eval_weights": "ema"}, {"warmup_steps": 6000},
    {"warmup_steps": 5, "schedule": "plateau"},
])
def test_a_value_that_cannot_be_names_its_flag(wrong: dict[str, object]):
    flag = "--" + next(iter(wrong)).replace("_", "-")
    with pytest.raises(UsageError, match=flag):
        config(**wrong).resolved()


def test_early_stopping_wants_something_to_watch():
    early = config(early_stopping=3)
    early.resolved()
    with pytest.raises(UsageError, match="--early-stopping 3: nothing is validated with --val-split none"):
        replace(early, dataset=replace(early.dataset, val_split="none")).resolved()


def test_the_average_is_evaluated_where_there_is_one():
    assert config().resolved().training.eval_weights == "raw"
    assert config(ema=0.9).resolved().training.eval_weights == "ema"
    assert config(ema=0.9, eval_weights="raw").resolved().training.eval_weights == "raw"


def test_a_yaml_file_gives_values_and_leaves_the_rest_to_the_defaults(tmp_path: Path):
    file = tmp_path / "c.yaml"
    file.write_text("dataset: {root: devkit, difficult: negative}\nnetwork: {weights: none}\ntraining: {lr: 1e-4}\n"
                    "provenance: {anything: 1}\n")
    read = from_yaml(file)
    assert read.dataset.root == Path("devkit")
    assert read.training.lr == 1e-4
    assert read.training.batch_size == 32


@pytest.mark.parametrize(("text", "named"), [
    ("training: {learning_rate: 1}", r"training\.learning_rate: no such key; known are steps"),
    ("optimizer: {}", "unknown key optimizer; known are dataset, network, augmentation, training, loss, compute, run"),
    ("training: {steps: many}", r"training\.steps: 'many'"),
    ("- a list", "holds no keys"),
    ("dataset: {data: cifar}", r"dataset\.data: 'cifar' is not one of voc, cifar10, csv, folder"),
    ("dataset: {val_split: }", r"dataset\.val_split: is empty"),
    ("compute: {precision: half}", r"compute\.precision: 'half' is not one of float32"),
    ("training: {eval_weights: both}", r"training\.eval_weights: 'both' is not one of raw, ema"),
    ("network: {exclude: fc6}", r"network\.exclude: 'fc6' is no list"),
    ("augmentation: {vertical_flip: maybe}", r"augmentation\.vertical_flip: 'maybe' is no true or false"),
    ("{", "cannot be read"),
])
def test_a_wrong_key_or_value_in_the_yaml_is_named(tmp_path: Path, text: str, named: str):
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=named):
        from_yaml(file)
