"""Which models are served, and which versions of each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from serving.security.sanitize import RULE, check_model_name, is_safe_name
from voc_cls.config import Range, YamlOnly, check_keys, read_yaml
from voc_cls.errors import UsageError, shown
from voc_cls.model_metadata import LARGEST_VERSION, version_number
from voc_cls.stores import registered_model, store_url

EXAMPLE = "- {name: voc, path: models/voc, versions: latest, labels: {stable: 3}}"


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions of a model are served, of those on disk."""

    kind: Literal["latest", "all", "specific"] = "latest"
    latest: int = 1
    """How many, the highest ones; for `latest` only."""
    numbers: tuple[int, ...] = ()
    """Ascending; for `specific` only."""

    def wanted(self, on_disk: Iterable[int]) -> tuple[int, ...]:
        """The versions to serve of those on disk, ascending. Specific ones that are missing are not in it."""
        ascending = tuple(sorted(on_disk))
        if self.kind == "latest":
            return ascending[-self.latest:]
        return tuple(number for number in ascending if self.kind == "all" or number in self.numbers)

    def __str__(self) -> str:
        """As parse_policy reads it."""
        if self.kind == "specific":
            return ",".join(map(str, self.numbers))
        return f"latest:{self.latest}" if self.kind == "latest" and self.latest > 1 else self.kind


@dataclass(frozen=True)
class ModelSettings:
    """One model that is to be served."""

    name: str
    folder: Path
    """Of its versions; pathlib's form of a URL if they are in a store."""
    policy: VersionPolicy = field(default_factory=VersionPolicy)
    labels: Mapping[str, int] = field(default_factory=dict)
    """Label → version. Whether there is such a version is known only when the folder is read."""


@dataclass(frozen=True)
class ModelsConfig:
    """Models and their versions."""

    model_dir: Path | None = None
    """Folder of the model's versions, as voc-export wrote it, such as models/voc; a URL of one, such as
    s3://bucket/models/voc (extra `s3`); or models:/voc, models:/voc/3 or models:/voc@alias of MLflow's registry at
    $MLFLOW_TRACKING_URI, by default mlflow.db here (extra `mlflow`). Several models: --models-file."""
    model_name: str | None = None
    """Name of the model in requests. Default: the name of the folder, or in the registry."""
    versions: str = "latest"
    """Which versions to serve: latest, latest:N (the N highest), all, or numbers such as 3,7."""
    version_labels: tuple[str, ...] = ()
    """Labels of versions, such as stable=3 canary=4, which requests may use instead of numbers."""
    models_file: Path | None = None
    """YAML file with several models, instead of --model-dir: a list of {name, path, versions, labels}."""
    models_root: Path | None = None
    """Folder below which HandleReloadConfigRequest may name models. Default: it may change only versions and labels of
    the models that the server was started with."""
    served: Annotated[tuple[ModelSettings, ...], YamlOnly(read_models)] = ()
    """The same list within the file of --config."""
    poll_seconds: Annotated[float, Range(0, 86400)] = 2
    """Seconds between two checks for new and removed versions; 0: never."""


def model_settings(config: ModelsConfig) -> tuple[ModelSettings, ...]:
    """The models of `model_dir`, `models_file` or the configuration's own list; UsageError unless one is given."""
    given = [name for name, value in (("`model_dir`", config.model_dir), ("`models_file`", config.models_file),
                                      ("models.served", config.served)) if value]
    if not given:
        raise UsageError("no model to serve: pass `model_dir` models/voc, the folder that voc-export wrote, or "
                         "`models_file` FILE with several models")
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} both say what to serve: give one of them")
    if config.model_dir is not None:
        return (_of_folder(config, config.model_dir),)
    for name, value in (("model_name", config.model_name), ("version_labels", config.version_labels),
                        ("versions", config.versions != "latest")):
        if value:
            raise UsageError(f"`{name}` belongs to `model_dir`: set it in {given[0]}, in the entry of the model")
    if config.models_file is not None:
        where = f"`models_file` {config.models_file}"
        return read_models(read_yaml(config.models_file, where), config.models_file.parent, where)
    return config.served


def replaced_models(names: Collection[str]) -> set[str]:
    """Fields that the fields in `names` override as a whole: a single model several ones, and the reverse."""
    single_model, many_models = {"model_dir", "model_name", "versions", "version_labels"}, {"models_file", "served"}
    if not many_models.isdisjoint(names):
        return single_model | many_models
    return many_models if "model_dir" in names else set()


