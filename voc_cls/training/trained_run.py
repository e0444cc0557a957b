"""A finished run, opened again: its network with its weights, its labels, its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from voc_cls.data.dataset import Task
from voc_cls.data.pipeline import naming_broken_pictures, picture_batches
from voc_cls.errors import RunError
from voc_cls.evaluation.augmented import Tta, at_any_size, views_of
from voc_cls.evaluation.thresholds import Thresholds, default_thresholds, read_thresholds
from voc_cls.nets.network import Network, build_network
from voc_cls.training.backbone import BATCH_SIZE
from voc_cls.training.fit import finite
from voc_cls.training.precision import policy
from voc_cls.training.progress import PredictionProgress
from voc_cls.training.run_folder import RunFolder


@dataclass(frozen=True)
class TrainedRun:
    """`network` holds weights of the run in `folder`; `config` is its config.yaml."""

    folder: RunFolder
    config: dict[str, Any]
    labels: tuple[str, ...]
    network: Network

    def logits(self, paths: Sequence[Path], title: str = "predict", tta: Tta = "none") -> npt.NDArray[np.float32]:
        """float32 [N, classes] for the pictures at `paths`, with a progress bar on a terminal.

        tta: the views of each picture whose logits are averaged. DataError names a picture that cannot be decoded.
        """
        preprocessing = self.network.spec.preprocessing
        views = views_of(tta, preprocessing.size)
        model = self.network.model if views.sizes == (preprocessing.size,) else at_any_size(self.network)
        outputs = []
        broken = naming_broken_pictures(paths, preprocessing)
        with PredictionProgress(title, len(paths) * views.number) as progress, broken:
            for size in views.sizes:
                batches = picture_batches(paths, BATCH_SIZE, replace(preprocessing, size=size), views.mirrored)
                steps = -(-len(paths) * (1 + views.mirrored) // BATCH_SIZE)  # Keras warns where it has to find out
                logits = model.predict(batches, verbose=0, callbacks=[progress], steps=steps)
                outputs.append(np.asarray(logits, np.float32).reshape(len(paths), -1, len(self.labels)))
        return finite(np.concatenate(outputs, axis=1).mean(axis=1))

    @property
    def task(self) -> Task:
        """That of the data set it was trained on; runs before 0.4.0 do not say, they were all multi-label."""
        recorded = self.config["provenance"].get("task", Task.MULTI_LABEL.value)
        if recorded not in list(Task):
            raise RunError(f"{self.folder.config}: provenance.task is {recorded!r}, expected "
                           f"{' or '.join(Task)}; repeat the run")
        return Task(recorded)

    def thresholds(self) -> Thresholds:
        """Of a multi-label run: what it chose on its validation split; 0.5 for every class where it had none."""
        return read_thresholds(self.folder.path, self.labels) or default_thresholds(self.labels)


def open_run(path: Path, precision: str = "float32", which: Literal["best", "last"] = "best") -> TrainedRun:
    """Opens the run folder `path` with its best or last weights; RunError where it is none, or was not finished."""
    folder = RunFolder(path)
    config = folder.read_config()
    labels = folder.read_labels()
    chosen = config["network"]
    network = build_network(chosen["net"], chosen["head"], len(labels), policy(precision), chosen["image_size"],
                            chosen.get("normalisation", "auto"))
    load_weights(network, folder, which)
    return TrainedRun(folder, config, labels, network)


def load_weights(network: Network, folder: RunFolder, which: Literal["best", "last"]) -> None:
    """Gives `network` the best or last weights of a finished run; RunError where it is not, or they do not fit."""
    for weights in (folder.last, folder.best):
        if not weights.is_file():
            raise RunError(f"{folder.path}: the run is not finished, it has no {weights.name}; go on with voc-train "
                           f"--resume --out {folder.path}")
    weights = folder.best if which == "best" else folder.last
    try:
        network.model.load_weights(weights)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{weights}: not the weights of this run ({' '.join(str(error).split())[:200]})") from error
