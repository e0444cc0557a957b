"""The configuration of a server: every default once, with its reason. Its fields are flags, variables and YAML keys."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from serving.config.models import ModelsConfig
from voc_cls.config import Range, check_ranges
from voc_cls.errors import UsageError

ANY_ORIGIN = "*"
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#\s@,A-Z]+")
CGROUP_CPU_LIMIT = Path("/sys/fs/cgroup/cpu.max")

Engine = Literal["tensorflow", "openvino"]
EngineChoice = Literal["auto", "tensorflow", "openvino"]


@dataclass(frozen=True)
class PortsConfig:
    """Where to listen, and limits of connections."""

    host: str = "127.0.0.1"
    """Address to listen on. The default is for clients on this machine only: without keys, anyone who reaches the ports
    may call. 0.0.0.0: all addresses of the machine, as the Docker image sets it; [::]: those of IPv6 too."""
    port: Annotated[int, Range(0, 65535)] = 8500
    """Port of the gRPC API; 0: a free one, printed at the start. The default is TensorFlow Serving's."""
    http_port: Annotated[int, Range(-1, 65535)] = 8501
    """Port of REST, /healthz and /metrics; 0: a free one; -1: none. The default is TensorFlow Serving's."""
    page: bool = True
    """Whether the HTTP port has a page at / on which people try the models in a browser. Its files need no key, the
    calls that it makes do."""
    port_file: Path | None = None
    """File to write the number of the gRPC port into once the server is ready; removed when it stops."""
    max_message_mb: Annotated[int, Range(1, 2047)] = 64
    """Largest message that is accepted and sent, MiB. gRPC's own limit of 4 is one photograph."""
    max_calls: Annotated[int, Range(1, 1e6)] = 1000
    """Largest number of calls that are worked on at a time; further ones are refused. Calls whose message is still
    arriving, and streams without a request that is being answered, do not count."""
    http_timeout: Annotated[float, Range(0, 86400)] = 60
    """Seconds from the head of an HTTP request until it is answered, or ended with 504; 0: no limit. The default is how
    long nginx and other proxies wait: a later answer reaches nobody. Callers over gRPC set their own deadlines."""
    receive_mb: Annotated[int, Range(0, 1e6)] = 0
    """Memory for requests over both ports, arriving, waiting and being read, MiB. When it is full, the client that
    takes most loses the largest of what is still arriving. 0: eight times --max-message-mb, which is 512 by default:
    several of the largest messages, or a hundred photographs."""
    stream_idle_seconds: Annotated[float, Range(1, 86400)] = 300
    """How long a stream may be idle, its requests all answered, before it ends with UNAVAILABLE, seconds; voc-cls'
    clients open another when they need one. The default is about as long as networks keep silent connections."""
    max_connection_age: Annotated[float, Range(0, 1e6)] = 0
    """Seconds after which a client must reconnect, so that clients behind a load balancer spread over new
    servers; 0: never. Running calls are finished."""

    def address(self, port: int) -> str:
        """host:port, an IPv6 address in brackets, whether or not `host` has them."""
        host = self.host.strip("[]")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True)
class EngineConfig:
    """What computes the network, its precision and threads."""

    engine: EngineChoice = "auto"
    """What computes the network. tensorflow: the SavedModel. openvino: model.xml, faster and with a fraction of the
    memory. auto: openvino for versions that have a model.xml, if it is installed, else tensorflow; the log says which
    and why."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Number format of the network. float32: the same probabilities as in training. bfloat16: about twice as fast on a
    CPU with the instructions, probabilities differ by about 0.001. auto: bfloat16 where the CPU supports it. Layers
    that were exported as int8 stay int8."""
    threads: Annotated[int, Range(0, 1024)] = 0
    """Threads that compute, and as many that decode images. 0: the number of CPU cores that this process may use."""
    engine_timeout: Annotated[float, Range(0, 86400)] = 0
    """Seconds after which an engine that does not answer counts as hung and is replaced; while it loads 60 times as
    many. 0: 20 times what a batch of that size took before, at least 10, and 10 minutes to load. Time in which a busy
    machine keeps the engine from computing does not count."""


