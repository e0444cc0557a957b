"""A run of MLflow that gets what a run folder has; a lost server costs warnings, and gets what it has missed later."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from typing import Any

from voc_cls.console import warn
from voc_cls.errors import DownloadError, Interrupted
from voc_cls.files import read_json, write_json
from voc_cls.stores import connected, masked, tracking_uri
from voc_cls.training.run_folder import REPEATABLE, SUMMARY, RunFolder

RECORD = "mlflow.json"
"""In the run folder: the run of MLflow, and where it is."""
PAUSE = 600.0  # seconds from a call that failed, which may take 20 s, until the next one


class Tracker:
    """Sends a run folder, or one of several seeds, of which the runs are children; without a tracking URI nothing."""

    def __init__(self, folder: RunFolder, given: str | None) -> None:
        """given: a tracking URI, or auto; None: where the folder has been tracked, if it was."""
        path = folder.path / RECORD
        record = read_json(path) or {"uri": "", "run_id": None}
        known = str(record["uri"])  # without its password, which the environment may have
        usable = given or masked(tracking_uri()) == known
        self.folder, self.uri = folder, tracking_uri(given or "auto") if usable else known
        self.run_id = record["run_id"] if masked(self.uri) == known else None
        self._started, self._sent, self._next_call = 0, 0, 0.0

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Within, the run is running; then MLflow has its results and how it ended."""
        status = "FAILED"
        try:
            self.send("RUNNING")
            yield
            status = "FINISHED"
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            self.send(status)

    def send(self, status: str = "") -> None:
        """As `update`, but without a `status` only now and then; a failure is a warning."""
        started = time.monotonic()
        if not self.uri or (not status and started < self._next_call):
            return
        self._next_call = started + PAUSE
        try:
            self.update(status)
            self._next_call = started + 10 * (time.monotonic() - started)  # nine tenths of the time are for training
        except DownloadError as error:
            warn([f"{error}. Nothing is lost: MLflow gets what is missing later, at the latest with `resume` and `out` "
                  f"{self.folder.path}"])

    def update(self, status: str = "") -> None:
        """Sends what is new, and at the end, which `status` says, the results and files too; DownloadError."""
        with connected(self.uri) as mlflow:
            if not self._started:
                self._begin(mlflow)
            if status == "RUNNING":  # a run that continues may have metrics that it will write anew
                return
            try:
                lines = self.folder.read_metrics()
                for line in lines[self._sent:]:
                    self._log(mlflow, line)
                self._sent = len(lines)
                if status:
                    self._log(mlflow, {"seconds": 0, "step": 0, **(lines[-1] if lines else {}), **scores(self.folder)})
                    for file in sorted(self.folder.path.glob("[!.]*.*")):
                        if file.is_file() and not file.match("*.weights.h5"):
                            mlflow.log_artifact(str(file))
            finally:
                if status:
                    mlflow.end_run(status)

    def _begin(self, mlflow: Any) -> None:
        """Begins the run of MLflow, or continues it."""
        config = self.folder.read_config() if self.folder.config.is_file() else {}
        if self.run_id is None:
            mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "voc-cls")
        run = mlflow.start_run(self.run_id, run_name=self.folder.path.name, nested=True).info
        self.run_id, self._started = run.run_id, run.start_time
        self.folder.path.mkdir(parents=True, exist_ok=True)
        write_json(self.folder.path / RECORD, {"uri": masked(self.uri), "run_id": self.run_id})
        mlflow.log_params({name: value for group in REPEATABLE for name, value in config.get(group, {}).items()})

    def _log(self, mlflow: Any, line: dict[str, Any]) -> None:
        """Logs the numbers of a line of metrics.jsonl; MLflow drops what it has already, of the same time and value."""
        values = {re.sub(r"[^\w.\- ]", "_", name): value for name, value in line.items()
                  if name != "step" and isinstance(value, (int, float))}
        mlflow.log_metrics(values, line["step"], timestamp=self._started + int(line["seconds"] * 1000))


def scores(folder: RunFolder) -> dict[str, Any]:
    """Results on the evaluation split, named as by `voc-eval --json`, and "AP car"; of several seeds their means."""
    results: dict[str, Any] = read_json(folder.evaluation) or read_json(folder.path / SUMMARY) or {}
    classes: dict[str, dict[str, float]] = results.get("classes", {})
    return {**results, **results.get("mean", {}), **{f"AP {label}": classes[label]["ap"] for label in classes}}
