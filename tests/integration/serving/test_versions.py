"""What lies on disk becomes what answers, while calls come in, and nobody notices but by the version that answered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.integration.serving.conftest import Server, Start, until
from tests.integration.serving.served_models import TIMEOUT, ServedModels, config, replace_folder
from tests.integration.serving.tiny_model import export_tiny_model

POLL = 0.5
"""Seconds between two looks at the disk."""
SERVING = health_pb2.HealthCheckResponse.SERVING


@pytest.fixture(scope="module")
def root(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/ with `first` and `second`, which are served all the time."""
    root = tmp_path_factory.mktemp("root") / "models"
    for name in ("first", "second"):
        shutil.copytree(model / "9", root / name / "1")
    (root / "models.yaml").write_text(
        "- {name: first, path: first, versions: latest, labels: {stable: 1}}\n- {name: second, path: second}\n")
    return root


@pytest.fixture(scope="module")
def server_of_models(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModels]:
    """A server of several models, to which the tests add theirs."""
    starter = Start(tmp_path_factory.mktemp("server"))
    server = starter(None, "--models-file", root / "models.yaml", "--models-root", root, "--allow-reload",
                     "--poll-seconds", POLL, "--max-batch-size", 2).wait_until_ready()
    yield ServedModels(server, root, {"first": config("first", root / "first", labels={"stable": 1}),
                                      "second": config("second", root / "second")})
    starter.end_all()


@pytest.fixture
def models(server_of_models: ServedModels) -> Iterator[ServedModels]:
    """With `first` and `second`, before and after."""
    before = dict(server_of_models.configs)
    yield server_of_models
    if server_of_models.configs != before:
        server_of_models.reload(before)


def test_a_folder_named_007_is_version_7_however_it_is_named(models: ServedModels) -> None:
    shutil.copytree(models.root / "first" / "1", models.root / "padded" / "007")
    models.serve("padded", {"specific": {"versions": [7]}}, {"stable": 7})
    assert models.states("padded") == {7: "AVAILABLE"}
    for path in ("versions/7", "versions/007", "labels/stable"):
        code, body = models.server.get(f"/v1/models/padded/{path}")
        assert (code, json.loads(body)["model_version_status"][0]["version"]) == (200, "7")
    shutil.copytree(models.root / "first" / "1", models.root / "padded" / "07")
    until(lambda: f"{models.root}/padded/007 is ignored, as {models.root}/padded/07 is the same version: remove one of "
                  "them" in models.server.errors.read_text())
    assert models.classify("padded", version=7) == 7


def test_an_engine_that_ends_later_is_not_blamed_on_the_call_that_had_it_loaded(models: ServedModels) -> None:
    shutil.copytree(models.root / "first" / "1", models.root / "later" / "1")
    models.serve("later")
    os.kill(models.server.engine(), signal.SIGKILL)
    until(lambda: "model later, version 1: its engine has ended" in models.server.errors.read_text())
    models.until("later", {1: "AVAILABLE"})
    told = [line for line in models.server.errors.read_text().splitlines() if "model later" in line]
    assert [line for line in told if "request_id=" in line and "ReloadConfig" not in line] == []
    assert "request_id" not in next(line for line in told if "its engine has ended" in line)


class Callers:
    """Threads that call a model again and again; `versions` are those that answered, in order."""

    def __init__(self, models: ServedModels, name: str, number: int = 4) -> None:
        self.versions: list[int] = []
        self.errors: list[grpc.RpcError] = []
        self._models, self._name = models, name
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(number)]

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        while not self._end.is_set():
            try:
                self.versions.append(self._models.classify(self._name))
            except grpc.RpcError as error:
                self.errors.append(error)
            time.sleep(0.02)


