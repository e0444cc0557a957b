"""Trains on one and on two devices of one process: the processor as logical devices. For test_distribution.py."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import tensorflow as tf
from rich.console import Console

from tests.forked import become
from voc_cls.training import session
from voc_cls.training.config import DatasetConfig, NetworkConfig, RunConfig, TrainConfig, TrainingConfig
from voc_cls.training.distribution import mirrored


def run(root: Path, out: Path, errors: Path, environment: Mapping[str, str]) -> None:
    """The two runs, out/1 and out/2, in a process that tests/forked.py has forked; it writes to `errors`."""
    become(["mirrored_program"], (str(errors), str(errors)), dict(environment))
    processor, = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
    for devices in (1, 2):
        train(devices, root, out / str(devices))


def train(devices: int, root: Path, out: Path) -> None:
    """Three steps of conv5 and the classifier, with all that the optimiser can do."""
    distribution = mirrored(tf.config.list_logical_devices("CPU")[:devices])
    assert distribution.replicas == devices
    config = TrainConfig(
        DatasetConfig((root,), train_split="train", val_split="val", eval_split="none"),
        NetworkConfig("none", net="alexnet_v2", head="gap", trainable="conv5+", image_size=99),
        training=TrainingConfig(steps=3, batch_size=8, lr=1e-3, l2=1e-3, ema=0.9, clip_norm=1.0,
                                head_lr_multiplier=2.0),
        run=RunConfig(out),
    )
    session.joined = lambda *_: nullcontext(distribution)
    session.train(config, Console(quiet=True))
