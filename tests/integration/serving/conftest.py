"""Servers in processes of their own, on ports of their own, and what to send to them."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import openvino  # noqa: F401  # whole: the engine imports it without its converters, which tests of training need
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from serving.cli import ForeignLines, _main
from tests.bombardment import Condition, condition
from tests.forked import ForkedProcess
from tests.integration.serving.both_clients import KINDS, Connect, connect
from tests.integration.serving.forked_server import engines_file, start_server
from tests.integration.serving.secured import Files, flags_of, make_certificates
from tests.integration.serving.tiny_model import export_tiny_model
from voc_cls.console import run
from voc_cls.v1 import classifier_pb2_grpc

BIN = Path(sys.executable).parent
READY = re.compile(r"ready on \S+:(?P<port>\d+) \(gRPC\)(?: and \S+:(?P<http>\d+) \(HTTP\))?: .*")
BATCHES = re.compile(r"model (\S+), version (\d+): (\d+) pictures in (\d+) batches, largest (\d+); (\d+) dropped")
START_TIMEOUT = 120


@dataclass
class Server:
    """A voc-serve process; `output` and `errors` are files that it writes."""

    process: subprocess.Popen[bytes] | ForkedProcess
    output: Path
    errors: Path
    address: str = ""
    http: str = ""
    ready_line: str = ""
    channels: list[grpc.Channel] = field(default_factory=list)

    def wait_until_ready(self) -> Server:
        deadline = time.monotonic() + START_TIMEOUT
        while not (ready := READY.search(self.output.read_text())):
            assert self.process.poll() is None, self.errors.read_text()
            assert time.monotonic() < deadline, "the server did not become ready"
            time.sleep(0.05)
        self.address, self.http = f"127.0.0.1:{ready['port']}", f"http://127.0.0.1:{ready['http']}"
        self.ready_line = ready[0]
        return self

    def channel(self) -> grpc.Channel:
        self.channels.append(grpc.insecure_channel(self.address, options=[
            ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]))
        return self.channels[-1]

    def classifier(self) -> Any:
        return classifier_pb2_grpc.ClassifierStub(self.channel())  # type: ignore[no-untyped-call]

    def health(self, service: str = "") -> str:
        response = health_pb2_grpc.HealthStub(self.channel()).Check(
            health_pb2.HealthCheckRequest(service=service), timeout=60, wait_for_ready=True)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))

    def engine(self) -> int:
        """Process id of the engine that a forked server started last."""
        return int(engines_file(self.output).read_text().split()[-1])

    def condition(self) -> Condition:
        """How a forked server fares, which has one engine."""
        return condition(self.process.pid, (self.engine(),))

    def end(self, number: int = signal.SIGTERM, timeout: float = 30) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of what the HTTP port answers."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.http + path, timeout=20) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """A number from /metrics; 0 for a series that is not there."""
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return 0.0

    def batches(self) -> dict[str, int]:
        """What a server of one version, which has ended, said of its batches."""
        (counts,) = BATCHES.findall(self.output.read_text())
        return dict(zip(("pictures", "batches", "largest", "dropped"), map(int, counts[2:]), strict=True))


def until(true: Callable[[], object], seconds: float = START_TIMEOUT) -> None:
    """Waits for something that is to become true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"it did not become true within {seconds:g} s"
        time.sleep(0.05)


