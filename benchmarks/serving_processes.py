"""The processes of the serving benchmarks: starts them on free ports, exchanges lines with them, and ends them all."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PEERS = Path(__file__).resolve().parent / "peers"
PYTHONPATH = {"PYTHONPATH": f"{ROOT}{os.pathsep}{PEERS}"}
"""With it a peer's own Python finds the proto's classes, and voc-serve's engine."""
END_SECONDS = 20
"""How long a process may take to end before it is killed."""
PR_SET_CHILD_SUBREAPER = 36
REFUSED = ("HTTP 4", "HTTP 500", "INVALID_ARGUMENT", "UNIMPLEMENTED")
"""Statuses, by their beginning, that will not go away when a server has loaded its model."""


class Processes:
    """Starts processes; leaving the block ends them and all that they have started, whatever happened."""

    def __enter__(self) -> Processes:
        self._folder = tempfile.TemporaryDirectory(prefix="vs", ignore_cleanup_errors=True)  # short: sockets
        self._started: list[subprocess.Popen[str]] = []
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent becomes ours instead of init's
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        return self

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # it is already ending
        for process in self._started:
            process.terminate()
        deadline = time.monotonic() + END_SECONDS
        for process in self._started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        while left := descendants(os.getpid()):
            _signal_all(left, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.05)
        self._folder.cleanup()

    @property
    def folder(self) -> Path:
        """For files that are gone with the processes."""
        return Path(self._folder.name)

    def server(self, name: str, *command: object) -> Server:
        """A process that listens on a port; what it prints is kept for when it fails."""
        log = Path(self._folder.name) / f"{name}.log"
        with log.open("w") as output:
            return Server(name, self._start(command, stdin=subprocess.DEVNULL, stdout=output,
                                            stderr=subprocess.STDOUT), log)

    def worker(self, name: str, *command: object) -> Worker:
        """A process that answers lines."""
        log = Path(self._folder.name) / f"{name}.log"
        with log.open("w") as errors:
            return Worker(name, self._start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors), log)

    def _start(self, command: tuple[object, ...], **streams: Any) -> subprocess.Popen[str]:
        # In a session of its own, so that Ctrl-C reaches only the benchmark, which then ends them in order.
        process = subprocess.Popen([str(part) for part in command], text=True, bufsize=1, start_new_session=True,
                                   env={**os.environ, **PYTHONPATH, "TMPDIR": self._folder.name}, **streams)
        self._started.append(process)
        return process


class Server:
    """A process that serves."""

    def __init__(self, name: str, process: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    def check(self) -> None:
        """SystemExit with the end of its log if it has ended."""
        if self.process.poll() is not None:
            raise SystemExit(f"{self.name} ended with exit code {self.process.returncode}:\n{self.log_tail()}")

    def log_tail(self, characters: int = 3000) -> str:
        """The end of what it has printed."""
        return self.log.read_text(errors="replace")[-characters:]

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """Stops the process and all below it for a while: some servers poll their queues even when nobody calls."""
        tree = (self.process.pid, *descendants(self.process.pid))
        _signal_all(tree, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal_all(tree, signal.SIGCONT)

    def resident_bytes(self) -> tuple[int, int]:
        """Resident memory of the process, and of all below it together."""
        return _resident(self.process.pid), sum(map(_resident, descendants(self.process.pid)))


class Worker(Server):
    """A process that answers each line, a JSON object, with another."""

    def ask(self, kind: str, **arguments: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        self.tell({"kind": kind, **arguments})
        return self.answer()

    def tell(self, command: Mapping[str, Any]) -> None:
        """Sends a line."""
        assert self.process.stdin is not None
        print(json.dumps(command), file=self.process.stdin, flush=True)

    def answer(self) -> dict[str, Any]:
        """Waits for a line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.check()
        answer: dict[str, Any] = json.loads(line)
        return answer


def callers(processes: Processes, server: Server, protocol: str, port: int, pictures: list[Path]) -> Worker:
    """The process of callers of a server."""
    script = Path(__file__).with_name("serving_callers.py")
    return processes.worker(f"callers of {server.name}", sys.executable, script, protocol, port, *pictures)


def wait_until_ready(server: Server, worker: Worker, seconds: float = 900) -> dict[str, float]:
    """The server's answer to the first picture, as soon as it gives one; SystemExit if it ends before."""
    deadline = time.monotonic() + seconds
    while True:
        answer = worker.ask("probe")
        if answer["probabilities"] is not None:
            return dict(answer["probabilities"])
        server.check()
        if answer["status"].startswith(REFUSED) or time.monotonic() > deadline:
            raise SystemExit(f"{server.name} does not answer (status {answer['status']}):\n{server.log_tail()}")
        time.sleep(0.5)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def some_pictures(folder: Path, number: int) -> list[Path]:
    """The first `number` JPEG files of a folder, by name; SystemExit if there is none."""
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))[:number]
    if not pictures:
        raise SystemExit(f"{folder} has no .jpg files: name a folder of pictures, such as JPEGImages of a VOC devkit")
    return pictures


def newest_version(model_dir: Path) -> Path:
    """The folder of the highest version; SystemExit if there is none."""
    versions = [path for path in model_dir.iterdir() if path.name.isdecimal()]
    if not versions:
        raise SystemExit(f"{model_dir} has no version folders: name the folder that voc-export wrote, such as "
                         "models/voc")
    return max(versions, key=lambda path: int(path.name))


def voc_serve() -> Path:
    """The command beside this Python."""
    return Path(sys.executable).with_name("voc-serve")


def descendants(pid: int) -> list[int]:
    """Processes below one, those that have ended and were not waited for left out."""
    below: dict[int, list[int]] = {}
    for number, parent, state in _processes():
        if state != "Z":
            below.setdefault(parent, []).append(number)
    found, todo = [], [pid]
    while todo:
        children = below.get(todo.pop(), [])
        found += children
        todo += children
    return found


def _processes() -> Iterator[tuple[int, int, str]]:
    """(process, its parent, its state) of the whole machine."""
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with contextlib.suppress(OSError):
                state, parent = (path / "stat").read_text().rpartition(")")[2].split()[:2]
                yield int(path.name), int(parent), state


def _signal_all(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0
