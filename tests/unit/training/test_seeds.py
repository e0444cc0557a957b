"""Several seeds: what each one starts from, and their mean and spread."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from voc_cls.errors import RunError
from voc_cls.training.config import DatasetConfig, NetworkConfig, RunConfig, TrainConfig
from voc_cls.training.run_folder import RunFolder, start_folder
from voc_cls.training.seeds import SeedsSummary, recorded_seeds, weights_of


def test_each_seed_starts_from_its_own_run_of_an_earlier_stage(tmp_path: Path):
    (tmp_path / "seeds.json").write_text("{}")
    for weights in (tmp_path, tmp_path / "seed-0"):  # as it is given, and as the first run has recorded it
        assert weights_of(str(weights), 2) == str(tmp_path / "seed-2")
    for weights in ("none", "vgg_16.ckpt", str(tmp_path / "run"), str(tmp_path.parent / "seed-0")):
        assert weights_of(weights, 2) == weights


def test_the_summary_has_mean_and_sample_standard_deviation_and_no_nan_in_json(tmp_path: Path):
    summary = SeedsSummary(tmp_path / "seeds.json", {0: {"mAP": 0.5, "AP cow": math.nan}, 1: {"mAP": 0.7}})
    assert summary.spread["mAP"] == pytest.approx((0.6, 0.2 / 2**0.5))
    summary.write((0, 1, 2))
    written = json.loads((tmp_path / "seeds.json").read_text())
    assert written["results"]["0"] == {"mAP": 0.5, "AP cow": None}
    assert written["mean"]["AP cow"] is None
    assert recorded_seeds(tmp_path) == (0, 1, 2)


def test_one_seed_has_no_spread(tmp_path: Path):
    mean, deviation = SeedsSummary(tmp_path / "seeds.json", {0: {"mAP": 0.5}}).spread["mAP"]
    assert mean == 0.5
    assert math.isnan(deviation)


def test_a_damaged_summary_is_named(tmp_path: Path):
    assert recorded_seeds(tmp_path) == ()
    (tmp_path / "seeds.json").write_text("{}")
    with pytest.raises(RunError, match="name the `seeds`"):
        recorded_seeds(tmp_path)


def test_a_kill_in_the_first_seed_leaves_the_seeds_that_resume_trains(tmp_path):
    settings = TrainConfig(DatasetConfig((tmp_path,)), NetworkConfig("none"), run=RunConfig(seeds=(0, 2)))
    start_folder(RunFolder(tmp_path / "seed-0"), settings, ["cat"], {})
    assert recorded_seeds(tmp_path) == (0, 2)
    (tmp_path / "seeds.json").write_text('{"seeds": [0, 2], "results": {"0": {}}}')
    start_folder(RunFolder(tmp_path / "seed-2"), settings, ["cat"], {})
    assert "results" in (tmp_path / "seeds.json").read_text()
