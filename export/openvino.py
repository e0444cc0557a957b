"""OpenVINO IR: model.xml and model.bin, made by OpenVINO from the ONNX graph, and computed.

int8 is quantised after training by NNCF, with control of what it loses.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.metadata import VerifiedForm
from export.options import ExportOptions
from export.verify import Predictor, logits_of, result_of
from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import naming_broken_images
from voc_cls.data.preprocessing import decode_file, preprocess
from voc_cls.errors import ExportError, UsageError
from voc_cls.evaluation.calibration import choose_thresholds
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.openvino_core import import_openvino, openvino_core, signal_stack_kept
from voc_cls.training.splits import Splits, judged_classes
from voc_cls.training.trained_run import TrainedRun

openvino = import_openvino(whole=True)

MODEL = "model.xml"
"""Beside model.bin: the names that OpenVINO Model Server and Triton look for."""
WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
"""OpenVINO's operations that have weights."""


def read_model(path: Path) -> Any:
    """An openvino.Model of an ONNX file or of an IR; its layers have the names of the graph's.

    OpenVINO reshapes the weights of depthwise convolutions in the graph. Folded to constants they are quantised for
    every channel; otherwise NNCF takes the columns of the kernels for channels.
    """
    from openvino.passes import ConstantFolding, Manager

    model = openvino_core().read_model(path)
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    return model


def write_model(model: Any, folder: Path) -> Path:
    """Writes model.xml and model.bin; returns the first."""
    openvino.save_model(model, folder / MODEL, compress_to_fp16=False)  # True, the default, would round the weights
    return folder / MODEL


def openvino_predictor(model: Any, size: int | None = None) -> Predictor:
    """Computes an openvino.Model, or the IR at a path, on the CPU; `size`: of the images, if another than its own.

    What is float in it is computed in float32; OpenVINO itself would choose bfloat16 where the processor has it.
    """
    core = openvino_core()
    if size is not None:
        model = of_scores(core.read_model(model))
        model.reshape([-1, size, size, 3])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: compiled(inputs).to_tuple()


def of_scores(model: Any) -> Any:
    """The part of an openvino.Model that computes its first outputs, probabilities and logits."""
    return openvino.Model(model.outputs[:2], model.get_parameters())


def with_explanations(quantised: Any, whole: Any) -> Any:
    """`quantised`, of the scores, with the other outputs of the float `whole`: computed in float, from its layers and
    by its weights, which so are in the file once."""
    scores = of_scores(whole)
    layers, by_weights = ({node.get_friendly_name(): node for node in model.get_ops()} for model in (quantised, scores))
    weights = {node.input_value(1).get_node().get_friendly_name(): layers[name].input_value(1)
               for name, node in by_weights.items() if node.get_type_name() in WEIGHTED}
    for node in whole.get_ops():
        for port in node.inputs() if node.get_friendly_name() not in by_weights else ():
            name = port.get_source_output().get_node().get_friendly_name()
            if name in by_weights:
                port.replace_source_output(weights[name] if name in weights else layers[name].output(0))
    return openvino.Model([*quantised.outputs, *whole.outputs[2:]], quantised.get_parameters())


