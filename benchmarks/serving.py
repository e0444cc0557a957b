"""voc-serve with real callers, against its own engine without a server, and against Ray Serve, LitServe and BentoML.

    python -m venv peers/ray && peers/ray/bin/pip install "ray[serve-grpc]" tensorflow-cpu
    python -m venv peers/litserve && peers/litserve/bin/pip install litserve python-multipart tensorflow-cpu
    python -m venv peers/bentoml && peers/bentoml/bin/pip install bentoml tensorflow-cpu
    python benchmarks/serving.py models/voc VOCdevkit/VOC2007/JPEGImages --precision bfloat16 \\
        --ray peers/ray/bin/python --litserve peers/litserve/bin/python --bentoml peers/bentoml/bin/python

Each contestant is a separate process that has warmed up. Its callers are another process, which sends JPEG files, one
per call, over as many connections as there are callers. The contestants take turns; the others are paused meanwhile.
These callers take as much processor time as a small network: for one, let h2load call:

    apt-get install nghttp2-client
    python benchmarks/generated_model.py models/small
    python benchmarks/serving.py models/small VOCdevkit/VOC2007/JPEGImages --h2load /usr/bin/h2load …

The peers use voc-serve's decoder and frozen network with the same threads, precision and largest batch, so only the
servers differ. Each ratio is between two measurements of one round. Compare ratios, not absolute times. The exit
code is 1 if voc-serve misses a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from serving_calls import Call, begun, calls_of, ended, percentile, share, statuses, throughput
from serving_h2load import H2Load
from serving_processes import (
    PEERS,
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
from serving_report import EngineTurn, Report, Round, SaturationTurn, ServerTurn, show

SETTLE = 0.15
"""Share of a turn's time that is not counted, until batches have their usual size."""
TOLERANCE = 0.02
"""By how much a contestant's probabilities of one picture may differ from voc-serve's: bfloat16 in another batch."""
RECORDED = 16
"""Pictures that h2load sends, by a process each."""
FILL = 1.2
"""How often the time in which the queue should have filled up passes before saturation is measured."""


