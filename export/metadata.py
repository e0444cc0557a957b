"""What an export says of itself: assets/voc_cls.json, assets/labels.txt and MODEL_CARD.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from export.options import Form, Precision
from voc_cls.data.dataset import Task
from voc_cls.data.preprocessing import GRAPH_FORMATS
from voc_cls.evaluation.report.page import render
from voc_cls.files import file_digests, read_json
from voc_cls.model_metadata import FORMAT, Views, read_metadata
from voc_cls.training.config import to_dict
from voc_cls.training.trained_run import TrainedRun
from voc_cls.version import __version__
from voc_cls.weights.load import network_digest


@dataclass(frozen=True)
class VerifiedForm:
    """How one form of the network was made, and how far it is from the trained network."""

    largest_difference: float
    """Of a probability; in float32 over the images of the verification, in int8 over the split that shows the loss."""
    precision: Precision = "float32"
    result: float | None = None
    """Mean AP, for single-label runs accuracy, on the evaluation split, 0-1; None: not measured."""
    thresholds: Mapping[str, float] | None = None
    """int8, multi-label: label → threshold, chosen on the form's own scores."""
    float_layers: tuple[str, ...] = ()
    """int8: the layers that stayed in float32."""
    change: str = ""
    """int8: what was lost on which images, for people."""

    def to_dict(self, task: Task) -> dict[str, Any]:
        """The form's entry in voc_cls.json."""
        entry: dict[str, Any] = {"precision": self.precision, "largest_difference": self.largest_difference,
                                 "map" if task is Task.MULTI_LABEL else "accuracy": self.result}
        if self.precision == "int8":
            entry |= {"thresholds": dict(self.thresholds or {}), "float_layers": list(self.float_layers)}
        return entry


def write_metadata(folder: Path, name: str, version: int, trained: TrainedRun, forms: Mapping[Form, VerifiedForm],
                   views: Views) -> None:
    """Writes the card and, into `assets`, the labels and the metadata; several `views`: of `predict_augmented`."""
    metadata = metadata_of(trained) | {"forms": {form: made.to_dict(trained.task) for form, made in forms.items()},
                                       "augmented": asdict(views) if views.number > 1 else None}
    assets = folder / "assets"
    assets.mkdir(exist_ok=True)  # TensorFlow makes one
    (assets / "labels.txt").write_text("".join(f"{label}\n" for label in trained.labels), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    metadata["files"] = dict(zip((str(path.relative_to(folder)) for path in files), file_digests(files), strict=True))
    (assets / "voc_cls.json").write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
    metadata["training_data"] = read_metadata(folder).training_data
    card = render("model_card.md", {"name": name, "version": version, "metadata": metadata}, "export", "")
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")


def metadata_of(trained: TrainedRun) -> dict[str, Any]:
    """The content of assets/voc_cls.json."""
    config, spec = trained.config, trained.network.spec
    provenance = config["provenance"]
    return {
        "format": FORMAT,
        "net": spec.name,
        "head": trained.network.head,
        "labels": trained.labels,
        "activation": trained.task.activation,
        "thresholds": trained.thresholds().by_label if trained.task is Task.MULTI_LABEL else {},
        "calibration": None if trained.calibration is None else  # in the graph; null: the network's own probabilities
        {"method": trained.calibration.method} | asdict(trained.calibration),
        "preprocessing": to_dict(spec.preprocessing),
        "weights_digest": network_digest(trained.network),
        "pretrained_digest": provenance["weights_digest"],  # of the checkpoint that training started from
        "trained_on": {key: config["dataset"][key] for key in ("data", "train_split", "difficult")}
        | {"pictures": provenance["train_pictures"]},
        "metrics": read_json(trained.folder.evaluation),
        "explains": True,  # by heat maps and embeddings
        "voc_cls_version": __version__,
        "picture_formats": GRAPH_FORMATS,  # that the graph takes; voc-serve converts other ones before it
        "cut": spec.cut,  # the scope or pool behind which the network ends
    }
