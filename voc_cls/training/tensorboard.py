"""What TensorBoard shows of a run: scalars, the validation split's PR curves or confusions, pictures, the graph.

Written with TensorBoard's own protos, without TensorFlow's summaries: whatever backend trains, and a tenth of a
millisecond for an interval's scalars.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.pr_curve import metadata as pr_curve_metadata
from tensorboard.util.tensor_util import make_tensor_proto

from voc_cls.data.dataset import Dataset, Task
from voc_cls.evaluation.predictions import Floats, sigmoid
from voc_cls.evaluation.singlelabel import confusion_figure, singlelabel_scores
from voc_cls.evaluation.tasks import Score
from voc_cls.training.callbacks import UNSAID

MOST_PICTURES = 16
FIGURES_A_RUN = 10
"""Times that PR curves or confusions are written, spread over the run; TensorBoard has a slider over them."""
PR_THRESHOLDS = 127
"""TensorBoard's own default is 201; this many are plenty for a few hundred pictures."""


class TensorBoardLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes event files into `folder`, a new one for every `fit`: what an earlier one wrote beyond the steps that are
    done when it begins, TensorBoard shows no more.

    step: the number of training steps done so far. network: the model whose graph is shown. latest: the newest
    score of `val` with its logits [N, classes], None while there is none. pictures: a training batch as the
    network sees it, float32 [N, H, W, 3] RGB in 0-255, asked for once; None where the steps see no pictures.
    """

    def __init__(self, folder: Path, step: Callable[[], int], network: keras.Model,
                 val: Dataset | None = None, latest: Callable[[], tuple[Score, Floats] | None] = lambda: None,
                 pictures: Callable[[], Floats | None] = lambda: None) -> None:
        super().__init__()
        self.folder, self.step, self.network = folder, step, network
        self.val, self.latest, self.pictures = val, latest, pictures
        self.writer: tf.io.TFRecordWriter | None = None
        self.intervals_since_figures = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Opens the file; at the start of a run also the graph and the sample pictures."""
        self.folder.mkdir(parents=True, exist_ok=True)
        started = time.time()
        # an event file is a file of TFRecords; TensorBoard's own writer computes their checksums in Python
        self.writer = tf.io.TFRecordWriter(str(self.folder / f"events.out.tfevents.{started:.6f}.{os.getpid()}"))
        self._event(0, file_version="brain.Event:2")
        self._event(self.step() + 1, session_log=SessionLog(status=SessionLog.START))  # drops what is there from here
        if self.step() > 0:
            return
        self._event(0, graph_def=graph(self.network).SerializeToString())
        sample = self.pictures()
        if sample is not None:
            self._event(0, summary=Summary(value=[picture_summary("training_batch", sample[:MOST_PICTURES])]))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """The interval's scalars and, a few times in a run, what is to see of the validation."""
        scalars = {name: float(value) for name, value in (logs or {}).items() if name not in UNSAID}
        scalars["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        latest = self.latest()
        if latest is not None:
            scalars |= latest[0].per_class
        values = [Summary.Value(tag=name, simple_value=value) for name, value in scalars.items()]
        self.intervals_since_figures += 1
        if self.intervals_since_figures >= -(-(self.params or {}).get("epochs", 1) // FIGURES_A_RUN) or epoch == 0:
            values += self._figures()
        self._event(self.step(), summary=Summary(value=values))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """The last figures; closes the file. Called once more after an error."""
        if self.writer is None:
            return
        if self.intervals_since_figures:
            self._event(self.step(), summary=Summary(value=self._figures()))
        self.writer.close()
        self.writer = None

    def _figures(self) -> list[Summary.Value]:
        latest = self.latest()
        if latest is None or self.val is None:
            return []
        self.intervals_since_figures = 0
        return FIGURES[self.val.task](self.val, latest[1])

    def _event(self, step: int, **content: Any) -> None:
        assert self.writer is not None, "on_train_begin was not called"
        self.writer.write(Event(wall_time=time.time(), step=step, **content).SerializeToString())
        self.writer.flush()


def pr_curves(val: Dataset, logits: Floats) -> list[Summary.Value]:
    """One for every class that has positives."""
    probabilities, true, counted = sigmoid(logits), val.labels == 1, ~val.ignored
    return [pr_curve_summary(f"validation/{name}", true[counted[:, column], column],
                             probabilities[counted[:, column], column])
            for column, name in enumerate(val.classes) if true[:, column].any()]


def confusions(val: Dataset, logits: Floats) -> list[Summary.Value]:
    """The confusion matrix as a picture."""
    drawn = confusion_figure(singlelabel_scores(val, logits).confusion)
    return [picture_summary("validation/confusion", drawn[None])]


FIGURES: Mapping[Task, Callable[[Dataset, Floats], list[Summary.Value]]] = {
    Task.MULTI_LABEL: pr_curves, Task.SINGLE_LABEL: confusions}


def pr_curve_summary(tag: str, truth: npt.NDArray[np.bool_], probabilities: Floats) -> Summary.Value:
    """One precision/recall curve for the pr_curves plugin: counts at evenly spaced thresholds in 0-1."""
    last = PR_THRESHOLDS - 1
    buckets = np.floor(np.clip(probabilities, 0, 1) * last).astype(int)  # the highest threshold that each reaches
    found = {positive: np.bincount(buckets[truth == positive], minlength=PR_THRESHOLDS)[::-1].cumsum()[::-1]
             for positive in (True, False)}
    true_positives, false_positives = found[True], found[False]
    false_negatives, true_negatives = true_positives[0] - true_positives, false_positives[0] - false_positives
    precision = true_positives / np.maximum(true_positives + false_positives, 1)
    recall = true_positives / max(true_positives[0], 1)
    data = np.stack([true_positives, false_positives, true_negatives, false_negatives, precision, recall])
    return Summary.Value(tag=f"{tag}/pr_curves", tensor=make_tensor_proto(data.astype(np.float32)),
                         metadata=pr_curve_metadata.create_summary_metadata(tag, "", PR_THRESHOLDS))


def picture_summary(tag: str, pictures: npt.NDArray[Any]) -> Summary.Value:
    """Pictures, numbers [N, H, W, 3] RGB in 0-255, for the images plugin, as JPEG."""
    from PIL import Image

    encoded = []
    for picture in np.clip(np.rint(pictures), 0, 255).astype(np.uint8):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=95)  # PNG takes ten times as long
        encoded.append(file.getvalue())
    height, width = pictures.shape[1:3]
    content = [str(width).encode(), str(height).encode(), *encoded]
    return Summary.Value(tag=tag, tensor=make_tensor_proto(content),
                         metadata=image_metadata.create_summary_metadata(tag, "", converted_to_tensor=True))


def graph(model: keras.Model) -> GraphDef:
    """The layers of a functional model with their shapes, grouped by their scopes: TensorBoard draws a box for each."""
    names: dict[str, str] = {}
    scope, drawn = model.weights[0].path.split("/")[0], GraphDef()
    for layer in model.layers:
        within = "" if isinstance(layer, keras.layers.InputLayer) else f"{scope}/"
        names[layer.name] = within + layer.name.replace(".", "/")  # Keras takes no slash in a layer's name
        node = drawn.node.add(name=names[layer.name], op=type(layer).__name__)
        node.attr["dtype_policy"].s = layer.dtype_policy.name.encode()
        shape = node.attr["_output_shapes"].list.shape.add()
        for size in layer.output.shape:
            shape.dim.add(size=-1 if size is None else size)
        if not isinstance(layer, keras.layers.InputLayer):
            node.input.extend(names[tensor._keras_history.operation.name] for tensor in keras.tree.flatten(layer.input))
    return drawn
