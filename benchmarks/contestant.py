"""A process that takes training steps when it is told to, for benchmarks/training.py and benchmarks/gpu_check.py."""

from __future__ import annotations

import statistics
import subprocess
import tempfile
from pathlib import Path

PEERS = Path(__file__).parent / "peers"


class Contestant:
    """It prints a line when it is ready, and after each turn its pictures per second."""

    def __init__(self, name: str, *command: object) -> None:
        self.name = name
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1)
        self.speeds: list[float] = []
        print(f"{name}: {self._line()}", flush=True)

    def turn(self, steps: int) -> None:
        """Lets it take `steps` steps."""
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        self.speeds.append(float(self._line()))

    def leave(self) -> None:
        """Ends the process."""
        self.process.communicate()

    def _line(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            raise SystemExit(f"{self.name} ended with exit code {code}:\n{self.errors.read()[-2000:]}")
        return line

    @property
    def speed(self) -> float:
        """Median pictures per second."""
        return statistics.median(self.speeds)
