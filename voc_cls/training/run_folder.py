"""A run folder: the names of what is in it; how it is started with all that it takes to repeat the run, or continued
where nothing has changed. A kill never leaves half a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from voc_cls.config import Range, settings_of, typed
from voc_cls.data.dataset import Dataset
from voc_cls.errors import RunError, UsageError, reason, shown
from voc_cls.files import write_json, write_text
from voc_cls.image_decoder import Preprocessing
from voc_cls.stores import masked
from voc_cls.training.config import TrainConfig, to_dict
from voc_cls.training.devices import backend, device, versions

REPEATABLE = ("dataset", "network", "augmentation", "training", "loss", "compute")
"""The groups of config.yaml that decide what a run computes."""
STDOUT = Path("-")
"""As the name of a file: standard output."""
CONFIG_GROUPS = (*REPEATABLE, "provenance")
"""Its top-level keys."""
SUMMARY = "seeds.json"
"""Beside the run folders of several seeds."""


@dataclass(frozen=True)
class ResultFiles:
    """The files to write, beside what the terminal shows."""

    json: Path | None = None
    """Write all scores to this JSON file, 0 to 1; -: print them, and all else on stderr."""
    predictions: Path | None = None
    """Write the probabilities of every picture to this CSV file."""
    table: Path | None = None
    """Write a CSV file of files,y_true,y_pred, for data sets of two classes: the picture, 1 if it is of the second
    class, and the probability of that class."""
    report: Path | None = None
    """Write an HTML report to this file: tables, curves, the worst mistakes with Grad-CAM."""
    sheet: Path | None = None
    """Draw sample pictures into this PNG file, with their true labels above and the predicted ones below."""
    samples: Annotated[int, Range(1)] = 10
    """Number of pictures on the sheet, chosen by the run's --seed."""

    def given(self) -> dict[str, Path]:
        """Name → file of those that are written."""
        return {name: file for name, file in vars(self).items() if isinstance(file, Path) and file != STDOUT}


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
        # scores on the evaluation split, as `voc-eval --json` writes them, and what else is renewed with them
        self.evaluation = path / "evaluation.json"
        self.results = ResultFiles(self.evaluation, path / "predictions.csv", report=path / "report.html")
        # event files
        self.tensorboard = path / "tensorboard"

    def last_of(self, kind: str) -> Path:
        """The last weights that `eval_weights` did not choose, `raw`, `ema` or `swa`; only in a run with an average."""
        return self.path / f"last.{kind}.weights.h5"

    def read_config(self) -> dict[str, Any]:
        """config.yaml; RunError where this is not a run folder."""
        import yaml

        if not self.config.is_file():
            raise RunError(f"{self.path}: not a run folder, it has no config.yaml; give the folder of a voc-train run")
        try:
            values = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RunError(f"{self.config}: not a YAML file ({reason(error)}); repeat the run") from error
        if not isinstance(values, dict) or not all(isinstance(values.get(group), dict) for group in CONFIG_GROUPS):
            raise RunError(f"{self.config}: not the config of a voc-train run; repeat the run")
        groups = {entry.name: entry.type for entry in settings_of(TrainConfig)}
        recorded = [(setting, group) for group in REPEATABLE for setting in settings_of(groups[group])]
        try:
            for setting, group in recorded:
                if (value := values[group].get(setting.name)) is not None:
                    typed(value, setting.type, f"{group}.{setting.name}")
        except UsageError as error:
            raise RunError(f"{self.config}: {error}; repeat the run") from None
        return values

    def record(self, key: str, value: Any) -> None:
        """Adds `value`, YAML values, to the provenance in config.yaml."""
        import yaml

        values = self.read_config()
        values["provenance"][key] = value
        write_text(self.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))

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
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.labels}: cannot be read ({reason(error)}); give the folder of a complete "
                           "run") from error

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


def check_folder(folder: RunFolder, settings: TrainConfig) -> None:
    """UsageError where `out` holds something else, or, with `resume`, a run that computes something else."""
    out = folder.path
    if not settings.run.resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"`out` {out}: exists already; choose another folder, delete it, or continue with "
                             "`resume`")
        return
    if not folder.config.exists():
        raise UsageError(f"`resume`: {out} does not hold a run; omit `resume` to start one")
    new = to_dict(settings)
    if changed := differences(folder.read_config(), {group: new[group] for group in REPEATABLE}):
        raise UsageError(f"`resume`: the settings differ from {folder.config}: {'; '.join(changed)}; "
                         "omit them, or start a run with them in another folder")


def differences(old: Mapping[str, Any], new: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is other in the groups of settings `new` than in `old`, for people."""
    return [f"{key} was {shown(old.get(group, {}).get(key))}, is {shown(value)}" for group, values in new.items()
            for key, value in values.items() if old.get(group, {}).get(key) != value]


def start_folder(folder: RunFolder, settings: TrainConfig, classes: Sequence[str], provenance: Mapping[str, Any]
                 ) -> None:
    """Makes the run folder with its config and labels, or continues in one whose backend, weights and images fit."""
    import yaml

    if settings.run.resume:
        recorded = folder.read_config()["provenance"]
        if recorded.get("backend") != provenance["backend"]:
            raise UsageError(f"`resume`: {folder.config} was begun on Keras' backend {recorded.get('backend')}, this "
                             f"is {provenance['backend']}; set KERAS_BACKEND={recorded.get('backend')}")
        changed = [key for key in ("weights_digest", "pictures_digest") if recorded.get(key) != provenance[key]]
        if changed:
            raise RunError(f"`resume`: {folder.config} has another {' and '.join(changed)} than `weights` and "
                           "`train_split` have now; start again in another folder")
        provenance = {**provenance, **{key: recorded[key] for key in ("features",) if key in recorded}}
    values = {key: value for key, value in to_dict(settings).items() if key in REPEATABLE}
    values["provenance"] = dict(provenance)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        if settings.run.seeds and not (summary := folder.path.parent / SUMMARY).exists():
            write_json(summary, {"seeds": settings.run.seeds})  # which `resume` trains, should this run be killed
        write_text(folder.labels, "".join(f"{name}\n" for name in classes))
        write_text(folder.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    except OSError as error:
        raise RunError(f"`out` {folder.path}: cannot be written ({error.strerror}); choose another folder") from error


def images_digest(dataset: Dataset) -> str:
    """SHA-256 over the names, order and targets of a split's images: what decides which step sees what."""
    digest = hashlib.sha256("\n".join(path.name for path in dataset.paths).encode())
    digest.update(dataset.targets.tobytes())
    return digest.hexdigest()


def describe_start(command: Sequence[str], weights_digest: str | None, train: Dataset, preprocessing: Preprocessing,
                   not_repeatable: Mapping[str, str]) -> dict[str, Any]:
    """The part of config.yaml that records rather than configures, as YAML values.

    not_repeatable: group of the config → why it does not hold what it takes to repeat the run.
    """
    record = {"command": list(map(masked, command)), "versions": versions(), "backend": backend(), "device": device(),
              "weights_digest": weights_digest, "pictures_digest": images_digest(train), "train_pictures": len(train),
              "task": train.task.value, "preprocessing": asdict(preprocessing)}
    return record | ({"not_repeatable": dict(not_repeatable)} if not_repeatable else {})
