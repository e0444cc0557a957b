"""Opening the gRPC and the HTTP port; each failure is one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import grpc
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from serving.config.config import ServeConfig
from serving.errors import ServeError
from serving.grpc_interceptor import GrpcInterceptor
from voc_cls.console import quiet_stderr

GRPC_OPTIONS = (
    ("grpc.so_reuseport", 0),  # or a second server on the same port would silently take half of the calls
    ("grpc.http2.bdp_probe", 0),  # gRPC would let its window grow to megabytes for each call that nobody reads yet
    # what a call may send before its message is read; then gRPC gives room for the message as far as it is announced
    ("grpc.http2.lookahead_bytes", 65_535),
    ("grpc.server_handshake_timeout_ms", 20_000),  # for a connection to become one of HTTP/2, TLS included
    # calls and streams on one connection at a time; clients keep further ones until there is room. So a flood of calls
    # that are reset at once (CVE-2023-44487) is not a long queue ahead of others
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_connection_idle_ms", 600_000),  # without a call; clients open another connection when they need one
    ("grpc.keepalive_time_ms", 60_000),  # a silent connection gets a ping, and is closed without an answer for 20 s
    ("grpc.keepalive_permit_without_calls", 1),
    # clients may ping so often; gRPC's default of 5 minutes disconnects those that follow its keepalive guide
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # calls that have arrived and are not handled yet, some 15 kB each. gRPC ends more of them as CANCELLED, which no
    # client retries; its default is 1,000, which one client's burst can exceed. Refusing as many takes seconds
    ("grpc.server.max_pending_requests", 5_000),
    ("grpc.server.max_pending_requests_hard_limit", 5_000),
)

http_log = logging.getLogger("serving.http")


class AnonymousRequest(web.Request):
    """Its response has no header `Server`, which would tell attackers the version of aiohttp."""

    async def _prepare_hook(self, response: web.StreamResponse) -> None:  # also of what is not HTTP, unlike the signal
        await super()._prepare_hook(response)
        response.headers.popall("Server", None)


@dataclass(frozen=True)
class HttpListener:
    """An HTTP server that answers."""

    runner: web.AppRunner
    address: str | None
    """None if `http_port` is -1."""

    async def drain(self, in_flight: Callable[[], int]) -> None:
        """Takes no new connections and closes the port once no request is in flight.

        aiohttp's own cleanup drops the rest of a body that is still arriving, and its request would never end.
        """
        for site in list(self.runner.sites):
            await site.stop()
        while in_flight():
            await asyncio.sleep(0.05)
        await self.close(1.0)  # for a request that begins to arrive just now; then its connection is closed

    async def close(self, seconds: float = 0.001) -> None:  # to aiohttp 0 means no limit
        """Closes the port and, after some seconds, cancels the requests that are still in flight."""
        if self.runner.server is not None:
            await self.runner.server.shutdown(seconds)
        await self.runner.cleanup()


def reach(host: str) -> str:
    """Who can call, for the ready line."""
    address = host.strip("[]")
    try:
        local = address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:  # a name
        return f"for the clients of {host}"
    return "for clients on this machine only (see --host)" if local else "for all clients that reach this machine"


def raise_file_limit() -> None:
    """Raises the limit of open files to the maximum: every connection is one, and 1,024 is a common limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where the system's own limit is below that maximum
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def open_grpc(config: ServeConfig, interceptor: GrpcInterceptor, credentials: grpc.ServerCredentials | None,
              ) -> tuple[grpc.aio.Server, str]:
    """A gRPC server that has its port but does not answer yet, and its address."""
    ports = config.ports
    options: list[tuple[str, int]] = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.max_allowed_incoming_connections", min(2**30, resource.getrlimit(resource.RLIMIT_NOFILE)[0]) // 2),
        *GRPC_OPTIONS,
    ]
    if ports.max_connection_age:
        options += [("grpc.max_connection_age_ms", int(1000 * ports.max_connection_age)),
                    ("grpc.max_connection_age_grace_ms", int(1000 * config.life_cycle.grace_seconds))]
    server = grpc.aio.server(interceptors=[interceptor], options=options)
    address = ports.address(ports.port)
    with quiet_stderr():  # gRPC's C++ side reports the failure in its own words
        try:
            port = (server.add_insecure_port(address) if credentials is None
                    else server.add_secure_port(address, credentials))
        except RuntimeError:
            port = 0
    if not port:
        raise ServeError(f"cannot listen on {address}, as the port is taken or the address is not this machine's: stop "
                         "what listens there, or choose another `port` or `host`")
    return server, ports.address(port)


async def open_http(config: ServeConfig, application: web.Application, context: ssl.SSLContext | None) -> HttpListener:
    """An HTTP server that answers, or has no port if `http_port` is -1."""
    ports, grace = config.ports, config.life_cycle.grace_seconds
    http_log.addFilter(_shorten_client_errors)
    runner = web.AppRunner(application, access_log=None, logger=http_log, handle_signals=False,
                           handler_cancellation=True,
                           keepalive_timeout=75.0,  # seconds; aiohttp's own default is an hour
                           lingering_time=2.0,  # to read a refused body, so that its sender gets to see why; else 10
                           auto_decompress=False,  # rest.json does, within its limit
                           shutdown_timeout=grace + 60)  # the grace ends where the calls are counted
    await runner.setup()
    if runner.server is not None:
        runner.server.request_factory = partial(application._make_request, _cls=AnonymousRequest)
    if ports.http_port < 0:
        return HttpListener(runner, None)
    try:
        host, port = ports.host.strip("[]"), ports.http_port
        await (web.TCPSite(runner, host, port, ssl_context=context) if host != "::" else web.SockSite(  # IPv4 as well
            runner, socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True),
            ssl_context=context)).start()
    except OSError as error:
        await runner.cleanup()
        raise ServeError(f"cannot listen on {ports.address(ports.http_port)} ({error.strerror}): stop what listens "
                         "there, or choose another `http_port`, or -1 to open none") from None
    return HttpListener(runner, ports.address(runner.addresses[0][1]))


def _shorten_client_errors(record: logging.LogRecord) -> bool:
    """Bytes that are not HTTP, as port scanners send them, are not an error of the server: debug level, no stack."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    record.msg, record.args, record.exc_info = "not HTTP: %s", (" ".join(error.message.split())[:200],), None
    return http_log.isEnabledFor(logging.DEBUG)
