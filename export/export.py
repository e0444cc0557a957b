"""From a run folder to `models/<name>/<version>/`: written aside, verified, then renamed into place."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from export.card import model_card
from export.metadata import Metadata
from export.signatures import ExportedModel
from export.verify import verify
from export.warmup import write_warmup
from voc_cls.data.dataset import Task
from voc_cls.errors import ExportError, UsageError
from voc_cls.training.trained_run import TrainedRun, open_run
from voc_cls.version import __version__
from voc_cls.weights.restore import network_digest


@dataclass(frozen=True)
class Exported:
    """Where the model is, and by how much its probabilities differ from the trained network's."""

    path: Path
    difference: float


def export(run: Path, models: Path, version: int | None = None) -> Exported:
    """Exports the best weights of `run` as the next version (or `version`) below `models`.

    Raises RunError for a run that is none or unfinished, ExportError for a version that exists already or an export
    that is not the trained network. A version folder appears whole or not at all.
    """
    name = models.resolve().name
    number = next_version(models) if version is None else version
    target = models / str(number)
    if number < 1:
        raise UsageError(f"--version {number}: versions are whole numbers from 1")
    if target.exists():
        raise ExportError(f"{target}: exists already and is never overwritten; leave --version away for the next one")
    trained = open_run(run)
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".aside-", dir=models) as folder:
            aside = Path(folder) / "model"
            write(aside, trained, name, number)
            difference = verify(aside, trained.network, trained.labels, trained.task)
            os.rename(aside, target)
    except OSError as error:
        raise ExportError(f"{models}: cannot be written ({error.strerror or error}); nothing was exported") from error
    return Exported(target, difference)


def write(folder: Path, trained: TrainedRun, name: str, version: int) -> None:
    """Writes the SavedModel, its assets, the warm-up records and the card into the new folder `folder`."""
    metadata = metadata_of(trained)
    with tempfile.TemporaryDirectory() as assets:
        labels_file, metadata_file = Path(assets) / "labels.txt", Path(assets) / "voc_cls.json"
        labels_file.write_text("".join(f"{label}\n" for label in trained.labels), encoding="utf-8")
        metadata_file.write_text(metadata.to_json(), encoding="utf-8")
        module = ExportedModel(trained.network, trained.labels, metadata.activation, labels_file, metadata_file)
        tf.saved_model.save(module, str(folder), signatures=module.signatures())
    extra = folder / "assets.extra"
    extra.mkdir()
    write_warmup(extra / "tf_serving_warmup_requests", name)
    (folder / "MODEL_CARD.md").write_text(model_card(name, version, metadata), encoding="utf-8")


def metadata_of(trained: TrainedRun) -> Metadata:
    """What voc_cls.json says of a run."""
    config, spec = trained.config, trained.network.spec
    evaluation = trained.folder.evaluation
    provenance = config["provenance"]
    return Metadata(
        net=spec.name,
        head=trained.network.head,
        labels=trained.labels,
        activation=trained.task.activation,
        thresholds={threshold.name: threshold.value for threshold in trained.thresholds().classes}
        if trained.task is Task.MULTI_LABEL else {},
        preprocessing=spec.preprocessing,
        weights_digest=network_digest(trained.network),
        pretrained_digest=provenance["weights_digest"],
        trained_on={key: config["dataset"][key] for key in ("data", "train_split", "difficult")}
        | {"pictures": provenance["train_pictures"]},
        metrics=json.loads(evaluation.read_text(encoding="utf-8")) if evaluation.is_file() else None,
        voc_cls_version=__version__,
    )


def next_version(models: Path) -> int:
    """One above the highest version below `models`; 1 where there is none."""
    if models.exists() and not models.is_dir():
        raise ExportError(f"{models}: is a file, expected the folder that holds the model's versions")
    names = [path.name for path in models.iterdir()] if models.exists() else []
    return max((int(name) for name in names if re.fullmatch(r"\d+", name)), default=0) + 1
