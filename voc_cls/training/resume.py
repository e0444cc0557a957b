"""The folder of a run: started with all that it takes to repeat the run, or continued where nothing has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from voc_cls.data.dataset import Dataset
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.errors import RunError, UsageError
from voc_cls.files import write_text
from voc_cls.training.config import TrainConfig, to_dict
from voc_cls.training.devices import backend, device, versions
from voc_cls.training.run_folder import REPEATABLE, RunFolder


def check_folder(folder: RunFolder, settings: TrainConfig) -> None:
    """UsageError where `out` holds something else, or, with `resume`, a run that computes something else."""
    out = folder.path
    if not settings.run.resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"`out` {out}: exists already; choose another folder, delete it, or continue with "
                             "`resume`")
        return
    if not folder.config.exists():
        raise UsageError(f"`resume`: {out} does not hold a run; omit `resume` to start one")
    old, new = folder.read_config(), to_dict(settings)
    changed = [f"{key} was {old.get(group, {}).get(key)!r}, is {value!r}" for group in REPEATABLE
               for key, value in new[group].items() if old.get(group, {}).get(key) != value]
    if changed:
        raise UsageError(f"`resume`: the settings differ from {folder.config}: {'; '.join(changed)}; "
                         "omit them, or start a run with them in another folder")


def check_provenance(folder: RunFolder, provenance: Mapping[str, Any]) -> None:
    """RunError where the run in `folder` began with other weights or images under the same names."""
    recorded = folder.read_config()["provenance"]
    if recorded.get("backend") != provenance["backend"]:
        raise UsageError(f"`resume`: {folder.config} was begun on Keras' backend {recorded.get('backend')}, this is "
                         f"{provenance['backend']}; set KERAS_BACKEND={recorded.get('backend')}")
    changed = [key for key in ("weights_digest", "pictures_digest") if recorded.get(key) != provenance[key]]
    if changed:
        raise RunError(f"`resume`: {folder.config} has another {' and '.join(changed)} than `weights` and "
                       "`train_split` have now; start again in another folder")


def start_folder(folder: RunFolder, settings: TrainConfig, classes: Sequence[str], provenance: Mapping[str, Any]
                 ) -> None:
    """Makes the run folder with its config and labels, or continues in one that fits."""
    if settings.run.resume:
        check_provenance(folder, provenance)
    values = {key: value for key, value in to_dict(settings).items() if key in REPEATABLE}
    values["provenance"] = dict(provenance)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_text(folder.labels, "".join(f"{name}\n" for name in classes))
        write_text(folder.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise RunError(f"`out` {folder.path}: cannot be written ({error.strerror}); choose another folder") from error


def images_digest(dataset: Dataset) -> str:
    """SHA-256 over the names, order and targets of a split's images: what decides which step sees what."""
    digest = hashlib.sha256("\n".join(path.name for path in dataset.paths).encode())
    digest.update(dataset.targets.tobytes())
    return digest.hexdigest()


def describe_start(command: Sequence[str], weights_digest: str | None, train: Dataset, preprocessing: Preprocessing,
                   not_repeatable: Mapping[str, str]) -> dict[str, Any]:
    """The part of config.yaml that records rather than configures, as YAML values.

    not_repeatable: group of the config → why it does not hold what it takes to repeat the run.
    """
    record = {"command": list(command), "versions": versions(), "backend": backend(), "device": device(),
              "weights_digest": weights_digest, "pictures_digest": images_digest(train), "train_pictures": len(train),
              "task": train.task.value, "preprocessing": preprocessing.to_dict()}
    return record | ({"not_repeatable": dict(not_repeatable)} if not_repeatable else {})
