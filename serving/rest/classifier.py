"""voc_cls.v1.Classifier over HTTP: its messages as JSON, in protobuf's own mapping with the names of the proto file."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from serving.errors import InvalidArgument
from serving.grpc.classifier_service import ClassifierService
from serving.rest.json import encode, parse, read_body
from voc_cls.v1 import classifier_pb2

MOST_PICTURES = 10_000
"""Of one request; a message of a million takes ten seconds to read."""


class ClassifierApi:
    """The handlers of its routes."""

    def __init__(self, service: ClassifierService, max_bytes: int) -> None:
        self._service, self._max_bytes = service, max_bytes

    async def classify(self, request: web.Request) -> web.Response:
        """Images in, labels with probabilities out, with heat maps on request; an error for each that is invalid."""
        body = await read_body(request, self._max_bytes)
        asked = await asyncio.to_thread(_read, body)
        return await _answer(await self._service.Classify(asked, None))

    async def describe(self, model: str, version: int | None, version_label: str) -> web.Response:
        """As GetModel."""
        asked = classifier_pb2.GetModelRequest(model=model, version=version, version_label=version_label)
        return await _answer(await self._service.GetModel(asked, None))


def _read(body: bytes | bytearray) -> classifier_pb2.ClassifyRequest:
    """Blocks; raises InvalidArgument."""
    content, message = parse(body), classifier_pb2.ClassifyRequest()
    if isinstance(pictures := content.get("pictures"), list) and len(pictures) > MOST_PICTURES:
        raise InvalidArgument(f"pictures has {len(pictures)} entries: send at most {MOST_PICTURES} in one call")
    try:
        return ParseDict(content, message)
    except ParseError as error:
        raise InvalidArgument("the body is not as ClassifyRequest in proto/voc_cls/v1/classifier.proto: "
                              f"{str(error)[:300]}") from None


async def _answer(message: Any) -> web.Response:
    body = await asyncio.to_thread(lambda: encode(MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)))
    return web.Response(body=body, content_type="application/json")
