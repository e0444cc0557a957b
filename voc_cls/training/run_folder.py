"""A run folder: the names of what is in it, and how it is written so that a kill never leaves half a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc_cls.errors import RunError
from voc_cls.files import write_text

REPEATABLE = ("dataset", "network", "augmentation", "training", "loss", "compute")
"""The groups of config.yaml that decide what a run computes."""
CONFIG_GROUPS = (*REPEATABLE, "provenance")
"""Its top-level keys."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one training run."""

    path: Path

    @property
    def config(self) -> Path:
        """Everything needed to repeat the run: flags, digests, versions."""
        return self.path / "config.yaml"

    @property
    def labels(self) -> Path:
        """The class names, one a line, in the order of the network's outputs."""
        return self.path / "labels.txt"

    @property
    def best(self) -> Path:
        """Weights of the whole network at the highest validation mAP; the last ones without a validation split."""
        return self.path / "best.weights.h5"

    @property
    def last(self) -> Path:
        """Weights of the whole network after the last step."""
        return self.path / "last.weights.h5"

    def last_of(self, kind: str) -> Path:
        """The last weights that `--eval-weights` did not choose, `raw` or `ema`; only in a run with --ema."""
        return self.path / f"last.{kind}.weights.h5"

    @property
    def checkpoints(self) -> Path:
        """What `--resume` goes on from: step-<steps done>.npz."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, one line for every interval between checkpoints."""
        return self.path / "metrics.jsonl"

    @property
    def evaluation(self) -> Path:
        """Average precisions on the evaluation split, as `voc-eval --json` writes them."""
        return self.path / "evaluation.json"

    @property
    def tensorboard(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    def read_config(self) -> dict[str, Any]:
        """config.yaml; RunError where this is no run folder."""
        import yaml

        if not self.config.is_file():
            raise RunError(f"{self.path}: no run folder, it has no config.yaml; give the --out of a voc-train run")
        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(f"{self.config}: no YAML file ({' '.join(str(error).split())}); repeat the run") from error
        if not isinstance(values, dict) or not all(isinstance(values.get(group), dict) for group in CONFIG_GROUPS):
            raise RunError(f"{self.config}: not the config of a voc-train run; repeat the run")
        return values

    def read_labels(self) -> tuple[str, ...]:
        """The class names of the run."""
        try:
            return tuple(self.labels.read_text(encoding="utf-8").split("\n")[:-1])
        except OSError as error:
            raise RunError(f"{self.labels}: cannot be read ({error.strerror}); is the run complete?") from error

    def rewind_metrics(self, step: int) -> list[dict[str, Any]]:
        """Drops the lines of metrics.jsonl after `step`, which a resumed run writes again; returns those kept."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]  # a kill may have cut the last one
        kept = [line for line in whole if json.loads(line)["step"] <= step]
        write_text(self.metrics, "".join(kept))
        return [json.loads(line) for line in kept]
