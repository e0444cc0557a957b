"""Names and version numbers that come from outside: which are valid, and how any other is made harmless; and how paths
are kept inside.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from urllib.parse import quote, unquote

from voc_cls.errors import UsageError

LONGEST_NAME = 100
NAME = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}")
RULE = f"letters, digits, _ - and . (neither - nor . first), up to {LONGEST_NAME} characters"
ABSOLUTE_PATH = re.compile(r"""(?<![\w./:])/[^\s/'"(),;]+(?:/[^\s/'"(),;]*)+""")
"""Of two parts or more."""
HARMLESS = "._-@:+/"
"""Characters that printable() keeps beside letters and digits: no space, quote, = or control character, which could end
a field of a log line or start a new line."""


def is_safe_name(name: str) -> bool:
    """Whether `name` may be a model's, a label's or a key's: the same in logs, metrics, URLs and paths."""
    return NAME.fullmatch(name) is not None


def check_model_name(name: str, where: str) -> None:
    """UsageError, beginning with `where` (a parameter, or a place in a file), unless `name` may be a model's."""
    if not is_safe_name(name):
        shown = repr(name if len(name) <= LONGEST_NAME else f"{name[:20]}…")
        raise UsageError(f"{where} {shown} cannot be a model's name: use {RULE}")


def printable(name: str | bytes) -> str:
    """`name` in harmless ASCII, up to LONGEST_NAME characters, for logs, metrics and messages.

    Other characters are percent-encoded UTF-8 and names that are too long end in # and a digest, so that two names
    never look the same.
    """
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogatepass")
    written = quote(raw[:LONGEST_NAME], safe=HARMLESS)
    if len(raw) <= LONGEST_NAME and len(written) <= LONGEST_NAME:
        return written
    ending = f"#{sha256(raw).hexdigest()[:16]}"
    return written[:LONGEST_NAME - len(ending)] + ending


def without_paths(message: str, folder: Path, name: str) -> str:
    """The message for callers, who need not know where the server keeps its files.

    `folder` becomes `name`, a file in it its path below `folder`, and any other absolute path its last part.
    """
    for known in sorted({str(folder), str(folder.absolute()), str(folder.resolve())}, key=len, reverse=True):
        if "/" in known:
            message = message.replace(f"{known}/", "").replace(known, name)
    return ABSOLUTE_PATH.sub(lambda match: match[0].rstrip("/").rpartition("/")[2], message)


@lru_cache(4096)
def host_of(peer: str) -> str:
    """The host of a caller, from gRPC's ipv4:1.2.3.4:5, ipv6:%5B::1%5D:5 or unix:…, or from HTTP's plain address.

    An IPv4 address in IPv6 form is written as IPv4, so that a host has the same name on both ports.
    """
    kind, _, rest = unquote(peer).partition(":")
    if kind.startswith("unix"):
        return "unix"
    host = rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
    try:
        address = ip_address(host)
    except ValueError:
        return printable(host) or "unknown"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return printable(str(mapped or address))
