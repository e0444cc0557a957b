"""OpenVINO computes what the SavedModel computes, from model.xml alone too, however batches are computed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.engine import openvino
from serving.engine.openvino import OpenVinoNetwork
from serving.engine.process import EngineProcess, LoadRequest
from serving.errors import ServeError
from tests.image_kinds import every_kind, photographs
from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.tiny_ir import export_tiny_ir
from tests.integration.serving.tiny_model import LABELS, MEAN, SIZE
from voc_cls.data.preprocessing import decode, preprocess
from voc_cls.image_decoder import Preprocessing, decodable
from voc_cls.v1 import classifier_pb2

SIZES = (1, 2, 4, 8, 16)
HIGH = 0.9
"""The threshold of the int8 form; the model's own is 0.5."""


@pytest.fixture(scope="module")
def both(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/both with version 10 as a SavedModel and as OpenVINO's, and 11 as OpenVINO's int8 alone."""
    folder = tmp_path_factory.mktemp("both") / "both"
    shutil.copytree(model / "10", folder / "10")
    export_tiny_ir(folder / "10", seed=10)
    export_tiny_ir(folder / "11", seed=10, int8=True, thresholds=dict.fromkeys(LABELS, HIGH))
    return folder


@pytest.fixture(scope="module")
def by_openvino(both: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    starter = Start(tmp_path_factory.mktemp("openvino"))
    yield starter(both, "--versions", "all", "--queue-size", 500).wait_until_ready()
    starter.end_all()


@pytest.fixture
def inputs() -> Any:
    return np.random.default_rng(0).normal(0, 50, (SIZES[-1], SIZE, SIZE, 3)).astype(np.float32)


def ask(server: Server, contents: list[bytes], version: int, **fields: Any) -> list[classifier_pb2.Classification]:
    request = classifier_pb2.ClassifyRequest(
        pictures=[classifier_pb2.Picture(content=content) for content in contents], version=version, **fields)
    return list(server.classifier().Classify(request, timeout=60).classifications)


def probabilities(classification: classifier_pb2.Classification) -> list[float]:
    """In the order of the labels."""
    scored = {label.label: label.probability for label in classification.labels}
    return [scored[label] for label in LABELS]


def in_graph(content: bytes) -> Any:
    """What an export's own graph makes of an image file."""
    settings = Preprocessing(SIZE, MEAN)
    return preprocess(decode(tf.constant(decodable(content)), settings), settings)


def test_photographs_and_files_of_every_kind_get_the_answers_of_the_saved_model(by_openvino: Server,
                                                                               saved_model: Any) -> None:
    contents = [*photographs()[:200], *every_kind()]
    expected = saved_model.signatures["predict_tensors"](inputs=tf.stack([in_graph(content) for content in contents]))
    answers = ask(by_openvino, contents, version=10)
    np.testing.assert_allclose([probabilities(answer) for answer in answers], expected["probabilities"], atol=1e-4)


def test_the_log_says_which_engine_and_why_and_how_batches_are_computed(by_openvino: Server, both: Path,
                                                                        start: Start) -> None:
    lines = by_openvino.errors.read_text().splitlines()
    for version, precision in ((10, "float32"), (11, "int8")):
        (line,) = [line for line in lines if f"version {version}: loaded in" in line]
        assert " by OpenVINO 2026." in line
        assert f", CPU, {precision}, " in line
        assert "(auto: the fastest); first batches of 1 2" in line
        description = line.partition(" by ")[2].partition(" (auto")[0]
        assert description in by_openvino.ready_line
        assert by_openvino.metric("voc_serve_engine_info", model="both", version=str(version),
                                  description=description) == 1
    refused = start(both, "--engine", "tensorflow", "--versions", 11)
    assert refused.process.wait(60) == 1
    assert "11 has no saved_model.pb, which --engine tensorflow computes: " in refused.errors.read_text()


def test_thresholds_are_those_of_the_form_that_is_served(by_openvino: Server) -> None:
    picture = every_kind()[:1]
    for version, least in ((10, 0.5), (11, HIGH)):
        (shown,) = ask(by_openvino, picture, version, exported_thresholds=True)
        assert {label.label for label in shown.labels} == {
            label for label, probability in zip(LABELS, probabilities(ask(by_openvino, picture, version)[0]),
                                                strict=True) if probability >= least}
        labels = by_openvino.classifier().GetModel(classifier_pb2.GetModelRequest(version=version), timeout=20).labels
        assert {round(label.threshold, 3) for label in labels} == {least}


def test_an_invalid_picture_fails_alone_and_every_signature_answers_without_a_saved_model(by_openvino: Server) -> None:
    good, bad = ask(by_openvino, [every_kind()[0], b"no picture"], version=11)
    assert len(good.labels) == len(LABELS)
    assert bad.error.message.startswith("pictures[1] is ")
    for version in (10, 11):
        code, body = by_openvino.get(f"/v1/models/both/versions/{version}/metadata")
        assert code == 200
        assert "predict_tensors" in body


def test_an_engine_that_is_killed_is_replaced(by_openvino: Server) -> None:
    os.kill(by_openvino.engine(), signal.SIGKILL)
    until(lambda: by_openvino.errors.read_text().count("loaded in") == 3, 30)
    assert len(ask(by_openvino, every_kind()[:1], version=11)[0].labels) == len(LABELS)


@pytest.mark.parametrize(("faster", "words"), [(1, "1 picture at a time"), (2, "2 pictures at a time"),
                                               (8, "8 pictures as one")])
def test_however_batches_are_computed_the_scores_are_the_saved_models(
        both: Path, saved_model: Any, inputs: Any, monkeypatch: pytest.MonkeyPatch, faster: int, words: str) -> None:
    network = OpenVinoNetwork(both / "10", "float32", 2)
    monkeypatch.setattr(network, "_seconds_per_image", lambda _: 1e-6 if network._best.least == faster else 1e-5)
    assert network.choose_sizes(SIZES) == SIZES  # as the images cost next to nothing
    assert network.description.endswith(f", CPU, float32, 2 threads, {words}")
    for size in (*range(len(inputs), 0, -1), 5):
        expected = saved_model.signatures["predict_tensors"](inputs=tf.constant(inputs[:size]))
        scores = network.predict(inputs[:size])
        np.testing.assert_allclose(scores.probabilities, expected["probabilities"], atol=1e-5)
        np.testing.assert_allclose(scores.logits, expected["logits"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("seconds", "sizes"), [(0.04, (1, 2)), (0.005, (1, 2, 4, 8)), (1e-4, SIZES)])
def test_batches_are_no_larger_than_what_saves_time(both: Path, monkeypatch: pytest.MonkeyPatch, seconds: float,
                                                    sizes: tuple[int, ...]) -> None:
    network = OpenVinoNetwork(both / "10", "float32", 1)
    monkeypatch.setattr(network, "_seconds_per_image", lambda _: seconds)
    assert network.choose_sizes(SIZES) == sizes


def test_slow_networks_are_not_measured_for_long(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, measured = OpenVinoNetwork(both / "10", "float32", 2), []
    monkeypatch.setattr(network, "_seconds_per_image", lambda inputs: measured.append(len(inputs)) or 0.3)
    network.choose_sizes(SIZES)
    assert measured == [1]


def test_precision_is_a_hint_and_int8_stays_int8(both: Path, inputs: Any) -> None:
    exact = OpenVinoNetwork(both / "10", "float32", 1)
    int8 = OpenVinoNetwork(both / "11", "float32", 1)
    assert ", int8, " in int8.description
    assert 0 < np.abs(int8.predict(inputs).logits - exact.predict(inputs).logits).max() < 0.5
    try:
        network = OpenVinoNetwork(both / "10", "bfloat16", 1)
    except ServeError as error:
        pytest.skip(str(error))
    assert ", bfloat16, " in network.description
    assert 0 < np.abs(network.predict(inputs).logits - exact.predict(inputs).logits).max() < 0.1


@pytest.mark.parametrize("capable", [True, False])
def test_auto_is_bfloat16_where_the_cpu_has_instructions_for_it(monkeypatch: pytest.MonkeyPatch, capable: bool) -> None:
    monkeypatch.setattr(openvino, "CAPABILITIES", ["FP32", *(["BF16"] if capable else [])])
    assert openvino.choose_precision("auto") == ("bfloat16" if capable else "float32")
    assert openvino.choose_precision("float32") == "float32"
    if not capable:
        with pytest.raises(ServeError, match="`precision` bfloat16 needs a CPU with avx512_bf16 or amx_bf16"):
            openvino.choose_precision("bfloat16")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("damage", [
    lambda version: cut(version / "model.bin"), lambda version: (version / "model.bin").unlink(),
    lambda version: cut(version / "model.xml"),
    lambda version: export_tiny_ir(version, outputs=("probabilities", "scores"))])
def test_a_damaged_model_is_one_sentence(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    damage(export_tiny_ir(tmp_path))
    with pytest.raises(ServeError, match=rf"^{tmp_path} cannot be loaded \(\w[^\n]*\): export the model again [^\n]*$"):
        OpenVinoNetwork(tmp_path, "float32", 1)


def test_its_process_has_no_tensorflow_and_all_threads_and_cores_after_it_loaded_beside_another(both: Path) -> None:
    engine = EngineProcess(LoadRequest(both / "11", "float32", 2, SIZE, len(LABELS), SIZES, background=True,
                                       engine="openvino"))
    try:
        engine.wait_until_loaded()
        assert engine.batch_sizes[0] == 1
        assert len(engine.warm_up_seconds) == len(engine.batch_sizes)
        assert "libtensorflow" not in Path(f"/proc/{engine.pid}/maps").read_text()
        assert {len(os.sched_getaffinity(int(thread))) for thread in os.listdir(f"/proc/{engine.pid}/task")} == {
            len(os.sched_getaffinity(0))}
    finally:
        engine.close()


def test_it_serves_where_tensorflow_cannot_be_imported(both: Path, start_program: Start, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules.update(dict.fromkeys(('tensorflow', 'tensorflow_serving', 'keras')))")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]).rstrip(":"))
    server = start_program(both, "--max-batch-size", 1).wait_until_ready()
    assert len(probabilities(*ask(server, [jpeg(0)], 11))) == len(LABELS)
    assert server.end() == 0
