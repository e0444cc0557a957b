"""Opening the two ports; each fails with one sentence when the port cannot be had."""

from __future__ import annotations

import contextlib
import logging
import resource
import ssl
from dataclasses import dataclass

import grpc
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from serving.config.config import ServeConfig
from serving.errors import ServeError
from serving.grpc_interceptor import GrpcInterceptor
from voc_cls.console import quiet_stderr

KEEPALIVE_MS = 60_000
"""After so long without a word a connection is asked whether it is still there, and closed 20 s later if not."""
PENDING_CALLS = 5_000
"""Calls that have come and that nobody has looked at yet, each some 15 kB. Beyond, gRPC ends them as CANCELLED, which
no client tries again; its own limit is 1,000, which one client's burst can pass. To refuse as many takes seconds."""
HTTP_IDLE_SECONDS = 75.0
"""How long an HTTP connection may be idle; aiohttp's own default is an hour."""
LEAST_PING_MS = 10_000
"""Clients may ask as much this often; gRPC's default of 5 minutes cuts off those that follow its keepalive guide."""

AT_ONCE = 0.001
"""Seconds; to aiohttp 0 means as long as it takes."""

http_log = logging.getLogger("serving.http")


@dataclass(frozen=True)
class HttpPort:
    """An HTTP server that answers."""

    runner: web.AppRunner
    address: str | None
    """None if --http-port is -1."""

    async def close(self) -> None:
        """Closes the port, with calls that have not been finished by then."""
        if self.runner.server is not None:
            await self.runner.server.shutdown(AT_ONCE)
        await self.runner.cleanup()


def allow_connections() -> None:
    """Raises the limit of open files as far as this user may: every connection is one, and 1,024 is a common limit."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # where the system's own limit is below what it calls the most
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def open_grpc(config: ServeConfig, calls: GrpcInterceptor, credentials: grpc.ServerCredentials | None,
              ) -> tuple[grpc.aio.Server, str]:
    """A gRPC server that holds its port but does not answer yet, and its address."""
    ports = config.ports
    options: list[tuple[str, int]] = [
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.so_reuseport", 0),  # or a second server on the same port would quietly take half of the calls
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_MS),
        ("grpc.server.max_pending_requests", PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", PENDING_CALLS),
    ]
    if ports.max_connection_age:
        options += [("grpc.max_connection_age_ms", int(1000 * ports.max_connection_age)),
                    ("grpc.max_connection_age_grace_ms", int(1000 * config.life_cycle.grace_seconds))]
    server = grpc.aio.server(interceptors=[calls], options=options)
    wanted = f"{ports.host}:{ports.port}"
    with quiet_stderr():  # gRPC's C++ side reports the failure in its own words
        try:
            port = (server.add_insecure_port(wanted) if credentials is None
                    else server.add_secure_port(wanted, credentials))
        except RuntimeError:
            port = 0
    if not port:
        raise ServeError(f"cannot listen on {wanted}, as the port is taken or the address is not this machine's: stop "
                         "what listens there, or pass another --port or --host")
    return server, f"{ports.host}:{port}"


async def open_http(config: ServeConfig, application: web.Application, context: ssl.SSLContext | None) -> HttpPort:
    """An HTTP server that answers, or holds no port if --http-port is -1."""
    ports, grace = config.ports, config.life_cycle.grace_seconds
    http_log.addFilter(_briefly)
    runner = web.AppRunner(application, access_log=None, logger=http_log, handle_signals=False,
                           handler_cancellation=True,
                           keepalive_timeout=HTTP_IDLE_SECONDS,
                           auto_decompress=False,  # rest/body.py does, within its limit
                           shutdown_timeout=grace + 60)  # the grace ends where the calls are counted
    await runner.setup()
    if ports.http_port < 0:
        return HttpPort(runner, None)
    try:
        await web.TCPSite(runner, ports.host, ports.http_port, ssl_context=context).start()
    except OSError as error:
        await runner.cleanup()
        raise ServeError(f"cannot listen on {ports.host}:{ports.http_port} ({error.strerror}): stop what listens "
                         "there, or pass another --http-port, or -1 to open none") from None
    return HttpPort(runner, f"{ports.host}:{runner.addresses[0][1]}")


def _briefly(record: logging.LogRecord) -> bool:
    """Bytes that are no HTTP are a client's affair, of which any scanner of ports sends plenty: no error, no stack."""
    error = record.exc_info[1] if record.exc_info else None
    if not isinstance(error, HttpProcessingError):
        return True
    record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    record.msg, record.args, record.exc_info = "no HTTP: %s", (" ".join(error.message.split())[:200],), None
    return http_log.isEnabledFor(logging.DEBUG)
