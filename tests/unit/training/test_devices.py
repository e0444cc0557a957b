"""Which device trains, and why a GPU does not: on made folder trees of machines that have one."""

from __future__ import annotations

from pathlib import Path

import pytest

from voc_cls.training import devices
from voc_cls.training.devices import (
    driver_version,
    memory_gib,
    nvidia_cards,
    processor,
    processor_flags,
    why_unused,
)

CARD = ("NVIDIA A100 (80 GiB)",)
DRIVER_FILE = """NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U16)
GCC version:  gcc version 12.2.0
"""


def put(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def pci(root: Path, slot: str, vendor: str, kind: str) -> None:
    put(root / "sys/bus/pci/devices" / slot, vendor=f"{vendor}\n", **{"class": f"{kind}\n"})


def test_without_a_driver_the_pci_bus_shows_the_card_but_not_its_sound_or_bridges(tmp_path: Path):
    pci(tmp_path, "0000:01:00.0", "0x10de", "0x030200")
    pci(tmp_path, "0000:01:00.1", "0x10de", "0x040300")
    pci(tmp_path, "0000:02:00.0", "0x10de", "0x068000")
    pci(tmp_path, "0000:03:00.0", "0x8086", "0x030000")
    assert nvidia_cards(tmp_path) == ("NVIDIA card at PCI 0000:01:00.0",)


def test_a_machine_without_a_card_has_none(tmp_path: Path):
    assert nvidia_cards(tmp_path) == ()


def test_the_drivers_version_is_read(tmp_path: Path):
    assert driver_version(tmp_path) is None
    put(tmp_path, proc__driver__nvidia__version=DRIVER_FILE)
    assert driver_version(tmp_path) == "570.86.15"


def test_the_processor_and_its_flags_are_read(tmp_path: Path):
    put(tmp_path, proc__cpuinfo="processor\t: 0\nmodel name\t: Xeon 8480+\nflags\t\t: fpu avx512f amx_bf16\n\n"
                                "processor\t: 1\nmodel name\t: Xeon 8480+\nflags\t\t: fpu avx512f amx_bf16\n")
    assert processor(tmp_path) == "Xeon 8480+"
    assert processor_flags(tmp_path) == {"fpu", "avx512f", "amx_bf16"}


def test_a_containers_memory_is_its_limit(tmp_path: Path):
    assert memory_gib(tmp_path) is None
    put(tmp_path, proc__meminfo="MemTotal:       33554432 kB\nMemFree: 5 kB\n", sys__fs__cgroup__memory__x="")
    assert memory_gib(tmp_path) == 32
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert memory_gib(tmp_path) == 32
    (tmp_path / "sys/fs/cgroup/memory.max").write_text(f"{8 << 30}\n")
    assert memory_gib(tmp_path) == 8


@pytest.mark.parametrize("visible", ["", "-1"])
def test_a_hidden_card_is_said_to_be_hidden(visible: str):
    text = why_unused(CARD, "tensorflow", "570.86", {"CUDA_VISIBLE_DEVICES": visible})
    assert "NVIDIA A100 (80 GiB) is not used" in text
    assert f"CUDA_VISIBLE_DEVICES={visible} hides it" in text


def test_a_missing_driver_is_named_before_missing_libraries():
    assert "driver is not loaded" in why_unused(CARD, "tensorflow", None, {})
    assert "--gpus all" in why_unused(CARD, "tensorflow", None, {})


def test_missing_libraries_come_with_the_line_that_installs_them():
    """Holds on machines whose environment has no CUDA packages, as the tests' own."""
    if devices.missing_for_gpu("tensorflow") is None:
        pytest.skip("CUDA's packages are installed here")
    text = why_unused(CARD * 2, "tensorflow", "570.86", {"CUDA_VISIBLE_DEVICES": "0,1"})
    assert text.startswith("2 NVIDIA cards are not used: ")
    assert 'gpu]"' in text
    assert "pip install" in text


def test_a_backend_without_a_plugin_is_told_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "installed", lambda package: None)  # noqa: ARG005
    assert 'pip install "voc-cls[jax-gpu]"' in why_unused(CARD, "jax", "570.86", {})
    monkeypatch.setattr(devices, "installed", lambda package: "0.10" if package == "jax-cuda12-plugin" else None)
    text = why_unused(CARD, "jax", "570.86", {})
    assert "driver 570.86" in text
    assert "jax.devices()" in text


def test_the_packages_that_tensorflow_wants_for_cuda_are_known():
    import tensorflow as tf

    if not tf.sysconfig.get_build_info()["is_cuda_build"] or devices.installed("tensorflow") is None:
        pytest.skip("a TensorFlow without CUDA asks for no packages")
    assert "nvidia-cudnn-cu12" in devices.cuda_packages()
    assert all(name.startswith("nvidia-") for name in devices.cuda_packages())


def test_the_line_at_the_start_names_the_device_and_the_backend():
    line = devices.device()
    assert "TensorFlow" in line
    assert "\n" not in line
    if not devices.accelerators():
        assert line.startswith(f"CPU: {processor()}, {devices.cores()} cores")


def test_xla_is_off_on_a_processor_and_for_replicas():
    assert devices.compiles() is bool(devices.accelerators())
    assert devices.compiles(replicas=2) is False
