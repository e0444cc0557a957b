"""The features of a frozen backbone, computed once and kept on disk: afterwards only what is trained has to run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import keras
import ml_dtypes  # noqa: F401  NumPy knows bfloat16 from now on
import numpy as np
import numpy.typing as npt
from rich.console import Console

from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.data.pipeline import view_batches
from voc_cls.data.preprocessing import Preprocessing
from voc_cls.nets.network import Network, build
from voc_cls.training.augmented_views import View
from voc_cls.training.callbacks import progress_bar
from voc_cls.training.devices import compiles, policy, versions
from voc_cls.weights.tensors import tensors_digest

BATCH_SIZE = 32


@dataclass(frozen=True)
class FrozenBackbone:
    """`model` maps preprocessed images, float32 [N, size, size, 3], to what enters the first trained scope."""

    model: keras.Model
    preprocessing: Preprocessing
    key: dict[str, Any]
    """Everything but the image that decides its features, to the last bit."""

    def features(self, views: Sequence[View], cache: FeatureCache) -> CachedRows:
        """The features of `views`, [N, …], in the backbone's number format, those from `cache` that are in it.

        Raises DataError as `FeatureCache.rows` does.
        """
        return cache.rows(self.key, [view.item for view in views], tuple(self.model.output_shape[1:]),
                          self.model.output.dtype, lambda missing: self._compute([views[number] for number in missing]),
                          "features of the frozen layers")

    def _compute(self, views: Sequence[View]) -> Iterator[npt.NDArray[Any]]:
        """The features of `views`, in batches, with a progress bar on a terminal.

        Every batch is filled up to the same size: TensorFlow's mean over the grid gives other last bits in smaller
        ones, and features must not depend on what else is computed.
        """
        done, started = 0, time.monotonic()
        with progress_bar(Console(stderr=True)) as progress:
            task = progress.add_task("features", total=len(views), note="")
            for images in _batches(views, self.preprocessing):
                full = np.concatenate([images, np.repeat(images[-1:], BATCH_SIZE - len(images), axis=0)])
                # a tf.distribute.Strategy would give the batch to every device and return all of their answers
                yield self.model.predict_on_batch(full)[:len(images)]
                done += len(images)
                speed = done / (time.monotonic() - started)
                progress.update(task, completed=done, note=f"{speed:.0f} pictures/s")


def frozen_backbone(network: Network, first: str, precision: str) -> FrozenBackbone:
    """Everything before the scope `first`, computing in `precision`, with the weights that `network` has now."""
    inference = build(network.spec, network.head, network.classes, policy(precision))
    inference.model.set_weights(network.model.get_weights())
    model, _ = inference.cut(first)
    frozen = network.scopes[:network.scopes.index(first)]
    weights = {name: np.asarray(keras.ops.convert_to_numpy(variable)) for name, variable in network.variables().items()
               if name.removeprefix(f"{network.spec.scope}/").split("/")[0] in frozen}
    software = {name: version for name, version in versions().items()
                if name in ("voc-cls", "keras", "tensorflow", keras.backend.backend())}
    devices = sorted({device.split(":")[0] for device in keras.distribution.list_devices()})
    model.compile(jit_compile=compiles())
    preprocessing = network.spec.preprocessing
    return FrozenBackbone(model, preprocessing, {
        "net": network.spec.name, "cut": network.spec.cut, "head": network.head, "before": first,
        "weights": tensors_digest(sorted(weights.items())), "precision": precision,
        "preprocessing": preprocessing.to_dict(), "software": software, "devices": devices})


def _batches(views: Sequence[View], preprocessing: Preprocessing) -> Iterator[npt.NDArray[np.float32]]:
    """Batches of at most BATCH_SIZE images in the order of `views`; an image's successive views are decoded once."""
    for augmentation, alike in groupby(views, lambda view: view.augmentation):
        by_image = [(path, [view.draw for view in same]) for path, same in groupby(alike, lambda view: view.path)]
        paths, draws = zip(*by_image, strict=True)
        for batch in view_batches(paths, draws, BATCH_SIZE, preprocessing, augmentation):
            yield batch.numpy()
