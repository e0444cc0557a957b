"""MODEL_CARD.md: what a person should know before they use the model."""

from __future__ import annotations

from export.metadata import Metadata


def model_card(name: str, version: int, metadata: Metadata) -> str:
    """Markdown: what it is, what it was trained on, how good it is, how to ask it, where not to use it."""
    settings, data = metadata.preprocessing, metadata.trained_on
    sections = [
        f"# {name}, version {version}",
        f"`{metadata.net}` with the `{metadata.head}` head, fine-tuned by voc-cls {metadata.voc_cls_version} for "
        f"multi-label classification: every label gets a probability of its own ({metadata.activation}), and they do "
        "not add up to one.",
        "## Labels\n\n" + ", ".join(metadata.labels),
        f"## Training data\n\n`{data['data']}`, split `{data['train_split']}`, {data['pictures']:,} pictures; a "
        f"picture with only difficult objects of a class: {data['difficult']}. Pretrained weights: "
        + (f"checkpoint with SHA-256 `{metadata.pretrained_digest}` (VGG weights: Simonyan & Zisserman, CC BY 4.0)."
           if metadata.pretrained_digest else "none."),
        "## Results\n\n" + _results(metadata),
        "## Input\n\n"
        f"`serving_default` takes the bytes of JPEG, PNG, BMP or GIF files and does the rest in the graph: resize to "
        f"{settings.size} × {settings.size} ({settings.resize}), {settings.channels}, minus {list(settings.mean)}. "
        "`predict_images` takes decoded uint8 RGB pictures, `predict_tensors` what `preprocess` gives.\n\n"
        f"    voc-serve --model-dir <the folder above this one> --model-name {name} --port 8500\n"
        "    voc-predict picture.jpg --server 127.0.0.1:8500",
        "## Limits\n\nTrained on photographs from the web, with the labels' frequencies and habits of that collection; "
        "a picture of another kind, or an object below some tens of pixels, is outside of what was measured. "
        "Probabilities are not calibrated. Not for decisions about people.",
        f"Weights SHA-256: `{metadata.weights_digest}`",
    ]
    return "\n\n".join(sections) + "\n"


def _results(metadata: Metadata) -> str:
    metrics = metadata.metrics
    if metrics is None:
        return "Not evaluated."
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
