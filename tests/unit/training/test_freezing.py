"""`trainable` and the learning rates: which layers are trained, and how fast."""

from __future__ import annotations

import io
from dataclasses import replace

import keras
import numpy as np
import pytest
from rich.console import Console

from voc_cls.errors import UsageError
from voc_cls.nets.network import Network, build, build_network
from voc_cls.nets.registry import Head, net_spec
from voc_cls.training.config import TrainingConfig
from voc_cls.training.freezing import freeze, layer_path

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out


@pytest.fixture
def network() -> Network:
    return narrow_vgg("gap")


def narrow_vgg(head: Head) -> Network:
    """VGG-16 with 8 filters a layer, for pictures of 32 pixels."""
    spec = net_spec("vgg_16", 32)
    return build(replace(spec, blocks=tuple((8, units) for _, units in spec.blocks)), head, 20)


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
    with pytest.raises(UsageError, match=r"`trainable` .*matches no layer; give head, all, conv1\+.*conv5/conv5_3"):
        freeze(network, wrong, TrainingConfig())


def test_an_expression_that_is_none_or_forgets_the_head_is_refused(network: Network):
    with pytest.raises(UsageError, match="nor a regular expression"):
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
    network = narrow_vgg("fc")
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
    assert f" {3 * 3 * 8 * 8 + 8} " in lines["conv5/conv5_1"]
    assert "0.0001" in lines["conv5/conv5_1"]
    assert text.count("frozen") == 10


