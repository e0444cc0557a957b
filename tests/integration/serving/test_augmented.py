"""predict_augmented of an exported run by the server, which makes the views; TensorFlow: tests/endurance."""

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
from tests.integration.serving.conftest import Server, Start
from voc_cls.data.dataset import Task
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.image_decoder import Preprocessing, decode, prepare
from voc_cls.image_header import image_work
from voc_cls.nets.network import build_network
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig, to_dict
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import open_run
from voc_cls.v1 import classifier_pb2

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

LABELS, CUT, SIZES = ("cat", "dog", "cow"), "pool1", [32, 37, 41]
VIEWS, VGG = 2 * len(SIZES), (123.68, 116.78, 103.94)


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
    options = ExportOptions(("openvino",), evaluate=False, tta="both")
    return export_run(run, tmp_path_factory.mktemp("models") / "pets", options=options)


@pytest.fixture(scope="module")
def expected(run: Path) -> Any:
    """The mean over the views, by another road than the server's: probabilities [N, C]."""
    network, images = open_run(run).network.at_any_size(), [decode(image_work(image, 10**6)) for image in
                                                            encoded_images()]
    views = [np.stack([prepare(image, Preprocessing(size, VGG)) for image in images]) for size in SIZES]
    logits = [np.asarray(network(view[:, :, ::step])) for view in views for step in (1, -1)]
    assert np.abs(logits[0] - np.mean(logits, axis=0)).max() > 1e-3
    return probabilities_of(np.mean(logits, axis=0), Task.MULTI_LABEL)


@pytest.fixture(scope="module")
def server(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    starter = Start(tmp_path_factory.mktemp("server"))
    yield starter(exported.parent, "--engine", "openvino", "--precision", "float32", "--queue-size",
                  VIEWS * len(encoded_images()), "--max-batch-size", 4).wait_until_ready()
    starter.end_all()


def test_the_server_gives_the_mean_over_the_views_over_grpc_and_rest(server: Server, expected: Any):
    images = encoded_images()
    request = predict_pb2.PredictRequest(model_spec={"signature_name": "predict_augmented"},
                                         inputs={"image_bytes": tf.make_tensor_proto(images)})
    service = prediction_service_pb2_grpc.PredictionServiceStub(server.channel())
    outputs = service.Predict(request, timeout=60).outputs
    np.testing.assert_allclose(tf.make_ndarray(outputs["probabilities"]), expected, atol=1e-4)
    np.testing.assert_allclose(tf.sigmoid(tf.make_ndarray(outputs["logits"])), expected, atol=1e-4)
    body = {"signature_name": "predict_augmented",
            "instances": [{"b64": base64.b64encode(image).decode()} for image in images]}
    with urllib.request.urlopen(f"{server.http}/v1/models/pets:predict", json.dumps(body).encode(), 60) as answer:
        rows = json.load(answer)["predictions"]
    np.testing.assert_allclose([row["probabilities"] for row in rows], expected, atol=1e-4)


def test_each_view_takes_a_place_in_the_queue(server: Server):
    request = predict_pb2.PredictRequest(
        model_spec={"signature_name": "predict_augmented"},
        inputs={"image_bytes": tf.make_tensor_proto([*encoded_images(), encoded_images()[0]])})
    with pytest.raises(grpc.RpcError, match=r"up to 36 pictures .* this one has 42 in 6 views each"):
        prediction_service_pb2_grpc.PredictionServiceStub(server.channel()).Predict(request, timeout=60)


def test_the_description_of_the_model_has_the_signature_and_its_views(server: Server, exported: Path):
    code, body = server.get("/v1/models/pets/metadata")
    assert code == 200
    assert set(json.loads(body)["metadata"]["signature_def"]["signature_def"]["predict_augmented"]["outputs"]) == {
        "probabilities", "logits"}
    views = server.classifier().GetModel(classifier_pb2.GetModelRequest(), timeout=20).augmented
    assert (list(views.sizes), views.mirrored, views.tta) == (SIZES, True, "both")
    assert json.loads((exported / "assets/voc_cls.json").read_text())["augmented"] == {
        "sizes": SIZES, "mirrored": True, "tta": "both"}
    assert "as `voc-eval --tta both` does: at 32, 37, 41 pixels, each with its mirror image" in (
        exported / "MODEL_CARD.md").read_text()
