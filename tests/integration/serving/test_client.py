"""voc_cls.client: answers in order, and for every way in which it can go wrong a sentence that names the culprit.

Each test is run with Client and with AsyncClient.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.serving.both_clients import Connect
from tests.integration.serving.conftest import Server, jpeg
from tests.integration.serving.scripted_server import Refusal, Scripted, serving
from tests.integration.serving.tiny_model import LABELS
from voc_cls.client import CallError, Prediction, ScoredLabel
from voc_cls.errors import ClientError


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """More than go into one call."""
    paths = [tmp_path / f"{number:02}.jpg" for number in range(21)]
    for number, path in enumerate(paths):
        path.write_bytes(jpeg(number))
    return paths


def probabilities(prediction: Prediction) -> dict[str, float]:
    return {scored.label: scored.probability for scored in prediction.labels}


def test_files_and_bytes_are_answered_in_order_in_as_many_calls_as_needed(client: Any, files: list[Path]) -> None:
    from_files = client.classify(files)
    assert len(from_files) == 21
    for path, prediction in zip(files, from_files, strict=True):
        alone = client.classify([path.read_bytes()])[0]
        assert probabilities(prediction) == pytest.approx(probabilities(alone), abs=1e-6)  # batches round differently
    assert (from_files[0].model, from_files[0].version, len(from_files[0].labels)) == ("tiny", 10, 20)
    assert isinstance(from_files[0].labels[0], ScoredLabel)
    assert client.classify([]) == []


def test_only_the_wanted_labels_come_back(client: Any, files: list[Path]) -> None:
    best = client.classify(files[:1], top_k=2)[0].labels
    assert [scored.label for scored in best] == [scored.label for scored in client.classify(files[:1])[0].labels[:2]]


def test_labels_below_a_threshold_stay_away(client: Any, files: list[Path]) -> None:
    every = client.classify(files[:1])[0].labels
    least = (every[3].probability + every[4].probability) / 2
    assert client.classify(files[:1], threshold=least)[0].labels == pytest.approx(every[:4])
    assert len(client.classify(files[:1], threshold=least, top_k=2)[0].labels) == 2
    assert client.classify(files[:1], threshold=1)[0] == Prediction((), "tiny", 10, activation="sigmoid")
    seen = client.classify(files[:1], exported_thresholds=True)[0].labels  # the tiny model's are all 0.5
    assert 0 < len(seen) < 20
    assert [scored.label for scored in seen] == [scored.label for scored in every if scored.probability >= 0.5]


def test_a_question_that_no_server_could_answer_is_told_before_it_is_sent(client: Any) -> None:
    for question, message in (({"threshold": 1.5}, "`threshold` 1.5 is not a probability"),
                              ({"threshold": 0.5, "exported_thresholds": True}, "give one of them"),
                              ({"version": 1, "version_label": "stable"}, "both choose a version"),
                              ({"top_k": -1}, "`top_k` -1 is below 0")):
        with pytest.raises(ClientError, match=message):
            client.classify([jpeg(0)], **question)
        with pytest.raises(ClientError, match=message):
            client.classify_stream([jpeg(0)], **question)


def test_a_model_or_a_version_that_is_not_there_is_told_with_those_that_are(client: Any) -> None:
    with pytest.raises(CallError, match=r"NOT_FOUND: .*tiny") as error:
        client.classify([jpeg(0)], model="huge")
    assert error.value.code is grpc.StatusCode.NOT_FOUND
    with pytest.raises(CallError, match=r"NOT_FOUND: .*10"):
        client.classify([jpeg(0)], version=3)
    with pytest.raises(CallError, match="stable"):
        client.classify([jpeg(0)], version_label="stable")
    assert client.classify([jpeg(0)], model="tiny", version=10)[0].version == 10


def test_a_model_says_what_it_is(client: Any) -> None:
    info = client.model()
    assert (info.model, info.version, info.net, info.activation) == ("tiny", 10, "tiny", "sigmoid")
    assert [label.name for label in info.labels] == list(LABELS)
    assert {label.threshold for label in info.labels} == {0.5}
    assert {label.average_precision for label in info.labels} == {None}
    assert (info.preprocessing.size, info.preprocessing.channels, info.preprocessing.resize) == (8, "RGB", "bilinear")
    assert info.preprocessing.mean == pytest.approx((123.68, 116.78, 103.94))
    assert info.metrics == {}
    assert (info.versions[0].version, info.versions[0].state, info.versions[0].error) == (10, "AVAILABLE", "")
    assert client.model("tiny", version=10) == info
    with pytest.raises(CallError, match="NOT_FOUND"):
        client.model("huge")


def test_a_broken_picture_is_named_by_its_file_whatever_call_it_is_in(client: Any, files: list[Path]) -> None:
    files[18].write_bytes(b"no picture at all")
    with pytest.raises(ClientError, match=rf"^{files[18]} is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture"):
        client.classify(files)
    with pytest.raises(ClientError, match=r"^picture 1 is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: empty"):
        client.classify([jpeg(0), b""])


def test_who_wants_partial_results_gets_the_answers_and_an_error_for_each_of_the_others(
        client: Any, files: list[Path], tmp_path: Path) -> None:
    files[18].write_bytes(b"no picture at all")
    files[3] = tmp_path / "none.jpg"
    found = client.classify(files, raise_errors=False)
    assert [position for position, one in enumerate(found) if one.error] == [3, 18]
    assert found[3] == Prediction((), "", None, f"{tmp_path}/none.jpg does not exist: give the path of a JPEG, PNG, "
                                                "BMP, GIF, WebP or TIFF file")
    assert found[18].error.startswith(f"{files[18]} is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture")
    assert (found[18].labels, found[18].model) == ((), "tiny")
    assert probabilities(found[19]) == pytest.approx(probabilities(client.classify([files[19]])[0]), abs=1e-6)
    nothing_to_send = client.classify([tmp_path / "none.jpg", tmp_path], raise_errors=False)
    assert [one.error.split()[1:3] for one in nothing_to_send] == [["does", "not"], ["is", "a"]]


def test_a_file_that_is_not_there_or_a_folder_is_named(client: Any, files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ClientError, match=rf"^{tmp_path}/none\.jpg does not exist"):
        client.classify([files[0], tmp_path / "none.jpg"])
    with pytest.raises(ClientError, match=rf"^{tmp_path} is a folder"):
        client.classify([tmp_path])


def test_a_picture_above_the_message_limit_is_named_before_it_is_sent(to: Connect, server: Server,
                                                                      tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    large.write_bytes(bytes(2 * 2**20))
    with to(server.address, max_message_mb=1) as client, \
            pytest.raises(ClientError, match=rf"^{large} has 2\.0 MiB, more than the 1 MiB"):
        client.classify([large])


def test_a_message_above_the_servers_limit_says_what_raises_it(client: Any) -> None:
    with pytest.raises(ClientError, match=r"rejects messages of this size .*`max_message_mb`"):
        client.classify([bytes(5 * 2**20)])


def test_pictures_that_together_exceed_a_message_go_in_several(to: Connect, server: Server) -> None:
    noise = jpeg(0) + bytes(2**19)  # what follows the end of a JPEG is ignored
    with to(server.address, max_message_mb=1) as client:
        assert len(client.classify([noise] * 5)) == 5


def test_a_server_that_is_not_there_is_named(to: Connect, files: list[Path]) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        begun = time.monotonic()
        with to(address) as client, pytest.raises(ClientError, match=rf"^no server answers at {address} \("):
            client.classify(files)
        assert time.monotonic() - begun < 15


def test_a_server_without_the_service_is_named(to: Connect, files: list[Path]) -> None:
    with ThreadPoolExecutor(1) as threads:
        other = grpc.server(threads)
        address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
        other.start()
        with to(address) as client, pytest.raises(ClientError, match="does not have this method of voc_cls"):
            client.classify(files)
        other.stop(None).wait()


def test_a_server_that_is_not_ready_is_asked_again(to: Connect, files: list[Path]) -> None:
    servicer = Scripted(Refusal(), Refusal())
    with serving(servicer) as address:
        with to(address) as client:
            assert len(client.classify(files[:1])) == 1
        assert len(servicer.calls) == 3
        servicer.calls, servicer.refusals = [], [Refusal(after_ms=10)] * 100
        with to(address) as client, pytest.raises(ClientError, match="UNAVAILABLE: model 'tiny' is not ready yet"):
            client.classify(files[:1])
        assert len(servicer.calls) == 5


def test_large_calls_are_sent_again_too(to: Connect) -> None:
    servicer = Scripted(Refusal(), Refusal())
    with serving(servicer) as address, to(address) as client:
        assert len(client.classify([bytes(3 * 2**20)])) == 1  # gRPC gives up on those above 256 KiB unless told not to
    assert len(servicer.calls) == 3


def test_a_full_server_is_asked_again_when_it_says(to: Connect, files: list[Path]) -> None:
    full = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", after_ms=900)
    servicer = Scripted(full)
    with serving(servicer) as address, to(address) as client:
        assert len(client.classify(files[:1])) == 1
        assert 0.85 < servicer.calls[1] - servicer.calls[0] < 2
        servicer.calls, servicer.refusals = [], [Refusal(full.code, full.details, after_ms=-1)]  # "do not try again"
        with pytest.raises(CallError, match="RESOURCE_EXHAUSTED: the queue is full") as error:
            client.classify(files[:1])
    assert len(servicer.calls) == 1
    assert error.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_server_that_stays_away_longer_is_waited_for_as_long_as_was_said(to: Connect, files: list[Path]) -> None:
    servicer = Scripted(*[Refusal(after_ms=10)] * 7)  # more than gRPC's own five attempts
    begun: list[float] = []
    with serving(servicer) as address, \
            to(address, wait=20, on_wait=lambda: begun.append(time.monotonic())) as client:
        assert len(client.classify(files[:1])) == 1
    assert (len(servicer.calls), len(begun)) == (8, 1)


def test_the_deadline_is_honoured_and_told(to: Connect, files: list[Path]) -> None:
    with serving(Scripted(seconds=10)) as address:
        begun = time.monotonic()
        with to(address, timeout=0.5) as client, \
                pytest.raises(ClientError, match=rf"^the server at {address} did not answer within 0\.5 s"):
            client.classify(files[:1])
        assert time.monotonic() - begun < 10  # when the server would have answered


def test_every_call_has_a_request_id_the_callers_or_a_new_one(to: Connect, files: list[Path]) -> None:
    servicer = Scripted()
    with serving(servicer) as address, to(address) as client:
        client.classify(files[:1], request_id="mine-1")
        assert servicer.metadata["x-request-id"] == "mine-1"
        client.model()
        first = servicer.metadata["x-request-id"]
        client.model()
        assert len(first) == 32
        assert servicer.metadata["x-request-id"] not in (first, "mine-1")
        servicer.refusals = [Refusal(grpc.StatusCode.INTERNAL, "it broke")]
        with pytest.raises(CallError, match=r"it broke.*under the request id mine-2") as error:
            client.classify(files[:1], request_id="mine-2")
    assert error.value.request_id == "mine-2"
