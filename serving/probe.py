"""Asks a server for its health and exits 0 if it is SERVING, else 1: the health check of a container.

    python -m serving.probe 127.0.0.1:8500
    python -m serving.probe localhost:8500 --ca ca.pem [--cert probe.pem --key probe.key]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT = 3.0
"""Seconds; below the timeout of the Dockerfile's HEALTHCHECK."""


def health(address: str, credentials: grpc.ChannelCredentials | None = None) -> str:
    """SERVING, NOT_SERVING, or why there is no answer."""
    channel = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def main() -> None:
    """Reads the command line, asks, prints, exits."""
    parser = argparse.ArgumentParser(prog="python -m serving.probe", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--ca", type=Path, help="certificates, PEM, of those who may sign the server's: asks over TLS")
    parser.add_argument("--cert", type=Path, help="client certificate, PEM, for a server that wants one")
    parser.add_argument("--key", type=Path, help="private key of --cert, PEM")
    given = parser.parse_args()
    credentials = None
    if given.ca is not None:
        try:
            pem = [None if path is None else path.read_bytes() for path in (given.ca, given.key, given.cert)]
        except OSError as error:
            sys.exit(f"{error.filename} cannot be read: {error.strerror}")
        credentials = grpc.ssl_channel_credentials(*pem)
    found = health(given.address, credentials)
    print(found)
    sys.exit(found != "SERVING")


if __name__ == "__main__":
    main()
