"""What callers choose, checked and put into gRPC's terms: options of a connection and of a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypedDict

import grpc

from voc_cls.client.errors import LOOPBACK, SERVICE_CONFIG
from voc_cls.client.types import Image
from voc_cls.errors import ClientError
from voc_cls.prediction import Prediction
from voc_cls.v1 import classifier_pb2
from voc_cls.version import __version__

MAX_MESSAGE_MB = 2047
"""The largest message of gRPC, MiB."""
Token = str | Callable[[], str]


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


def channel_options(address: str, max_bytes: int, keepalive: float) -> list[tuple[str, str | int]]:
    """gRPC's options of a channel; see BaseClient for the arguments."""
    return [("grpc.enable_http_proxy", 0 if LOOPBACK.fullmatch(address) else 1),
            ("grpc.max_send_message_length", max_bytes), ("grpc.max_receive_message_length", max_bytes),
            ("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.keepalive_time_ms", int(keepalive * 1000)), ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.per_rpc_retry_buffer_size", max_bytes),  # larger calls are not retried; gRPC's default is 256 kB
            ("grpc.service_config", SERVICE_CONFIG), ("grpc.primary_user_agent", f"voc-cls/{__version__}")]


def plain_text_risk(address: str, token: Token | None, api_key: str | None) -> str | None:
    """A warning if a key would be sent over a network unencrypted; else None."""
    key = "token" if token is not None else "API key" if api_key is not None else None
    if key is None or LOOPBACK.fullmatch(address):
        return None
    return f"the {key} is sent to {address} unencrypted: anyone on the network can read it"


def tls_credentials(tls: bool | Path, client_cert: Path | None, client_key: Path | None
                    ) -> grpc.ChannelCredentials | None:
    """Credentials of the channel, None if it is not encrypted; see BaseClient for the arguments."""
    if (client_cert is None) != (client_key is None):
        raise ClientError("`client_cert` and `client_key` belong together: give both or neither")
    if client_cert is not None and not tls:
        raise ClientError("`client_cert` needs an encrypted connection: give `tls` too")
    if not tls:
        return None
    roots = _read(tls, "the CA file") if isinstance(tls, Path) else None
    key, cert = _read(client_key, "`client_key`"), _read(client_cert, "`client_cert`")
    return grpc.ssl_channel_credentials(roots, key, cert)


def _read(path: Path | None, what: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{what} {path} cannot be read: {error.strerror}; give a PEM file") from None
