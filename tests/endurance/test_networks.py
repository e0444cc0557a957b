"""What every network of TF-Slim's table computes at its own size: two minutes, and 2 GB of memory for the largest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import WEIGHTS_DIR
from tests.slim_facts import FACTS, FILES, OUTPUTS, check_file, check_live, check_seeded
from voc_cls.weights.verify import verify


@pytest.mark.parametrize("net", FACTS)
def test_the_last_grid_and_the_logits_are_tf_slims(net: str):
    check_seeded(net)


@pytest.mark.parametrize("file", FILES)
def test_real_weights_give_tf_slims_logits(file: str):
    if not list(WEIGHTS_DIR.glob(f"{file}*")):
        pytest.skip(f"no {WEIGHTS_DIR / file}: set VOC_WEIGHTS_DIR")
    check_file(WEIGHTS_DIR / file)


@pytest.mark.parametrize("net", OUTPUTS)
def test_the_recorded_outputs_are_those_of_tf_slims_network_and_of_ours(net: str):
    check_live(net, OUTPUTS[net]["size"])


def test_vgg_16_with_the_imagenet_convolutions_computes_what_tf_slims_does(imagenet_convolutions: Path):
    verification = verify(imagenet_convolutions)
    verification.check()
    assert verification.filled == ("fc6", "fc7", "fc8")
    assert all(row.largest > 1 for row in verification.comparisons)
