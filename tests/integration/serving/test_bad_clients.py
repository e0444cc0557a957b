"""Clients that are slow, mute, deaf, rude or gone hold nobody else up, and leave nothing behind."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tensorflow_serving.apis import predict_pb2

from tests.bombardment import Condition
from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.http2_by_hand import PREFACE, connected, ended, frame, headers, message, settings
from voc_cls.v1 import classifier_pb2

CLASSIFY, STREAM = "/voc_cls.v1.Classifier/Classify", "/voc_cls.v1.Classifier/ClassifyStream"
WATCH = "/grpc.health.v1.Health/Watch"
GIF = (b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;")
"""One pixel."""
TOLD_BY_LIBRARIES = ("socket.accept() out of system resource", "ExecuteBatchError raised in core by servicer method")
"""What asyncio and gRPC log with a stack trace: no more descriptors, and a client gone while its answer was sent."""
QUICKLY = 5
"""Seconds; on an idle machine it is some milliseconds."""
IDLE = 2_000
PREDICT = b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: a\r\n"
BODY = b'{"signature_name": "predict_images", "instances": [[[[7, 8, 9], [7, 8, 9]]]]}'


def request(pictures: int = 1, content: bytes = GIF) -> bytes:
    one = classifier_pb2.Picture(content=content)
    return bytes(classifier_pb2.ClassifyRequest(pictures=[one] * pictures).SerializeToString())


def assert_answers(server: Server) -> None:
    """Both ports answer a client that has come just now, and quickly."""
    begin = time.monotonic()
    answer = server.classifier().Classify(
        classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=jpeg(0))]), timeout=QUICKLY)
    assert len(answer.classifications[0].labels) == 20
    assert server.get("/healthz") == (200, "SERVING\n")
    assert time.monotonic() - begin < QUICKLY


def running(server: Server) -> float:
    """Calls and pictures that the server has; whoever reads the metrics does not count."""
    return (server.metric("voc_serve_calls_in_flight", entrypoint="GRPC")
            + server.metric("voc_serve_calls_in_flight", entrypoint="REST")
            + server.metric("voc_serve_pictures_in_server"))


@pytest.fixture(autouse=True)
def leaves_nothing(server: Server) -> Iterator[None]:
    """After each test: no calls, no connections, no stack traces."""
    engines, said = server.condition().engines, len(server.errors.read_text())
    files = server.condition().files
    yield
    for channel in server.channels:
        channel.close()
    server.channels.clear()
    until(lambda: running(server) == 0, 20)
    until(lambda: server.condition().files <= files + 4, 20)
    assert server.process.poll() is None
    assert server.condition().engines == engines
    new = server.errors.read_text()[said:]
    assert new.count("Traceback") == sum(map(new.count, TOLD_BY_LIBRARIES)), new


@pytest.mark.parametrize("sent", [
    b"", PREFACE[:9], PREFACE, PREFACE + settings()[:5], PREFACE + settings() + headers(CLASSIFY)[:20],
    PREFACE + settings() + headers(CLASSIFY), PREFACE + settings() + headers(CLASSIFY) + message(request())[:-3],
    PREFACE + settings() + headers(CLASSIFY) + message(request()[:9], last=False),
    PREFACE + settings() + headers(STREAM), PREFACE + settings() + headers(STREAM) + message(b"", last=False)[:7],
], ids=["nothing", "half a preface", "a preface", "half a frame", "half of the headers", "no message",
        "half a message frame", "half a message", "an empty stream", "half a message of a stream"])
def test_a_grpc_client_that_stops_midway_holds_nobody_up(server: Server, sent: bytes) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(50):
            clients.enter_context(connected(server.address, sent))
        time.sleep(0.2)
        assert_answers(server)


@pytest.mark.parametrize("sent", [
    b"P", PREDICT, PREDICT + b"Content-Length: 9\r\n\r\n", PREDICT + b"Content-Length: 9\r\n\r\n{",
    PREDICT + b"Transfer-Encoding: chunked\r\n\r\n9\r\n{",
    PREDICT + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
], ids=["a letter", "half of the headers", "no body", "half a body", "half a chunk", "an expectation"])
def test_an_http_client_that_stops_midway_holds_nobody_up(server: Server, sent: bytes) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(50):
            clients.enter_context(connected(server.http, sent))
        time.sleep(0.2)
        assert_answers(server)


def test_a_request_that_comes_byte_by_byte_is_answered_in_the_end(server: Server) -> None:
    whole = PREDICT + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    call = PREFACE + settings() + headers(CLASSIFY) + message(request())
    with connected(server.http) as slow_http, connected(server.address) as slow_grpc:
        for connection in (slow_http, slow_grpc):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(max(len(whole), len(call))):
            slow_http.sendall(whole[position:position + 1])
            slow_grpc.sendall(call[position:position + 1])
            if position % 60 == 0:
                assert_answers(server)
            time.sleep(0.005)
        assert ended(slow_http).startswith(b"HTTP/1.1 200 OK")
        slow_grpc.settimeout(QUICKLY)
        answer = b""
        while b"grpc-status" not in answer and (more := slow_grpc.recv(65536)):
            answer += more
        assert b"tvmonitor" in answer


def test_connections_that_are_half_closed_are_closed(server: Server) -> None:
    whole = PREDICT + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    for address, sent in ((server.http, whole), (server.http, whole[:-9]), (server.http, b""),
                          (server.address, PREFACE + settings() + headers(CLASSIFY) + message(request())),
                          (server.address, PREFACE + settings() + headers(CLASSIFY)), (server.address, b"")):
        with connected(address, sent) as client:
            client.shutdown(socket.SHUT_WR)
            ended(client)  # an answer or none, but not silence
    assert_answers(server)


@pytest.mark.parametrize("garbage", [
    b"\0" * 500, b"\xff" * 100_000, bytes(range(256)) * 40, b"EHLO example.org\r\n", b"SSH-2.0-OpenSSH_9.6\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x" * 20_000,
    PREFACE + frame(9, 0, 0, b"\1" * 8), PREFACE + settings() + frame(1, 4, 1, b"\xff" * 90),
    PREFACE + settings() + frame(0, 1, 99, b"x" * 90), PREFACE + settings() + frame(1, 4, 2, b""),
], ids=["zeros", "ones", "all bytes", "SMTP", "SSH", "HTTP/1.1", "endless headers", "a lonely continuation", "no HPACK",
        "an unknown stream", "a stream of the server's"])
def test_garbage_ends_its_own_connection_only(server: Server, garbage: bytes) -> None:
    for address in (server.address, server.http):
        with contextlib.suppress(ConnectionError), connected(address, garbage) as client:
            client.settimeout(1)
            with contextlib.suppress(TimeoutError):  # what may still become a request is waited for
                while client.recv(65536):
                    pass
    assert_answers(server)


def test_a_message_that_unpacks_to_more_than_the_limit_is_refused_without_a_stack_trace(server: Server) -> None:
    said = len(server.errors.read_text())
    call = server.channel().unary_unary(CLASSIFY)
    with pytest.raises(grpc.RpcError) as error:
        call(bytes(5 * 2**20), timeout=20, compression=grpc.Compression.Gzip)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    until(lambda: running(server) == 0, QUICKLY)
    assert "Traceback" not in server.errors.read_text()[said:]


@pytest.mark.parametrize(("method", "sent"), [
    (CLASSIFY, request(10**6, b"")), ("/inference.GRPCInferenceService/ModelInfer", b"\x2a\0" * 10**6),
    ("/tensorflow.serving.PredictionService/Predict",
     predict_pb2.PredictRequest(inputs={"a": {"tensor_shape": {"dim": [{}] * 10**6}}}).SerializeToString()),
], ids=["pictures", "inputs", "dimensions"])
def test_a_message_of_a_million_empty_parts_is_refused_before_it_takes_memory(server: Server, method: str,
                                                                              sent: bytes) -> None:
    before = server.condition().memory
    with pytest.raises(grpc.RpcError) as error:
        server.channel().unary_unary(method)(sent, timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "has more than 262144 fields" in str(error.value.details())
    assert server.condition().memory < before + 20 * 2**20


def test_a_client_that_speaks_tls_to_a_plain_port_is_hung_up_on(server: Server) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for address in (server.address, server.http):
        host, port = address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=QUICKLY) as client, \
                pytest.raises((ssl.SSLError, ConnectionError)):
            context.wrap_socket(client, server_hostname=host)
    assert_answers(server)


def test_clients_that_never_read_their_answers_do_not_keep_others_from_theirs(server: Server) -> None:
    assert_answers(server)
    before = server.condition().memory
    calls = [headers(CLASSIFY, stream) + message(request(), stream) for stream in range(1, 2_001, 2)]
    page = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
    stub, polite = server.classifier(), classifier_pb2.ClassifyRequest(pictures=[{"content": GIF}])

    def answered() -> bool:
        """The four thousand calls before this one may fill the server, which then must say so."""
        code = stub.Classify.future(polite, timeout=30).code()
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED)
        return code is grpc.StatusCode.OK

    with contextlib.ExitStack() as clients:
        for _ in range(4):
            clients.enter_context(connected(server.address, PREFACE, settings(), *calls))
            deaf = clients.enter_context(connected(server.http))
            deaf.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(2_000):
                    deaf.sendall(page)
        until(answered, 30)
        until(lambda: server.metric("voc_serve_pictures_in_server") == 0, 30)
        for _ in range(3):
            assert_answers(server)
        held = server.condition().memory - before
        print(f"4,000 answers that nobody takes: {held / 2**20:.0f} MiB")
        assert held < 200 * 2**20


GONE = """
import sys, grpc
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc
def requests():
    while True:
        yield classifier_pb2.ClassifyStreamRequest(request={"pictures": [{"content": bytes.fromhex(sys.argv[2])}]})
