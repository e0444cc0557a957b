"""`voc-train --doctor`: what this installation consists of, what it computes on, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import timeit
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from voc_cls.console import quiet_stderr, with_flags
from voc_cls.training import devices
from voc_cls.training.devices import POLICIES

SIDE, FILTERS, BATCH = 56, 256, 8
"""The convolution that is tried: VGG-16's conv3_2 on a few pictures."""
SEEN_DIFFERENCE = {"float32": 1e-3, "bfloat16": 4e-2, "float16": 4e-2}
"""By how much it may be off at a largest value near 1; a multiple of 2^-8, bfloat16's step, for the narrow formats
(float32 may be TensorFloat-32 on a GPU)."""
LEAST_FREE_GIB = 5.0
"""Free disk below which a cache of features or images hardly fits."""


def doctor(console: Console, cache: Path) -> dict[str, Any]:
    """Prints the report, at most 80 columns, and returns it; "works": training can. cache: the folder of caches."""
    report: dict[str, Any] = {"versions": versions(), "devices": hardware(), "storage": storage(cache)}
    results = {precision: trial(precision) for precision in POLICIES}
    report["a convolution, computed"] = {name: result for name, (result, _) in results.items()}
    for title, rows in report.items():
        show(console, title, rows)
    broken = [name for name, (_, works) in results.items() if not works]
    problems = [f"{', '.join(broken)} cannot be computed: reinstall {devices.backend()} and the driver, or train with "
                "another `precision`"] if broken else []
    report |= {"advice": [*map(with_flags, (*problems, *advices(cache)))], "works": results["float32"][1]}
    for advice in report["advice"]:
        console.print(f"[yellow]![/yellow] {advice}", highlight=False)
    console.print("training can work here" if report["works"] else "[red]training cannot work here[/red]")
    return report


def show(console: Console, title: str, rows: dict[str, str]) -> None:
    table = Table(show_header=False, box=None, title=title, title_justify="left", title_style="bold", width=80)
    table.add_column(min_width=14, no_wrap=True)
    table.add_column(ratio=1)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table, highlight=False, markup=False)
    console.print()


def versions() -> dict[str, str]:
    import tensorflow as tf

    system = f"{platform.system()} {platform.machine()}"
    build = tf.sysconfig.get_build_info()
    built = f"CUDA {build['cuda_version']}, cuDNN {build['cudnn_version']}" if build.get("is_cuda_build") else "no CUDA"
    return {"Python": f"{platform.python_version()}, {system}", **devices.versions(), "TensorFlow has": built,
            "Keras backend": devices.backend()}


def hardware() -> dict[str, str]:
    """The devices, and what the processor is capable of."""
    memory = devices.memory_gib()
    return {
        "trains on": devices.device(),
        "XLA": "yes" if devices.compiles() else "no (oneDNN is faster on a CPU)",
        "processor": f"{devices.processor()}, {devices.cores()} cores",
        "bfloat16": "native" if devices.has_bfloat16() else "emulated, slower than float32",
        "memory": "unknown" if memory is None else f"{memory:.1f} GiB",
        "NVIDIA cards": ", ".join(devices.nvidia_cards()) or "none",
        "NVIDIA driver": devices.driver_version() or "none",
    }


def storage(cache: Path) -> dict[str, str]:
    """Free space where caches and temporary files go."""
    folders = {"caches": cache, "temporary": Path(os.environ.get("TMPDIR", "/tmp")), "run folders": Path.cwd()}
    return {name: f"{free_gib(folder):.1f} GiB free, {folder}" for name, folder in folders.items()}


def free_gib(folder: Path) -> float:
    """Free space of the disk that holds `folder`, which need not exist yet."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / devices.GIB


def advices(cache: Path) -> list[str]:
    """What to improve, with the command that does it."""
    advice = []
    cards = devices.nvidia_cards()
    if cards and not devices.accelerators():
        advice.append(devices.why_unused(cards, devices.backend(), devices.driver_version(), os.environ))
    if devices.backend() == "tensorflow" and devices.installed("jax") is None:
        advice.append('training on several hosts needs JAX: pip install "voc-cls[jax]"')
    if free_gib(cache) < LEAST_FREE_GIB:
        advice.append(f"{cache} has less than {LEAST_FREE_GIB:.0f} GiB free: give another `cache_dir`, or `cache_gb` 0")
    return advice


def trial(precision: str) -> tuple[str, bool]:
    """A convolution in `precision` on the device: (time, or what went wrong; whether it was right)."""
    random = np.random.default_rng(0)
    pictures = random.normal(size=(BATCH, SIDE, SIDE, FILTERS)).astype(np.float32)
    layer = keras.layers.Conv2D(FILTERS, 3, padding="same", dtype=POLICIES[precision])
    model = keras.Sequential([keras.Input(pictures.shape[1:]), layer])
    model.compile(jit_compile=devices.compiles())
    try:
        with quiet_stderr():
            outputs = np.asarray(model.predict_on_batch(pictures), np.float32)
            seconds = min(timeit.repeat(lambda: model.predict_on_batch(pictures), number=1, repeat=3))
    except Exception as error:  # a broken installation fails in many ways; the other formats are still tried
        return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}", False
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    expected = np.einsum("ijc,ijcf->f", pictures[0, 1:4, 1:4], kernel)  # one point of the first picture
    difference = float(np.abs(outputs[0, 2, 2] - expected).max() / np.abs(expected).max())
    operations = 2 * outputs.size * 9 * FILTERS
    text = f"{seconds * 1000:.1f} ms ({operations / seconds / 1e12:.2f} TFLOP/s), largest error {difference:.1e}"
    return text, difference <= SEEN_DIFFERENCE[precision]
