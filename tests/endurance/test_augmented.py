"""`make endurance`: predict_augmented of a SavedModel is voc-eval --tta, also with the TensorFlow of voc-serve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.options import ExportOptions
from export.verify import encoded_images
from export.version_folder import export_run
from serving.engine.tensorflow import TensorFlowNetwork
from tests.integration.serving.test_augmented import SIZES, run  # noqa: F401  a fixture
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.training.trained_run import open_run


def test_a_savedmodel_has_a_sixth_signature_with_the_mean_over_the_views(run: Path, tmp_path: Path):  # noqa: F811
    version = export_run(run, tmp_path / "pets", options=ExportOptions(evaluate=False, tta="both"))
    files = [tmp_path / f"{number}" for number in range(len(encoded_images()))]
    for file, image in zip(files, encoded_images(), strict=True):
        file.write_bytes(image)
    trained, loaded = open_run(run), tf.saved_model.load(str(version))
    assert len(loaded.signatures) == 6
    answer = loaded.signatures["predict_augmented"](image_bytes=tf.constant(encoded_images()))
    evaluated = probabilities_of(trained.logits(files, tta="both"), trained.task)
    np.testing.assert_allclose(answer["probabilities"], evaluated, atol=1e-5)
    assert np.abs(evaluated - probabilities_of(trained.logits(files), trained.task)).max() > 1e-4
    assert json.loads((version / "assets/voc_cls.json").read_text())["augmented"]["sizes"] == SIZES
    engine, network = TensorFlowNetwork(version, "float32", 1), trained.network.at_any_size()
    for size in SIZES:
        inputs = np.random.default_rng(size).normal(0, 50, (1, size, size, 3)).astype(np.float32)
        np.testing.assert_allclose(engine.predict(inputs).logits, network(inputs), rtol=1e-4, atol=1e-4)
