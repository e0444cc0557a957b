"""A version of a model as voc_cls.v1.Classifier/GetModel describes it."""

from __future__ import annotations

from collections.abc import Mapping

from serving.models.model import Version
from serving.models.servable import Servable
from voc_cls.v1 import classifier_pb2


def describe(servable: Servable, versions: Mapping[int, Version]) -> classifier_pb2.GetModelResponse:
    """What a loaded version says of itself, and all the versions that the server knows of, the newest first."""
    metadata = servable.metadata
    return classifier_pb2.GetModelResponse(
        model=servable.name,
        version=servable.version,
        net=metadata.net,
        activation=metadata.activation,
        labels=[classifier_pb2.Label(name=label, threshold=metadata.thresholds.get(label),
                                     average_precision=metadata.average_precisions.get(label))
                for label in metadata.labels],
        preprocessing=classifier_pb2.Preprocessing(size=metadata.size, mean=metadata.mean, channels=metadata.channels,
                                                   resize=metadata.resize, std=metadata.std),
        metrics=metadata.metrics,
        weights_digest=metadata.weights_digest,
        versions=[_version(number, version) for number, version in sorted(versions.items(), reverse=True)],
    )


def _version(number: int, version: Version) -> classifier_pb2.ModelVersion:
    return classifier_pb2.ModelVersion(version=number, state=f"STATE_{version.state.name}", labels=version.labels,
                                       error=version.error)
