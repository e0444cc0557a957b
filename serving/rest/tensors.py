"""Bodies of the REST API's calls → arrays and pictures, and answers → bodies; the formats are TensorFlow Serving's.

Row format: "instances", one value or object for each picture, answered by "predictions". Column format: "inputs", one
tensor for all, answered by "outputs".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from serving.errors import InvalidArgument
from serving.inference import IMAGE_FEATURE, SIGNATURES, check_input
from serving.rest.json import is_bytes, kind, read_bytes, write_list, write_object, write_values
from serving.security.sanitize import printable

ANSWERED_BY = {"instances": "predictions", "inputs": "outputs"}
BINARY = "_bytes"
"""An output whose name ends so is bytes, not text: TensorFlow has one type for both."""
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Tensor:
    """The input of a Predict call."""

    array: npt.NDArray[Any]
    form: Literal["instances", "inputs"]


def read_signature_name(content: Mapping[str, Any]) -> str:
    """"signature_name", "" if there is none."""
    name = content.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidArgument(f"\"signature_name\" must be a string, found {kind(name)}")
    return name


def read_tensor(content: Mapping[str, Any], name: str, size: int) -> Tensor:
    """"instances" or "inputs" as the input of signature `name`, checked; `size` is the network's. InvalidArgument."""
    signature = SIGNATURES[name]
    if len(content.keys() & ANSWERED_BY.keys()) != 1:
        raise InvalidArgument("the body must have either \"instances\" (one value for each picture) or \"inputs\" (one "
                          f"tensor for all), found {'both' if 'inputs' in content else 'neither'}")
    form: Literal["instances", "inputs"] = "instances" if "instances" in content else "inputs"
    value = _instances(content[form], signature.input) if form == "instances" else content[form]
    if form == "inputs" and isinstance(value, dict) and not is_bytes(value):
        value = _named(value, signature.input, form)
    if signature.dtype == "string":
        array = _strings(value, form)
    else:
        array = _numbers(value, signature.dtype, len(signature.shape), form)
    check_input(name, signature.dtype, array.shape, size)
    return Tensor(array, form)


def _instances(value: Any, name: str) -> list[Any]:
    """Values of the rows, whether they come bare or as objects with the input's name."""
    if not isinstance(value, list) or not value:
        raise InvalidArgument("\"instances\" must be a list with one value for each picture, found "
                          f"{'an empty one' if value == [] else kind(value)}")
    named = [isinstance(item, dict) and not is_bytes(item) for item in value]
    if not any(named):
        return value
    if not all(named):
        raise InvalidArgument(f"instances[{named.index(not named[0])}] is {'no ' if named[0] else 'an '}object by "
                              f"name, "
                          "unlike those before it: write all the same way")
    return [_named(item, name, f"instances[{index}]") for index, item in enumerate(value)]


def _named(value: dict[str, Any], name: str, where: str) -> Any:
    if set(value) != {name}:
        found = ", ".join(repr(printable(key)) for key in sorted(value)[:5]) or "none"
        raise InvalidArgument(f"{where} must have the one input '{name}', found {found}")
    return value[name]


def _strings(value: Any, where: str) -> npt.NDArray[np.object_]:
    if not isinstance(value, list):
        raise InvalidArgument(f"{where} must be a list of pictures, found {kind(value)}")
    array = np.empty(len(value), dtype=object)
    for index, item in enumerate(value):
        array[index] = read_bytes(item, f"{where}[{index}]")
    return array


