"""The features of a frozen backbone, computed once and kept on disk: afterwards only what is trained has to run."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import keras
import ml_dtypes  # noqa: F401  NumPy knows bfloat16 from now on
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from rich.console import Console

from voc_cls.console import duration, progress_bar
from voc_cls.data.augmentation import Augmentation
from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.data.pipeline import Order, prefetched, view_batches
from voc_cls.data.transforms import FLIP_BITS
from voc_cls.errors import UsageError
from voc_cls.image_decoder import Preprocessing
from voc_cls.nets.network import Network, build
from voc_cls.openvino_core import import_openvino, openvino_core
from voc_cls.training.devices import FeatureEngine, accelerators, compiles, cores, installed, policy, versions
from voc_cls.weights.tensors import tensors_digest

TITLE = "features of the frozen layers"
BATCH_SIZE = 32
LONG = 60
"""Seconds to go from which on a line says so, as a log shows no bar."""
MEASURED_FROM = 1000
"""Features from which on it pays to start both engines and compute two batches with each: some ten seconds."""
FASTER = 1.1
"""OpenVINO's speed relative to Keras' from which on it is used: less may be chance, and Keras is what trains."""
SAME = {"float32": 1e-3, "bfloat16": 0.1}
"""Relative difference (of norms) up to which features are the same; Keras' bfloat16 may be 0.07 off its float32."""
OPENVINO = {"float32": "f32", "bfloat16": "bf16"}
"""OpenVINO's names of the formats. As in Keras' mixed precision, what follows the last convolution is float32."""
HELD_BYTES = 1e9
"""Up to this size the features are held in memory; larger ones are read from disk batch by batch."""


@dataclass(frozen=True)
class View:
    """One way to see the image at `path`, by default as it is. `item` names by content what is seen, for a cache."""

    path: Path
    item: str
    augmentation: Augmentation = field(default_factory=Augmentation)
    draw: int = 0


def fixed_views(path: Path, digest: str, augmentation: Augmentation, seed: int) -> list[View]:
    """`augmentation.views` views of the image at `path`, whose file has this digest; `seed` matters beyond flips.

    With flips alone view v is the one of draw v, so that `draw % views` says which view a draw means. Otherwise its
    draw comes from the seed, the image and v, but for the bits that flip: these are v's, so all are equally many.
    """
    views = []
    for number in range(augmentation.views or 0):
        if augmentation.only_flips:
            draw = number
            axes = [axis for bit, axis in enumerate(augmentation.flips) if draw >> bit & 1]
            item = f"{digest} reversed {axes}" if axes else digest  # as it is: the same row as in another split
        else:
            drawn = int.from_bytes(hashlib.sha256(f"{seed} {digest} {number}".encode()).digest()[:7])
            draw = (drawn << FLIP_BITS) + number % (1 << FLIP_BITS)
            item = f"{digest} {draw} {json.dumps(asdict(replace(augmentation, views=None)))}"
        views.append(View(path, item, augmentation, draw))
    return views


