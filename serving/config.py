"""How a server is set up: every default once, with its reason. The flags of voc-serve are these fields."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from voc_cls.errors import UsageError

CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class ServeConfig:
    """Serves an exported model over gRPC (and its state over HTTP) until SIGTERM or SIGINT."""

    model_dir: Path
    """Folder of the model's versions, as voc-export wrote it, such as models/voc; its highest version is served."""
    model_name: str | None = None
    """Name by which callers ask for the model. Default: the name of the folder."""
    host: str = "0.0.0.0"
    """Address to listen on. The default is every one of the machine's, as a container needs; there is no encryption
    and no authentication yet, so outside a trusted network pass 127.0.0.1."""
    port: int = 8500
    """Port of the gRPC API; 0 picks a free one, printed at the start. 8500 is TensorFlow Serving's."""
    http_port: int = 8501
    """Port of /healthz and /v1/models/NAME; 0 picks a free one, -1 opens none. 8501 is TensorFlow Serving's."""
    port_file: Path | None = None
    """File to write the number of the gRPC port into once the server is ready; removed when it stops."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """In what the network is computed. float32: the probabilities of training. bfloat16: about twice as fast on a CPU
    that has the instructions, probabilities within 0.001 or so. auto: bfloat16 where the CPU has them."""
    threads: int = 0
    """Threads of the engine, and as many that decode pictures. 0: the CPU cores that this process may use."""
    max_batch_size: int = 16
    """Pictures per batch at most. More gain nothing on a CPU and make everybody in the batch wait longer."""
    queue_size: int = 128
    """Pictures in the server at a time - being decoded, waiting, in the engine. Calls beyond get RESOURCE_EXHAUSTED;
    one call may not bring more than this."""
    max_message_mb: int = 64
    """Largest message accepted and sent, MiB. gRPC's own limit of 4 is one photograph."""
    max_megapixels: float = 64
    """Largest picture decoded, by its header; all frames of a GIF count. Decoding takes up to 15 bytes a pixel. The
    default lets every 35 mm camera's pictures through."""
    grace_seconds: float = 30
    """After SIGTERM or SIGINT, how long calls that run may take to finish. A second signal ends them at once."""

    def __post_init__(self) -> None:
        for flag, value, lowest in (("--port", self.port, 0), ("--http-port", self.http_port, -1),
                                    ("--threads", self.threads, 0), ("--max-batch-size", self.max_batch_size, 1),
                                    ("--max-message-mb", self.max_message_mb, 1),
                                    ("--grace-seconds", self.grace_seconds, 0)):
            if value < lowest:
                raise UsageError(f"{flag} {value} is below {lowest}")
        for flag, port in (("--port", self.port), ("--http-port", self.http_port)):
            if port > 65535:
                raise UsageError(f"{flag} {port} is no port: they end at 65535")
        if self.max_message_mb > 2047:
            raise UsageError(f"--max-message-mb {self.max_message_mb}: gRPC messages end at 2047 MiB")
        if self.max_megapixels <= 0:
            raise UsageError(f"--max-megapixels {self.max_megapixels} must be above 0")
        if self.queue_size < self.max_batch_size:
            raise UsageError(f"--queue-size {self.queue_size} is below --max-batch-size {self.max_batch_size}: no "
                             "batch of that size could ever form")

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.model_name or self.model_dir.resolve().name

    @property
    def resolved_threads(self) -> int:
        """Number of threads, never 0."""
        return self.threads or available_cores()

    @property
    def max_pixels(self) -> int:
        """Largest picture decoded, pixels."""
        return int(self.max_megapixels * 1e6)

    @property
    def max_message_bytes(self) -> int:
        """Largest message, bytes."""
        return self.max_message_mb * 2**20


def available_cores(cgroup: Path = CGROUP_CPU_LIMIT) -> int:
    """CPU cores this process may use: its affinity, or the limit of its container where that is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cgroup.exists():
        quota, period = cgroup.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores
