"""voc_cls.v1.Classifier: the bytes of picture files in, labels with probabilities out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.config.config import ServeConfig
from serving.errors import InvalidArgument
from serving.grpc.classify_stream import ClassifyStream
from serving.grpc.model_description import describe
from serving.grpc.selection import Selection, by_exported_thresholds, by_threshold
from serving.grpc.streams import StopEvent
from serving.models.metadata import ModelMetadata
from serving.models.registry import ModelRegistry
from serving.request_context import RequestContext, current_request
from serving.security.sanitize import check_called_name
from voc_cls.image_header import ImageError
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

READ_AHEAD = 2
"""Batches that one stream may have in the server: one in the engine while the next is being decoded."""


class ClassifierService(classifier_pb2_grpc.ClassifierServicer):  # type: ignore[misc]
    """See proto/voc_cls/v1/classifier.proto."""

    def __init__(self, models: ModelRegistry, stopping: StopEvent, config: ServeConfig) -> None:
        self._models = models
        self._stopping = stopping
        self._read_ahead = min(READ_AHEAD * config.batching.max_batch_size, config.batching.queue_size)

    async def Classify(self, request: classifier_pb2.ClassifyRequest, context: Any) -> classifier_pb2.ClassifyResponse:  # noqa: ARG002
        """Classifies the pictures of one call."""
        return await self._classify(request, current_request())

    async def ClassifyStream(self, request_iterator: AsyncIterator[classifier_pb2.ClassifyStreamRequest],
                             context: Any) -> AsyncIterator[classifier_pb2.ClassifyStreamResponse]:
        """Classifies the pictures of a stream of requests."""
        call = current_request()
        stream = ClassifyStream(lambda request: self._classify(request, call), call, self._read_ahead)
        context.add_done_callback(lambda _: stream.cancel())
        async for response in stream.answers(request_iterator, self._stopping):
            yield response

    async def GetModel(self, request: classifier_pb2.GetModelRequest, context: Any) -> classifier_pb2.GetModelResponse:  # noqa: ARG002
        """Describes a model."""
        with self._models.use(*_asked(request)) as servable:
            return describe(servable, self._models.versions(servable.name))

    async def _classify(self, request: classifier_pb2.ClassifyRequest,
                        call: RequestContext) -> classifier_pb2.ClassifyResponse:
        if not request.pictures:
            raise InvalidArgument("pictures is empty: send at least one")
        with self._models.use(*_asked(request)) as servable:
            selection = _selection(request, servable.metadata)
            results = await servable.classify_each([picture.content for picture in request.pictures], call)
            metadata = servable.metadata
            return classifier_pb2.ClassifyResponse(
                model=servable.name, version=servable.version, activation=metadata.activation, classifications=[
                    _broken(index, result) if isinstance(result, ImageError)
                    else _classification(result.probabilities[0], metadata.labels, selection)
                    for index, result in enumerate(results)])


def _asked(request: Any) -> tuple[str, int | None, str]:
    """Name ("" for the server's only model), version number if one is given, version label if one is given."""
    return (check_called_name(request.model), request.version if request.HasField("version") else None,
            request.version_label)


def _selection(request: classifier_pb2.ClassifyRequest, metadata: ModelMetadata) -> Selection:
    if request.HasField("threshold"):
        return by_threshold(request.top_k, request.threshold)
    return by_exported_thresholds(request.top_k, metadata) if request.exported_thresholds else Selection(request.top_k)


def _classification(probabilities: npt.NDArray[np.float32], labels: tuple[str, ...],
                    selection: Selection) -> classifier_pb2.Classification:
    return classifier_pb2.Classification(labels=[
        classifier_pb2.ScoredLabel(label=labels[column], probability=probabilities[column])
        for column in selection.of(probabilities)])


def _broken(index: int, reason: ImageError) -> classifier_pb2.Classification:
    return classifier_pb2.Classification(error=classifier_pb2.Error(
        code=InvalidArgument.status.value[0], message=f"pictures[{index}] is {reason}"))
