"""A version's network in OpenVINO, in the worker's process.

How batches are computed is measured when a version is loaded, because it depends on the network and on the machine:
image after image with all threads, which suits large convolutions; several images at a time with a share of the threads
each (OpenVINO calls that streams), which suits many cores; or several images as one, which suits small networks and
large dense layers. Each is compiled for a fixed number of images: for any number it is up to 20 % slower.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serving.engine.process import Inputs, Scores
from serving.errors import ServeError
from serving.models.version_folders import MODEL_XML
from voc_cls.errors import reason
from voc_cls.openvino_core import import_openvino, openvino_core

ov = import_openvino()
CORE = openvino_core()
CAPABILITIES = CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
"""What the CPU computes fast. Asking makes OpenVINO count the cores too, before some are taken away for the load."""
HINTS = {"float32": "f32", "bfloat16": "bf16"}
"""Precision → OpenVINO's hint, for the layers that were not exported as int8."""
INPUT, OUTPUTS = "inputs", ("probabilities", "logits")
EXPLAINED = (*OUTPUTS, "heat_maps", "embedding")
TOGETHER = 8
"""Images that are computed as one: dense layers read their weights once for all of them."""
MEASURE_SECONDS = 1.0
"""How long batches may be measured; with slow networks ways are left out."""
RUNS = 3
"""Batches that tell how fast a way is; the first also prepares what the others reuse."""
GAIN = 1.1
"""How much faster another way than image after image must be: it takes the memory of another copy of the weights."""
HANDOVER_SECONDS, HANDOVER_SHARE = 0.001, 0.03
"""About what the server takes between two batches, and the share of its time for which the engine may wait for it."""


