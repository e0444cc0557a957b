from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("model", "version", "pictures", "top_k", "threshold", "exported_thresholds", "version_label", "heat_maps", "embedding")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    EXPORTED_THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    VERSION_LABEL_FIELD_NUMBER: _ClassVar[int]
    HEAT_MAPS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    pictures: _containers.RepeatedCompositeFieldContainer[Picture]
    top_k: int
    threshold: float
    exported_thresholds: bool
    version_label: str
    heat_maps: bool
    embedding: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., pictures: _Optional[_Iterable[_Union[Picture, _Mapping]]] = ..., top_k: _Optional[int] = ..., threshold: _Optional[float] = ..., exported_thresholds: bool = ..., version_label: _Optional[str] = ..., heat_maps: bool = ..., embedding: bool = ...) -> None: ...

class Picture(_message.Message):
    __slots__ = ("content",)
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    content: bytes
    def __init__(self, content: _Optional[bytes] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("model", "version", "classifications", "activation", "calibration")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    classifications: _containers.RepeatedCompositeFieldContainer[Classification]
    activation: str
    calibration: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., classifications: _Optional[_Iterable[_Union[Classification, _Mapping]]] = ..., activation: _Optional[str] = ..., calibration: _Optional[str] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("labels", "error", "embedding")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[ScoredLabel]
    error: Error
    embedding: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, labels: _Optional[_Iterable[_Union[ScoredLabel, _Mapping]]] = ..., error: _Optional[_Union[Error, _Mapping]] = ..., embedding: _Optional[_Iterable[float]] = ...) -> None: ...

class Error(_message.Message):
    __slots__ = ("code", "message", "retry_after_ms")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    retry_after_ms: int
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class ScoredLabel(_message.Message):
    __slots__ = ("label", "probability", "heat_map")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    HEAT_MAP_FIELD_NUMBER: _ClassVar[int]
    label: str
    probability: float
    heat_map: HeatMap
    def __init__(self, label: _Optional[str] = ..., probability: _Optional[float] = ..., heat_map: _Optional[_Union[HeatMap, _Mapping]] = ...) -> None: ...

class HeatMap(_message.Message):
    __slots__ = ("height", "width", "values")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    values: bytes
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., values: _Optional[bytes] = ...) -> None: ...

class ClassifyStreamRequest(_message.Message):
    __slots__ = ("id", "request")
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    id: int
    request: ClassifyRequest
    def __init__(self, id: _Optional[int] = ..., request: _Optional[_Union[ClassifyRequest, _Mapping]] = ...) -> None: ...

class ClassifyStreamResponse(_message.Message):
    __slots__ = ("id", "response", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    response: ClassifyResponse
    error: Error
    def __init__(self, id: _Optional[int] = ..., response: _Optional[_Union[ClassifyResponse, _Mapping]] = ..., error: _Optional[_Union[Error, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model", "version", "version_label")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VERSION_LABEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    version_label: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., version_label: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model", "version", "net", "activation", "labels", "preprocessing", "metrics", "weights_digest", "versions", "calibration", "augmented", "explains", "training_data")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    NET_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    AUGMENTED_FIELD_NUMBER: _ClassVar[int]
    EXPLAINS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_DATA_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: int
    net: str
    activation: str
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    preprocessing: Preprocessing
    metrics: _containers.ScalarMap[str, float]
    weights_digest: str
    versions: _containers.RepeatedCompositeFieldContainer[ModelVersion]
    calibration: str
    augmented: Views
    explains: bool
    training_data: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[int] = ..., net: _Optional[str] = ..., activation: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., preprocessing: _Optional[_Union[Preprocessing, _Mapping]] = ..., metrics: _Optional[_Mapping[str, float]] = ..., weights_digest: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[ModelVersion, _Mapping]]] = ..., calibration: _Optional[str] = ..., augmented: _Optional[_Union[Views, _Mapping]] = ..., explains: bool = ..., training_data: _Optional[str] = ...) -> None: ...

class Views(_message.Message):
    __slots__ = ("sizes", "mirrored", "tta")
    SIZES_FIELD_NUMBER: _ClassVar[int]
    MIRRORED_FIELD_NUMBER: _ClassVar[int]
    TTA_FIELD_NUMBER: _ClassVar[int]
    sizes: _containers.RepeatedScalarFieldContainer[int]
    mirrored: bool
    tta: str
    def __init__(self, sizes: _Optional[_Iterable[int]] = ..., mirrored: bool = ..., tta: _Optional[str] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "threshold", "average_precision")
    NAME_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    name: str
    threshold: float
    average_precision: float
    def __init__(self, name: _Optional[str] = ..., threshold: _Optional[float] = ..., average_precision: _Optional[float] = ...) -> None: ...

class Preprocessing(_message.Message):
    __slots__ = ("size", "mean", "channels", "resize", "std")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    size: int
    mean: _containers.RepeatedScalarFieldContainer[float]
    channels: str
    resize: str
    std: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, size: _Optional[int] = ..., mean: _Optional[_Iterable[float]] = ..., channels: _Optional[str] = ..., resize: _Optional[str] = ..., std: _Optional[_Iterable[float]] = ...) -> None: ...

class ModelVersion(_message.Message):
    __slots__ = ("version", "state", "labels", "error")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[ModelVersion.State]
        STATE_START: _ClassVar[ModelVersion.State]
        STATE_LOADING: _ClassVar[ModelVersion.State]
        STATE_AVAILABLE: _ClassVar[ModelVersion.State]
        STATE_UNLOADING: _ClassVar[ModelVersion.State]
        STATE_END: _ClassVar[ModelVersion.State]
    STATE_UNSPECIFIED: ModelVersion.State
    STATE_START: ModelVersion.State
    STATE_LOADING: ModelVersion.State
    STATE_AVAILABLE: ModelVersion.State
    STATE_UNLOADING: ModelVersion.State
    STATE_END: ModelVersion.State
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    version: int
    state: ModelVersion.State
    labels: _containers.RepeatedScalarFieldContainer[str]
    error: str
    def __init__(self, version: _Optional[int] = ..., state: _Optional[_Union[ModelVersion.State, str]] = ..., labels: _Optional[_Iterable[str]] = ..., error: _Optional[str] = ...) -> None: ...
