"""What a server answers, as plain data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from voc_cls.client.pictures import Picture, Unreadable
from voc_cls.errors import ClientError
from voc_cls.predictions import Prediction, ScoredLabel
from voc_cls.v1 import classifier_pb2

IN_REQUEST = re.compile(r"pictures\[\d+\] ")
"""How a server names a picture; its caller knows a better name."""


@dataclass(frozen=True)
class LabelInfo:
    """A label of a model."""

    name: str
    threshold: float | None
    """Probability, 0 to 1, from which on the label counts as seen, chosen on validation pictures; None: unknown."""
    average_precision: float | None
    """On the evaluation split, 0 to 1; None: it was not evaluated."""


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes the network's input."""

    size: int
    """Height and width, pixels."""
    mean: tuple[float, ...]
    """Subtracted from each channel in the order of `channels`, grey levels of 0 to 255."""
    channels: str
    """RGB or BGR."""
    resize: str
    """Such as bilinear."""
    std: tuple[float, ...] = ()
    """What each channel is divided by afterwards, grey levels; empty: by nothing, or an export before 0.4.0."""


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model and how it fares."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    labels: tuple[str, ...]
    """Names by which callers may ask for it, such as stable."""
    error: str
    """Why it could not be loaded; empty if nothing went wrong."""


@dataclass(frozen=True)
class ModelInfo:
    """What a model is, as one version of it was exported."""

    model: str
    version: int
    net: str
    activation: str
    """sigmoid (each label on its own) or softmax (they sum to 1)."""
    labels: tuple[LabelInfo, ...]
    preprocessing: Preprocessing
    metrics: Mapping[str, float]
    """Scores on the evaluation split by name, such as map; empty if it was exported without an evaluation."""
    weights_digest: str
    """SHA-256 over the exported weights; empty if unknown."""
    versions: tuple[ModelVersion, ...]
    """Every version that the server knows of, the newest first."""


class Portion:
    """Some pictures that are asked about with one message, and what becomes of them."""

    def __init__(self, pictures: Sequence[Picture | Unreadable], *, raise_errors: bool) -> None:
        self._pictures, self._raise_errors = pictures, raise_errors
        self.sent = [picture for picture in pictures if isinstance(picture, Picture)]
        """Those that the message has."""
        self._check(picture.error for picture in pictures if isinstance(picture, Unreadable))

    def predictions(self, response: classifier_pb2.ClassifyResponse | None) -> list[Prediction]:
        """One for each picture; None is the response of a server that was not asked, as nothing could be sent."""
        answered = iter(predictions(response, self.sent) if response is not None else ())
        found = [unsent(picture) if isinstance(picture, Unreadable) else next(answered) for picture in self._pictures]
        self._check(prediction.error for prediction in found)
        return found

    def _check(self, errors: Iterable[str | None]) -> None:
        for error in errors:
            if error is not None and self._raise_errors:
                raise ClientError(error)


def unsent(picture: Unreadable) -> Prediction:
    """Of a picture that no server was asked about."""
    return Prediction((), "", error=picture.error)


def predictions(response: classifier_pb2.ClassifyResponse, pictures: Sequence[Picture]) -> list[Prediction]:
    """One for each picture, in their order."""
    return [_prediction(response, classification, picture)
            for classification, picture in zip(response.classifications, pictures, strict=True)]


def _prediction(response: classifier_pb2.ClassifyResponse, classification: classifier_pb2.Classification,
                picture: Picture) -> Prediction:
    if classification.HasField("error"):
        return Prediction((), response.model, response.version, about(picture, classification.error.message),
                          response.activation)
    labels = tuple(ScoredLabel(scored.label, scored.probability) for scored in classification.labels)
    return Prediction(labels, response.model, response.version, activation=response.activation)


def about(picture: Picture, message: str) -> str:
    """What a server says of a picture, under the name that its caller knows."""
    said = IN_REQUEST.sub("", message, count=1) if IN_REQUEST.match(message) else message
    return f"{picture.name} {said}" if said.startswith(("is ", "has ")) else f"{picture.name}: {said}"


def model_info(response: classifier_pb2.GetModelResponse) -> ModelInfo:
    """The answer to GetModel."""
    preprocessing = response.preprocessing
    return ModelInfo(
        model=response.model, version=response.version, net=response.net, activation=response.activation,
        labels=tuple(LabelInfo(label.name, label.threshold if label.HasField("threshold") else None,
                               label.average_precision if label.HasField("average_precision") else None)
                     for label in response.labels),
        preprocessing=Preprocessing(preprocessing.size, tuple(preprocessing.mean), preprocessing.channels,
                                    preprocessing.resize, tuple(preprocessing.std)),
        metrics=dict(response.metrics), weights_digest=response.weights_digest,
        versions=tuple(ModelVersion(version.version, _state(version.state), tuple(version.labels), version.error)
                       for version in response.versions))


def _state(number: int) -> str:
    """Without its prefix; a state that this client is too old to know is its number."""
    states = classifier_pb2.ModelVersion.State
    return states.Name(number).removeprefix("STATE_") if number in states.values() else str(number)
