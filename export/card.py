"""MODEL_CARD.md: what a person should know before they use the model."""

from __future__ import annotations

from typing import Any

from export.metadata import Metadata
from voc_cls.data.preprocessing import Preprocessing

ANSWERS = {  # by activation
    "sigmoid": "multi-label classification: every label gets a probability of its own (sigmoid), and they do not add "
               "up to one.",
    "softmax": "single-label classification: a picture is of one of the labels, whose probabilities add up to one "
               "(softmax), also for a picture of something else.",
}
LICENCES = {  # by how the net's name begins: who published the pretrained weights, and under which licence
    "vgg_": "VGG weights: Simonyan & Zisserman, CC BY 4.0",
}
"""Of the others the publisher's own licence holds; it is not guessed here."""


def model_card(name: str, version: int, metadata: Metadata) -> str:
    """Markdown: what it is, what it was trained on, how good it is, how to ask it, where not to use it."""
    settings, data = metadata.preprocessing, metadata.trained_on
    difficult = f"; a picture with only difficult objects of a class: {data['difficult']}" * (data["data"] == "voc")
    sections = [
        f"# {name}, version {version}",
        f"`{metadata.net}` with the `{metadata.head}` head, fine-tuned by voc-cls {metadata.voc_cls_version} for "
        + ANSWERS[metadata.activation],
        "## Labels\n\n" + ", ".join(metadata.labels),
        f"## Training data\n\n`{data['data']}`, split `{data['train_split']}`, {data['pictures']:,} pictures{difficult}"
        f". Pretrained weights: {_pretrained(metadata)}.",
        "## Results\n\n" + _results(metadata),
        "## Input\n\n"
        f"`serving_default` takes the bytes of JPEG, PNG, BMP or GIF files and does the rest in the graph: resize to "
        f"{settings.size} × {settings.size} ({settings.resize}), {settings.channels}, {_normalised(settings)}. "
        "`predict_images` takes decoded uint8 RGB pictures, `predict_tensors` what `preprocess` gives.\n\n"
        f"    voc-serve --model-dir <the folder above this one> --model-name {name} --port 8500\n"
        "    voc-predict picture.jpg --server 127.0.0.1:8500",
        "## Limits\n\nTrained on the pictures named above, with the labels' frequencies and habits of that collection; "
        "a picture of another kind, or an object below some tens of pixels, is outside of what was measured. "
        "Probabilities are not calibrated. Not for decisions about people.",
        f"Weights SHA-256: `{metadata.weights_digest}`",
    ]
    return "\n\n".join(sections) + "\n"


def _pretrained(metadata: Metadata) -> str:
    if not metadata.pretrained_digest:
        return "none"
    licence = next((text for start, text in LICENCES.items() if metadata.net.startswith(start)),
                   "under the licence of whoever published it")
    return f"checkpoint with SHA-256 `{metadata.pretrained_digest}` ({licence})"


def _normalised(settings: Preprocessing) -> str:
    divided = "" if settings.std == (1.0, 1.0, 1.0) else f", divided by {list(settings.std)}"
    return f"minus {list(settings.mean)}{divided}"


def _results(metadata: Metadata) -> str:
    """By the task that evaluation.json names; before 0.4.0 it named none."""
    metrics = metadata.metrics
    if metrics is None:
        return "Not evaluated."
    return _accuracy(metrics) if "accuracy" in metrics else _average_precision(metrics)


def _accuracy(metrics: dict[str, Any]) -> str:
    best = [f", {100 * metrics[key]:.1f} % among the {key.removeprefix('top_')} most probable" for key in metrics
            if key.startswith("top_")]
    low, high = metrics["intervals"]["accuracy"]
    rows = [f"| {name} | {_percent(values['precision'])} | {_percent(values['recall'])} | {_percent(values['f1'])} | "
            f"{values['positives']:,} |" for name, values in metrics["classes"].items()]
    macro = metrics["macro"]
    return "\n".join([
        f"{metrics['split']}, {metrics['pictures']:,} pictures: **accuracy {_percent(metrics['accuracy'])} %** (95 % "
        f"interval {_percent(low)} to {_percent(high)}){''.join(best)}.",
        "",
        "| class | precision % | recall % | F1 % | pictures |",
        "|---|---:|---:|---:|---:|",
        *rows,
        f"| **mean** | **{_percent(macro['precision'])}** | **{_percent(macro['recall'])}** | "
        f"**{_percent(macro['f1'])}** | |",
    ])


def _average_precision(metrics: dict[str, Any]) -> str:
    rows = [f"| {name} | {_percent(values['ap'])} | {_percent(values['ap_11pt'])} | {values['positives']:,} |"
            for name, values in metrics["classes"].items()]
    return "\n".join([
        f"{metrics['split']}, {metrics['pictures']:,} pictures, difficult objects {metrics['difficult']}.",
        "",
        "| class | AP (area, VOC2010+) % | AP (11-point, VOC2007) % | positives |",
        "|---|---:|---:|---:|",
        *rows,
        f"| **mean** | **{_percent(metrics['map'])}** | **{_percent(metrics['map_11pt'])}** | |",
    ])


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