class Watching:
    """The statuses that health's Watch tells of a service."""

    def __init__(self, server: Server, service: str = "") -> None:
        self.statuses: list[int] = []
        self._call = health_pb2_grpc.HealthStub(server.channel()).Watch(health_pb2.HealthCheckRequest(service=service))
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Watching:
        self._thread.start()
        until(lambda: self.statuses)
        return self

    def __exit__(self, *_: object) -> None:
        self._call.cancel()
        self._thread.join()

    def _read(self) -> None:
        try:
            for response in self._call:
                self.statuses.append(response.status)
        except grpc.RpcError:
            pass


def copy_slowly(source: Path, target: Path) -> None:
    """File by file, and each in pieces, as over a network: for several looks at the disk."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    pieces = [(path, piece) for path in files for piece in range(3)]
    for path, piece in pieces:
        copied = target / path.relative_to(source)
        copied.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        third = len(content) // 3 + 1
        with copied.open("ab") as file:
            file.write(content[piece * third:(piece + 1) * third])
        time.sleep(4 * POLL / len(pieces))


def test_a_version_copied_in_slowly_replaces_the_old_one_under_load_without_a_failed_call(
        models: ServedModels, model: Path, root: Path) -> None:
    shutil.copytree(model / "9", root / "growing" / "1")
    models.serve("growing")
    with Watching(models.server) as health, Callers(models, "growing") as callers:
        until(lambda: len(callers.versions) > 20)
        copy_slowly(model / "10", root / "growing" / "2")
        until(lambda: callers.versions[-1] == 2 or callers.errors, TIMEOUT)
        models.until("growing", {2: "AVAILABLE"})
        until(lambda: callers.versions[-20:] == [2] * 20)
    assert callers.errors == []
    assert set(callers.versions) == {1, 2}
    assert health.statuses == [SERVING]
    log = models.server.errors.read_text()
    assert "model growing, version 2: cannot be loaded" not in log  # nobody tried while it was half there
    assert "model growing, version 1: unloaded" in log


def test_a_broken_version_leaves_the_old_one_serving_says_why_and_is_loaded_once_it_is_repaired(
        models: ServedModels, model: Path, root: Path) -> None:
    folder = root / "broken"
    shutil.copytree(model / "9", folder / "1")
    shutil.copytree(model / "10", folder / "2")
    next((folder / "2" / "variables").glob("*.data*")).write_bytes(b"cut off")
    models.serve("broken")
    models.until("broken", {1: "AVAILABLE", 2: "END"})
    assert models.classify("broken") == 1
    code, details = models.refused("broken", version=2)
    assert code is grpc.StatusCode.FAILED_PRECONDITION  # trying again does not help
    assert details.startswith("model 'broken', version 2, could not be loaded: version 2 cannot be loaded (")
    assert str(root.parent) not in details
    assert f"{folder}/2 cannot be loaded" in models.server.errors.read_text()
    (_, failed) = models.statuses("broken")
    assert failed.status.error_code == grpc.StatusCode.UNKNOWN.value[0]
    assert failed.status.error_message.startswith("version 2 cannot be loaded (")
    assert str(root.parent) not in failed.status.error_message
    status, body = models.server.get("/v1/models/broken/versions/2")
    assert (status, json.loads(body)) == (200, {"model_version_status": [{"version": "2", "state": "END", "status": {
        "error_code": "UNKNOWN", "error_message": failed.status.error_message}}]})
    assert models.server.metric("voc_serve_version_failed", model="broken", version="2") == 1
    assert models.server.metric("voc_serve_version_failed", model="broken", version="1") == 0
    time.sleep(3 * POLL)
    assert models.server.metric("voc_serve_load_seconds_count", model="broken", outcome="failed") == 1  # not each time
    replace_folder(model / "10", folder / "2")
    models.until("broken", {2: "AVAILABLE"})
    assert models.classify("broken") == 2
    assert models.server.metric("voc_serve_version_failed", model="broken", version="2") == 0
    shutil.rmtree(folder / "2")  # and what is taken away again is replaced by what is left
    models.until("broken", {1: "AVAILABLE"})
    assert models.classify("broken") == 1


def test_policies_and_labels_say_which_versions_answer_and_a_reload_changes_them(
        models: ServedModels, model: Path, root: Path, pictures: list[bytes]) -> None:
    folder = root / "labelled"
    for number in (1, 2, 3):
        shutil.copytree(model / "9", folder / str(number))
    models.serve("labelled", {"specific": {"versions": [1, 2]}}, {"stable": 1, "canary": 2})
    assert models.states("labelled") == {1: "AVAILABLE", 2: "AVAILABLE"}
    assert [models.classify("labelled", **asked) for asked in (
        {}, {"version": 1}, {"version_label": "stable"}, {"version_label": "canary"})] == [2, 1, 1, 2]
    assert models.refused("labelled", version=3) == (
        grpc.StatusCode.NOT_FOUND, "model 'labelled' has no version 3; this server has 1, 2")
    assert predicted_by(models, pictures[0], version_label="stable") == 1
    models.serve("labelled", {"specific": {"versions": [1, 2]}}, {"stable": 2})
    assert (models.classify("labelled", version_label="stable"), predicted_by(models, pictures[0],
                                                                              version_label="stable")) == (2, 2)
    assert models.refused("labelled", version_label="canary")[0] is grpc.StatusCode.NOT_FOUND
    models.serve("labelled", {"latest": {"num_versions": 2}}, {"canary": 3})
    assert models.states("labelled") == {2: "AVAILABLE", 3: "AVAILABLE"}
    assert models.classify("labelled", version_label="canary") == 3
    models.serve("labelled", {"all": {}})
    assert models.states("labelled") == {1: "AVAILABLE", 2: "AVAILABLE", 3: "AVAILABLE"}
    shutil.rmtree(folder / "2")
    models.until("labelled", {1: "AVAILABLE", 3: "AVAILABLE"})
    assert models.refused("labelled", version=2) == (
        grpc.StatusCode.NOT_FOUND, "model 'labelled' has no version 2; this server has 1, 3")


def test_a_version_with_a_label_stays_while_it_has_one_and_the_log_says_that_a_start_would_refuse_that(
        models: ServedModels, model: Path, root: Path) -> None:
    folder = root / "kept"
    shutil.copytree(model / "9", folder / "1")
    models.serve("kept", labels={"stable": 1})
    shutil.copytree(model / "10", folder / "2")
    models.until("kept", {1: "AVAILABLE", 2: "AVAILABLE"})
    assert (models.classify("kept"), models.classify("kept", version_label="stable")) == (2, 1)
    until(lambda: "model kept, version 1: `versions` no longer wants it, but stays" in models.server.errors.read_text())
    shutil.rmtree(folder / "1")
    time.sleep(3 * POLL)
    assert models.classify("kept", version_label="stable") == 1
    assert models.server.errors.read_text().count("model kept, version 1: ") == 2  # loaded, and that warning
    models.serve("kept", labels={"stable": 2})
    models.until("kept", {2: "AVAILABLE"})
    until(lambda: "versions latest stable=1 → " in models.server.errors.read_text())
    assert models.classify("kept", version_label="stable") == 2


def predicted_by(models: ServedModels, content: bytes, **spec: Any) -> int:
    """The version that answers tensorflow.serving's Predict."""
    request = predict_pb2.PredictRequest(model_spec={"name": "labelled", **spec})
    request.inputs["image_bytes"].dtype = 7  # DT_STRING
    request.inputs["image_bytes"].tensor_shape.dim.add(size=1)
    request.inputs["image_bytes"].string_val.append(content)
    stub = prediction_service_pb2_grpc.PredictionServiceStub(models.server.channel())
    return int(stub.Predict(request, timeout=TIMEOUT).model_spec.version.value)


