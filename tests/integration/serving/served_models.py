"""Models of a running server, added and taken away by HandleReloadConfigRequest, and what it tells of them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2, model_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from tests.integration.serving.conftest import Server, jpeg, until
from voc_cls.v1 import classifier_pb2

TIMEOUT = 120
State = get_model_status_pb2.ModelVersionStatus.State
LATEST = {"latest": {"num_versions": 1}}


@dataclass
class ServedModels:
    """The models below `root` that `server` has, and their configuration."""

    server: Server
    root: Path
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._service = model_service_pb2_grpc.ModelServiceStub(self.server.channel())
        self._classifier = self.server.classifier()

    def serve(self, name: str, policy: Mapping[str, Any] = LATEST, labels: Mapping[str, int] | None = None) -> Path:
        """Serves root/name too, or by another policy; returns its folder."""
        self.reload({**self.configs, name: config(name, self.root / name, policy, labels or {})})
        return self.root / name

    def leave(self, name: str) -> None:
        """Serves it no longer."""
        self.reload({other: config for other, config in self.configs.items() if other != name})

    def reload(self, configs: dict[str, dict[str, Any]]) -> None:
        """Serves these; raises grpc.RpcError and keeps what was, if they are refused."""
        listed = model_server_config_pb2.ModelConfigList(config=list(configs.values()))
        self._service.HandleReloadConfigRequest(
            model_management_pb2.ReloadConfigRequest(config={"model_config_list": listed}), timeout=TIMEOUT)
        self.configs = configs

    def states(self, name: str) -> dict[int, str]:
        """Version → state, by GetModelStatus."""
        return {status.version: State.Name(status.state) for status in self.statuses(name)}

    def statuses(self, name: str) -> list[Any]:
        """Of all versions, by GetModelStatus."""
        asked = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": name})
        return list(self._service.GetModelStatus(asked, timeout=20).model_version_status)

    def until(self, name: str, states: dict[int, str]) -> None:
        """Waits for the versions of a model to be in these states."""
        until(lambda: self.states(name) == states, TIMEOUT)

    def classify(self, name: str, pictures: int = 1, timeout: float = TIMEOUT, **fields: Any) -> int:
        """The version that answered."""
        request = classifier_pb2.ClassifyRequest(
            model=name, pictures=[classifier_pb2.Picture(content=jpeg(0))] * pictures, **fields)
        answer = self._classifier.Classify(request, timeout=timeout)
        assert len(answer.classifications) == pictures
        return int(answer.version)

    def refused(self, name: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
        """Status and sentence of a call that is refused."""
        try:
            version = self.classify(name, **fields)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError(f"version {version} answered")


def config(name: str, folder: Path, policy: Mapping[str, Any] = LATEST,
           labels: Mapping[str, int] | None = None) -> dict[str, Any]:
    """A tensorflow.serving.ModelConfig."""
    return {"name": name, "base_path": str(folder), "model_platform": "tensorflow", "model_version_policy": policy,
            "version_labels": labels or {}}


def replace_folder(source: Path, target: Path) -> None:
    """Puts a copy of a version's folder where there may be another."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
