"""How a client reaches a server: gRPC's options, encryption, and who it says it is."""

from __future__ import annotations

import json
import re
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from voc_cls.client.failures import SERVICE, Patience, Teller
from voc_cls.client.flight import Flight
from voc_cls.client.questions import Question
from voc_cls.errors import ClientError
from voc_cls.version import __version__

RETRIED_METHODS = ("Classify", "GetModel")
"""What gRPC may send again by itself. A stream is opened anew by flight.py, which knows what is answered: gRPC's
retries can leave one that met a stopping server without an end, even when it is cancelled (grpcio 1.85)."""
SERVICE_CONFIG = json.dumps({
    "loadBalancingConfig": [{"round_robin": {}}],  # a name with several addresses: calls go to all of them in turn
    "methodConfig": [{"name": [{"service": SERVICE, "method": method} for method in RETRIED_METHODS], "retryPolicy": {
        "maxAttempts": 5, "initialBackoff": "0.2s", "maxBackoff": "2s", "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"]}}]})
"""gRPC's own retry policy (gRFC A6): a server that is starting, stopping or full is asked again, with jitter, or after
what its grpc-retry-pushback-ms says."""
MOST_MESSAGE_MB = 2047
"""Where gRPC's messages end."""
LOOPBACK = re.compile(r"(localhost|127\.[\d.]+|\[::1\]):\d+|unix(-abstract)?:.*")
Metadata = tuple[tuple[str, str], ...]


class Connection:
    """What the clients share; see Client."""

    def __init__(self, address: str, *, timeout: float = 60, wait: float = 0, max_message_mb: int = 64,
                 tls: bool | Path = False, client_cert: Path | None = None, client_key: Path | None = None,
                 token: str | Callable[[], str] | None = None, api_key: str | None = None,
                 plain_text_keys: bool = False, keepalive: float = 300,
                 on_wait: Callable[[], object] = lambda: None) -> None:
        """address: HOST:PORT, or any other gRPC target.

        timeout: deadline of each call, and longest silence of a stream, seconds.
        wait: how long, seconds, to keep asking a server that is not there yet or still loads its model; `on_wait` is
          called once when that begins.
        max_message_mb: bounds what is sent and received, MiB; the server has a bound of its own (voc-serve
          --max-message-mb).
        tls: True trusts the certificate authorities that come with gRPC, a PEM file those in it; False: not encrypted.
        client_cert, client_key: PEM files, for servers that want to see a certificate (mTLS).
        token, api_key: who asks; servers take one of them. A token is sent as `authorization: Bearer`, an API
          key as `x-api-key`; a function is asked for the token at every call, for tokens that change.
        plain_text_keys: True says that they may cross a network unencrypted; it warns otherwise.
        keepalive: seconds after which a silent connection is probed while a call runs. gRPC servers may close
          connections that are probed more often than every 300 s.
        ClientError if these contradict each other, or a file cannot be read.
        """
        if not 1 <= max_message_mb <= MOST_MESSAGE_MB:
            raise ClientError(f"max_message_mb {max_message_mb} must be from 1 to {MOST_MESSAGE_MB}")
        if (client_cert is None) != (client_key is None):
            raise ClientError("client_cert and client_key belong together: give both or neither")
        if client_cert is not None and not tls:
            raise ClientError("a client certificate is shown over TLS only: pass tls too")
        if token is not None and api_key is not None:
            raise ClientError("token and api_key are two ways to say who asks: give one of them")
        self._wait, self._on_wait = wait, on_wait
        self._timeout = timeout
        self._max_bytes = max_message_mb * 2**20
        self._teller = Teller(address, timeout, self._max_bytes, bool(tls))
        self._keys = _Keys(token, api_key)
        self._encrypted = bool(tls)
        if not tls and not plain_text_keys and (risk := plain_text_risk(address, token, api_key)):
            warnings.warn(f"{risk}: pass tls, or plain_text_keys=True if it is meant", stacklevel=2)
        credentials = None if not tls else _credentials(tls, client_cert, client_key, self._keys)
        self._channel = self._open(address, credentials, [
            ("grpc.max_send_message_length", self._max_bytes), ("grpc.max_receive_message_length", self._max_bytes),
            ("grpc.initial_reconnect_backoff_ms", 200), ("grpc.max_reconnect_backoff_ms", 2000),
            ("grpc.keepalive_time_ms", int(keepalive * 1000)), ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.per_rpc_retry_buffer_size", self._max_bytes),  # larger ones are not retried; default: 256 kB
            ("grpc.service_config", SERVICE_CONFIG), ("grpc.primary_user_agent", f"voc-cls/{__version__}")])

    def _open(self, address: str, credentials: grpc.ChannelCredentials | None,
              options: list[tuple[str, str | int]]) -> Any:
        """The channel; not encrypted if there are no credentials."""
        raise NotImplementedError

    def _metadata(self, request_id: str) -> Metadata:
        """What goes with a call. Over TLS gRPC itself adds the keys, and to nobody but the server."""
        return (("x-request-id", request_id), *(() if self._encrypted else self._keys.metadata()))

    def _flight(self, question: Question, window: int, ordered: bool,
                request_id: str | None) -> tuple[Flight, Callable[[], Metadata]]:
        """For a stream; the metadata are asked for at each of its calls. ClientError for a question that cannot be."""
        if window < 1:
            raise ClientError(f"window {window} is below 1")
        request_id = request_id or new_request_id()
        flight = Flight(question, window=window, ordered=ordered, max_bytes=self._max_bytes, teller=self._teller,
                        patience=self._patience(), request_id=request_id)
        return flight, lambda: self._metadata(request_id)

    def _patience(self) -> Patience:
        return Patience(self._wait, self._on_wait)


def new_request_id() -> str:
    """For x-request-id."""
    return uuid.uuid4().hex


def plain_text_risk(address: str, token: str | Callable[[], str] | None, api_key: str | None) -> str | None:
    """What to warn of, if keys would cross a network unencrypted."""
    what = "token" if token is not None else "API key" if api_key is not None else None
    if what is None or LOOPBACK.fullmatch(address):
        return None
    return f"the {what} goes to {address} unencrypted, for everybody on the way to read"


class _Keys(grpc.AuthMetadataPlugin):  # type: ignore[misc]
    """Token and API key, as the metadata of a call."""

    def __init__(self, token: str | Callable[[], str] | None, api_key: str | None) -> None:
        self._token, self._api_key = token, api_key

    def metadata(self) -> Metadata:
        """As pairs; none if there are no keys."""
        token = self._token() if callable(self._token) else self._token
        pairs = (("authorization", token and f"Bearer {token}"), ("x-api-key", self._api_key))
        return tuple((name, value) for name, value in pairs if value)

    def __call__(self, _: grpc.AuthMetadataContext, callback: grpc.AuthMetadataPluginCallback) -> None:
        """How gRPC asks for them, on a thread of its own."""
        try:
            callback(self.metadata(), None)
        except Exception as error:
            callback((), error)


def _credentials(tls: bool | Path, cert: Path | None, key: Path | None, keys: _Keys) -> grpc.ChannelCredentials:
    roots = _read(tls, "tls") if isinstance(tls, Path) else None
    channel = grpc.ssl_channel_credentials(roots, _read(key, "client_key"), _read(cert, "client_cert"))
    return grpc.composite_channel_credentials(channel, grpc.metadata_call_credentials(keys))


def _read(path: Path | None, argument: str) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{argument} {path} cannot be read: {error.strerror}") from None
