"""Which device trains and in which number format, and why a GPU that is in this machine is unused.

What the machine has is read from Linux (/proc, /sys), below a `root` that tests replace; the backend says what is
used.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, Literal

from voc_cls.errors import UsageError
from voc_cls.version import __version__

ROOT = Path("/")
NVIDIA, DISPLAY = "^(0x10de)", "^(0x03)"
"""PCI vendor, and the class of display controllers, 3D controllers included (PCI code and ID assignment, class 03)."""
GIB = 1 << 30
WHY_COMMANDS = {"tensorflow": "python -c 'import tensorflow as tf; tf.config.list_physical_devices(\"GPU\")'",
                "jax": "JAX_PLATFORMS=cuda python -c 'import jax; jax.devices()'"}
"""Commands that make a backend print why it uses no GPU."""
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "jax", "jaxlib", "numpy", "openvino")
"""Packages whose versions a run records."""
CPU_FLAGS = ("avx512_bf16", "amx_bf16")
FeatureEngine = Literal["keras", "openvino"]
"""What computes the features of a frozen backbone: Keras, by its backend, or OpenVINO."""


def nvidia_cards(root: Path = ROOT) -> tuple[str, ...]:
    """The NVIDIA cards in this machine, with their memory if known, whether they can be used or not: from nvidia-smi,
    else the PCI bus, which containers see too."""
    smi = shutil.which("nvidia-smi") if root == ROOT else None
    if smi is not None:
        done = subprocess.run([smi, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"],
                              capture_output=True, text=True, timeout=30, check=False)
        rows = [line.rpartition(",") for line in done.stdout.splitlines()] if done.returncode == 0 else []
        if rows:
            return tuple(f"{name.strip()} ({int(mib) / 1024:.0f} GiB)" if mib.strip().isdecimal() else name.strip()
                         for name, _, mib in rows)
    return tuple(f"NVIDIA card at PCI {folder.name}" for folder in sorted(root.glob("sys/bus/pci/devices/*"))
                 if _search(NVIDIA, folder / "vendor") and _search(DISPLAY, folder / "class"))


def driver_version(root: Path = ROOT) -> str | None:
    """Of NVIDIA's kernel module; None where it is not loaded."""
    return _search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)\s", root / "proc/driver/nvidia/version")


def processor(root: Path = ROOT) -> str:
    return _search(r"^model name\s*:\s*(.+?)\s*$", root / "proc/cpuinfo") or "unknown processor"


def processor_flags(root: Path = ROOT) -> frozenset[str]:
    """The processor's capabilities by Linux's names, such as avx512_bf16."""
    return frozenset((_search(r"^flags\s*:(.*)$", root / "proc/cpuinfo") or "").split())


def memory_gib(root: Path = ROOT) -> float | None:
    """Main memory of the machine, or of the container's limit where that is less; None where it is unknown."""
    total = _search(r"^MemTotal:\s*(\d+) kB", root / "proc/meminfo")
    limit = _search(r"^(\d+)$", root / "sys/fs/cgroup/memory.max")
    sizes = ([int(total) / 2**20] if total else []) + ([int(limit) / GIB] if limit else [])
    return min(sizes, default=None)


