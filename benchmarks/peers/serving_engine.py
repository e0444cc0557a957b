"""The limit of benchmarks/serving.py: decoder and network in one process, without a server.

    python benchmarks/peers/serving_engine.py SETTINGS_JSON PICTURE …

Each line of the input is a JSON object, and is answered by another:
    {"kind": "predict", "size": N, "seconds": S}   decoded images in batches of N              → {"speed": images/s}
    {"kind": "serve", "size": N, "seconds": S}     as in a server: decoder threads beside the network
    {"kind": "lone", "seconds": S}                 one image at a time, decoded and computed   → {"latency": median, s}
"""

from __future__ import annotations

import itertools
import json
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from serving_model import Model, Settings


def predict(model: Model, pictures: Sequence[bytes], size: int, seconds: float) -> dict[str, float]:
    """Pictures/s of the network alone."""
    decoded = model.decode_all(pictures[:4 * size])
    batches = itertools.cycle([decoded[at:at + size] for at in range(0, len(decoded) - size + 1, size)])
    return {"speed": _speed(lambda: model.predict(next(batches)), size, seconds)}


def serve(model: Model, pictures: Sequence[bytes], size: int, seconds: float) -> dict[str, float]:
    """Pictures/s with the decoder threads working at the same time, two batches ahead at most."""
    ahead: queue.Queue[Any] = queue.Queue(2 * size)
    files, over = itertools.cycle(pictures), threading.Event()
    order = threading.Lock()

    def keep_decoding() -> None:
        while not over.is_set():
            with order:
                content = next(files)
            inputs = model.decode(content)
            while not over.is_set():
                try:
                    ahead.put(inputs, timeout=0.1)
                    break
                except queue.Full:
                    continue

    threads = model.threads
    with ThreadPoolExecutor(threads) as decoders:
        for _ in range(threads):
            decoders.submit(keep_decoding)
        speed = _speed(lambda: model.predict(np.stack([ahead.get() for _ in range(size)])), size, seconds)
        over.set()
    return {"speed": speed}


def lone(model: Model, pictures: Sequence[bytes], seconds: float) -> dict[str, float]:
    """Median seconds that one picture takes, decoding included, while nothing else happens."""
    took, end = [], time.perf_counter() + seconds
    for content in itertools.cycle(pictures):
        started = time.perf_counter()
        model.predict(model.decode(content)[np.newaxis])
        took.append(time.perf_counter() - started)
        if time.perf_counter() > end:
            return {"latency": statistics.median(took)}
    raise AssertionError("there are no pictures")


def _speed(run: Callable[[], object], size: int, seconds: float) -> float:
    """Pictures/s over whole batches; the first is not counted."""
    run()
    batches, started = 0, time.perf_counter()
    while time.perf_counter() < started + seconds:
        run()
        batches += 1
    return batches * size / (time.perf_counter() - started)


def main(settings: Settings, paths: Sequence[str]) -> None:
    """Answers commands until its input ends."""
    pictures = [Path(path).read_bytes() for path in paths]
    model = Model(settings)
    model.warm_up(range(1, settings.max_batch_size + 1))
    kinds: dict[str, Callable[..., dict[str, float]]] = {"predict": predict, "serve": serve, "lone": lone}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(kinds[command.pop("kind")](model, pictures, **command)), flush=True)


if __name__ == "__main__":
    main(Settings.from_json(sys.argv[1]), sys.argv[2:])
