"""What every network of TF-Slim's table computes at its own size: a minute, and 2 GB of memory for the largest."""

from __future__ import annotations

import pytest

from tests.slim_facts import FACTS, check_outputs


@pytest.mark.parametrize("net", FACTS)
def test_the_last_grid_and_the_logits_are_tf_slims(net: str):
    check_outputs(net)
