"""Authentication: who a caller is, and which methods they may call, the same for gRPC and HTTP.

By a YAML file of keys, described in docs/security.md. The `methods` of a key are groups (predict, status, …), full
methods (/voc_cls.v1.Classifier/Classify, GET /metrics) and patterns with * of them. Without `methods`, and for `*`,
everything but administration, which only `admin` or the full name of a method gives. No message of this module contains
a token.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache, partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml

from serving.errors import PermissionDenied, ServeError, Unauthenticated
from serving.security.sanitize import host_of, is_safe_name, printable
from serving.security.watched_files import LOOK_EVERY, WatchedFiles

log = logging.getLogger(__name__)

GROUPS = {  # a method belongs to the first group that has it
    "health": ("/grpc.health.v1.Health/*", "GET /healthz", "GET /v2/health/*",
               "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady"),
    "page": ("GET /", "GET /page/*"),
    "status": ("/tensorflow.serving.ModelService/GetModelStatus", "/voc_cls.v1.Classifier/GetModel",
               "/tensorflow.serving.PredictionService/GetModelMetadata", "GET /v1/models", "GET /v1/models/*",
               "/inference.GRPCInferenceService/ServerMetadata", "/inference.GRPCInferenceService/ModelReady",
               "/inference.GRPCInferenceService/ModelMetadata", "/inference.GRPCInferenceService/ModelConfig",
               "/inference.GRPCInferenceService/RepositoryIndex", "GET /v2", "GET /v2/models/*",
               "POST /v2/repository/index", "GET /openapi.json"),
    "admin": ("/tensorflow.serving.ModelService/*", "/inference.GRPCInferenceService/RepositoryModel*",
              "POST /v2/repository/models/*"),
    "metrics": ("GET /metrics", "GET /monitoring/prometheus/metrics"),
    "reflection": ("/grpc.reflection.*",),
    "predict": ("/tensorflow.serving.PredictionService/*", "/voc_cls.v1.Classifier/*", "POST /v1/models/*:predict",
                "POST /v1/models/*:classify", "POST /v1/models/*:regress", "POST /v2/models/*/infer",
                "POST /v1/classify", "/inference.GRPCInferenceService/ModelInfer",
                "/inference.GRPCInferenceService/ModelStreamInfer"),
}
KEYLESS = ("health", "page")
"""The groups that need no key."""
GRANTABLE = tuple(group for group in GROUPS if group not in KEYLESS)
"""The groups that a key can be given."""
EVERYTHING = "*"
TOKEN = re.compile(r"[\x21-\x7e]{16,4096}")
"""Tokens that a header can carry and that are too long to be guessed."""
FIELDS = ("name", "sha256", "token", "methods")
HEADERS = ("authorization", "x-api-key")
HOW = "send the header authorization: Bearer TOKEN, or x-api-key: TOKEN"


class Authenticator:
    """The API keys, read again when their file changes.

    Without a file every caller may call every method, but those of administration only with `allow_reload`.

    Raises ServeError if the file cannot be used at the start; later the keys that were read last stay in use.
    """

    def __init__(self, keys_file: Path | None, look_every: float = LOOK_EVERY, allow_reload: bool = False) -> None:
        self._path = keys_file
        self._allow_reload = allow_reload
        self._warned = False
        if keys_file is not None:
            self._files = WatchedFiles([keys_file], partial(_read_keys, keys_file), "the keys read before stay in use",
                                       look_every)
            self._warn_of_clear_tokens(keys_file)

    def client(self, method: str, headers: Iterable[tuple[str, str | bytes]], peer: str,
               certificate_name: str | None = None) -> str:
        """The client's name, for logs, metrics and limits.

        The arguments are those of an IncomingRequest. Raises Unauthenticated if the call has no known key,
        PermissionDenied if its key may not call `method`.
        """
        group = group_of(method)
        if self._path is None and group == "admin" and not self._allow_reload:
            raise PermissionDenied("this server has no keys, so its models cannot be managed by calls: its operator "
                                   "can allow that to everybody (`allow_reload`) or to a key of the group admin "
                                   "(`keys_file`)")
        if self._path is None or group in KEYLESS:
            return identity(peer, certificate_name)
        self.refresh()
        key = self._find(_token(headers))
        if key is None:
            raise Unauthenticated(f"the key is not known here: {HOW}, with a key from the operator of this server")
        if not key.may(method):
            called = " ".join(map(printable, method.split(" ", 1)))  # GET /metrics stays readable
            granted = ", ".join("everything but administration" if rule == EVERYTHING else rule for rule in key.methods)
            raise PermissionDenied(f"key '{key.name}' may not call {called}, as it is for {granted}: ask the operator "
                                   "of this server for more")
        return key.name

    def refresh(self, now: bool = False) -> None:
        """Reads the file again if it has changed; looks at most once a second or `now`, and never raises."""
        if self._path is not None and self._files.refresh(now):
            log.info("`keys_file` %s: %d keys read again", self._path, len(self._files.content))
            self._warn_of_clear_tokens(self._path)

    def _warn_of_clear_tokens(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # removed since it was read
            clear = any(key.clear for key in self._files.content)
            if clear and not self._warned and path.stat().st_mode & stat.S_IROTH:
                self._warned = True
                log.warning("`keys_file` %s holds tokens in clear and every user of this machine can read it: chmod "
                            "600 it, or write sha256 instead of token", path)

    def _find(self, token: str) -> ApiKey | None:
        """Compares every key, each in constant time, so that the time reveals nothing about the keys."""
        digest, match = sha256(token.encode("ascii")).digest(), None
        for key in self._files.content:
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


@dataclass(frozen=True)
class ApiKey:
    """One token, by its digest, and the methods that it may call."""

    name: str
    digest: bytes = field(repr=False)
    methods: tuple[str, ...] = (EVERYTHING,)
    clear: bool = False
    """Whether the file holds the token itself."""

    def may(self, method: str) -> bool:
        """Whether this key may call `method`; a method of no group must be named, or matched by a pattern."""
        group = group_of(method)
        if group in self.methods or method in self.methods:
            return True
        if group == "admin":
            return False
        return any(fnmatchcase(method, rule) if rule != EVERYTHING else group != "" for rule in self.methods)


@lru_cache(1024)
def group_of(method: str) -> str:
    """The group of /package.Service/Method or GET /path; "" for none."""
    if method.startswith("HEAD "):  # answered by the handler of GET
        method = f"GET {method[5:]}"
    for group, patterns in GROUPS.items():
        if any(fnmatchcase(method, pattern) for pattern in patterns):
            return group
    return ""


def _read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file; an empty list lets no caller in. Raises ServeError."""
    source = f"`keys_file` {path}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ServeError(f"{source} cannot be read ({error.strerror}): pass a YAML file of keys that this user may "
                         "read") from None
    try:
        # BaseLoader leaves 00123456789012345 and 1e9 the text that they are
        document = yaml.load(content, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)  # the error's own text may quote a token
        where = f" at line {mark.line + 1}" if mark else ""
        raise ServeError(f"{source} is not YAML{where}: write keys: and below it a list of name and sha256") from None
    if not isinstance(document, dict) or list(document) != ["keys"]:
        raise ServeError(f"{source} does not hold keys: and nothing else: write keys: and below it a list of name and "
                         "sha256")
    entries = document["keys"]
    if not isinstance(entries, list):
        raise ServeError(f"{source}: keys is not a list: start each key with a line - name: …; keys: [] is none")
    keys: dict[bytes, ApiKey] = {}
    for number, entry in enumerate(entries, 1):
        key = _key(entry, f"{source}: key {number}")
        if key.digest in keys:
            raise ServeError(f"{source}: key {number}, '{key.name}', has the token of '{keys[key.digest].name}': give "
                             "each its own")
        keys[key.digest] = key
    return tuple(keys.values())


