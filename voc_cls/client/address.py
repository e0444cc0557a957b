"""Addresses of servers: URLs that are none, this machine's own, and the proxies that gRPC uses for the others."""

from __future__ import annotations

import os
import re

URL = re.compile(r"(https?|grpcs?|tcp)://(\[[^]]*\]|[^/?#:\s]+)?(:\d+)?.*", re.IGNORECASE)
PROXY_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""That gRPC reads, in this order, and no_grpc_proxy or no_proxy for hosts that are reached without one."""
LOOPBACK = re.compile(r"(localhost|127\.[\d.]+|\[::1\]):\d+|unix(-abstract)?:.*")


def url_problem(address: str, parameter: str = "address") -> str | None:
    """What to write instead of a URL; None for HOST:PORT and other targets of gRPC."""
    match = URL.fullmatch(address)
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2] or "HOST", match[3] or ":8500"
    web = scheme.startswith("http")  # its port may be that of REST
    tls = " with `tls`" if scheme in ("https", "grpcs") else ""
    return (f"`{parameter}` {address} is a URL, where HOST:PORT of voc-serve's gRPC port is expected: write "
            f"{host}{port}{tls}" + (", if that is not the port of its REST API" if web and match[3] else ""))


def proxy_variable(address: str) -> str | None:
    """The environment variable by which gRPC connects through a proxy; None for this machine's own addresses."""
    if LOOPBACK.fullmatch(address):
        return None
    return next((name for name in PROXY_VARIABLES if os.environ.get(name)), None)