@pytest.fixture
def resnet() -> Network:
    """ResNet v1 with two narrow units a block, for pictures of 32 pixels."""
    spec = net_spec("resnet_v1_50", 32)
    return build(replace(spec, blocks=tuple((depth // 16, 2) for depth, _ in spec.blocks)), "fc", 3)


@pytest.mark.parametrize(("trainable", "first", "trained"), [
    ("head", "m_logits", {"m_logits"}),
    ("block4/unit_2/.*/conv3|m_logits", "block4", {"block4/unit_2/bottleneck_v1/conv3",
                                                   "block4/unit_2/bottleneck_v1/conv3/BatchNorm", "m_logits"}),
    ("BatchNorm$|m_logits", "conv1", None),
])
def test_units_and_single_layers_of_a_resnet_are_named_as_people_write_them(resnet: Network, trainable: str, first: str,
                                                                            trained: set[str] | None):
    result = freeze(resnet, trainable, TrainingConfig())
    found = {row.path for row in result.rows if row.trained}
    if trained is None:
        trained = {row.path for row in result.rows if row.path.endswith("BatchNorm")} | {"m_logits"}
    assert found == trained
    assert {layer_path(variable, "resnet_v1_50") for variable in resnet.model.trainable_weights} == trained
    assert result.first == first


def test_moving_averages_are_no_parameters(resnet: Network):
    result = freeze(resnet, "block4+", TrainingConfig())
    rows = {row.path: row for row in result.rows}
    assert rows["conv1/BatchNorm"].parameters == 2 * 64
    assert result.parameters + result.frozen_parameters == sum(
        int(np.prod(variable.shape)) for name, variable in resnet.variables().items() if "/moving_" not in name)


def test_the_l2_penalty_leaves_batch_normalisation_alone(resnet: Network):
    freeze(resnet, "block4/unit_2|m_logits", TrainingConfig(l2=0.5))
    kernels = [variable.numpy() for name, variable in resnet.variables().items()
               if name.endswith("/weights") and ("block4/unit_2/" in name or name.endswith("m_logits/weights"))]
    assert len(kernels) == 4
    assert float(sum(resnet.model.losses)) == pytest.approx(0.5 * sum(float((kernel ** 2).sum()) for kernel in kernels),
                                                            rel=1e-4)


def test_training_moves_the_averages_of_what_is_trained_and_no_others(resnet: Network):
    freeze(resnet, "block4+", TrainingConfig())
    before = {name: variable.numpy() for name, variable in resnet.variables().items()}
    resnet.model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    pictures = np.random.default_rng(0).normal(0, 50, (4, 32, 32, 3)).astype(np.float32)
    resnet.model.train_on_batch(pictures, np.eye(4, 3, dtype=np.float32))
    changed = {name.split("/")[1] for name, variable in resnet.variables().items()
               if not np.array_equal(variable.numpy(), before[name])}
    assert changed == {"block4", "m_logits"}
    assert not np.array_equal(resnet.variables()["resnet_v1_50/block4/unit_1/bottleneck_v1/conv2/BatchNorm/moving_mean"]
                              .numpy(), np.zeros(32))


def test_on_request_frozen_layers_normalise_by_the_batch_and_their_averages_follow(resnet: Network):
    """Lecture E freezes layers by leaving their variables out of the optimiser's list alone."""
    chosen = freeze(resnet, "block4+", TrainingConfig(frozen_bn="update", bn_decay=0.9))
    assert chosen.first == "conv1"  # it cannot run once for all
    before = {name: variable.numpy() for name, variable in resnet.variables().items()}
    resnet.model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=False)
    pictures = np.random.default_rng(0).normal(0, 50, (4, 32, 32, 3)).astype(np.float32)
    resnet.model.train_on_batch(pictures, np.eye(4, 3, dtype=np.float32))
    changed = {name: variable.numpy() for name, variable in resnet.variables().items()
               if not np.array_equal(variable.numpy(), before[name])}
    frozen = {name for name in changed if name.split("/")[1] in ("conv1", "block1", "block2", "block3")}
    assert frozen == {name for name in before if "/moving_" in name and "block4" not in name}
    conv1 = resnet.variables()["resnet_v1_50/conv1/weights"]
    padded = np.pad(pictures, ((0, 0), (3, 3), (3, 3), (0, 0)))
    outputs = np.asarray(keras.ops.conv(padded, conv1.numpy(), 2, "valid"))
    np.testing.assert_allclose(changed["resnet_v1_50/conv1/BatchNorm/moving_mean"], 0.1 * outputs.mean((0, 1, 2)),
                               rtol=1e-3, atol=1e-4)
    freeze(resnet, "block4+", TrainingConfig())  # the next training is not that of this one
    assert resnet.model.get_layer("conv1.BatchNorm").momentum == 0.997
    assert not resnet.model.get_layer("conv1.BatchNorm").trainable


def test_a_decay_is_refused_where_nothing_is_normalised(network: Network):
    with pytest.raises(UsageError, match=r"`bn_decay` 0\.99: vgg_16 has no batch normalisation; omit it"):
        freeze(network, "head", TrainingConfig(bn_decay=0.99))


def test_a_large_network_is_shown_scope_by_scope_and_an_error_stays_short():
    network = build_network("resnet_v1_50", "fc", 3)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(freeze(network, "block4+", TrainingConfig()).table(1e-4))
    lines = [line.split() for line in console.export_text().splitlines() if "trained" in line or "frozen" in line]
    assert [line[1] for line in lines] == ["conv1", "block1", "block2", "block3", "block4", "m_logits"]
    assert [line[5] for line in lines] == ["frozen"] * 4 + ["trained"] * 2
    with pytest.raises(UsageError, match=r"over conv1, conv1/BatchNorm, .*, …, .*, m_logits$") as caught:
        freeze(network, "block5+", TrainingConfig())
    assert len(str(caught.value)) < 800


def test_scopes_of_inception_are_told_from_the_networks_name():
    network = build_network("inception_v1", "gap", 3, image_size=32)
    trained = freeze(network, "Mixed_5c+", TrainingConfig(head_lr_multiplier=10.0), exclude=["Mixed_5c/Branch_0"])
    rows = {row.path: row.factor for row in trained.rows if row.trained}
    assert rows["Mixed_5c/Branch_0/Conv2d_0a_1x1/BatchNorm"] == 10.0
    assert rows["Mixed_5c/Branch_1/Conv2d_0a_1x1/BatchNorm"] == 1.0
    factors = trained.factors(network.model.trainable_weights, network.spec.scope)
    assert factors.count(10.0) == 4
