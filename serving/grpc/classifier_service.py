"""voc_cls.v1.Classifier: the bytes of image files in, labels with probabilities out.

A stream is read as far ahead as the server can use, and its requests are answered as they are ready.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from serving.config.config import ServeConfig
from serving.engine.process import Scores
from serving.errors import InvalidArgument, ResourceExhausted, StatusError, Unavailable
from serving.models.registry import ModelRegistry
from serving.request_context import FAILED, current_request
from serving.shutdown import StopEvent
from voc_cls.image_header import ImageError
from voc_cls.model_metadata import ModelMetadata
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

log = logging.getLogger(__name__)

Classify = Callable[[classifier_pb2.ClassifyRequest], Awaitable[classifier_pb2.ClassifyResponse]]

READ_AHEAD = 2
"""Batches that one stream may have in the server: one in the engine while the next is being decoded."""
SOFTMAX = "softmax"
"""The activation under which the probabilities of an image's labels sum to 1."""
SHORTEST_PAUSE, LONGEST_PAUSE = 0.01, 1.0
"""Seconds between two attempts to get places in a full server."""


class ClassifierService(classifier_pb2_grpc.ClassifierServicer):  # type: ignore[misc]
    """See proto/voc_cls/v1/classifier.proto."""

    def __init__(self, models: ModelRegistry, stop_event: StopEvent, config: ServeConfig) -> None:
        self._models = models
        self._stop_event = stop_event
        self._read_ahead = min(READ_AHEAD * config.batching.max_batch_size, config.batching.queue_size)

    async def Classify(self, request: classifier_pb2.ClassifyRequest, context: Any) -> classifier_pb2.ClassifyResponse:  # noqa: ARG002
        if not request.pictures:
            raise InvalidArgument("pictures is empty: send at least one")
        with self._models.use(*_requested_version(request)) as servable:
            metadata, thresholds = servable.metadata, _thresholds(request, servable.metadata)
            images = [picture.content for picture in request.pictures]
            explain = request.heat_maps or request.embedding
            results = await servable.classify_each(images, current_request.get(), explain)
            return classifier_pb2.ClassifyResponse(
                model=servable.name, version=servable.version, activation=metadata.activation,
                calibration=metadata.calibration, classifications=[
                    classifier_pb2.Classification(error=classifier_pb2.Error(
                        code=InvalidArgument.status.value[0], message=f"pictures[{index}] is {result}"))
                    if isinstance(result, ImageError)
                    else _classification(result, metadata.labels, thresholds, request)
                    for index, result in enumerate(results)])

    async def ClassifyStream(self, request_iterator: AsyncIterator[classifier_pb2.ClassifyStreamRequest],
                             context: Any) -> AsyncIterator[classifier_pb2.ClassifyStreamResponse]:
        stream = ClassifyStream(lambda request: self.Classify(request, context), self._read_ahead)
        context.add_done_callback(lambda _: stream.cancel())
        async for response in stream.responses(request_iterator, self._stop_event):
            yield response

    async def GetModel(self, request: classifier_pb2.GetModelRequest, context: Any) -> classifier_pb2.GetModelResponse:  # noqa: ARG002
        """The metadata of a loaded version, and all versions that the server knows, the newest first."""
        with self._models.use(*_requested_version(request)) as servable:
            metadata, versions = servable.metadata, self._models.versions(servable.name)
            taken = metadata.preprocessing
            return classifier_pb2.GetModelResponse(
                model=servable.name, version=servable.version,
                net=metadata.net,
                activation=metadata.activation, calibration=metadata.calibration,
                labels=[classifier_pb2.Label(name=label, threshold=metadata.thresholds.get(label),
                                             average_precision=metadata.average_precisions.get(label))
                        for label in metadata.labels],
                preprocessing=classifier_pb2.Preprocessing(
                    size=taken.size, mean=taken.mean, channels=taken.channels, resize=taken.resize, std=taken.std),
                metrics=metadata.metrics,
                weights_digest=metadata.weights_digest, training_data=metadata.training_data,
                explains=metadata.explains,
                augmented=asdict(metadata.augmented) if metadata.augmented else None,
                versions=[classifier_pb2.ModelVersion(version=number, state=f"STATE_{version.state.name}",
                                                      labels=version.labels, error=version.reason)
                          for number, version in sorted(versions.items(), reverse=True)])


def _thresholds(request: classifier_pb2.ClassifyRequest, metadata: ModelMetadata) -> npt.NDArray[np.float32] | float:
    """Least probability of the labels to answer, of all or of each column; InvalidArgument if it is not possible.

    A softmax model has no exported thresholds: its answer is the most probable label.
    """
    if request.HasField("threshold"):
        if not 0 <= request.threshold <= 1:  # NaN too
            raise InvalidArgument(f"threshold {request.threshold:g} is not a probability: send one from 0 to 1, or "
                                  "none for all labels")
        return float(request.threshold)
    if not request.exported_thresholds:
        return 0.0
    if metadata.activation == SOFTMAX and not metadata.thresholds:
        raise InvalidArgument("exported_thresholds: this model answers one label per picture (softmax) and has no "
                              "thresholds: send top_k 1 for that label, or a threshold")
    if missing := [label for label in metadata.labels if label not in metadata.thresholds]:
        of = "any label" if len(missing) == len(metadata.labels) else f"the label '{missing[0]}'"
        raise InvalidArgument(f"exported_thresholds: this model was exported without a threshold for {of}: send a "
                              "threshold")
    return np.array([metadata.thresholds[label] for label in metadata.labels], np.float32)


