"""Flags of voc-serve that cannot be used are wrong usage; cores are those that the process may use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.config import ServeConfig, available_cores
from voc_cls.errors import UsageError


@pytest.mark.parametrize(("flags", "message"), [
    ({"port": -1}, "--port -1 is below 0"),
    ({"port": 70000}, "--port 70000 is no port: they end at 65535"),
    ({"http_port": -2}, "--http-port -2 is below -1"),
    ({"max_batch_size": 0}, "--max-batch-size 0 is below 1"),
    ({"queue_size": 8}, "--queue-size 8 is below --max-batch-size 16"),
    ({"max_message_mb": 4096}, "--max-message-mb 4096: gRPC messages end at 2047 MiB"),
    ({"max_megapixels": 0}, "--max-megapixels 0 must be above 0"),
    ({"grace_seconds": -1}, "--grace-seconds -1 is below 0"),
])
def test_values_that_make_no_sense_are_named(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        ServeConfig(Path("models/voc"), **flags)
    assert str(error.value).startswith(message)


def test_the_model_has_the_name_of_its_folder_unless_told_otherwise(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "voc").mkdir()
    monkeypatch.chdir(tmp_path / "voc")
    assert ServeConfig(Path(".")).name == "voc"
    assert ServeConfig(Path("."), model_name="cats").name == "cats"


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", None), ("150000 100000", 2), ("10000 100000", 1)])
def test_the_limit_of_a_container_is_its_number_of_cores(tmp_path: Path, limit: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    own = len(os.sched_getaffinity(0))
    assert available_cores(tmp_path / "cpu.max") == min(own, cores or own)
    assert available_cores(tmp_path / "none") == own


@pytest.mark.parametrize("module", ["serving.cli", "serving.config", "serving.server", "voc_cls.client",
                                    "voc_cls.cli.predict"])
def test_nothing_heavy_is_imported_before_it_is_needed(module: str) -> None:
    heavy = "[name for name in ('tensorflow', 'keras', 'matplotlib', 'cv2') if name in sys.modules]"
    found = subprocess.run([sys.executable, "-c", f"import sys, {module}; print({heavy})"], capture_output=True,
                           text=True, check=True)
    assert found.stdout == "[]\n"

