"""What Ray's gRPC ingress answers: calls that fail can be sent again, as from a server without Ray."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from serving.ray.ingress import METHODS, RawMessage, add_services
from voc_cls.client.errors import SERVICE_CONFIG
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

REQUEST = classifier_pb2.ClassifyRequest(model="voc")


def ends_of(answer: Callable[[Any, int], bytes], in_stream: bool = False) -> tuple[Any, list[RawMessage]]:
    """What a client that retries gets of a server whose methods are `answer`, and all messages that came; the list of
    responses of a stream of one message."""
    came: list[RawMessage] = []

    async def handler(message: RawMessage, context: Any) -> bytes:
        came.append(message)
        return answer(context, len(came))

    async def stream_handler(messages: AsyncIterator[RawMessage], context: Any) -> AsyncIterator[bytes]:
        async for message in messages:
            yield await handler(message, context)

    async def call() -> Any:
        server = grpc.aio.server()
        port = server.add_insecure_port("127.0.0.1:0")

        class RayServer:
            """Registers methods as Ray does: with handlers of its own."""

            def add_generic_rpc_handlers(self, handlers: Any) -> None:
                (service,) = handlers
                service._method_handlers = {name: method._replace(
                    unary_unary=handler, stream_stream=stream_handler, response_serializer=None)
                                            for name, method in service._method_handlers.items()}
                server.add_generic_rpc_handlers(handlers)

        add_services(None, RayServer())
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.service_config", SERVICE_CONFIG)]) as channel:
            try:
                stub = classifier_pb2_grpc.ClassifierStub(channel)  # type: ignore[no-untyped-call]
                if in_stream:
                    requests = iter([classifier_pb2.ClassifyStreamRequest(request=REQUEST)])
                    return [response async for response in stub.ClassifyStream(requests)]
                return await stub.Classify(REQUEST)
            except grpc.RpcError as error:
                return error
            finally:
                await server.stop(None)

    return asyncio.run(call()), came


def test_a_call_that_was_refused_or_lost_with_its_replica_is_sent_again():
    def answer(context: Any, number: int) -> bytes:
        if number < 3:
            context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED if number == 1 else grpc.StatusCode.INTERNAL)
            context.set_details("full" if number == 1 else "The actor died")
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "1"),))
            return b""
        return classifier_pb2.ClassifyResponse(model="voc").SerializeToString()

    response, came = ends_of(answer)
    assert response.model == "voc"
    assert came == [RawMessage("/voc_cls.v1.Classifier/Classify", REQUEST.SerializeToString())] * 3
    assert came[0].method in METHODS


def test_a_stream_that_was_lost_with_its_replica_ends_with_unavailable():
    def answer(context: Any, _: int) -> bytes:
        context.set_code(grpc.StatusCode.INTERNAL)
        context.set_details("The actor died")
        return b""

    error, _ = ends_of(answer, in_stream=True)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "the replica that had this call has ended: send it again"
    assert ends_of(lambda *_: b"", in_stream=True)[0] == [classifier_pb2.ClassifyStreamResponse()]


def test_other_failures_keep_status_message_and_metadata():
    def answer(context: Any, _: int) -> bytes:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("no model 'voc'")
        context.set_trailing_metadata((("x-request-id", "mine"),))
        return b""

    error, came = ends_of(answer)
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no model 'voc'")
    assert ("x-request-id", "mine") in tuple(error.trailing_metadata())
    assert len(came) == 1
