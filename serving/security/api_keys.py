"""API keys: the YAML file that says which clients may call which methods.

    keys:
      - name: photo-app         # in logs, metrics and limits
        sha256: 9f86d081884c…   # SHA-256 of the token, hexadecimal; or `token:` with the token itself
        methods: [predict]      # optional

`methods` holds groups (predict, status, metrics, reflection, admin), full methods (/voc_cls.v1.Classifier/Classify,
GET /metrics) and patterns with * of them. Without `methods`, and for `*`, everything but administration, which only
`admin` or the full name of a method gives. A name may have several keys, so that a new token can be handed out before
the old one is removed. No message of this module contains a token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from hashlib import sha256
from typing import Any

import yaml

from serving.errors import ServeError
from serving.security.sanitize import is_safe_name

GROUPS = {  # a method belongs to the first group that has it
    "health": ("/grpc.health.v1.Health/*", "GET /healthz"),
    "status": ("/tensorflow.serving.ModelService/GetModelStatus", "/voc_cls.v1.Classifier/GetModel",
               "/tensorflow.serving.PredictionService/GetModelMetadata", "GET /v1/models", "GET /v1/models/*"),
    "admin": ("/tensorflow.serving.ModelService/*",),
    "metrics": ("GET /metrics", "GET /monitoring/prometheus/metrics"),
    "reflection": ("/grpc.reflection.*",),
    "predict": ("/tensorflow.serving.PredictionService/*", "/voc_cls.v1.Classifier/*", "POST /v1/models/*:predict",
                "POST /v1/models/*:classify", "POST /v1/models/*:regress"),
}
GRANTABLE = tuple(group for group in GROUPS if group != "health")
"""The groups that a key can be given; health needs no key."""
EVERYTHING = "*"
TOKEN = re.compile(r"[\x21-\x7e]{16,4096}")
"""Tokens that a header can carry and that are too long to be guessed."""
FIELDS = ("name", "sha256", "token", "methods")


@dataclass(frozen=True)
class ApiKey:
    """One token, by its digest, and the methods that it may call."""

    name: str
    digest: bytes = field(repr=False)
    methods: tuple[str, ...] = (EVERYTHING,)
    clear: bool = False
    """Whether the file holds the token itself."""

    def may(self, method: str) -> bool:
        """Whether this key may call `method`; a method of no group must be named, or matched by a pattern of its
        own.
        """
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


def parse_keys(content: bytes, source: str) -> tuple[ApiKey, ...]:
    """The keys of a file; an empty list lets no caller in. Raises ServeError, whose message starts with `source`."""
    entries = _entries(content, source)
    keys: dict[bytes, ApiKey] = {}
    for number, entry in enumerate(entries, 1):
        key = _key(entry, f"{source}: key {number}")
        if key.digest in keys:
            raise ServeError(f"{source}: key {number}, '{key.name}', has the token of '{keys[key.digest].name}': give "
                             "each its own")
        keys[key.digest] = key
    return tuple(keys.values())


def _entries(content: bytes, source: str) -> list[Any]:
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
        raise ServeError(f"{source}: keys is not a list: start each key with a line - name: …, or write keys: [] for "
                         f"none")
    return entries


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
            raise ServeError(f"{where} has among its methods {shown} that is neither a group "
                             f"({', '.join(GRANTABLE)}) nor "
                             "written like /voc_cls.v1.Classifier/Classify or GET /metrics: write one of these")
    return tuple(rules)