def test_a_models_file_serves_several_models_each_by_its_name(models: ServedModels) -> None:
    assert (models.classify("first"), models.classify("second")) == (1, 1)
    assert models.classify("first", version_label="stable") == 1
    assert models.refused("") == (grpc.StatusCode.INVALID_ARGUMENT,
                                  "the name of the model is empty; this server has 'first', 'second'")
    assert models.refused("third") == (grpc.StatusCode.NOT_FOUND, "no model 'third'; this server has 'first', 'second'")
    assert [models.server.health(name) for name in ("", "first", "second")] == ["SERVING"] * 3


@pytest.mark.parametrize(("models_asked", "code", "message"), [
    ({"outside": ("elsewhere/outside", {"latest": {}})}, "INVALID_ARGUMENT", "nor below its `models_root`"),
    ({"outside": ("models/../elsewhere/outside", {"latest": {}})}, "INVALID_ARGUMENT", "nor below its `models_root`"),
    ({"first": ("models/first", {"specific": {"versions": [7]}})}, "FAILED_PRECONDITION",
     "model 'first' has no version 7 (on disk: 1): export it, or change `versions`"),
    ({"first": ("models/first", {"specific": {"versions": [1, 7]}})}, "FAILED_PRECONDITION", "has no version 7 (on"),
    ({"new": ("models/first", {"latest": {}}), "first": ("models/nowhere", {"latest": {}})}, "FAILED_PRECONDITION",
     "`model_dir` of model 'first' is not there"),
])
def test_a_reload_that_cannot_be_done_changes_nothing(models: ServedModels, root: Path, models_asked: Any, code: str,
                                                      message: str) -> None:
    (root.parent / "elsewhere" / "outside").mkdir(parents=True, exist_ok=True)
    with pytest.raises(grpc.RpcError) as error:
        models.reload({**{name: config(name, root.parent / path, policy)
                          for name, (path, policy) in models_asked.items()},
                       "second": config("second", root / "second")})
    assert error.value.code().name == code
    assert message in error.value.details()
    until(lambda: "reload for 127.0.0.1 by /tensorflow.serving.ModelService/HandleReloadConfigRequest refused" in (
        models.server.errors.read_text()))  # a thread writes the log
    assert (models.states("first"), models.states("second")) == ({1: "AVAILABLE"}, {1: "AVAILABLE"})
    assert models.classify("first", version_label="stable") == 1
    assert models.refused("new")[0] is grpc.StatusCode.NOT_FOUND
    assert models.server.health() == "SERVING"


