"""VGG-16 training in bfloat16 on one GPU: images per second beside PyTorch, share of the card's peak, a whole training.

    make gpu-check                                   # KERAS_BACKEND=jax python3 benchmarks/gpu_check.py
    make gpu-check ARGS="--batch 64 --steps 3000"
    make gpu-check ARGS="--batch 2 --steps 2 --turn 1"     # on a CPU: only whether it runs

Needs Keras and JAX, and PyTorch for the comparison; TensorFlow is not used, and an import of it is an error. Pictures
are random numbers, so no files are read. Three speeds: PyTorch's step (`torch.compile`, channels last, bfloat16
autocast, fused Adam), the project's step (its network, loss and optimiser; both on a batch that lies on the card), and
the project's loop: Keras' `fit` with the callbacks of voc-train, every batch copied to the card. The three run one
after the other. A loop that would not be done after --minutes, counted from the start, ends early; the time of all
steps is then calculated.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from contestant import PEERS, Contestant

CLASSES, SIZE, BATCHES = 20, 224, 8
PEAKS = {  # a part of the card's name → 10¹² bfloat16 operations a second, dense: half of the figure "with sparsity"
    "H200 NVL": 835.5,   # NVIDIA H200 Tensor Core GPU datasheet, 2024: 1,671
    "H200": 989.5,       # the same, SXM: 1,979
    "H100 PCIe": 756.5,  # NVIDIA H100 Tensor Core GPU datasheet, 2023: 1,513
    "H100 NVL": 835.5,   # the same, 2024: 1,671
    "H100": 989.5,       # the same, SXM: 1,979
    "A100": 312.0,       # NVIDIA A100 Tensor Core GPU datasheet, 2021: 312, 624 with sparsity; SXM and PCIe
}


def main(batch: int, steps: int, turn: int, minutes: float, torch: str) -> None:
    """Runs the three and prints the table."""
    without_tensorflow()
    end = time.monotonic() + 60 * minutes
    peer = torch_speed(torch, batch, turn)  # first, because JAX takes most of the card's memory
    import jax
    import keras

    card = jax.devices()[0].device_kind
    print(f"{card}; JAX {jax.__version__}, Keras {keras.__version__}; bfloat16, batch {batch}", flush=True)
    model = compiled(network(), steps)
    operations, peak = operations_per_image(model), next((PEAKS[name] for name in PEAKS if name in card), None)
    print(f"operations per image in training: {operations / 1e9:.1f} × 10⁹; the card's peak: "
          + (f"{peak:g} × 10¹² a second" if peak else "not in this script's table"), flush=True)

    def show(name: str, speed: float) -> None:
        share = f"{speed * operations / 1e12 / peak:5.0%} of the peak" if peak else ""
        ratio = f"{speed / peer:5.2f} × PyTorch" if peer else ""
        print(f"{name:<38}{speed:10.1f} images/s  {ratio}  {share}", flush=True)

    if peer:
        show("PyTorch's step, torch.compile", peer)
    show("the project's step", step_speed(model, batch, turn))
    done, seconds = loop(model, batch, steps, end)
    show("the project's loop", done * batch / seconds)
    whole = f"took {seconds:.0f} s" if done == steps else (f"take {seconds / done * steps:.0f} s, calculated from the "
                                                          f"{done:,} that there was time for")
    print(f"{steps:,} steps {whole}")


def without_tensorflow() -> None:
    """Chooses Keras' backend and makes every import of TensorFlow an error; to be called before Keras is imported."""
    os.environ["KERAS_BACKEND"] = "jax"
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def torch_speed(python: str, batch: int, turn: int) -> float | None:
    """PyTorch's images per second, in a process of its own that has ended; None where there is no PyTorch."""
    if subprocess.run([python, "-c", "import torch"], capture_output=True, check=False).returncode:
        print(f"PyTorch is not installed for {python}: no comparison")
        return None
    peer = Contestant("PyTorch", python, PEERS / "vgg_torch.py", "bfloat16", batch, "compiled")
    for _ in range(4):
        peer.turn(turn)
    peer.leave()
    return max(peer.speeds[1:])  # the first turn warms up


