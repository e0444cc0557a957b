"""Settings of a program: flags win over environment variables, these over a YAML file, that over the defaults.

What can be set are the fields of frozen dataclasses. Each dataclass is a group: a mapping of the YAML file, and a
section of the help. The field `max_batch_size` of the group `batching` of voc-serve is the flag --max-batch-size, the
variable VOC_SERVE_MAX_BATCH_SIZE and the key batching.max_batch_size. Names are unique over all groups.

Errors name a value by where it was set. Later errors name parameters in backticks; `Settings.explaining` replaces them
by the variable or the key, and what is left becomes flags (console.with_flags).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, make_dataclass
from difflib import get_close_matches
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from voc_cls.console import PARAMETER, parse, set_help
from voc_cls.errors import UsageError, VocError, reason, shown
from voc_cls.stores import store_url

HELP = frozenset({"-h", "--help"})
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}

Config = TypeVar("Config")


@dataclass(frozen=True)
class Range:
    """Least and greatest value of a number, beside the type of a field: Annotated[int, Range(1, 4096)]."""

    least: float
    most: float = math.inf

    def check(self, name: str, value: float) -> None:
        """UsageError unless the value is in the range; NaN is in none."""
        if not self.least <= value <= self.most:
            least, most = f"{self.least:.15g}", f"{self.most:.15g}"
            bounds = f"at least {least}" if self.most == math.inf else f"from {least} to {most}"
            raise UsageError(f"`{name}` {value:.15g}: must be {bounds}")


@dataclass(frozen=True)
class FlagOnly:
    """Beside the type of a field: neither the environment nor the YAML file can set it."""


@dataclass(frozen=True)
class YamlOnly:
    """Beside the type of a field: only the YAML file can set it."""

    parse: Callable[[Any, Path, str], Any]
    """Takes what the file has, the folder of the file, and how errors begin; returns the value."""


@dataclass(frozen=True)
class Setting:
    """A field that can be set."""

    name: str
    type: Any
    """Without marks such as Range."""
    marks: tuple[Any, ...]
    default: Any
    """dataclasses.MISSING where there is none."""

    def mark(self, kind: type[Config]) -> Config | None:
        return next((mark for mark in self.marks if isinstance(mark, kind)), None)


def settings_of(group: type) -> tuple[Setting, ...]:
    hints, marked = get_type_hints(group), get_type_hints(group, include_extras=True)
    return tuple(Setting(entry.name, hints[entry.name], getattr(marked[entry.name], "__metadata__", ()), entry.default)
                 for entry in fields(group))


def check_ranges(*groups: object) -> None:
    """UsageError for the first number in dataclasses that is not in its Range."""
    for group in groups:
        for setting in settings_of(type(group)):
            limits, value = setting.mark(Range), getattr(group, setting.name)
            for number in value if isinstance(value, tuple) else (value,):
                if limits is not None and number is not None:
                    limits.check(setting.name, number)


@dataclass(frozen=True)
class Settings:
    """Values by the names of their fields, and where those stand that are not flags: a variable, or a file and key."""

    program: Program
    values: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    given: frozenset[str] = frozenset()
    """Names of those that are not defaults."""

    def without(self, names: Collection[str]) -> Settings:
        """The same but for these fields."""
        return Settings(self.program, {name: value for name, value in self.values.items() if name not in names},
                        {name: source for name, source in self.sources.items() if name not in names})

    def config(self, kind: type[Config]) -> Config:
        """A dataclass of groups, with the defaults for what is not set, and for groups that the program does not have;
        UsageError for values that cannot be."""
        with self.explaining():
            return kind(**{group: self.program.groups[group](**{
                setting.name: self.values[setting.name] for setting in settings_of(self.program.groups[group])
                if setting.name in self.values}) for group in get_type_hints(kind) if group in self.program.groups})

    @contextlib.contextmanager
    def explaining(self) -> Iterator[None]:
        """Rewrites errors that name parameters: those that are not flags are named by where they stand."""
        try:
            yield
        except VocError as error:
            message = PARAMETER.sub(lambda match: self.sources.get(match[1], match[0]), str(error))
            raise type(error)(message) from error


@dataclass(frozen=True)
class Program:
    """A program and its groups of settings."""

    name: str
    """As in voc-serve; its variables begin with VOC_SERVE_."""
    description: str
    groups: Mapping[str, type]
    """Name of a group → its dataclass. VOC_SERVE_CONFIG and the field `config` name the YAML file."""
    ignored: tuple[str, ...] = ()
    """Groups of the YAML file that are not settings."""
    relative_to_file: bool = False
    """Whether relative paths of the YAML file are relative to it, not to the working directory."""
    replaced: Callable[[Collection[str]], Collection[str]] = lambda _: ()
    """Takes names that are set; returns those that no longer count further below, as the two would contradict."""

    def read(self, args: Sequence[str], environment: Mapping[str, str], file: Path | None = None) -> Settings:
        """Flags, environment and YAML file together; UsageError for what is wrong, SystemExit for --help.

        file: the YAML file that is read if neither --config nor the variable names another.
        """
        try:
            below = self._below_flags(args, environment, file)
        except UsageError:
            if HELP.isdisjoint(args):
                raise
            below = Settings(self)  # help is shown whatever is wrong
        given = {argument[2:].partition("=")[0].replace("-", "_") for argument in args if argument.startswith("--")}
        below = below.without(self.replaced(given))
        groups = [(name, kind, field(default_factory=kind)) for name, kind in (
            (name, _flags(kind, below.values)) for name, kind in self.groups.items())]
        parsed = parse(make_dataclass("Flags", groups), self.name, self.description, args)
        flags = {name: value for group in vars(parsed).values() for name, value in vars(group).items()}
        return Settings(self, {**below.values, **flags}, {
            name: source for name, source in below.sources.items() if flags.get(name, below.values[name]) ==
            below.values[name]}, frozenset(given | below.values.keys()))

    def read_file(self, path: Path, where: str) -> Settings:
        """The settings of a YAML file; UsageError, beginning with `where`, for what is wrong in it."""
        content, values = read_yaml(path, where), {}
        groups = {group: {setting.name: setting for setting in settings_of(kind) if not setting.mark(FlagOnly)}
                  for group, kind in self.groups.items()}
        known = [group for group, settings in groups.items() if settings]
        if not isinstance(content, dict):
            raise UsageError(f"{where}: has no keys; expected {', '.join(known)}")
        for group, section in content.items():
            if group in self.ignored:
                continue
            if group not in known:
                raise UsageError(f"{where}: unknown key {group}{self._hint(str(group), known)}; known are "
                                 f"{', '.join(known)}")
            for name, value in check_keys(section or {}, groups[group], f"{where}: {group}").items():
                setting, place = groups[group][name], f"{where}: {group}.{name}"
                if only := setting.mark(YamlOnly):
                    values[name] = only.parse(value, path.parent, place)
                else:
                    values[name] = typed(value, setting.type, place)
                    if self.relative_to_file and isinstance(values[name], Path) and not store_url(values[name]):
                        values[name] = path.parent / values[name]
        return Settings(self, values, {name: f"{path}: {self._group_of[name]}.{name}" for name in values})

    def read_environment(self, environment: Mapping[str, str]) -> Settings:
        """The settings of variables; empty ones count as absent.

        Lists are separated by spaces or commas, paths by colons as in $PATH.

        UsageError for unknown variables with the program's prefix and for wrong values.
        """
        settings = {self.variable(setting.name): setting for kind in self.groups.values()
                    for setting in settings_of(kind) if not (setting.mark(FlagOnly) or setting.mark(YamlOnly))}
        prefix, config, values = self.variable(""), self.variable("config"), {}
        for variable in sorted(environment):
            if not variable.startswith(prefix) or variable == config or _of_kubernetes(variable, environment):
                continue
            if variable not in settings:
                raise UsageError(f"{variable}: no such variable; {self._near(variable, [*settings, config])}")
            if environment[variable]:
                setting = settings[variable]
                values[setting.name] = typed(_from_text(environment[variable].strip(), setting.type), setting.type,
                                             variable)
        return Settings(self, values, {name: self.variable(name) for name in values})

    def variable(self, name: str) -> str:
        """max_batch_size → VOC_SERVE_MAX_BATCH_SIZE."""
        return f"{self.name}_{name}".replace("-", "_").upper()

    def _below_flags(self, args: Sequence[str], environment: Mapping[str, str], file: Path | None) -> Settings:
        below, config = Settings(self), self.variable("config")
        if flag := flag_value(args, "--config"):
            below = self.read_file(Path(flag), f"--config {flag}")
        elif path := environment.get(config):
            below = self.read_file(Path(path), f"{config} {path}")
        elif file is not None:
            below = self.read_file(file, str(file))
        variables = self.read_environment(environment)
        below = below.without(self.replaced(variables.values.keys()))
        return Settings(self, {**below.values, **variables.values}, {**below.sources, **variables.sources})

    def _hint(self, key: str, groups: Iterable[str]) -> str:
        """A suggestion for a key that is not a group."""
        name = key.replace("-", "_")
        if name in self._group_of:
            return f" (write it below {self._group_of[name]}:)"
        close = get_close_matches(name, groups, 1)
        return f" (did you mean {close[0]}?)" if close else ""

    def _near(self, variable: str, known: Iterable[str]) -> str:
        prefix = self.variable("")
        close = get_close_matches(variable.removeprefix(prefix), [name.removeprefix(prefix) for name in known], 3)
        return (f"did you mean {' or '.join(prefix + name for name in close)}?" if close
                else f"`{self.name} --help` lists the flags, which are the variables too")

    @cached_property
    def _group_of(self) -> dict[str, str]:
        return {setting.name: group for group, kind in self.groups.items() for setting in settings_of(kind)}


def read_yaml(path: Path, where: str) -> Any:
    """The content of a YAML file; UsageError, beginning with `where`, if it cannot be read or repeats a key.

    YAML itself would let the last of two equal keys win, so that a setting further up has no effect.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """As yaml.safe_load, but a key may be there only once, and 010 is 10 as in YAML 1.2."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} is there twice",
                                                            key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

        def construct_int(self, node: yaml.ScalarNode) -> int:
            return int(node.value) if node.value.isdigit() else self.construct_yaml_int(node)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_int)
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{where}: cannot be read ({reason(error)}); correct it") from error


def check_keys(values: Any, known: Collection[str], where: str) -> dict[str, Any]:
    """`values`, if it is a mapping with known keys only; else a UsageError that begins with `where`."""
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected keys and values, found {shown(values)}")
    for key in values:
        if key not in known:
            close = get_close_matches(str(key), known, 1)
            meant = f"did you mean {close[0]}? " if close else ""
            raise UsageError(f"{where}.{key}: no such key; {meant}known are {', '.join(known)}")
    return values


def flag_value(args: Sequence[str], flag: str) -> str | None:
    """What follows `flag` on a command line; None where it is not given. For what must be known before parsing."""
    for position, argument in enumerate(args):
        if argument == flag and position + 1 < len(args):
            return args[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None


def typed(value: Any, kind: Any, where: str) -> Any:
    """A value of YAML or Python as type `kind`; YAML has no paths, tuples or enums, and reads 1e-5 as a string.

    `kind` is bool, int, float, str, Path, an Enum, a Literal of strings, a tuple of any number of strings or paths, or
    one of them | None. A single path may stand for a tuple of paths.
    UsageError, beginning with `where`, for what it cannot be.
    """
    plain = _without_none(kind)
    if value is None:
        if plain is not kind:
            return None
        raise UsageError(f"{where}: is empty; omit the key for the default")
    if get_origin(plain) is Literal:
        if isinstance(value, bool) and "on" in get_args(plain):  # as which YAML reads a bare on or off
            value = "on" if value else "off"
        if value not in get_args(plain):
            raise UsageError(f"{where}: {shown(value)} is not one of {', '.join(get_args(plain))}")
        return value
    if get_origin(plain) is tuple:
        element = get_args(plain)[0]
        values = [value] if element is Path and isinstance(value, str) else value
        if not isinstance(values, (list, tuple)):
            raise UsageError(f"{where}: {shown(value)} is not a list")
        return tuple(typed(entry, element, where) for entry in values)
    if plain is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {shown(value)} is not true or false")
        return value
    try:
        if isinstance(value, (bool, list, dict)) and not issubclass(plain, Enum):
            raise ValueError(f"not a {'text' if plain in (str, Path) else 'number'}")
        if plain is int and isinstance(value, float) and not value.is_integer():
            raise ValueError("not a whole number")
        return plain(value)
    except (TypeError, ValueError, OverflowError) as error:
        kinds = {int: "not a whole number", float: "not a number"}
        reason = kinds.get(plain, error) if isinstance(value, str) else error
        raise UsageError(f"{where}: {shown(value)} cannot be used ({reason})") from error


def _from_text(text: str, kind: Any) -> Any:
    """The text of a variable as YAML would have it."""
    plain = _without_none(kind)
    if get_origin(plain) is tuple:
        return text.split(os.pathsep) if get_args(plain)[0] is Path else re.split(r"[\s,]+", text)
    return TRUTHS.get(text.lower(), text) if plain is bool else text


def _without_none(kind: Any) -> Any:
    if get_origin(kind) not in (Union, types.UnionType):
        return kind
    (choice,) = (choice for choice in get_args(kind) if choice is not type(None))
    return choice


def _of_kubernetes(variable: str, environment: Mapping[str, str]) -> bool:
    """Whether Kubernetes set the variable because a service is called voc-serve, voc-serve-http or the like.

    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    services = (name.removesuffix("_SERVICE_HOST") for name in environment if name.endswith("_SERVICE_HOST"))
    return any(re.fullmatch(rf"{service}_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)", variable)
               or (variable == f"{service}_PORT" and "://" in environment[variable])
               for service in map(re.escape, services))


def _flags(group: type, values: Mapping[str, Any]) -> type:
    """`group` for tyro: with `values` for defaults, and the docstrings of its fields for help."""
    import tyro

    set_help(group)
    kinds, entries = get_type_hints(group, include_extras=True), []
    for setting in settings_of(group):
        if not setting.mark(YamlOnly):
            default = values.get(setting.name, tyro.MISSING if setting.default is MISSING else setting.default)
            kind: Any = kinds[setting.name]
            entries.append((setting.name, tyro.conf.FlagCreatePairsOff[kind] if setting.mark(FlagOnly) else kind,
                            field(default=default)))
    return make_dataclass(group.__name__, entries, namespace={"__doc__": group.__doc__})
