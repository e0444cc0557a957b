"""Writes the forms of the network that an export asks for into its folder, and verifies each."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from export.metadata import VerifiedForm
from export.options import ExportOptions, Form
from export.savedmodel import write_savedmodel
from export.verify import Predictor, logits_of, result_of, verify_predictor, verify_savedmodel
from voc_cls.errors import DataError, UsageError
from voc_cls.training.splits import Splits
from voc_cls.training.trained_run import TrainedRun, run_splits

ONNX_MODEL = "model.onnx"
"""The name that Triton looks for."""


def write_forms(folder: Path, trained: TrainedRun, name: str, options: ExportOptions, splits: Splits | None
                ) -> dict[Form, VerifiedForm]:
    """Writes the forms of the model `name` into `folder`, which must not exist; returns how each was verified.

    splits: the run's images, for int8, and for the result of each form but the SavedModel; None: it is not measured.
    """
    forms: dict[Form, VerifiedForm] = {}
    if "savedmodel" in options.format:
        write_savedmodel(folder, trained, name)
        forms["savedmodel"] = VerifiedForm(verify_savedmodel(folder, trained.network, trained.task))
    if not options.portable:
        return forms
    from export.onnx import onnx_predictor, write_onnx

    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        # OpenVINO reads this graph too, whether or not it is part of the export
        graph = (folder if "onnx" in options.format else Path(elsewhere)) / ONNX_MODEL
        write_onnx(graph, trained.network, trained.task)
        if "onnx" in options.format:
            forms["onnx"] = _verified(graph, onnx_predictor(graph), trained, options, splits)
        if "openvino" in options.format:
            forms["openvino"] = _write_openvino(folder, graph, trained, options, splits)
    return forms


def images_of(trained: TrainedRun, options: ExportOptions) -> tuple[Splits | None, str]:
    """The run's images, as far as the forms need them, and if they are not to be had the reason.

    The reason is raised where nothing can be done without them: int8.
    """
    if not options.portable or (options.precision == "float32" and not options.evaluate):
        return None, ""
    try:
        return run_splits(trained), ""
    except (DataError, UsageError) as error:
        if options.precision == "int8":
            raise
        return None, str(error)


def _write_openvino(folder: Path, graph: Path, trained: TrainedRun, options: ExportOptions, splits: Splits | None
                    ) -> VerifiedForm:
    from export.openvino import openvino_predictor, read_model, write_model

    model = read_model(graph)
    if options.precision == "float32":
        path = write_model(model, folder)
        return _verified(path, openvino_predictor(path), trained, options, splits)
    from export.quantize import quantize

    assert splits is not None, "int8 has them"
    quantized = quantize(model, trained, splits, options)
    path = write_model(quantized.model, folder)
    return replace(_verified(path, openvino_predictor(path), trained, options, splits), precision="int8",
                   largest_difference=quantized.largest_difference, thresholds=quantized.thresholds,
                   float_layers=quantized.float_layers, change=quantized.change)


def _verified(path: Path, predict: Predictor, trained: TrainedRun, options: ExportOptions, splits: Splits | None
              ) -> VerifiedForm:
    exact = path.name == ONNX_MODEL or options.precision == "float32"
    difference = verify_predictor(path, predict, trained.network, trained.task, exact)
    result = None
    if options.evaluate and splits is not None and splits.eval is not None:
        logits = logits_of(predict, splits.eval, trained.network.spec.preprocessing, f"evaluate {path.name}")
        result = result_of(splits.eval, logits)
    return VerifiedForm(difference, result=result)
