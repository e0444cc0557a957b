"""voc-serve by engine and precision: speed, mean AP of what it answers, memory and time to ready, in one run.

    voc-export runs/voc07 models/float --format savedmodel openvino
    voc-export runs/voc07 models/int8 --format openvino --precision int8
    python benchmarks/engines.py models/float models/int8 VOCdevkit/VOC2007 --ray peers/ray/bin/python …

Each engine is a real voc-serve, one after the other; the pictures of the test split are sent over one gRPC stream, 32
ahead, and mean AP is computed from the answers. `alone` is the network without a server: OpenVINO's own best of a
request at a time, streams and batches of 16, TensorFlow's best batch size. The peers (benchmarks/serving.py says how to
install them) compute the TensorFlow network in bfloat16. Compare ratios, not absolute numbers.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from serving_calls import calls_of, ended, throughput
from serving_processes import PEERS, Processes, Server, callers, free_port, newest_version, voc_serve, wait_until_ready

from voc_cls.client import Client
from voc_cls.console import import_openvino
from voc_cls.data.dataset import Dataset
from voc_cls.data.load import load_dataset
from voc_cls.evaluation.average_precision import average_precisions
from voc_cls.image_decoder import decode, prepare
from voc_cls.image_header import image_work
from voc_cls.model_metadata import input_format, read_metadata

CLASSES = ("bus", "car", "cat", "person", "train")
"""The classes with enough positives in the real part, see docs/training.md."""
RUNS = (("tensorflow", "float32"), ("tensorflow", "bfloat16"), ("openvino", "float32"), ("openvino", "bfloat16"),
        ("openvino", "int8"))
WINDOW, BATCH = 32, 16
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
    seconds: float = 20
    """Time for a network alone, and for a lone caller."""
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
    """Pictures per second."""
    alone: float = np.nan
    """Pictures per second of the network without a server."""
    lone: float = np.nan
    """Median milliseconds of a caller who is alone."""
    lone_alone: float = np.nan
    """Median milliseconds of decoding and network without a server."""
    memory: float = np.nan
    """MiB of all processes of the server."""
    ready: float = np.nan
    """Seconds from start to ready."""
    mean_ap: float = np.nan


def main(benchmark: Benchmark) -> None:
    test = load_dataset(benchmark.root)["test"]
    test = test.subset(np.arange(benchmark.pictures or len(test)), test.name)
    rows = []
    for engine, precision in RUNS:
        model = benchmark.int8_model if precision == "int8" else benchmark.float_model
        with Processes() as processes:
            row = measured(benchmark, processes, model, engine, precision, test)
        with Processes() as processes:
            alone, lone_alone = (tensorflow_alone(benchmark, processes, precision, test) if engine == "tensorflow"
                                 else openvino_alone(benchmark, newest_version(model), precision, test))
        rows.append(replace(row, alone=alone, lone_alone=lone_alone))
        print(rows[-1], file=sys.stderr, flush=True)
    for name, python in (("ray", benchmark.ray), ("litserve", benchmark.litserve)):
        if python is not None:
            with Processes() as processes:
                rows.append(peer(benchmark, processes, name, python, test))
            print(rows[-1], file=sys.stderr, flush=True)
    show(rows)


def measured(benchmark: Benchmark, processes: Processes, model: Path, engine: str, precision: str, test: Dataset
             ) -> Row:
    """A voc-serve with all its callers, and with one."""
    port = free_port()
    begin = time.monotonic()
    server = processes.server("voc-serve", voc_serve(), "--model-dir", model, "--host", "127.0.0.1", "--port", port,
                              "--http-port", -1, "--engine", engine, "--threads", benchmark.threads, "--precision",
                              "auto" if precision == "int8" else precision, "--log-level", "error")
    with Client(f"127.0.0.1:{port}", wait=600) as client:
        client.model()
        ready = time.monotonic() - begin
        labels = [label.name for label in client.model().labels]
        list(client.classify_stream(test.paths[:4 * WINDOW], window=WINDOW))  # batches grow to their usual size
        scores = np.empty((len(test), len(labels)), np.float32)
        begin = time.monotonic()
        for position, prediction in client.classify_stream(test.paths, window=WINDOW):
            by_label = {scored.label: scored.probability for scored in prediction.labels}
            scores[position] = [by_label[label] for label in labels]
        speed = len(test) / (time.monotonic() - begin)
        memory = sum(server.resident_bytes()) / MEBIBYTE
        lone, end = [], time.monotonic() + benchmark.seconds / 2
        for path in test.paths:
            begin = time.monotonic()
            client.classify([path])
            lone.append(time.monotonic() - begin)
            if time.monotonic() > end:
                break
    mean_ap = average_precisions(test, scores, CLASSES).map
    return Row(f"voc-serve, {engine} {precision}", speed, lone=1000 * statistics.median(lone), memory=memory,
               ready=ready, mean_ap=mean_ap)


def tensorflow_alone(benchmark: Benchmark, processes: Processes, precision: str, test: Dataset) -> tuple[float, float]:
    """voc-serve's frozen network without a server, which is faster than what tf.saved_model.load gives: most pictures
    per second, and median milliseconds with decoding of a lone one."""
    worker = processes.worker("engine", sys.executable, PEERS / "serving_engine.py", settings(benchmark, precision),
                              *test.paths[:4 * BATCH])
    worker.answer()
    speeds = [worker.ask("predict", size=size, seconds=benchmark.seconds / 5)["speed"] for size in (1, 2, 4, 8, BATCH)]
    return max(speeds), 1000 * worker.ask("lone", seconds=benchmark.seconds / 2)["latency"]


def openvino_alone(benchmark: Benchmark, version: Path, precision: str, test: Dataset) -> tuple[float, float]:
    """OpenVINO without a server, in this process."""
    wanted = input_format(version, read_metadata(version))
    contents = [path.read_bytes() for path in test.paths[:4 * BATCH]]
    images = np.stack([prepare(decode(image_work(content, 10**8)), wanted) for content in contents])
    predict, ways = openvino_ways(version, precision, benchmark.threads, images)
    lone, speeds = [], []
    for content in contents:
        begin = time.monotonic()
        predict(prepare(decode(image_work(content, 10**8)), wanted)[np.newaxis])
        lone.append(time.monotonic() - begin)
    for number, run in ways:
        run()
        begin, runs = time.monotonic(), 0
        while time.monotonic() < begin + benchmark.seconds / len(ways):
            run()
            runs += 1
        speeds.append(runs * number / (time.monotonic() - begin))
    return max(speeds), 1000 * statistics.median(lone)


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
    port, pictures = free_port(), list(test.paths[:256])
    server: Server = processes.server(name, python.absolute(), PEERS / f"serving_{name}.py",
                                      settings(benchmark, "bfloat16", port))
    worker = callers(processes, server, "grpc" if name == "ray" else name, port, pictures)
    wait_until_ready(server, worker)
    worker.ask("closed", callers=WINDOW, seconds=benchmark.seconds / 2)
    calls = calls_of(worker.ask("closed", callers=WINDOW, seconds=2 * benchmark.seconds))
    begin = calls[0].begin
    speed = throughput(ended(calls, begin + 0.15 * benchmark.seconds, begin + 2 * benchmark.seconds))
    return Row(f"{name}, tensorflow bfloat16", speed, memory=sum(server.resident_bytes()) / MEBIBYTE)


def show(rows: list[Row]) -> None:
    """A table in Markdown."""
    base = next(row for row in rows if row.name.endswith("tensorflow bfloat16"))
    print("| server, engine and precision | pictures/s | ÷ TensorFlow bfloat16 | ÷ network alone | lone caller ms "
          "(added) | memory MiB | ready s | mean AP |\n|---|---:|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        cells = (f"{row.speed:.1f}", f"{row.speed / base.speed:.2f}", f"{row.speed / row.alone:.2f}",
                 f"{row.lone:.1f} ({row.lone - row.lone_alone:+.1f})", f"{row.memory:.0f}", f"{row.ready:.1f}",
                 f"{row.mean_ap:.4f}")
        print(f"| {row.name} | {' | '.join('–' if 'nan' in cell else cell for cell in cells)} |")


if __name__ == "__main__":
    main(tyro.cli(Benchmark, description=__doc__))
