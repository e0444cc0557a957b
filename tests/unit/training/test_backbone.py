"""Features of a frozen backbone: the network's own, computed once, anew whenever anything they depend on changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import ml_dtypes
import numpy as np
import pytest

from voc_cls.data.augmentation import PRESETS, Augmentation, AugmentationConfig
from voc_cls.data.dataset import Dataset
from voc_cls.data.feature_cache import FeatureCache
from voc_cls.data.pipeline import shuffled_order
from voc_cls.errors import UsageError
from voc_cls.files import file_digests
from voc_cls.nets.network import Network
from voc_cls.training import backbone as backbone_module
from voc_cls.training.backbone import View, fixed_views, frozen_backbone
from voc_cls.training.config import (
    ComputeConfig,
    DatasetConfig,
    NetworkConfig,
    ResolvedConfig,
    TrainConfig,
    TrainingConfig,
)
from voc_cls.training.distribution import SINGLE
from voc_cls.training.splits import Splits
from voc_cls.training.trainable_part import TrainablePart, on_backbone_features, whole_network, why_not_cached

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

FLIPS = AugmentationConfig().resolved()
LECTURE = AugmentationConfig(augment="lecture", views=3).resolved()


@pytest.fixture
def splits(small_dataset: Callable[..., Dataset]) -> Splits:
    return Splits(small_dataset("train", 20), small_dataset("val", 7), small_dataset("test", 5))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> FeatureCache:
    return FeatureCache(tmp_path / "arrays", 1.0, said.append)


def part(network: Network, splits: Splits, cache: FeatureCache, first: str = "conv3",
         augmentation: Augmentation = FLIPS, seed: int = 0, precision: str = "float32") -> TrainablePart:
    config = replace(resolved(splits, augmentation, seed, precision), cache=cache.folder.parent)
    return on_backbone_features(SINGLE, network, first, splits, config, cache.report)


def resolved(splits: Splits, augmentation: Augmentation, seed: int = 0, precision: str = "float32",
             limit_gb: float = 1.0) -> ResolvedConfig:
    settings = TrainConfig(DatasetConfig((Path("data"),)), NetworkConfig("none"), training=TrainingConfig(seed=seed),
                           compute=ComputeConfig(inference_precision=precision, cache_gb=limit_gb))
    return replace(settings.resolved(splits.train), augmentation=augmentation)


def computed(said: list[str]) -> int:
    """How many features the last line says were computed."""
    found = re.search(r"(\d+) to compute", said[-1])
    return int(found[1]) if found else 0


def test_training_and_prediction_see_what_the_whole_network_sees(small_network, splits, cache):
    network = small_network()
    cached, whole = part(network, splits, cache), whole_network(SINGLE, network, splits.train, FLIPS)
    order = shuffled_order(20, 4, 6, seed=1)
    backbone = frozen_backbone(network, "conv3", "float32").model
    for (ours, targets), (pictures, wanted) in zip(cached.batches(order), whole.batches(order), strict=True):
        assert np.array_equal(targets, wanted)
        np.testing.assert_allclose(ours, backbone(pictures), rtol=1e-4, atol=1e-3)
    for dataset in (splits.val, splits.eval):
        logits = [some.model.predict(some.inputs(dataset), verbose=0) for some in (cached, whole)]
        assert len(logits[0]) == len(dataset)
        np.testing.assert_allclose(*logits, rtol=1e-4, atol=1e-4)


def test_the_same_run_again_computes_nothing(small_network, splits, cache, said):
    part(small_network(), splits, cache)
    assert computed(said) == 2 * 20 + 7 + 5
    part(small_network(), splits, cache)
    assert computed(said) == 0
    assert said[-1].startswith("features of the frozen layers: 52 from the cache ")


def test_other_splits_of_the_same_pictures_compute_only_views_that_are_new(small_network, splits, cache, said):
    part(small_network(), splits, cache)
    pictures = replace(splits.train, paths=splits.train.paths + splits.val.paths,
                       labels=np.concatenate([splits.train.labels, splits.val.labels]),
                       ignored=np.concatenate([splits.train.ignored, splits.val.ignored]))
    fold = Splits(pictures.subset(np.arange(5, 27), "other"), pictures.subset(np.arange(5), "fold"), None)
    part(small_network(), fold, cache)
    assert computed(said) == 7  # the mirror images of what was validated on


@pytest.mark.parametrize("engine", ["keras", "openvino"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_feature_is_the_same_bits_whatever_is_computed_with_it(small_network, splits, cache, tmp_path, precision,
                                                                 engine):
    pytest.importorskip(engine)
    # its mean depends on the size of a batch
    backbone = frozen_backbone(small_network(), "m_fc8", precision).on(engine)
    digests = file_digests(splits.train.paths)
    views = [view for path, digest in zip(splits.train.paths, digests, strict=True)
             for view in fixed_views(path, digest, LECTURE, seed=0)]
    rows = backbone.features(views, cache)
    assert len(rows) == 60
    again = FeatureCache(tmp_path / "again", 1.0, print)
    for some in (views[7:9], views[20:31], views[45:], views[::-1]):
        backbone.features(some, again)
    assert np.array_equal(backbone.features(views, again)[:], rows[:])
    assert np.array_equal(backbone.features(views, cache)[:], rows[:])


@pytest.mark.parametrize(("precision", "first", "tolerance"), [("float32", "conv3", 1e-5), ("bfloat16", "conv3", 2e-2),
                                                               ("bfloat16", "m_fc8", 2e-2)])
def test_openvino_computes_the_same_features_in_the_same_format(small_network, splits, cache, said, precision, first,
                                                                tolerance):
    pytest.importorskip("openvino")
    backbone = frozen_backbone(small_network(), first, precision)
    views = [View(path, digest) for path, digest in zip(splits.train.paths, file_digests(splits.train.paths),
                                                        strict=True)]
    ours, theirs = backbone.on("openvino").features(views, cache), backbone.features(views, cache)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    first_rows, second_rows = ours[:].astype(np.float32), theirs[:].astype(np.float32)
    assert np.linalg.norm(first_rows - second_rows) <= tolerance * np.linalg.norm(second_rows)
    assert [line.count("20 to compute") for line in said] == [1, 1]  # each under its own key


def test_the_engine_is_measured_once_for_many_features_and_then_that_of_the_cache(small_network, splits, cache, said,
                                                                                 monkeypatch):
    pytest.importorskip("openvino")
    backbone = frozen_backbone(small_network(), "m_fc8", "float32")
    views = [View(path, digest) for path, digest in zip(splits.train.paths, file_digests(splits.train.paths),
                                                        strict=True)]
    assert backbone.faster_engine(views, cache) == "keras"
    assert said == []  # too few to measure
    monkeypatch.setattr(backbone_module, "MEASURED_FROM", 20)
    for bar, engine, name in ((0.0, "openvino", "OpenVINO"), (np.inf, "keras", "Keras")):
        monkeypatch.setattr(backbone_module, "FASTER", bar)
        assert backbone.faster_engine(views, cache) == engine
        line = (rf"features of the frozen layers: by {name} in float32; measured: OpenVINO [\d.]+ pictures/s, "
                r"Keras [\d.]+, difference \d\.\de-0\d")
        assert re.fullmatch(line, said.pop())
    monkeypatch.setattr(backbone_module, "FASTER", 0.0)
    monkeypatch.setattr(backbone_module, "SAME", {"float32": 0.0})
    assert backbone.faster_engine(views, cache) == "keras"  # not the same function
    monkeypatch.setattr(backbone_module, "installed", lambda _: None)
    said.clear()
    assert backbone.faster_engine(views, cache) == "keras"
    assert said == []  # not installed
    message = "^`feature_engine` openvino: cannot compute float32 features with the tensorflow backend; it .*keras$"
    with pytest.raises(UsageError, match=message):
        backbone.on("openvino")
    monkeypatch.undo()
    monkeypatch.setattr(backbone_module, "MEASURED_FROM", 20)
    backbone.on("openvino").features(views[1:], cache)
    said.clear()
    assert backbone.faster_engine(views, cache) == "openvino"
    assert said == []  # most of them are in the cache


def test_anything_a_feature_depends_on_makes_it_another(small_network, splits, cache, said):
    part(small_network(), splits, cache)
    for other in ({"network": small_network(seed=1)}, {"network": small_network(mean=99.0)}, {"first": "conv2"},
                  {"precision": "bfloat16"}):
        network = other.pop("network", None) or small_network()
        part(network, splits, cache, **other)
        assert computed(said) == 52, other
        part(network, splits, cache, **other)
        assert computed(said) == 0, other


def test_what_a_feature_does_not_depend_on_changes_nothing(small_network, splits, cache, said):
    network = small_network()
    part(network, splits, cache)
    for name, variable in network.variables().items():
        if "conv3" in name or "m_fc8" in name:
            variable.assign(variable + 1)
    part(network, splits, cache, seed=5)  # flips are all there is: no chance in them
    part(network, replace(splits, train=replace(splits.train, labels=1 - splits.train.labels)), cache)
    assert said[1:] == [said[-1]] * 2
    assert computed(said) == 0


def test_other_augmentations_and_seeds_have_views_of_their_own(small_network, splits, cache, said):
    network, training = small_network(), Splits(splits.train, None, None)
    part(network, training, cache, augmentation=LECTURE)
    assert computed(said) == 60
    part(network, training, cache, augmentation=LECTURE, seed=1)
    assert computed(said) == 60
    part(network, training, cache, augmentation=replace(LECTURE, rotation=5.0))
    assert computed(said) == 60
    part(network, training, cache, augmentation=replace(LECTURE, views=4))
    assert computed(said) == 20
    part(network, training, cache, augmentation=replace(FLIPS, vertical=True, views=4))
    assert computed(said) == 80
    part(network, training, cache, augmentation=FLIPS)
    assert computed(said) == 0  # they are among those
    part(network, training, cache, augmentation=LECTURE)
    assert computed(said) == 0


def test_views_are_mirrored_in_turn_and_never_the_same():
    views = fixed_views(Path("a.jpg"), "digest", LECTURE, seed=0)
    assert [view.draw & 1 for view in views] == [0, 1, 0]
    assert len({view.draw >> 2 for view in views}) == 3


def test_a_picture_replaced_by_another_of_the_same_name_is_computed_anew(small_network, splits, cache, said):
    network = small_network()
    before = list(part(network, splits, cache).batches(shuffled_order(20, 5, 4, seed=0)))
    cv2.imwrite(str(splits.train.paths[3]), np.full((24, 40, 3), 200, np.uint8))
    after = list(part(network, splits, cache).batches(shuffled_order(20, 5, 4, seed=0)))
    assert computed(said) == 2  # and its mirror image
    changed = sum(not np.array_equal(a, b) for old, new in zip(before, after, strict=True)
                  for a, b in zip(old[0], new[0], strict=True))
    assert changed == 1


def test_bfloat16_features_take_two_bytes_and_train_the_rest(small_network, splits, cache):
    network = small_network()
    trained = part(network, splits, cache, precision="bfloat16")
    [file] = cache.folder.glob("*/block-*.npy")
    assert 52 * 8 * 8 * 16 * 2 <= file.stat().st_size < 52 * 8 * 8 * 16 * 3
    order = shuffled_order(20, 4, 6, seed=0)
    assert next(iter(trained.batches(order)))[0].numpy().dtype == ml_dtypes.bfloat16
    trained.model.compile(keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy(from_logits=True),
                          jit_compile=False)
    history = trained.model.fit(trained.batches(order).repeat(), steps_per_epoch=4, epochs=5, verbose=0, shuffle=False)
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert trained.model.predict(trained.inputs(splits.val), verbose=0).dtype == np.float32


def test_why_features_cannot_be_cached_is_said(small_network, splits):
    network = small_network()

    def why(first: str = "conv3", augmentation: Augmentation = FLIPS, limit_gb: float = 1.0) -> str:
        return why_not_cached(network, first, splits, resolved(splits, augmentation, limit_gb=limit_gb))

    assert why() == ""
    assert why(augmentation=PRESETS["none"]) != ""  # not resolved: no number of views
    assert why(augmentation=AugmentationConfig(augment="none").resolved()) == ""
    assert why("conv1") == "all layers are trained"
    network.entries["conv2"] = None  # as a cell of NASNet
    assert why("conv2") == "conv2 also sees what left the cell before the last"
    assert why(augmentation=AugmentationConfig(mixup=0.2).resolved()).startswith("mixup")
    assert "a number of views" in why(augmentation=AugmentationConfig(augment="randaugment").resolved())
    features = 52 * 8 * 8 * 16 * 4 / 1e9
    assert why(limit_gb=features) == ""
    assert "more than the cache may take" in why(limit_gb=0.99 * features)
