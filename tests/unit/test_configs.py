"""The lectures' exercises: each file is understood, its header says what a person needs (`make exercises` runs it)."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
import yaml

from voc_cls.cli.train import read_settings
from voc_cls.nets.registry import NETS
from voc_cls.training.config import TrainConfig

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
LISTED = (Path(__file__).parents[2] / "docs/exercises.md").read_text()


def header(config: Path) -> str:
    return "\n".join(line for line in config.read_text().splitlines() if line.startswith("#"))


def training_command(config: Path) -> list[str]:
    lines = header(config).replace("\\\n#", "").splitlines()
    (found,) = [line for line in lines if line.startswith("#   voc-train")]
    return shlex.split(found.split(" # ")[0])[2:]


def test_there_are_the_lectures_exercises():
    nets = {yaml.safe_load(config.read_text())["network"]["net"] for config in CONFIGS}
    assert nets == {"vgg_16", "vgg_19", "resnet_v1_50", "resnet_v1_101", "resnet_v2_50"} <= NETS.keys()
    assert len(CONFIGS) >= 12


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_a_header_s_command_is_understood_and_names_its_own_file(config, monkeypatch):
    monkeypatch.chdir(CONFIGS[0].parents[1])
    given = training_command(config)
    assert given[given.index("--config") + 1] == f"configs/{config.name}"

    understood = read_settings(given, {}).config(TrainConfig)

    asked = yaml.safe_load(config.read_text())
    assert understood.network.net == asked["network"]["net"]
    assert understood.training.steps == asked.get("training", {}).get("steps")
    assert str(understood.run.out).startswith("runs/")


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_a_header_says_what_to_expect_and_how_long_it_takes(config):
    lines = header(config).splitlines()
    assert any(line.startswith("# expect ") for line in lines)
    assert any(line.startswith("# takes ") and "@" not in line for line in lines)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_the_guide_lists_it(config):
    assert f"(../configs/{config.name})" in LISTED
