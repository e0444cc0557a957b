"""Callers of a server, in a separate process: real connections, real JPEG files, one image per call.

    python benchmarks/serving_callers.py grpc|litserve|bentoml PORT PICTURE …

Each line of the input is a JSON object, and is answered by another:
    {"kind": "probe"}                                 the first image once → {"probabilities": {label: …} or null}
    {"kind": "set_wait", "seconds": S}                sets how long Ray Serve's batches wait for more → its status
    {"kind": "closed", "callers": N, "seconds": S}    N callers; each sends the next call after the response. S null:
                                                      until the next line of input
    {"kind": "open", "callers": N, "rate": R, "seconds": S}   R calls/s at random moments, without waiting for responses
"closed" and "open" are answered by {"calls": [[begin, seconds, status], …]}, with begin as in time.monotonic(). A call
of an open loop begins when it should have been sent, so that late callers do not hide waiting times. "lag" is the
largest delay of a caller in seconds.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import grpc

from voc_cls.v1 import classifier_pb2

TIMEOUT = 120
"""Seconds after which a call counts as unanswered."""
FORMS = {"litserve": ("/predict", "content"), "bentoml": ("/classify", "pictures")}
"""Where each peer takes a picture, and the name of the form's file."""
BOUNDARY = "voc-cls-benchmark"
CLASSIFY = "/voc_cls.v1.Classifier/Classify"
OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.max_send_message_length", -1))


def grpc_request(picture: bytes) -> bytes:
    """The body of a Classify call: the message with its length before it."""
    message = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=picture)]).SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def form(server: str, picture: bytes) -> bytes:
    """The body with which a peer over HTTP takes a picture."""
    head = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{FORMS[server][1]}"; filename="picture.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n").encode()
    return head + picture + f"\r\n--{BOUNDARY}--\r\n".encode()


class Caller(Protocol):
    """One connection."""

    async def call(self, number: int) -> tuple[str, dict[str, float]]:
        """Sends picture `number` → (status, probabilities by label)."""

    async def close(self) -> None:
        """Ends the connection."""


class GrpcCaller:
    """Calls voc_cls.v1.Classifier/Classify; the requests are serialised beforehand."""

    def __init__(self, port: int, pictures: Sequence[bytes]) -> None:
        self._requests = [grpc_request(picture)[5:] for picture in pictures]
        self._channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS)
        self._classify = self._channel.unary_unary(
            CLASSIFY, response_deserializer=classifier_pb2.ClassifyResponse.FromString)

    async def call(self, number: int) -> tuple[str, dict[str, float]]:
        """Status is the name of the gRPC status, or NO_LABELS."""
        try:
            response = await self._classify(self._requests[number % len(self._requests)], timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return error.code().name, {}
        labels = response.classifications[0].labels
        return "OK" if labels else "NO_LABELS", {label.label: label.probability for label in labels}

    async def set_wait(self, seconds: float) -> str:
        """To benchmarks/peers/serving_ray.py alone."""
        await self._classify(classifier_pb2.ClassifyRequest(model=str(seconds)).SerializeToString(), timeout=TIMEOUT)
        return "OK"

    async def close(self) -> None:
        """Closes the channel."""
        await self._channel.close()


class HttpCaller:
    """Posts the picture as a file of a form; the bodies are put together beforehand."""

    def __init__(self, server: str, port: int, pictures: Sequence[bytes]) -> None:
        self._bodies = [form(server, picture) for picture in pictures]
        self._url = f"http://127.0.0.1:{port}{FORMS[server][0]}"
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(TIMEOUT), connector=aiohttp.TCPConnector(limit=0),
            headers={"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})

    async def call(self, number: int) -> tuple[str, dict[str, float]]:
        """Status is OK, "HTTP 503" and its like, or the name of what went wrong."""
        try:
            async with self._session.post(self._url, data=self._bodies[number % len(self._bodies)]) as response:
                if response.status != 200:
                    return f"HTTP {response.status}", {}
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__, {}
        labels = answer[0] if isinstance(answer, list) else answer
        return "OK" if labels else "NO_LABELS", labels

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()


class Load:
    """The calls of one command, over connections that stay open between commands."""

    def __init__(self, server: str, port: int, pictures: Sequence[bytes]) -> None:
        self._make = (lambda: GrpcCaller(port, pictures)) if server == "grpc" else (
            lambda: HttpCaller(server, port, pictures))
        self._callers: list[Caller] = []
        self._calls: list[tuple[float, float, str]] = []
        self._numbers = itertools.count()
        self._over = asyncio.Event()

    async def probe(self) -> dict[str, Any]:
        """The probabilities of the first picture, or null when the server does not answer (yet)."""
        status, probabilities = await self._connected(1)[0].call(0)
        return {"probabilities": probabilities if status == "OK" else None, "status": status}

    async def set_wait(self, seconds: float) -> dict[str, Any]:
        """Tells Ray Serve how long a batch waits for more."""
        caller = self._connected(1)[0]
        assert isinstance(caller, GrpcCaller)
        return {"status": await caller.set_wait(seconds)}

    async def closed(self, callers: int, seconds: float | None) -> dict[str, Any]:
        """All the calls; those that ran when the time was over are waited for."""
        self._begin(seconds)
        await asyncio.gather(*(self._call_again_and_again(caller) for caller in self._connected(callers)))
        return {"calls": self._calls}

    async def open(self, callers: int, rate: float, seconds: float) -> dict[str, Any]:
        """All the calls, at a mean rate in 1/s with exponential gaps (seed 0), over `callers` connections."""
        self._begin(None)
        connected, gaps, tasks = self._connected(callers), random.Random(0), []
        moment, lag = time.monotonic(), 0.0
        end = moment + seconds
        while moment < end:
            await asyncio.sleep(max(0.0, moment - time.monotonic()))
            lag = max(lag, time.monotonic() - moment)
            tasks.append(asyncio.ensure_future(self._call(connected[len(tasks) % callers], moment)))
            moment += gaps.expovariate(rate)
        await asyncio.gather(*tasks)
        return {"calls": self._calls, "lag": lag}

    async def close(self) -> None:
        """Ends all connections."""
        for caller in self._callers:
            await caller.close()

    def stop(self) -> None:
        """Ends a closed loop without an end."""
        self._over.set()

    def _begin(self, seconds: float | None) -> None:
        self._calls = []
        self._over.clear()
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, self._over.set)

    def _connected(self, callers: int) -> Sequence[Caller]:
        self._callers += [self._make() for _ in range(callers - len(self._callers))]
        return self._callers[:callers]

    async def _call_again_and_again(self, caller: Caller) -> None:
        while not self._over.is_set():
            await self._call(caller, time.monotonic())

    async def _call(self, caller: Caller, begin: float) -> None:
        status, _ = await caller.call(next(self._numbers))
        self._calls.append((begin, time.monotonic() - begin, status))


async def main(server: str, port: int, paths: Sequence[str]) -> None:
    """Answers commands until its input ends."""
    load = Load(server, port, [Path(path).read_bytes() for path in paths])
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        work = asyncio.ensure_future(getattr(load, command.pop("kind"))(**command))
        if command.get("seconds", 0) is None:
            await loop.run_in_executor(None, sys.stdin.readline)
            load.stop()
        print(json.dumps(await work), flush=True)
    await load.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
