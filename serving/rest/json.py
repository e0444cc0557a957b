"""JSON of the REST API: bodies read strictly and within limits, numbers written with the fewest digits.

Reading and writing JSON blocks, so it runs on threads. json's C code blocks the other threads while it parses, which
MOST_VALUES limits; the base64 text of images is read about as fast as it is copied.

TensorFlow Serving has two formats for Predict. Rows: "instances", one value or object for each image, answered by
"predictions". Columns: "inputs", one tensor for all, answered by "outputs".
"""

from __future__ import annotations

import asyncio
import binascii
import json
import re
import zlib
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any, Literal

import grpc
import numpy as np
import numpy.typing as npt
from aiohttp import web

from serving.arrivals import HTTP_COST, VALUE_COST
from serving.errors import InvalidArgument, StatusError
from serving.models.signatures import check_input, signature_name
from serving.request_context import current_request
from serving.request_middleware import MIDDLEWARE, RequestMiddleware
from serving.security.sanitize import printable
from voc_cls.model_metadata import IMAGE_FEATURE, SIGNATURES, Signature, signatures_of

BASE64 = "b64"
"""{"b64": "…"} stands for bytes."""
MOST_VALUES = 2**22
"""Values in one body: 27 pictures of 224 × 224 pixels as lists of numbers; half a second on one core, up to 400 MB."""
ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
WHITESPACE = b" \t\r\n"
DATA_URL = re.compile(r"\s*data:[^,]{0,200};base64,", re.IGNORECASE)
"""What a browser's FileReader writes before the base64 of a file (RFC 2397)."""
URL_SAFE = bytes.maketrans(b"-_", b"+/")
"""The alphabet of RFC 4648, section 5, to that of section 4."""
Form = Literal["instances", "inputs"]
RESPONSE_KEYS = {"instances": "predictions", "inputs": "outputs"}
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
AS_GZIP = 47
"""zlib's `wbits` for the largest window, in the format of gzip or of zlib, which HTTP calls deflate."""


class PayloadTooLarge(StatusError):
    """A body larger than `max_message_mb`."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"the body is larger than the {max_bytes} bytes that this server takes (`max_message_mb`): "
                         "send fewer pictures in one call", http=413)


async def read_body(request: web.Request, max_bytes: int) -> bytes | bytearray:
    """A body of up to `max_bytes`, unpacked; refuses more, by Content-Length before anything is read.

    Raises InvalidArgument or PayloadTooLarge.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "deflate"):
        raise InvalidArgument(f"Content-Encoding '{printable(encoding)}' is not supported: send gzip, deflate or none",
                              http=415)
    if (request.content_length or 0) > max_bytes:
        raise PayloadTooLarge(max_bytes)
    middleware: RequestMiddleware = request[MIDDLEWARE]
    call = current_request.get(None)  # health checks have none
    arrivals = middleware.arrivals
    content: bytes | bytearray = bytearray()
    async with arrivals.wait((request.remote or "") if call is None else call.client,
                             in_flight=call is not None and call.counted) as arrival:
        try:
            async for chunk in request.content.iter_any():
                content += chunk
                if len(content) > max_bytes:
                    raise PayloadTooLarge(max_bytes)
                arrivals.count(arrival, _memory(chunk))
        except web.RequestPayloadError as error:
            raise InvalidArgument(f"the body could not be read: {error}") from None
        if encoding != "identity":
            async with arrivals.unpacking:
                content = await asyncio.to_thread(unzip, content, max_bytes)
                memory = await asyncio.to_thread(_memory, content)
            arrivals.count(arrival, memory)
    if call is not None:
        middleware.arrived(call, arrival.counted)
    return content


def _memory(content: bytes | bytearray) -> int:
    """Bytes of memory that part of a body takes until it is answered."""
    return HTTP_COST * len(content) + VALUE_COST * content.count(b",")


def unzip(body: bytes | bytearray, max_bytes: int) -> bytes:
    """Unpacks gzip or deflate, up to `max_bytes`.

    Raises InvalidArgument, and PayloadTooLarge before it takes more memory.
    """
    unpacking = zlib.decompressobj(AS_GZIP)
    try:
        unpacked = unpacking.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the body is not packed as Content-Encoding says: {error}") from None
    if len(unpacked) > max_bytes:
        raise PayloadTooLarge(max_bytes)
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidArgument("the packed body ends too early" if not unpacking.eof
                              else "the packed body has more bytes after its end")
    return unpacked


def parse(body: bytes | bytearray) -> dict[str, Any]:
    """The object in a body. InvalidArgument for what RFC 8259 does not allow, such as NaN and Infinity."""
    if body.count(b",") >= MOST_VALUES:
        raise InvalidArgument(f"the body has more than {MOST_VALUES} values: send pictures as {{\"{BASE64}\": …}}, "
                              "fewer in one call, or arrays over gRPC")
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
        if b"\\ud" in body or b"\\uD" in body:
            ENCODER.encode(content).encode()
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the body is not JSON: byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"the body is not JSON: {error}") from None
    except UnicodeEncodeError:
        raise InvalidArgument("the body has half of a surrogate pair, such as \\ud800 alone: send text as UTF-8"
                              ) from None
    except RecursionError:
        raise InvalidArgument("the body is nested too deeply: a tensor needs 4 levels of lists") from None
    except ValueError:
        raise InvalidArgument("the body has a number that cannot be read: it has thousands of digits") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"the body must be a JSON object, found {kind(content)}")
    return content


