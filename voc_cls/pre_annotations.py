"""Predictions as pre-annotations for Label Studio: tasks to import, and the labelling configuration that they need.

https://labelstud.io/guide/predictions has the format: `score`, by which tasks can be sorted, and the `result` that an
annotator starts from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from voc_cls.files import write_text
from voc_cls.prediction import SOFTMAX, Prediction, ScoredLabel
from voc_cls.stores import store_url

CONTROL, IMAGE = "label", "image"
"""Names in the labelling configuration."""


def write_tasks(path: Path, predictions: Sequence[tuple[str, Prediction]], threshold: float | None = None) -> str:
    """Writes the tasks to `path`, and the labelling configuration beside it as .xml; returns a sentence on their use.

    Args:
        predictions: Path or URL of each image, and its prediction with all labels; those that failed are left out.
        threshold: As for `Prediction.seen`: which labels an annotator starts from.
    """
    good = [(file, prediction) for file, prediction in predictions if prediction.error is None]
    folders = [os.path.dirname(os.path.abspath(file)) for file, _ in good if not store_url(file)]
    storage = os.path.commonpath(folders) if folders else ""
    root = os.path.dirname(storage)  # Label Studio refuses the document root itself as a storage
    addresses = (store_url(file) or f"/data/local-files/?d={quote(os.path.relpath(file, root))}" for file, _ in good)
    tasks = [{"data": {IMAGE: address}, "predictions": [_pre_annotation(prediction, prediction.seen(threshold))]}
             for address, (_, prediction) in zip(addresses, good, strict=True)]
    write_text(path, json.dumps(tasks, indent=1, ensure_ascii=False) + "\n")
    config = path.with_suffix(".xml")
    write_text(config, _label_config(good[0][1]) if good else "<View/>\n")
    served = (f"; it shows the pictures when it is started with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true "
              f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root} and has the local storage {storage}") if folders else ""
    number = f"{len(tasks):,} task{'s' * (len(tasks) != 1)}"
    return f"{path}: {number} for Label Studio, with the labelling configuration {config}{served}"


def _pre_annotation(prediction: Prediction, seen: Sequence[ScoredLabel]) -> dict[str, object]:
    """`score`: the probability, 0 to 1, that the least certain of its labels is right."""
    certainties = (scored.probability if scored in seen else 1 - scored.probability for scored in
                   (seen if prediction.activation == SOFTMAX else prediction.labels))
    result = {"from_name": CONTROL, "to_name": IMAGE, "type": "choices",
              "value": {"choices": [scored.label for scored in seen]}}
    return {"model_version": " ".join(map(str, filter(None, (prediction.model, prediction.version)))),
            "score": round(min(certainties, default=0), 6), "result": [result] if seen else []}


def _label_config(prediction: Prediction) -> str:
    """For all labels of a prediction, sorted."""
    choice = "single-radio" if prediction.activation == SOFTMAX else "multiple"
    choices = "".join(f"\n    <Choice value={quoteattr(name)}/>"
                      for name in sorted(scored.label for scored in prediction.labels))
    return (f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n  <Choices name="{CONTROL}" toName="{IMAGE}" '
            f'choice="{choice}" showInline="true">{choices}\n  </Choices>\n</View>\n')
