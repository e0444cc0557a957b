"""The lines that a server prints on stdout: what it serves when it is ready, and what it did when it stops."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from serving.config.config import SecurityConfig, ServeConfig
from serving.models.registry import ModelRegistry
from serving.request_middleware import RequestCounts


def ready_line(config: ServeConfig, models: ModelRegistry, grpc_address: str, http_address: str | None,
               seconds: float) -> str:
    """Addresses, models, engine, batch sizes, security, memory, and how long all of it took."""
    told = []
    for name, number, version in models.loaded():
        metadata = version.servable.metadata
        labels = "".join(f" '{label}'" for label in version.labels)
        told.append(f"model {name}, version {number}{labels} ({metadata.net}, {len(metadata.labels)} labels)")
    servable = next(models.loaded())[2].servable
    return "; ".join([
        f"voc-serve: ready on {grpc_address} (gRPC){f' and {http_address} (HTTP)' if http_address else ''}: "
        + "; ".join(told), servable.engine.description, f"batch sizes {' '.join(map(str, servable.batcher.sizes))}",
        _security(config.security), f"{_memory(models) / 2**30:.1f} GiB of memory", f"ready after {seconds:.1f} s"])


def summary(counts: RequestCounts, models: ModelRegistry) -> Iterator[str]:
    """What came of the calls, and what each version that is loaded has computed."""
    yield f"voc-serve: stopped: {counts.answered} calls answered, {counts.failed} refused or failed"
    for name, number, version in models.loaded():
        batches = version.servable.batcher.counts
        yield (f"voc-serve: model {name}, version {number}: {batches.pictures} pictures in {batches.batches} batches, "
               f"largest {batches.largest}; {batches.dropped} dropped")


def _security(config: SecurityConfig) -> str:
    used = [name for name, given in (("TLS", config.tls_cert), ("client certificates", config.client_ca),
                                     ("keys", config.keys_file)) if given]
    return ", ".join(used) or "no encryption, no keys"


def _memory(models: ModelRegistry) -> int:
    """Bytes of memory that the server and its engines use; pages that they share count once (proc_pid_smaps(5))."""
    total = 0
    for pid in (os.getpid(), *models.engines().values()):
        with contextlib.suppress(OSError):
            found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            total += 1024 * int(found[1]) if found else 0
    return total
