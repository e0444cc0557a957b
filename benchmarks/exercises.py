"""Duration of the lectures' exercises on this machine: one training step of each file in configs/, and all its steps.

    python benchmarks/exercises.py [NAME ...] [--precision bfloat16]    # such as voc2007_vgg16; ten minutes in all

A step is forward pass, backward pass and Adam, on random images, with the config's network, batch size and precision.
The better of two is shown. Configs that train only the head are omitted: they compute the features of the frozen
layers once, see backbone.py.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from voc_cls.cli.train import read_settings
from voc_cls.console import import_tensorflow
from voc_cls.training.config import TrainConfig

CLASSES = {"cifar10": 10, "voc2007": 20, "dogs_vs_cats": 2, "plant_seedlings": 12, "imagenet_two": 2}


def exercise(path: Path) -> TrainConfig:
    """A file of configs/, without a data set."""
    return read_settings(["--config", str(path), "--root", ".", "--weights", "none"], {}).config(TrainConfig)


def step_seconds(path: Path, precision: str | None) -> tuple[float, int, int]:
    """(seconds per step, images per step, steps of the config)."""
    import keras

    from voc_cls.nets.network import build_network
    from voc_cls.training.devices import policy
    from voc_cls.training.freezing import freeze

    config = exercise(path)
    network, training = config.network, replace(config.training, l2=0.0)
    classes = next(number for name, number in CLASSES.items() if path.stem.startswith(name))
    keras.backend.clear_session()
    built = build_network(network.net, network.head, classes, policy(precision or config.compute.precision),
                          network.image_size)
    freeze(built, network.trainable, training)
    built.model.compile(keras.optimizers.Adam(1e-5), keras.losses.BinaryCrossentropy(from_logits=True),
                        jit_compile=False)
    batch, size = training.batch_size, built.spec.preprocessing.size
    pictures = np.random.default_rng(0).standard_normal((batch, size, size, 3), dtype=np.float32)
    targets = np.eye(classes, dtype=np.float32)[np.arange(batch) % classes]
    seconds = []
    for _ in range(3):  # the first one traces
        begin = time.perf_counter()
        built.model.train_on_batch(pictures, targets)
        seconds.append(time.perf_counter() - begin)
    return min(seconds[1:]), batch, training.steps or 0


def main(arguments: list[str]) -> None:
    """Prints a line for each config as soon as it is measured."""
    precision = arguments.pop(arguments.index("--precision") + 1) if "--precision" in arguments else None
    names = [argument for argument in arguments if argument != "--precision"]
    import_tensorflow()
    print(f"{'':34}{'s/step':>8}{'images/s':>12}{'hours':>8}")
    for path in sorted((Path(__file__).parents[1] / "configs").glob("*.yaml")):
        if (names and path.stem not in names) or exercise(path).network.trainable == "head":
            continue
        seconds, batch, steps = step_seconds(path, precision)
        print(f"{path.stem:34}{seconds:8.2f}{batch / seconds:12.1f}{steps * seconds / 3600:8.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
