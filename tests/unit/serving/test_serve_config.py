"""Flags of voc-serve that cannot be used are wrong usage; cores are those that the process may use."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from serving.config.config import (
    BatchingConfig,
    EngineConfig,
    LifeCycleConfig,
    ObservabilityConfig,
    PicturesConfig,
    PortsConfig,
    SecurityConfig,
    ServeConfig,
    available_cores,
)
from serving.config.models import ModelsConfig
from voc_cls.errors import UsageError


@pytest.mark.parametrize(("group", "values", "message"), [
    ("ports", PortsConfig(port=-1), "`port` -1: must be from 0 to 65535"),
    ("ports", PortsConfig(port=70000), "`port` 70000: must be from 0 to 65535"),
    ("ports", PortsConfig(http_port=-2), "`http_port` -2: must be from -1 to 65535"),
    ("ports", PortsConfig(max_message_mb=4096), "`max_message_mb` 4096: must be from 1 to 2047"),
    ("ports", PortsConfig(max_connection_age=-1), "`max_connection_age` -1: must be from 0 to"),
    ("models", ModelsConfig(poll_seconds=-1), "`poll_seconds` -1: must be from 0 to 86400"),
    ("engine", EngineConfig(threads=-1), "`threads` -1: must be from 0 to 1024"),
    ("batching", BatchingConfig(max_batch_size=0), "`max_batch_size` 0: must be from 1 to 4096"),
    ("batching", BatchingConfig(queue_size=8), "`queue_size` 8 is below `max_batch_size` 16: no batch of that size"),
    ("batching", BatchingConfig(batch_timeout_ms=math.nan), "`batch_timeout_ms` nan: must be from 0 to 10000"),
    ("pictures", PicturesConfig(max_megapixels=0), "`max_megapixels` 0: must be from 0.001 to 10000"),
    ("security", SecurityConfig(client_rate=-1), "`client_rate` -1: must be from 0 to"),
    ("security", SecurityConfig(tls_cert=Path("a")), "`tls_cert` needs `tls_key` too: give both or neither"),
    ("security", SecurityConfig(tls_key=Path("a")), "`tls_key` needs `tls_cert` too"),
    ("security", SecurityConfig(client_ca=Path("a")), "`client_ca` needs `tls_cert` too"),
    ("observability", ObservabilityConfig(access_log=1.5), "`access_log` 1.5: must be from 0 to 1"),
    ("observability", ObservabilityConfig(trace_sampling=math.inf), "`trace_sampling` inf: must be from 0 to 1"),
    ("life_cycle", LifeCycleConfig(grace_seconds=-1), "`grace_seconds` -1: must be from 0 to 86400"),
])
def test_values_that_make_no_sense_are_named(group: str, values: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        ServeConfig(**{group: values})
    assert str(error.value).startswith(message)


def test_every_default_is_possible() -> None:
    config = ServeConfig()
    assert config.resolved_threads == available_cores()
    assert ServeConfig(engine=EngineConfig(threads=3)).resolved_threads == 3
    assert (config.pictures.max_megapixels, config.max_message_bytes) == (64, 64 * 2**20)


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", None), ("150000 100000", 2), ("10000 100000", 1)])
def test_the_limit_of_a_container_is_its_number_of_cores(tmp_path: Path, limit: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    own = len(os.sched_getaffinity(0))
    assert available_cores(tmp_path / "cpu.max") == min(own, cores or own)
    assert available_cores(tmp_path / "none") == own


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = ("import sys, serving.cli, serving.check, serving.server, voc_cls.client\n"
            "import voc_cls.cli.predict, voc_cls.cli.train\n"
            "print([name for name in ('tensorflow', 'keras', 'matplotlib', 'cv2') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
