"""The health check of a container: exits 0 if the server is SERVING, else 1.

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
    options = [("grpc.enable_http_proxy", 0)]  # of this container; http_proxy is for hosts outside
    channel = (grpc.insecure_channel(address, options) if credentials is None
               else grpc.secure_channel(address, credentials, options))
    with channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


def main() -> None:
    """Reads the command line, prints the status, exits."""
    parser = argparse.ArgumentParser(prog="python -m serving.probe", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--ca", type=Path, help="certificates, PEM, of those who may sign the server's: connects "
                                                "with TLS")
    parser.add_argument("--cert", type=Path, help="client certificate, PEM, for a server that wants one")
    parser.add_argument("--key", type=Path, help="private key of --cert, PEM")
    args = parser.parse_args()
    credentials = None
    if args.ca is not None:
        try:
            pem = [None if path is None else path.read_bytes() for path in (args.ca, args.key, args.cert)]
        except OSError as error:
            sys.exit(f"{error.filename} cannot be read: {error.strerror}")
        credentials = grpc.ssl_channel_credentials(*pem)
    status = health(args.address, credentials)
    print(status)
    sys.exit(status != "SERVING")


if __name__ == "__main__":
    main()
