"""Antialiased resize against plain bilinear: mean AP of logistic regressions on frozen features, cross-validated.

    python benchmarks/resize.py VOCdevkit/VOC2007 vgg_16_conv.ckpt vgg_16 224 448

The `gap+max` features of trainval in bfloat16 by OpenVINO, three folds, drawn twice; the penalty is the best of three
for each way. Mean AP (area) over the five classes of docs/training.md. Nothing is said of the test split.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from voc_cls.console import import_tensorflow

CLASSES = ("bus", "car", "cat", "person", "train")
SEEDS, FOLDS, PENALTIES = (0, 1), 3, (1.0, 3.0, 10.0)
"""PENALTIES: scikit-learn's C, on features of unit length."""


def main(root: Path, weights: Path, net: str, sizes: list[int]) -> None:
    """Prints a row for every size and way."""
    import_tensorflow()
    from voc_cls.data.load import load_dataset

    dataset = load_dataset(root)["trainval"]
    for size in sizes:
        for antialias in (False, True):
            rows = features(dataset, weights, net, size, antialias)
            by_penalty = {penalty: [cross_validated(dataset, rows, penalty, seed) for seed in SEEDS]
                          for penalty in PENALTIES}
            penalty, best = max(by_penalty.items(), key=lambda item: sum(item[1]))
            print(f"{net} {size} {'antialias' if antialias else 'bilinear':10} {sum(best) / len(best):.4f} "
                  f"({' '.join(f'{value:.4f}' for value in best)}; C {penalty:g})", flush=True)


def features(dataset: Any, weights: Path, net: str, size: int, antialias: bool) -> Any:
    """float32 [N, D]: each half, mean and maximum of the last grid, of unit length."""
    import numpy as np
    import tensorflow as tf

    from voc_cls import create_network
    from voc_cls.data.preprocessing import decode_file, normalise
    from voc_cls.training.backbone import BATCH_SIZE, frozen_backbone

    network = create_network(net, classes=dataset.classes, head="gap+max", weights=weights, image_size=size)
    compute = frozen_backbone(network, network.scopes[-1], "bfloat16").on("openvino").function
    settings, rows = network.spec.preprocessing, []

    def image(path: Any) -> Any:
        return normalise(tf.image.resize(decode_file(path, settings), [size, size], antialias=antialias), settings)

    paths = tf.data.Dataset.from_tensor_slices([str(path) for path in dataset.paths])
    for batch in paths.map(image, tf.data.AUTOTUNE, deterministic=True).batch(BATCH_SIZE).as_numpy_iterator():
        full = np.concatenate([batch, np.repeat(batch[-1:], BATCH_SIZE - len(batch), axis=0)])
        rows.append(np.asarray(compute(full), np.float32)[:len(batch)].reshape(len(batch), 2, -1))
    halves = np.concatenate(rows)
    return (halves / np.linalg.norm(halves, axis=2, keepdims=True)).reshape(len(halves), -1)


def cross_validated(dataset: Any, rows: Any, penalty: float, seed: int) -> float:
    """Mean over the folds of mean AP over CLASSES."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import KFold

    from voc_cls.evaluation.average_precision import average_precisions

    columns, results = [dataset.classes.index(name) for name in CLASSES], []
    for trained, held_out in KFold(FOLDS, shuffle=True, random_state=seed).split(rows):
        scores = np.zeros((len(held_out), len(dataset.classes)), np.float32)
        for column in columns:
            used = trained[~dataset.ignored[trained, column]]
            model = LogisticRegression(C=penalty, max_iter=300).fit(rows[used], dataset.labels[used, column])
            scores[:, column] = model.decision_function(rows[held_out])
        results.append(average_precisions(dataset.subset(held_out, "fold"), scores, CLASSES).map)
    return float(np.mean(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], list(map(int, sys.argv[4:])))
