"""The log: one line a message, with the call it is about, and nothing that happens to its streams hurts the server."""

from __future__ import annotations

import contextvars
import fcntl
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.config.config import ObservabilityConfig
from serving.request_context import RequestContext, current_request
from serving.telemetry.lines import LineHandler
from serving.telemetry.logs import Logs

log = logging.getLogger("serving.test")
CALL = RequestContext("r-1", "/voc_cls.v1.Classifier/Classify", "camera-7", model="voc")
OK = grpc.StatusCode.OK
LOST = re.compile(rb"(\d+) lines of the log could not be written")


@contextmanager
def logs_to(path: Path, **config: Any) -> Iterator[Logs]:
    """A log that writes to a file; stdout goes to the file beside it, of the suffix .out."""
    with path.open("ab") as err, path.with_suffix(".out").open("ab") as out:
        logs = Logs(ObservabilityConfig(**config), out.fileno(), err.fileno())
        try:
            yield logs
        finally:
            logs.close()


def lines_of(path: Path, write: Callable[[], object], **config: Any) -> list[str]:
    """The lines that logging in `write` leaves."""
    with logs_to(path, **config):
        write()
    return path.read_text().splitlines()


def in_call(write: Callable[[], object], call: RequestContext = CALL) -> Callable[[], object]:
    """`write`, run in the task that answers a call."""
    def run() -> None:
        current_request.set(call)
        write()
    return lambda: contextvars.copy_context().run(run)


def fails() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it failed")


def test_a_message_is_one_line_with_time_level_and_the_call_it_is_about(tmp_path: Path):
    outside, inside = lines_of(tmp_path / "log", lambda: (log.warning("hello %s", "world"),
                                                          in_call(lambda: log.info("decoded"))()))
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
    assert re.fullmatch(moment + " WARNING serving.test: hello world", outside)
    assert re.fullmatch(moment + r" INFO serving.test: decoded \[request_id=r-1, client=camera-7, "
                        r"method=/voc_cls.v1.Classifier/Classify, model=voc\]", inside)


def test_what_a_call_has_begun_is_not_about_it_any_more_once_it_has_ended(tmp_path: Path):
    call = RequestContext("r-1", "m", "c", ended=True)
    (line,) = lines_of(tmp_path / "log", in_call(lambda: log.info("later"), call))
    assert line.endswith("INFO serving.test: later")


