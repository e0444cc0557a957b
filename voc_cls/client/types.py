"""What a client sends and receives: options, images, predictions and the description of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from voc_cls.errors import ClientError
from voc_cls.image_decoder import Preprocessing
from voc_cls.image_header import FORMATS
from voc_cls.model_metadata import Views
from voc_cls.prediction import Prediction, ScoredLabel
from voc_cls.v1 import classifier_pb2

ImageSource = bytes | Path
"""The content of an image file, or its path."""
IMAGES_PER_CALL = 16
"""Enough to fill the server's default batch; a longer list is sent in several calls."""
OVERHEAD = 1024
"""Generous estimate of a message's bytes besides its images."""
POSITION_IN_REQUEST = re.compile(r"^pictures\[\d+\] ")
"""How the server names an image; replaced by the name that the caller knows."""


@dataclass(frozen=True)
class Image:
    """The content of an image file."""

    position: int
    """Among the caller's images, from 0."""
    name: str
    content: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in a message."""
        return len(self.content) + OVERHEAD

    def too_large(self, limit: str, remedy: str) -> str:
        """The error for an image that is above a limit."""
        return f"{self.name} has {len(self.content) / 2**20:.1f} MiB, more than {limit}: make it smaller, or {remedy}"


def load_image(position: int, source: ImageSource, max_bytes: int) -> Image | Prediction:
    """Reads an image that is to fit into `max_bytes` of a message; a prediction with an error if that fails."""
    if not isinstance(source, bytes | Path):
        raise TypeError(f"picture {position} is of type {type(source).__name__}: give a pathlib.Path, or the bytes of "
                        "a picture file")
    if isinstance(source, bytes):
        image = Image(position, f"picture {position}", source)
    else:
        try:
            check_file(source)
            image = Image(position, str(source), source.read_bytes())
        except ClientError as error:
            return failed(str(error))
        except OSError as error:
            return failed(f"{source} cannot be read: {error.strerror}; check its permissions")
    if image.size > max_bytes:
        return failed(image.too_large(f"the {max_bytes / 2**20:g} MiB that this client sends",
                                      "raise `max_message_mb` of the client and of voc-serve"))
    return image


def check_file(source: ImageSource) -> None:
    """ClientError for a path that is not a file."""
    if isinstance(source, Path) and not source.is_file():
        problem = ("is a folder, not a picture" if source.is_dir() else "does not exist" if not source.exists()
                   else "is not a regular file")
        raise ClientError(f"{source} {problem}: give the path of a {FORMATS} file")


def failed(error: str) -> Prediction:
    """The prediction for an image that was not answered."""
    return Prediction((), "", error=error)


def batches(sources: Iterable[ImageSource], max_bytes: int) -> Iterator[list[Image | Prediction]]:
    """The images in batches that fit into one message each, read only when their turn comes."""
    batch: list[Image | Prediction] = []
    size = 0
    for position, source in enumerate(sources):
        image = load_image(position, source, max_bytes)
        added = image.size if isinstance(image, Image) else 0
        if batch and (len(batch) == IMAGES_PER_CALL or size + added > max_bytes):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += added
    if batch:
        yield batch


class ClassifyOptions(TypedDict, total=False):
    """Keyword arguments of `classify` and `classify_stream`; all are optional."""

    top_k: int
    """How many labels each prediction has, the most probable ones; 0, the default, for all."""
    threshold: float
    """Return only labels with at least this probability, 0 to 1; applied before top_k."""
    exported_thresholds: bool
    """Return only labels that reach the thresholds exported with the model, one per class; applied before top_k."""
    model: str
    """Name of the model; default: the server's only one."""
    version: int
    """Servable version; default: the newest that is served."""
    version_label: str
    """A label of the version, such as stable, instead of its number."""
    heat_maps: bool
    """Whether each label of a prediction has a `heat_map`, a numpy array."""
    embedding: bool
    """Whether each prediction has an `embedding`, a numpy array."""


def classify_request(options: ClassifyOptions,
                     batch: Iterable[Image | Prediction] = ()) -> classifier_pb2.ClassifyRequest:
    """The message with the images of a batch; ClientError for options that no server could accept."""
    threshold, exported = options.get("threshold"), options.get("exported_thresholds", False)
    top_k, version = options.get("top_k", 0), options.get("version")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ClientError(f"`threshold` {threshold:g} is not a probability, 0 to 1")
    if threshold is not None and exported:
        raise ClientError("`threshold` and `exported_thresholds` both choose labels: give one of them")
    if top_k < 0:
        raise ClientError(f"`top_k` {top_k} is below 0")
    _check_version(version, options.get("version_label", ""))
    return classifier_pb2.ClassifyRequest(
        model=options.get("model", ""), version=version, version_label=options.get("version_label", ""), top_k=top_k,
        heat_maps=options.get("heat_maps", False), embedding=options.get("embedding", False),
        threshold=threshold, **({"exported_thresholds": True} if exported else {}),
        pictures=[classifier_pb2.Picture(content=image.content) for image in batch if isinstance(image, Image)])


def model_request(model: str, version: int | None, version_label: str) -> classifier_pb2.GetModelRequest:
    """The message; ClientError if both a version and a label of one are given."""
    _check_version(version, version_label)
    return classifier_pb2.GetModelRequest(model=model, version=version, version_label=version_label)


