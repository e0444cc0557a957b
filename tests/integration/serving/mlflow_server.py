"""A real MLflow tracking server in a process of its own, on a port of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from tests.integration.serving.test_life_cycle import free_port


class MlflowServer:
    """Keeps what it is told in `folder`, where an mlflow.db is or comes to be."""

    def __init__(self, folder: Path) -> None:
        self._folder, port = folder, free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self._program = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db",
                         "--port", str(port), "--workers", "1"]
        self.start()

    def start(self) -> None:
        """Starts it on its port."""
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self._process = subprocess.Popen(self._program, cwd=self._folder, env=environment, start_new_session=True,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            try:
                opener.open(f"{self.uri}/health", timeout=5).close()
                return
            except (urllib.error.URLError, ConnectionError):
                assert self._process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def end(self) -> None:
        """As a server that is gone: connections are refused."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, 9)  # it has a child that answers
            self._process.wait()
