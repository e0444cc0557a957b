"""--trainable: which scopes are trained."""

from __future__ import annotations

import pytest

from voc_cls.errors import UsageError
from voc_cls.nets.network import build_network
from voc_cls.training.freezing import freeze


@pytest.mark.parametrize(("trainable", "trained"), [
    ("head", {"m_fc8"}),
    ("conv5+", {"conv5", "m_fc8"}),
    ("all", {"conv1", "conv2", "conv3", "conv4", "conv5", "m_fc8"}),
])
def test_everything_before_the_named_scope_is_frozen(trainable: str, trained: set[str]):
    network = build_network("vgg_16", "gap", 20)
    result = freeze(network, trainable, l2=0.0)
    assert {row.scope for row in result.rows if row.trained} == trained
    assert {variable.path.split("/")[1] for variable in network.model.trainable_weights} == trained
    assert result.parameters + result.frozen_parameters == network.model.count_params()


def test_an_unknown_scope_is_refused_with_the_known_ones():
    network = build_network("vgg_16", "gap", 20)
    for wrong in ("conv6+", "conv5", "everything"):
        with pytest.raises(UsageError, match=r"--trainable .*conv5\+"):
            freeze(network, wrong, l2=0.0)


def test_the_l2_penalty_is_on_the_kernels_that_are_trained():
    network = build_network("vgg_16", "gap", 20)
    freeze(network, "head", l2=0.5)
    kernel = network.variables()["vgg_16/m_fc8/weights"]
    _, head = network.cut("m_fc8")
    (penalty,) = head.losses
    assert float(penalty) == pytest.approx(0.5 * float((kernel.numpy() ** 2).sum()), rel=1e-5)