@dataclass(frozen=True)
class BatchingConfig:
    """How images of different callers become batches."""

    max_batch_size: Annotated[int, Range(1, 4096)] = 16
    """Largest number of images in a batch. Larger batches gain nothing on a CPU and increase the latency."""
    batch_timeout_ms: Annotated[float, Range(0, 10000)] = 0
    """How long the first image of a batch waits for others, ms. 0: a batch is what was queued while the engine was
    busy, which adds no latency; a few ms may increase the throughput of a GPU."""
    queue_size: Annotated[int, Range(1, 1e6)] = 128
    """Largest number of images in the server: being decoded, waiting, in the engine. Further calls get
    RESOURCE_EXHAUSTED; one call may not have more images than this."""


@dataclass(frozen=True)
class PicturesConfig:
    """Limits of images."""

    max_megapixels: Annotated[float, Range(0.001, 10000)] = 64
    """Largest image that is decoded, by its header; all frames of a GIF count. Decoding takes up to 30 bytes a pixel.
    The default is enough for the photographs of every 35 mm camera."""
    max_picture_mb: Annotated[float, Range(0.001, 2047)] = 32
    """Largest image file, MiB."""
    decode_seconds: Annotated[float, Range(0.1, 3600)] = 10
    """How long an image may take to be decoded, seconds; then it is given up and its caller told. A transparent image
    of 64 megapixels takes three, the largest photographs less than two; the rest is for a busy machine."""


@dataclass(frozen=True)
class SecurityConfig:
    """Encryption, authentication and rate limits."""

    tls_cert: Path | None = None
    """Certificate chain, PEM, for both ports; reloaded when it changes. Default: no encryption."""
    tls_key: Path | None = None
    """Private key of --tls-cert, PEM."""
    client_ca: Path | None = None
    """CA certificates, PEM: every client must have a certificate that one of them signed (mTLS)."""
    keys_file: Path | None = None
    """YAML file of bearer tokens and API keys, with the methods that each may call; reloaded when it changes. Health
    checks need no key."""
    allow_reload: bool = False
    """Whether callers without keys may change which models are served (HandleReloadConfigRequest). With --keys-file the
    methods of a key decide instead: the group admin."""
    reflection: Literal["auto", "on", "off"] = "auto"
    """Server reflection, for grpcurl and similar tools. auto: on, but off with --keys-file or --client-ca."""
    client_rate: Annotated[float, Range(0, 1e6)] = 0
    """Calls per second of one client, on average; 0: no limit."""
    client_burst: Annotated[int, Range(1, 1e6)] = 20
    """Calls that one client may make at once before --client-rate applies."""
    client_concurrency: Annotated[int, Range(0, 1e6)] = 0
    """Concurrent calls of one client; 0: no limit."""
    client_streams: Annotated[int, Range(0, 1e6)] = 100
    """Open streams of one client; 0: no limit. The default is more than a program needs, whose streams each carry many
    requests, and keeps one address from filling the server with idle streams. Raise it for callers behind a proxy."""
    cors_origin: tuple[str, ...] = ()
    """Origins, such as https://app.example, of web pages that may call this server from a browser (CORS); * is any.
    Default: none, as a page that a user has open would reach what only the user's machine can."""

    @property
    def has_reflection(self) -> bool:
        """`reflection`, with `auto` resolved."""
        if self.reflection == "auto":
            return self.keys_file is None and self.client_ca is None
        return self.reflection == "on"


@dataclass(frozen=True)
class ObservabilityConfig:
    """Logs and traces."""

    log_format: Literal["text", "json"] = "text"
    """json: every line of stdout and stderr is an object, also those that C libraries and engines print."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    access_log: Annotated[float, Range(0, 1)] = 0
    """Share of the calls that are logged with status and times, 0 to 1; internal errors always are."""
    trace_to: str | None = None
    """OTLP/gRPC endpoint for OpenTelemetry traces, such as http://127.0.0.1:4317; needs the extra `trace`."""
    trace_sampling: Annotated[float, Range(0, 1)] = 1
    """Share of the calls that are traced, 0 to 1; the decision of a caller (traceparent) is followed."""