class _Way:
    """The network compiled for requests of so many images, of which several may run at a time."""

    def __init__(self, model: Any, images: int, size: int, options: dict[str, Any]) -> None:
        self.images = images
        model.reshape({INPUT: [images, size, size, 3]})
        self._network = CORE.compile_model(model, "CPU", options)
        self.least = images * self._network.get_property("NUM_STREAMS")
        """Images of a batch that gives all threads work."""
        self._requests: list[Any] = []

    def start(self, inputs: Inputs) -> list[Any]:
        """Starts the requests that compute these images, without copying them."""
        while len(self._requests) * self.images < len(inputs):
            self._requests.append(self._network.create_infer_request())
        started = self._requests[:len(inputs) // self.images]
        for number, request in enumerate(started):
            part = inputs[number * self.images:(number + 1) * self.images]
            request.set_input_tensor(ov.Tensor(part, shared_memory=True))
            request.start_async()
        return started


class OpenVinoNetwork:
    """model.xml of one exported version, compiled for the CPU."""

    def __init__(self, version_folder: Path, precision: str, threads: int) -> None:
        self._precision, self._threads = choose_precision(precision), threads
        self._file = version_folder / MODEL_XML
        self._others: dict[int, _Way] = {}  # by the size of the images; each has its own copy of the weights
        self._explaining: _Way | None = None  # another one
        try:
            self._model = self._read(OUTPUTS)
            self._size = self._model.input(INPUT).partial_shape[1].get_length()
            self._single = self._best = self._compiled(1, NUM_STREAMS=1)
        except RuntimeError as error:
            raise ServeError(f"{version_folder} cannot be loaded ({reason(error)}): export the model again with "
                             "voc-export") from error
        self._int8 = any(node.get_type_name() == "FakeQuantize" for node in self._model.get_ops())

    @property
    def description(self) -> str:
        version, precision = ov.__version__.partition("-")[0], "int8" if self._int8 else self._precision
        number, together = self._best.least, "as one" if self._best.images > 1 else "at a time"
        return (f"OpenVINO {version}, CPU, {precision}, {self._threads} threads, "
                f"{number} {'picture' if number == 1 else 'pictures'} {together}")

    def choose_sizes(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Measures how batches are computed best, and keeps the sizes that save time, there or in handing over."""
        end, inputs = time.monotonic() + MEASURE_SECONDS, np.zeros((sizes[-1], self._size, self._size, 3), np.float32)
        fastest, seconds = self._single, self._seconds_per_image(inputs[:1])
        slowest = seconds
        for way in self._other_ways(sizes[-1]):
            batch = inputs[:2 * way.least if way.images == 1 else way.images]
            if time.monotonic() + RUNS * len(batch) * slowest < end:
                self._best = way
                if (measured := self._seconds_per_image(batch)) * GAIN < seconds:
                    fastest, seconds = way, measured
        self._best, self._model = fastest, None
        largest = next((size for size in sizes if size >= 2 * fastest.least
                        and size * seconds * HANDOVER_SHARE >= HANDOVER_SECONDS), sizes[-1])
        return tuple(size for size in sizes if size <= largest)

    def predict(self, inputs: Inputs) -> Scores:
        """float32 [N, size, size, 3] through the network; of another size than its own, one image."""
        if (size := inputs.shape[1]) != self._size:
            if size not in self._others:
                self._others[size] = self._compiled(1, size, NUM_STREAMS=1)
            return _scores(self._others[size].start(inputs))
        several = len(inputs) - len(inputs) % self._best.images if len(inputs) >= self._best.least else 0
        return _scores(self._best.start(inputs[:several]) + self._single.start(inputs[several:]))

    def explain(self, inputs: Inputs) -> Scores:
        """float32 [1, size, size, 3] → all outputs. The first call compiles a network that has them."""
        if self._explaining is None:
            self._model = self._read(EXPLAINED)
            self._explaining, self._model = self._compiled(1, NUM_STREAMS=1), None
        return _scores(self._explaining.start(inputs), EXPLAINED)

    def _read(self, outputs: Sequence[str]) -> Any:
        """The part of model.xml that computes these."""
        model = CORE.read_model(self._file)
        return ov.Model([model.output(name) for name in outputs], model.get_parameters())

    def _other_ways(self, largest: int) -> Iterator[_Way]:
        """Those beside image after image that batches of up to `largest` images can use."""
        if self._threads > 1 and largest > 1:
            streams = self._compiled(1, PERFORMANCE_HINT="THROUGHPUT")
            if 1 < streams.least <= largest:
                yield streams
        if largest > 1:
            yield self._compiled(min(TOGETHER, largest), NUM_STREAMS=1)

    def _compiled(self, images: int, size: int | None = None, **options: Any) -> _Way:
        model = self._model if size is None else self._read(OUTPUTS)
        return _Way(model, images, size or self._size, {
            "INFERENCE_PRECISION_HINT": HINTS[self._precision], "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_HYPER_THREADING": True, "ENABLE_CPU_PINNING": False, **options})

    def _seconds_per_image(self, inputs: Inputs) -> float:
        """In the fastest of RUNS batches."""
        seconds = []
        for _ in range(RUNS):
            begin = time.monotonic()
            self.predict(inputs)
            seconds.append(time.monotonic() - begin)
        return min(seconds) / len(inputs)


def _scores(requests: Sequence[Any], outputs: Sequence[str] = OUTPUTS) -> Scores:
    """The outputs of requests that have been started."""
    for request in requests:
        request.wait()
    return Scores(*(np.concatenate([request.get_tensor(name).data for request in requests]) for name in outputs))


def choose_precision(wanted: str) -> str:
    """`auto` becomes bfloat16 where the CPU has instructions for it; ServeError if bfloat16 is not supported."""
    supported = "BF16" in CAPABILITIES
    if wanted == "auto":
        return "bfloat16" if supported else "float32"
    if wanted == "bfloat16" and not supported:
        raise ServeError("`precision` bfloat16 needs a CPU with avx512_bf16 or amx_bf16, or another that OpenVINO "
                         "computes it on, which this machine does not have: choose float32 or auto")
    return wanted
