"""What the YAML file and the environment say of a server's configuration, and where each value comes from.

A value is taken from the flags, else from the environment, else from the file, else it is config.py's default. Errors
are written in terms of flags; `Settings.explaining` puts them in terms of where a value stands.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from serving.config.config import ServeConfig
from serving.config.models import ModelSettings, read_models
from voc_cls.config import check_keys, read_yaml, typed, typed_values
from voc_cls.errors import UsageError, VocError

PREFIX = "VOC_SERVE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
SERVED = "served"
"""The one field that only the file can fill."""
GROUPS: Mapping[str, type] = get_type_hints(ServeConfig)
"""Name of a group, as in the file → its dataclass."""
GROUP_OF: Mapping[str, str] = {entry.name: group for group, kind in GROUPS.items() for entry in fields(kind)}
"""Name of a field → its group; a name is in one group only, as the flags have no prefixes."""
ONE_MODEL = ("model_dir", "model_name", "versions", "version_labels")
SEVERAL_MODELS = ("models_file", SERVED)
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Settings:
    """Values by the names of their fields, and where they stand: a variable, or a file and its key."""

    values: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def overridden_by(self, above: Settings) -> Settings:
        """These settings where `above` says nothing else."""
        below = self.without_models_if(above.values.keys())
        return Settings({**below.values, **above.values}, {**below.places, **above.places})

    def without_models_if(self, above: Collection[str]) -> Settings:
        """These without what they say of models, if names in `above` say one model and these several, or the reverse.

        They would contradict each other, and what stands below has lost anyway.
        """
        dropped: set[str] = set()
        if ONE_MODEL[0] in above:
            dropped |= set(SEVERAL_MODELS)
        if not set(SEVERAL_MODELS).isdisjoint(above):
            dropped |= {*ONE_MODEL, *SEVERAL_MODELS}
        return Settings({name: value for name, value in self.values.items() if name not in dropped},
                        {name: place for name, place in self.places.items() if name not in dropped})

    def config(self) -> ServeConfig:
        """With the defaults for everything else; UsageError for values that cannot be."""
        groups = {group: kind(**{entry.name: self.values[entry.name] for entry in fields(kind)
                                 if entry.name in self.values}) for group, kind in GROUPS.items()}
        with self.explaining():
            return ServeConfig(**groups)

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Rewrites errors about flags: they name the places of values that nobody gave as flags."""
        try:
            yield
        except VocError as error:
            message = re.sub(r"--([a-z]+(?:-[a-z]+)*)",
                             lambda found: self.places.get(found[1].replace("-", "_"), found[0]), str(error))
            raise type(error)(message) from error

    def to_yaml(self) -> str:
        """A file for --config that says the same, wherever it lies: every field, with where its value stands."""
        lines = []
        for group, kind in GROUPS.items():
            lines.append(f"{group}:")
            for entry in fields(kind):
                value = self.values.get(entry.name, entry.default)
                place = self.places.get(entry.name, "given as a flag" if value != entry.default else "")
                if entry.name != SERVED:
                    lines.append(f"  {entry.name}: {_flow(_written(value))}{f'  # {place}' if place else ''}")
                elif value:
                    lines += [f"  {SERVED}:  # {place}", *(f"    - {_flow(_written(model))}" for model in value)]
        return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _written(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, ModelSettings):
        return {"name": value.name, "path": str(value.folder.absolute()), "versions": str(value.policy),
                "labels": dict(value.labels)}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_written(entry) for entry in value] if isinstance(value, tuple) else value


def read_settings(path: Path | None, environment: Mapping[str, str]) -> Settings:
    """The file's settings, if there is a file, overridden by the environment's. Raises UsageError."""
    if path is None and environment.get(CONFIG_VARIABLE):
        path = Path(environment[CONFIG_VARIABLE])
        return read_file(path, CONFIG_VARIABLE).overridden_by(read_environment(environment))
    return (Settings() if path is None else read_file(path)).overridden_by(read_environment(environment))


def read_file(path: Path, given_by: str = "--config") -> Settings:
    """Keys by group, as --print-config writes them; relative paths are relative to the file. Raises UsageError."""
    content, where = read_yaml(path, given_by), f"{given_by} {path}"
    if not isinstance(content, dict):
        raise UsageError(f"{where}: holds no keys; expected {', '.join(GROUPS)}")
    values: dict[str, Any] = {}
    for group, section in content.items():
        if group not in GROUPS:
            raise UsageError(f"{where}: unknown key {group}{_meant(str(group))}; known are {', '.join(GROUPS)}")
        section = dict(check_keys(section or {}, _keys(group), f"{where}: {group}"))
        served = section.pop(SERVED, None)
        values |= typed_values(GROUPS[group], section, f"{where}: {group}")
        if served is not None:
            values[SERVED] = read_models(served, path.parent, f"{where}: {group}.{SERVED}")
    return Settings({name: path.parent / value if isinstance(value, Path) else value
                     for name, value in values.items()},
                    {name: f"{path}: {GROUP_OF[name]}.{name}" for name in values})


def _keys(group: str) -> dict[str, None]:
    return dict.fromkeys(entry.name for entry in fields(GROUPS[group]))


def _meant(key: str) -> str:
    """What somebody may have meant by a key that is no group."""
    name = key.replace("-", "_")
    if name in GROUP_OF:
        return f" (write it below {GROUP_OF[name]}:)"
    close = get_close_matches(name, GROUPS, 1)
    return f" (did you mean {close[0]}?)" if close else ""


def read_environment(environment: Mapping[str, str]) -> Settings:
    """VOC_SERVE_<FIELD>, such as VOC_SERVE_MAX_BATCH_SIZE=8; empty ones count as absent. Raises UsageError.

    Lists are separated by spaces or commas.
    """
    variables = {variable_of(name): name for name in GROUP_OF if name != SERVED}
    kinds = {name: kind for group in GROUPS.values() for name, kind in get_type_hints(group).items()}
    values = {}
    for variable in sorted(environment):
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or _of_kubernetes(variable, environment):
            continue
        if variable not in variables:
            raise UsageError(f"{variable}: no such variable; {_near(variable, [*variables, CONFIG_VARIABLE])}")
        if environment[variable]:
            name = variables[variable]
            values[name] = _of_text(environment[variable], kinds[name], variable)
    return Settings(values, {name: variable_of(name) for name in values})


def _near(variable: str, known: Collection[str]) -> str:
    close = get_close_matches(variable.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in known], 3)
    return (f"did you mean {' or '.join(PREFIX + name for name in close)}?" if close
            else "`voc-serve --help` lists the flags, which are the variables too")


def variable_of(name: str) -> str:
    """max_batch_size → VOC_SERVE_MAX_BATCH_SIZE."""
    return f"{PREFIX}{name.upper()}"


def _of_text(text: str, kind: Any, variable: str) -> Any:
    value: Any = text.strip()
    if get_origin(kind) is tuple:
        value = re.split(r"[\s,]+", value)
    if kind is bool:
        value = TRUTHS.get(value.lower(), value)
    return typed(value, kind, variable)


def _of_kubernetes(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes set the variable because a service is called voc-serve, voc-serve-http or the like.

    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    services = (name.removesuffix("_SERVICE_HOST") for name in environment if name.endswith("_SERVICE_HOST"))
    return any(re.fullmatch(rf"{service}_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)", variable)
               or (variable == f"{service}_PORT" and "://" in environment[variable])
               for service in map(re.escape, services))