def _requested_version(request: Any) -> tuple[str, int | None, str]:
    """Name ("" for the server's only model), version number if one is given, version label if one is given."""
    return request.model, request.version if request.HasField("version") else None, request.version_label


def _classification(scores: Scores, labels: tuple[str, ...], thresholds: npt.NDArray[np.float32] | float,
                    request: classifier_pb2.ClassifyRequest) -> classifier_pb2.Classification:
    """The most probable labels first, equally probable ones in the order of the labels; `top_k` 0: all."""
    probabilities = scores.probabilities[0]
    passing = probabilities >= np.float32(thresholds)
    order, values = np.argsort(-probabilities, kind="stable"), probabilities.tolist()
    classification = classifier_pb2.Classification()
    if request.embedding and scores.embeddings is not None:
        classification.embedding.extend(scores.embeddings[0].tolist())
    for column in order[passing[order]][:request.top_k or None].tolist():
        label = classification.labels.add(label=labels[column], probability=values[column])
        if request.heat_maps and scores.heat_maps is not None:
            heat_map = scores.heat_maps[0, column]
            label.heat_map.height, label.heat_map.width = heat_map.shape
            label.heat_map.values = np.rint(255 * heat_map).astype(np.uint8).tobytes()
    return classification


class ClassifyStream:
    """One stream. A request that fails is answered with its error; the others are not affected."""

    def __init__(self, classify: Classify, read_ahead: int) -> None:
        """`read_ahead`: images read and not yet answered."""
        self._classify = classify
        self._read_ahead, self._in_flight = read_ahead, 0
        self._room = asyncio.Event()
        self._retrying = asyncio.Lock()
        self._ready: asyncio.Queue[tuple[classifier_pb2.ClassifyStreamResponse, int] | None] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        """Drops the requests that were read, as the caller has cancelled."""
        if self._reading is not None:
            self._reading.cancel()

    async def responses(self, requests: AsyncIterator[classifier_pb2.ClassifyStreamRequest],
                        stop_event: StopEvent) -> AsyncIterator[classifier_pb2.ClassifyStreamResponse]:
        """The response to each request, as it is ready.

        Raises Unavailable after the last one if the server stops before the caller has sent everything.
        """
        self._reading = asyncio.create_task(self._read(requests, stop_event))
        try:
            while (ready := await self._ready.get()) is not None:
                response, images = ready
                yield response
                self._in_flight -= images  # only now: from a caller that does not read no more requests are read
                self._room.set()
            await self._reading
        finally:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[classifier_pb2.ClassifyStreamRequest],
                    stop_event: StopEvent) -> None:
        failure: StatusError | None = None  # raised when what was read before it is answered
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    async for request in stop_event.until(requests):
                        images = max(1, len(request.request.pictures))
                        while self._in_flight and self._in_flight + images > self._read_ahead:  # a large one goes alone
                            self._room.clear()
                            await self._room.wait()
                        self._in_flight += images
                        tasks.create_task(self._answer(request, images))
                    if stop_event.is_set():
                        failure = Unavailable("the server is stopping: send again, to another one, what has no answer")
                except StatusError as error:  # of a message
                    failure = error
        finally:
            self._ready.put_nowait(None)
        if failure is not None:
            raise failure

    async def _answer(self, request: classifier_pb2.ClassifyStreamRequest, images: int) -> None:
        response = classifier_pb2.ClassifyStreamResponse(id=request.id)
        try:
            response.response.CopyFrom(await self._classify_when_possible(request.request))
        except StatusError as error:
            response.error.code, response.error.message = error.status.value[0], str(error)
            if error.retry_after_ms is not None:
                response.error.retry_after_ms = error.retry_after_ms
        except Exception:
            log.exception("request %d of a stream failed", request.id)
            response.error.code, response.error.message = grpc.StatusCode.INTERNAL.value[0], FAILED
        self._ready.put_nowait((response, images))

    async def _classify_when_possible(self, request: classifier_pb2.ClassifyRequest) -> classifier_pb2.ClassifyResponse:
        """Retries while the server is full, one request of the stream at a time, until the deadline."""
        try:
            return await self._classify(request)
        except ResourceExhausted:
            pass
        async with self._retrying:
            pause, deadline = SHORTEST_PAUSE, current_request.get().deadline
            while True:
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, LONGEST_PAUSE)
                try:
                    return await self._classify(request)
                except ResourceExhausted:
                    if deadline is not None and asyncio.get_running_loop().time() >= deadline:
                        raise