@dataclass(frozen=True)
class Benchmark:
    """What to compare, and how."""

    model_dir: tyro.conf.Positional[Path]
    """Folder that voc-export wrote; its highest version is served."""
    pictures_dir: tyro.conf.Positional[Path]
    """Folder of JPEG files."""
    callers: int = 32
    """Callers at a time."""
    seconds: float = 20
    """Length of a turn."""
    rounds: int = 3
    """Turns of each."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """In what the network is computed."""
    threads: int = len(os.sched_getaffinity(0))
    """Threads of the network, and as many that decode."""
    max_batch_size: int = 16
    """Pictures in a batch at most."""
    queue_size: int = 128
    """Pictures that voc-serve holds at most."""
    pictures: int = 256
    """How many pictures are sent, again and again."""
    ray: Path | None = None
    """A Python that has Ray Serve."""
    litserve: Path | None = None
    """A Python that has LitServe."""
    bentoml: Path | None = None
    """A Python that has BentoML."""
    h2load: Path | None = None
    """A program of nghttp2 that calls instead of Python, with 16 pictures."""
    json: Path | None = None
    """File to write every measurement into."""

    def settings(self, port: int = 0) -> str:
        """What the processes in benchmarks/peers take, serving_model.Settings."""
        return json.dumps({"version_folder": str(newest_version(self.model_dir).resolve()), "port": port,
                           "precision": self.precision, "threads": self.threads,
                           "max_batch_size": self.max_batch_size, "max_waiting": self.queue_size})


@dataclass(frozen=True)
class Contestant:
    """A server and those who call it."""

    name: str
    server: Server
    callers: Worker
    first_answer: dict[str, float]
    patience: float | None = None
    """Seconds that batches of Ray Serve wait for more when there are many callers; None: it needs no telling."""
    h2load: H2Load | None = None
    """Calls instead of `callers`."""

    def closed_loop(self, callers: int, seconds: float) -> list[Call]:
        """Each caller sends when it has its answer."""
        if self.patience is not None:
            self.callers.ask("set_wait", seconds=self.patience if callers > 1 else 0.0)
        if self.h2load is not None:
            return self.h2load.closed(callers, seconds)
        return calls_of(self.callers.ask("closed", callers=callers, seconds=seconds))


def main(benchmark: Benchmark) -> int:
    """Runs the turns, prints the tables; 0 if voc-serve reaches its limits."""
    with Processes() as processes:
        pictures = some_pictures(benchmark.pictures_dir, benchmark.pictures if benchmark.h2load is None else RECORDED)
        engine = processes.worker("engine", sys.executable, PEERS / "serving_engine.py", benchmark.settings(),
                                  *pictures)
        engine.answer()
        speeds = speeds_by_batch_size(benchmark, engine)
        best = max(speeds, key=lambda size: speeds[size])
        servers = start_servers(benchmark, processes, pictures,
                                benchmark.max_batch_size / speeds[benchmark.max_batch_size])
        for server in servers:
            with only(server, servers):  # adaptive batching, where there is, learns
                server.closed_loop(benchmark.callers, benchmark.seconds / 2)
        rounds = []
        for number in range(benchmark.rounds):
            rounds.append(one_round(benchmark, engine, best, servers))
            ours = rounds[-1].servers[servers[0].name]
            print(f"round {number + 1} of {benchmark.rounds}: voc-serve ÷ network alone "
                  f"{ours.speed / rounds[-1].engine.network:.2f}", flush=True)
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(benchmark).items()}
    report = Report(settings, best, tuple(rounds))
    if benchmark.json:
        benchmark.json.write_text(json.dumps(asdict(report), indent=1) + "\n")
    return show(report)


def start_servers(benchmark: Benchmark, processes: Processes, pictures: list[Path],
                  batch_seconds: float) -> list[Contestant]:
    """voc-serve and the peers there are, one after the other, each ready; SystemExit if one computes something else."""
    port = free_port()
    command = [voc_serve(), "--model-dir", benchmark.model_dir, "--host", "127.0.0.1", "--port", port,
               "--http-port", -1, "--precision", benchmark.precision, "--threads", benchmark.threads,
               "--max-batch-size", benchmark.max_batch_size, "--queue-size", benchmark.queue_size]
    contestants = [contestant(benchmark, processes, "voc-serve", "grpc", command, port, pictures)]
    for name, python, packages in (("ray", benchmark.ray, "'ray[serve-grpc]'"),
                                   ("litserve", benchmark.litserve, "litserve python-multipart"),
                                   ("bentoml", benchmark.bentoml, "bentoml")):
        if python is None:
            print(f"{name} is omitted; to include it: python -m venv peers/{name} && peers/{name}/bin/pip install "
                  f"{packages} tensorflow-cpu, and pass --{name} peers/{name}/bin/python", flush=True)
            continue
        port = free_port()
        contestants.append(contestant(
            benchmark, processes, f"{name} {version(python, name)}", "grpc" if name == "ray" else name,
            [python.absolute(), PEERS / f"serving_{name}.py", benchmark.settings(port)], port, pictures,
            batch_seconds if name == "ray" else None))
        ours, theirs = contestants[0].first_answer, contestants[-1].first_answer
        if ours.keys() != theirs.keys() or max(abs(ours[label] - theirs[label]) for label in ours) > TOLERANCE:
            raise SystemExit(f"{name} returns {theirs}, voc-serve {ours}: they do not compute the same")
    return contestants


def contestant(benchmark: Benchmark, processes: Processes, name: str, protocol: str, command: list[Any], port: int,
               pictures: list[Path], patience: float | None = None) -> Contestant:
    """A server that answers."""
    server = processes.server(name, *command)
    worker = callers(processes, server, protocol, port, pictures)
    answer = wait_until_ready(server, worker)
    print(f"{name} is ready", flush=True)
    h2load = None if benchmark.h2load is None else H2Load(benchmark.h2load, protocol, port, pictures, processes.folder)
    return Contestant(name, server, worker, answer, patience, h2load)


def version(python: Path, package: str) -> str:
    """The installed version of a package of another Python; SystemExit if it has none."""
    asked = subprocess.run([python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"],
                           capture_output=True, text=True)
    if asked.returncode:
        raise SystemExit(f"--{package} {python} has no {package}: pip install it there")
    return asked.stdout.strip()


def speeds_by_batch_size(benchmark: Benchmark, engine: Worker) -> dict[int, float]:
    """Pictures/s of the network alone, for the powers of two and for the largest size."""
    largest = benchmark.max_batch_size
    sizes = [*(2**power for power in range((largest - 1).bit_length())), largest]
    speeds = {size: engine.ask("predict", size=size, seconds=benchmark.seconds / 4)["speed"] for size in sizes}
    print("network alone by batch size:", ", ".join(f"{size}: {speed:.1f}/s" for size, speed in speeds.items()),
          flush=True)
    return speeds


def one_round(benchmark: Benchmark, engine: Worker, best: int, servers: list[Contestant]) -> Round:
    """One turn of each, the engine's alone first."""
    seconds = benchmark.seconds
    with only(None, servers):
        alone = EngineTurn(engine.ask("predict", size=best, seconds=seconds)["speed"],
                           engine.ask("serve", size=best, seconds=seconds)["speed"],
                           engine.ask("lone", seconds=seconds / 2)["latency"])
    turns = {}
    for server in servers:
        with only(server, servers):
            turns[server.name] = server_turn(benchmark, server)
    speed = turns[servers[0].name].speed
    with only(servers[0], servers):
        return Round(alone, turns, saturation_turn(benchmark, servers[0], speed))