def write_int8(graph: Path, folder: Path, trained: TrainedRun, splits: Splits, options: ExportOptions) -> VerifiedForm:
    """Writes an ONNX graph as IR with 8-bit weights and activations, by their ranges on training images.

    What is judged is the file that was written. The largest difference is over the images on which the loss is
    measured. If it loses more than `options.max_drop`, the layers that cost most return to float32 one by one.
    ExportError if that does not help; UsageError without images to measure the loss on.
    """
    os.environ.setdefault("NNCF_CI", "1")  # otherwise it reports its use to its makers
    import nncf

    nncf.set_log_level(logging.WARNING)
    checked = splits.val or splits.eval
    if checked is None:
        raise UsageError("`precision` int8: the run has neither a validation nor an evaluation split to measure the "
                         "loss on; train it with `val_split`, or export float32")
    judged = judged_classes(checked)
    preprocessing, seed = trained.network.spec.preprocessing, trained.config["training"]["seed"]
    rows = np.random.default_rng(seed).permutation(len(splits.train))[:options.calibration]
    calibration = [splits.train.paths[row] for row in rows]
    validated: list[Any] = []  # logits of float32 first
    in_float = rf"(mean_norm|unit_norm|scale|{trained.network.spec.head})([/_].*)?$"
    """Features of unit length and the classifier: they take no time, and csra of MobileNet-v1 loses 0.7 points by them
    and the convolutions, 0.4 by the convolutions alone."""

    def inputs_of(path: Path) -> Any:
        return preprocess(decode_file(str(path), preprocessing), preprocessing).numpy()[None]

    def validate(compiled: Any, paths: Iterable[Path]) -> tuple[float, list[list[Any]]]:
        """For NNCF: the result on the images at `paths`, all or only the first, and the outputs for each."""
        images = checked.subset(np.arange(len(list(paths))), checked.name)
        logits = logits_of(lambda inputs: compiled(inputs).to_tuple(), images, preprocessing, "validate")
        validated.extend([logits] if len(images) == len(checked) else [])
        outputs = zip(probabilities_of(logits, trained.task), logits, strict=True)
        return _result(images, logits, judged), [[values[None] for values in pair] for pair in outputs]

    with (naming_broken_images((*calibration, *checked.paths)), signal_stack_kept(),
          contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO())):  # NNCF's progress bars
        model = nncf.quantize_with_accuracy_control(
            of_scores(read_model(graph)), nncf.Dataset(calibration, inputs_of),
            nncf.Dataset(checked.paths, inputs_of), validate, max_drop=options.max_drop / 100,
            subset_size=len(calibration), ignored_scope=nncf.IgnoredScope(patterns=[in_float], validate=False))
    float_layers = _float_layers(model)
    predict = openvino_predictor(write_model(with_explanations(model, read_model(graph)), folder))
    exact, logits = validated[0], logits_of(predict, checked, preprocessing, "validate int8")
    before, after = _result(checked, exact, judged), _result(checked, logits, judged)
    of = "" if len(judged) == len(checked.classes) else f", {len(judged)} of {len(checked.classes)} classes"
    lost, change = 100 * (before - after), f"{before:.4f} in float32, {after:.4f} in int8 on {checked.name}{of}"
    if not lost <= options.max_drop:
        kept = f" although these layers stay in float32: {', '.join(float_layers)}" if float_layers else ""
        raise ExportError(f"int8 loses {lost:.2f} points ({change}){kept}, more than `max_drop` {options.max_drop:g}; "
                          "raise it to accept the loss, give more pictures by `calibration`, or export float32")
    by_label: dict[str, float] = {}
    if not checked.single_label:  # without a validation split the run has no chosen ones either
        by_label = (trained.thresholds() if splits.val is None else choose_thresholds(checked, logits)).by_label
    difference = np.abs(probabilities_of(logits, trained.task) - probabilities_of(exact, trained.task)).max()
    result = None
    if options.evaluate and splits.eval is not None:
        if splits.val is not None:
            logits = logits_of(predict, splits.eval, preprocessing, "evaluate int8")
        result = result_of(splits.eval, logits)
    return VerifiedForm(float(difference), "int8", result, by_label, float_layers, change)


def _result(dataset: Dataset, logits: Any, classes: Sequence[int]) -> float:
    return result_of(dataset.only(classes), logits[:, classes])


def _float_layers(model: Any) -> tuple[str, ...]:
    """The layers whose weights are not 8-bit integers."""
    return tuple(node.get_friendly_name() for node in model.get_ordered_ops()
                 if node.get_type_name() in WEIGHTED and not _is_int8(node.input_value(1).get_node()))


def _is_int8(source: Any) -> bool:
    """Whether weights are integers where they are stored; behind them are a conversion and a scale."""
    while source.get_type_name() != "Constant":
        source = source.input_value(0).get_node()
    return bool(source.get_element_type().size == 1)