def _of_folder(config: ModelsConfig, folder: Path) -> ModelSettings:
    own_name, _ = registered_model(folder) or (folder.resolve().name, "")
    name = config.model_name if config.model_name is not None else own_name
    check_model_name(name, f"`model_dir` {folder} has no `model_name`, and its name" if config.model_name is None
                     else "`model_name`")
    policy = parse_policy(config.versions)
    labels = check_labels(_parse_labels(config.version_labels), policy, "`version_labels`")
    return ModelSettings(name, folder, policy, labels)


def read_models(content: Any, folder: Path, where: str) -> tuple[ModelSettings, ...]:
    """Models of a YAML list whose relative paths are relative to `folder`; UsageError, beginning with `where`."""
    if not isinstance(content, list) or not content:
        raise UsageError(f"{where}: must be a list of models, such as {EXAMPLE}, found {shown(content)}")
    models = tuple(_of_entry(entry, folder, f"{where}: [{index}]") for index, entry in enumerate(content))
    check_names(models, where)
    return models


def check_names(models: Iterable[ModelSettings], where: str) -> None:
    """UsageError, beginning with `where`, if two models have the same name."""
    names = [model.name for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{where}: {' and '.join(map(repr, twice))} is the name of several models: give each a "
                         "different \"name\"")


def _of_entry(entry: Any, folder: Path, where: str) -> ModelSettings:
    check_keys(entry, ("name", "path", "versions", "labels"), where)
    path = entry.get("path")
    if not isinstance(path, str) or not path:
        raise UsageError(f"{where}.path: must be a folder of versions, such as models/voc, found {shown(path)}")
    name = entry.get("name")
    if name is not None and not isinstance(name, str):
        raise UsageError(f"{where}.name: {shown(name)} is not a text: write it in quotation marks")
    resolved = Path(path) if store_url(path) else folder / path
    place = f"{where}.path has no name beside it, and its own" if name is None else f"{where}.name"
    own_name, _ = registered_model(resolved) or (resolved.resolve().name, "")
    name = own_name if name is None else name
    check_model_name(name, place)
    policy = parse_policy(entry.get("versions", "latest"), f"{where}.versions")
    labels = entry.get("labels") or {}
    if not isinstance(labels, dict):
        raise UsageError(f"{where}.labels: {shown(labels)} are not labels: write them as {{stable: 3, canary: 4}}")
    return ModelSettings(name, resolved, policy, check_labels(labels, policy, f"{where}.labels"))


def parse_policy(value: Any, where: str = "`versions`") -> VersionPolicy:
    """latest, latest:2, all, or 3,7, which YAML has as a number or a list; else UsageError, beginning with `where`."""
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if text == "all":
        return VersionPolicy("all")
    if match := re.fullmatch(r"latest(?::(0{,8}[1-9][0-9]{,8}))?", text):
        return VersionPolicy("latest", latest=int(match[1] or 1))
    numbers = [version_number(number.strip()) for number in text.split(",")]
    if None not in numbers:
        return VersionPolicy("specific", numbers=tuple(sorted({number for number in numbers if number is not None})))
    raise UsageError(f"{where} {shown(value)} is not latest, latest:2 (the two highest), all, or numbers such as 3,7")


def _parse_labels(assignments: Iterable[str]) -> dict[str, int]:
    """("stable=3", "canary=4") → {"stable": 3, "canary": 4}."""
    labels: dict[str, int] = {}
    for assignment in assignments:
        label, _, digits = assignment.partition("=")
        number = version_number(digits)
        if number is None:
            raise UsageError(f"`version_labels` {assignment!r} is not a label of a version: write it as stable=3")
        if label in labels:
            raise UsageError(f"`version_labels` {assignment!r}: the label {label!r} is version {labels[label]} already;"
                             " a label is one version, a version may have several labels")
        labels[label] = number
    return labels


def check_labels(labels: Mapping[Any, Any], policy: VersionPolicy, where: str) -> dict[str, int]:
    """The labels, if each is a word for a version that is served; else UsageError, beginning with `where`."""
    for label, version in labels.items():
        if not isinstance(label, str) or label.isdigit():
            raise UsageError(f"{where}: the label {label!r} is a number, which callers could take for a version: "
                             "choose a word such as stable")
        if not is_safe_name(label):
            raise UsageError(f"{where}: {label!r} cannot be a label: use {RULE}")
        if isinstance(version, bool) or not isinstance(version, int) or not 0 <= version <= LARGEST_VERSION:
            raise UsageError(f"{where}: the label {label!r} must be the number of a version, found {shown(version)}")
        if policy.kind == "specific" and version not in policy.numbers:
            raise UsageError(f"{where}: the label {label!r} is version {version}, which is not served, as only "
                             f"{policy} are: add it, or choose another")
    return dict(labels)
