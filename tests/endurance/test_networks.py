"""What every network of TF-Slim's table computes at its own size: two minutes, and 2 GB of memory for the largest."""

from __future__ import annotations

import pytest

from tests.conftest import WEIGHTS_DIR
from tests.slim_facts import FACTS, FILES, check_file, check_seeded


@pytest.mark.parametrize("net", FACTS)
def test_the_last_grid_and_the_logits_are_tf_slims(net: str):
    check_seeded(net)


@pytest.mark.parametrize("file", FILES)
def test_real_weights_give_tf_slims_logits(file: str):
    if not list(WEIGHTS_DIR.glob(f"{file}*")):
        pytest.skip(f"no {WEIGHTS_DIR / file}: set VOC_WEIGHTS_DIR")
    check_file(WEIGHTS_DIR / file)
