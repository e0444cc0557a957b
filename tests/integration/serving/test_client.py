"""voc_cls.client: answers in order, and for every way in which it can go wrong a sentence that names the culprit."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.serving.conftest import Server, jpeg
from voc_cls.client import Client, Prediction, ScoredLabel
from voc_cls.errors import ClientError
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, timeout=20) as client:
        yield client


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """More than go into one call."""
    paths = [tmp_path / f"{number:02}.jpg" for number in range(21)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg(number))
    return paths


def probabilities(prediction: Prediction) -> dict[str, float]:
    return {scored.label: scored.probability for scored in prediction.labels}


def test_files_and_bytes_are_answered_in_order_in_as_many_calls_as_needed(client: Client, files: list[Path]) -> None:
    from_files = client.classify(files)
    assert len(from_files) == 21
    for path, prediction in zip(files, from_files, strict=True):
        alone = client.classify([path.read_bytes()])[0]
        assert probabilities(prediction) == pytest.approx(probabilities(alone), abs=1e-6)  # batches round differently
    assert (from_files[0].model, from_files[0].version, len(from_files[0].labels)) == ("tiny", 10, 20)
    assert isinstance(from_files[0].labels[0], ScoredLabel)
    assert client.classify([]) == []


def test_only_the_wanted_labels_come_back(client: Client, files: list[Path]) -> None:
    best = client.classify(files[:1], top_k=2)[0].labels
    assert [scored.label for scored in best] == [scored.label for scored in client.classify(files[:1])[0].labels[:2]]


def test_a_broken_picture_is_named_by_its_file_whatever_call_it_is_in(client: Client, files: list[Path]) -> None:
    files[18].write_bytes(b"no picture at all")
    with pytest.raises(ClientError, match=rf"^{files[18]} is not a JPEG, PNG, BMP or GIF picture"):
        client.classify(files)
    with pytest.raises(ClientError, match=r"^picture 1 is not a JPEG, PNG, BMP or GIF picture: empty"):
        client.classify([jpeg(0), b""])


def test_a_file_that_is_not_there_or_a_folder_is_named(client: Client, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=rf"^{tmp_path}/none\.jpg is not there"):
        client.classify([files[0], tmp_path / "none.jpg"])
    with pytest.raises(ClientError, match=rf"^{tmp_path} is a folder"):
        client.classify([tmp_path])


def test_a_picture_above_the_message_limit_is_named_before_it_is_sent(server: Server, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(2 * 2**20))
    with Client(server.address, max_message_mb=1) as client, \
            pytest.raises(ClientError, match=rf"^{large} has 2\.0 MiB, more than the 1 MiB"):
        client.classify([large])


def test_a_message_above_the_servers_limit_says_which_flag_raises_it(client: Client) -> None:
    with pytest.raises(ClientError, match=r"takes no messages of this size .*--max-message-mb"):
        client.classify([bytes(5 * 2**20)])


def test_pictures_that_together_exceed_a_message_go_in_several(server: Server) -> None:
    noise = jpeg(0) + bytes(2**19)  # what follows the end of a JPEG is ignored
    with Client(server.address, max_message_mb=1) as client:
        assert len(client.classify([noise] * 5)) == 5


def test_a_server_that_is_not_there_is_named(files: list[Path]) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        with Client(address) as client, pytest.raises(ClientError, match=rf"^no server answers at {address} \("):
            client.classify(files)
        assert time.monotonic() - begun < 15


def test_a_server_without_the_service_is_named(files: list[Path]) -> None:
    with ThreadPoolExecutor(1) as threads:
        other = grpc.server(threads)
        address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
        other.start()
        with Client(address) as client, pytest.raises(ClientError, match=r"has no voc_cls\.v1\.Classifier"):
            client.classify(files)
        other.stop(None).wait()


class Unreliable(classifier_pb2_grpc.ClassifierServicer):  # type: ignore[misc]
    """Refuses the first `refusals` calls as a server that is still loading, answers the others after `seconds`."""

    def __init__(self, refusals: int, seconds: float) -> None:
        self.calls, self.refusals, self.released = 0, refusals, threading.Event()
        self.seconds = seconds

    def Classify(self, request: classifier_pb2.ClassifyRequest, context: Any) -> classifier_pb2.ClassifyResponse:
        self.calls += 1
        if self.calls <= self.refusals:
            context.abort(grpc.StatusCode.UNAVAILABLE, "model 'tiny' is not ready yet")
        self.released.wait(self.seconds)
        nothing = [classifier_pb2.Classification() for _ in request.pictures]
        return classifier_pb2.ClassifyResponse(classifications=nothing)


def unreliable(threads: ThreadPoolExecutor, servicer: Unreliable) -> tuple[grpc.Server, str]:
    server = grpc.server(threads)
    classifier_pb2_grpc.add_ClassifierServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    return server, address


def test_a_server_that_is_not_ready_is_asked_again(files: list[Path]) -> None:
    servicer = Unreliable(refusals=2, seconds=0)
    with ThreadPoolExecutor(1) as threads:
        server, address = unreliable(threads, servicer)
        with Client(address) as client:
            assert len(client.classify(files[:1])) == 1
        assert servicer.calls == 3
        servicer.calls, servicer.refusals = 0, 100
        with Client(address) as client, pytest.raises(ClientError, match="UNAVAILABLE: model 'tiny' is not ready yet"):
            client.classify(files[:1])
        assert servicer.calls == 5
        server.stop(None).wait()


def test_a_server_that_stays_away_longer_is_waited_for_as_long_as_was_said(files: list[Path]) -> None:
    servicer = Unreliable(refusals=7, seconds=0)  # more than gRPC's own five attempts
    begun: list[float] = []
    with ThreadPoolExecutor(1) as threads:
        server, address = unreliable(threads, servicer)
        with Client(address, wait=20, on_wait=lambda: begun.append(time.monotonic())) as client:
            assert len(client.classify(files[:1])) == 1
        assert (servicer.calls, len(begun)) == (8, 1)
        server.stop(None).wait()


def test_the_deadline_is_honoured_and_told(files: list[Path]) -> None:
    servicer = Unreliable(refusals=0, seconds=10)
    with ThreadPoolExecutor(1) as threads:
        server, address = unreliable(threads, servicer)
        begun = time.monotonic()
        with Client(address, timeout=0.5) as client, \
                pytest.raises(ClientError, match=rf"^the server at {address} did not answer within 0\.5 s"):
            client.classify(files[:1])
        assert time.monotonic() - begun < 2
        servicer.released.set()
        server.stop(None).wait()
