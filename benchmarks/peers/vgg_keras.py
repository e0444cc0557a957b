"""Our side of benchmarks/training.py: the network, the optimiser and the loss of voc-train.

    python benchmarks/peers/vgg_keras.py float32|bfloat16 BATCH bare|loop

bare: compiled steps on one batch in memory. loop: voc-train's whole loop, from JPEG files, with its callbacks.
Reads a number of steps from each line of the input, runs them, and prints images per second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from voc_cls.console import import_tensorflow

PICTURES = 64


def main(precision: str, batch: int, kind: str) -> None:
    """Serves rounds of training steps."""
    tf = import_tensorflow()
    import keras
    import numpy as np
    from rich.console import Console

    from voc_cls.data.augmentation import AugmentationConfig
    from voc_cls.data.load import read_dataset
    from voc_cls.data.pipeline import shuffled_order
    from voc_cls.demo.devkit import write_demo
    from voc_cls.nets.network import build_network
    from voc_cls.training import fit as fitting
    from voc_cls.training.checkpoint import Preemption
    from voc_cls.training.config import ResolvedTraining
    from voc_cls.training.devices import policy
    from voc_cls.training.distribution import SINGLE
    from voc_cls.training.fit import Fit
    from voc_cls.training.losses import MultiLabelLoss
    from voc_cls.training.run_folder import RunFolder
    from voc_cls.training.splits import Splits
    from voc_cls.training.trainable_part import whole_network

    keras.utils.set_random_seed(0)
    network = build_network("vgg_16", "fc", 20, policy(precision))
    rounds = (int(line) for line in sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        train = read_dataset("voc", write_demo(Path(folder) / "demo", 3 * PICTURES // 2 + 3, seed=0)[0], "trainval")

        def fit(steps: int, run: Path) -> Fit:
            config = ResolvedTraining(steps=steps, interval=steps, lr=1e-5, l2=0.0, eval_weights="raw")
            return Fit(whole_network(SINGLE, network, train, AugmentationConfig().resolved()), config, Splits(train),
                       shuffled_order(len(train), steps, batch, seed=0), MultiLabelLoss(),
                       (1.0,) * len(network.model.trainable_variables), RunFolder(run), Preemption(),
                       Console(quiet=True))

        if kind == "bare":
            random = np.random.default_rng(0)
            images = tf.constant(random.normal(0, 50, (batch, 224, 224, 3)).astype(np.float32))
            targets = tf.constant((random.random((batch, 20)) < 0.1).astype(np.float32))
            fit(1, Path(folder)).compile()
            network.model.make_train_function()
            step = network.model.train_function
            ready = iter(tf.data.Dataset.from_tensors((images, targets)).repeat())
            step(ready)
            print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}", flush=True)
            for steps in rounds:
                started = time.perf_counter()
                for _ in range(steps):
                    step(ready)["loss"].numpy()
                print(steps * batch / (time.perf_counter() - started), flush=True)
            return

        times: list[float] = []

        class TimedSteps(fitting.Steps):
            """Notes when each step of the loop was done, the other callbacks' work on the one before included."""

            def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
                """Counts, and looks at the clock."""
                super().on_train_batch_end(batch, logs)
                times.append(time.perf_counter())

        fitting.Steps = TimedSteps  # type: ignore[misc]
        print("voc-train's loop", flush=True)
        for number, steps in enumerate(rounds):
            times.clear()
            run = Path(folder) / str(number)
            run.mkdir()
            fit(steps + 1, run).run()
            print(steps * batch / (times[-1] - times[0]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
