"""The folder of a run: started with all that it takes to repeat the run, or continued where nothing has changed."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import yaml

from voc_cls.data.dataset import Dataset
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.errors import RunError, UsageError
from voc_cls.files import write_text
from voc_cls.training.config import TrainConfig, to_dict
from voc_cls.training.devices import backend, device, versions
from voc_cls.training.run_folder import REPEATABLE, RunFolder
from voc_cls.training.splits import Splits


def check_folder(folder: RunFolder, config: TrainConfig) -> None:
    """UsageError where --out holds something else, or, with --resume, a run that computes something else."""
    out = folder.path
    if not config.run.resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"--out {out}: exists already; choose another folder, delete it, or go on with --resume")
        return
    if not folder.config.exists():
        raise UsageError(f"--resume: {out} holds no run; leave --resume away to start one")
    old, new = folder.read_config(), to_dict(config)
    changed = [f"{key} was {old.get(group, {}).get(key)!r}, is {value!r}" for group in REPEATABLE
               for key, value in new[group].items() if old.get(group, {}).get(key) != value]
    if changed:
        raise UsageError(f"--resume: {folder.config} differs from the flags: {'; '.join(changed)}")


def check_provenance(folder: RunFolder, weights_digest: str | None, digest: str) -> None:
    """RunError where the run in `folder` began with other weights or pictures (`digest`) behind the same names."""
    now = {"weights_digest": weights_digest, "pictures_digest": digest}
    recorded = folder.read_config()["provenance"]
    if recorded.get("backend") != backend():
        raise UsageError(f"--resume: {folder.config} was begun on Keras' backend {recorded.get('backend')}, this is "
                         f"{backend()}; set KERAS_BACKEND={recorded.get('backend')}")
    changed = [key for key, value in now.items() if recorded.get(key) != value]
    if changed:
        raise RunError(f"--resume: {folder.config} has another {' and '.join(changed)} than --weights and "
                       "--train-split have now; start anew in another folder")


def start_folder(folder: RunFolder, config: TrainConfig, splits: Splits, weights_digest: str | None,
                 preprocessing: Preprocessing) -> None:
    """Makes the run folder with its config and labels, or goes on in one that fits."""
    digest = pictures_digest(splits.train)
    if config.run.resume:
        check_provenance(folder, weights_digest, digest)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.labels, "".join(f"{name}\n" for name in splits.train.classes))
        values = {key: value for key, value in to_dict(config).items() if key in REPEATABLE}
        values["provenance"] = provenance(sys.argv, weights_digest, digest, splits.train, preprocessing)
        write_text(folder.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise RunError(f"--out {folder.path}: cannot be written ({error.strerror}); choose another folder") from error


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
