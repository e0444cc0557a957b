"""Metrics of another kind: TensorFlow Serving's counters by their exact names, and what is looked up at scrapes."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily
from prometheus_client.registry import Collector

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class VersionSnapshot:
    """A version of a model at the moment of a scrape."""

    state: str
    """One of tensorflow.serving.ModelVersionStatus.State: START, LOADING, AVAILABLE, UNLOADING, END."""
    failed: bool = False
    """Whether it could not be loaded."""
    engine_pid: int | None = None
    """The process that computes it; None while there is none."""


@dataclass(frozen=True)
class ServerSnapshot:
    """What the server is at the moment of a scrape."""

    ready: bool
    """Whether health says SERVING."""
    pictures: int
    """Being decoded, waiting and in the engines."""
    queue_size: int
    """How many there may be, --queue-size."""
    log_lines_lost: int = 0
    versions: Mapping[tuple[str, int], VersionSnapshot] = field(default_factory=dict)
    """(model, version) → how it fares."""


class ExactCounter(Collector):
    """A counter whose name is shown as it is: prometheus_client appends _total, which TensorFlow Serving's have not.

    Its type is shown as unknown, the only one that OpenMetrics allows a cumulative number without that suffix.
    """

    def __init__(self, name: str, documentation: str, labels: Sequence[str] = ()) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = tuple(labels)
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()

    def increase(self, *labels: str, by: int = 1) -> None:
        """Counts; by 0 the series begins."""
        with self._lock:
            self._counts[labels] += by

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        family = UnknownMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            counts = dict(self._counts)
        for labels, count in counts.items() or [((), 0)] * (not self._labels):
            family.add_metric(labels, count)
        yield family


class ServerCollector(Collector):
    """Gauges of a server, and memory and time of its engines' processes, which the process metrics leave out."""

    def __init__(self, read: Callable[[], ServerSnapshot]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at every scrape."""
        now = self._read()
        yield GaugeMetricFamily("voc_serve_ready", "1 while health says SERVING.", float(now.ready))
        yield GaugeMetricFamily("voc_serve_pictures_in_server", "Pictures being decoded, waiting, in the engines.",
                                now.pictures)
        yield GaugeMetricFamily("voc_serve_queue_capacity", "Pictures that may be in the server at a time, "
                                "--queue-size.", now.queue_size)
        yield CounterMetricFamily("voc_serve_log_lines_lost", "Log lines that could not be written, as the disk was "
                                  "full or nobody read them.", now.log_lines_lost)
        yield from _versions(now.versions)


def _versions(versions: Mapping[tuple[str, int], VersionSnapshot]) -> Iterator[Metric]:
    names = ("model", "version")
    states = GaugeMetricFamily("voc_serve_version_state", "1 for the state that a version is in.",
                               labels=(*names, "state"))
    failed = GaugeMetricFamily("voc_serve_version_failed", "1 for versions that could not be loaded.", labels=names)
    memory = GaugeMetricFamily("voc_serve_engine_resident_memory_bytes", "Resident memory of the process that "
                               "computes a version.", labels=names)
    cpu = CounterMetricFamily("voc_serve_engine_cpu_seconds", "User and system time of the process that computes a "
                              "version.", labels=names)
    for (model, number), version in versions.items():
        labels = (model, str(number))
        states.add_metric((*labels, version.state), 1)
        failed.add_metric(labels, float(version.failed))
        usage = None if version.engine_pid is None else process_usage(version.engine_pid)
        if usage is not None:
            memory.add_metric(labels, usage.resident_bytes)
            cpu.add_metric(labels, usage.cpu_seconds)
    yield from (states, failed, memory, cpu)


@dataclass(frozen=True)
class ProcessUsage:
    """Of one process, since it started."""

    resident_bytes: int
    cpu_seconds: float


def process_usage(pid: int) -> ProcessUsage | None:
    """What proc_pid_stat(5) says of a process, or None if there is none."""
    try:
        # the name of the program, in parentheses, may itself hold blanks and parentheses
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    user, system, resident = (int(fields[number - 3]) for number in (14, 15, 24))
    return ProcessUsage(resident * PAGE_BYTES, (user + system) / TICKS)
