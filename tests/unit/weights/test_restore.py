"""Weights into a network, and back."""

import ml_dtypes
import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.convert import plan_conversion
from voc_cls.weights.formats import tf_checkpoint
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.load import load_weights_file, network_digest, restore

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out


def values(network):
    return {name: np.array(variable.numpy()) for name, variable in network.variables().items()}


def restore_file(network, path, *options, **named):
    """What voc-train does with --weights."""
    return restore(network, load_weights_file(path, network.spec.name), *options, **named)


def as_slim(network):
    """The network's values under the names of TF-Slim's own training."""
    return {name.replace("m_fc8", "fc8"): value for name, value in values(network).items()}


@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_that_tensorflow_saved_gives_its_values_to_the_network(version, tmp_path, narrow_vgg, save_slim):
    source, target = narrow_vgg("fc"), narrow_vgg("fc", classes=20)
    before = values(target)
    diff = restore_file(target, save_slim(tmp_path / "vgg_16.ckpt", as_slim(source), version))
    after, given = values(target), values(source)
    assert len(diff.restored) == 30
    for name in diff.restored:
        np.testing.assert_array_equal(after[name], given[name])
    np.testing.assert_array_equal(after["vgg_16/m_fc8/weights"], before["vgg_16/m_fc8/weights"])


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a.h5", "a.safetensors"])
def test_a_file_of_any_format_gives_its_values_to_the_network(name, tmp_path, narrow_vgg):
    source, target = narrow_vgg("gap"), narrow_vgg("gap")
    write_checkpoint(tmp_path / "ours.ckpt", values(source))
    plan_conversion([tmp_path / "ours.ckpt"], tmp_path / name).write()
    diff = restore_file(target, tmp_path / name)
    assert len(diff.restored) == 26
    after, given = values(target), values(source)
    for variable in diff.restored:
        np.testing.assert_array_equal(after[variable], given[variable])


def test_a_file_of_another_network_is_told_from_one_with_gaps(tmp_path, narrow_vgg, small_weights):
    write_checkpoint(tmp_path / "resnet.ckpt", small_weights("resnet_v1_50"))
    plan_conversion([tmp_path / "resnet.ckpt"], tmp_path / "resnet.npz").write()
    with pytest.raises(WeightsError, match=r"resnet\.npz has none of the variables of vgg_16 .* it has resnet_v1_50/"):
        restore_file(narrow_vgg("gap"), tmp_path / "resnet.npz")


def test_a_restored_network_computes_what_the_first_one_did(tmp_path, narrow_vgg):
    source, target = narrow_vgg("fc"), narrow_vgg("fc")
    write_checkpoint(tmp_path / "ours.ckpt", values(source))
    restore_file(target, tmp_path / "ours.ckpt")
    pictures = np.random.default_rng(0).uniform(-100, 100, (2, 32, 32, 3)).astype(np.float32)
    trunks = [network.cut("m_fc8")[0](pictures) for network in (source, target)]
    np.testing.assert_array_equal(*map(np.asarray, trunks))
    assert np.abs(np.asarray(trunks[0])).max() > 0


def test_a_network_written_as_a_checkpoint_has_slims_names_and_all_its_values(tmp_path, narrow_vgg):
    network = narrow_vgg("gap")
    write_checkpoint(tmp_path / "ours.ckpt", values(network))
    opened = tf_checkpoint.read(tmp_path / "ours.ckpt")
    assert {name: opened.read(name).tobytes() for name in opened.tensors} == {
        name: value.tobytes() for name, value in values(network).items()}
    assert "vgg_16/conv3/conv3_3/weights" in opened.tensors
    assert "vgg_16/m_fc8/biases" in opened.tensors
    assert network_digest(network) == opened.digest()


def test_the_diff_is_shown_even_when_the_restore_is_refused_and_the_network_stays_as_it_was(tmp_path, narrow_vgg):
    write_checkpoint(tmp_path / "conv.ckpt", values(narrow_vgg("gap")))
    network, seen = narrow_vgg("fc"), []
    before = values(network)
    with pytest.raises(WeightsError, match=r"conv\.ckpt does not have vgg_16/fc6/weights"):
        restore_file(network, tmp_path / "conv.ckpt", show=seen.append)
    assert [diff.file for diff in seen] == ["conv.ckpt"]
    for name, value in values(network).items():
        np.testing.assert_array_equal(value, before[name])


def test_an_excluded_scope_keeps_its_random_start(tmp_path, narrow_vgg):
    write_checkpoint(tmp_path / "conv.ckpt", values(narrow_vgg("gap")))
    network = narrow_vgg("gap")
    before = values(network)
    restore_file(network, tmp_path / "conv.ckpt", ["conv5"])
    after = values(network)
    np.testing.assert_array_equal(after["vgg_16/conv5/conv5_1/weights"], before["vgg_16/conv5/conv5_1/weights"])
    assert not np.array_equal(after["vgg_16/conv4/conv4_1/weights"], before["vgg_16/conv4/conv4_1/weights"])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_values_that_are_no_finite_numbers_are_refused_with_the_tensors_name(value, tmp_path, narrow_vgg):
    network = narrow_vgg("gap")
    arrays = as_slim(network)
    weights = arrays["vgg_16/conv2/conv2_1/weights"].astype(np.float64)
    weights[0, 0, 0, 0] = value
    write_checkpoint(tmp_path / "bad.ckpt", {**arrays, "vgg_16/conv2/conv2_1/weights": weights})
    with pytest.raises(WeightsError, match=r"bad\.ckpt: vgg_16/conv2/conv2_1/weights has 1 of 576 values"):
        restore_file(network, tmp_path / "bad.ckpt")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_floating_types_are_converted(dtype, tmp_path, narrow_vgg):
    source, target = narrow_vgg("gap"), narrow_vgg("gap")
    converted = {name: value.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
                 for name, value in as_slim(source).items()}
    write_checkpoint(tmp_path / "other.ckpt", converted)
    restore_file(target, tmp_path / "other.ckpt")
    name = "vgg_16/conv2/conv2_1/weights"
    np.testing.assert_array_equal(values(target)[name], converted[name].astype(np.float32))
    assert load_weights_file(tmp_path / "other.ckpt").digest() != network_digest(source)


def test_integers_are_no_weights(tmp_path, narrow_vgg):
    network = narrow_vgg("gap")
    quantised = {name: value.astype(np.int8) for name, value in as_slim(network).items()}
    write_checkpoint(tmp_path / "int8.ckpt", quantised)
    with pytest.raises(WeightsError, match="is of type int8, where weights are floating-point numbers"):
        restore_file(network, tmp_path / "int8.ckpt")
