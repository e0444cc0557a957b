"""Authentication: who a caller is, and whether they may call a method; the same rules for gRPC and HTTP."""

from __future__ import annotations

import hmac
import logging
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from serving.errors import PermissionDenied, ServeError, Unauthenticated
from serving.security.api_keys import EVERYTHING, TOKEN, ApiKey, group_of, parse_keys
from serving.security.sanitize import host_of, printable
from serving.security.watched_files import LOOK_EVERY, WatchedFiles

log = logging.getLogger(__name__)

HEADERS = ("authorization", "x-api-key")
HOW = "send the header authorization: Bearer TOKEN, or x-api-key: TOKEN"


class Authenticator:
    """The API keys, read again when their file changes; without a file every caller may call every method.

    Raises ServeError if the file cannot be used at the start; later the keys that were read last stay in use.
    """

    def __init__(self, keys_file: Path | None, look_every: float = LOOK_EVERY) -> None:
        self._path = keys_file
        self._keys: tuple[ApiKey, ...] = ()
        self._content = b""
        self._problem: tuple[str, bytes | None] | None = None
        self._warned = False
        if self._path is not None:
            self._files = WatchedFiles(self._path, look_every=look_every)
            content = _read(self._path)
            self._use(parse_keys(content, f"`keys_file` {self._path}"), content)

    def client(self, method: str, headers: Iterable[tuple[str, str | bytes]], peer: str,
               certificate_name: str | None = None) -> str:
        """The client's name, for logs, metrics and limits.

        Args:
            method: /package.Service/Method, or GET /path.
            headers: all of the call's: gRPC's invocation_metadata() or aiohttp's headers.items().
            peer: gRPC's context.peer() or aiohttp's request.remote.
            certificate_name: common name of the client's certificate.

        Raises:
            Unauthenticated: the call has no known key.
            PermissionDenied: its key may not call `method`.
        """
        if self._path is None or group_of(method) == "health":
            return identity(peer, certificate_name)
        self.refresh()
        key = self._find(_token(headers))
        if key is None:
            raise Unauthenticated(f"the key is not known here: {HOW}, with a key from the operator of this server")
        if not key.may(method):
            raise PermissionDenied(f"key '{key.name}' may not call {_shown(method)}, as it is for "
                                   f"{_granted(key)}: ask the operator of this server for more")
        return key.name

    def refresh(self) -> None:
        """Reads the file again if it has changed; looks at most once a second, and never raises."""
        if self._path is None or not self._files.changed():
            return
        content = None
        try:
            content = _read(self._path)
            if content != self._content:
                self._use(parse_keys(content, f"`keys_file` {self._path}"), content)
                log.info("`keys_file` %s: %d keys read again", self._path, len(self._keys))
            self._problem = None
        except ServeError as error:
            if self._problem != (str(error), content):
                log.error("%s; the %d keys read before stay in use", error, len(self._keys))
            self._problem = (str(error), content)

    def _use(self, keys: tuple[ApiKey, ...], content: bytes) -> None:
        self._keys, self._content = keys, content
        if not self._warned and self._path and any(key.clear for key in keys) and _world_readable(self._path):
            self._warned = True
            log.warning("`keys_file` %s holds tokens in clear and every user of this machine can read it: chmod 600 "
                        "it, or write sha256 instead of token", self._path)

    def _find(self, token: str) -> ApiKey | None:
        """Compares every key, each in constant time, so that the time reveals nothing about the keys."""
        digest, match = sha256(token.encode("ascii")).digest(), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                match = key
        return match


def identity(peer: str, certificate_name: str | None = None) -> str:
    """The name of a caller without a key: the common name of its certificate, else its host."""
    return printable(certificate_name) if certificate_name else host_of(peer)


def _token(headers: Iterable[tuple[str, str | bytes]]) -> str:
    """The one token of a call. Two are refused: which of them counts would be ambiguous."""
    tokens = [(name.lower(), value) for name, value in headers if name.lower() in HEADERS]
    if not tokens:
        raise Unauthenticated(f"no key: {HOW}")
    if len(tokens) > 1:
        raise Unauthenticated(f"{len(tokens)} keys: send one of authorization and x-api-key, once")
    name, raw = tokens[0]
    value = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    if name == "authorization":
        scheme, _, value = value.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(f"an authorization that is not Bearer: {HOW}")
    value = value.strip(" ")
    if not TOKEN.fullmatch(value):
        raise Unauthenticated(f"the token sent is not valid (16 to 4096 characters of ASCII, no spaces): {HOW}")
    return value


def _granted(key: ApiKey) -> str:
    return ", ".join("everything but administration" if rule == EVERYTHING else rule for rule in key.methods)


def _shown(method: str) -> str:
    """`method` for a message: GET /metrics stays readable, any other path is made harmless."""
    return " ".join(map(printable, method.split(" ", 1)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServeError(f"`keys_file` {path} cannot be read ({error.strerror}): pass a YAML file of keys that this "
                         "user may read") from None


def _world_readable(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