@dataclass(frozen=True)
class LifeCycleConfig:
    """How the server stops."""

    grace_seconds: Annotated[float, Range(0, 86400)] = 30
    """How long running calls may take to finish after SIGTERM or SIGINT, seconds. A second signal ends them at once."""
    lame_duck_seconds: Annotated[float, Range(0, 3600)] = 0
    """How long calls are still accepted after the first signal while health is NOT_SERVING, seconds, so that load
    balancers notice before calls are refused. Kubernetes: about 5."""


@dataclass(frozen=True)
class RayConfig:
    """Serving from several machines (docs/scale.md)."""

    ray: bool = False
    """Serve by Ray Serve (extra `ray`) from replicas of this server on the machines of a Ray cluster: that of
    $RAY_ADDRESS, or that of this machine (`ray start`), or a new one of this machine alone. Ray opens --port on all
    addresses, whatever --host says. /metrics of a replica is on the first free port after --http-port."""
    replicas: str = "1"
    """With --ray: how many replicas, each with decoders and an engine of its own; or auto: as many as have enough
    to do, --max-batch-size calls each, from one to --max-replicas."""
    max_replicas: Annotated[int, Range(1, 1e5)] = 10
    """Largest number of replicas with --replicas auto."""
    replica_cpus: Annotated[float, Range(0, 1024)] = 0
    """CPU cores that a replica takes of a machine, and its --threads unless they are given. 0: as many as this process
    may use, so that a machine like this one has one replica."""


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
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        check_ranges(*vars(self).values())
        batching, security = self.batching, self.security
        if batching.queue_size < batching.max_batch_size:
            raise UsageError(f"`queue_size` {batching.queue_size} is below `max_batch_size` {batching.max_batch_size}: "
                             "no batch of that size could ever form")
        if self.ports.port == self.ports.http_port > 0:
            raise UsageError(f"`port` and `http_port` are both {self.ports.port}: give each its own, or -1 as "
                             "`http_port` for none")
        if 0 < self.ports.receive_mb < 4 * self.ports.max_message_mb:
            raise UsageError(f"`receive_mb` {self.ports.receive_mb} is below four times `max_message_mb` "
                             f"{self.ports.max_message_mb}, which one message may take while it is read: raise the one "
                             "or lower the other")
        for given, needed in (("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("client_ca", "tls_cert")):
            if getattr(security, given) is not None and getattr(security, needed) is None:
                raise UsageError(f"`{given}` needs `{needed}` too: give both or neither")
        if self.ray.replicas != "auto" and not re.fullmatch("[1-9][0-9]{,4}", self.ray.replicas):
            raise UsageError(f"`replicas` {self.ray.replicas!r} is neither a number from 1 on nor auto")
        if self.ray.ray and (security.tls_cert is not None or self.ports.port < 1 or self.ports.http_port < 1):
            raise UsageError("`ray` needs a `port` and an `http_port` from 1 on and no `tls_cert`: Ray opens the ports "
                             "on each machine, without TLS; for TLS put a proxy before them")
        for origin in security.cors_origin:
            if origin != ANY_ORIGIN and not ORIGIN.fullmatch(origin):
                raise UsageError(f"`cors_origin` {origin!r} is not an origin: write scheme and host as browsers do, in "
                                 "small letters, such as https://app.example or http://127.0.0.1:3000, or * for any")

    @property
    def resolved_threads(self) -> int:
        return self.engine.threads or available_cores()

    @property
    def max_message_bytes(self) -> int:
        return self.ports.max_message_mb * 2**20

    @property
    def receive_bytes(self) -> int:
        """`receive_mb`, with 0 resolved."""
        return (self.ports.receive_mb or 8 * self.ports.max_message_mb) * 2**20


def available_cores(cgroup: Path = CGROUP_CPU_LIMIT) -> int:
    """CPU cores this process may use: its affinity, or the limit of its container where that is lower."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cgroup.exists():
        quota, period = cgroup.read_text().split()
        if quota != "max":
            cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores
