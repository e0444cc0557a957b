"""inference.GRPCInferenceService: the Open Inference Protocol for the clients of KServe and Triton.

A request has one of three inputs, told apart by their names, and all are answered with probabilities and logits. The
HTTP form of the protocol is made of these messages too: see serving.rest.open_inference.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable, Unimplemented
from serving.inference import Outputs, compute
from serving.models.model import VersionState
from serving.models.registry import ModelRegistry
from serving.models.servable import Servable
from serving.models.signatures import check_input
from serving.request_context import current_request
from serving.security.sanitize import printable
from serving.v2 import open_inference_pb2 as messages
from serving.v2 import open_inference_pb2_grpc
from voc_cls.model_metadata import DEFAULT, SIGNATURES, version_number
from voc_cls.version import __version__

DATATYPES = {"BYTES": "string", "UINT8": "uint8", "FP32": "float32"}
"""The protocol's names of the types that the signatures take."""
CONTENTS = {"BYTES": "bytes_contents", "UINT8": "uint_contents", "FP32": "fp32_contents"}
INPUTS = {SIGNATURES[name].input: name for name in (DEFAULT, "predict_images", "predict_tensors")}
"""Name of an input → the signature that takes it."""
OUTPUTS = ("probabilities", "logits")
PLATFORM = "tensorflow_savedmodel"
STATES = {VersionState.AVAILABLE: "READY", VersionState.UNLOADING: "UNLOADING", VersionState.END: "UNAVAILABLE"}
"""Of the repository's index; every other state is LOADING."""
MOST_ELEMENTS = 2**22
"""Numbers in a typed field; each is an object of Python for a moment, so the limit is that of JSON."""


