"""Bad inputs by the thousand to a real server, and whether each was answered as a bad input deserves."""

from __future__ import annotations

import os
import random
import re
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.v2 import open_inference_pb2
from tests import fuzzing_http
from tests.fuzzing import Fuzzer
from voc_cls.v1 import classifier_pb2

DEADLINE = 60
"""Seconds; only a hang lasts so long, however busy the machine is."""
PICTURES = 8
"""In one call."""
CALLERS = 4
SILENCE = 0.05
"""Seconds to wait for an answer that the server need not give."""
AIOHTTP_FAILED = "Server got itself in trouble"
EXPECT = re.compile(rb"\nExpect:[^\n]*[\x80-\xff]", re.IGNORECASE)
UNREADABLE_EXPECT = "500 of aiohttp"
"""Its own failure at an Expect header that is no UTF-8, for paths that the server does not have (no route, no handler
of ours for the header). The only 500 that is no fault."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
EXPECTED = {"OK", "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED",
            "picture", "no picture", UNREADABLE_EXPECT, "200", "400", "404", "405", "408", "413", "415", "417", "429",
            "501", "closed"}
REQUEST_ID = "x-request-id"

PREDICTION = "/tensorflow.serving.PredictionService"
INFERENCE = "/inference.GRPCInferenceService"
METHODS: dict[str, Any] = {
    "/voc_cls.v1.Classifier/Classify": classifier_pb2.ClassifyRequest(
        model="tiny", version=10, top_k=3, threshold=0.5, pictures=[classifier_pb2.Picture(content=b"GIF89a")]),
    "/voc_cls.v1.Classifier/GetModel": classifier_pb2.GetModelRequest(model="tiny", version=10),
    f"{PREDICTION}/Predict": predict_pb2.PredictRequest(
        model_spec={"name": "tiny", "signature_name": "predict_tensors"}),
    f"{PREDICTION}/Classify": classification_pb2.ClassificationRequest(model_spec={"name": "tiny"}),
    f"{PREDICTION}/Regress": regression_pb2.RegressionRequest(model_spec={"name": "tiny"}),
    f"{PREDICTION}/MultiInference": inference_pb2.MultiInferenceRequest(
        tasks=[{"model_spec": {"name": "tiny"}, "method_name": "tensorflow/serving/classify"}]),
    f"{PREDICTION}/GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec={"name": "tiny"}, metadata_field=["signature_def"]),
    "/tensorflow.serving.ModelService/GetModelStatus": get_model_status_pb2.GetModelStatusRequest(
        model_spec={"name": "tiny"}),
    "/tensorflow.serving.ModelService/HandleReloadConfigRequest": model_management_pb2.ReloadConfigRequest(
        config={"model_config_list": {"config": [{"name": "other", "base_path": "/nowhere"}]}}),
    f"{INFERENCE}/ModelInfer": open_inference_pb2.ModelInferRequest(
        model_name="tiny", inputs=[{"name": "image_bytes", "datatype": "BYTES", "shape": [1, 1]}],
        raw_input_contents=[b"\6\0\0\0GIF89a"]),
    f"{INFERENCE}/ModelMetadata": open_inference_pb2.ModelMetadataRequest(name="tiny", version="10"),
    f"{INFERENCE}/ModelReady": open_inference_pb2.ModelReadyRequest(name="tiny", version="10"),
    f"{INFERENCE}/RepositoryIndex": open_inference_pb2.RepositoryIndexRequest(ready=True),
    "/grpc.health.v1.Health/Check": health_pb2.HealthCheckRequest(service="tiny"),
    "/grpc.health.v1.Health/List": health_pb2.HealthListRequest(),
    "/voc_cls.v1.Classifier/Nothing": classifier_pb2.GetModelRequest(model="tiny"),
}
"""Method → a request that a client could send."""
STREAMS: dict[str, Any] = {
    "/voc_cls.v1.Classifier/ClassifyStream": classifier_pb2.ClassifyStreamRequest(
        id=1, request={"pictures": [{"content": b"GIF89a"}]}),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(
        file_containing_symbol="voc_cls.v1.Classifier"),
}
ANONYMOUS = ("/grpc.health.v1.Health/", "/voc_cls.v1.Classifier/Nothing")
"""Methods whose answers have no request id."""


@dataclass(frozen=True)
class Fault:
    """An input that was not answered as it should have been."""

    where: str
    status: str
    details: str
    content: bytes

    def __str__(self) -> str:
        return (f"{self.where}: {self.status} {self.details[:300]!r} for {len(self.content)} bytes "
                f"{self.content[:2_000]!r}")


@dataclass
class Tally:
    """What came of all inputs."""

    seed: int
    inputs: int = 0
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    slowest: float = 0
    seconds: float = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, where: str, status: str, content: bytes, seconds: float, details: str = "", fault: bool = False,
             inputs: int = 1) -> None:
        """One answer; it is a fault if a server that is well never gives it."""
        with self.lock:
            self.inputs += inputs
            self.statuses[where, status] += inputs
            self.slowest = max(self.slowest, seconds)
            if fault or status not in EXPECTED:
                self.faults.append(Fault(where, status, details, content))

    def __str__(self) -> str:
        places = sorted({where for where, _ in self.statuses})
        found = self.statuses.most_common()
        lines = [f"  {where}: " + ", ".join(f"{status} {number}" for (place, status), number in found if place == where)
                 for where in places]
        return (f"{self.inputs} inputs (seed {self.seed}) in {self.seconds:.0f} s, {self.inputs / self.seconds:.0f}/s, "
                f"slowest answer {self.slowest:.2f} s, {len(self.faults)} faults\n" + "\n".join(lines))


class Caller:
    """One client, on connections of its own."""

    def __init__(self, address: str, http: str, fuzzer: Fuzzer, tally: Tally) -> None:
        self._channel = grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        host, _, port = http.removeprefix("http://").rpartition(":")
        self._http = (host, int(port))
        self._fuzzer = fuzzer
        self._tally = tally

    def close(self) -> None:
        self._channel.close()

    def call(self) -> None:
        """Sends something."""
        ways: tuple[Callable[[], None], ...] = (self._pictures, self._message, self._predict, self._stream, self._rest)
        self._fuzzer.random.choices(ways, (12, 45, 20, 3, 20))[0]()

    def _pictures(self) -> None:
        contents = [self._fuzzer.picture() for _ in range(PICTURES)]
        request = classifier_pb2.ClassifyRequest(pictures=[{"content": content} for content in contents])
        method = self._channel.unary_unary("/voc_cls.v1.Classifier/Classify",
                                           response_deserializer=classifier_pb2.ClassifyResponse.FromString)
        answered = self._asked("pictures", method, request.SerializeToString(), inputs=0)
        if answered is None:
            return
        response, seconds = answered
        if len(response.classifications) != PICTURES:
            self._tally.note("pictures", f"{len(response.classifications)} answers", b"", seconds)
        for content, one in zip(contents, response.classifications, strict=False):
            refused = one.HasField("error")
            wrong = (one.error.code != 3 or not one.error.message) if refused else (
                len(one.labels) != 20 or not all(0 <= label.probability <= 1 for label in one.labels))
            self._tally.note("pictures", "no picture" if refused else "picture", content, seconds,
                             one.error.message, wrong)

    def _message(self) -> None:
        method, real = self._fuzzer.random.choice(list(METHODS.items()))
        self._asked(method, self._channel.unary_unary(method), self._fuzzer.message(type(real), real))

    def _predict(self) -> None:
        self._asked("tensors", self._channel.unary_unary(f"{PREDICTION}/Predict"), self._fuzzer.predict_request())

    def _asked(self, where: str, method: Any, content: bytes, inputs: int = 1) -> tuple[Any, float] | None:
        begin = time.monotonic()
        try:
            response = method(content, timeout=DEADLINE)
        except grpc.RpcError as error:
            self._refused(where, error, content, time.monotonic() - begin)
            return None
        seconds = time.monotonic() - begin
        if inputs:
            self._tally.note(where, "OK", content, seconds)
        return response, seconds

    def _stream(self) -> None:
        method, real = self._fuzzer.random.choice(list(STREAMS.items()))
        contents = [self._fuzzer.message(type(real), real) if self._fuzzer.random.random() < 0.3
                    else real.SerializeToString() for _ in range(5)]
        begin = time.monotonic()
        try:
            answers = list(self._channel.stream_stream(method)(iter(contents), timeout=DEADLINE))
        except grpc.RpcError as error:
            self._refused(method, error, b"".join(contents), time.monotonic() - begin, len(contents))
        else:
            self._tally.note(method, "OK", contents[0], time.monotonic() - begin, f"{len(answers)} answers",
                             len(answers) != len(contents), len(contents))

    def _refused(self, where: str, error: Any, content: bytes, seconds: float, inputs: int = 1) -> None:
        """A refusal of the server's own has the request's id; what has none was lost between it and the client."""
        known = where.startswith(ANONYMOUS) or any(key == REQUEST_ID for key, _ in error.trailing_metadata() or ())
        self._tally.note(where, error.code().name, content, seconds, error.details() or "", not known, inputs)

    def _rest(self) -> None:
        request = fuzzing_http.request(self._fuzzer)
        begin = time.monotonic()
        status, answer = exchange(self._http, request.content, DEADLINE if request.whole else SILENCE)
        unanswered = request.whole and status == "closed"
        if status == "500" and AIOHTTP_FAILED in answer and EXPECT.search(request.content):
            status = UNREADABLE_EXPECT
        self._tally.note("HTTP", status, request.content, time.monotonic() - begin, answer, unanswered)


def exchange(address: tuple[str, int], content: bytes, timeout: float) -> tuple[str, str]:
    """Status and text of the answer to a request sent as it is; "closed" if there was none."""
    answer = b""
    with socket.create_connection(address, timeout=DEADLINE) as connection:
        try:
            connection.sendall(content)
            connection.settimeout(timeout)
            while chunk := connection.recv(65536):
                answer += chunk
        except OSError:  # the server has seen enough, or waits for more
            pass
    answer = answer.removeprefix(CONTINUE)
    return answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "closed", answer.decode("latin-1")


def bombard(address: str, http: str, inputs: int, seed: int | None = None) -> Tally:
    """Sends at least so many inputs over several connections at a time."""
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    print(f"seed {seed}")
    tally, begin = Tally(seed), time.monotonic()
    callers = [Caller(address, http, Fuzzer(seed + number), tally) for number in range(CALLERS)]

    def run(caller: Caller) -> None:
        while tally.inputs < inputs and len(tally.faults) < 100:
            caller.call()

    threads = [threading.Thread(target=run, args=(caller,)) for caller in callers]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for caller in callers:
            caller.close()
    tally.seconds = time.monotonic() - begin
    return tally


@dataclass(frozen=True)
class Condition:
    """What a server's process is made of."""

    engines: tuple[int, ...]
    """Processes that compute for it."""
    memory: int
    """Bytes, of the server and its engines."""
    files: int
    """File descriptors."""


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = [int(child) for children in Path(f"/proc/{pid}/task").glob("*/children")
                for child in children.read_text().split()]
    return children + [one for child in children for one in descendants(child)]


def condition(pid: int, engines: tuple[int, ...] = ()) -> Condition:
    """How a server fares now, with the processes that it has started, or with the engines of one that starts none."""
    started = descendants(pid)
    engines = engines or tuple(sorted(child for child in started
                                      if b"serving.engine" in Path(f"/proc/{child}/cmdline").read_bytes()))
    memory = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in {pid, *started, *engines})
    return Condition(engines, memory * resource.getpagesize(), len(os.listdir(f"/proc/{pid}/fd")))
