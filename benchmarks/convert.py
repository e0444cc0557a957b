"""How much time and memory `voc-weights convert` takes for a whole VGG-16, 553 MB, against `cp` of the same file.

    python benchmarks/convert.py [FORMAT ...]    # such as npz pth; all of them take about three minutes

Random weights are written as a TF-Slim checkpoint, converted into each format and back, and the two checkpoints
compared byte for byte. Every program runs in a process of its own, from its start to its end, three rounds; shown is
the best of each, by the clock and by the seconds of the processor, which other programs disturb less. Memory is the
largest resident set of the process, Python, its libraries and its children included, as a share of the file. cp stops
when the file is in the page cache, as the conversion does; it neither starts Python nor looks at the bytes, so its
time is a limit, not a rival. Exit code 1 where the memory is above the bar or a byte differs.
"""

from __future__ import annotations

import filecmp
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from voc_cls.nets.registry import NETS
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.bundle import write_bundle
from voc_cls.weights.tensors import Array, Outgoing, Shape, TensorInfo

FORMATS = ("npz", "npy", "h5", "weights.h5", "keras", "pth", "safetensors", "onnx", "ckpt")
ROUNDS = 3
BAR = 1.2
"""Memory, as a share of the file, at most."""
DATA = ".data-00000-of-00001"


def main(formats: list[str]) -> int:
    """Prints seconds, the ratio to cp, and memory."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "vgg_16.ckpt"
        write_random(first)
        size = first.with_name(first.name + DATA).stat().st_size
        copies = [taken(["cp", f"{first}{DATA}", f"{folder}/copy"])[0] for _ in range(ROUNDS)]
        print(f"VGG-16, {size / 1e6:.0f} MB; cp {min(copies):.2f} s\n")
        print(f"{'':28}{'seconds':>9}{'× cp':>7}{'processor':>11}{'memory':>8}")
        worst = 0.0
        for suffix in formats:
            there, back = Path(folder) / f"a.{suffix}", Path(folder) / "back.ckpt"
            for source, target in ((first, there), (there, back)):
                runs = [taken(convert(source, target)) for _ in range(ROUNDS)]
                seconds, processor = (min(run[place] for run in runs) for place in (0, 1))
                memory = max(run[2] for run in runs) / size
                worst = max(worst, memory)
                print(f"{f'{source.name} → {target.name}':28}{seconds:9.2f}{seconds / min(copies):7.1f}"
                      f"{processor:11.2f}{memory:8.2f}", flush=True)
            for part in (".index", DATA):
                if not filecmp.cmp(f"{first}{part}", f"{back}{part}", shallow=False):
                    print(f"error: {suffix} does not give back the same bytes")
                    return 1
            for file in Path(folder).glob("a.*"):
                file.unlink()
    print(f"\nlargest share of memory {worst:.2f}, bar {BAR}")
    return int(worst > BAR)


def write_random(checkpoint: Path) -> None:
    """Writes a VGG-16 without holding it."""
    random = np.random.default_rng(0)

    def tensor(name: str, shape: Shape) -> Outgoing:
        def read() -> Array:
            return random.standard_normal(shape, dtype=np.float32)

        return Outgoing(name, TensorInfo(shape, "float32"), read)

    write_bundle(checkpoint, [tensor(name, shape) for name, shape in slim_shapes(NETS["vgg_16"]).items()])


def convert(source: Path, target: Path) -> list[str]:
    """The command."""
    program = Path(sys.executable).with_name("voc-weights")
    return [str(program), "convert", str(source), str(target), "--overwrite"]


def taken(command: list[str]) -> tuple[float, float, int]:
    """(seconds, seconds of the processor, bytes of the largest resident set) of a process, its children included."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(FORMATS)))
