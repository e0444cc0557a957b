"""What TensorBoard shows of a run: scalars, the validation split's PR curves, images, the graph."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.pr_curve import summary as pr_curve

from voc_cls.data.dataset import Dataset
from voc_cls.evaluation.predictions import Floats, probabilities_of
from voc_cls.evaluation.tasks import Score
from voc_cls.training.callbacks import UNSAID

MOST_IMAGES = 16
FIGURES_A_RUN = 10
"""Times that PR curves are written, spread over the run; TensorBoard has a slider over them."""
PR_THRESHOLDS = 127
"""TensorBoard's own default is 201; this many are plenty for a few hundred images."""


class TensorBoardLog(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes event files into `folder`, new ones for every `fit`, which hide what an earlier one wrote beyond the steps
    that are done when it begins.

    step: number of training steps done so far. latest: the newest score of `val` with its logits [N, classes]; None
    before the first validation. images: a training batch as the network sees it, float32 [N, H, W, 3] RGB in 0-255,
    evaluated once; None where the steps see no images.
    """

    def __init__(self, folder: Path, step: Callable[[], int], network: keras.Model,
                 val: Dataset | None = None, latest: Callable[[], tuple[Score, Floats] | None] = lambda: None,
                 images: Callable[[], Floats | None] = lambda: None) -> None:
        super().__init__()
        self.folder, self.step, self.network = folder, step, network
        self.val, self.latest, self.images = val, latest, images
        self.writer: Any = None
        self.intervals_since_figures = 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Opens the files; at the start of a run also the graph and the sample images."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = self.step()
        while any(self.folder.glob(f"events.out.tfevents.{int(time.time())}.*")):
            time.sleep(0.1)  # TensorBoard reads files in the order of their names, which tell only the second
        with tf.Graph().as_default():  # TensorBoard drops what it has from this step on; tf.summary has no such event
            restart = tf.compat.v1.summary.FileWriter(str(self.folder))
            restart.add_session_log(tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START), done + 1)
            restart.close()
        self.writer = tf.summary.create_file_writer(str(self.folder))
        if done > 0:
            return
        with self.writer.as_default(step=0):
            tf.summary.graph(graph(self.network))
            if (sample := self.images()) is not None:
                images = np.clip(np.rint(sample), 0, 255).astype(np.uint8)
                tf.summary.image("training_batch", images, max_outputs=MOST_IMAGES)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """The interval's scalars and, a few times in a run, what there is to see of the validation."""
        scalars = {name: float(value) for name, value in (logs or {}).items() if name not in UNSAID}
        scalars["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if (latest := self.latest()) is not None:
            scalars |= latest[0].per_class
        self.intervals_since_figures += 1
        with self.writer.as_default(step=self.step()):
            for name, value in scalars.items():
                tf.summary.scalar(name, value)
            if self.intervals_since_figures >= -(-(self.params or {}).get("epochs", 1) // FIGURES_A_RUN) or epoch == 0:
                self._figures()
        self.writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """The last figures; closes the file. Called once more after an error."""
        if self.writer is None:
            return
        if self.intervals_since_figures:
            with self.writer.as_default(step=self.step()):
                self._figures()
        self.writer.close()
        self.writer = None

    def _figures(self) -> None:
        """A PR curve for every class with positives."""
        latest, val = self.latest(), self.val
        if latest is None or val is None:
            return
        self.intervals_since_figures = 0
        _, logits = latest
        probabilities, true = probabilities_of(logits, val.task), val.labels == 1
        for column in np.flatnonzero(true.any(axis=0)):
            rows = ~val.ignored[:, column]
            curve = pr_curve.pb(f"validation/{val.classes[column]}", true[rows, column], probabilities[rows, column],
                                PR_THRESHOLDS)
            tf.summary.experimental.write_raw_pb(curve.SerializeToString())


def graph(model: keras.Model) -> Any:
    """The layers of a functional model with their shapes, grouped by their scopes, as a GraphDef: TensorBoard draws a
    box for each. A traced graph would show every operation, and the JAX backend has none."""
    names: dict[int, str] = {}  # by the tensor that a layer returns
    scope, drawn = model.weights[0].path.split("/")[:-2], tf.compat.v1.GraphDef()
    for layer in model.layers:
        is_input = isinstance(layer, keras.layers.InputLayer)
        name = layer.name.replace(".", "/")  # Keras takes no slash in a layer's name
        node = drawn.node.add(name=name if is_input else "/".join((*scope, name)), op=type(layer).__name__)
        names[id(layer.output)] = node.name
        node.attr["dtype_policy"].s = layer.dtype_policy.name.encode()
        shape = node.attr["_output_shapes"].list.shape.add()
        for size in layer.output.shape:
            shape.dim.add(size=-1 if size is None else size)
        if not is_input:
            node.input.extend(names[id(tensor)] for tensor in keras.tree.flatten(layer.input))
    return drawn
