"""A softmax model is served as one: it says so, its probabilities sum to 1, and it has no thresholds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import command_in_process as command
from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.tiny_model import LABELS, export_tiny_model
from voc_cls.client import CallError, Client


@pytest.fixture(scope="module")
def softmax_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves version 1, a softmax model that divides its inputs."""
    folder = tmp_path_factory.mktemp("models") / "breeds"
    version = export_tiny_model(folder / "1", activation="softmax")
    about = json.loads((version / "assets" / "voc_cls.json").read_text())
    about["preprocessing"]["std"] = [58.4, 57.1, 57.4]
    (version / "assets" / "voc_cls.json").write_text(json.dumps(about))
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(folder).wait_until_ready()
    starter.end_all()


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Three picture files."""
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number))
    return sorted(tmp_path.glob("*.jpg"))


def test_it_says_what_its_probabilities_mean_with_every_answer(softmax_server: Server, pictures: list[Path]) -> None:
    with Client(softmax_server.address) as client:
        info, answers = client.model(), client.classify(pictures)
        streamed = [prediction for _, prediction in client.classify_stream(pictures, ordered=True)]
    assert info.activation == "softmax"
    assert info.preprocessing.std == pytest.approx((58.4, 57.1, 57.4))
    assert not any(label.threshold for label in info.labels)
    for prediction in (*answers, *streamed):
        assert prediction.activation == "softmax"
        assert sum(scored.probability for scored in prediction.labels) == pytest.approx(1, abs=1e-5)
        assert prediction.seen() == prediction.labels[:1]


def test_thresholds_that_it_does_not_have_are_refused_with_what_to_ask_instead(softmax_server: Server,
                                                                               pictures: list[Path]) -> None:
    with Client(softmax_server.address) as client:
        with pytest.raises(CallError, match=r"one label per picture \(softmax\) and has no thresholds: send top_k 1"):
            client.classify(pictures, exported_thresholds=True)
        (winner,) = client.classify(pictures[:1], top_k=1)[0].labels
        everything = client.classify(pictures[:1])[0].labels
        assert winner == everything[0]
        assert len(client.classify(pictures[:1], threshold=everything[2].probability)[0].labels) == 3


def test_voc_predict_says_so_too(softmax_server: Server, pictures: list[Path], tmp_path: Path) -> None:
    asked = command("voc-predict", *pictures, "--server", softmax_server.address, "--json", "--sheet",
                    tmp_path / "sheet.png")
    assert asked.returncode == 0, asked.stderr
    for entry in json.loads(asked.stdout)["pictures"]:
        assert entry["activation"] == "softmax"
        assert len(entry["labels"]) == 5
        assert {label["label"] for label in entry["labels"]} < set(LABELS)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    refused = command("voc-predict", pictures[0], "--server", softmax_server.address, "--thresholds", "exported")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "top_k 1" in refused.stderr
