"""How ImageNet weights are recognised."""

import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import NETS
from voc_cls.weights.fetch import check_imagenet, projection
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.naming.slim import slim_shapes


def rewritten(source, target, **changes):
    """A copy of a checkpoint in which some layers went through a function."""
    opened = tf_checkpoint.read(source)
    arrays = {name: opened.read(name) for name in opened.tensors}
    for layer, change in changes.items():
        name = next(name for name in arrays if name.endswith(f"/{layer}/weights"))
        arrays[name] = np.ascontiguousarray(change(arrays[name]))
    write_checkpoint(target, arrays)
    return target


def test_a_projection_withstands_rounding_but_no_reordering():
    weights = np.random.default_rng(0).standard_normal((3, 3, 3, 64))
    size = np.linalg.norm(weights)
    assert abs(projection(weights.astype(np.float16)) - projection(weights)) < 1e-3 * size
    assert abs(projection(weights[:, :, ::-1]) - projection(weights)) > 1e-2 * size
    assert abs(projection(weights.transpose(1, 0, 2, 3)) - projection(weights)) > 1e-2 * size


def test_the_true_convolutions_pass_and_what_is_missing_after_them_is_named(imagenet_convolutions):
    with pytest.raises(WeightsError, match=r"lacks vgg_16/fc6/weights, expected \[7, 7, 512, 4096\]"):
        check_imagenet(imagenet_convolutions, "vgg_16")


@pytest.mark.parametrize(("layer", "change"), [
    ("conv1_1", lambda weights: weights[:, :, ::-1]),  # BGR
    ("conv3_2", lambda weights: weights.transpose(1, 0, 2, 3)),
    ("conv5_3", lambda weights: weights * 1.01),
])
def test_convolutions_with_other_values_are_refused(layer, change, tmp_path, imagenet_convolutions):
    changed = rewritten(imagenet_convolutions, tmp_path / "changed.ckpt", **{layer: change})
    with pytest.raises(WeightsError, match=rf"changed\.ckpt is not .*: vgg_16/conv./{layer}/weights has other values"):
        check_imagenet(changed, "vgg_16")


def test_a_checkpoint_of_another_shape_is_refused(tmp_path):
    write_checkpoint(tmp_path / "small.ckpt", {"vgg_16/conv1/conv1_1/weights": np.ones((3, 3, 3, 8), np.float32)})
    with pytest.raises(WeightsError, match=r"it has vgg_16/conv1/conv1_1/weights as \[3, 3, 3, 8\], expected "
                                           r"\[3, 3, 3, 64\]"):
        check_imagenet(tmp_path / "small.ckpt", "vgg_16")


def test_a_network_without_known_values_is_checked_by_names_shapes_and_finiteness(tmp_path):
    arrays = {name: np.full(shape, 0.5, np.float32) for name, shape in slim_shapes(NETS["inception_v1"]).items()}
    write_checkpoint(tmp_path / "inception_v1.ckpt", arrays)
    check_imagenet(tmp_path / "inception_v1.ckpt", "inception_v1")
    name = "InceptionV1/Mixed_3b/Branch_1/Conv2d_0b_3x3/BatchNorm/moving_variance"
    write_checkpoint(tmp_path / "nan.ckpt", {**arrays, name: np.full(128, np.nan, np.float32)})
    with pytest.raises(WeightsError, match=rf"nan\.ckpt: {name} has 128 of 128 values that are NaN"):
        check_imagenet(tmp_path / "nan.ckpt", "inception_v1")
    write_checkpoint(tmp_path / "short.ckpt", {other: array for other, array in arrays.items() if other != name})
    with pytest.raises(WeightsError, match=rf"is not the ImageNet checkpoint of inception_v1: it lacks {name}"):
        check_imagenet(tmp_path / "short.ckpt", "inception_v1")
