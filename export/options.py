"""What an export consists of. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from voc_cls.config import Range, check_ranges, settings_of, typed
from voc_cls.errors import UsageError
from voc_cls.model_metadata import Tta

Form = Literal["savedmodel", "onnx", "openvino"]
Precision = Literal["float32", "int8"]


@dataclass(frozen=True)
class ExportOptions:
    """The forms of the network in a version folder, and how they are made and measured."""

    format: tuple[Form, ...] = ("savedmodel",)
    """One or several of savedmodel (TensorFlow, with decoding in its graph), onnx (model.onnx, for ONNX Runtime and
    Triton) and openvino (model.xml and model.bin, which voc-serve runs without TensorFlow)."""
    precision: Precision = "float32"
    """Of openvino. int8: weights and activations are quantised after training, twice as fast and a quarter of the
    size; it needs the pictures that the run was trained and validated on. The other formats are float32."""
    calibration: Annotated[int, Range(1)] = 300
    """int8: number of training pictures that set the ranges of the activations; 300 is NNCF's default."""
    max_drop: Annotated[float, Range(0, 100)] = 0.5
    """int8: points of mean AP (single-label: of accuracy) that may be lost on the validation split, without one on the
    evaluation split, over the classes with at least 10 positives. Layers return to float32 until the loss is below; if
    that is not enough, nothing is exported."""
    evaluate: bool = True
    """Measure mean AP of onnx and openvino on the run's evaluation split, if its pictures are there, for the model
    card; takes as long as voc-eval for each."""
    calibrated: bool = False
    """Put the calibration that was fitted to the run's validation split into every form: a temperature and an offset
    for all classes (Platt's line), for single-label runs the temperature alone. A probability of 0.8 is then right
    about 8 times of 10; rankings and decisions at the exported thresholds stay as they are. Default: the network's own
    probabilities."""
    tta: Tta = "none"
    """Test-time augmentation: one more signature, predict_augmented, which averages over views of each picture as
    voc-eval --tta does, in so many times the time: flip 2, multi-scale 4, both 8. In savedmodel, and by voc-serve in
    openvino; onnx computes single views."""

    def check(self) -> None:
        """UsageError for values that are not known or out of range, and for int8 without the only form that has it."""
        check_ranges(self)
        for setting in settings_of(ExportOptions):  # which Python does not check
            typed(getattr(self, setting.name), setting.type, f"`{setting.name}`")
        if not self.format:
            raise UsageError(f"`format`: is empty; choose one or several of {', '.join(get_args(Form))}")
        if self.tta != "none" and self.format == ("onnx",):
            raise UsageError(f"`tta` {self.tta}: is for `format` savedmodel and openvino; add one of them")
        if self.precision == "int8" and "openvino" not in self.format:
            raise UsageError(f"`precision` int8: is for `format` openvino, not for {' and '.join(self.format)}; "
                             "add openvino")
