"""tensorflow.serving.PredictionService and ModelService: TensorFlow Serving's clients work unchanged."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from serving.config.models import ModelSettings, VersionPolicy, check_labels, check_names
from serving.errors import InvalidArgument, Unimplemented
from serving.inference import check_classification, classify_examples, predict, refuse_regression
from serving.models import signatures
from serving.models.registry import ModelRegistry
from serving.models.servable import Servable
from serving.security.sanitize import check_model_name, printable
from serving.tensorflow_protos import POOL, messages
from voc_cls.errors import UsageError
from voc_cls.model_metadata import CLASSIFY, SIGNATURES

log = logging.getLogger(__name__)

SIGNATURE_DEF = "signature_def"
"""The only metadata field that TensorFlow Serving knows."""
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
PLATFORM = "tensorflow"
"""The model_platform of a SavedModel."""
FILLED_BYTES, FILLED_TIMES = 1 << 16, 8
"""How many bytes a tensor may fill with fewer values than its shape has, whatever it was sent in, or for each byte of
that: only what was sent counts as memory."""
OTHER = POOL.FindEnumTypeByName("tensorflow.serving.ModelType").values_by_name["OTHER"].number
VALUES = {"string": "string_val", "uint8": "int_val", "float32": "float_val"}
"""The typed field of a TensorProto, by the types that the signatures take."""


class PredictionService:
    """Predict, Classify, MultiInference and GetModelMetadata; Regress is refused, as nothing here is a regression."""

    def __init__(self, models: ModelRegistry, max_message_bytes: int) -> None:
        self._models = models
        self._max_message_bytes = max_message_bytes

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        """Tensors in, tensors out, by the name of a signature."""
        with self._models.use(*_requested_version(request.model_spec)) as servable:
            name = signatures.signature_name(servable.name, request.model_spec.signature_name,
                                             servable.metadata.signatures)
            array = await servable.on_thread(_read_input, name, request.inputs, servable.metadata.preprocessing.size,
                                             self._max_message_bytes)
            outputs = await predict(servable, name, array, request.output_filter, next(iter(request.inputs)))
            tensors = await servable.on_thread(
                lambda: {output: _write_tensor(array) for output, array in outputs.items()})
            return messages.PredictResponse(outputs=tensors, model_spec=_model_spec(servable, name))

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        """tf.Examples in, every label with its score out, in the order of the model's labels."""
        with self._models.use(*_requested_version(request.model_spec)) as servable:
            check_classification(servable, request.model_spec.signature_name)
            return messages.ClassificationResponse(result=await _classify(servable, request.input),
                                                   model_spec=_model_spec(servable, CLASSIFY))

    async def Regress(self, request: Any, context: Any) -> None:  # noqa: ARG002
        with self._models.use(*_requested_version(request.model_spec)):
            refuse_regression()

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        """Several tasks on the same tf.Examples; these models have one: classify."""
        if not request.tasks:
            raise InvalidArgument(f"tasks is empty: send one with the method_name '{CLASSIFY_METHOD}'")
        with self._models.use(*_requested_version(request.tasks[0].model_spec)) as servable:
            _check_tasks(servable, request.tasks)
            return messages.MultiInferenceResponse(results=[
                {"classification_result": await _classify(servable, request.input),
                 "model_spec": _model_spec(servable, CLASSIFY)}])

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        with self._models.use(*_requested_version(request.model_spec)) as servable:
            if not request.metadata_field:
                raise InvalidArgument(f"metadata_field is empty; this server knows '{SIGNATURE_DEF}'")
            if unknown := sorted(set(request.metadata_field) - {SIGNATURE_DEF}):
                raise InvalidArgument(f"metadata_field {', '.join(map(printable, unknown[:5]))} is unknown; this "
                                      f"server knows '{SIGNATURE_DEF}'")
            response = messages.GetModelMetadataResponse(model_spec=_model_spec(servable))
            response.metadata[SIGNATURE_DEF].Pack(servable.signatures)
            return response


