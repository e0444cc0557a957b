"""Test-time augmentation: what is averaged, on a small network of the real layers and real pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from voc_cls.image_decoder import Preprocessing
from voc_cls.model_metadata import SCALES
from voc_cls.nets import layers
from voc_cls.nets.network import Network, build
from voc_cls.nets.registry import net_spec
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import TrainedRun

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

SIZE, CLASSES = 64, 3


def network(head: str, monkeypatch: pytest.MonkeyPatch, size: int = SIZE) -> Network:
    """VGG's layers with few filters; the same weights for every size."""
    monkeypatch.setattr(layers, "FC_UNITS", 16)
    keras.utils.set_random_seed(0)
    spec = replace(net_spec("vgg_16"), blocks=((4, 1), (4, 1), (8, 1), (8, 1), (8, 1)),
                   preprocessing=Preprocessing(size, (120.0, 110.0, 100.0)))
    return build(spec, head, CLASSES)


def pictures(number: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-100, 100, (number, size, size, 3)).astype(np.float32)


def test_the_sizes_are_those_that_are_documented():
    assert [round(224 * scale) for scale in SCALES] == [224, 256, 288]


def test_the_gap_head_at_another_size_is_the_network_built_for_that_size(monkeypatch: pytest.MonkeyPatch):
    small, large = network("gap", monkeypatch), network("gap", monkeypatch, 96)
    anywhere, given = small.at_any_size(), pictures(2, 96)
    assert np.asarray(anywhere(given[:, :SIZE, :SIZE])) == pytest.approx(
        np.asarray(small.model(given[:, :SIZE, :SIZE])), abs=1e-5)
    assert np.asarray(anywhere(given)) == pytest.approx(np.asarray(large.model(given)), abs=1e-5)


def test_the_fc_head_at_another_size_averages_over_the_places_its_input_fits_into(monkeypatch: pytest.MonkeyPatch):
    net = network("fc", monkeypatch)
    for variable in net.model.weights:
        if "conv" in variable.path and variable.path.endswith("kernel"):  # see one pixel each: no borders are felt
            kernel = np.zeros(variable.shape, np.float32)
            kernel[1, 1] = np.random.default_rng(1).normal(size=variable.shape[2:])
            variable.assign(kernel)
    given = pictures(2, 96)
    crops = [given[:, top:top + SIZE, left:left + SIZE] for top in (0, 32) for left in (0, 32)]
    expected = np.mean([np.asarray(net.model(crop)) for crop in crops], axis=0)
    assert np.abs(expected).max() > 0.1
    assert np.asarray(net.at_any_size()(given)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_runs_logits_are_the_mean_over_the_views(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    net = network("fc", monkeypatch)
    run = TrainedRun(RunFolder(tmp_path), {}, ("a", "b", "c"), net)
    random, files, mirrored = np.random.default_rng(2), [], []
    for number in range(3):
        image = Image.fromarray(random.integers(0, 256, (70 + number, 90, 3), np.uint8))
        files.append(tmp_path / f"{number}.png")
        mirrored.append(tmp_path / f"{number}-mirrored.png")
        image.save(files[-1])
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored[-1])
    plain, mirror = run.logits(files), run.logits(mirrored)
    assert np.abs(plain - mirror).max() > 1e-3
    assert run.logits(files, tta="flip") == pytest.approx((plain + mirror) / 2, abs=1e-3)
    anywhere, sizes = net.at_any_size(), [round(SIZE * scale) for scale in SCALES]
    scales = [np.asarray(anywhere(scaled(net, files, size))) for size in sizes]
    assert np.abs(scales[0] - scales[2]).max() > 1e-3
    assert run.logits(files, tta="multi-scale") == pytest.approx(np.mean(scales, axis=0), abs=1e-3)
    mirrored_scales = [np.asarray(anywhere(scaled(net, mirrored, size))) for size in sizes]
    assert run.logits(files, tta="both") == pytest.approx(np.mean(scales + mirrored_scales, axis=0), abs=1e-3)


def scaled(net: Network, files: list[Path], size: int) -> np.ndarray:
    """The files as the network's input at `size`, by another road than the one under test."""
    import tensorflow as tf

    decoded = [np.asarray(Image.open(file), np.float32) for file in files]
    return np.stack([tf.image.resize(image, [size, size]) - net.spec.preprocessing.mean for image in decoded])


@pytest.mark.parametrize(("net", "head", "size"), [("resnet_v2_50", "fc", 64), ("inception_v1", "gap+max", 32)])
def test_a_head_on_the_grids_mean_sees_a_larger_grid_at_another_size(net: str, head: str, size: int):
    keras.utils.set_random_seed(0)
    spec = net_spec(net, size)
    narrow = {"blocks": ((4, 2), (4, 2), (8, 1), (8, 1))} if spec.blocks else {}
    given = pictures(2, size + 32)
    small = build(replace(spec, **narrow), head, CLASSES)
    large = build(replace(net_spec(net, size + 32), **narrow), head, CLASSES)
    large.model.set_weights(small.model.get_weights())
    assert np.asarray(small.at_any_size()(given)) == pytest.approx(np.asarray(large.model(given)), rel=1e-3, abs=1e-5)
