"""What a file has against what a network wants."""

import numpy as np
import pytest
from rich.console import Console

from voc_cls.errors import UsageError, WeightsError
from voc_cls.weights.diff import Status, compare


def shapes_of(network):
    """The shapes of a TF-Slim checkpoint of the same network: its own classifier is called fc8."""
    return {name.replace("m_fc8", "fc8"): tuple(variable.shape) for name, variable in network.variables().items()}


def names(diff, *statuses):
    return {entry.name for entry in diff.of(*statuses)}


def shown(diff):
    console = Console(width=100)
    with console.capture() as capture:
        console.print(diff)
    return capture.get()


def test_a_whole_checkpoint_restores_everything_but_the_head(narrow_vgg):
    network = narrow_vgg("fc", classes=20)
    found = {**shapes_of(narrow_vgg("fc", classes=1000)), "global_step": (), "vgg_16/mean_rgb": (3,)}
    diff = compare(found, network)
    diff.check()
    assert set(diff.restored) == {name for name in network.variables() if "m_fc8" not in name}
    assert names(diff, Status.NEW_HEAD) == {"vgg_16/m_fc8/weights", "vgg_16/m_fc8/biases"}
    assert names(diff, Status.OLD_HEAD) == {"vgg_16/fc8/weights", "vgg_16/fc8/biases"}
    assert names(diff, Status.NOT_WEIGHTS) == {"global_step", "vgg_16/mean_rgb"}
    assert not names(diff, Status.SHAPE_DIFFERS)


def test_a_head_in_the_file_is_not_taken_even_if_it_has_the_same_shape(narrow_vgg):
    network = narrow_vgg("gap")
    diff = compare({name: tuple(variable.shape) for name, variable in network.variables().items()}, network)
    assert {entry.name for entry in diff.of(Status.NEW_HEAD)} == {"vgg_16/m_fc8/weights", "vgg_16/m_fc8/biases"}


def test_what_the_network_has_no_place_for_is_unused_and_no_failure(narrow_vgg):
    diff = compare(shapes_of(narrow_vgg("fc")), narrow_vgg("gap"))
    diff.check()
    assert {entry.name for entry in diff.of(Status.UNUSED)} == {
        "vgg_16/fc6/weights", "vgg_16/fc6/biases", "vgg_16/fc7/weights", "vgg_16/fc7/biases"}


def test_optimizer_slots_and_counters_are_recognised(narrow_vgg):
    network = narrow_vgg("gap")
    weights = shapes_of(network)
    slots = {f"{name}/{slot}": shape for name, shape in weights.items()
             for slot in ("Adam", "Adam_1", "Momentum", "ExponentialMovingAverage")}
    counters = {"global_step": (), "beta1_power": (), "beta2_power": ()}
    diff = compare({**weights, **slots, **counters}, network)
    diff.check()
    assert {entry.name for entry in diff.of(Status.NOT_WEIGHTS)} == {*slots, *counters}


def test_a_layer_that_is_missing_stops_the_restore_and_names_the_ways_out(narrow_vgg):
    diff = compare(shapes_of(narrow_vgg("gap")), narrow_vgg("fc"), file="conv.ckpt")
    with pytest.raises(WeightsError, match=r"^conv\.ckpt does not have vgg_16/fc6/weights, .*"
                                           r"vgg_16 \(fc head, 3 classes\) wants: .* `exclude` fc6 fc7$"):
        diff.check()


@pytest.mark.parametrize("exclude", [("fc6", "fc7"), ("vgg_16/fc6", "vgg_16/fc7/"), ("vgg_16",)])
def test_what_is_excluded_may_be_missing(exclude, narrow_vgg):
    diff = compare(shapes_of(narrow_vgg("gap")), narrow_vgg("fc"), exclude)
    diff.check()
    assert "vgg_16/fc6/weights" in names(diff, Status.EXCLUDED)


def test_what_is_excluded_is_not_restored_though_it_is_there(narrow_vgg):
    network = narrow_vgg("gap")
    diff = compare(shapes_of(network), network, ["conv5/conv5_3"])
    assert {entry.name for entry in diff.of(Status.EXCLUDED)} == {
        "vgg_16/conv5/conv5_3/weights", "vgg_16/conv5/conv5_3/biases"}
    assert "vgg_16/conv5/conv5_2/weights" in diff.restored


@pytest.mark.parametrize("exclude", ["fc9", "onv1", "conv5_3", "vgg_16/conv1/weights"])
def test_an_exclude_that_matches_nothing_lists_the_scopes(exclude, narrow_vgg):
    with pytest.raises(UsageError, match=f"`exclude` {exclude}: .* conv1, conv2, conv3, conv4, conv5, m_fc8"):
        compare(shapes_of(narrow_vgg("gap")), narrow_vgg("gap"), [exclude])


def test_fc6_as_a_dense_layer_is_a_difference_of_shape_and_says_so(narrow_vgg):
    network = narrow_vgg("fc")
    found = shapes_of(network)
    found["vgg_16/fc6/weights"] = (int(np.prod(found["vgg_16/fc6/weights"][:3])), 4096)
    diff = compare(found, network)
    assert names(diff, Status.SHAPE_DIFFERS) == {"vgg_16/fc6/weights"}
    with pytest.raises(WeightsError, match=r"as \[8, 4096\] and .* wants \[1, 1, 8, 4096\] \(there a dense layer, "
                                           r"here a convolution; .* height, width, channel\).* `exclude` fc6$"):
        diff.check()


def test_a_checkpoint_of_something_else_is_told_from_one_with_gaps(narrow_vgg):
    diff = compare({"_CHECKPOINTABLE_OBJECT_GRAPH": (), "layer/kernel/.ATTRIBUTES/VARIABLE_VALUE": (3,)}, narrow_vgg())
    with pytest.raises(WeightsError, match=r"has none of the variables of vgg_16 .* it has _CHECKPOINTABLE_OBJ"):
        diff.check()


def test_the_table_sums_up_what_is_restored_and_lists_every_gap(narrow_vgg):
    network = narrow_vgg("fc")
    found = {**shapes_of(narrow_vgg("gap")), "global_step": (), "vgg_16/fc6/weights": (8, 4096)}
    table = shown(compare(found, network, ["fc7"], "conv.ckpt"))
    lines = [line.split() for line in table.splitlines()]
    assert table.startswith("conv.ckpt → vgg_16 (fc head, 3 classes)")
    assert ["=", "conv5", "(6)", "1,752", "restored"] in lines
    assert ["+", "fc6/biases", "4,096", "new:", "not", "in", "the", "file"] in lines
    assert ["+", "fc7/biases", "4,096", "new:", "excluded", "on", "purpose"] in lines
    assert ["+", "m_fc8/biases", "3", "new:", "the", "head"] in lines
    assert ["−", "fc8", "(2)", "27", "unused:", "another", "head"] in lines
    assert ["−", "global_step", "1", "unused:", "no", "weights"] in lines
    assert "≠  fc6/weights" in table
    assert "shape differs: [8, 4096] in the file, [1, 1, 8, 4096] wanted" in table
    assert "26 of 32 variables restored" in table