async def _classify(servable: Servable, example_input: Any) -> Any:
    """Every label with its score, for each tf.Example; these are copied on a thread, as they may be many megabytes."""
    with_context = example_input.example_list_with_context  # empty if the call has an example_list
    examples = example_input.example_list.examples or with_context.examples
    images = await servable.on_thread(signatures.read_examples, examples, "examples", with_context.context)
    scores = await classify_examples(servable, images)
    return messages.ClassificationResult(classifications=[
        {"classes": [{"label": label, "score": score}
                     for label, score in zip(servable.metadata.labels, row, strict=True)]}
        for row in scores.tolist()])


def _check_tasks(servable: Servable, tasks: Any) -> None:
    """As in TensorFlow Serving: tasks are of one model, each a classification by another signature. Here is one."""
    for index, task in enumerate(tasks):
        if task.method_name == REGRESS_METHOD:
            refuse_regression()
        if task.method_name != CLASSIFY_METHOD:
            raise Unimplemented(f"tasks[{index}].method_name is '{printable(task.method_name)}': this server knows "
                                f"'{CLASSIFY_METHOD}'")
        if _requested_version(task.model_spec) != _requested_version(tasks[0].model_spec):
            raise InvalidArgument(f"tasks[{index}] has another model or version than tasks[0]: all tasks of a "
                                  "call must be for the same")
        check_classification(servable, task.model_spec.signature_name)
        if index:
            raise InvalidArgument(f"tasks[{index}] has the signature '{CLASSIFY}' again: once is enough")


def _requested_version(spec: Any) -> tuple[str, int | None, str]:
    """Of a ModelSpec: name ("" for the server's only model), version number if set, version label if set.

    Version 0, which voc-export never writes, is none: so ovmsclient asks for the latest.
    """
    return spec.name, spec.version.value or None, spec.version_label


def _model_spec(servable: Servable, signature: str = "") -> dict[str, Any]:
    """Says in a response which version has answered."""
    return {"name": servable.name, "version": {"value": servable.version}, "signature_name": signature}


def _read_input(name: str, inputs: Mapping[str, Any], image_size: int, max_bytes: int) -> npt.NDArray[Any]:
    """The one input tensor of a call to signature `name`, as an array (bytes objects for strings); InvalidArgument.

    `max_bytes`: memory that it may take, as TensorProto may state a shape of any size and give a single value to fill
    it with; see also FILLED_BYTES.
    """
    signature = SIGNATURES[name]
    if not (len(inputs) == 1 and inputs.keys() <= {signature.input, *signature.other_names}):
        raise InvalidArgument(f"signature '{name}' takes one input, '{signature.input}'; the call has "
                              f"{', '.join(repr(printable(key)) for key in sorted(inputs)[:5]) or 'none'}")
    (tensor,) = inputs.values()
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
    signatures.check_input(name, signatures.dtype_name(tensor.dtype), shape, image_size)
    item_bytes = 8 if signature.dtype == "string" else np.dtype(signature.dtype).itemsize  # a pointer to each string
    if (filled := math.prod(shape) * item_bytes) > max_bytes:
        raise InvalidArgument(f"input '{signature.input}' would fill {filled} bytes, more than the {max_bytes} that a "
                              "message may have (`max_message_mb`)")
    if filled > max(FILLED_BYTES, FILLED_TIMES * (sent := tensor.ByteSize())):
        raise InvalidArgument(f"input '{signature.input}' states a shape of {filled} bytes and comes with {sent}: send "
                              "all of its elements")
    if signature.dtype == "string" and not tensor.string_val:  # TensorFlow would make empty text of them, not bytes
        raise InvalidArgument(f"input '{signature.input}' states {shape[0]} strings and has none in string_val")
    try:
        return _elements(tensor, signature.dtype, math.prod(shape)).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f"input '{signature.input}' is not a tensor of the shape it states: {error}") from None


def _elements(tensor: Any, dtype: str, number: int) -> npt.NDArray[Any]:
    """As tf.make_ndarray: the last value of a typed field stands for those that are left out, 0 for all numbers."""
    if tensor.tensor_content and dtype != "string":
        return np.frombuffer(tensor.tensor_content, np.dtype(dtype).newbyteorder("<"))
    values = np.fromiter(getattr(tensor, VALUES[dtype]) or [0], object if dtype == "string" else dtype)
    missing = number - len(values)
    return np.concatenate([values, np.repeat(values[-1:], missing)]) if missing > 0 else values


