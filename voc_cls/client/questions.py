"""What a caller wants to know of pictures, and the messages that ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from voc_cls.client.pictures import Picture
from voc_cls.errors import ClientError
from voc_cls.v1 import classifier_pb2


class Question(TypedDict, total=False):
    """Keyword arguments of `classify` and `classify_stream`; each may be left out."""

    top_k: int
    """How many labels each prediction has, the most probable ones; 0, the default, for all."""
    threshold: float
    """Answer only labels whose probability is at least this, 0 to 1; before top_k."""
    exported_thresholds: bool
    """Answer only labels that reach the thresholds exported with the model, one for each class; before top_k."""
    model: str
    """Name of the model; left out: the server's only one."""
    version: int
    """Servable version; left out: the newest that is served."""
    version_label: str
    """Version by its label, such as stable, instead of by its number."""


def classify_request(question: Question, pictures: Iterable[Picture] = ()) -> classifier_pb2.ClassifyRequest:
    """The message; ClientError for a question that no server could answer."""
    threshold, exported = question.get("threshold"), question.get("exported_thresholds", False)
    top_k, version = question.get("top_k", 0), question.get("version")
    if threshold is not None and not 0 <= threshold <= 1:
        raise ClientError(f"threshold {threshold:g} is not a probability, 0 to 1")
    if threshold is not None and exported:
        raise ClientError("threshold and exported_thresholds are two ways to choose labels: give one of them")
    if top_k < 0:
        raise ClientError(f"top_k {top_k} is below 0")
    check_version(version, question.get("version_label", ""))
    return classifier_pb2.ClassifyRequest(
        model=question.get("model", ""), version=version, version_label=question.get("version_label", ""), top_k=top_k,
        threshold=threshold, **({"exported_thresholds": True} if exported else {}),
        pictures=[classifier_pb2.Picture(content=picture.content) for picture in pictures])


def check_version(version: int | None, version_label: str) -> None:
    """ClientError if a version is named twice."""
    if version is not None and version_label:
        raise ClientError(f"version {version} and version_label {version_label} both name a version: give one of them")


def model_request(model: str, version: int | None, version_label: str) -> classifier_pb2.GetModelRequest:
    """The message; ClientError if a version is named twice."""
    check_version(version, version_label)
    return classifier_pb2.GetModelRequest(model=model, version=version, version_label=version_label)
