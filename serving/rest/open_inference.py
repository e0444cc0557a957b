"""The Open Inference Protocol over HTTP: each route is a method of serving.grpc.open_inference, its messages as JSON.

A body with binary tensors is JSON of as many bytes as the header Inference-Header-Content-Length says, then the tensors
that have a `binary_data_size`, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from google.protobuf.json_format import ParseDict, ParseError

from serving.errors import InvalidArgument
from serving.grpc.open_inference import DATATYPES, InferenceService, pack, unpack, version_of
from serving.http_middleware import json_response
from serving.models.registry import ModelRegistry
from serving.rest.json import BASE64, encode, kind, parse, read_body, read_numbers, read_strings, to_lists
from serving.security.sanitize import printable
from serving.v2 import open_inference_pb2 as messages

JSON_LENGTH = "Inference-Header-Content-Length"
MODELS = ("/v2/models/{name:[^/:]+}", "/v2/models/{name:[^/:]+}/versions/{version:[^/:]+}")
METHODS = {
    "/v2": "ServerMetadata",
    "/v2/health/live": "ServerLive",
    "/v2/health/ready": "ServerReady",
    **{model + path: method for model in MODELS
       for path, method in (("", "ModelMetadata"), ("/ready", "ModelReady"), ("/config", "ModelConfig"))},
    "/v2/repository/index": "RepositoryIndex",
    "/v2/repository/models/{model_name:[^/:]+}/load": "RepositoryModelLoad",
    "/v2/repository/models/{model_name:[^/:]+}/unload": "RepositoryModelUnload",
}
KINDS = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
"""Where a parameter of JSON stands in an InferParameter."""
SMALL_BODY = 2**16
"""Bytes of JSON without tensors, which is read at once."""
MOST_ENTRIES = 100
"""Inputs, sizes of a shape, parameters and so on in JSON; a message of a million takes ten seconds."""


def add_routes(get: Callable[..., Any], post: Callable[..., Any], models: ModelRegistry, max_bytes: int) -> None:
    """Adds the routes below /v2 by `get` and `post`, which take a path and a handler; `max_bytes`: largest body."""
    service = InferenceService(models)

    async def infer(request: web.Request) -> web.Response:
        """Images in, probabilities and logits out."""
        body = await read_body(request, max_bytes)
        name, version = request.match_info["name"], request.match_info.get("version", "")
        with models.use(name, *version_of(version)) as servable:
            given = await servable.on_thread(_read, request.headers.get(JSON_LENGTH), body)
            given.model_name, given.model_version = name, version
            content, length = await servable.on_thread(_write, given, await service.ModelInfer(given))
        if length == len(content):
            return web.Response(body=content, content_type="application/json")
        return web.Response(body=content, content_type="application/octet-stream", headers={JSON_LENGTH: str(length)})

    def handler(method: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.Response:
            content: dict[str, Any] = {}
            if request.method == "POST":
                content = parse(await read_body(request, SMALL_BODY) or b"{}")
            given = _message(f"{method}Request", {**content, **request.match_info})
            content = _plain(await getattr(service, method)(given))
            if method in ("ModelConfig", "RepositoryIndex"):  # over HTTP, what is in their only field
                (content,) = content.values()
            return json_response(content, 503 if method.endswith("Ready") and not content["ready"] else 200)

        handle.__doc__ = f"{method} of the Open Inference Protocol."
        return handle

    for path, method in METHODS.items():
        (post if method.startswith("Repository") else get)(path, handler(method))
    for model in MODELS:
        post(f"{model}/infer", infer)


def _message(name: str, content: dict[str, Any]) -> Any:
    """A JSON object as a message, without its data and what that does not know. Raises InvalidArgument."""
    def typed(value: Any) -> Any:
        if isinstance(value, (dict, list)) and len(value) > MOST_ENTRIES:
            raise InvalidArgument(f"the body has more than {MOST_ENTRIES} entries in a list or object beside the data")
        if isinstance(value, list):
            return [typed(entry) for entry in value]
        if not isinstance(value, dict):
            return value
        return {key: {name: {KINDS.get(type(parameter), ""): parameter} for name, parameter in typed(entry).items()}
                if key == "parameters" and isinstance(entry, dict) else typed(entry)
                for key, entry in value.items() if key != "data"}

    try:
        return ParseDict(typed(content), getattr(messages, name)(), ignore_unknown_fields=True)
    except ParseError as error:
        raise InvalidArgument(f"the body is not as the Open Inference Protocol has it: {str(error)[:300]}") from None


def _plain(message: Any) -> dict[str, Any]:
    """A message as JSON, without its maps. Not json_format's, which writes the numbers of a shape as strings."""
    def plain(field: Any, value: Any) -> Any:
        return _plain(value) if field.message_type else field.enum_type.values_by_number[value].name \
            if field.enum_type else value

    return {field.name: [plain(field, value) for value in getattr(message, field.name)] if field.is_repeated
            else plain(field, getattr(message, field.name)) for field in message.DESCRIPTOR.fields
            if not (field.message_type and field.message_type.GetOptions().map_entry)}


