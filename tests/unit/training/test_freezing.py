"""--trainable and the learning rates: which layers are trained, and how fast."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from voc_cls.errors import UsageError
from voc_cls.nets.network import Network, build_network
from voc_cls.training.config import TrainingConfig
from voc_cls.training.freezing import freeze, layer_path


@pytest.fixture
def network() -> Network:
    return build_network("vgg_16", "gap", 20)


@pytest.mark.parametrize(("trainable", "first", "trained"), [
    ("head", "m_fc8", {"m_fc8"}),
    ("conv5+", "conv5", {"conv5/conv5_1", "conv5/conv5_2", "conv5/conv5_3", "m_fc8"}),
    ("conv5_[23]|m_fc8", "conv5", {"conv5/conv5_2", "conv5/conv5_3", "m_fc8"}),
    ("conv1/|m_fc8", "conv1", {"conv1/conv1_1", "conv1/conv1_2", "m_fc8"}),
])
def test_only_what_is_named_is_trained(network: Network, trainable: str, first: str, trained: set[str]):
    result = freeze(network, trainable, TrainingConfig())
    assert {row.path for row in result.rows if row.trained} == trained
    assert {layer_path(variable, "vgg_16") for variable in network.model.trainable_weights} == trained
    assert result.first == first
    assert result.parameters + result.frozen_parameters == network.model.count_params()


def test_all_trains_all(network: Network):
    assert freeze(network, "all", TrainingConfig()).frozen_parameters == 0


@pytest.mark.parametrize("wrong", ["conv6+", "everything", "conv5_9"])
def test_an_unknown_scope_is_refused_with_the_known_ones(network: Network, wrong: str):
    with pytest.raises(UsageError, match=r"--trainable .*matches no layer; give head, all, conv1\+.*conv5/conv5_3"):
        freeze(network, wrong, TrainingConfig())


def test_an_expression_that_is_none_or_forgets_the_head_is_refused(network: Network):
    with pytest.raises(UsageError, match="no regular expression"):
        freeze(network, "conv(", TrainingConfig())
    with pytest.raises(UsageError, match=r"leaves out m_fc8, .* write conv5\|m_fc8"):
        freeze(network, "conv5", TrainingConfig())


def test_the_l2_penalty_is_on_the_kernels_that_are_trained(network: Network):
    freeze(network, "head", TrainingConfig(l2=0.5))
    kernel = network.variables()["vgg_16/m_fc8/weights"]
    _, head = network.cut("m_fc8")
    (penalty,) = head.losses
    assert float(penalty) == pytest.approx(0.5 * float((kernel.numpy() ** 2).sum()), rel=1e-5)


def test_new_layers_learn_faster_and_each_scope_below_slower():
    network = build_network("vgg_16", "fc", 20)
    config = TrainingConfig(head_lr_multiplier=10.0, layer_decay=0.5)
    rows = {row.path: row.factor for row in freeze(network, "conv4+", config, exclude=["fc7"]).rows}
    assert rows["m_fc8"] == 10.0
    assert rows["fc7"] == 10.0  # not restored: new
    assert rows["fc6"] == 1.0
    assert rows["conv5/conv5_1"] == 0.5
    assert rows["conv4/conv4_1"] == 0.25


@pytest.mark.parametrize("excluded", ["conv5/conv5_3", "vgg_16/conv5/conv5_3"])
def test_a_single_layer_that_was_not_restored_is_new_and_its_neighbours_are_not(network: Network, excluded: str):
    rows = {row.path: row.factor for row in freeze(network, "conv5+", TrainingConfig(head_lr_multiplier=10.0),
                                                   exclude=[excluded]).rows}
    assert (rows["conv5/conv5_2"], rows["conv5/conv5_3"], rows["m_fc8"]) == (1.0, 10.0, 10.0)


def test_every_trained_variable_gets_its_layers_factor(network: Network):
    trained = freeze(network, "conv5+", TrainingConfig(head_lr_multiplier=10.0))
    _, part = network.cut(trained.first)
    assert trained.factors(part.trainable_variables, "vgg_16") == (1.0,) * 6 + (10.0, 10.0)


def test_the_table_shows_every_layer_with_its_rate(network: Network):
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(freeze(network, "conv5+", TrainingConfig(head_lr_multiplier=10.0)).table(1e-4))
    text = console.export_text()
    lines = {line.split()[1]: line for line in text.splitlines() if "conv5_1" in line or "m_fc8" in line}
    assert "0.001" in lines["m_fc8"]
    assert "2,359,808" in lines["conv5/conv5_1"]
    assert "0.0001" in lines["conv5/conv5_1"]
    assert text.count("frozen") == 10
