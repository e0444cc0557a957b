"""Several processes that train together, started on the workers of a Ray cluster, and again where one is lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from voc_cls.console import stop_on
from voc_cls.errors import RunError
from voc_cls.ray_cluster import connected

STARTS = 6
"""After which a training that is always lost ends."""
PLACE_SECONDS = 600
"""Until the cluster must have room for all: a machine that replaces a lost one takes minutes."""
PREEMPTED = 128 + signal.SIGTERM


def run_rank(main: Callable[[], None], args: Sequence[str], folder: str) -> object:
    """Runs the command `main` in a worker, in the same working directory; returns its exit code."""
    os.chdir(folder)
    sys.argv = ["voc-train", *args]
    try:
        main()
    except SystemExit as leaving:
        return leaving.code
    return 0


def free_address() -> str:
    """HOST:PORT of the worker that this runs in."""
    import ray

    with socket.create_server(("", 0)) as server:
        return f"{ray.util.get_node_ip_address()}:{server.getsockname()[1]}"


def train_on_workers(main: Callable[[], None], args: Sequence[str], workers: int, config: Path) -> None:
    """Trains in processes on `workers` machines, or on fewer where there are no more; where one is lost or preempted,
    all start again. RunError where STARTS are not enough, or where they end with an error of their own.

    Args:
        main: Of voc-train.
        args: Its flags; --hosts, --rank and --coordinator are added, and --resume once there is a run.
        workers: Number of processes.
        config: The run's config.yaml.
    """
    stop_on("continue with `resume` if the run folder exists already", signal.SIGTERM, signal.SIGINT)
    codes: list[object] = [None]
    with connected(log_to_driver=True, KERAS_BACKEND="jax", PYTHONUNBUFFERED="1") as ray:
        needs = {"CPU": 1, "GPU": 1} if ray.cluster_resources().get("GPU") else {"CPU": 1}
        for start in range(1, STARTS + 1):
            if not {None, PREEMPTED} & set(codes):
                break
            if start > 1:
                print(f"a process was lost; start {start} of {STARTS}, from the last checkpoint", file=sys.stderr)
            group = ray.util.placement_group([needs] * workers, strategy="SPREAD")
            if not group.wait(PLACE_SECONDS):
                raise RunError(f"`workers` {workers}: the cluster has no room for so many processes with {needs} each; "
                               "add machines, or choose fewer")
            places = [{"num_cpus": 1, "num_gpus": needs.get("GPU", 0), "max_retries": 0,
                       "scheduling_strategy": ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
                           group, rank)} for rank in range(workers)]
            address = ray.get(ray.remote(free_address).options(**places[0]).remote())
            flags = [*args, *["--resume"] * (config.exists() and "--resume" not in args), "--hosts", str(workers),
                     "--coordinator", address, "--rank"]
            worker = ray.remote(max_calls=1)(run_rank)  # a process of its own for each start
            ranks = [worker.options(**place).remote(main, [*flags, str(rank)], str(Path.cwd()))
                     for rank, place in enumerate(places)]
            codes = []
            for rank in ranks:
                try:
                    codes.append(rank.future().result())  # ray.get would heed no signal but Ctrl-C's own
                except ray.exceptions.RayError:  # its machine or process is gone
                    codes.append(None)
            ray.util.remove_placement_group(group)
    if any(code != 0 for code in codes):
        raise RunError(f"`workers` {workers}: the processes ended with the exit codes {codes}, None where one crashed; "
                       "see above what they say")