class InferenceService(open_inference_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """See proto/serving/v2/open_inference.proto."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    async def ServerLive(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        return messages.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        return messages.ServerReadyResponse(ready=self._models.ready)

    async def ModelReady(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        try:
            with self._models.use(request.name, *version_of(request.version)) as servable:
                return messages.ModelReadyResponse(ready=self._models.ready_model(servable.name))
        except (FailedPrecondition, NotFound, Unavailable):
            return messages.ModelReadyResponse(ready=False)

    async def ServerMetadata(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        return messages.ServerMetadataResponse(name="voc-serve", version=__version__, extensions=[
            "binary_tensor_data", "classification", "model_configuration", "model_repository", "parameters"])

    async def ModelMetadata(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        """One input: tools send all that are listed."""
        with self._models.use(request.name, *version_of(request.version)) as servable:
            versions, labels = self._models.versions(servable.name).items(), len(servable.metadata.labels)
            return messages.ModelMetadataResponse(
                name=servable.name, platform=PLATFORM,
                versions=[str(number) for number, version in versions if version.state is VersionState.AVAILABLE],
                inputs=[{"name": "image_bytes", "datatype": "BYTES", "shape": [-1, 1]}],
                outputs=[{"name": name, "datatype": "FP32", "shape": [-1, labels]} for name in OUTPUTS])

    async def ModelConfig(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        with self._models.use(request.name, *version_of(request.version)) as servable:
            return messages.ModelConfigResponse(config=messages.ModelConfig(
                name=servable.name, platform=PLATFORM, max_batch_size=servable.batcher.sizes[-1],
                input=[{"name": "image_bytes", "data_type": "TYPE_STRING", "dims": [1]}],
                output=[{"name": name, "data_type": "TYPE_FP32", "dims": [len(servable.metadata.labels)]}
                        for name in OUTPUTS]))

    async def ModelInfer(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        with self._models.use(request.model_name, *version_of(request.model_version)) as servable:
            call, timeout = current_request.get(), request.parameters["timeout"].int64_param  # microseconds
            if timeout > 0:
                call.deadline = min(asyncio.get_running_loop().time() + timeout / 1e6, call.deadline or math.inf)
            signature, array = await servable.on_thread(_read_input, request, servable)
            scores = await compute(servable, signature, array, SIGNATURES[signature].input)
            return await servable.on_thread(_response, request, scores, servable)

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: ARG002
        raise Unimplemented("ModelStreamInfer is not supported: call ModelInfer, or ClassifyStream of "
                            "voc_cls.v1.Classifier")
        yield

    async def RepositoryIndex(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        entries = []
        for name in self._models.names:
            versions = self._models.versions(name)
            entries += [{"name": name, "version": str(number), "state": STATES.get(version.state, "LOADING"),
                         "reason": version.status["error_message"]} for number, version in versions.items()]
            if not versions:
                entries.append({"name": name, "state": "UNAVAILABLE", "reason": "unloaded"})
        return messages.RepositoryIndexResponse(models=[
            entry for entry in entries if entry["state"] == "READY" or not request.ready])

    async def RepositoryModelLoad(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        if request.parameters:
            raise InvalidArgument(f"parameters of a load are not supported, found {printable(min(request.parameters))}:"
                                  " the configuration is the server's; omit them")
        await self._models.load(request.model_name)
        return messages.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: Any = None) -> Any:  # noqa: ARG002
        await self._models.unload(request.model_name)
        return messages.RepositoryModelUnloadResponse()


def version_of(text: str) -> tuple[int | None, str]:
    """Number and label of the version that a request names; "" and 0, the latest, are none."""
    number = version_number(text)
    return number or None, text if number is None else ""


def _read_input(request: Any, servable: Servable) -> tuple[str, npt.NDArray[Any]]:
    """The signature that takes the input of a request, and its array. Blocks; raises InvalidArgument."""
    raw, wanted = request.raw_input_contents, [output.name for output in request.outputs[:3]]
    if len(wanted) > len(set(wanted) & set(OUTPUTS)):  # each of many would be written
        raise InvalidArgument(f"outputs are {', '.join(OUTPUTS)}, each once, or none for both; found "
                              f"{', '.join(map(printable, wanted))}")
    if len(request.inputs) != 1 or request.inputs[0].name not in INPUTS:
        names = ", ".join(printable(tensor.name) for tensor in request.inputs[:5]) or "none"
        raise InvalidArgument(f"a request takes one of the inputs {', '.join(INPUTS)}, found {names}")
    (tensor,) = request.inputs
    if raw and (len(raw) > 1 or tensor.contents.ListFields()):
        raise InvalidArgument(f"input '{tensor.name}' has its elements more than once: send contents, or one entry of "
                              "raw_input_contents")
    signature, dtype, shape = INPUTS[tensor.name], DATATYPES.get(tensor.datatype, ""), tuple(tensor.shape)
    if dtype == "string" and shape[1:] == (1,):
        shape = shape[:1]  # Triton's tools know no tensor without dimensions, so they add one
    check_input(signature, dtype or printable(tensor.datatype), shape, servable.metadata.preprocessing.size)
    servable.capacity.check(shape[0])
    array = unpack(raw[0], dtype, shape[0]) if raw else _elements(tensor, dtype)
    if array.size != math.prod(shape):
        raise InvalidArgument(f"input '{tensor.name}' states the shape {list(tensor.shape)}, but has {array.size} "
                              "elements")
    return signature, array.reshape(shape)


def _elements(tensor: Any, dtype: str) -> npt.NDArray[Any]:
    """The elements of a typed field."""
    elements = getattr(tensor.contents, CONTENTS[tensor.datatype])
    if dtype == "string":
        return np.array(list(elements), object)
    if len(elements) > MOST_ELEMENTS:
        raise InvalidArgument(f"input '{tensor.name}' has more than {MOST_ELEMENTS} elements: send raw_input_contents")
    array = np.array(elements, np.uint32 if dtype == "uint8" else dtype)
    if dtype == "uint8" and array.max(initial=0) > 255:
        raise InvalidArgument(f"input '{tensor.name}' has {array.max()}, but UINT8 is from 0 to 255")
    return array.astype(dtype, copy=False)


def _response(request: Any, scores: Outputs, servable: Servable) -> Any:
    """The outputs in the form of the request; with the parameter `classification`, the best labels as text."""
    response = messages.ModelInferResponse(model_name=servable.name, model_version=str(servable.version), id=request.id)
    wanted = {output.name: output.parameters for output in request.outputs} or {name: {} for name in OUTPUTS}
    for name, parameters in wanted.items():
        array, datatype = scores[name], "FP32"
        if "classification" in parameters:  # "VALUE:INDEX:LABEL", as Triton writes it
            if (number := parameters["classification"].int64_param) < 1:
                raise InvalidArgument("classification must be a number of labels from 1, found another value")
            best = np.argsort(-array, axis=1, kind="stable")[:, :number]
            array = np.array([[f"{array[row, column]:f}:{column}:{servable.metadata.labels[column]}".encode()
                               for column in columns] for row, columns in enumerate(best)], object)
            datatype = "BYTES"
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(pack(array))
        else:
            getattr(tensor.contents, CONTENTS[datatype]).extend(array.ravel().tolist())
    return response


def pack(array: npt.NDArray[Any]) -> bytes:
    """The binary form: little-endian numbers, or strings, each after its length."""
    if array.dtype == object:
        return b"".join(struct.pack("<I", len(string)) + string for string in array.ravel())
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def unpack(content: bytes, dtype: str, most: int) -> npt.NDArray[Any]:
    """The elements of a binary form; of strings, no more than `most` and one. Raises InvalidArgument."""
    if dtype != "string":
        item = np.dtype(dtype).newbyteorder("<")
        if len(content) % item.itemsize:
            raise InvalidArgument(f"{len(content)} bytes are not {dtype} elements of {item.itemsize} bytes each")
        return np.frombuffer(content, item).astype(dtype, copy=False)
    strings: list[bytes] = []
    position = 0
    while position + 4 <= len(content) and len(strings) <= most:
        end = position + 4 + struct.unpack_from("<I", content, position)[0]
        strings.append(content[position + 4:end])
        position = end
    if position != len(content) and len(strings) <= most:
        raise InvalidArgument("the binary form of BYTES is cut off: each string follows its length, 4 bytes, the "
                              "lowest first")
    return np.array(strings, object)
