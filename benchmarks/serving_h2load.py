"""Callers that take little of the machine: h2load of nghttp2 (Debian: nghttp2-client) with recorded requests.

One process for each picture, as h2load sends one body. It does not read gRPC's status, which comes in the trailers; an
answer is told from a refusal by its length: a refusal has no message.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from serving_callers import BOUNDARY, CLASSIFY, FORMS, form, grpc_request
from serving_calls import Call

DATA_BYTES = re.compile(r"\((\d+)\) data$", re.MULTILINE)
"""In h2load's "traffic: 1.2MB (1234567) total, … (1234) headers …, … (1200000) data"."""
MOST_STREAMS = 100
"""Calls of one connection in an open loop, as clients commonly have it."""


class H2Load:
    """Calls one server, over as many connections as there are callers."""

    def __init__(self, program: Path, protocol: str, port: int, pictures: Sequence[Path], folder: Path) -> None:
        """`protocol`: grpc, litserve or bentoml; `folder`: for the recorded requests."""
        self._program, self._is_grpc, self._folder = program, protocol == "grpc", folder
        path = CLASSIFY if self._is_grpc else FORMS[protocol][0]
        headers = (["content-type: application/grpc", "te: trailers"] if self._is_grpc
                   else [f"content-type: multipart/form-data; boundary={BOUNDARY}"])
        self._command = [str(program), *([] if self._is_grpc else ["--h1"]), "--threads=1",
                         *(f"--header={header}" for header in headers)]
        self._url = f"http://127.0.0.1:{port}{path}"
        self._bodies = [folder / f"{port}-{number}.body" for number in range(len(pictures))]
        for body, picture in zip(self._bodies, pictures, strict=True):
            content = picture.read_bytes()
            body.write_bytes(grpc_request(content) if self._is_grpc else form(protocol, content))
        self.share = 0.0
        """Of the machine's processor time that the callers of the last loop took."""
        self._answer_bytes = self._data_bytes = 0.0

    def closed(self, callers: int, seconds: float) -> list[Call]:
        """Each caller sends when it has its answer. Fewer callers than pictures: one picture after the other."""
        if callers < len(self._bodies):
            return [call for body in self._bodies for call in self._run([body], callers, seconds / len(self._bodies))]
        calls = self._run(self._bodies, callers // len(self._bodies), seconds)
        self._answer_bytes = self._data_bytes / len(calls)
        return calls

    def open(self, callers: int, rate: float, seconds: float) -> list[Call]:
        """Calls at a fixed rate, 1/s, whether or not earlier ones were answered, after a closed loop without refusals.

        As many calls count as answered as there were answers, by their length, and of all calls those that took
        longest: the answered ones did not take longer than that.
        """
        each = callers // len(self._bodies)
        calls = self._run(self._bodies, each, seconds, f"--rps={rate / (each * len(self._bodies)):.3f}",
                          f"--max-concurrent-streams={MOST_STREAMS}")
        answered = round(self._data_bytes / self._answer_bytes)
        by_time = sorted(calls, key=lambda call: -call.seconds)
        return [*by_time[:answered],
                *(Call(call.begin, call.seconds, "RESOURCE_EXHAUSTED") for call in by_time[answered:])]

    def _run(self, bodies: Sequence[Path], clients: int, seconds: float, *options: str) -> list[Call]:
        begin, running = time.monotonic(), []
        to_monotonic = begin - time.time()
        for body in bodies:
            log = body.with_suffix(".log")
            log.unlink(missing_ok=True)
            command = [*self._command, *options, f"--clients={clients}", f"--duration={max(1, round(seconds))}",
                       f"--data={body}", f"--log-file={log}", self._url]
            running.append((log, subprocess.Popen(command, text=True, stdout=subprocess.PIPE)))
        calls: list[Call] = []
        processor = 0.0
        self._data_bytes = 0
        for log, process in running:
            assert process.stdout is not None
            output = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            processor += usage.ru_utime + usage.ru_stime
            found = DATA_BYTES.search(output)
            if process.returncode or found is None:
                raise SystemExit(f"{self._program} failed: {output[-2000:]}")
            self._data_bytes += int(found[1])
            for line in log.read_text().splitlines():
                start, code, took = line.split("\t")
                calls.append(Call(int(start) / 1e6 + to_monotonic, int(took) / 1e6,
                                  "OK" if code == "200" else f"HTTP {code}"))
        self.share = processor / (time.monotonic() - begin) / len(os.sched_getaffinity(0))
        return sorted(calls, key=lambda call: call.begin)
