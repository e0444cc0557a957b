"""The application of Ray Serve: for voc-serve --ray, for `serve run`, and for a Serve config such as KubeRay's.

    serve run serving.ray.app:build model_dir=models/voc replicas=auto
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_type_hints

import ray
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.schema import LoggingConfig

from serving.config.config import ServeConfig, available_cores
from serving.config.models import model_settings, replaced_models
from serving.errors import ServeError
from serving.ray.replica import Replica
from voc_cls.config import Program
from voc_cls.console import sigterm_kept, stop_on
from voc_cls.errors import reason

NAME = "voc-serve"
PROGRAM = Program(NAME, "", get_type_hints(ServeConfig), relative_to_file=True, replaced=replaced_models)
QUIET = LoggingConfig(enable_access_log=False)
"""A replica logs calls as voc-serve does."""


def build(args: Mapping[str, Any]) -> serve.Application:
    """For `serve run` and Serve configs. `args` are flags of voc-serve by their names; its variables count as well."""
    variables = {PROGRAM.variable(name): " ".join(map(str, value)) if isinstance(value, list) else
                 str(value).lower() if isinstance(value, bool) else str(value) for name, value in args.items()}
    return application(PROGRAM.read((), {**os.environ, **variables}).config(ServeConfig))


def application(config: ServeConfig) -> serve.Application:
    """The application of a configuration."""
    model_settings(config.models)  # for its errors
    cpus, replicas = config.ray.replica_cpus or available_cores(), config.ray.replicas
    if not config.engine.threads:
        config = replace(config, engine=replace(config.engine, threads=max(1, int(cpus))))
    scaling: dict[str, Any] = {"num_replicas": int(replicas)} if replicas != "auto" else {"autoscaling_config": {
        "min_replicas": 1, "max_replicas": config.ray.max_replicas,
        "target_ongoing_requests": config.batching.max_batch_size}}
    return serve.deployment(  # max_ongoing_requests: above what a replica itself refuses, saying how long to wait
        serve.ingress()(Replica), name=NAME, max_ongoing_requests=2 * config.ports.max_calls,
        ray_actor_options={"num_cpus": cpus}, graceful_shutdown_timeout_s=config.life_cycle.grace_seconds,
        logging_config=QUIET, **scaling).bind(config)


def run(config: ServeConfig) -> None:
    """Serves until a stop signal. Raises ServeError if it cannot start."""
    started, ports, signals = time.monotonic(), config.ports, {signal.SIGTERM, signal.SIGINT}
    stop_on("it was still starting", *signals)
    try:
        with sigterm_kept():
            ray.init(include_dashboard=False, log_to_driver=False)
        serve.start(http_options={"host": ports.host.strip("[]"), "port": ports.http_port}, logging_config=QUIET,
                    grpc_options=gRPCOptions(port=ports.port, enable_reflection=config.security.has_reflection,
                                             grpc_servicer_functions=["serving.ray.ingress.add_services"]))
        serve.run(application(config), name=NAME)
        print(f"voc-serve: ready on [::]:{ports.port} (gRPC) and {ports.address(ports.http_port)} (HTTP) by Ray Serve; "
              f"replicas: {config.ray.replicas}; ready after {time.monotonic() - started:.1f} s", flush=True)
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        signal.sigwait(signals)
    except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
        raise ServeError(f"Ray Serve does not start: {reason(error)}") from error
    finally:
        if ray.is_initialized():
            serve.shutdown()
            ray.shutdown()