def _key(entry: Any, where: str) -> ApiKey:
    if not isinstance(entry, dict):
        raise ServeError(f"{where} has no fields: write name and sha256")
    name = entry.get("name")
    if not isinstance(name, str) or not is_safe_name(name):
        raise ServeError(f"{where} has no valid name: give it a name of letters, digits, _ - and .")
    where = f"{where}, '{name}',"
    if not set(entry) <= set(FIELDS):
        raise ServeError(f"{where} has a field that is not known: there are {', '.join(FIELDS)}")
    if ("sha256" in entry) == ("token" in entry):
        raise ServeError(f"{where} must have sha256 or token, and not both: write the output of printf %s \"$TOKEN\" | "
                         "sha256sum as sha256")
    return ApiKey(name, _digest(entry, where), _methods(entry.get("methods", [EVERYTHING]), where), "token" in entry)


def _digest(entry: dict[str, Any], where: str) -> bytes:
    if "token" in entry:
        token = entry["token"]
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise ServeError(f"{where} has a token that is not 16 to 4096 characters of ASCII without spaces: make one "
                             "with openssl rand -hex 32")
        return sha256(token.encode()).digest()
    digest = entry["sha256"]
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-fA-F]{64}", digest):
        raise ServeError(f"{where} has a sha256 that is not 64 hexadecimal digits: write the output of printf %s "
                         "\"$TOKEN\" | sha256sum")
    return bytes.fromhex(digest)


def _methods(rules: Any, where: str) -> tuple[str, ...]:
    if not isinstance(rules, list) or not rules:
        raise ServeError(f"{where} has methods that are not a list: write methods: [predict], or omit them")
    for rule in rules:
        if rule not in (*GRANTABLE, EVERYTHING) and not (isinstance(rule, str) and re.match(r"/\S|[A-Z*]+ /", rule)):
            shown = f"'{rule}'" if isinstance(rule, str) and is_safe_name(rule) else "one"
            raise ServeError(f"{where} has among its methods {shown} that is neither a group ({', '.join(GRANTABLE)}) "
                             "nor written like /voc_cls.v1.Classifier/Classify or GET /metrics: write one of these")
    return tuple(rules)
