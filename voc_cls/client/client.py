"""The client for ordinary code and threads, and what it shares with the client for asyncio."""

from __future__ import annotations

import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import grpc

from voc_cls.client import types
from voc_cls.client.errors import LOOPBACK, SERVICE_CONFIG, Retries, url_problem
from voc_cls.client.stream_state import CLOSE_TIMEOUT, ENDED_EARLY, StreamState
from voc_cls.client.types import ClassifyOptions, Image, ImageSource, ModelInfo, load_image, model_info
from voc_cls.errors import ClientError
from voc_cls.prediction import Prediction
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc
from voc_cls.version import __version__

MAX_MESSAGE_MB = 2047
"""The largest message of gRPC, MiB."""
Token = str | Callable[[], str]


class Stream:
    """The threads around a StreamState: one reads images, one talks to the server; the caller's takes predictions."""

    def __init__(self, state: StreamState, open_call: Callable[[Iterator[classifier_pb2.ClassifyStreamRequest]], Any],
                 max_bytes: int) -> None:
        self._state, self._open_call, self._max_bytes = state, open_call, max_bytes
        self._changed = threading.Condition()
        self._call: Any = None
        self._calls = 0

    def predictions(self, sources: Iterable[ImageSource]) -> Iterator[tuple[int, Prediction]]:
        """(position, prediction); ends the threads when it ends."""
        self.start(sources)
        taken = None
        try:
            while taken != []:
                with self._changed:
                    taken, time_left = self.take()
                    if taken is None:
                        self._changed.wait(time_left)
                yield from taken or ()
        finally:
            self.close()

    def start(self, sources: Iterable[ImageSource], on_change: Callable[[], object] = lambda: None) -> None:
        """Starts the threads. on_change: called, in any thread, when there may be something to take."""
        self._on_change = on_change
        self._talker = threading.Thread(target=self._guard, args=(self._talk,), daemon=True, name="voc-talker")
        self._talker.start()
        threading.Thread(target=self._guard, args=(self._read, sources), daemon=True, name="voc-reader").start()

    def take(self) -> tuple[list[tuple[int, Prediction]] | None, float | None]:
        """As StreamState.take, and for how many seconds the caller may wait for more."""
        with self._changed:
            if taken := self._state.take():
                self._notify()
            return taken, self._state.time_left

    def close(self) -> None:
        """Ends the threads and the call; the server may end it where everything is answered."""
        self._talker.join(CLOSE_TIMEOUT if self._state.all_answered else 0)
        with self._changed:
            self._state.closed = True
            self._notify()
        if self._call is not None:
            self._call.cancel()
        self._talker.join()

    def _notify(self) -> None:
        self._changed.notify_all()
        if not self._state.closed:  # or the caller's event loop may have ended
            self._on_change()

    def _guard(self, work: Callable[..., None], *args: object) -> None:
        """Runs in a thread; an exception there is raised in the caller's thread."""
        try:
            work(*args)
        except BaseException as error:
            with self._changed:
                self._state.failure = self._state.failure or error
                self._notify()

    def _read(self, sources: Iterable[ImageSource]) -> None:
        for position, source in enumerate(sources):
            image = load_image(position, source, self._max_bytes)
            with self._changed:
                self._changed.wait_for(lambda: self._state.has_room or self._state.closed)
                if self._state.closed:
                    return
                self._state.add(position, image)
                self._notify()
        with self._changed:
            self._state.complete = True
            self._notify()

    def _talk(self) -> None:
        """Makes one call after the other until everything is answered."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._state.finished or self._state.send_delay is not None)
                if self._state.finished:
                    return
                self._call = self._open_call(self._requests(self._calls))
            status = self._receive()
            with self._changed:
                self._calls += 1
                self._notify()
                if not self._state.finished:
                    self._changed.wait_for(lambda: self._state.closed, self._state.call_ended(*status))

    def _receive(self) -> tuple[grpc.StatusCode, str, bool]:
        """Takes all responses of the call; returns how it ended, for StreamState.call_ended."""
        try:
            for response in self._call:
                with self._changed:
                    self._state.receive(response)
                    self._notify()
        except grpc.RpcError:
            return self._call.code(), self._call.details() or "", bool(self._call.trailing_metadata())
        return ENDED_EARLY

    def _requests(self, call: int) -> Iterator[classifier_pb2.ClassifyStreamRequest]:
        """The requests that gRPC sends; it takes them in its own thread, as fast as the server reads them."""
        while True:
            with self._changed:
                if self._state.finished or call != self._calls:
                    return
                request = self._state.next_request()
                self._notify()
                if request is None:
                    self._changed.wait(self._state.send_delay)
                    continue
            yield request


class BaseClient:
    """What Client and AsyncClient share."""

    def __init__(self, address: str, *, timeout: float = 60, wait: float = 0, max_message_mb: int = 64,
                 tls: bool | Path = False, client_cert: Path | None = None, client_key: Path | None = None,
                 token: Token | None = None, api_key: str | None = None, plain_text_keys: bool = False,
                 keepalive: float = 300, on_wait: Callable[[], object] = lambda: None) -> None:
        """Opens a connection.

        Args:
            address: HOST:PORT, or any other gRPC target. A proxy in grpc_proxy, https_proxy or http_proxy is used, but
                not for this machine's own addresses.
            timeout: Deadline of each call, and longest silence of a stream, seconds.
            wait: How long to keep calling a server that is unreachable or still loads its model, seconds.
            max_message_mb: Largest message that is sent or received, MiB; the server has its own limit.
            tls: True encrypts and trusts the certificate authorities that come with gRPC; a PEM file: those in it.
            client_cert: PEM file of a client certificate, for servers that require one (mTLS).
            client_key: PEM file of its private key.
            token: Sent as `authorization: Bearer`; a callable is evaluated for each call, for tokens that expire.
            api_key: Sent as `x-api-key`, instead of a token.
            plain_text_keys: Do not warn if a key crosses a network unencrypted.
            keepalive: Seconds after which a silent connection is probed while a call runs. gRPC servers may close
                connections that are probed more often than every 300 s.
            on_wait: Called once when the waiting for a server begins.

        Raises:
            ClientError: If these contradict each other, or a file cannot be read.
        """
        if not 1 <= max_message_mb <= MAX_MESSAGE_MB:
            raise ClientError(f"`max_message_mb` {max_message_mb} must be from 1 to {MAX_MESSAGE_MB}")
        if problem := url_problem(address):
            raise ClientError(problem)
        self._address, self._timeout, self._wait, self._on_wait = address, timeout, wait, on_wait
        self._max_bytes = max_message_mb * 2**20
        if token is not None and api_key is not None:
            raise ClientError("`token` and `api_key` exclude each other: give one of them")
        self._token, self._api_key, self._encrypted = token, api_key, bool(tls)
        credentials = tls_credentials(tls, client_cert, client_key)
        if not tls and not plain_text_keys and (risk := plain_text_risk(address, token, api_key)):
            warnings.warn(f"{risk}; pass tls, or plain_text_keys=True if this is intended", stacklevel=2)
        options = channel_options(address, self._max_bytes, keepalive)
        self._channel = (grpc.insecure_channel(address, options) if credentials is None
                         else grpc.secure_channel(address, credentials, options))
        self._stub: Any = classifier_pb2_grpc.ClassifierStub(self._channel)  # type: ignore[no-untyped-call]

    def _retries(self, request_id: str | None) -> Retries:
        """For a new call."""
        return Retries(self._address, self._timeout, self._max_bytes, self._encrypted, request_id or uuid.uuid4().hex,
                       self._wait, self._on_wait)

    def _metadata(self, retries: Retries) -> tuple[tuple[str, str], ...]:
        """The metadata of a call: its id, and the token or API key if there is one."""
        token = self._token() if callable(self._token) else self._token
        pairs = (("x-request-id", retries.request_id), ("authorization", token and f"Bearer {token}"),
                 ("x-api-key", self._api_key))
        return tuple((name, value) for name, value in pairs if value)

    def _batches(self, sources: Sequence[ImageSource], options: ClassifyOptions,
                 raise_errors: bool) -> Iterator[tuple[classifier_pb2.ClassifyRequest, list[Image | Prediction]]]:
        """The requests of `classify`, with the images that each stands for; ClientError for what cannot be sent."""
        for source in sources if raise_errors else ():
            types.check_file(source)
        for batch in types.batches(sources, self._max_bytes):
            if raise_errors:
                types.raise_first(batch)
            yield types.classify_request(options, batch), batch

    def _stream(self, options: ClassifyOptions, window: int, ordered: bool, request_id: str | None) -> Stream:
        """A new stream, which has no images yet."""
        retries = self._retries(request_id)
        return Stream(StreamState(options, window=window, ordered=ordered, retries=retries),
                      lambda requests: self._stub.ClassifyStream(requests, metadata=self._metadata(retries)),
                      self._max_bytes)


class Client(BaseClient):
    """A connection to one server, for any number of calls from any thread; a context manager, or call `close`.

    Create it after a fork, not before: gRPC's threads do not survive one.
    """

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; running calls end with an error."""
        self._channel.close()

    def classify(self, pictures: Sequence[ImageSource], *, raise_errors: bool = True, request_id: str | None = None,
                 **options: Unpack[ClassifyOptions]) -> list[Prediction]:
        """Predictions for image files, in the same order.

        Args:
            pictures: Paths, or the content of files: JPEG, PNG, BMP, GIF, WebP or TIFF.
            raise_errors: Whether an image that cannot be read or decoded raises ClientError, which names it. False: its
                prediction has an `error`, and the others have their labels.
            request_id: x-request-id of the calls; default: a new one.
            **options: See ClassifyOptions.

        Raises:
            CallError: If the server cannot be reached or refuses the call.
        """
        answers: list[Prediction] = []
        for request, batch in self._batches(pictures, options, raise_errors):
            response = self._call(self._stub.Classify, request, request_id) if request.pictures else None
            answers += types.predictions(response, batch, raise_errors)
        return answers

    def classify_stream(self, pictures: Iterable[ImageSource], *, window: int = 32, ordered: bool = False,
                        request_id: str | None = None,
                        **options: Unpack[ClassifyOptions]) -> Iterator[tuple[int, Prediction]]:
        """(position, prediction) of any number of images, over one call, as the answers arrive.

        The prediction of an image that fails has an `error`. If the server goes away, unanswered images are sent again,
        to it or to another one, for at least `wait` seconds. Leaving the loop ends the call.

        Args:
            pictures: As for `classify`; read in a separate thread, so a generator may wait for a camera.
            window: How many images are read ahead at most.
            ordered: Yield in the order of `pictures`; images that are answered early count as read ahead.
            request_id: x-request-id of the call; default: a new one.
            **options: See ClassifyOptions.

        Raises:
            CallError: What ends the stream.
        """
        return self._stream(options, window, ordered, request_id).predictions(pictures)

    def model(self, name: str = "", *, version: int | None = None, version_label: str = "") -> ModelInfo:
        """The description of a model.

        Args:
            name: Name of the model; "" is the server's only one.
            version: Servable version; default: the newest that is served.
            version_label: A label of the version instead of its number.

        Raises:
            CallError: If there is no such model or version.
        """
        return model_info(self._call(self._stub.GetModel, types.model_request(name, version, version_label)))

    def _call(self, method: Callable[..., Any], request: Any, request_id: str | None = None) -> Any:
        """The response; waits for a server that is not ready."""
        retries = self._retries(request_id)
        while True:
            try:
                return method(request, timeout=self._timeout, metadata=self._metadata(retries))
            except grpc.RpcError as error:
                pause = retries.pause(error.code(), error.details() or "", bool(error.trailing_metadata()))
            time.sleep(pause)


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
        content = path.read_bytes()
    except OSError as error:
        raise ClientError(f"{what} {path} cannot be read: {error.strerror}; give a PEM file") from None
    if b"-----BEGIN " not in content:  # of which gRPC would tell in C++
        raise ClientError(f"{what} {path} holds nothing in PEM form; give a PEM file")
    return content
