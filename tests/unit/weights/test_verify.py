"""Our networks against TF-Slim's own, on the same random values."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.slim_facts import FACTS
from voc_cls.errors import UsageError, WeightsError
from voc_cls.nets.registry import NETS, net_spec
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.formats.tf_checkpoint import write_checkpoint
from voc_cls.weights.verify import (
    GRIDS,
    TOLERANCE,
    Outputs,
    Verification,
    compare_outputs,
    filler,
    port_outputs,
    random_images,
    reference,
    verify,
)

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

SIZES = {"alexnet_v2": 224, "resnet_v1_50": 64, "resnet_v2_50": 64, "inception_v2": 64, "inception_v3": 107}


def test_every_network_that_tf_slim_has_has_a_reference_and_the_others_recorded_outputs():
    assert set(GRIDS) | set(FACTS) == set(NETS)
    with pytest.raises(UsageError, match="`net` inception_v4: tf_slim has no such network to compare with"):
        verify(None, "inception_v4")


@pytest.mark.parametrize("net", SIZES)
def test_outputs_and_batch_statistics_equal_tf_slims(net: str):
    spec = net_spec(net, SIZES[net])
    images = random_images(spec)
    values = {name: filler(name, shape) for name, shape in slim_shapes(spec, 5).items() if "/AuxLogits/" not in name}
    ours, theirs = port_outputs(values, spec, images), reference(values, spec, images)
    rows = {row.output: row for row in compare_outputs(ours, theirs, spec)}
    trained = {"logits in training", "moving means", "moving variances"} if net != "alexnet_v2" else set()
    assert set(rows) == {"grid", "logits"} | trained
    for row in rows.values():
        assert row.difference <= TOLERANCE, row
        assert row.largest > 0


@pytest.fixture(scope="module")
def half_a_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of Inception v1 for three classes that lacks Mixed_5c."""
    file = tmp_path_factory.mktemp("half") / "half.ckpt"
    shapes = {name: shape for name, shape in slim_shapes(NETS["inception_v1"], 3).items() if "/Mixed_5c/" not in name}
    write_checkpoint(file, {name.replace("Logits/Conv2d_0c_1x1", "m_logits"): filler(name, shape) * np.float32(1.1)
                            for name, shape in shapes.items()})
    return file


def test_a_file_is_read_by_both_and_what_it_lacks_is_filled_in(half_a_file: Path):
    verification = verify(half_a_file, "inception_v1")
    assert verification.classes == 3
    assert "m_logits" in verification.from_file
    assert "Mixed_5b/Branch_0/Conv2d_0a_1x1/BatchNorm" in verification.from_file
    assert {layer.split("/")[0] for layer in verification.filled} == {"Mixed_5c"}
    assert not any(row.on_file_values for row in verification.comparisons)
    verification.check()
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(verification)
    shown = console.export_text()
    assert "half.ckpt: voc-cls' inception_v1 against TF-Slim's, 3 pictures of 224 × 224, 3" in shown
    assert shown.count("partly filled in") == 5
    assert "Mixed_5c/Branch_3/Conv2d_0b_1x1/BatchNorm" in shown


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