def test_a_model_that_is_being_added_does_not_take_the_server_out_of_service(models: ServedModels, model: Path,
                                                                             root: Path) -> None:
    shutil.copytree(model / "9", root / "added" / "1")
    with Watching(models.server) as health:
        models.serve("added")
        assert models.classify("added") == 1
        assert models.server.health("added") == "SERVING"
        models.leave("added")
    assert health.statuses == [SERVING]
    with pytest.raises(grpc.RpcError) as error:
        models.server.health("added")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_a_version_in_use_is_unloaded_only_after_the_last_call_that_holds_it(models: ServedModels, model: Path,
                                                                             root: Path) -> None:
    export_tiny_model(root / "busy" / "1", seconds=0.5)
    models.serve("busy")
    answered: list[tuple[float, int]] = []
    refusals: list[grpc.StatusCode] = []

    def hold() -> None:
        """Asks for version 1, 2 seconds of it a time, for as long as it is there."""
        while not refusals:
            try:
                version = models.classify("busy", pictures=8, version=1)
                answered.append((time.monotonic(), version))
            except grpc.RpcError as error:
                refusals.append(error.code())

    with ThreadPoolExecutor(2) as callers:
        holding = [callers.submit(hold)]
        time.sleep(1)
        holding.append(callers.submit(hold))
        shutil.copytree(model / "10", root / "busy" / "2")
        until(lambda: models.states("busy").get(1) == "UNLOADING", TIMEOUT)
        unloading = time.monotonic()
        assert models.classify("busy") == 2
        for one in holding:
            one.result()
    models.until("busy", {2: "AVAILABLE"})
    assert {version for _, version in answered} == {1}
    assert max(moment for moment, _ in answered) > unloading
    assert set(refusals) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}
