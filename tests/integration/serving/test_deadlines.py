"""What nobody waits for is not computed, what there is no room for is refused at once, and nobody is starved."""

from __future__ import annotations

import base64
import json
import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.test_classifier_service import bomb
from tests.integration.serving.tiny_model import export_tiny_model
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

SECONDS, BATCH, PLACES, CALLS, AGE, HTTP_SECONDS = 0.6, 4, 24, 10, 1, 1.5
"""Of a batch; pictures in a batch; pictures in the server; calls in the server; seconds of a connection's life; seconds
of a request over HTTP."""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A slow server with little room for anything."""
    folder = tmp_path_factory.mktemp("models") / "slow"
    export_tiny_model(folder / "1", seconds=SECONDS, size=224)
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(folder, "--max-batch-size", BATCH, "--queue-size", PLACES, "--threads", 1, "--max-calls", CALLS,
                  "--max-message-mb", 1, "--http-timeout", HTTP_SECONDS).wait_until_ready()
    starter.end_all()


def request(*contents: bytes) -> classifier_pb2.ClassifyRequest:
    return classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=content) for content in contents])


def pictures(number: int) -> classifier_pb2.ClassifyRequest:
    return request(*[jpeg(0)] * number)


def dropped(server: Server, reason: str) -> float:
    return server.metric("voc_serve_pictures_dropped_total", model="slow", reason=reason)


def computed(server: Server) -> float:
    return server.metric("voc_serve_batch_pictures_sum", model="slow", version="1")


def test_what_expires_or_is_cancelled_while_it_waits_is_dropped_and_counted_by_reason(slow: Server) -> None:
    before = (computed(slow), dropped(slow, "expired"), dropped(slow, "cancelled"))
    stub = slow.classifier()
    stub.Classify(pictures(1), timeout=60)  # connects
    busy = stub.Classify.future(pictures(BATCH), timeout=60)
    time.sleep(SECONDS / 6)
    expiring = stub.Classify.future(pictures(2), timeout=SECONDS / 3)
    cancelled = stub.Classify.future(pictures(3), timeout=60)
    assert expiring.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert not busy.done()
    cancelled.cancel()
    assert len(busy.result().classifications) == BATCH
    assert len(stub.Classify(pictures(1), timeout=60).classifications) == 1
    assert (computed(slow), dropped(slow, "expired"), dropped(slow, "cancelled")) == (
        before[0] + 1 + BATCH + 1, before[1] + 2, before[2] + 3)
    assert slow.metric("voc_serve_pictures_in_server") == 0
    assert slow.metric(":tensorflow:serving:request_count", model_name="slow", status="DEADLINE_EXCEEDED") >= 1


def test_what_expires_before_it_is_decoded_is_not_decoded(slow: Server) -> None:
    large, stub = bomb(3000, 3000), slow.classifier()
    stub.Classify(request(large), timeout=60)
    decoding = slow.metric("voc_serve_decode_seconds_sum", model="slow")
    stub.Classify(request(large), timeout=60)
    once = slow.metric("voc_serve_decode_seconds_sum", model="slow") - decoding
    with pytest.raises(grpc.RpcError) as error:
        stub.Classify(request(*[large] * PLACES), timeout=3 * once)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    decoded = slow.metric("voc_serve_decode_seconds_count", model="slow")
    stub.Classify(pictures(1), timeout=60)  # decoded after those before it, of which one at most had begun
    assert slow.metric("voc_serve_decode_seconds_count", model="slow") <= decoded + 2


def test_a_request_over_http_ends_after_its_time_and_what_it_has_queued_is_dropped(slow: Server) -> None:
    before = computed(slow), dropped(slow, "expired")
    busy = slow.classifier().Classify.future(pictures(BATCH), timeout=60)
    begun = time.monotonic()
    answer = post(slow, "slow", *[jpeg(0)] * 16)  # 2.4 s
    assert time.monotonic() - begun >= HTTP_SECONDS
    assert (answer.status_code, answer.json()["error"]) == (
        504, f"the answer was not ready within {HTTP_SECONDS} s (`http_timeout`): send fewer pictures in one call, or "
        "try again when this server has less to do")
    assert len(busy.result().classifications) == BATCH
    slow.classifier().Classify(pictures(1), timeout=60)
    late = dropped(slow, "expired") - before[1]
    assert late >= 4
    assert computed(slow) - before[0] == BATCH + 16 - late + 1
    assert slow.metric("voc_serve_pictures_in_server") == 0


def test_the_time_of_a_request_over_http_begins_with_its_head(slow: Server) -> None:
    body = json.dumps({"instances": [{"b64": base64.b64encode(jpeg(0)).decode()}] * 8}).encode()  # 1.2 s
    host, port = slow.http.removeprefix("http://").split(":")
    for arriving, code in ((body[100:], b"504"), (b"", b"408")):  # the rest of the body, a second later
        with socket.create_connection((host, int(port)), timeout=20) as client:
            begun = time.monotonic()
            client.sendall(b"POST /v1/models/slow:predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
                           + body[:100])
            time.sleep(1)
            client.sendall(arriving)
            assert client.recv(4096).startswith(b"HTTP/1.1 " + code)
            assert time.monotonic() - begun >= HTTP_SECONDS - 0.1


def trailing(call: grpc.Call) -> dict[str, str]:
    return dict(call.trailing_metadata())


RETRIES = {"methodConfig": [{"name": [{"service": "voc_cls.v1.Classifier"}], "retryPolicy": {
    "maxAttempts": 5, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1,
    "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"]}}]}
"""By itself all five attempts are over within 50 ms."""


def test_a_full_server_says_when_to_come_again_and_grpcs_own_retries_do_so(slow: Server) -> None:
    stub = slow.classifier()
    stub.Classify(pictures(BATCH), timeout=60)
    busy = stub.Classify.future(pictures(PLACES), timeout=60)
    until(lambda: slow.metric("voc_serve_pictures_in_server") == PLACES)
    with pytest.raises(grpc.RpcError) as error:
        stub.Classify(pictures(1), timeout=60)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.value.details() == (f"{PLACES} pictures are waiting and `queue_size` is {PLACES}, so there is no "
                                     "place for 1 more: try again in a moment")
    assert 20 <= int(trailing(error.value)["grpc-retry-pushback-ms"]) <= 30_000
    answer = post(slow, "slow", jpeg(0))
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["Retry-After"]) <= 30
    with grpc.insecure_channel(slow.address, options=[("grpc.service_config", json.dumps(RETRIES))]) as channel:
        retrying = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
        assert len(retrying.Classify(pictures(1), timeout=60).classifications) == 1
    assert len(busy.result().classifications) == PLACES
    assert slow.metric("voc_serve_calls_shed_total", model="slow", reason="queue_full") >= 3


def post(server: Server, model: str, *contents: bytes, **headers: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        body = {"instances": [{"b64": base64.b64encode(content).decode()} for content in contents]}
        return session.post(f"{server.http}/v1/models/{model}:predict", json=body, headers=headers, timeout=60)


def test_a_single_picture_does_not_wait_for_all_those_of_a_large_call(slow: Server) -> None:
    stub = slow.classifier()
    large = stub.Classify.future(pictures(PLACES - 4), timeout=60)  # five batches
    time.sleep(SECONDS / 3)
    stub.Classify(pictures(1), timeout=60)
    assert not large.done()
    assert len(large.result().classifications) == PLACES - 4


def test_no_more_calls_than_max_calls_are_answered_at_a_time_however_many_come_at_once(slow: Server) -> None:
    channel = slow.channel()
    stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
    stub.Classify(pictures(1), timeout=60)
    before = slow.metric("voc_serve_calls_shed_total", model="", reason="calls")
    calls = [stub.Classify.future(pictures(1), timeout=60) for _ in range(5 * CALLS)]
    assert slow.health() == "SERVING"  # health checks are no calls, nor are polls of the status
    assert slow.get("/v1/models/slow")[0] == 200
    assert status(slow) == ["AVAILABLE"]
    codes = [call.code() for call in calls]
    refused = [call for call, code in zip(calls, codes, strict=True) if code is grpc.StatusCode.RESOURCE_EXHAUSTED]
    assert codes.count(grpc.StatusCode.OK) == 5 * CALLS - len(refused)
    # those that came within the first batch; the others would find room again as calls end
    assert 5 * CALLS - 2 * BATCH - CALLS <= len(refused) <= 4 * CALLS
    assert refused[0].details() == f"this server answers {CALLS} calls at a time (`max_calls`): try again in a moment"
    assert {"grpc-retry-pushback-ms", "x-request-id"} <= set(trailing(refused[0]))
    assert slow.metric("voc_serve_calls_shed_total", model="", reason="calls") == before + len(refused)


def status(server: Server) -> list[str]:
    """States of the versions of a model, by GetModelStatus."""
    asked = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "slow"})
    answer = model_service_pb2_grpc.ModelServiceStub(server.channel()).GetModelStatus(asked, timeout=20)
    states = get_model_status_pb2.ModelVersionStatus.State
    return [states.Name(version.state) for version in answer.model_version_status]


class Balancer:
    """A balancer of connections, as of a cloud: passes on what it gets, to whom it chose when a connection began."""

    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self._target = (host, int(port))
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._open: list[socket.socket] = []
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        for one in (self._listener, *self._open):
            one.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._end.is_set():
            for key, _ in self._selector.select(0.1):
                if key.fileobj is self._listener:
                    self._connect()
                else:
                    self._pass_on(key.fileobj, key.data)

    def _connect(self) -> None:
        self.connections += 1
        caller, server = self._listener.accept()[0], socket.create_connection(self._target)
        self._open += [caller, server]
        self._selector.register(caller, selectors.EVENT_READ, server)
        self._selector.register(server, selectors.EVENT_READ, caller)

    def _pass_on(self, source: Any, target: socket.socket) -> None:
        if source.fileno() < 0:
            return  # closed a moment ago, with the other one
        try:
            if content := source.recv(65536):
                target.sendall(content)
                return
        except ConnectionError:
            pass
        for one in (source, target):
            self._selector.unregister(one)
            one.close()


def test_connections_are_opened_anew_so_that_a_balancer_can_spread_them_and_no_call_fails(start: Start,
                                                                                         model: Path) -> None:
    server = start(model, "--max-connection-age", AGE).wait_until_ready()
    balancer = Balancer(server.address)
    try:
        with grpc.insecure_channel(balancer.address) as channel, ThreadPoolExecutor(2) as callers:
            stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
            end = time.monotonic() + 5 * AGE

            def call() -> int:
                answered = 0
                while time.monotonic() < end:
                    answered += len(stub.Classify(pictures(1), timeout=60).classifications)
                return answered

            assert all(answered > 1 for answered in callers.map(lambda _: call(), range(2)))
        assert balancer.connections >= 3
    finally:
        balancer.close()


def test_a_message_above_the_limit_is_refused_with_the_limit_in_either_direction(slow: Server) -> None:
    with pytest.raises(grpc.RpcError) as error:
        slow.classifier().Classify(request(bytes(2**20)), timeout=60)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"vs. {2**20}" in error.value.details()
    with pytest.raises(grpc.RpcError) as error:
        preprocess(slow, [jpeg(0)] * 2)  # 1.2 MB of numbers
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert f"vs. {2**20}" in error.value.details()
    assert len(preprocess(slow, [jpeg(0)]).float_val) == 224 * 224 * 3


def preprocess(server: Server, contents: Sequence[bytes]) -> Any:
    """The tensor that the signature `preprocess` gives."""
    asked = predict_pb2.PredictRequest(model_spec={"name": "slow", "signature_name": "preprocess"})
    tensor = asked.inputs["image_bytes"]
    tensor.dtype = 7  # DT_STRING
    tensor.tensor_shape.dim.add(size=len(contents))
    tensor.string_val.extend(contents)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(server.channel())
    return stub.Predict(asked, timeout=60).outputs["inputs"]


@pytest.mark.parametrize("given", ["trace-7", None])
def test_the_request_id_comes_back_with_answers_and_refusals_of_both_ports(server: Server, given: str | None) -> None:
    metadata = [("x-request-id", given)] if given else []
    answered = server.classifier().Classify.with_call(pictures(1), metadata=metadata, timeout=60)[1]
    with pytest.raises(grpc.RpcError) as refused:
        server.classifier().Classify(request(), metadata=metadata, timeout=60)
    headers = {"x-request-id": given} if given else {}
    ids = [*(trailing(call)["x-request-id"] for call in (answered, refused.value)),
           *(post(server, model, jpeg(0), **headers).headers["x-request-id"] for model in ("tiny", "unknown"))]
    if given:
        assert ids == [given] * 4
    else:
        assert len(set(ids)) == 4
        assert all(len(one) == 32 for one in ids)