answers = classifier_pb2_grpc.ClassifierStub(grpc.insecure_channel(sys.argv[1])).ClassifyStream(requests())
for number, answer in enumerate(answers):
    if number == 20:
        print("running", flush=True)
"""


def test_a_client_that_is_killed_amid_its_stream_is_forgotten(server: Server) -> None:
    client = subprocess.Popen([sys.executable, "-c", GONE, server.address, GIF.hex()], stdout=subprocess.PIPE)
    with client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"running\n"
        assert running(server) > 0
        client.send_signal(signal.SIGKILL)
    until(lambda: running(server) == 0, QUICKLY)
    assert_answers(server)


def test_connections_that_are_reset_are_forgotten(server: Server) -> None:
    call = PREFACE + settings() + headers(STREAM) + message(
        classifier_pb2.ClassifyStreamRequest(request={"pictures": [{"content": GIF}]}).SerializeToString(), last=False)
    for address, sent in ((server.address, call), (server.http, PREDICT + b"Content-Length: 90\r\n\r\n{")) * 20:
        with connected(address, sent) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: running(server) == 0, QUICKLY)
    assert_answers(server)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Lets this process have as many connections as the test needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * IDLE + 500
    if hard < needed:
        pytest.skip(f"this user may open {hard} files, {needed} are needed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def settled(server: Server) -> Condition:
    """The server's condition when the connections of earlier calls are closed, or they would be missed later."""
    gc.collect()  # channels of earlier tests
    before = server.condition()
    for _ in range(30):
        time.sleep(0.3)
        now = server.condition()
        if now.files == before.files:
            return now
        before = now
    raise AssertionError(f"the server still closes connections: {before}")