def _numbers(value: Any, dtype: Literal["uint8", "float32"], rank: int, where: str) -> npt.NDArray[Any]:
    """Nested lists of the same length at each level → an array of `rank` dimensions."""
    level: list[Any] = [value]
    shape = []
    for depth in range(rank):
        if not set(map(type, level)) <= {list}:
            wrong = next(item for item in level if type(item) is not list)
            raise InvalidArgument(f"{where} must be lists nested {rank} deep, found {kind(wrong)} at depth {depth}")
        lengths = set(map(len, level))
        if len(lengths) > 1:
            raise InvalidArgument(f"{where} has lists of {min(lengths)} and of {max(lengths)} elements at depth "
                                  f"{depth}: "
                              "they must be of one length")
        shape.append(lengths.pop() if lengths else 0)
        level = list(chain.from_iterable(level))
    allowed = {int} if dtype == "uint8" else {int, float}
    if not set(map(type, level)) <= allowed:
        wrong = next(item for item in level if type(item) not in allowed)
        found = f"the number {wrong:g}" if isinstance(wrong, float) else kind(wrong)
        wanted = "whole numbers from 0 to 255" if dtype == "uint8" else "numbers"
        raise InvalidArgument(f"{where} must be lists of {wanted}, nested {rank} deep, found {found}")
    return _in_range(level, dtype, where).reshape(shape)


def _in_range(numbers: Sequence[float], dtype: Literal["uint8", "float32"], where: str) -> npt.NDArray[Any]:
    try:
        array = np.array(numbers, dtype=np.float64)
    except OverflowError:  # a whole number beyond float64's
        array = np.array([np.inf])
    low, high = (0.0, 255.0) if dtype == "uint8" else (-LARGEST_FLOAT32, LARGEST_FLOAT32)
    if array.size and not (low <= array.min() and array.max() <= high):
        wrong = array.min() if array.min() < low else array.max()
        raise InvalidArgument(f"{where} has {wrong:g}, but {dtype} is from {low:g} to {high:g}")
    return array.astype(dtype)


def read_pictures(content: Mapping[str, Any]) -> list[bytes]:
    """"examples" (and "context", for what an example lacks) → the bytes of their pictures. Raises InvalidArgument."""
    examples, context = content.get("examples"), content.get("context", {})
    if not isinstance(examples, list) or not examples:
        found = "none" if examples is None else "an empty one" if examples == [] else kind(examples)
        raise InvalidArgument("the body must have a list \"examples\", such as "
                          f"[{{\"{IMAGE_FEATURE}\": {{\"b64\": \"…\"}}}}], found {found}")
    if not isinstance(context, dict):
        raise InvalidArgument(f"\"context\" must be an object of features, found {kind(context)}")
    return [_picture(example, context, f"examples[{index}]") for index, example in enumerate(examples)]


def _picture(example: Any, context: dict[str, Any], where: str) -> bytes:
    if not isinstance(example, dict):
        raise InvalidArgument(f"{where} must be an object of features, found {kind(example)}")
    value = example.get(IMAGE_FEATURE, context.get(IMAGE_FEATURE, []))
    if isinstance(value, list):
        if len(value) != 1:
            raise InvalidArgument(f"{where} must have one bytes value as '{IMAGE_FEATURE}', found {len(value)}")
        value = value[0]
    return read_bytes(value, f"{where}['{IMAGE_FEATURE}']")


def write_outputs(outputs: Mapping[str, npt.NDArray[Any]], form: Literal["instances", "inputs"]) -> bytes:
    """The answer in the form of the question; a single output comes without its name."""
    columns = {name: write_values(array, name.endswith(BINARY)) for name, array in outputs.items()}
    if len(columns) == 1:
        (rows,) = columns.values()
        text = write_list(rows)
    elif form == "instances":
        text = write_list([write_object(dict(zip(columns, row, strict=True)))
                           for row in zip(*columns.values(), strict=True)])
    else:
        text = write_object({name: write_list(rows) for name, rows in columns.items()})
    return f"{write_object({ANSWERED_BY[form]: text})}\n".encode()


def write_classifications(labels: Sequence[str], scores: npt.NDArray[np.float32]) -> bytes:
    """{"results": [[[label, score], …] of each example]}.

    TensorFlow Serving's documentation says "result"; what it sends is "results".
    """
    names = write_values(np.array([label.encode() for label in labels], dtype=object))
    pairs = [write_list([write_list(pair) for pair in zip(names, write_values(row), strict=True)]) for row in scores]
    return f"{write_object({'results': write_list(pairs)})}\n".encode()