def _search(pattern: str, file: Path) -> str | None:
    """The group of `pattern` in a text file; None where the file cannot be read or does not contain it."""
    try:
        match = re.search(pattern, file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    except OSError:  # not Linux, or not allowed
        return None
    return match[1] if match else None


def cores() -> int:
    """Number of processor cores that this process may use, $OMP_NUM_THREADS at most, which Ray sets for its workers."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(count, int(limit)) if limit.isdecimal() and int(limit) else count


def backend() -> str:
    """Keras' backend: tensorflow or jax."""
    import keras

    return str(keras.backend.backend())


def accelerators() -> tuple[str, ...]:
    """Names of the GPUs (on JAX: or TPUs) that the backend computes on; empty on a CPU."""
    if backend() == "jax":
        import jax

        return tuple(device.device_kind for device in jax.local_devices()) if jax.default_backend() != "cpu" else ()
    import tensorflow as tf

    details: Callable[[Any], Any] = tf.config.experimental.get_device_details
    return tuple(details(gpu).get("device_name", gpu.name) for gpu in tf.config.list_physical_devices("GPU"))


def compiles(replicas: int = 1) -> bool:
    """What `compile(jit_compile=…)` is to be: whether XLA compiles the training step.

    On a CPU TensorFlow trains VGG-16 3.5 × slower with XLA than with oneDNN; a tf.distribute.Strategy of several
    replicas updates variables in a way that XLA cannot compile; JAX always compiles with it.
    """
    return backend() == "jax" or (replicas == 1 and bool(accelerators()))


def device() -> str:
    """The device that trains, for one line at the start; with the reason where a GPU is unused."""
    used, by = accelerators(), {"tensorflow": "TensorFlow", "jax": "JAX"}.get(backend(), backend())
    cards = nvidia_cards()
    if used:
        names = cards if len(cards) == len(used) else used
        return ", ".join(f"{names.count(name)} × {name}" for name in dict.fromkeys(names)) + f", by {by}"
    line = f"CPU: {processor()}, {cores()} cores, by {by}"
    return f"{line}; {why_unused(cards, backend(), driver_version(), os.environ)}" if cards else line


def why_unused(cards: Sequence[str], backend: str, driver: str | None, environment: Mapping[str, str]) -> str:
    """Why none of `cards`, which are in this machine, computes, and what to do. driver: its version, if loaded."""
    what = f"{cards[0]} is not used" if len(cards) == 1 else f"{len(cards)} NVIDIA cards are not used"
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and (not visible.strip() or visible.startswith("-")):
        return f"{what}: CUDA_VISIBLE_DEVICES={visible} hides it; unset it"
    if driver is None:
        return (f"{what}: NVIDIA's driver is not loaded; install it until nvidia-smi works, or start the container "
                "with --gpus all")
    missing = missing_for_gpu(backend)
    if missing:
        return f"{what}: {missing}"
    return (f"{what}: {backend} does not accept it with driver {driver}, which may be too old; "
            f"{WHY_COMMANDS.get(backend, WHY_COMMANDS['tensorflow'])} shows the reason")


def missing_for_gpu(backend: str) -> str | None:
    """What a GPU would need on this backend, and how to install it; None where nothing is missing."""
    if backend == "jax":
        if any(installed(f"jax-cuda{major}-plugin") for major in (12, 13)):
            return None
        return 'JAX has no CUDA plugin; pip install "voc-cls[jax-gpu]"'
    import tensorflow as tf

    if not tf.sysconfig.get_build_info().get("is_cuda_build"):
        return ('this TensorFlow is built without CUDA; pip uninstall tensorflow-cpu, then '
                'pip install --force-reinstall "voc-cls[train,gpu]"')
    absent = [name for name in cuda_packages() if not installed(name)]
    if absent:
        return f"CUDA's libraries are not installed ({absent[0]} and {len(absent) - 1} more); " \
               'pip install "voc-cls[gpu]"'
    return None


def cuda_packages() -> tuple[str, ...]:
    """The packages with CUDA's libraries that this TensorFlow requires as tensorflow[and-cuda]."""
    try:
        requirements = requires("tensorflow") or []
    except PackageNotFoundError:  # tensorflow-cpu, or a custom build
        return ()
    return tuple(re.split(r"[<>=!~ ;\[]", text, maxsplit=1)[0] for text in requirements if "and-cuda" in text)


def installed(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def has_bfloat16() -> bool:
    """Whether the device multiplies bfloat16 natively; on other processors oneDNN emulates it, slower than float32."""
    return bool(accelerators()) or not processor_flags().isdisjoint(CPU_FLAGS)


def inference_precision(chosen: str) -> str:
    """`auto` → bfloat16 where the hardware has it, else float32; anything else as it is."""
    if chosen != "auto":
        return chosen
    return "bfloat16" if has_bfloat16() else "float32"


def policy(precision: str) -> str:
    """Keras' dtype policy for `precision`; variables are float32 in each of them."""
    if precision not in POLICIES:
        raise UsageError(f"`precision` {precision}: not one of {', '.join(POLICIES)}")
    return POLICIES[precision]


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {"voc-cls": __version__, **{package: number for package in PACKAGES if (number := installed(package))}}