@dataclass(frozen=True)
class FrozenBackbone:
    """`model` maps preprocessed images, float32 [N, size, size, 3], to what enters the first trained scope."""

    model: keras.Model
    preprocessing: Preprocessing
    precision: str
    key: dict[str, Any]
    """Everything but the image that decides its features, to the last bit."""
    plain: Callable[[], keras.Model]
    """Builds `model` in float32: OpenVINO computes in other formats, but does not read them."""
    engine: FeatureEngine = "keras"

    @property
    def engines(self) -> tuple[FeatureEngine, ...]:
        """What can compute it here. Keras exports to OpenVINO from TensorFlow alone (3.15 fails with JAX 0.10)."""
        has_openvino = installed("openvino") and keras.backend.backend() == "tensorflow" and self.precision in OPENVINO
        return ("keras", "openvino") if has_openvino else ("keras",)

    def on(self, engine: FeatureEngine) -> FrozenBackbone:
        """This backbone of Keras, computed by `engine`, with other last bits; UsageError where it cannot be."""
        if engine not in self.engines:
            raise UsageError(f"`feature_engine` {engine}: cannot compute {self.precision} features with the "
                             f"{keras.backend.backend()} backend; it needs TensorFlow's, float32 or bfloat16, and "
                             'pip install "voc-cls[export]"; choose keras')
        own = {} if engine == "keras" else {"engine": f"{engine} {installed(engine)}"}
        return replace(self, engine=engine, key=self.key | own)

    def features(self, views: Sequence[View], cache: FeatureCache,
                 compute: Callable[[Sequence[View]], Iterator[npt.NDArray[Any]]] | None = None) -> CachedRows:
        """The features of `views`, [N, …], in the backbone's number format, those from `cache` that are in it.

        compute: what computes the others, as `self.compute`, the default, does. With a progress bar on a terminal.
        Raises DataError as `FeatureCache.rows` does.
        """
        def shown(missing: Sequence[int]) -> Iterator[npt.NDArray[Any]]:
            done = first = 0
            with progress_bar(Console(stderr=True)) as progress:
                task = progress.add_task("features", total=len(missing), note="")
                for rows in (compute or self.compute)([views[number] for number in missing]):
                    yield rows
                    done += len(rows)
                    progress.update(task, completed=done)
                    if not first:  # it includes what is done once
                        first, started = done, time.monotonic()
                        continue
                    speed = (done - first) / (time.monotonic() - started)
                    progress.update(task, note=f"{speed:.3g} pictures/s")
                    left = (len(missing) - done) / speed
                    if done == 2 * first and left >= LONG:
                        cache.report(f"{TITLE}: about {duration(left)} to go")

        return cache.rows(*self._rows(views), shown, TITLE)

    def faster_engine(self, views: Sequence[View], cache: FeatureCache) -> FeatureEngine:
        """The engine that `cache` has most of the features of `views` from or, where many are missing, that which
        computes them faster, measured now and told to `cache.report`; OpenVINO only where it computes the same."""
        if accelerators() or self.engines == ("keras",):
            return "keras"
        engines = {engine: self.on(engine) for engine in self.engines}
        missing = {engine: cache.missing(*own._rows(views), TITLE) for engine, own in engines.items()}
        fewest: FeatureEngine = min(missing, key=missing.__getitem__)
        if missing[fewest] < MEASURED_FROM:
            return fewest
        images = np.random.default_rng(0).normal(0, 50, (BATCH_SIZE, *self.model.input_shape[1:])).astype(np.float32)
        speeds, features = {}, {}
        try:
            for engine, own in (*engines.items(), *engines.items()):  # the first time includes what is done once
                started = time.monotonic()
                features[engine] = np.asarray(own.function(images), np.float32)
                speeds[engine] = BATCH_SIZE / (time.monotonic() - started)
        except Exception as error:  # it fails in many ways, and Keras can compute them
            cache.report(f"{TITLE}: by Keras, OpenVINO cannot compute them ({' '.join(str(error).split())[:200]})")
            return "keras"
        difference = np.linalg.norm(features["openvino"] - features["keras"]) / np.linalg.norm(features["keras"])
        faster = speeds["openvino"] >= FASTER * speeds["keras"] and difference <= SAME[self.precision]
        cache.report(f"{TITLE}: by {'OpenVINO' if faster else 'Keras'} in {self.precision}; measured: OpenVINO "
                     f"{speeds['openvino']:.1f} pictures/s, Keras {speeds['keras']:.1f}, difference {difference:.1e}")
        return "openvino" if faster else "keras"

    @cached_property
    def function(self) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]:
        """float32 [BATCH_SIZE, size, size, 3] → features, by the engine, which is started at the first use."""
        if self.engine == "keras":
            # a tf.distribute.Strategy would give the batch to every device and return all of their answers
            return self.model.predict_on_batch  # type: ignore[no-any-return]
        openvino, model = import_openvino(whole=True), self.plain()
        batch = tf.TensorSpec([BATCH_SIZE, *model.input_shape[1:]], tf.float32)
        graph = openvino.convert_model(tf.function(lambda images: model(images, training=False), [batch]))
        compiled = openvino_core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": OPENVINO[self.precision],
                                                         "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": cores(),
                                                         "ENABLE_CPU_PINNING": False})
        return lambda images: compiled(images)[0].astype(self.model.output.dtype)

    def _rows(self, views: Sequence[View]) -> tuple[dict[str, Any], list[str], tuple[int, ...], str]:
        return (self.key, [view.item for view in views], tuple(self.model.output_shape[1:]), self.model.output.dtype)

    def compute(self, views: Sequence[View]) -> Iterator[npt.NDArray[Any]]:
        """The features of `views`, in batches.

        Every batch is filled up to the same size: TensorFlow's mean over the grid gives other last bits in smaller
        ones, and features must not depend on what else is computed.
        """
        for images in _batches(views, self.preprocessing):
            full = np.concatenate([images, np.repeat(images[-1:], BATCH_SIZE - len(images), axis=0)])
            yield self.function(full)[:len(images)]


