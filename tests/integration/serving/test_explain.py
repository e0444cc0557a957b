"""Heat maps and embeddings of an exported run, by both engines and every API, are those of the trained network."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import yaml
from PIL import Image
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

import voc_cls
from export.options import ExportOptions
from export.verify import encoded_images
from export.version_folder import export_run
from serving.engine.openvino import OpenVinoNetwork
from serving.engine.tensorflow import TensorFlowNetwork
from tests.integration.serving.conftest import Server, Start
from voc_cls.cli.data import main
from voc_cls.cli.predict import predict
from voc_cls.client import CallError, Client
from voc_cls.data.dataset import Task
from voc_cls.errors import ExportError
from voc_cls.evaluation.active_learning import choose, expected_errors
from voc_cls.image_decoder import Preprocessing, decode, prepare
from voc_cls.image_header import image_work
from voc_cls.nets.explained import explained
from voc_cls.nets.network import build_network
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig, to_dict
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import open_run

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

LABELS, CUT, SIZE = ("cat", "dog", "cow"), "pool1", 32
VGG = Preprocessing(SIZE, (123.68, 116.78, 103.94))
OLD = "was exported without heat maps and embeddings, as before 0.5: export it again with voc-export"


def write_run(path: Path) -> Path:
    """A run folder with the beginning of a VGG-16, with random weights."""
    path.mkdir()
    folder = RunFolder(path)
    network = build_network("vgg_16", "gap+max", len(LABELS), image_size=SIZE, cut=CUT)
    network.model.save_weights(folder.best)
    network.model.save_weights(folder.last)
    folder.labels.write_text("".join(f"{label}\n" for label in LABELS))
    config = TrainConfig(DatasetConfig(root=(Path("devkit"),), train_split="trainval", eval_split="none"),
                         NetworkConfig(weights="none", head="gap+max", image_size=SIZE, cut=CUT))
    folder.config.write_text(yaml.safe_dump(to_dict(config.checked())
                                            | {"provenance": {"weights_digest": None, "train_pictures": 7}}))
    return folder.path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "pets")


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 in both forms that are served; version 2 says nothing of heat maps, as exports before 0.5."""
    models = tmp_path_factory.mktemp("models") / "pets"
    export_run(run, models, options=ExportOptions(("savedmodel", "openvino"), evaluate=False))
    (models / "2/assets").mkdir(parents=True)
    for name in ("model.xml", "model.bin", "assets/labels.txt"):
        shutil.copy(models / "1" / name, models / "2" / name)
    metadata = json.loads((models / "1/assets/voc_cls.json").read_text())
    del metadata["explains"], metadata["files"]
    (models / "2/assets/voc_cls.json").write_text(json.dumps(metadata))
    return models


