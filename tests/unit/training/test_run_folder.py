"""Files of a run are written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from voc_cls.errors import RunError
from voc_cls.files import write_aside, write_text
from voc_cls.training.run_folder import CONFIG_GROUPS, RunFolder


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    file = tmp_path / "labels.txt"
    write_text(file, "old")

    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_aside(file, fail)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_no_run_is_named(tmp_path: Path):
    with pytest.raises(RunError, match=r"not a run folder, it has no config\.yaml"):
        RunFolder(tmp_path).read_config()


@pytest.mark.parametrize("text", ["{", "just words", "a: 1", "network: resnet"])
def test_a_config_that_no_run_wrote_is_named(tmp_path: Path, text: str):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(RunError, match=r"config\.yaml"):
        RunFolder(tmp_path).read_config()


def test_a_value_of_another_kind_in_a_config_is_named(tmp_path: Path):
    groups = {**{key: {} for key in CONFIG_GROUPS}, "network": {"image_size": "big"}}
    (tmp_path / "config.yaml").write_text(json.dumps(groups))
    with pytest.raises(RunError, match=r"config\.yaml: network\.image_size: 'big' cannot be used \(not a whole number"):
        RunFolder(tmp_path).read_config()


def test_metrics_are_rewound_to_the_checkpoint_and_a_cut_line_is_dropped(tmp_path: Path):
    folder = RunFolder(tmp_path)
    folder.metrics.write_text('{"step": 5}\n{"step": 10}\n{"step": 15}\n{"st')
    assert folder.rewind_metrics(10) == [{"step": 5}, {"step": 10}]
    assert folder.metrics.read_text() == '{"step": 5}\n{"step": 10}\n'
