"""A finished run, opened again: its network with its weights, its labels, its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from voc_cls.data.pipeline import naming_broken_pictures, picture_batches
from voc_cls.errors import RunError
from voc_cls.nets.network import Network, build_network
from voc_cls.training.callbacks import PredictionProgress
from voc_cls.training.fit import finite
from voc_cls.training.precision import policy
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trunk import BATCH_SIZE


@dataclass(frozen=True)
class TrainedRun:
    """`network` holds the best weights of the run in `folder`; `config` is its config.yaml."""

    folder: RunFolder
    config: dict[str, Any]
    labels: tuple[str, ...]
    network: Network

    def logits(self, paths: Sequence[Path], title: str = "predict") -> npt.NDArray[np.float32]:
        """float32 [N, classes] for the pictures at `paths`, with a progress bar on a terminal.

        DataError names a picture that cannot be decoded.
        """
        batches = picture_batches(paths, BATCH_SIZE, self.network.spec.preprocessing)
        broken = naming_broken_pictures(paths, self.network.spec.preprocessing)
        with PredictionProgress(title, len(paths)) as progress, broken:
            logits = self.network.model.predict(batches, verbose=0, callbacks=[progress])
        return finite(np.asarray(logits, np.float32))


def open_run(path: Path, precision: str = "float32") -> TrainedRun:
    """Opens the run folder `path`; RunError where it is none, or was not finished."""
    folder = RunFolder(path)
    config = folder.read_config()
    labels = folder.read_labels()
    for weights in (folder.last, folder.best):
        if not weights.is_file():
            raise RunError(f"{path}: the run is not finished, it has no {weights.name}; go on with voc-train --resume "
                           f"--out {path}")
    network = build_network(config["network"]["net"], config["network"]["head"], len(labels), policy(precision))
    try:
        network.model.load_weights(folder.best)
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"{folder.best}: not the weights of this run ({' '.join(str(error).split())[:200]})") from error
    return TrainedRun(folder, config, labels, network)


def probabilities(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sigmoid, without overflow for any logit."""
    return np.exp(-np.logaddexp(np.float32(0), -logits))
