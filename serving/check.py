"""voc-serve --check: all that can be checked without serving and without TensorFlow, and what would be served.

Stricter than a start: every version that is wanted must be readable. The graph of a version is read only when it is
loaded.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import socket
from collections.abc import Sequence

from serving.config.config import EngineChoice, PortsConfig, SecurityConfig, ServeConfig
from serving.config.models import ModelSettings, model_settings
from serving.engine.batcher import batch_sizes
from serving.errors import ServeError
from serving.models.store import version_reader
from serving.models.version_folders import FORMS, check_versions, choose_engine
from serving.security.auth import Authenticator
from serving.security.tls import Certificates
from voc_cls.model_metadata import read_metadata
from voc_cls.stores import store_url

MODEL_COLUMNS = ("model", "versions", "labels", "engine", "network", "classes", "thresholds", "folder")


def check(config: ServeConfig, as_json: bool) -> None:
    """Prints what would be served. Raises UsageError or ServeError for the first thing that is wrong."""
    models = [_check_model(settings, config.engine.engine) for settings in model_settings(config.models)]
    _check_folders(config)
    batching = config.batching
    summary = [
        ("gRPC", _port(config.ports, "port")),
        ("HTTP", _port(config.ports, "http_port")),
        ("security", _security(config.security)),
        ("batches", f"of {' '.join(map(str, batch_sizes(batching.max_batch_size)))} pictures, which wait "
                    f"{batching.batch_timeout_ms:g} ms for others; at most {batching.queue_size} in the server"),
        ("engine", f"{config.resolved_threads} threads, {config.engine.precision}"),
        ("pictures", f"up to {config.pictures.max_megapixels:g} megapixels, {config.pictures.max_picture_mb:g} MiB"),
    ]
    if as_json:
        print(json.dumps({"models": [dict(zip(MODEL_COLUMNS, row, strict=True)) for row in models], **dict(summary)}))
        return
    print("\n".join([*_columns([MODEL_COLUMNS, *models]), "", *_columns(summary), "",
                     "voc-serve: nothing wrong was found"]))


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines, one column below the other; no line is wrapped, however long."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _check_model(settings: ModelSettings, engine: EngineChoice) -> tuple[str, ...]:
    """The MODEL_COLUMNS of a model; ServeError if a wanted version or a label's is missing or damaged."""
    folder, name = version_reader(settings)(), settings.name
    check_versions(settings, folder.versions)
    for double in folder.doubles:
        raise ServeError(f"{folder.path / double} and {folder.versions[int(double)]} are the same version: remove one")
    wanted = settings.policy.wanted(folder.versions)
    engines = [choose_engine(engine, folder.versions[number])[0] for number in wanted]
    for number, name_of_engine in zip(wanted, engines, strict=True):
        for file in FORMS[name_of_engine].files:
            if not any(found.is_file() and found.stat().st_size for found in folder.versions[number].glob(file)):
                raise ServeError(f"{folder.versions[number]} has no {file}: export the model again with voc-export")
    *_, newest = [read_metadata(folder.versions[number]) for number in wanted]
    labels = " ".join(f"{label}={number}" for label, number in settings.labels.items())
    return (name, " ".join(map(str, wanted)), labels or "-", engines[-1],
            f"{newest.net} {newest.preprocessing.size} px", str(len(newest.labels)),
            "yes" if newest.thresholds else "no", store_url(settings.folder) or str(settings.folder))


def _check_folders(config: ServeConfig) -> None:
    folders = {"models_root": config.models.models_root,
               "port_file": None if config.ports.port_file is None else config.ports.port_file.absolute().parent}
    for name, folder in folders.items():
        if folder is not None and not folder.is_dir():
            raise ServeError(f"`{name}`: there is no folder {folder}: make it, or pass another")
    if config.observability.trace_to is not None and importlib.util.find_spec("opentelemetry") is None:
        raise ServeError(f"`trace_to` {config.observability.trace_to} needs OpenTelemetry: pip install "
                         "\"voc-cls[trace]\"")


def _security(config: SecurityConfig) -> str:
    """What protects the server, after reading its files."""
    protection = ["TLS" if config.tls_cert else "no TLS"]
    if config.tls_cert is not None and config.tls_key is not None:
        Certificates(config.tls_cert, config.tls_key, config.client_ca)
        protection += ["client certificates"] if config.client_ca else []
    Authenticator(config.keys_file)
    protection.append(f"keys of {config.keys_file}" if config.keys_file else "no keys")
    if config.client_rate:
        protection.append(f"{config.client_rate:g} calls/s a client, {config.client_burst} at once")
    if config.client_concurrency:
        protection.append(f"{config.client_concurrency} calls of a client at a time")
    return ", ".join([*protection, f"reflection {'on' if config.has_reflection else 'off'}"])


def _port(ports: PortsConfig, name: str) -> str:
    """host:port and whether it is free; ServeError if it could never be listened on."""
    host, port = ports.host, getattr(ports, name)
    if port < 0:
        return "none"
    if port == 0:
        return f"{host}, a free port"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"{ports.address(port)}, which is taken at the moment"
        raise ServeError(f"`host` {host} `{name}` {port} cannot be listened on ({error.strerror}): pass "
                         "an address of this machine and a port that this user may open") from None
    return f"{ports.address(port)}, which is free"
