"""Pictures of one class each, and logits that are right more often than not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from voc_cls.data.dataset import Dataset, Task

Made = tuple[Dataset, np.ndarray]


@pytest.fixture
def singlelabel() -> Callable[..., Made]:
    """`singlelabel(classes, pictures, seed)`: the first two classes are taken for each other most often."""
    def make(classes: int = 4, pictures: int = 200, seed: int = 0, paths: tuple[Path, ...] = ()) -> Made:
        random = np.random.default_rng(seed)
        labels = np.eye(classes, dtype=np.float32)[random.integers(0, classes, pictures)]
        logits = (3 * labels + 1.5 * random.normal(size=labels.shape)).astype(np.float32)
        logits[:, :2] += 2 * labels[:, 1::-1]
        names = tuple(f"class {number}" for number in range(classes))
        files = paths or tuple(Path(f"{row}.jpg") for row in range(pictures))
        return Dataset("made test", names, files, labels, np.zeros(labels.shape, bool), task=Task.SINGLE_LABEL), logits

    return make
