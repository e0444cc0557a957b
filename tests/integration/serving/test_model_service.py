"""tensorflow.serving.ModelService: the states of versions, and another configuration at run time."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import requests
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from tests.integration.serving.conftest import Server, Start, jpeg, until
from tests.integration.serving.forked_server import engines_file
from tests.integration.serving.test_prediction_service import classification, example, refused, request
from tests.integration.serving.tiny_model import export_tiny_model
from voc_cls.v1 import classifier_pb2

State = get_model_status_pb2.ModelVersionStatus.State


@pytest.fixture(scope="module")
def folder(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/ with `tiny`, whose versions 9 and 10 are good and 11 lacks a signature, and `other` beside it."""
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(model, folder / "tiny")
    export_tiny_model(folder / "tiny" / "11", without="classify")
    shutil.copytree(model / "9", folder / "other" / "1")
    return folder


@pytest.fixture(scope="module")
def labelled(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves all versions of `tiny`, with labels."""
    starter = Start(tmp_path_factory.mktemp("labelled"))
    yield starter(folder / "tiny", "--versions", "all", "--version-labels", "stable=9", "canary=10", "--models-root",
                  folder, "--allow-reload", "--max-batch-size", 1).wait_until_ready()
    starter.end_all()


@pytest.fixture
def stub(labelled: Server) -> Any:
    return model_service_pb2_grpc.ModelServiceStub(labelled.channel())


def status_request(model: str = "tiny", version: int | None = None,
                   label: str = "") -> get_model_status_pb2.GetModelStatusRequest:
    made = get_model_status_pb2.GetModelStatusRequest()
    made.model_spec.name = model
    if version is not None:
        made.model_spec.version.value = version
    if label:
        made.model_spec.version_label = label
    return made


def states(answer: get_model_status_pb2.GetModelStatusResponse) -> dict[int, str]:
    return {status.version: State.Name(status.state) for status in answer.model_version_status}


def test_a_status_has_every_version_and_why_one_could_not_be_loaded(stub: Any, labelled: Server) -> None:
    answer = stub.GetModelStatus(status_request(), timeout=20)
    assert states(answer) == {9: "AVAILABLE", 10: "AVAILABLE", 11: "END"}
    codes = [status.status.error_code for status in answer.model_version_status]
    assert codes == [0, 0, grpc.StatusCode.UNKNOWN.value[0]]
    assert "has no signature 'classify'" in answer.model_version_status[2].status.error_message
    with requests.Session() as session:
        session.trust_env = False
        (rest,) = session.get(f"{labelled.http}/v1/models/tiny/versions/11", timeout=20).json()["model_version_status"]
    assert rest == {"version": "11", "state": "END", "status": {
        "error_code": "UNKNOWN", "error_message": answer.model_version_status[2].status.error_message}}


def test_a_version_is_asked_for_by_number_or_by_label(stub: Any) -> None:
    assert states(stub.GetModelStatus(status_request(version=10), timeout=20)) == {10: "AVAILABLE"}
    assert states(stub.GetModelStatus(status_request(label="stable"), timeout=20)) == {9: "AVAILABLE"}


@pytest.mark.parametrize(("asked", "message"), [
    (status_request("resnet"), "no model 'resnet'; this server has 'tiny'"),
    (status_request(version=12), "model 'tiny' has no version 12; this server has 9, 10, 11"),
    (status_request(label="best"), "model 'tiny' has no version with the label 'best'; its labels: canary, stable"),
])
def test_what_there_is_not_is_not_found_and_what_there_is_named(stub: Any, asked: Any, message: str) -> None:
    assert refused(stub.GetModelStatus, asked) == (grpc.StatusCode.NOT_FOUND, message)


@pytest.mark.parametrize("version", [9, 10])
def test_old_and_new_exports_classify_by_either_name_of_the_input(labelled: Server, pictures: list[bytes],
                                                                  version: int) -> None:
    stub = prediction_service_pb2_grpc.PredictionServiceStub(labelled.channel())
    asked = classification(pictures[:1])
    asked.model_spec.version.value = version
    scores = [label.score for label in stub.Classify(asked, timeout=20).result.classifications[0].classes]
    for name in ("inputs", "examples"):
        answer = stub.Predict(request("classify", version=version, **{name: [example(pictures[0])]}), timeout=20)
        assert list(answer.outputs["scores"].float_val) == scores
        body = {"signature_name": "classify",
                "instances": [{name: {"b64": base64.b64encode(example(pictures[0])).decode()}}]}
        (row,) = requests.post(f"{labelled.http}/v1/models/tiny/versions/{version}:predict", json=body,
                               timeout=20).json()["predictions"]
        np.testing.assert_allclose(row["scores"], scores, rtol=1e-6)


def test_version_0_is_the_latest_for_ovmsclient(labelled: Server, stub: Any, pictures: list[bytes]) -> None:
    predict = prediction_service_pb2_grpc.PredictionServiceStub(labelled.channel()).Predict
    assert predict(request(version=0, image_bytes=pictures[:1]), timeout=20).model_spec.version.value == 10
    assert states(stub.GetModelStatus(status_request(version=0), timeout=20)) == states(
        stub.GetModelStatus(status_request(), timeout=20))
    for path in ("/v1/models/tiny", "/v1/models/tiny/metadata", "/v2/models/tiny", "/v2/models/tiny/ready"):
        assert labelled.get(path.replace("tiny", "tiny/versions/0")) == labelled.get(path)


def test_both_apis_predict_with_the_version_that_a_label_stands_for(labelled: Server, pictures: list[bytes]) -> None:
    predictor = prediction_service_pb2_grpc.PredictionServiceStub(labelled.channel())
    for label, version in (("stable", 9), ("canary", 10)):
        asked = request(image_bytes=pictures[:1])
        asked.model_spec.version_label = label
        answer = predictor.Predict(asked, timeout=20)
        assert answer.model_spec.version.value == version
        with requests.Session() as session:
            session.trust_env = False
            found = session.get(f"{labelled.http}/v1/models/tiny/labels/{label}", timeout=20).json()
            assert [status["version"] for status in found["model_version_status"]] == [str(version)]
            metadata = session.get(f"{labelled.http}/v1/models/tiny/labels/{label}/metadata", timeout=20).json()
            assert metadata["model_spec"]["version"] == str(version)


def config(*models: dict[str, Any], **more: Any) -> model_management_pb2.ReloadConfigRequest:
    """A request to serve other models."""
    listed = model_server_config_pb2.ModelConfigList(
        config=[{"model_platform": "tensorflow", **model} for model in models])
    return model_management_pb2.ReloadConfigRequest(config={"model_config_list": listed}, **more)


@pytest.mark.parametrize(("asked", "message"), [
    (model_management_pb2.ReloadConfigRequest(),
     "config must be a model_config_list, the only kind that this server knows"),
    (config(), "the new configuration has no models: name at least one"),
    (config({"name": "tiny", "base_path": "/models/tiny"}, metric_names=["x"]), "metric_names are not answered"),
    (config({"name": "tiny"}), "config.model_config_list.config[0].base_path is empty"),
    (config({"base_path": "/models/tiny"}), "config.model_config_list.config[0].name '' cannot be a model's name"),
    (config({"name": "tiny", "base_path": "/models/tiny", "model_platform": "onnx"}),
     "config.model_config_list.config[0].model_platform must be 'tensorflow', found 'onnx'"),
    (config({"name": "tiny", "base_path": "/models/tiny", "model_platform": "", "model_type": "OTHER"}),
     "config.model_config_list.config[0].model_type must be TENSORFLOW, found OTHER: omit it"),
    (config({"name": "tiny", "base_path": "/models/tiny", "logging_config": {}}), "config[0].logging_config is not"),
    (config({"name": "tiny", "base_path": "/a"}, {"name": "tiny", "base_path": "/b"}),
     "config.model_config_list: 'tiny' is the name of several models"),
    (config({"name": "tiny", "base_path": "/a", "model_version_policy": {"specific": {}}}),
     "config[0].model_version_policy.specific.versions must be numbers of versions, found none"),
    (config({"name": "tiny", "base_path": "/a", "version_labels": {"7": 1}}),
     "config[0].version_labels: the label '7' is a number"),
    (config({"name": "root", "base_path": "/"}), "model 'root': base_path / is neither the folder of a model"),
])
def test_a_configuration_that_cannot_be_served_changes_nothing(stub: Any, asked: Any, message: str) -> None:
    before = stub.GetModelStatus(status_request(), timeout=20)
    code, details = refused(stub.HandleReloadConfigRequest, asked)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in details
    assert stub.GetModelStatus(status_request(), timeout=20) == before


@pytest.mark.parametrize(("policy", "labels", "message"), [
    ({"all": {}}, {"stable": 9, "canary": 12}, "'canary' is version 12, which is not served (on disk: 9, 10, 11; `ve"),
    ({"specific": {"versions": [9]}}, {"stable": 10}, "the label 'stable' is version 10, which is not served (on disk"),
    ({"latest": {"num_versions": 2}}, {"stable": 9}, "the label 'stable' is version 9, which is not served (on disk: "),
    ({"all": {}}, {"stable": 11}, "the label 'stable' is version 11, which is not available: saved_model.pb has no si"),
    ({"specific": {"versions": [9, 12]}}, {}, "model 'tiny' has no version 12 (on disk: 9, 10, 11): export it, or"),
    ({"specific": {"versions": [11]}}, {}, "model 'tiny': saved_model.pb has no signature 'classify'"),
])
def test_labels_and_versions_that_are_not_there_are_refused_and_change_nothing(
        stub: Any, labelled: Server, folder: Path, policy: Any, labels: dict[str, int], message: str) -> None:
    code, details = refused(stub.HandleReloadConfigRequest, config(
        {"name": "tiny", "base_path": str(folder / "tiny"), "model_version_policy": policy, "version_labels": labels}))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert message in details
    assert str(folder) not in details
    assert states(stub.GetModelStatus(status_request(), timeout=20)) == {9: "AVAILABLE", 10: "AVAILABLE", 11: "END"}
    assert states(stub.GetModelStatus(status_request(label="stable"), timeout=20)) == {9: "AVAILABLE"}
    assert "refused, nothing has changed: model 'tiny'" in labelled.errors.read_text()


@pytest.mark.parametrize(("flags", "message"), [
    (("--versions", "9,12"), "model 'tiny' has no version 12 (on disk: 9, 10, 11): export it, or change --versions"),
    (("--version-labels", "stable=9"), "the label 'stable' is version 9, which is not served (on disk: 9, 10, 11;"),
    (("--versions", "all", "--version-labels", "stable=11"), "not available: {folder}/11/saved_model.pb has no"),
])
def test_a_start_refuses_them_too(folder: Path, start: Start, flags: tuple[str, ...], message: str) -> None:
    server = start(folder / "tiny", *flags, "--max-batch-size", 1)
    assert server.process.wait(60) == 1
    last = server.errors.read_text().splitlines()[-1]
    assert last.startswith("voc-serve: error: model 'tiny'")
    assert message.format(folder=folder / "tiny") in last


def test_a_call_for_a_version_that_failed_is_told_so_at_once_and_no_path(labelled: Server, folder: Path,
                                                                         pictures: list[bytes]) -> None:
    predictor = prediction_service_pb2_grpc.PredictionServiceStub(labelled.channel())
    code, details = refused(predictor.Predict, request(version=11, image_bytes=pictures[:1]))
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    assert details.startswith("model 'tiny', version 11, could not be loaded: saved_model.pb has no signature 'class")
    assert labelled.get("/v2/models/tiny/versions/11/ready") == (503, '{"ready": false}\n')
    (model,) = [version for version in labelled.classifier().GetModel(
        classifier_pb2.GetModelRequest(), timeout=20).versions if version.version == 11]
    assert model.error == details.partition("loaded: ")[2]
    status, page = labelled.get("/v1/models/tiny")
    assert status == 200
    assert str(folder) not in page
    assert f"{folder}/tiny/11/saved_model.pb has no signature 'classify'" in labelled.errors.read_text()


@pytest.fixture(scope="module")
def configured(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Started by a configuration file, `serve.yaml` beside its output, without keys."""
    starter = Start(tmp_path_factory.mktemp("configured"))
    (tmp_path_factory.getbasetemp() / "serve.yaml").write_text(written(folder, versions="9", labels="[stable=9]"))
    yield starter(None, "--config", tmp_path_factory.getbasetemp() / "serve.yaml").wait_until_ready()
    starter.end_all()


def written(folder: Path, versions: str, labels: str, size: int = 1) -> str:
    return (f"models: {{model_dir: {folder}/tiny, versions: {versions}, version_labels: {labels}}}\n"
            f"batching: {{max_batch_size: {size}}}\n")


def test_sighup_applies_models_of_the_configuration_and_says_what_takes_a_restart(
        configured: Server, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(configured.channel())

    def hang_up(content: str, told: str) -> dict[int, str]:
        """What is served after the configuration has changed and the log has told so."""
        (tmp_path_factory.getbasetemp() / "serve.yaml").write_text(content)
        configured.process.send_signal(signal.SIGHUP)
        until(lambda: told in configured.errors.read_text())
        return states(stub.GetModelStatus(status_request(), timeout=20))

    both = {9: "AVAILABLE", 10: "AVAILABLE"}
    assert hang_up(written(folder, '"9,10"', "[stable=10, canary=9]", 2),
                   f"reload for SIGHUP: model tiny: {folder}/tiny, versions 9 stable=9 → {folder}/tiny, versions 9,10 "
                   "canary=9 stable=10") == both
    assert states(stub.GetModelStatus(status_request(label="stable"), timeout=20)) == {10: "AVAILABLE"}
    assert "SIGHUP: `max_batch_size` is still 1: 2 takes a restart" in configured.errors.read_text()
    for content, told in (
            (written(folder, '"9,12"', "[]"), "reload for SIGHUP refused, nothing has changed: model 'tiny' has no"),
            (written(folder, "newest", "[]"), "SIGHUP: the configuration is refused, nothing has changed: "),
            (written(folder, "all", "[stable=11]"), "stable' is version 11, which is not available")):
        assert {number: state for number, state in hang_up(content, told).items() if number != 11} == both
    for engine in engines_file(configured.output).read_text().split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(engine), signal.SIGHUP)  # a terminal that closes hangs up on all of its processes
    assert configured.classifier().Classify(classifier_pb2.ClassifyRequest(
        version_label="canary", pictures=[classifier_pb2.Picture(content=jpeg(0))]), timeout=20).version == 9
    assert configured.health() == "SERVING"


def test_without_keys_a_reload_is_refused_unless_the_operator_allows_it(configured: Server) -> None:
    stub = model_service_pb2_grpc.ModelServiceStub(configured.channel())
    code, details = refused(stub.HandleReloadConfigRequest, config({"name": "tiny", "base_path": "/models/tiny"}))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert details.startswith("this server has no keys, so its models cannot be managed by calls")
    assert "`allow_reload`" in details
    assert states(stub.GetModelStatus(status_request(version=9), timeout=20)) == {9: "AVAILABLE"}


def test_a_reload_changes_versions_and_labels_and_adds_and_removes_models(
        folder: Path, start: Start, pictures: list[bytes]) -> None:
    server = start(folder / "tiny", "--versions", "9", "--models-root", folder, "--allow-reload",
                   "--max-batch-size", 1).wait_until_ready()
    stub = model_service_pb2_grpc.ModelServiceStub(server.channel())
    predictor = prediction_service_pb2_grpc.PredictionServiceStub(server.channel())
    both = config({"name": "tiny", "base_path": str(folder / "tiny"), "version_labels": {"canary": 10},
                   "model_version_policy": {"specific": {"versions": [10]}}},
                  {"name": "other", "base_path": str(folder / "other")})
    answer = stub.HandleReloadConfigRequest(both, timeout=60)
    assert (answer.status.error_code, answer.status.error_message) == (0, "")
    asked = request(image_bytes=pictures[:1])
    asked.model_spec.version_label = "canary"
    assert predictor.Predict(asked, timeout=20).model_spec.version.value == 10
    assert predictor.Predict(request(model="other", image_bytes=pictures[:1]), timeout=20).model_spec.version.value == 1
    assert refused(predictor.Predict, request(version=9, image_bytes=pictures[:1]))[0] in (
        grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
    stub.HandleReloadConfigRequest(config({"name": "other", "base_path": str(folder / "other")}), timeout=60)
    assert refused(predictor.Predict, request(image_bytes=pictures[:1])) == (
        grpc.StatusCode.NOT_FOUND, "no model 'tiny'; this server has 'other'")