@contextlib.contextmanager
def only(awake: Contestant | None, servers: list[Contestant]) -> Iterator[None]:
    """The servers but one are stopped in the meantime."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            if server is not awake:
                stack.enter_context(server.server.asleep())
        yield


def server_turn(benchmark: Benchmark, contestant: Contestant) -> ServerTurn:
    """All callers at once, then one alone."""
    calls = contestant.closed_loop(benchmark.callers, benchmark.seconds)
    since, until = calls[0].begin + SETTLE * benchmark.seconds, calls[0].begin + benchmark.seconds
    counted, callers_share = begun(calls, since, until), contestant.h2load.share if contestant.h2load else None
    lone = contestant.closed_loop(1, benchmark.seconds / 2)
    contestant.server.check()
    return ServerTurn(throughput(ended(calls, since, until)), percentile(counted, 0.5), percentile(counted, 0.99),
                      1 - share(calls, "OK"), percentile(lone, 0.5), callers_share)


def saturation_turn(benchmark: Benchmark, contestant: Contestant, speed: float) -> SaturationTurn:
    """Twice as many calls as can be answered, whether or not earlier ones were."""
    fill = FILL * benchmark.queue_size / speed
    if contestant.h2load is not None:
        calls, lag = contestant.h2load.open(benchmark.callers, 2 * speed, fill + benchmark.seconds), 0.0
    else:
        answer = contestant.callers.ask("open", callers=benchmark.callers, rate=2 * speed,
                                        seconds=fill + benchmark.seconds)
        calls, lag = calls_of(answer), answer["lag"]
    counted = begun(calls, calls[0].begin + fill)
    return SaturationTurn(len(counted) / benchmark.seconds, lag, share(counted, "OK"),
                          share(counted, "RESOURCE_EXHAUSTED"), statuses(calls), percentile(counted, 0.5),
                          percentile(counted, 0.99), 2 * benchmark.queue_size / speed)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Benchmark, description=__doc__)))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
