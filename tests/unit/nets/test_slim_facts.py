"""The networks that the package tf_slim lacks, against what TF-Slim's own graphs have and compute."""

from __future__ import annotations

import pytest

from tests.slim_facts import FACTS, check_seeded, variables_digest
from voc_cls.nets.registry import NETS, net_spec
from voc_cls.weights.naming.slim import slim_shapes

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out


@pytest.mark.parametrize("net", FACTS)
def test_the_registry_has_tf_slims_facts(net: str):
    spec, facts = NETS[net], FACTS[net]
    assert (spec.scope, spec.preprocessing.size, spec.parameters) == (facts["scope"], facts["size"], facts["trained"])


@pytest.mark.parametrize("net", FACTS)
def test_every_variable_is_tf_slims(net: str):
    shapes = slim_shapes(NETS[net])
    assert (len(shapes), variables_digest(shapes)) == (FACTS[net]["variables"], FACTS[net]["sha256"])


@pytest.mark.parametrize("net", ["mobilenet_v1_0.25_128"])  # the others: `make endurance`
def test_the_last_grid_and_the_logits_are_tf_slims(net: str):
    check_seeded(net)


def test_any_width_makes_a_mobilenet():
    spec = net_spec("mobilenet_v1_0.1_96")
    assert (spec.preprocessing.size, spec.blocks[0], spec.blocks[-1]) == (96, (8, 2), (102, 1))  # 3 of 32 would be few