def frozen_backbone(network: Network, first: str, precision: str) -> FrozenBackbone:
    """Everything before the scope `first`, computing in `precision`, with the weights that `network` has now."""
    def built(precision: str) -> keras.Model:
        inference = build(network.spec, network.head, network.classes, policy(precision))
        inference.model.set_weights(network.model.get_weights())
        return inference.cut(first)[0]

    model = built(precision)
    frozen = network.scopes[:network.scopes.index(first)]
    weights = {name: np.asarray(keras.ops.convert_to_numpy(variable)) for name, variable in network.variables().items()
               if name.removeprefix(f"{network.spec.scope}/").split("/")[0] in frozen}
    software = {name: version for name, version in versions().items()
                if name in ("voc-cls", "keras", "tensorflow", keras.backend.backend())}
    devices = sorted({device.split(":")[0] for device in keras.distribution.list_devices()})
    model.compile(jit_compile=compiles())
    preprocessing = network.spec.preprocessing
    return FrozenBackbone(model, preprocessing, precision, {
        "net": network.spec.name, "cut": network.spec.cut, "before": first,
        "head": network.head if first == network.scopes[-1] else None,  # what is further down does not depend on it
        "weights": tensors_digest(sorted(weights.items())), "precision": precision,
        "preprocessing": asdict(preprocessing), "software": software, "devices": devices}, lambda: built("float32"))


def _batches(views: Sequence[View], preprocessing: Preprocessing) -> Iterator[npt.NDArray[np.float32]]:
    """Batches of at most BATCH_SIZE images in the order of `views`; an image's successive views are decoded once."""
    for augmentation, alike in groupby(views, lambda view: view.augmentation):
        by_image = [(path, [view.draw for view in same]) for path, same in groupby(alike, lambda view: view.path)]
        paths, draws = zip(*by_image, strict=True)
        for batch in view_batches(paths, draws, BATCH_SIZE, preprocessing, augmentation):
            yield batch.numpy()


def feature_batches(features: CachedRows | npt.NDArray[Any], targets: npt.NDArray[np.float32],
                    order: Order) -> tf.data.Dataset:
    """Like `training_batches`, on features: batches of ([B, …], float32 [B, classes]) in `order`.

    features: [N · views, …], the views of an image side by side. Seen is view `draw % views`.
    """
    views = len(features) // len(targets)
    labels, rows = tf.constant(targets), order.index * views + order.draw % views
    gather = _gather(features)
    batches = tf.data.Dataset.from_tensor_slices((rows, order.index))
    return prefetched(batches.map(lambda row, index: (gather(row), tf.gather(labels, index)), tf.data.AUTOTUNE,
                                  deterministic=True))


def feature_rows(features: CachedRows | npt.NDArray[Any], batch_size: int) -> tf.data.Dataset:
    """Batches of [≤ batch_size, …] for inference: all rows in their order."""
    rows = tf.data.Dataset.range(len(features)).batch(batch_size)
    return prefetched(rows.map(_gather(features)))


def _gather(features: CachedRows | npt.NDArray[Any]) -> Any:
    """Row numbers, int64 [B] → their rows [B, …]."""
    dtype, shape = tf.as_dtype(features.dtype), features.shape
    if int(np.prod(shape, dtype=np.int64)) * dtype.size <= HELD_BYTES:
        with tf.device("CPU"):
            held = tf.constant(features[:])
        return lambda rows: tf.gather(held, rows)

    def read(rows: tf.Tensor) -> tf.Tensor:
        return tf.ensure_shape(tf.numpy_function(features.__getitem__, [rows], dtype, stateful=False),
                               [None, *shape[1:]])

    return read
