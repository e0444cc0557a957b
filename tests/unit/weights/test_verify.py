"""Our networks against TF-Slim's own, on the same random values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.slim_facts import FACTS, OUTPUTS, check_live, check_outputs
from voc_cls.errors import UsageError, WeightsError
from voc_cls.nets.registry import NETS, net_spec
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.naming.slim import slim_shapes
from voc_cls.weights.verify import (
    GRIDS,
    Outputs,
    Verification,
    compare_outputs,
    filler,
    random_images,
    reference,
    verify,
)

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out


def test_every_network_that_tf_slim_has_has_a_reference_and_the_others_recorded_outputs():
    assert set(GRIDS) | set(FACTS) == set(NETS)
    with pytest.raises(UsageError, match="`net` inception_v4: tf_slim has no such network to compare with"):
        verify(None, "inception_v4")


@pytest.mark.parametrize(("net", "size"), [("alexnet_v2", 224), ("resnet_v1_50", 64)])
def test_outputs_and_batch_statistics_equal_tf_slims(net: str, size: int):
    check_live(net, size)


@pytest.mark.parametrize("net", OUTPUTS)
def test_outputs_and_batch_statistics_equal_what_tf_slims_were(net: str):
    check_outputs(net)  # `make endurance` runs TF-Slim's too


def test_a_layer_of_another_shape_is_named(tmp_path: Path):
    write_checkpoint(tmp_path / "thin.ckpt", {"resnet_v1_50/conv1/weights": np.ones((7, 7, 3, 32), np.float32)})
    with pytest.raises(WeightsError, match=r"thin\.ckpt: resnet_v1_50/conv1/weights is \[7, 7, 3, 32\], where "
                                           r"TF-Slim's resnet_v1_50 has \[7, 7, 3, 64\]"):
        verify(tmp_path / "thin.ckpt", "resnet_v1_50", image_size=32)


def test_a_variable_that_only_one_of_both_networks_has_is_named():
    spec = net_spec("alexnet_v2")
    values = {name: filler(name, shape) for name, shape in slim_shapes(spec, 2).items()}
    values["alexnet_v2/conv9/weights"] = np.ones(1, np.float32)
    with pytest.raises(WeightsError, match="alexnet_v2 and voc-cls' do not share the variables alexnet_v2/conv9/weig"):
        reference(values, spec, random_images(spec))


def some_outputs() -> Outputs:
    random = np.random.default_rng(0)
    return {"grid": random.normal(size=(3, 2, 2, 4)).astype(np.float32),
            "logits": random.normal(size=(3, 5)).astype(np.float32),
            "logits in training": random.normal(size=(3, 5)).astype(np.float32),
            **{f"net/{layer}/BatchNorm/{word}": random.random(4, dtype=np.float32)
               for word in ("moving_mean", "moving_variance") for layer in ("a", "b")}}


@pytest.mark.parametrize("changed", ["grid", "logits", "logits in training", "moving means", "moving variances"])
@pytest.mark.parametrize("by", [1.001, np.nan])
def test_a_difference_anywhere_is_found_and_named(changed: str, by: float):
    theirs = some_outputs()
    name = f"net/b/BatchNorm/{changed.replace(' ', '_')[:-1]}" if changed.startswith("moving") else changed
    ours = {**theirs, name: theirs[name] * np.float32(by)}
    rows = compare_outputs(ours, theirs, NETS["resnet_v1_50"])
    assert [row.output for row in rows if not row.equal] == [changed]
    with pytest.raises(WeightsError, match=rf"random values: {changed} of voc-cls' resnet_v1_50 differs from "):
        Verification("random values", "resnet_v1_50", 5, 224, (), ("a",), rows).check()


def test_filled_in_values_are_sane_and_the_same_every_time():
    kernel = filler("net/conv/weights", (3, 3, 64, 128))
    assert np.array_equal(kernel, filler("net/conv/weights", (3, 3, 64, 128)))
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.01)
    variance = filler("net/conv/BatchNorm/moving_variance", (500,))
    assert variance.min() >= 0.5
    assert variance.max() <= 1.5
    assert filler("net/conv/BatchNorm/gamma", (500,)).mean() == pytest.approx(1, abs=0.05)
    assert abs(filler("net/conv/biases", (500,)).mean()) < 0.05
