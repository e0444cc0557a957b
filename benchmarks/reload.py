"""What callers of voc-serve notice while it loads another version, and the memory after many reloads.

    python benchmarks/reload.py models/voc VOCdevkit/VOC2007/JPEGImages [--precision bfloat16] [--reloads 50]

First, some callers send one JPEG file after the other: before, while and after new versions appear in the model's
folder and the server switches to them. Then the version is replaced many times, with one call after each, and the
resident memory of the server and of all its child processes is measured. The versions are hard links to the model's
newest one. Compare ratios, not absolute times. The exit code is 1 if a call failed, or if memory grew by more
than 10 %.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import grpc
import tyro
from rich.console import Console
from rich.table import Table
from serving_calls import Call, calls_of, percentile, statuses
from serving_processes import (
    Processes,
    Server,
    Worker,
    callers,
    free_port,
    newest_version,
    some_pictures,
    voc_serve,
    wait_until_ready,
)

from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

GROWTH = 1.1
"""How much larger memory may be after the reloads."""
CONSOLE = Console(width=None if sys.stdout.isatty() else 140)
LOAD_SECONDS = 600
"""How long a version may take to be loaded and the old one to be gone."""
GONE = classifier_pb2.ModelVersion.STATE_END


@dataclass(frozen=True)
class Benchmark:
    """What to reload, and how often."""

    model_dir: tyro.conf.Positional[Path]
    """Folder that voc-export wrote; its highest version is served. Nothing in it is changed."""
    pictures_dir: tyro.conf.Positional[Path]
    """Folder of JPEG files."""
    callers: int = 4
    """Callers at a time."""
    seconds: float = 30
    """How long calls are counted before the first load, between two, and after the last."""
    loads: int = 3
    """Versions loaded while the callers call."""
    reloads: int = 50
    """Versions loaded afterwards, for the memory."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In what the network is computed."""
    poll_seconds: float = 0.5
    """How often the server looks for new versions."""
    pictures: int = 256
    """How many pictures are sent, again and again."""
    json: Path | None = None
    """File to write every measurement into."""


@dataclass(frozen=True)
class Phase:
    """The calls of one time; s."""

    name: str
    calls: int
    p50: float
    p99: float
    slowest: float
    speed: float
    """Calls/s."""

    @classmethod
    def of(cls, name: str, calls: list[Call], seconds: float) -> Phase:
        """What the calls say that were made in that time."""
        return cls(name, len(calls), percentile(calls, 0.5), percentile(calls, 0.99), percentile(calls, 1),
                   len(calls) / seconds)


@dataclass(frozen=True)
class Memory:
    """Resident bytes."""

    server: int
    below: int
    """Of all processes below the server."""

    @property
    def total(self) -> int:
        """Of all."""
        return self.server + self.below


class Versions:
    """A model folder of hard links, in which a version replaces another."""

    def __init__(self, model_dir: Path, folder: Path, port: int) -> None:
        self.model_dir = folder / model_dir.resolve().name
        self.model_dir.mkdir()
        self.newest = 0
        self._origin = folder / "origin"
        shutil.copytree(newest_version(model_dir), self._origin, copy_function=_link_or_copy)
        self._port = port

    def add(self) -> None:
        """The next version appears, whole."""
        aside = self._origin.with_name("aside")
        shutil.copytree(self._origin, aside, copy_function=os.link)
        self.newest += 1
        aside.rename(self.model_dir / str(self.newest))

    def replace(self, server: Server) -> tuple[float, float]:
        """Adds a version and waits until it answers and the old one is unloaded; (begin, end), time.monotonic()."""
        begin = time.monotonic()
        self.add()
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)
            while not self._only_newest(stub.GetModel(classifier_pb2.GetModelRequest(), timeout=LOAD_SECONDS)):
                server.check()
                if time.monotonic() > begin + LOAD_SECONDS:
                    raise SystemExit(f"version {self.newest} was not served in {LOAD_SECONDS} s:\n{server.log_tail()}")
                time.sleep(0.1)
        end = time.monotonic()
        shutil.rmtree(self.model_dir / str(self.newest - 1))
        return begin, end

    def _only_newest(self, model: classifier_pb2.GetModelResponse) -> bool:
        others = [version for version in model.versions if version.version != self.newest]
        return model.version == self.newest and all(version.state == GONE for version in others)


def main(benchmark: Benchmark) -> int:
    """Runs both parts and prints their tables; 0 if the limits are reached."""
    port = free_port()
    pictures = some_pictures(benchmark.pictures_dir, benchmark.pictures)
    with tempfile.TemporaryDirectory(dir=_beside(benchmark.model_dir)) as folder, Processes() as processes:
        versions = Versions(benchmark.model_dir, Path(folder), port)
        versions.add()
        server = processes.server("voc-serve", voc_serve(), "--model-dir", versions.model_dir, "--host", "127.0.0.1",
                                  "--port", port, "--http-port", -1, "--precision", benchmark.precision,
                                  "--versions", "latest", "--poll-seconds", benchmark.poll_seconds)
        worker = callers(processes, server, "grpc", port, pictures)
        wait_until_ready(server, worker)
        phases, load_seconds, ended = under_load(benchmark, versions, server, worker)
        show_phases(phases, load_seconds, ended)
        memory = after_reloads(benchmark, versions, server, worker)
    failed = sum(count for status, count in ended.items() if status != "OK")
    growth = memory[-1].total / memory[0].total
    show_memory(memory)
    if benchmark.json:
        benchmark.json.write_text(json.dumps({
            "settings": asdict(benchmark), "phases": [asdict(phase) for phase in phases], "statuses": ended,
            "load_seconds": load_seconds, "memory": [asdict(one) for one in memory]}, indent=1, default=str) + "\n")
    print(f"no call failed: {'reached' if not failed else 'missed'}")
    print(f"memory within {GROWTH - 1:.0%} after {benchmark.reloads} reloads: "
          f"{'reached' if growth <= GROWTH else 'missed'}")
    return 0 if not failed and growth <= GROWTH else 1