@pytest.fixture(scope="module")
def served(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    starter = Start(tmp_path_factory.mktemp("explain"))
    yield starter(exported, "--versions", "all").wait_until_ready()
    starter.end_all()


@pytest.fixture(scope="module")
def inputs() -> Any:
    return np.stack([prepare(decode(image_work(content, 10**8)), VGG) for content in encoded_images()])


@pytest.fixture(scope="module")
def right(run: Path, inputs: Any) -> list[np.ndarray]:
    """Logits, heat maps and embeddings by the trained network."""
    return [output.numpy() for output in explained(open_run(run).network)(inputs, training=False)]


def post(server: Server, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(f"{server.http}{path}", json.dumps(body).encode())
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.parametrize("engine", [OpenVinoNetwork, TensorFlowNetwork])
def test_each_engine_computes_the_networks_heat_maps_and_only_when_asked(exported: Path, inputs: Any, engine: Any,
                                                                        right: list[np.ndarray]) -> None:
    network = engine(exported / "1", "float32", 2)
    assert network.predict(inputs[:1]).heat_maps is None
    for row in range(len(inputs)):
        scores = network.explain(inputs[row:row + 1])
        np.testing.assert_allclose(scores.logits[0], right[0][row], atol=1e-3)
        np.testing.assert_allclose(scores.heat_maps[0], right[1][row], atol=0.02)
        np.testing.assert_allclose(scores.embeddings[0], right[2][row], atol=1e-4)
    assert network.predict(inputs[:1]).heat_maps is None


def test_what_is_served_without_explanations_computes_none(exported: Path) -> None:
    network = OpenVinoNetwork(exported / "1", "float32", 2)
    names = {node.get_friendly_name() for node in network._single._network.get_runtime_model().get_ops()}
    assert not [name for name in names if name.startswith(("heat_maps", "embedding"))]


def test_labels_that_are_returned_have_heat_maps_and_a_broken_picture_fails_alone(served: Server,
                                                                                 right: list[np.ndarray]) -> None:
    contents = [*encoded_images(), b"no picture"]
    with Client(served.address) as client:
        *found, broken = client.classify(contents, top_k=2, version=1, heat_maps=True, embedding=True,
                                         raise_errors=False)
        (plain,) = client.classify(contents[:1], version=1)
        assert (client.model(version=1).explains, client.model(version=2).explains) == (True, False)
    assert broken.error is not None
    assert broken.embedding is None
    for row, prediction in enumerate(found):
        assert len(prediction.labels) == 2
        for scored in prediction.labels:
            np.testing.assert_allclose(scored.heat_map, right[1][row, LABELS.index(scored.label)], atol=0.02)
        np.testing.assert_allclose(prediction.embedding, right[2][row], atol=1e-4)
    assert [scored.label for scored in plain.labels[:2]] == [scored.label for scored in found[0].labels]
    assert plain.labels[0].heat_map is None
    assert plain.embedding is None


def test_over_http_it_is_the_same(served: Server, right: list[np.ndarray]) -> None:
    picture = base64.b64encode(encoded_images()[0]).decode()
    code, answer = post(served, "/v1/classify", {"pictures": [{"content": picture}], "version": 1, "top_k": 1,
                                                 "heat_maps": True, "embedding": True})
    assert (code, answer["model"], answer["version"], answer["activation"]) == (200, "pets", "1", "sigmoid")
    (classification,) = answer["classifications"]
    (scored,) = classification["labels"]
    heat_map = scored["heat_map"]
    cells = np.frombuffer(base64.b64decode(heat_map["values"]), np.uint8).reshape(heat_map["height"], heat_map["width"])
    np.testing.assert_allclose(cells / 255, right[1][0, LABELS.index(scored["label"])], atol=0.02)
    np.testing.assert_allclose(classification["embedding"], right[2][0], atol=1e-4)
    code, description = served.get("/v1/models/pets/versions/1/description")
    assert code == 200
    assert [label["name"] for label in json.loads(description)["labels"]] == list(LABELS)
    assert json.loads(description)["explains"] is True
    for body, said in (({"pictures": 3}, "the body is not as ClassifyRequest in proto/voc_cls"),
                       ({"picture": []}, "no field named \"picture\""), ({}, "pictures is empty: send at least one"),
                       ({"pictures": [{}] * 10_001}, "pictures has 10001 entries: send at most 10000")):
        code, answer = post(served, "/v1/classify", body)
        assert (code, said in answer["error"]) == (400, True), answer


def test_predict_has_the_signatures_too(served: Server, right: list[np.ndarray], inputs: Any) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(served.channel())
    encoded = [{"b64": base64.b64encode(image).decode()} for image in encoded_images()[:2]]

    def asked(signature: str) -> dict[str, Any]:
        code, answer = post(served, "/v1/models/pets/versions/1:predict", {"signature_name": signature,
                                                                            "inputs": encoded})
        assert code == 200
        return answer["outputs"]

    np.testing.assert_allclose(asked("embed"), right[2][:2], atol=1e-4)
    np.testing.assert_allclose(asked("explain")["heat_maps"], right[1][:2], atol=0.02)
    request = predict_pb2.PredictRequest(model_spec={"name": "pets", "version": {"value": 1},
                                                     "signature_name": "explain_tensors"},
                                         output_filter=["logits", "embedding"])
    request.inputs["inputs"].CopyFrom(_tensor(inputs[:2]))
    outputs = stub.Predict(request, timeout=60).outputs
    assert set(outputs) == {"logits", "embedding"}
    np.testing.assert_allclose(np.reshape(outputs["embedding"].float_val, (2, -1)), right[2][:2], atol=1e-4)


def _tensor(array: Any) -> Any:
    import tensorflow as tf

    return tf.make_tensor_proto(array)


def test_a_version_without_them_says_so_in_every_api(served: Server, exported: Path, tmp_path: Path) -> None:
    sentence = f"version 2 of model 'pets' {OLD}"
    with Client(served.address) as client, pytest.raises(CallError, match=sentence) as refused:
        client.classify([encoded_images()[0]], heat_maps=True)
    assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
    picture = base64.b64encode(encoded_images()[0]).decode()
    code, answer = post(served, "/v1/classify", {"pictures": [{"content": picture}], "embedding": True})
    assert (code, sentence in answer["error"]) == (400, True)
    code, answer = post(served, "/v1/models/pets:predict", {"signature_name": "embed", "instances": [{"b64": picture}]})
    assert (code, f"model 'pets' {OLD}" in answer["error"]) == (400, True)
    (tmp_path / "a.jpg").write_bytes(encoded_images()[0])
    with pytest.raises(ExportError, match=sentence):
        voc_cls.load_model(exported).predict([tmp_path / "a.jpg"], explain=True)


def test_the_run_and_the_loaded_model_explain_alike(exported: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded_images()[0])
    (by_run,) = open_run(run).explain([tmp_path / "a.jpg"])
    (by_model,) = voc_cls.load_model(exported / "1").predict([tmp_path / "a.jpg"], explain=True)
    assert [scored.label for scored in by_run.labels] == [scored.label for scored in by_model.labels]
    for one, other in zip(by_run.labels, by_model.labels, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-3)
        np.testing.assert_allclose(one.heat_map, other.heat_map, atol=0.02)
    np.testing.assert_allclose(by_run.embedding, by_model.embedding, atol=1e-4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures, and one that is none."""
    (tmp_path / "pictures").mkdir()
    for number, content in enumerate([*encoded_images(), b"no picture"]):
        (tmp_path / f"pictures/{number}.jpg").write_bytes(content)
    return tmp_path / "pictures"


@pytest.mark.parametrize("source", ["--server", "--model", "--run"])
def test_voc_predict_draws_heat_maps_whatever_predicts(served: Server, exported: Path, run: Path, folder: Path,
                                                       source: str, monkeypatch: pytest.MonkeyPatch,
                                                       tmp_path: Path) -> None:
    values = {"--server": [served.address, "--version", "1"], "--model": [str(exported / "1")], "--run": [str(run)]}
    monkeypatch.setattr("sys.argv", ["voc-predict", str(folder / "0.jpg"), str(folder / "3.jpg"), source,
                                     *values[source], "--explain", str(tmp_path / "heat")])
    before = signal.getsignal(signal.SIGTERM)
    try:
        predict()
    finally:
        signal.signal(signal.SIGTERM, before)
    drawn = sorted((tmp_path / "heat").iterdir())
    assert [file.name for file in drawn] == ["0.jpg.png", "3.jpg.png"]
    with Image.open(drawn[0]) as picture:
        assert picture.width > 1.5 * picture.height  # the picture, and beside it one with a map at least


def test_similar_pictures_are_those_with_near_embeddings(exported: Path, folder: Path, right: list[np.ndarray],
                                                         tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["similar", str(folder / "1.jpg"), str(folder), "--model", str(exported / "1"), "--top", "4"]
    assert main([*command, "--json", "--sheet", str(tmp_path / "sheet.png")]) == 0
    shown, errors = capsys.readouterr()
    found = json.loads(shown)
    similarities = right[2] @ right[2][1]
    order = (-similarities).argsort(kind="stable")[:4]
    assert [entry["file"] for entry in found] == [str(folder / f"{row}.jpg") for row in order]
    np.testing.assert_allclose([entry["similarity"] for entry in found], similarities[order], atol=1e-4)
    assert "6.jpg: is " in errors
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    assert main(command[:2]) == 2
    assert "1.jpg: no folder to search; name one after the picture, or a run by --run" in capsys.readouterr().err


def test_an_exported_model_too_chooses_what_to_label_next(exported: Path, folder: Path, right: list[np.ndarray],
                                                          tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "6.jpg").unlink()
    shutil.copy(folder / "1.jpg", folder / "copy.jpg")
    command = ["next", str(exported / "1"), str(folder), "--count", "4"]
    assert main([*command, "--json", "--label-studio", str(tmp_path / "tasks.json")]) == 0
    shown, notes = capsys.readouterr()
    errors = expected_errors(1 / (1 + np.exp(-right[0])), Task.MULTI_LABEL)
    rows = choose(right[2], errors, 4, 0)
    assert len(set(map(tuple, right[0].round(3).tolist()))) == 6
    chosen = json.loads(shown)["next"]
    assert [entry["file"] for entry in chosen] == [str(folder / f"{row}.jpg") for row in rows]
    np.testing.assert_allclose([entry["uncertainty"] for entry in chosen], np.linalg.norm(errors[rows], axis=1),
                               atol=1e-3)
    assert [entry["predicted"] for entry in chosen] == [
        [LABELS[column] for column in (-right[0][row]).argsort() if right[0][row, column] > 0] for row in rows]
    assert "6 of 7 pictures" in notes
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == 4
    assert main(["next", str(exported), str(folder)]) == 1
    assert f"version 2 of model 'pets' {OLD}" in capsys.readouterr().err
