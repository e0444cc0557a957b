"""How a server is set up: every default once, with its reason. Flags, environment and YAML file are these fields."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from serving.config.models import ModelsConfig
from voc_cls.config import Range, check_ranges
from voc_cls.errors import UsageError

CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")


@dataclass(frozen=True)
class PortsConfig:
    """Where to listen, and what a connection may do."""

    host: str = "0.0.0.0"
    """Address to listen on. The default is every one of the machine's, as a container needs."""
    port: Annotated[int, Range(0, 65535)] = 8500
    """Port of the gRPC API; 0 picks a free one, printed at the start. 8500 is TensorFlow Serving's."""
    http_port: Annotated[int, Range(-1, 65535)] = 8501
    """Port of REST, /healthz and /metrics; 0 picks a free one, -1 opens none. 8501 is TensorFlow Serving's."""
    port_file: Path | None = None
    """File to write the number of the gRPC port into once the server is ready; removed when it stops."""
    max_message_mb: Annotated[int, Range(1, 2047)] = 64
    """Largest message accepted and sent, MiB. gRPC's own limit of 4 is one photograph."""
    max_calls: Annotated[int, Range(1, 1e6)] = 1000
    """Calls being received or answered at a time; more are refused at once, before their message is read."""
    max_connection_age: Annotated[float, Range(0, 1e6)] = 0
    """Seconds after which a connection is asked to open anew, so that clients behind a balancer of connections spread
    over new servers; 0: never. Calls that run are finished."""


@dataclass(frozen=True)
class EngineConfig:
    """How the network is computed."""

    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """In what the network is computed. float32: the probabilities of training. bfloat16: about twice as fast on a CPU
    that has the instructions, probabilities within 0.001 or so. auto: bfloat16 where the CPU has them."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads of the engine, and as many that decode pictures. 0: the CPU cores that this process may use."""


@dataclass(frozen=True)
class BatchingConfig:
    """How pictures of different callers come together."""

    max_batch_size: Annotated[int, Range(1, 4096)] = 16
    """Pictures per batch at most. More gain nothing on a CPU and make everybody in the batch wait longer."""
    batch_timeout_ms: Annotated[float, Range(0, 10000)] = 0
    """How long the first picture of a batch that is not full waits for others, ms. 0: a batch is what queued while the
    engine was busy, which costs a lone caller nothing; some ms may pay on a GPU."""
    queue_size: Annotated[int, Range(1, 1e6)] = 128
    """Pictures in the server at a time - being decoded, waiting, in the engine. Calls beyond get RESOURCE_EXHAUSTED;
    one call may not bring more than this."""


@dataclass(frozen=True)
class PicturesConfig:
    """What is decoded at all."""

    max_megapixels: Annotated[float, Range(0.001, 10000)] = 64
    """Largest picture decoded, by its header; all frames of a GIF count. Decoding takes up to 15 bytes a pixel. The
    default lets every 35 mm camera's pictures through."""
    max_picture_mb: Annotated[float, Range(0.001, 2047)] = 32
    """Largest picture file accepted, MiB."""


@dataclass(frozen=True)
class SecurityConfig:
    """Who may ask what, and how much."""

    tls_cert: Path | None = None
    """Certificate chain, PEM, for both ports; read again when it changes. Without it nothing is encrypted."""
    tls_key: Path | None = None
    """Private key of --tls-cert, PEM."""
    client_ca: Path | None = None
    """Certificates, PEM, of those who may sign client certificates: with it every client must show one (mTLS)."""
    keys_file: Path | None = None
    """YAML file of bearer tokens and API keys and the methods each may call; read again when it changes. Health checks
    need none."""
    reflection: Literal["auto", "on", "off"] = "auto"
    """Whether grpcurl and its like may ask for the services. auto: on, but off with --keys-file or --client-ca."""
    client_rate: Annotated[float, Range(0, 1e6)] = 0
    """Calls per second that one client may make in the long run; 0: any number."""
    client_burst: Annotated[int, Range(1, 1e6)] = 20
    """Calls that one client may make at once before --client-rate counts."""
    client_concurrency: Annotated[int, Range(0, 1e6)] = 0
    """Calls that one client may have running at a time; 0: any number."""


@dataclass(frozen=True)
class ObservabilityConfig:
    """What the server tells of itself."""

    log_format: Literal["text", "json"] = "text"
    """json: one object a line, for machines."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important message that is logged."""
    access_log: Annotated[float, Range(0, 1)] = 0
    """Share, 0 to 1, of the calls that are logged with status and times; failures of the server itself always are."""
    trace_to: str | None = None
    """OTLP/gRPC endpoint, such as http://127.0.0.1:4317, to send OpenTelemetry traces to; needs the extra `trace`."""
    trace_sampling: Annotated[float, Range(0, 1)] = 1
    """Share, 0 to 1, of the traces that start here; a caller's own decision (traceparent) is followed."""


@dataclass(frozen=True)
class LifeCycleConfig:
    """How a server stops."""

    grace_seconds: Annotated[float, Range(0, 86400)] = 30
    """After SIGTERM or SIGINT, how long calls that run may take to finish. A second signal ends them at once."""
    lame_duck_seconds: Annotated[float, Range(0, 3600)] = 0
    """After the first signal, how long calls are still taken while health says NOT_SERVING, so that balancers notice
    before anybody is refused. Kubernetes: 5 or so."""


@dataclass(frozen=True)
class ServeConfig:
    """Serves exported models over gRPC and HTTP until SIGTERM or SIGINT."""

    models: ModelsConfig = field(default_factory=ModelsConfig)
    ports: PortsConfig = field(default_factory=PortsConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    batching: BatchingConfig = field(default_factory=BatchingConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    security: SecurityConfig = field(default_factory=SecurityConfig)
    observability: ObservabilityConfig = field(default_factory=ObservabilityConfig)
    life_cycle: LifeCycleConfig = field(default_factory=LifeCycleConfig)

    def __post_init__(self) -> None:
        check_ranges(self.models, self.ports, self.engine, self.batching, self.pictures, self.security,
                     self.observability, self.life_cycle)
        batching, security = self.batching, self.security
        if batching.queue_size < batching.max_batch_size:
            raise UsageError(f"`queue_size` {batching.queue_size} is below `max_batch_size` {batching.max_batch_size}: "
                             "no batch of that size could ever form")
        for given, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("client_ca", "tls_cert")):
            if getattr(security, given) is not None and getattr(security, needed) is None:
                raise UsageError(f"`{given}` needs `{needed}` too: give both or neither")

    @property
    def resolved_threads(self) -> int:
        """Number of threads, never 0."""
        return self.engine.threads or available_cores()

    @property
    def max_pixels(self) -> int:
        """Largest picture decoded, pixels."""
        return int(self.pictures.max_megapixels * 1e6)

    @property
    def max_message_bytes(self) -> int:
        """Largest message, bytes."""
        return self.ports.max_message_mb * 2**20


def available_cores(cgroup: Path = CGROUP_CPU_LIMIT) -> int:
    """CPU cores this process may use: its affinity, or the limit of its container where that is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cgroup.exists():
        quota, period = cgroup.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores
