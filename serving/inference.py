"""Predict and Classify, whichever way a request came: what each signature does with its input.

Nothing here depends on the messages or JSON of a protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from serving.errors import InvalidArgument, Unimplemented
from serving.models import signatures
from serving.models.servable import Servable
from serving.request_context import current_request
from serving.security.sanitize import printable
from voc_cls.model_metadata import AUGMENTED, CLASSIFY, DEFAULT, EXPLAIN_TENSORS, EXPLAINING, SIGNATURES

Outputs = dict[str, npt.NDArray[Any]]


def check_classification(servable: Servable, signature: str) -> None:
    """Refuses a Classify call that names another signature than `classify`; none is fine."""
    if signature and signatures.signature_name(servable.name, signature, servable.metadata.signatures) != CLASSIFY:
        raise InvalidArgument(f"signature '{signature}' is not for Classify: name '{CLASSIFY}' or none, or "
                              "call Predict")


def refuse_regression() -> NoReturn:
    """Answers a Regress call: no exported model has a regression."""
    raise Unimplemented("this model classifies and has no regression signature: ask for the scores of its labels with "
                        "Classify or Predict")


async def predict(servable: Servable, signature: str, array: npt.NDArray[Any], output_filter: Sequence[str],
                  field: str) -> Outputs:
    """Runs a signature on an input that check_input has accepted.

    `output_filter`: names of the outputs to return; all if empty. `field`: what the caller calls the input, for
    messages.
    """
    known = SIGNATURES[signature].outputs
    if unknown := sorted(set(output_filter) - set(known)):
        raise InvalidArgument(f"output_filter has {', '.join(map(printable, unknown[:5]))}, but signature "
                              f"'{signature}' gives {', '.join(known)}")
    outputs = await compute(servable, signature, array, field)
    return {name: outputs[name] for name in known if not output_filter or name in output_filter}


async def compute(servable: Servable, signature: str, array: Sequence[Any] | npt.NDArray[Any], field: str) -> Outputs:
    """All that is known of the images in the input of a signature; `field`: what the caller calls it, for messages."""
    request, outputs, inputs = current_request.get(), Outputs(), list(array)
    if signature == AUGMENTED:
        scores = await servable.augmented(inputs, field, request)
        return {"probabilities": scores.probabilities, "logits": scores.logits}
    with servable.capacity.reserve(len(array)):
        if signature == CLASSIFY:
            inputs = await servable.on_thread(signatures.read_examples, inputs, field)
            labels = np.array([label.encode() for label in servable.metadata.labels], dtype=object)
            outputs["classes"] = np.tile(labels, (len(array), 1))
        if signature not in ("predict_tensors", EXPLAIN_TENSORS):
            inputs = await servable.decode(inputs, field, request)
        if signature == "preprocess":
            outputs["inputs"] = np.stack(inputs)
        else:
            scores = await servable.scores(inputs, request, signature in EXPLAINING)
            if scores.heat_maps is not None and scores.embeddings is not None:
                outputs |= {"heat_maps": scores.heat_maps, "embedding": scores.embeddings}
            outputs |= {"probabilities": scores.probabilities, "logits": scores.logits, "scores": scores.probabilities}
    return outputs


async def classify_examples(servable: Servable, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """The images of tf.Examples → scores [N, labels], columns in the order of the model's labels."""
    if not images:
        raise InvalidArgument("examples is empty: send at least one")
    return (await compute(servable, DEFAULT, images, "examples"))["probabilities"]