def _read(json_length: str | None, body: bytes | bytearray) -> Any:
    """A body as a ModelInferRequest with binary tensors. Blocks; raises InvalidArgument."""
    length = len(body)
    if json_length is not None:
        if not (json_length.isascii() and json_length.isdigit()) or int(json_length[:20]) > length:
            raise InvalidArgument(f"{JSON_LENGTH} '{printable(json_length)}' is not a number of bytes up to the body's "
                                  f"{length}")
        length = int(json_length)
    content, binary = parse(body[:length]), memoryview(body)[length:]
    request = _message("ModelInferRequest", content)
    for tensor, entry in zip(request.inputs, content.get("inputs") or (), strict=True):
        if "binary_data_size" in tensor.parameters:
            size = tensor.parameters["binary_data_size"].int64_param
            request.raw_input_contents.append(bytes(binary[:max(0, size)]))
            binary = binary[max(0, size):]
        else:
            data = entry.get("data") if isinstance(entry, dict) else None  # protobuf takes "" for an empty message
            dtype = DATATYPES.get(tensor.datatype, "string")
            request.raw_input_contents.append(pack(_elements(data, dtype, len(tensor.shape), tensor.name)))
    if binary:
        raise InvalidArgument(f"the body has {len(binary)} bytes that belong to no input: send {JSON_LENGTH}, and "
                              "binary_data_size with each input")
    return request


def _elements(data: Any, dtype: Any, rank: int, name: str) -> Any:
    """The elements in a list, or in lists nested as the shape is. Strings are base64: JSON has no bytes."""
    where = f"data of '{printable(name)}'"
    if not isinstance(data, list):
        raise InvalidArgument(f"{where} must be a list, found {kind(data)}")
    if dtype != "string":
        return read_numbers(data, dtype, rank if any(isinstance(item, list) for item in data) else 1, where)
    strings = [string for item in data for string in (item if isinstance(item, list) else [item])]
    return read_strings([{BASE64: string} if isinstance(string, str) else string for string in strings], where)


def _write(request: Any, response: Any) -> tuple[bytes, int]:
    """The body of a response, and how many bytes of it are JSON."""
    wanted = {output.name: output.parameters for output in request.outputs}
    default, binary = request.parameters["binary_data_output"].bool_param, []
    content = _plain(response)
    del content["raw_output_contents"]
    for tensor, raw in zip(content["outputs"], response.raw_output_contents, strict=True):
        parameters = wanted.get(tensor["name"], {})
        del tensor["contents"]
        if parameters["binary_data"].bool_param if "binary_data" in parameters else default:
            binary.append(raw)
            tensor["parameters"] = {"binary_data_size": len(raw)}
        else:
            tensor["data"] = to_lists(unpack(raw, DATATYPES[tensor["datatype"]], len(raw)))
    head = encode(content)
    return b"".join([head, *binary]), len(head)
