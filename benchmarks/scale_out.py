"""One and two Ray nodes on one machine, each pinned to a core of its own: serving and batch prediction.

    python benchmarks/scale_out.py serving models/voc VOCdevkit/VOC2007/JPEGImages
    python benchmarks/scale_out.py batch models/voc VOCdevkit/VOC2007/JPEGImages
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Processes that start within run on this core alone; this process has all of its cores again afterwards."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


# --- serving ---------------------------------------------------------------------------------------------------------


def serving(model: Path, images: Path) -> dict[str, Any]:
    raise NotImplementedError


# --- batch prediction ------------------------------------------------------------------------------------------------


def batch(model: Path, images: Path) -> dict[str, Any]:
    """Images/s of voc-predict --ray on one node and on two, and of plain prediction on one core.

    The command and Ray's head are on the first node's core. Measured is from a fifth of the images to nine tenths: a
    job of millions hardly has a start and an end.
    """
    from ray.cluster_utils import Cluster

    files = sorted(images.glob("*.jpg"))
    with pinned(0):
        plain = plain_speed(model, files)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        os.environ["RAY_ADDRESS"] = cluster.address
        one = ray_speed(model, files)
    with pinned(1):
        cluster.add_node(num_cpus=1)
    with pinned(0):
        two = ray_speed(model, files)
    cluster.shutdown()
    return {"images/s": {"plain": round(plain, 1), "one node": round(one, 1), "two nodes": round(two, 1)},
            "two / one": round(two / one, 2), "one / plain": round(one / plain, 2)}


def plain_speed(model: Path, files: list[Path]) -> float:
    """Images/s in this process, with one thread for the network."""
    from voc_cls.loaded_model import LoadedModel

    loaded = LoadedModel(model, threads=1)
    loaded.predict(files[:64])
    started = time.monotonic()
    loaded.predict(files[64:])
    return (len(files) - 64) / (time.monotonic() - started)


def ray_speed(model: Path, files: list[Path]) -> float:
    """Images/s of a job that writes a file for each task, by the times of these."""
    program = ("import sys; from voc_cls import batch_prediction; from voc_cls.cli.predict import main; "
               "batch_prediction.FILE_ROWS = batch_prediction.TASK_IMAGES; main()")
    with tempfile.TemporaryDirectory() as folder:
        listed, out = Path(folder, "list.txt"), Path(folder, "scores")
        listed.write_text("".join(f"{path.absolute()}\n" for path in files))
        started = time.monotonic()
        subprocess.run([sys.executable, "-c", program, listed, "--model", model, "--ray", "--out", out], check=True)
        seconds = time.monotonic() - started
        times = sorted(path.stat().st_mtime for path in out.iterdir())
    print(f"{len(files)} images in {seconds:.1f} s, start included", file=sys.stderr)
    first, last = len(times) // 5, len(times) * 9 // 10
    return len(files) * (last - first) / len(times) / (times[last] - times[first])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=("serving", "batch"))
    parser.add_argument("model", type=Path, help="folder of an exported model")
    parser.add_argument("images", type=Path, help="folder of images")
    args = parser.parse_args()
    print({"serving": serving, "batch": batch}[args.section](args.model, args.images))


if __name__ == "__main__":
    main()
