"""Opening the two ports; each fails with one sentence when the port cannot be had."""

from __future__ import annotations

import grpc
from aiohttp import web

from serving.calls import Calls
from serving.config import ServeConfig
from serving.errors import ServeError
from voc_cls.console import quiet_stderr


def open_grpc(config: ServeConfig, calls: Calls) -> tuple[grpc.aio.Server, str]:
    """A gRPC server that holds its port but does not answer yet, and its address."""
    server = grpc.aio.server(interceptors=[calls], options=[
        ("grpc.max_receive_message_length", config.max_message_bytes),
        ("grpc.max_send_message_length", config.max_message_bytes),
        ("grpc.so_reuseport", 0),  # or a second server on the same port would quietly take half of the calls
    ])
    with quiet_stderr():  # gRPC's C++ side reports the failure in its own words
        try:
            port = server.add_insecure_port(f"{config.host}:{config.port}")
        except RuntimeError:
            port = 0
    if not port:
        raise ServeError(f"cannot listen on {config.host}:{config.port}, as the port is taken or the address is not "
                         "this machine's: stop what listens there, or pass another --port or --host")
    return server, f"{config.host}:{port}"


async def open_http(config: ServeConfig, application: web.Application) -> tuple[web.AppRunner, str | None]:
    """An HTTP server that answers, and its address; None if --http-port is -1."""
    runner = web.AppRunner(application, access_log=None, handle_signals=False)
    await runner.setup()
    if config.http_port < 0:
        return runner, None
    try:
        await web.TCPSite(runner, config.host, config.http_port).start()
    except OSError as error:
        await runner.cleanup()
        raise ServeError(f"cannot listen on {config.host}:{config.http_port} ({error.strerror}): stop what listens "
                         "there, or pass another --http-port, or -1 to open none") from None
    return runner, f"{config.host}:{runner.addresses[0][1]}"