@pytest.mark.usefixtures("many_files")
def test_thousands_of_idle_connections_cost_the_others_nothing(server: Server) -> None:
    assert_answers(server)
    before = settled(server)
    with contextlib.ExitStack() as clients:
        for _ in range(IDLE):
            clients.enter_context(connected(server.address, PREFACE, settings()))
            clients.enter_context(connected(server.http))
        until(lambda: server.condition().files >= before.files + 2 * IDLE, 20)
        for _ in range(3):
            assert_answers(server)
        held = server.condition()
    until(lambda: server.condition().files <= before.files + 4, 20)
    print(f"{2 * IDLE} idle connections: {(held.memory - before.memory) / 2 / IDLE / 1024:.0f} KiB each")
    assert held.memory < before.memory + 2 * IDLE * 100 * 1024
    assert server.condition().memory < held.memory + 10 * 2**20


def test_a_server_out_of_file_descriptors_answers_again_when_there_are_some(server: Server) -> None:
    channel_open_before = server.classifier()
    few = server.condition().files + 60
    limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, limits[1]))
    try:
        channel_open_before.GetModel(classifier_pb2.GetModelRequest(), timeout=QUICKLY)
        with contextlib.ExitStack() as clients:
            for _ in range(100):
                clients.enter_context(connected(server.http))
                clients.enter_context(connected(server.address))
            until(lambda: server.condition().files >= few - 2, 10)
            channel_open_before.Classify(classifier_pb2.ClassifyRequest(pictures=[{"content": GIF}]), timeout=QUICKLY)
        until(lambda: server.condition().files <= few - 40, 20)
        assert_answers(server)
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)


def test_a_watcher_of_health_that_reads_nothing_does_not_keep_a_server_from_stopping(start: Start,
                                                                                     model: Path) -> None:
    server = start(model, "--grace-seconds", 3).wait_until_ready()
    with connected(server.address, PREFACE, settings(window=0), headers(WATCH), message(b"")):
        assert_answers(server)
        assert server.end(timeout=15) == 0
    assert "Traceback" not in server.errors.read_text()
    assert os.path.getsize(server.output) > 0