def network() -> Any:
    """voc-train's VGG-16, randomly initialised."""
    import keras

    from voc_cls.nets.network import build_network
    from voc_cls.training.devices import policy

    keras.utils.set_random_seed(0)
    return build_network("vgg_16", "fc", CLASSES, policy("bfloat16")).model


def compiled(model: Any, steps: int) -> Any:
    """The model with the optimiser and the loss of voc-train."""
    from voc_cls.training.config import ResolvedTraining
    from voc_cls.training.losses import MultiLabelLoss
    from voc_cls.training.optimizer import build_optimizer

    config = ResolvedTraining(steps=steps, interval=steps, lr=1e-5, l2=0.0, eval_weights="raw")
    model.compile(build_optimizer(config, (1.0,) * len(model.trainable_variables), False), MultiLabelLoss(),
                  jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    return model


def operations_per_image(model: Any) -> float:
    """Multiplications and additions of the layers' products in a training step, forward and backward.

    Backward takes twice as many as forward, but the first layer has no gradient for its input.
    """
    forward = [2 * np.prod(layer.kernel.shape) * np.prod(layer.output.shape[1:-1])
               for layer in model.layers if hasattr(layer, "kernel")]
    return float(3 * sum(forward) - forward[0])


def step_speed(model: Any, batch: int, turn: int) -> float:
    """Images per second of Keras' training step on one batch that lies on the card."""
    import jax

    images, targets = (jax.device_put(array) for array in next(batches(batch)()))
    step = jax.jit(model.train_step, donate_argnums=0)
    state = tuple([jax.numpy.array(variable.value, copy=True) for variable in variables] for variables in
                  (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables,
                   model.metrics_variables))
    speeds = []
    for _ in range(4):
        started = time.perf_counter()
        for _ in range(turn):
            logs, state = step(state, (images, targets))
        jax.block_until_ready((logs, state))
        speeds.append(turn * batch / (time.perf_counter() - started))
    return max(speeds[1:])  # the first turn compiles


def batches(batch: int) -> Callable[[], Iterator[tuple[Any, Any]]]:
    """Endless batches of random pictures and labels, in main memory."""
    random = np.random.default_rng(0)
    made = [(random.normal(0, 50, (batch, SIZE, SIZE, 3)).astype(np.float32),
             (random.random((batch, CLASSES)) < 0.1).astype(np.float32)) for _ in range(BATCHES)]

    def endless() -> Iterator[tuple[Any, Any]]:
        while True:
            yield from made

    return endless


def loop(model: Any, batch: int, steps: int, end: float) -> tuple[int, float]:
    """Steps taken by voc-train's loop until `end`, and their seconds without the compilation."""
    import keras

    from voc_cls.data.pipeline import Order
    from voc_cls.training.callbacks import FiniteLoss, Steps, UnfetchedLogs

    pictures = batches(batch)

    def stop_in_time(*_: Any) -> None:
        model.stop_training = model.stop_training or time.monotonic() > end

    def fit(number: int) -> int:
        counter = Steps(0, number, number)
        order = Order(np.zeros((number, batch), np.int64), np.zeros((number, batch), np.int64))
        watched = [counter, FiniteLoss(counter, order, [Path("random")]),
                   keras.callbacks.LambdaCallback(on_train_batch_end=stop_in_time)]
        model.fit(pictures(), steps_per_epoch=number, verbose=0, shuffle=False,
                  callbacks=UnfetchedLogs(watched, add_history=True, model=model, epochs=1))
        return counter.done

    fit(2)  # compiles
    started = time.perf_counter()
    done = fit(steps)
    return done, time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="pictures in a step (default: 32)")
    parser.add_argument("--steps", type=int, default=6000, help="steps of the loop (default: 6000)")
    parser.add_argument("--turn", type=int, default=50, help="steps in a turn of the bare steps (default: 50)")
    parser.add_argument("--minutes", type=float, default=9.0, help="when the loop ends at the latest (default: 9)")
    parser.add_argument("--torch", default=sys.executable, help="a Python that has PyTorch (default: this one)")
    main(**vars(parser.parse_args()))