def under_load(benchmark: Benchmark, versions: Versions, server: Server,
               worker: Worker) -> tuple[list[Phase], list[float], dict[str, int]]:
    """Calls before, while and after versions are loaded; how long each load took; how the calls ended."""
    worker.ask("closed", callers=benchmark.callers, seconds=benchmark.seconds / 3)
    worker.tell({"kind": "closed", "callers": benchmark.callers, "seconds": None})
    time.sleep(benchmark.seconds)
    loads = []
    for _ in range(benchmark.loads):
        loads.append(versions.replace(server))
        time.sleep(benchmark.seconds)
    worker.tell({"kind": "stop"})
    calls = calls_of(worker.answer())
    started, stopped, load_seconds = calls[0].begin, calls[-1].begin, [end - begin for begin, end in loads]
    before = [call for call in calls if call.end < loads[0][0]]
    during = [call for call in calls if any(call.begin <= end and call.end >= begin for begin, end in loads)]
    after = sorted(set(calls) - set(before) - set(during), key=lambda call: call.begin)
    return ([Phase.of("before", before, loads[0][0] - started), Phase.of("while loading", during, sum(load_seconds)),
             Phase.of("between and after", after, stopped - loads[0][0] - sum(load_seconds))],
            load_seconds, statuses(calls))


def after_reloads(benchmark: Benchmark, versions: Versions, server: Server, worker: Worker) -> list[Memory]:
    """Memory before the first and after each reload."""
    memory = [resident(server)]
    for number in range(1, benchmark.reloads + 1):
        versions.replace(server)
        answer = worker.ask("probe")
        if answer["status"] != "OK":
            raise SystemExit(f"after reload {number} a call ended with {answer['status']}:\n{server.log_tail()}")
        memory.append(resident(server))
        if number % 10 == 0:
            print(f"{number} reloads: memory {memory[-1].total / memory[0].total:.3f} of what it was", flush=True)
    return memory


def resident(server: Server) -> Memory:
    """Median of five readings, half a second apart: memory is given back a little after a version has gone."""
    readings = []
    for _ in range(5):
        time.sleep(0.5)
        readings.append(Memory(*server.resident_bytes()))
    return sorted(readings, key=lambda one: one.total)[2]


def show_phases(phases: list[Phase], load_seconds: list[float], ended: dict[str, int]) -> None:
    """Latencies as ratios to those before the first load."""
    table = Table(title=f"{len(load_seconds)} loads of {min(load_seconds):.1f} to {max(load_seconds):.1f} s; calls: "
                  + ", ".join(f"{count} {status}" for status, count in ended.items()), title_justify="left")
    for column in ("", "calls", "p50 ÷ before", "p99 ÷ before", "calls/s ÷ before", "p50, ms", "p99, ms",
                   "slowest, ms"):
        table.add_column(column, justify="right" if column else "left")

    def ratio(phase: Phase, value: Callable[[Phase], float]) -> str:
        return f"{value(phase) / value(phases[0]):.2f}"

    for phase in phases:
        table.add_row(phase.name, str(phase.calls), ratio(phase, lambda one: one.p50),
                      ratio(phase, lambda one: one.p99), ratio(phase, lambda one: one.speed),
                      *(f"{seconds * 1e3:.0f}" for seconds in (phase.p50, phase.p99, phase.slowest)))
    CONSOLE.print(table)


def show_memory(memory: list[Memory]) -> None:
    """First, last and largest."""
    first, last, largest = memory[0], memory[-1], max(memory, key=lambda one: one.total)
    table = Table(title=f"Resident memory, {len(memory) - 1} reloads", title_justify="left")
    for column in ("", "before, MiB", "after, MiB", "after ÷ before", "largest ÷ before"):
        table.add_column(column, justify="right" if column else "left")
    values: tuple[tuple[str, Callable[[Memory], int]], ...] = (
        ("server", lambda one: one.server), ("processes below it", lambda one: one.below),
        ("all", lambda one: one.total))
    for name, value in values:
        table.add_row(name, f"{value(first) / 2**20:.0f}", f"{value(last) / 2**20:.0f}",
                      f"{value(last) / value(first):.3f}", f"{value(largest) / value(first):.3f}")
    CONSOLE.print(table)


def _beside(model_dir: Path) -> Path | None:
    """The folder that holds the model, where hard links to it are possible, if one may write there; else None."""
    parent = model_dir.resolve().parent
    return parent if os.access(parent, os.W_OK) else None


def _link_or_copy(source: str, target: str) -> None:
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copy2(source, target)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Benchmark, description=__doc__)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
