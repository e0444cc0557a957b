"""Who a caller is, and whether they may call a method: the same rules for gRPC and HTTP."""

from __future__ import annotations

import hmac
import logging
import stat
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from serving.config.config import SecurityConfig
from serving.errors import PermissionDenied, ServeError, Unauthenticated
from serving.security.api_keys import EVERYTHING, TOKEN, ApiKey, group_of, parse_keys
from serving.security.sanitize import host_of, printable
from serving.security.watched_files import LOOK_EVERY, WatchedFiles

log = logging.getLogger(__name__)

HEADERS = ("authorization", "x-api-key")
HOW = "send the header authorization: Bearer TOKEN, or x-api-key: TOKEN"


class Authenticator:
    """The keys of --keys-file, read again when the file changes; without one everybody may call everything.

    Raises ServeError if the file cannot be used at the start; later the keys that were read last stay.
    """

    def __init__(self, config: SecurityConfig, look_every: float = LOOK_EVERY) -> None:
        self._path = config.keys_file
        self._keys: tuple[ApiKey, ...] = ()
        self._content = b""
        self._broken: tuple[str, bytes | None] | None = None
        self._warned = False
        if self._path is not None:
            self._files = WatchedFiles(self._path, look_every=look_every)
            content = _read(self._path)
            self._use(parse_keys(content, f"--keys-file {self._path}"), content)

    @property
    def needs_keys(self) -> bool:
        """Whether callers must show a key."""
        return self._path is not None

    def client(self, method: str, headers: Iterable[tuple[str, str | bytes]], peer: str,
               certificate_name: str | None = None) -> str:
        """Name of who calls `method`, for logs, metrics and limits; raises Unauthenticated or Forbidden.

        `headers` are all of the call's: gRPC's invocation_metadata() or aiohttp's headers.items(), in which a name may
        come twice. `peer` is gRPC's context.peer() or aiohttp's request.remote.
        """
        if self._path is None or group_of(method) == "health":
            return identity(peer, certificate_name)
        self.refresh()
        key = self._find(_token(headers))
        if key is None:
            raise Unauthenticated(f"the key is not known here: {HOW} with one from whoever runs this server")
        if not key.may(method):
            raise PermissionDenied(f"key '{key.name}' may not call {_shown(method)}, as it is good for "
                                   f"{_granted(key)}: ask "
                            "whoever runs this server for more")
        return key.name

    def refresh(self) -> None:
        """Reads the file again if it has changed; looks at most once a second, and never raises."""
        if self._path is None or not self._files.changed():
            return
        content = None
        try:
            content = _read(self._path)
            if content != self._content:
                self._use(parse_keys(content, f"--keys-file {self._path}"), content)
                log.info("--keys-file %s: %d keys read anew", self._path, len(self._keys))
            self._broken = None
        except ServeError as error:
            if self._broken != (str(error), content):
                log.error("%s; the %d keys read before stay in use", error, len(self._keys))
            self._broken = (str(error), content)

    def _use(self, keys: tuple[ApiKey, ...], content: bytes) -> None:
        self._keys, self._content = keys, content
        if not self._warned and self._path and any(key.clear for key in keys) and _everybody_reads(self._path):
            self._warned = True
            log.warning("--keys-file %s holds tokens in clear and everybody on this machine can read it: chmod 600 it, "
                        "or write sha256 instead of token", self._path)

    def _find(self, token: str) -> ApiKey | None:
        """Looks at every key, each in constant time, so that the time tells nothing about the keys there are."""
        digest, found = sha256(token.encode("ascii")).digest(), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found


def identity(peer: str, certificate_name: str | None = None) -> str:
    """Who a caller without a key is: the name in the client certificate, else the host."""
    return printable(certificate_name) if certificate_name else host_of(peer)


def _token(headers: Iterable[tuple[str, str | bytes]]) -> str:
    """The one token of a call. Two are refused: which counts would be a matter of who reads the headers."""
    given = [(name.lower(), value) for name, value in headers if name.lower() in HEADERS]
    if not given:
        raise Unauthenticated(f"no key: {HOW}")
    if len(given) > 1:
        raise Unauthenticated(f"{len(given)} keys: send one of authorization and x-api-key, once")
    name, raw = given[0]
    value = raw.decode("latin-1") if isinstance(raw, bytes) else raw
    if name == "authorization":
        scheme, _, value = value.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(f"an authorization that is not Bearer: {HOW}")
    value = value.strip(" ")
    if not TOKEN.fullmatch(value):
        raise Unauthenticated(f"no token can be like the one sent (16 to 4096 characters of ASCII, no spaces): {HOW}")
    return value


def _granted(key: ApiKey) -> str:
    return ", ".join("everything but administration" if rule == EVERYTHING else rule for rule in key.methods)


def _shown(method: str) -> str:
    """GET /metrics stays readable; a path of a caller's own making is made harmless."""
    return " ".join(map(printable, method.split(" ", 1)))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ServeError(f"--keys-file {path} cannot be read ({error.strerror}): pass a YAML file of keys that this "
                         "user may read") from None


def _everybody_reads(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False