class Start:
    """Starts servers and ends those that a test has left.

    `as_program`: as users start them, which takes seconds; else see forked_server.
    """

    def __init__(self, folder: Path, *, as_program: bool = False) -> None:
        self._folder = folder
        self._as_program = as_program
        self._servers: list[Server] = []

    def __call__(self, model_dir: Path | None, *flags: object) -> Server:
        """A process that has just started; ports are free ones unless `flags` say otherwise."""
        number = len(self._servers)
        output, errors = self._folder / f"{number}.out", self._folder / f"{number}.err"
        model = [] if model_dir is None else ["--model-dir", model_dir]
        arguments = list(map(str, [*model, "--host", "127.0.0.1", "--port", 0, "--http-port", 0, *flags]))
        with output.open("wb") as out, errors.open("wb") as err:
            process = (subprocess.Popen([str(BIN / "voc-serve"), *arguments], stdout=out, stderr=err)
                       if self._as_program else start_server(arguments, output, errors))
        self._servers.append(Server(process, output, errors))
        return self._servers[-1]

    def end_all(self) -> None:
        for server in self._servers:
            for channel in server.channels:
                channel.close()
            if server.process.poll() is None:
                server.process.kill()
                server.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts servers for one test."""
    starter = Start(tmp_path)
    yield starter
    starter.end_all()


@pytest.fixture
def start_program(tmp_path: Path) -> Iterator[Start]:
    """Starts servers for one test as users do: their engines are their children."""
    (tmp_path / "programs").mkdir()
    starter = Start(tmp_path / "programs", as_program=True)
    yield starter
    starter.end_all()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/tiny with the versions 9, an old export, and 10, which is the higher one, though not for the alphabet."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    export_tiny_model(folder / "9", seed=9, old=True)
    export_tiny_model(folder / "10", seed=10)
    return folder


@pytest.fixture(scope="session")
def saved_model(model: Path) -> Any:
    """The served version, loaded by TensorFlow itself: what the right answers are."""
    return tf.saved_model.load(str(model / "10"))


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that lives as long as the tests."""
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(model, "--queue-size", 40, "--max-message-mb", 4, "--max-megapixels", 2,
                  "--allow-reload").wait_until_ready()
    starter.end_all()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate authority, a certificate of it for servers and clients, and a keys file."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def secured_server(certificates: Files, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with TLS, keys and reflection that lives as long as the tests; no client certificate is needed."""
    starter = Start(tmp_path_factory.mktemp("secured"))
    flags = flags_of(certificates, client_certificates=False)
    yield starter(model, *flags, "--reflection", "on").wait_until_ready()
    starter.end_all()


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Serve = Callable[..., Done]
Refused = Callable[..., str]


@pytest.fixture
def serve(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Runs voc-serve in this process: --check and --print-config, which serve nothing."""
    def run_in(*flags: object, cwd: Path | None = None, **environment: str) -> Done:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["voc-serve", *map(str, flags)])
            for name, value in environment.items():
                patch.setenv(name, value)
            if cwd is not None:
                patch.chdir(cwd)
            code = run("voc-serve", lambda: _main(ForeignLines()))
        return Done(code, *capsys.readouterr())

    return run_in


@pytest.fixture
def refused(serve: Serve) -> Refused:
    """The sentence with which --check ends."""
    def refusal(*flags: object, code: int = 1, **environment: str) -> str:
        done = serve("--check", *flags, **environment)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("voc-serve: error: ").strip()

    return refusal


@pytest.fixture(params=KINDS)
def to(request: pytest.FixtureRequest) -> Connect:
    """Connects with either client."""
    return connect(request.param)


@pytest.fixture
def client(to: Connect, server: Server) -> Iterator[Any]:
    """Either client, connected to the server that lives as long as the tests."""
    with to(server.address, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tritonclient. Beside the environment, as it wants an older ml_dtypes and protobuf than TensorFlow;
    it works with these all the same.
    """
    folder = tmp_path_factory.mktemp("triton")
    wanted = ("tritonclient==2.73.0", "python-rapidjson==1.25", "geventhttpclient==2.6.1", "gevent==26.9.0",
              "greenlet==3.3.2", "zope.event==6.2", "zope.interface==8.7", "brotli==1.2.1")
    installed = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                                "--no-deps", "--target", folder, *wanted], capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip cannot get tritonclient: {installed.stderr.splitlines()[-1]}")
    return folder


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """uint8 [height, width, 3], a picture of its own for every seed."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def jpeg(seed: int) -> bytes:
    """A picture as a JPEG file."""
    return bytes(tf.io.encode_jpeg(picture(seed)).numpy())


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """Five picture files, of different kinds."""
    return [jpeg(0), bytes(tf.io.encode_png(picture(1)).numpy()), jpeg(2),
            bytes(tf.io.encode_jpeg(picture(3)[:, :, :1]).numpy()), jpeg(4)]