def _write_tensor(array: npt.NDArray[Any]) -> Any:
    """An array as TensorFlow Serving answers it: in the typed field (float_val, string_val), not as tensor_content.

    Clients without TensorFlow read those fields directly.
    """
    shape = {"dim": [{"size": size} for size in array.shape]}
    if array.dtype == object:
        return messages.TensorProto(dtype="DT_STRING", tensor_shape=shape, string_val=array.ravel())
    return messages.TensorProto(dtype="DT_FLOAT", tensor_shape=shape, float_val=array.ravel().tolist())


class ModelService:
    """GetModelStatus and HandleReloadConfigRequest."""

    def __init__(self, models: ModelRegistry) -> None:
        self._models = models

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        """The states of all versions of a model, or of the one that model_spec has the number or label of."""
        return messages.GetModelStatusResponse(model_version_status=[
            {"version": number, "state": version.state.value, "status": version.status}
            for number, version in self._models.versions(*_requested_version(request.model_spec)).items()])

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        """Serves the models of model_config_list instead of the present ones.

        As with TensorFlow Serving, an error is the status of the call; the `status` of a response is OK.
        """
        try:
            settings = _read_models(request)
        except (InvalidArgument, UsageError) as error:  # of the configuration's own, the same sentence
            log.warning("a reload is refused: %s", error)
            raise InvalidArgument(str(error)) from None
        await self._models.reload(settings)
        return messages.ReloadConfigResponse(status={"error_code": "OK"})


def _read_models(request: Any) -> tuple[ModelSettings, ...]:
    """The models of a reload. Raises InvalidArgument or UsageError naming the entry and the field."""
    if request.config.WhichOneof("config") != "model_config_list":
        raise InvalidArgument("config must be a model_config_list, the only kind that this server knows")
    if request.metric_names:
        raise InvalidArgument("metric_names are not answered: read /metrics on the HTTP port, and omit them")
    where = "config.model_config_list"
    models = tuple(_model_settings(entry, f"{where}.config[{index}]")
                   for index, entry in enumerate(request.config.model_config_list.config))
    check_names(models, where)
    return models


def _model_settings(entry: Any, where: str) -> ModelSettings:
    if not entry.base_path:
        raise InvalidArgument(f"{where}.base_path is empty: send the folder of the model's versions")
    if "\0" in entry.base_path:
        raise InvalidArgument(f"{where}.base_path '{printable(entry.base_path)}' is not a folder: it has a zero byte")
    if entry.model_platform not in ("", PLATFORM):
        raise InvalidArgument(f"{where}.model_platform must be '{PLATFORM}', found '{printable(entry.model_platform)}'")
    if entry.model_type == OTHER:
        raise InvalidArgument(f"{where}.model_type must be TENSORFLOW, found OTHER: omit it")
    if entry.HasField("logging_config"):
        raise InvalidArgument(f"{where}.logging_config is not supported: omit it")
    policy = _version_policy(entry.model_version_policy, f"{where}.model_version_policy")
    # all: whether a label's version is served, the disk decides
    labels = check_labels(dict(sorted(entry.version_labels.items())), VersionPolicy("all"), f"{where}.version_labels")
    check_model_name(entry.name, f"{where}.name")
    return ModelSettings(entry.name, Path(entry.base_path), policy, labels)


def _version_policy(policy: Any, where: str) -> VersionPolicy:
    """Default: the highest version, as latest with num_versions 0 or 1."""
    if policy.HasField("all"):
        return VersionPolicy("all")
    if policy.HasField("specific"):
        numbers = tuple(sorted(set(policy.specific.versions)))
        if not numbers or numbers[0] < 0:
            raise InvalidArgument(f"{where}.specific.versions must be numbers of versions, found "
                                  f"{list(numbers) or 'none'}")
        return VersionPolicy("specific", numbers=numbers)
    return VersionPolicy("latest", latest=policy.latest.num_versions or 1)
