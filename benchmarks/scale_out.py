"""One and two Ray nodes on one machine, each pinned to a core of its own: serving and batch prediction.

    python benchmarks/scale_out.py serving models/voc VOCdevkit/VOC2007/JPEGImages
    python benchmarks/scale_out.py batch models/voc VOCdevkit/VOC2007/JPEGImages

A node is a core: its Ray processes, the replica or workers on it and the callers of its ingress all run there. So one
node has a core for everything, and so has plain voc-serve, with which it takes turns.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from serving_calls import begun, calls_of, statuses, throughput

PORTS = (18500, 18600)
"""Of the gRPC ingress of each node."""
PLAIN_PORT = 18700
ROOT = Path(__file__).parents[1]


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


class Callers:
    """A process that calls one port."""

    def __init__(self, port: int, core: int, images: list[Path]) -> None:
        with pinned(core):
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("serving_callers.py")), "grpc", str(port),
                 *map(str, images)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def begin(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def result(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return dict(json.loads(self._process.stdout.readline()))

    def __enter__(self) -> Callers:
        self.begin(kind="probe")
        while not self.result()["probabilities"]:
            time.sleep(0.2)
            self.begin(kind="probe")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def voc_serve(core: int, model: Path, port: int, *flags: str, environment: dict[str, str] | None = None,
              ) -> Iterator[subprocess.Popen[str]]:
    """A server on a core; with --ray only its command is, and the rest where the cluster's nodes are."""
    command = [sys.executable, "-c", "from serving.cli import main; main()", "--model-dir", str(model),
               "--port", str(port), "--http-port", str(port + 1), "--threads", "1", *flags]
    with pinned(core):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    while "ready" not in (line := process.stdout.readline()):
        if not line:
            raise SystemExit("voc-serve did not start")
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def measure(nodes: list[Callers], seconds: float, connections: int) -> float:
    """Images per second of all nodes together; the first second does not count."""
    since = time.monotonic() + 1
    for callers in nodes:
        callers.begin(kind="closed", callers=connections, seconds=seconds + 1)
    calls = [call for callers in nodes for call in calls_of(callers.result())]
    wrong = {status: number for status, number in statuses(calls).items() if status != "OK"}
    if wrong:
        print(f"  not answered: {wrong}")
    return throughput(begun(calls, since, since + seconds))


def serving(model: Path, images: Path, seconds: float, rounds: int, connections: int) -> dict[str, Any]:
    """Throughputs of plain voc-serve, of one node and of two; then the second node is killed under load."""
    os.environ |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                   "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
                   "RAY_SERVE_WORKER_PROXY_GRPC_PORT": str(PORTS[1]),  # both ingresses are on one machine
                   "RAY_SERVE_WORKER_PROXY_HTTP_PORT": str(PORTS[1] + 50)}
    from ray.cluster_utils import Cluster

    pictures = sorted(images.glob("*.jpg"))[:16]
    found: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        with pinned(0):
            cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
            stack.callback(cluster.shutdown)
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        stack.enter_context(voc_serve(0, model, PLAIN_PORT))
        plain = stack.enter_context(Callers(PLAIN_PORT, 0, pictures))

        def take_turns(*nodes: Callers) -> list[tuple[float, float]]:
            turns = []
            for _ in range(rounds):
                turns.append((measure([plain], seconds, connections), measure(list(nodes), seconds, connections)))
                print(f"{len(nodes)} nodes: voc-serve {turns[-1][0]:.1f} images/s, Ray {turns[-1][1]:.1f}", flush=True)
            return turns

        on_ray = ("--ray", "--replica-cpus", "1")
        with voc_serve(0, model, PORTS[0], *on_ray, environment=environment), Callers(PORTS[0], 0, pictures) as first:
            found["one node"] = take_turns(first)
        os.environ |= {"RAY_SERVE_HAPROXY_STATS_PORT": "8405", "RAY_SERVE_HAPROXY_METRICS_PORT": "9102"}
        with pinned(1):
            node = cluster.add_node(num_cpus=1)
        with (voc_serve(0, model, PORTS[0], *on_ray, "--replicas", "2", environment=environment),
              Callers(PORTS[0], 0, pictures) as first, Callers(PORTS[1], 1, pictures) as second):
            found["two nodes"] = take_turns(first, second)
            killed = kill(lambda: cluster.remove_node(node, allow_graceful=False), pictures, seconds)
    rays = {name: [ray for _, ray in turns] for name, turns in found.items()}
    one, two = rays["one node"], rays["two nodes"]
    return {"one node ÷ voc-serve, median of turns": statistics.median(ray / plain for plain, ray in found["one node"]),
            "two nodes ÷ one, medians": statistics.median(two) / statistics.median(one),
            "two nodes ÷ one, the best turn of each": max(two) / max(one), "node killed": killed}


def kill(end_node: Any, pictures: list[Path], seconds: float) -> dict[str, int]:
    """How the calls of voc_cls.client end, which retries, while a node is killed in the middle."""
    from voc_cls.client import CallError, Client

    ends: Counter[str] = Counter()
    end = time.monotonic() + 2 * seconds

    def call_again_and_again() -> None:
        with Client(f"127.0.0.1:{PORTS[0]}", timeout=60) as client:
            while time.monotonic() < end:
                try:
                    client.classify(pictures[:1])
                    ends["OK"] += 1
                except CallError as error:
                    ends[f"{error.code.name}: {error}"] += 1

    threads = [Thread(target=call_again_and_again) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    end_node()
    for thread in threads:
        thread.join()
    return dict(ends)


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
    parser.add_argument("--seconds", type=float, default=8, help="of each turn of serving")
    parser.add_argument("--rounds", type=int, default=3, help="of serving")
    parser.add_argument("--callers", type=int, default=32, help="of each node; by default two batches")
    args = parser.parse_args()
    os.environ.setdefault("RAY_TMPDIR", tempfile.gettempdir())
    result = (serving(args.model, args.images, args.seconds, args.rounds, args.callers) if args.section == "serving"
              else batch(args.model, args.images))
    print(json.dumps(result, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
