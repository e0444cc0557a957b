"""int8: an OpenVINO model quantised after training by NNCF, with control of what it loses."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from export.metadata import VerifiedForm
from export.openvino import openvino_predictor
from export.options import ExportOptions
from export.verify import logits_of, result_of
from voc_cls.data.dataset import Dataset
from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.errors import ExportError, UsageError
from voc_cls.evaluation.calibration import LEAST_POSITIVES, choose_thresholds
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.training.callbacks import progress_bar
from voc_cls.training.splits import Splits
from voc_cls.training.trained_run import TrainedRun

WEIGHTED = ("Convolution", "GroupConvolution", "MatMul")
"""OpenVINO's operations that have weights."""


def quantize(model: Any, trained: TrainedRun, splits: Splits | None, options: ExportOptions
             ) -> tuple[Any, VerifiedForm]:
    """An openvino.Model with 8-bit weights and activations, by their ranges on training images, under progress bars.

    The largest difference is over the images on which the loss is measured. If it loses more than `options.max_drop`,
    the layers that cost most return to float32 one by one. ExportError if that does not help; UsageError without images
    to measure the loss on.
    """
    os.environ.setdefault("NNCF_CI", "1")  # otherwise it reports its use to its makers
    import nncf

    nncf.set_log_level(logging.WARNING)
    checked = None if splits is None else splits.val or splits.eval
    if splits is None or checked is None:
        raise UsageError("`precision` int8: the run has neither a validation nor an evaluation split to measure the "
                         "loss on; train it with `val_split`, or export float32")
    judged = _judged_classes(checked)
    preprocessing, seed = trained.network.spec.preprocessing, trained.config["training"]["seed"]
    rows = np.random.default_rng(seed).permutation(len(splits.train))[:options.calibration]
    calibration = [splits.train.paths[row] for row in rows]

    def validate(compiled: Any, images: Iterable[Any]) -> tuple[float, list[list[Any]]]:
        """For NNCF: the result on the first images of the split, and the outputs for each."""
        with progress_bar(Console(stderr=True)) as bar:
            task = bar.add_task("validate", total=len(checked), note="pictures")
            outputs = []
            for image in images:
                outputs.append(list(compiled(image).values()))
                bar.advance(task)
        first = checked.subset(np.arange(len(outputs)), checked.name)
        return _result(first, np.concatenate([logits for _, logits in outputs]), judged), outputs

    with naming_broken_images((*calibration, *checked.paths)), _bars_on_stderr():
        quantized = nncf.quantize_with_accuracy_control(
            model, nncf.Dataset(_Images(calibration, preprocessing)),
            nncf.Dataset(_Images(checked.paths, preprocessing)), validate, max_drop=options.max_drop / 100,
            subset_size=len(calibration))
    exact = logits_of(openvino_predictor(model), checked, preprocessing, "validate float32")
    logits = logits_of(openvino_predictor(quantized), checked, preprocessing, "validate int8")
    before, after = _result(checked, exact, judged), _result(checked, logits, judged)
    float_layers = _float_layers(quantized)
    of = "" if len(judged) == len(checked.classes) else f", {len(judged)} of {len(checked.classes)} classes"
    lost, change = 100 * (before - after), f"{before:.4f} in float32, {after:.4f} in int8 on {checked.name}{of}"
    if not lost <= options.max_drop:
        kept = f" although these layers stay in float32: {', '.join(float_layers)}" if float_layers else ""
        raise ExportError(f"int8 loses {lost:.2f} points ({change}){kept}, more than `max_drop` {options.max_drop:g}; "
                          "raise it to accept the loss, give more pictures by `calibration`, or export float32")
    # without a validation split the run has no chosen ones either
    thresholds = trained.thresholds() if splits.val is None else choose_thresholds(checked, logits)
    by_label = {} if checked.single_label else {label: of_label.threshold
                                                for label, of_label in thresholds.classes.items()}
    difference = np.abs(probabilities_of(logits, trained.task) - probabilities_of(exact, trained.task)).max()
    return quantized, VerifiedForm(float(difference), "int8", None, by_label, float_layers, change)


def _judged_classes(checked: Dataset) -> list[int]:
    """The classes whose mean AP decides: those with enough positives, if there are any; of single-label data all.

    With fewer, one image that changes its rank moves mean AP by more than what may be lost.
    """
    enough = [column for column, positives in enumerate(checked.positives.values()) if positives >= LEAST_POSITIVES]
    return enough if enough and not checked.single_label else list(range(len(checked.classes)))


def _result(dataset: Dataset, logits: Any, classes: list[int]) -> float:
    return result_of(dataset.only(classes), logits[:, classes])


@dataclass(frozen=True)
class _Images:
    """Preprocessed images, one by one: float32 [1, size, size, 3]. A tf.data.Dataset has a tensor for its length."""

    paths: Sequence[Path]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[Any]:
        yield from image_batches(self.paths, 1, self.preprocessing).as_numpy_iterator()


def _float_layers(model: Any) -> tuple[str, ...]:
    """The layers whose weights are not 8-bit integers."""
    return tuple(node.get_friendly_name() for node in model.get_ordered_ops()
                 if node.get_type_name() in WEIGHTED and not _is_int8(node.input_value(1).get_node()))


def _is_int8(source: Any) -> bool:
    """Whether weights are integers where they are stored; behind them are a conversion and a scale."""
    while source.get_type_name() != "Constant":
        source = source.input_value(0).get_node()
    return bool(source.get_element_type().size == 1)


@contextlib.contextmanager
def _bars_on_stderr() -> Iterator[None]:
    """NNCF's progress bars, which it writes to stdout, go to a terminal on stderr or nowhere."""
    with contextlib.redirect_stdout(sys.stderr if sys.stderr.isatty() else io.StringIO()):
        yield
