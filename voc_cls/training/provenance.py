"""What a run was made with: versions, device, digests. Stored in config.yaml, shown at the start."""

from __future__ import annotations

import hashlib
from typing import Any

from voc_cls.data.dataset import Dataset
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.training.devices import backend, device, installed

PACKAGES = ("tensorflow", "keras", "numpy", "jax")


def versions() -> dict[str, str]:
    """Versions of what computes."""
    from voc_cls.version import __version__

    found = {package: installed(package) for package in PACKAGES}
    return {"voc-cls": __version__, **{package: number for package, number in found.items() if number is not None}}


def pictures_digest(dataset: Dataset) -> str:
    """SHA-256 over the names, order and targets of a split's pictures: what decides which step sees what."""
    digest = hashlib.sha256("\n".join(path.name for path in dataset.paths).encode())
    digest.update(dataset.targets.tobytes())
    return digest.hexdigest()


def provenance(command: list[str], weights_digest: str | None, pictures: str, train: Dataset,
               preprocessing: Preprocessing) -> dict[str, Any]:
    """The part of config.yaml that records rather than configures."""
    return {"command": command, "versions": versions(), "backend": backend(), "device": device(),
            "weights_digest": weights_digest, "pictures_digest": pictures, "train_pictures": len(train),
            "task": train.task.value, "preprocessing": preprocessing.to_dict()}
