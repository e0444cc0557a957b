"""voc-serve by engine and precision: speed, mean AP of what it answers, memory and time to ready, in one run.

    voc-export runs/voc07 models/float --format savedmodel openvino
    voc-export runs/voc07 models/int8 --format openvino --precision int8
    apt-get install nghttp2-client
    python benchmarks/engines.py models/float models/int8 VOCdevkit/VOC2007 --ray peers/ray/bin/python …

Each engine is a real voc-serve, one after the other. The pictures of the test split are sent over one gRPC stream, and
mean AP is computed from the answers. Then, in turns, 16 pictures are sent by h2load, whose callers cost little, by 32
callers and by one; and the network computes without a server, which is stopped meanwhile: OpenVINO's own best of a
request at a time, streams and batches of 16, TensorFlow's best batch size. Ratios and differences are those of one
round; of several rounds the median counts. The peers (benchmarks/serving.py says how to install them) compute the
TensorFlow network in bfloat16. Compare ratios, not absolute numbers.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tyro
from serving_calls import Call, ended, percentile, throughput
from serving_h2load import H2Load
from serving_processes import PEERS, Processes, Server, callers, free_port, newest_version, voc_serve, wait_until_ready

from voc_cls.client import Client
from voc_cls.data.dataset import Dataset
from voc_cls.data.load import load_dataset
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.image_decoder import decode, prepare
from voc_cls.image_header import image_work
from voc_cls.model_metadata import read_metadata
from voc_cls.openvino_core import import_openvino

CLASSES = ("bus", "car", "cat", "person", "train")
"""The classes with enough positives in the real part, see docs/training.md."""
RUNS = (("tensorflow", "float32"), ("tensorflow", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16"),
        ("openvino", "int8"))
CALLERS, BATCH = 32, 16
RECORDED = 16
"""Pictures that h2load sends."""
SETTLE = 0.15
"""Share of a turn that is not counted, until batches have their usual size."""
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Benchmark:
    """What to compare."""

    float_model: tyro.conf.Positional[Path]
    """Folder of a model with a SavedModel and an OpenVINO form in float32."""
    int8_model: tyro.conf.Positional[Path]
    """Folder of the same model with an OpenVINO form in int8."""
    root: tyro.conf.Positional[Path]
    """VOC data set."""
    pictures: int = 0
    """How many of the test split to send; 0: all."""
    seconds: float = 10
    """Length of a turn; of a lone caller's, half of it."""
    rounds: int = 3
    """Turns of each."""
    h2load: Path = Path("/usr/bin/h2load")
    """The program of nghttp2 that calls."""
    threads: int = 2
    """Of every engine."""
    ray: Path | None = None
    """A Python that has Ray Serve and TensorFlow."""
    litserve: Path | None = None
    """A Python that has LitServe and TensorFlow."""


@dataclass(frozen=True)
class Row:
    """One engine or peer; NaN: not measured."""

    name: str
    speed: float
    """Pictures per second of 32 callers."""
    share: float = np.nan
    """Of the network's speed without a server."""
    lone: float = np.nan
    """Median milliseconds of a caller who is alone."""
    added: float = np.nan
    """What of them is beyond decoding and network in one process."""
    memory: float = np.nan
    """MiB of all processes of the server."""
    ready: float = np.nan
    """Seconds from start to ready."""
    mean_ap: float = np.nan


class Alone(Protocol):
    """A network without a server."""

    def speed(self, seconds: float) -> float:
        """Pictures per second, decoded before, in the way that suits it best."""

    def lone(self, seconds: float) -> float:
        """Median milliseconds of one picture at a time, decoded and computed."""


def main(benchmark: Benchmark) -> None:
    test = load_dataset(benchmark.root)["test"]
    test = test.subset(np.arange(benchmark.pictures or len(test)), test.name)
    rows = []
    for engine, precision in RUNS:
        model = benchmark.int8_model if precision == "int8" else benchmark.float_model
        with Processes() as processes:
            rows.append(measured(benchmark, processes, model, engine, precision, test))
        print(rows[-1], file=sys.stderr, flush=True)
    for name, python in (("ray", benchmark.ray), ("litserve", benchmark.litserve)):
        if python is not None:
            with Processes() as processes:
                rows.append(peer(benchmark, processes, name, python, test))
            print(rows[-1], file=sys.stderr, flush=True)
    show(rows)


def measured(benchmark: Benchmark, processes: Processes, model: Path, engine: str, precision: str, test: Dataset
             ) -> Row:
    """A voc-serve with all its callers, with one, and its network alone, in turns."""
    port = free_port()
    begin = time.monotonic()
    server = processes.server("voc-serve", voc_serve(), "--model-dir", model, "--host", "127.0.0.1", "--port", port,
                              "--http-port", -1, "--engine", engine, "--threads", benchmark.threads, "--precision",
                              "auto" if precision == "int8" else precision, "--log-level", "error")
    with Client(f"127.0.0.1:{port}", wait=600) as client:
        client.model()
        ready = time.monotonic() - begin
        mean_ap = mean_ap_of_answers(client, test)
        memory = sum(server.resident_bytes()) / MEBIBYTE
    with server.asleep():
        alone: Alone = (TensorFlowAlone(benchmark, processes, precision, test) if engine == "tensorflow" else
                        OpenVinoAlone(benchmark, newest_version(model), precision, test))
    h2load = H2Load(benchmark.h2load, "grpc", port, test.paths[:RECORDED], processes.folder)
    speeds, shares, lones, added = [], [], [], []
    for _ in range(benchmark.rounds):
        with server.asleep():
            speed_alone, lone_alone = alone.speed(benchmark.seconds), alone.lone(benchmark.seconds / 2)
        speeds.append(settled_throughput(h2load.closed(CALLERS, benchmark.seconds), benchmark.seconds))
        shares.append(speeds[-1] / speed_alone)
        lones.append(1000 * percentile(h2load.closed(1, benchmark.seconds / 2), 0.5))
        added.append(lones[-1] - lone_alone)
        server.check()
    return Row(f"voc-serve, {engine} {precision}", *map(statistics.median, (speeds, shares, lones, added)), memory,
               ready, mean_ap)


def mean_ap_of_answers(client: Client, test: Dataset) -> float:
    """Mean AP, from the answers to all pictures."""
    labels = [label.name for label in client.model().labels]
    scores = np.empty((len(test), len(labels)), np.float32)
    for position, prediction in client.classify_stream(test.paths, window=CALLERS):
        by_label = {scored.label: scored.probability for scored in prediction.labels}
        scores[position] = [by_label[label] for label in labels]
    return average_precisions(test, scores, CLASSES).map


def settled_throughput(calls: list[Call], seconds: float) -> float:
    """Pictures per second of a turn, without its beginning."""
    return throughput(ended(calls, calls[0].begin + SETTLE * seconds, calls[0].begin + seconds))


class TensorFlowAlone:
    """voc-serve's frozen network in a process of its own, which is faster than what tf.saved_model.load gives."""

    def __init__(self, benchmark: Benchmark, processes: Processes, precision: str, test: Dataset) -> None:
        self._worker = processes.worker("engine", sys.executable, PEERS / "serving_engine.py",
                                        settings(benchmark, precision), *test.paths[:4 * BATCH])
        self._worker.answer()
        speeds = {size: self._speed(size, benchmark.seconds / 5) for size in (1, 2, 4, 8, BATCH)}
        self._best = max(speeds, key=lambda size: speeds[size])

    def speed(self, seconds: float) -> float:
        return self._speed(self._best, seconds)

    def lone(self, seconds: float) -> float:
        return 1000 * float(self._worker.ask("lone", seconds=seconds)["latency"])

    def _speed(self, size: int, seconds: float) -> float:
        return float(self._worker.ask("predict", size=size, seconds=seconds)["speed"])


class OpenVinoAlone:
    """OpenVINO in this process."""

    def __init__(self, benchmark: Benchmark, version: Path, precision: str, test: Dataset) -> None:
        self._wanted = read_metadata(version).preprocessing
        self._contents = [path.read_bytes() for path in test.paths[:4 * BATCH]]
        images = np.stack([self._decoded(content) for content in self._contents])
        self._predict, ways = openvino_ways(version, precision, benchmark.threads, images)
        speeds = [(self._speed(*way, benchmark.seconds / 5), way) for way in ways]
        self._best = max(speeds, key=lambda measured: measured[0])[1]

    def speed(self, seconds: float) -> float:
        return self._speed(*self._best, seconds)

    def lone(self, seconds: float) -> float:
        took, end = [], time.monotonic() + seconds
        for content in itertools.cycle(self._contents[:RECORDED]):
            begin = time.monotonic()
            self._predict(self._decoded(content)[np.newaxis])
            took.append(time.monotonic() - begin)
            if time.monotonic() > end:
                break
        return 1000 * statistics.median(took)

    def _decoded(self, content: bytes) -> Any:
        return prepare(decode(image_work(content, 10**8)), self._wanted)

    @staticmethod
    def _speed(images: int, run: Callable[[], object], seconds: float) -> float:
        run()
        begin, runs = time.monotonic(), 0
        while time.monotonic() < begin + seconds:
            run()
            runs += 1
        return runs * images / (time.monotonic() - begin)


def openvino_ways(version: Path, precision: str, threads: int, images: Any) -> tuple[Any, Any]:
    """A request for one image, and the ways to compute many: (images, function) each."""
    ov = import_openvino()
    core = ov.Core()

    def compiled(number: int, hint: str) -> Any:
        model = core.read_model(version / "model.xml")
        model.reshape([number, *images.shape[1:]])
        return core.compile_model(model, "CPU", {
            "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": hint,
            "INFERENCE_PRECISION_HINT": "f32" if precision == "float32" else "bf16"})

    latency, batch, queue = compiled(1, "LATENCY"), compiled(BATCH, "LATENCY"), ov.AsyncInferQueue(
        compiled(1, "THROUGHPUT"))

    def all_at_a_time() -> None:
        for image in images:
            queue.start_async({0: image[np.newaxis]})
        queue.wait_all()

    return latency, ((1, lambda: latency(images[:1])), (len(images), all_at_a_time),
                     (BATCH, lambda: batch(images[:BATCH])))


def settings(benchmark: Benchmark, precision: str, port: int = 0) -> str:
    """What the processes in benchmarks/peers take, serving_model.Settings."""
    return json.dumps({"version_folder": str(newest_version(benchmark.float_model).resolve()), "port": port,
                       "precision": precision, "threads": benchmark.threads, "max_batch_size": BATCH,
                       "max_waiting": 128})


def peer(benchmark: Benchmark, processes: Processes, name: str, python: Path, test: Dataset) -> Row:
    """Another server around the TensorFlow network in bfloat16, with as many callers."""
    port, pictures, protocol = free_port(), test.paths[:RECORDED], "grpc" if name == "ray" else name
    server: Server = processes.server(name, python.absolute(), PEERS / f"serving_{name}.py",
                                      settings(benchmark, "bfloat16", port))
    wait_until_ready(server, callers(processes, server, protocol, port, list(pictures)))
    h2load = H2Load(benchmark.h2load, protocol, port, pictures, processes.folder)
    h2load.closed(CALLERS, benchmark.seconds / 2)
    speed = settled_throughput(h2load.closed(CALLERS, 2 * benchmark.seconds), 2 * benchmark.seconds)
    return Row(f"{name}, tensorflow bfloat16", speed, memory=sum(server.resident_bytes()) / MEBIBYTE)


def show(rows: list[Row]) -> None:
    """A table in Markdown."""
    base = next(row for row in rows if row.name.endswith("tensorflow bfloat16"))
    print("| server, engine and precision | pictures/s | ÷ TensorFlow bfloat16 | ÷ network alone | lone caller ms "
          "(added) | memory MiB | ready s | mean AP |\n|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = (f"{row.speed:.1f}", f"{row.speed / base.speed:.2f}", f"{row.share:.2f}",
                 f"{row.lone:.1f} ({row.added:+.1f})", f"{row.memory:.0f}", f"{row.ready:.1f}",
                 f"{row.mean_ap:.4f}")
        print(f"| {row.name} | {' | '.join('–' if 'nan' in cell else cell for cell in cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
