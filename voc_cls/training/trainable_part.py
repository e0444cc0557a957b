"""What `fit` runs on: the whole network on pictures, or its trained part on the features of the frozen backbone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from voc_cls.data.augmentation import Augmentation
from voc_cls.data.dataset import Dataset
from voc_cls.data.feature_cache import CachedRows, FeatureCache
from voc_cls.data.pipeline import Order, image_batches, training_batches
from voc_cls.data.preprocessing import grey_levels
from voc_cls.errors import RunError
from voc_cls.files import file_digests
from voc_cls.nets.network import Network
from voc_cls.training.backbone import BATCH_SIZE, View, feature_batches, feature_rows, fixed_views, frozen_backbone
from voc_cls.training.callbacks import PredictionProgress
from voc_cls.training.config import ResolvedConfig
from voc_cls.training.devices import FeatureEngine
from voc_cls.training.distribution import SINGLE, Distribution
from voc_cls.training.ray_features import by_workers
from voc_cls.training.splits import Splits


@dataclass(frozen=True)
class TrainablePart:
    """`model` shares the layers of `whole`; `batches` gives it training data, `inputs` what it predicts from.

    `pictures` is the first batch of an order as the whole network sees it, float32 [B, size, size, 3] in 0-255; None
    where training sees no pictures. `rows` are then the training images' features, [N · views, …], the views of an
    image side by side.
    """

    model: keras.Model
    whole: keras.Model
    batches: Callable[[Order], Any]
    inputs: Callable[[Dataset], Any]
    description: str
    pictures: Callable[[Order], Any] = lambda _: None
    rows: CachedRows | None = None
    distribution: Distribution = SINGLE

    def shared_inputs(self, dataset: Dataset) -> object:
        """What this process predicts of `dataset`."""
        rows = np.arange(len(dataset))[self.distribution.share(len(dataset))]
        return self.inputs(dataset.subset(rows, dataset.name))

    def logits(self, inputs: object, count: int, title: str = "") -> npt.NDArray[np.float32]:
        """float32 [count, classes] of the current weights, on every process, from what `shared_inputs` returned; under
        a progress bar, if it has a title."""
        progress = PredictionProgress(title, count) if title else None
        with self.distribution.alone(self.model), progress.bar if progress else nullcontext():
            logits = np.asarray(self.model.predict(inputs, verbose=0, callbacks=progress and [progress]), np.float32)
        return finite(self.distribution.gather(logits, count))


def finite(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """`logits` as they are; RunError if training has blown them up."""
    if not np.isfinite(logits).all():
        raise RunError("the training diverged, the network's outputs are NaN or infinite; start again with a lower "
                       "`lr`")
    return logits


def whole_network(distribution: Distribution, network: Network, train: Dataset, augmentation: Augmentation,
                  pictures: Any = None) -> TrainablePart:
    """Every step decodes its pictures, or takes the decoded `pictures` of `train`, and runs all layers."""
    preprocessing = network.spec.preprocessing

    def batches(order: Order) -> Any:
        return training_batches(train.paths, train.targets, order, preprocessing, augmentation, pictures)

    return TrainablePart(
        distribution=distribution,
        model=network.model,
        whole=network.model,
        batches=batches,
        inputs=lambda dataset: image_batches(dataset.paths, BATCH_SIZE, preprocessing),
        description="the whole network, on pictures",
        pictures=lambda order: grey_levels(next(iter(batches(order.steps_between(0, 1))))[0].numpy(), preprocessing),
    )


def on_backbone_features(distribution: Distribution, network: Network, first: str, splits: Splits,
                         config: ResolvedConfig, report: Callable[[str], object],
                         choose: Callable[[Callable[[], FeatureEngine]], FeatureEngine] = lambda faster: faster()
                         ) -> TrainablePart:
    """The backbone, all before the scope `first`, runs once over all images; the rest of the network is the part.

    The training images are seen in `augmentation.views` views each; those of the other splits as they are. All features
    are computed here, or found in the cache, so that none can fail at the end of the run; `report` is told which. To be
    called outside a distribution strategy's scope. `choose` returns the engine of the features, and is given a function
    that measures which is faster. Raises DataError as `FeatureCache.rows` does.
    """
    augmentation, seed, precision = config.augmentation, config.training.seed, config.inference_precision
    backbone = frozen_backbone(network, first, precision)
    cache = FeatureCache(config.cache / "arrays", config.settings.compute.cache_gb, report)
    digests = dict(zip(splits.pictures, file_digests(splits.pictures), strict=True))
    views = [view for path in splits.train.paths for view in fixed_views(path, digests[path], augmentation, seed)]
    trained = len(views)
    views += [View(path, digests[path]) for path in splits.pictures[len(splits.train):]]
    engine = choose(lambda: backbone.faster_engine(views, cache))
    own, run = backbone.on(engine), config.settings.run
    features = own.features(views, cache, by_workers(network, first, own) if run.ray and run.hosts == 1 else None)
    where = {view.path: number for number, view in enumerate(views[trained:], trained)}
    rows = features.part(slice(trained))
    with distribution.scope():
        model = network.cut(first)[1]
    return TrainablePart(
        distribution=distribution,
        model=model,
        whole=network.model,
        batches=lambda order: feature_batches(rows, splits.train.targets, order),
        inputs=lambda dataset: feature_rows(features.part([where[path] for path in dataset.paths]), BATCH_SIZE),
        rows=rows,
        description=f"{first} and what follows, on the frozen backbone's features ({precision}"
                    f"{', by OpenVINO' if engine == 'openvino' else ''})",
    )


def why_not_cached(network: Network, first: str, splits: Splits, config: ResolvedConfig) -> str:
    """Why the backbone before `first` has to run in every step, for the start of the run; empty where it has not to."""
    augmentation, limit_gb = config.augmentation, config.settings.compute.cache_gb
    if first == network.scopes[0]:
        return "all layers are trained"
    entry = network.entries[first]
    if entry is None:
        return f"{first} also sees what left the cell before the last"
    if augmentation.mixes:
        return "mixup and cutmix make every picture anew"
    if augmentation.views is None:
        return "every augmented picture is new; with a number of views they can be kept"
    outputs = len(splits.train) * augmentation.views + len(splits.pictures) - len(splits.train)
    numbers = outputs * int(np.prod(entry.shape[1:]))
    size = numbers * (4 if config.inference_precision == "float32" else 2) / 1e9
    if size > limit_gb:
        return f"the frozen layers' features take {size:.3g} GB, more than the cache may take, {limit_gb:g} GB"
    return ""
