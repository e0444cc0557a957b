"""A run folder: the names of what is in it, and how it is written so that a kill never leaves half a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from voc_cls.errors import RunError
from voc_cls.files import write_text

REPEATABLE = ("dataset", "network", "augmentation", "training", "loss", "compute")
"""The groups of config.yaml that decide what a run computes."""
CONFIG_GROUPS = (*REPEATABLE, "provenance")
"""Its top-level keys."""


class RunFolder:
    """The files of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # everything needed to repeat the run: flags, digests, versions
        self.config = path / "config.yaml"
        # the class names, one a line, in the order of the network's outputs
        self.labels = path / "labels.txt"
        # weights of the whole network: at the highest validation score (the last ones without a validation split), and
        # after the last step
        self.best, self.last = path / "best.weights.h5", path / "last.weights.h5"
        # what `resume` continues from: step-<steps done>.npz
        self.checkpoints = path / "checkpoints"
        # one JSON object a line, one line for every interval between checkpoints
        self.metrics = path / "metrics.jsonl"
        # scores on the evaluation split, as `voc-eval --json` writes them
        self.evaluation = path / "evaluation.json"
        # event files
        self.tensorboard = path / "tensorboard"

    def last_of(self, kind: str) -> Path:
        """The last weights that `eval_weights` did not choose, `raw` or `ema`; only in a run with `ema`."""
        return self.path / f"last.{kind}.weights.h5"

    def read_config(self) -> dict[str, Any]:
        """config.yaml; RunError where this is not a run folder."""
        if not self.config.is_file():
            raise RunError(f"{self.path}: not a run folder, it has no config.yaml; give the folder of a voc-train run")
        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            text = " ".join(str(error).split())
            raise RunError(f"{self.config}: not a YAML file ({text}); repeat the run") from error
        if not isinstance(values, dict) or not all(isinstance(values.get(group), dict) for group in CONFIG_GROUPS):
            raise RunError(f"{self.config}: not the config of a voc-train run; repeat the run")
        return values

    def check_repeatable(self) -> None:
        """RunError where the run was trained from Python objects that its config cannot create again."""
        reasons = self.read_config()["provenance"].get("not_repeatable", {})
        if reasons:
            raise RunError(f"{self.path}: cannot be repeated, {' and '.join(reasons.values())}; continue it from "
                           "Python")

    def read_labels(self) -> tuple[str, ...]:
        """The class names of the run."""
        try:
            return tuple(self.labels.read_text(encoding="utf-8").split("\n")[:-1])
        except OSError as error:
            raise RunError(f"{self.labels}: cannot be read ({error.strerror}); is the run complete?") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; none before the first interval has ended."""
        if not self.metrics.is_file():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]  # a kill may have cut the last one

    def rewind_metrics(self, step: int) -> list[dict[str, Any]]:
        """Drops the lines of metrics.jsonl after `step`, which a resumed run writes again; returns those kept."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        if self.metrics.exists():
            write_text(self.metrics, "".join(f"{json.dumps(line)}\n" for line in kept))
        return kept
