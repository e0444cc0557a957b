"""JSON of the REST API: bodies read strictly and within limits, numbers written as short as they can be read back.

Everything here blocks, so it runs on threads. json's C code keeps the other threads waiting while it parses, which is
what MOST_VALUES is for; the base64 text of pictures is read about as fast as it is copied.
"""

from __future__ import annotations

import binascii
import json
import zlib
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt

from serving.errors import InvalidArgument, StatusError

BASE64 = "b64"
"""{"b64": "…"} stands for bytes, in requests and in answers."""
MOST_VALUES = 2**22
"""Values in one body: 27 pictures of 224 × 224 pixels as lists of numbers; half a second on one core, up to 400 MB."""
AT_ONCE = 2**14
"""Numbers written before other threads get their turn."""
WHITESPACE = b" \t\r\n"
AS_GZIP = 31
"""zlib's `wbits` for the largest window, in gzip's format."""


class PayloadTooLarge(StatusError):
    """A body beyond --max-message-mb."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    http = 413


def too_large(max_bytes: int) -> PayloadTooLarge:
    """Names the limit."""
    return PayloadTooLarge(f"the body is larger than the {max_bytes} bytes that this server takes "
                           f"(--max-message-mb): send "
                    "fewer pictures in one call")


def unzip(body: bytes, max_bytes: int) -> bytes:
    """A gzip file of up to `max_bytes` when unpacked. Raises InvalidArgument, PayloadTooLarge before it takes more
    memory.
    """
    unpacking = zlib.decompressobj(AS_GZIP)
    try:
        unpacked = unpacking.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the body is not gzip, though Content-Encoding says so: {error}") from None
    if len(unpacked) > max_bytes:
        raise too_large(max_bytes)
    if not unpacking.eof or unpacking.unused_data:
        raise InvalidArgument("the body's gzip ends too early" if not unpacking.eof else "the body goes on after its "
                                                                                         "gzip")
    return unpacked


def parse(body: bytes) -> dict[str, Any]:
    """The object that a body holds. InvalidArgument for what RFC 8259 does not allow, such as NaN and Infinity."""
    if body.count(b",") >= MOST_VALUES:
        raise InvalidArgument(f"the body has more than {MOST_VALUES} values: send pictures as {{\"{BASE64}\": …}}, "
                              f"fewer "
                          "in one call, or arrays over gRPC")
    try:
        content = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"the body is not JSON: byte {error.start} is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise InvalidArgument("the body is nested too deeply: a tensor needs 4 levels of lists") from None
    except ValueError as error:  # a number of thousands of digits
        raise InvalidArgument(f"the body has a number that nobody can read: {error}") from None
    if not isinstance(content, dict):
        raise InvalidArgument(f"the body must be a JSON object, found {kind(content)}")
    return content


def _refuse_constant(name: str) -> None:
    raise InvalidArgument(f"the body has {name}, which is no number in JSON and none that a picture has")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise InvalidArgument("the body has an object with the same key twice: leave one of them out")
    return found


def kind(value: Any) -> str:
    """What JSON calls a value, for messages."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = ((dict, "an object"), (list, "a list"), (str, "a string"))
    return next((name for type_, name in names if isinstance(value, type_)), "a number")


def is_bytes(value: Any) -> bool:
    """Whether a value is {"b64": …}."""
    return isinstance(value, dict) and set(value) == {BASE64}


def read_bytes(value: Any, where: str) -> bytes:
    """{"b64": "…"} → bytes, in the ordinary alphabet; line ends and missing padding are forgiven. InvalidArgument."""
    if isinstance(value, str):
        raise InvalidArgument(f"{where} is a plain string: send the base64 of the bytes, as {{\"{BASE64}\": \"…\"}}")
    if not is_bytes(value) or not isinstance(value[BASE64], str):
        raise InvalidArgument(f"{where} must be {{\"{BASE64}\": \"…\"}}, found {kind(value)}")
    try:
        text = value[BASE64].encode("ascii").translate(None, WHITESPACE)
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except (UnicodeEncodeError, binascii.Error) as error:
        why = "it has other characters" if isinstance(error, UnicodeEncodeError) else str(error)
        raise InvalidArgument(f"{where} is not base64: {why}") from None


def write_values(array: npt.NDArray[Any], as_bytes: bool = False) -> list[str]:
    """JSON of each element along the first axis of a float32 array, or of one of bytes objects.

    Numbers have the fewest digits that give the same float32 again. What is not finite is written NaN, Infinity and
    -Infinity, as TensorFlow Serving does. `as_bytes`: bytes as {"b64": …}, else as text.
    """
    values = [_text(value, as_bytes) for value in array.ravel()] if array.dtype == object else _numbers(array.ravel())
    for size in reversed(array.shape[1:]):
        values = [f"[{','.join(values[at:at + size])}]" for at in range(0, len(values), size)]
    return values


def _numbers(array: npt.NDArray[np.float32]) -> list[str]:
    values: list[str] = []
    for at in range(0, len(array), AT_ONCE):
        values += array[at:at + AT_ONCE].astype(np.str_).tolist()
    if not np.isfinite(array).all():
        names = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
        values = [names.get(value, value) for value in values]
    return values


def _text(value: bytes, as_bytes: bool) -> str:
    if as_bytes:
        return json.dumps({BASE64: binascii.b2a_base64(value, newline=False).decode()})
    return json.dumps(value.decode("utf-8", "replace"), ensure_ascii=False)


def write_json(content: Any) -> str:
    """A line of JSON in which letters beyond ASCII stay readable."""
    return f"{json.dumps(content, ensure_ascii=False)}\n"


def write_list(items: Sequence[str]) -> str:
    """Texts of JSON values → text of the list of them."""
    return f"[{','.join(items)}]"


def write_object(items: dict[str, str]) -> str:
    """Texts of JSON values by their keys → text of the object."""
    return "{" + ",".join(f"{json.dumps(key)}:{value}" for key, value in items.items()) + "}"
