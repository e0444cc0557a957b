"""Which number format computes: Keras' dtype policies by the names the command line uses."""

from __future__ import annotations

from pathlib import Path

from voc_cls.errors import UsageError

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
CPU_FLAGS = ("avx512_bf16", "amx_bf16")


def cpu_has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this processor multiplies bfloat16 natively; elsewhere oneDNN emulates it, slower than float32."""
    try:
        flags = cpuinfo.read_text().split()
    except OSError:  # not Linux
        return False
    return any(flag in flags for flag in CPU_FLAGS)


def inference_precision(asked: str, on_accelerator: bool) -> str:
    """`auto` → bfloat16 where the hardware has it, else float32; anything else as it is."""
    if asked != "auto":
        return asked
    return "bfloat16" if on_accelerator or cpu_has_bfloat16() else "float32"


def policy(precision: str) -> str:
    """Keras' dtype policy for `precision`; variables are float32 in each of them."""
    if precision not in POLICIES:
        raise UsageError(f"--precision {precision}: not one of {', '.join(POLICIES)}")
    return POLICIES[precision]
