"""From a run folder to `models/<name>/<version>/`: written aside, verified, then renamed into place."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from export.signatures import METHODS, ExportedModel
from export.verify import encoded_images, verify
from voc_cls.data.dataset import Task
from voc_cls.data.preprocessing import GRAPH_FORMATS
from voc_cls.errors import ExportError, UsageError
from voc_cls.evaluation.report.page import percent
from voc_cls.training.trained_run import TrainedRun, open_run
from voc_cls.version import __version__
from voc_cls.weights.load import network_digest

WARMUP_SIZES = (1, 4)
"""Images of the warm-up requests."""
FORMAT = 1
"""Raised when a reader of an older format would misunderstand the file."""
VGG_LICENCE = "VGG weights: Simonyan & Zisserman, CC BY 4.0"
"""Of the pretrained weights; for other networks the card names no licence, because it is not known here."""


def export_run(run: TrainedRun | Path | str, model_dir: Path | str, version: int | None = None,
               console: Console | None = None) -> Path:
    """`voc_cls.export`, in float32, with the result printed on `console`. The version appears whole or not at all."""
    folder, models = run.folder.path if isinstance(run, TrainedRun) else Path(run), Path(model_dir)
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"KERAS_BACKEND={keras.backend.backend()}: a SavedModel is exported by TensorFlow; set "
                         "KERAS_BACKEND=tensorflow before Keras is imported")
    name = models.resolve().name
    existing = versions(models)
    number = max(existing, default=0) + 1 if version is None else version
    target = models / str(number)
    if number < 1:
        raise UsageError(f"`version` {number}: must be at least 1")
    if number in existing:
        raise ExportError(f"{existing[number]}: exists already and is never overwritten; omit `version` for the next "
                          "one")
    trained = open_run(folder)
    try:
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".aside-", dir=models) as parent:
            aside = Path(parent) / "model"
            write(aside, trained, name, number)
            difference = verify(aside, trained.network, trained.task)
            os.rename(aside, target)
    except OSError as error:
        raise ExportError(f"{models}: cannot be written ({error.strerror or error}); nothing was exported") from error
    if console is not None:
        console.print(f"{target}: exported and verified (probabilities within {difference:.1e} of the trained "
                      "network's)", highlight=False, markup=False, soft_wrap=True)
    return target


def write(folder: Path, trained: TrainedRun, name: str, version: int) -> None:
    """Writes the SavedModel, its assets, the warm-up records and the card into `folder`, which must not exist."""
    metadata = metadata_of(trained)
    with tempfile.TemporaryDirectory() as assets:
        labels_file, metadata_file = Path(assets) / "labels.txt", Path(assets) / "voc_cls.json"
        labels_file.write_text("".join(f"{label}\n" for label in trained.labels), encoding="utf-8")
        metadata_file.write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
        module = ExportedModel(trained, labels_file, metadata_file)
        tf.saved_model.save(module, str(folder), signatures=module.signatures())
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for signature, method in METHODS.items():
        updater.replace_method_name(signature, method)
    updater.save()
    extra = folder / "assets.extra"
    extra.mkdir()
    write_warmup(extra / "tf_serving_warmup_requests", name)
    (folder / "MODEL_CARD.md").write_text(model_card(name, version, metadata), encoding="utf-8")


def write_warmup(path: Path, model_name: str) -> None:
    """Writes a `serving_default` request for each of the batch sizes, which a server runs before it takes requests.

    The file is a TFRecord file of tensorflow.serving.PredictionLog, as TensorFlow Serving's documentation has it.
    """
    images = encoded_images()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for size in WARMUP_SIZES:
            request = predict_pb2.PredictRequest(
                model_spec={"name": model_name, "signature_name": "serving_default"},
                inputs={"image_bytes": tf.make_tensor_proto(images[:size], shape=[size])})
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString())


def metadata_of(trained: TrainedRun) -> dict[str, Any]:
    """The content of assets/voc_cls.json."""
    config, spec, evaluation = trained.config, trained.network.spec, trained.folder.evaluation
    provenance = config["provenance"]
    return {
        "format": FORMAT,
        "net": spec.name,
        "head": trained.network.head,
        "labels": trained.labels,
        "activation": trained.task.activation,
        "thresholds": {label: of_label.threshold for label, of_label in trained.thresholds().classes.items()}
        if trained.task is Task.MULTI_LABEL else {},
        "preprocessing": spec.preprocessing.to_dict(),
        "weights_digest": network_digest(trained.network),
        "pretrained_digest": provenance["weights_digest"],  # of the checkpoint that training started from
        "trained_on": {key: config["dataset"][key] for key in ("data", "train_split", "difficult")}
        | {"pictures": provenance["train_pictures"]},
        "metrics": json.loads(evaluation.read_text(encoding="utf-8")) if evaluation.is_file() else None,
        "voc_cls_version": __version__,
        "picture_formats": GRAPH_FORMATS,  # that the graph takes; voc-serve converts other ones before it
        "cut": spec.cut,  # the scope or pool behind which the network ends
    }


def model_card(name: str, version: int, metadata: dict[str, Any]) -> str:
    """Markdown: the task, training data, results, inputs and limits of a model."""
    # Markdown, not HTML, hence no escaping
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters["percent"] = percent
    licence = VGG_LICENCE if metadata["net"].startswith("vgg_") else "under the licence of its publisher"
    return environment.get_template("model_card.md").render(
        name=name, version=version, metadata=metadata, metrics=metadata["metrics"], data=metadata["trained_on"],
        settings=metadata["preprocessing"], licence=licence)


def versions(models: Path) -> dict[int, Path]:
    """The versions below `models`: 007 is 7. ExportError if that is a file."""
    if models.exists() and not models.is_dir():
        raise ExportError(f"{models}: is a file; expected the folder of the model, which holds its versions")
    paths = models.iterdir() if models.is_dir() else ()
    return {int(path.name): path for path in paths if re.fullmatch("[0-9]+", path.name)}
