"""Predictions of a trained run for any picture files, in this process."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def predict_files(run: Path, files: Sequence[Path]) -> tuple[tuple[str, ...], npt.NDArray[np.floating[Any]], str]:
    """(labels, float32 [N, labels] probabilities, "sigmoid" or "softmax"); DataError names the first file that is no
    picture."""
    from voc_cls.console import import_tensorflow
    from voc_cls.data.files import check_file

    for file in files:
        check_file(file)
    import_tensorflow()
    from voc_cls.evaluation.probabilities import probabilities_of
    from voc_cls.training.trained_run import open_run

    trained = open_run(run)
    return trained.labels, probabilities_of(trained.logits(files), trained.task), trained.task.activation
