"""voc_cls.v1.Classifier: the bytes of picture files in, labels with probabilities out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from serving.calls import deadline_of
from serving.errors import InvalidCall
from serving.models import Models
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc


class ClassifierService(classifier_pb2_grpc.ClassifierServicer):  # type: ignore[misc]
    """See proto/voc_cls/v1/classifier.proto."""

    def __init__(self, models: Models) -> None:
        self._models = models

    async def Classify(self, request: classifier_pb2.ClassifyRequest, context: Any) -> classifier_pb2.ClassifyResponse:
        """Classifies the pictures of one call."""
        servable = self._models.get(request.model or self._models.name,
                                    request.version if request.HasField("version") else None)
        if not request.pictures:
            raise InvalidCall("pictures is empty: send at least one")
        scores = await servable.classify([picture.content for picture in request.pictures], "pictures",
                                         deadline_of(context))
        labels = servable.metadata.labels
        return classifier_pb2.ClassifyResponse(
            model=servable.name, version=servable.version,
            classifications=[_classification(row, labels, request.top_k) for row in scores.probabilities])


def _classification(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...],
                    top_k: int) -> classifier_pb2.Classification:
    order = np.argsort(-probabilities, kind="stable")[:top_k or None]
    return classifier_pb2.Classification(labels=[
        classifier_pb2.ScoredLabel(label=labels[column], probability=probabilities[column]) for column in order])
