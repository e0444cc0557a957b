"""predict_augmented of an exported run: the server, TensorFlow and voc-eval --tta give the same numbers."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
import yaml
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.options import ExportOptions
from export.verify import encoded_images
from export.version_folder import export_run
from serving.engine.tensorflow import TensorFlowNetwork
from tests.integration.serving.conftest import Server, Start
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.nets.network import build_network
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig, to_dict
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import open_run
from voc_cls.v1 import classifier_pb2

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

LABELS, CUT, SIZES = ("cat", "dog", "cow"), "pool1", [32, 37, 41]
VIEWS = 2 * len(SIZES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the beginning of a VGG-16, with random weights."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    network = build_network("vgg_16", "gap+max", len(LABELS), image_size=SIZES[0], cut=CUT)
    network.model.save_weights(folder.best)
    network.model.save_weights(folder.last)
    folder.labels.write_text("".join(f"{label}\n" for label in LABELS))
    config = TrainConfig(DatasetConfig(root=(Path("devkit"),), train_split="trainval", eval_split="none"),
                         NetworkConfig(weights="none", head="gap+max", image_size=SIZES[0], cut=CUT))
    folder.config.write_text(yaml.safe_dump(to_dict(config.checked())
                                            | {"provenance": {"weights_digest": None, "train_pictures": 7}}))
    return folder.path


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    options = ExportOptions(("savedmodel", "openvino"), evaluate=False, tta="both")
    return export_run(run, tmp_path_factory.mktemp("models") / "pets", options=options)


@pytest.fixture(scope="module")
def evaluated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What voc-eval --tta both computes for the images: probabilities [N, C]."""
    files = [tmp_path_factory.mktemp("images") / "image" for _ in encoded_images()]
    for file, image in zip(files, encoded_images(), strict=True):
        file.write_bytes(image)
    trained = open_run(run)
    augmented = probabilities_of(trained.logits(files, tta="both"), trained.task)
    assert np.abs(augmented - probabilities_of(trained.logits(files), trained.task)).max() > 1e-4
    return augmented


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(exported.parent, "--engine", "openvino", "--precision", "float32", "--queue-size",
                  VIEWS * len(encoded_images()), "--max-batch-size", 4).wait_until_ready()
    starter.end_all()


def test_tensorflow_serving_finds_a_sixth_signature_with_the_mean_over_the_views(exported: Path, evaluated: Any):
    loaded = tf.saved_model.load(str(exported))
    assert len(loaded.signatures) == 6
    answer = loaded.signatures["predict_augmented"](image_bytes=tf.constant(encoded_images()))
    np.testing.assert_allclose(answer["probabilities"], evaluated, atol=1e-5)
    assert json.loads((exported / "assets/voc_cls.json").read_text())["augmented"] == {
        "sizes": SIZES, "mirrored": True, "tta": "both"}
    assert "as `voc-eval --tta both` does: at 32, 37, 41 pixels, each with its mirror image" in (
        exported / "MODEL_CARD.md").read_text()


def test_the_server_gives_the_numbers_of_voc_eval_over_grpc_and_rest(server: Server, evaluated: Any):
    images = encoded_images()
    request = predict_pb2.PredictRequest(model_spec={"signature_name": "predict_augmented"},
                                         inputs={"image_bytes": tf.make_tensor_proto(images)})
    service = prediction_service_pb2_grpc.PredictionServiceStub(server.channel())
    outputs = service.Predict(request, timeout=60).outputs
    np.testing.assert_allclose(tf.make_ndarray(outputs["probabilities"]), evaluated, atol=1e-4)
    np.testing.assert_allclose(tf.sigmoid(tf.make_ndarray(outputs["logits"])), evaluated, atol=1e-4)
    body = {"signature_name": "predict_augmented",
            "instances": [{"b64": base64.b64encode(image).decode()} for image in images]}
    with urllib.request.urlopen(f"{server.http}/v1/models/pets:predict", json.dumps(body).encode(), 60) as answer:
        rows = json.load(answer)["predictions"]
    np.testing.assert_allclose([row["probabilities"] for row in rows], evaluated, atol=1e-4)


def test_each_view_takes_a_place_in_the_queue(server: Server):
    request = predict_pb2.PredictRequest(
        model_spec={"signature_name": "predict_augmented"},
        inputs={"image_bytes": tf.make_tensor_proto([*encoded_images(), encoded_images()[0]])})
    with pytest.raises(grpc.RpcError, match=r"up to 36 pictures .* this one has 42 in 6 views each"):
        prediction_service_pb2_grpc.PredictionServiceStub(server.channel()).Predict(request, timeout=60)


def test_the_description_of_the_model_has_the_signature_and_its_views(server: Server):
    code, body = server.get("/v1/models/pets/metadata")
    assert code == 200
    assert set(json.loads(body)["metadata"]["signature_def"]["signature_def"]["predict_augmented"]["outputs"]) == {
        "probabilities", "logits"}
    views = server.classifier().GetModel(classifier_pb2.GetModelRequest(), timeout=20).augmented
    assert (list(views.sizes), views.mirrored, views.tta) == (SIZES, True, "both")


def test_the_engine_of_tensorflow_takes_the_other_sizes_too(exported: Path, run: Path):
    engine, network = TensorFlowNetwork(exported, "float32", 1), open_run(run).network.at_any_size()
    for size in SIZES:
        inputs = np.random.default_rng(size).normal(0, 50, (1, size, size, 3)).astype(np.float32)
        np.testing.assert_allclose(engine.predict(inputs).logits, network(inputs), rtol=1e-4, atol=1e-4)