def test_json_is_one_object_a_line_even_for_a_stack_trace(tmp_path: Path):
    plain, failed = map(json.loads, lines_of(tmp_path / "log", lambda: (log.info("hello"), in_call(fails)()),
                                             log_format="json"))
    assert set(plain) == {"time", "level", "logger", "message"}
    assert abs(time.time() - time.mktime(time.strptime(plain["time"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60
    assert (plain["level"], plain["logger"], plain["message"]) == ("INFO", "serving.test", "hello")
    assert (failed["request_id"], failed["client"], failed["method"]) == ("r-1", "camera-7", CALL.method)
    assert failed["exception"].startswith("Traceback (most recent call last):")
    assert failed["exception"].endswith("ValueError: two\nlines")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nobody_can_forge_a_line_by_what_they_send(tmp_path: Path, log_format: str):
    forged = "\n2026-01-01T00:00:00.000Z INFO serving: all is well\x1b[31m"
    logging_it = in_call(lambda: log.info("no model %s", forged), RequestContext(forged, "m", "c"))
    lines = lines_of(tmp_path / "log", logging_it, log_format=log_format)
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


def test_lines_of_a_stack_trace_are_set_in(tmp_path: Path):
    first, *trace = lines_of(tmp_path / "log", fails)
    assert first.endswith("ERROR serving.test: it failed")
    assert trace[-2:] == ["    ValueError: two", "    lines"]
    assert all(line.startswith("    ") for line in trace)


def test_less_important_messages_are_left_out_and_warnings_are_logged(tmp_path: Path):
    def write() -> None:
        log.info("left out")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(True)  # catch_warnings has put its own way of showing them in place
            warnings.warn("old", DeprecationWarning, stacklevel=1)

    (line,) = lines_of(tmp_path / "log", write, log_level="warning")
    assert "WARNING py.warnings:" in line
    assert "DeprecationWarning: old" in line


@pytest.mark.parametrize("share", [0, 0.25, 1])
def test_the_access_log_takes_its_share_by_the_ids_of_calls(tmp_path: Path, share: float):
    def write(logs: Logs) -> None:
        for number in range(2000):
            logs.access(RequestContext(f"r-{number}", "m", "c"), OK, 0.1, {})

    for name in ("a", "b"):
        with logs_to(tmp_path / name, access_log=share) as logs:
            write(logs)
    lines = (tmp_path / "a").read_text().splitlines()
    assert 2000 * share - 100 <= len(lines) <= 2000 * share + 100
    chosen = [re.findall(r"r-\d+", (tmp_path / name).read_text()) for name in ("a", "b")]
    assert chosen[0] == chosen[1]


def test_a_line_of_the_access_log_has_status_and_times(tmp_path: Path):
    stages = {"decode": 0.0031, "engine": 0.03}
    for name, log_format in (("text", "text"), ("json", "json")):
        with logs_to(tmp_path / name, access_log=1, log_format=log_format) as logs:
            logs.access(CALL, grpc.StatusCode.NOT_FOUND, 0.0352, stages)  # type: ignore[arg-type]
    assert "INFO serving.access: NOT_FOUND after 35.2 ms, decode 3.1, engine 30.0 [request_id=r-1" in (
        tmp_path / "text").read_text()
    entry = json.loads((tmp_path / "json").read_text())
    assert (entry["status"], entry["seconds"], entry["decode_seconds"]) == ("NOT_FOUND", 0.0352, 0.0031)
    assert (entry["request_id"], entry["model"]) == ("r-1", "voc")


def test_failures_of_the_server_are_logged_whatever_the_share_and_the_level(tmp_path: Path):
    with logs_to(tmp_path / "log", access_log=0, log_level="error") as logs:
        for status in grpc.StatusCode:
            logs.access(CALL, status, 0.1, {})
    assert re.findall(r"ERROR serving.access: (\S+)", (tmp_path / "log").read_text()) == [
        "UNKNOWN", "INTERNAL", "DATA_LOSS"]


def test_a_message_whose_arguments_do_not_fit_is_lost_and_hurts_nobody(tmp_path: Path, capfd: Any,
                                                                               monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)  # or pytest's own handler raises
    with logs_to(tmp_path / "log") as logs:
        log.info("%d pictures", "many")
        log.info("next")
    assert logs.lost == 1
    assert "next" in (tmp_path / "log").read_text()
    assert capfd.readouterr() == ("", "")


def test_after_the_log_is_closed_logging_is_as_before(tmp_path: Path):
    root = logging.getLogger()
    before = (root.level, list(root.handlers), warnings.showwarning)
    lines_of(tmp_path / "log", lambda: None, log_level="debug")
    assert (root.level, list(root.handlers), warnings.showwarning) == before


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_on_a_full_disk_lines_are_lost_and_counted():
    with open("/dev/full", "wb") as full:
        logs = Logs(ObservabilityConfig(), full.fileno(), full.fileno())
        for _ in range(10):
            log.info("nobody will read this")
            logs.say("nor this")
        logs.close()
    assert logs.lost == 20


FILLS_ITS_DISK = """
import logging, resource, time
from serving.config.config import ObservabilityConfig
from serving.telemetry.logs import Logs

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

logs = Logs(ObservabilityConfig())
log = logging.getLogger("serving.test")
limit(1000)  # bytes; what goes beyond fails in write(), after the part that still fits, as on a disk that gets full
for number in range(100):
    log.info("line %d of a hundred", number)
lost = 0
while not lost or lost != logs.lost:
    lost = logs.lost
    time.sleep(0.3)
limit(resource.RLIM_INFINITY)
log.info("there is space again")
logs.say(str(lost))
logs.close()
"""


def test_once_the_disk_has_space_again_the_log_goes_on_and_says_what_is_missing(tmp_path: Path):
    with (tmp_path / "log").open("wb") as err:
        done = subprocess.run([sys.executable, "-c", FILLS_ITS_DISK], stdout=subprocess.PIPE, stderr=err, text=True,
                              check=True, timeout=60)
    lost = int(done.stdout)
    *written, torn, again, missing = (tmp_path / "log").read_text().splitlines()
    assert len(written) == 100 - lost
    assert all(line.endswith("of a hundred") for line in written)
    assert not torn.endswith("of a hundred")  # but the next line does not stick to it
    assert re.match(r"20\d\d-.* INFO serving.test: there is space again$", again)
    assert missing.endswith(f"WARNING serving.telemetry.lines: {lost} lines of the log could not be written")


def test_a_reader_that_is_stuck_costs_lines_but_no_time():
    reader, err = os.pipe()
    fcntl.fcntl(err, fcntl.F_SETPIPE_SZ, 4096)
    logs = Logs(ObservabilityConfig(), err, err)
    try:
        begin = time.monotonic()
        for number in range(20_000):
            log.info("line %d", number)
        assert time.monotonic() - begin < 10
        assert 10_000 < logs.lost < 20_000
        lost = logs.lost
        text = bytearray()

        def read() -> None:
            while chunk := os.read(reader, 65536):
                text.extend(chunk)

        thread = threading.Thread(target=read)
        thread.start()
        # the thread that writes may tell what is lost in parts: it may be late for the first lines already
        until(lambda: sum(map(int, LOST.findall(text))) == lost
              and text.count(b"\n") == 20_000 - lost + len(LOST.findall(text)))
        log.info("it reads again")
    finally:
        logs.close()
        os.close(err)
    thread.join(30)
    os.close(reader)
    lines = text.decode().splitlines()
    assert lines[-1].endswith("it reads again")


STUCK = """
import logging, sys, time
from serving.config.config import ObservabilityConfig
from serving.telemetry.logs import Logs

logs = Logs(ObservabilityConfig())
for number in range(int(sys.argv[1])):
    logging.getLogger("serving.test").info("line %d %s", number, "x" * 100)
    logs.say(str(number))
begin = time.monotonic()
logs.close(0.2)
assert time.monotonic() - begin < 5
"""


@pytest.mark.parametrize("lines", [1000, 10_000])  # the pipe is full; so is the queue
def test_a_process_ends_in_time_though_the_readers_of_its_pipes_are_stuck(lines: int):
    process = subprocess.Popen([sys.executable, "-c", STUCK, str(lines)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    try:
        assert process.wait(30) == 0  # nobody has read anything
    finally:
        process.kill()
        process.communicate()


def test_a_stream_that_does_not_block_is_waited_for():
    reader, err = os.pipe()
    fcntl.fcntl(err, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(err, False)
    handler = LineHandler(err, logging.Formatter())
    for number in range(100):
        handler.handle(logging.makeLogRecord({"msg": f"{number} " + "x" * 1000}))
    os.close(err)
    text = bytearray()
    thread = threading.Thread(target=handler.stop, args=(30,))
    thread.start()
    while chunk := os.read(reader, 1000):
        text.extend(chunk)
        time.sleep(0.001)
    thread.join()
    os.close(reader)
    assert [int(line.split()[0]) for line in text.decode().splitlines()] == list(range(100))
    assert handler.lost == 0


def test_a_reader_that_has_gone_costs_lines_only():
    reader, err = os.pipe()
    os.close(reader)
    handler = LineHandler(err, logging.Formatter())
    handler.handle(logging.makeLogRecord({"msg": "hello"}))
    until(lambda: handler.lost == 1)
    handler.stop()
    os.close(err)


CLOSED = """
import logging, os, sys
from serving.config.config import ObservabilityConfig
from serving.telemetry.logs import Logs
from serving.cli import hold_standard_streams
hold_standard_streams()
logs = Logs(ObservabilityConfig())
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
logging.getLogger("serving.test").info("hello")
logs.say("hello")
logs.close()
os.write(2, b"what a native library prints")
os.write(file, f"{file > 2}".encode())
"""


def test_what_is_logged_to_a_closed_stderr_goes_into_no_other_file(tmp_path: Path):
    subprocess.run(["sh", "-c", 'exec "$0" -c "$1" "$2" 0<&- 1>&- 2>&-', sys.executable, CLOSED, tmp_path / "file"],
                   check=True, timeout=60)
    assert (tmp_path / "file").read_text() == "True"


def test_lines_are_said_on_stdout_at_once(tmp_path: Path):
    with logs_to(tmp_path / "log") as logs:
        logs.say("voc-serve: ready on 127.0.0.1:8500")
        until(lambda: (tmp_path / "log.out").exists() and (tmp_path / "log.out").read_text() != "")
        assert (tmp_path / "log.out").read_text() == "voc-serve: ready on 127.0.0.1:8500\n"