def _refuse_constant(name: str) -> None:
    raise InvalidArgument(f"the body has {name}, which is not a number in JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise InvalidArgument("the body has an object with the same key twice: omit one of them")
    return content


def kind(value: Any) -> str:
    """The JSON type of a value, for messages."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = ((dict, "an object"), (list, "a list"), (str, "a string"))
    return next((name for type_, name in names if isinstance(value, type_)), "a number")


def is_bytes(value: Any) -> bool:
    """Whether a value is {"b64": …}."""
    return isinstance(value, dict) and set(value) == {BASE64}


def read_bytes(value: Any, where: str) -> bytes:
    """{"b64": "…"} → bytes; InvalidArgument.

    The standard or the URL-safe alphabet; white space, missing padding and "data:image/jpeg;base64," are allowed.
    """
    if isinstance(value, str):
        raise InvalidArgument(f"{where} is a plain string: send the base64 of the bytes, as {{\"{BASE64}\": \"…\"}}")
    if not is_bytes(value) or not isinstance(value[BASE64], str):
        found = f"{{\"{BASE64}\": {kind(value[BASE64])}}}" if is_bytes(value) else kind(value)
        raise InvalidArgument(f"{where} must be {{\"{BASE64}\": \"…\"}}, found {found}")
    try:
        prefix = DATA_URL.match(value[BASE64])
        text = value[BASE64][prefix.end() if prefix else 0:].encode("ascii").translate(URL_SAFE, WHITESPACE)
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        why = "it has other characters" if isinstance(error, UnicodeEncodeError) else str(error)
        raise InvalidArgument(f"{where} is not base64: {why}") from None


def read_signature_name(content: Mapping[str, Any]) -> str:
    """"signature_name", "" if there is none."""
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(f"\"signature_name\" must be a string, found {kind(name)}")
    return name


def read_predict_input(content: Mapping[str, Any], model: str, image_size: int,
                       known: Collection[str] = tuple(signatures_of(augmented=False))
                       ) -> tuple[str, npt.NDArray[Any], Form]:
    """The signature of a body, its input, checked, and where that was. Raises InvalidArgument, NotFound.

    `model`: its name, for messages; `image_size`: of the network's input, pixels; `known`: names of its
    signatures.
    """
    name = signature_name(model, read_signature_name(content), known)
    signature = SIGNATURES[name]
    if len(content.keys() & RESPONSE_KEYS.keys()) != 1:
        raise InvalidArgument("the body must have either \"instances\" (one value for each picture) or \"inputs\" (one "
                              f"tensor for all), found {'both' if 'inputs' in content else 'neither'}")
    form: Form = "instances" if "instances" in content else "inputs"
    value = _instances(content[form], signature) if form == "instances" else content[form]
    if form == "inputs" and isinstance(value, dict) and not is_bytes(value):
        value = _named(value, signature, form)
    if signature.dtype == "string":
        array = read_strings(value, form)
    else:
        array = read_numbers(value, signature.dtype, len(signature.shape), form)
    check_input(name, signature.dtype, array.shape, image_size)
    return name, array, form


def _instances(value: Any, signature: Signature) -> list[Any]:
    """Values of the rows, whether they are bare or objects with the input's name."""
    if not isinstance(value, list) or not value:
        raise InvalidArgument("\"instances\" must be a list with one value for each picture, found "
                              f"{'an empty one' if value == [] else kind(value)}")
    named = [isinstance(item, dict) and not is_bytes(item) for item in value]
    if not any(named):
        return value
    if not all(named):
        raise InvalidArgument(f"instances[{named.index(not named[0])}] is {'no ' if named[0] else 'an '}object by "
                              "name, unlike those before it: write all the same way")
    return [_named(item, signature, f"instances[{index}]") for index, item in enumerate(value)]


def _named(value: dict[str, Any], signature: Signature, where: str) -> Any:
    if not (len(value) == 1 and value.keys() <= {signature.input, *signature.other_names}):
        names = ", ".join(repr(printable(key)) for key in sorted(value)[:5]) or "none"
        raise InvalidArgument(f"{where} must have the one input '{signature.input}', found {names}")
    return next(iter(value.values()))


def read_strings(value: Any, where: str) -> npt.NDArray[np.object_]:
    """A list of pictures, or one without a list around it, which TensorFlow Serving's column format allows."""
    if not isinstance(value, list):
        return np.array([read_bytes(value, where)], dtype=object)
    return np.array([read_bytes(item, f"{where}[{index}]") for index, item in enumerate(value)], dtype=object)


def read_numbers(value: Any, dtype: Literal["uint8", "float32"], rank: int, where: str) -> npt.NDArray[Any]:
    """Nested lists of the same length at each level → an array of `rank` dimensions.

    5.0 counts as the whole number 5: Keras' img_to_array gives such pixels.
    """
    level: list[Any] = [value]
    shape = []
    for depth in range(rank):
        if not set(map(type, level)) <= {list}:
            wrong = next(item for item in level if type(item) is not list)
            raise InvalidArgument(f"{where} must be lists nested {rank} deep, found {kind(wrong)} at depth {depth}")
        lengths = set(map(len, level))
        if len(lengths) > 1:
            raise InvalidArgument(f"{where} has lists of {min(lengths)} and of {max(lengths)} elements at depth "
                                  f"{depth}: they must be of one length")
        shape.append(lengths.pop() if lengths else 0)
        level = list(chain.from_iterable(level))
    wanted = f"must be lists of {'whole numbers from 0 to 255' if dtype == 'uint8' else 'numbers'}, nested {rank} deep"
    types = set(map(type, level))
    if not types <= {int, float}:
        wrong = next(item for item in level if type(item) not in (int, float))
        raise InvalidArgument(f"{where} {wanted}, found {kind(wrong)}")
    try:
        array = np.array(level, dtype=np.float64)
    except OverflowError:  # a whole number beyond float64's
        array = np.array([np.inf])
    low, high = (0.0, 255.0) if dtype == "uint8" else (-LARGEST_FLOAT32, LARGEST_FLOAT32)
    if array.size and not (low <= array.min() and array.max() <= high):
        extreme = array.min() if array.min() < low else array.max()
        raise InvalidArgument(f"{where} has {extreme:g}, but {dtype} is from {low:g} to {high:g}")
    if dtype == "uint8" and float in types and (fractions := array[array != np.trunc(array)]).size:
        raise InvalidArgument(f"{where} {wanted}, found the number {fractions[0]}")
    return array.astype(dtype).reshape(shape)


def read_images(content: Mapping[str, Any]) -> list[bytes]:
    """"examples" (and "context", for what an example lacks) → the bytes of their images. Raises InvalidArgument."""
    examples, context = content.get("examples"), content.get("context", {})
    if not isinstance(examples, list) or not examples:
        examples_kind = "none" if examples is None else "an empty one" if examples == [] else kind(examples)
        raise InvalidArgument("the body must have a list \"examples\", such as "
                              f"[{{\"{IMAGE_FEATURE}\": {{\"b64\": \"…\"}}}}], found {examples_kind}")
    if not isinstance(context, dict):
        raise InvalidArgument(f"\"context\" must be an object of features, found {kind(context)}")
    return [_image(example, context, f"examples[{index}]") for index, example in enumerate(examples)]


def _image(example: Any, context: dict[str, Any], where: str) -> bytes:
    if not isinstance(example, dict):
        raise InvalidArgument(f"{where} must be an object of features, found {kind(example)}")
    value = example.get(IMAGE_FEATURE, context.get(IMAGE_FEATURE, []))
    if isinstance(value, list):
        if len(value) != 1:
            raise InvalidArgument(f"{where} must have one bytes value as '{IMAGE_FEATURE}', found {len(value)}")
        value = value[0]
    return read_bytes(value, f"{where}['{IMAGE_FEATURE}']")


def to_lists(array: npt.NDArray[Any]) -> list[Any]:
    """A float32 array, or one of bytes objects, which become text, as nested lists for JSON.

    Numbers have the fewest digits that give the same float32 again.
    """
    if array.ndim > 2:  # in parts, so that other threads get their turn
        return [to_lists(part) for part in array]
    if array.dtype == object:
        array = np.frompyfunc(lambda value: value.decode("utf-8", "replace"), 1, 1)(array)
    else:
        array = array.astype(np.str_).astype(np.float64)
    return list(array.tolist())


def write_outputs(outputs: Mapping[str, npt.NDArray[Any]], form: Form) -> bytes:
    """The response in the form of the request; a single output is written without its name."""
    columns = {name: to_lists(array) for name, array in outputs.items()}
    content: Any = columns
    if len(columns) == 1:
        (content,) = columns.values()
    elif form == "instances":
        content = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return encode({RESPONSE_KEYS[form]: content})


def write_classifications(labels: Sequence[str], scores: npt.NDArray[np.float32]) -> bytes:
    """{"results": [[[label, score], …] of each example]}.

    TensorFlow Serving's documentation says "result"; what it sends is "results".
    """
    return encode({"results": [list(zip(labels, row, strict=True)) for row in to_lists(scores)]})


def encode(content: dict[str, Any]) -> bytes:
    """A line of JSON; NaN and infinities as NaN, Infinity and -Infinity, as TensorFlow Serving does."""
    # iterencode, written in Python, lets other threads have their turn; dumps, in C, does not before its end
    return f"{''.join(ENCODER.iterencode(content))}\n".encode()