def _check_version(version: int | None, version_label: str) -> None:
    if version is not None and version_label:
        raise ClientError(f"`version` {version} and `version_label` {version_label} both choose a version: give one of "
                          "them")


def predictions(response: classifier_pb2.ClassifyResponse | None, batch: Sequence[Image | Prediction],
                raise_errors: bool = False) -> list[Prediction]:
    """One for each image of a batch, in order; the response is about those that were sent, None if none was."""
    response = response or classifier_pb2.ClassifyResponse()
    sent = [image for image in batch if isinstance(image, Image)]
    received = iter([_prediction(response, classification, image)
                     for classification, image in zip(response.classifications, sent, strict=True)])
    answers = [image if isinstance(image, Prediction) else next(received) for image in batch]
    if raise_errors:
        raise_first(answers)
    return answers


def _prediction(response: classifier_pb2.ClassifyResponse, classification: classifier_pb2.Classification,
                image: Image) -> Prediction:
    labels = tuple(ScoredLabel(scored.label, scored.probability, _heat_map(scored)) for scored in classification.labels)
    embedding = np.array(classification.embedding, np.float32) if classification.embedding else None
    error = _with_name(image, classification.error.message) if classification.HasField("error") else None
    return Prediction(labels, response.model, response.version, error, response.activation, response.calibration,
                      embedding)


def _heat_map(scored: classifier_pb2.ScoredLabel) -> npt.NDArray[np.float32] | None:
    """float32 [h, w], 0-1."""
    if not scored.HasField("heat_map"):
        return None
    cells = np.frombuffer(scored.heat_map.values, np.uint8).reshape(scored.heat_map.height, scored.heat_map.width)
    return np.divide(cells, 255, dtype=np.float32)


def raise_first(batch: Sequence[Image | Prediction]) -> None:
    """ClientError for the first image that has an error."""
    for prediction in batch:
        if isinstance(prediction, Prediction) and prediction.error is not None:
            raise ClientError(prediction.error)


def _with_name(image: Image, message: str) -> str:
    """The server's message about an image, under the name that the caller knows."""
    message = POSITION_IN_REQUEST.sub("", message)
    return f"{image.name} {message}" if message.startswith(("is ", "has ")) else f"{image.name}: {message}"


@dataclass(frozen=True)
class LabelInfo:
    """A label of a model."""

    name: str
    threshold: float | None
    """Probability, 0 to 1, from which on the label counts as seen, chosen on the validation split; None if unknown."""
    average_precision: float | None
    """On the evaluation split, 0 to 1; None if it was not evaluated."""


@dataclass(frozen=True)
class ModelVersion:
    """A version of a model and its state."""

    version: int
    state: str
    """START, LOADING, AVAILABLE, UNLOADING or END."""
    labels: tuple[str, ...]
    """Names under which it can be requested, such as stable."""
    error: str
    """Why it could not be loaded; empty if there was no error."""


@dataclass(frozen=True)
class ModelInfo:
    """The description of a model, as one version of it was exported."""

    model: str
    version: int
    net: str
    activation: str
    """sigmoid (labels are independent) or softmax (probabilities sum to 1)."""
    labels: tuple[LabelInfo, ...]
    preprocessing: Preprocessing
    metrics: Mapping[str, float]
    """Scores on the evaluation split by name, such as map; empty if it was exported without an evaluation."""
    weights_digest: str
    """SHA-256 over the exported weights; empty if unknown."""
    versions: tuple[ModelVersion, ...]
    """Every version that the server has, the newest first."""
    calibration: str = ""
    """platt or temperature: how the probabilities were calibrated; empty: they are the network's own."""
    augmented: Views | None = None
    """What the signature predict_augmented averages over; None: there is none."""
    explains: bool = False
    """Whether it gives heat maps and embeddings."""
    training_data: str = ""
    """For people, as in MODEL_CARD.md; empty: the export does not say."""


def model_info(response: classifier_pb2.GetModelResponse) -> ModelInfo:
    """The response to GetModel."""
    preprocessing, views = response.preprocessing, response.augmented
    return ModelInfo(
        model=response.model, version=response.version, net=response.net, activation=response.activation,
        labels=tuple(LabelInfo(label.name, label.threshold if label.HasField("threshold") else None,
                               label.average_precision if label.HasField("average_precision") else None)
                     for label in response.labels),
        preprocessing=Preprocessing(preprocessing.size, tuple(preprocessing.mean), tuple(preprocessing.std),
                                    preprocessing.channels, preprocessing.resize),
        metrics=dict(response.metrics), weights_digest=response.weights_digest,
        versions=tuple(ModelVersion(version.version, _state(version.state), tuple(version.labels), version.error)
                       for version in response.versions),
        calibration=response.calibration,
        augmented=Views(tuple(views.sizes), views.mirrored, views.tta) if response.HasField("augmented") else None,
        explains=response.explains, training_data=response.training_data)


def _state(number: int) -> str:
    """Without its prefix; a state that is newer than this client stays a number."""
    states = classifier_pb2.ModelVersion.State
    return states.Name(number).removeprefix("STATE_") if number in states.values() else str(number)
