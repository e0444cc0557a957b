"""The variables of every network, against TF-Slim's own graphs."""

from __future__ import annotations

import importlib
from math import prod

import pytest
import tensorflow as tf
import tf_slim

from tests.slim_facts import FACTS
from voc_cls.nets.layers import STATISTICS
from voc_cls.nets.registry import NETS, net_spec
from voc_cls.weights.naming.slim import slim_shapes
from voc_cls.weights.verify import GRIDS, lend_batch_norm, quick_graphs

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

HERE = ("vgg_16", "vgg_19", "alexnet_v2", "inception_v3")
"""The other graphs are built, with the same variables, where outputs are compared: test_verify.py. Those of the deeper
ResNets take TF-Slim a minute; they are rows of the same table as ResNet-50."""


def slim_variables(net: str) -> tuple[dict[str, tuple[int, ...]], int]:
    """(name → shape of the variables of TF-Slim's own graph, number of values that it trains)."""
    size = NETS[net].preprocessing.size
    lend_batch_norm()
    module = importlib.import_module(f"tf_slim.nets.{GRIDS[net][0]}")
    scope = next(function for name, function in vars(module).items()
                 if name.endswith("_arg_scope") and "add_" not in name)
    v1 = tf.compat.v1
    with quick_graphs(), tf.Graph().as_default(), tf_slim.arg_scope(scope()):
        getattr(module, net)(v1.placeholder(tf.float32, [1, size, size, 3]), num_classes=NETS[net].imagenet_classes)
        return ({variable.op.name: tuple(variable.shape.as_list()) for variable in tf_slim.get_model_variables()},
                sum(variable.shape.num_elements() for variable in v1.trainable_variables()))


@pytest.mark.parametrize("net", HERE)
def test_every_variable_is_tf_slims(net: str):
    shapes, trained = slim_variables(net)
    assert slim_shapes(NETS[net]) == shapes
    assert NETS[net].parameters == trained


@pytest.mark.parametrize("net", [net for net in NETS if net not in FACTS])  # the others: test_slim_facts.py
def test_the_registry_knows_the_number_of_parameters(net: str):
    trained = (shape for name, shape in slim_shapes(NETS[net]).items() if not name.endswith(STATISTICS))
    assert sum(map(prod, trained)) == NETS[net].parameters


def test_only_the_first_fully_connected_layer_and_the_classifier_depend_on_sizes():
    small, large = slim_shapes(net_spec("vgg_16", 224), 10), slim_shapes(net_spec("vgg_16", 320), 1000)
    assert {name for name in small if small[name] != large[name]} == {
        "vgg_16/fc6/weights", "vgg_16/fc8/weights", "vgg_16/fc8/biases"}
    assert large["vgg_16/fc6/weights"] == (10, 10, 512, 4096)
