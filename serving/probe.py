"""Asks a server for its health and exits 0 if it is SERVING, else 1: the health check of a container.

    python -m serving.probe 127.0.0.1:8500
"""

from __future__ import annotations

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT = 3.0
"""Seconds; below the timeout of the Dockerfile's HEALTHCHECK."""


def health(address: str) -> str:
    """SERVING, NOT_SERVING, or why there is no answer."""
    with grpc.insecure_channel(address) as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m serving.probe HOST:PORT")
    found = health(sys.argv[1])
    print(found)
    sys.exit(found != "SERVING")
