"""Settings in YAML files: read without surprises, and turned into the dataclasses that the flags fill too."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from voc_cls.errors import UsageError


def read_yaml(path: Path, flag: str = "--config") -> Any:
    """The content of a YAML file; UsageError, beginning with `flag`, if it cannot be read or repeats a key.

    YAML itself would let the last of two equal keys win, so that a setting further up has no effect.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """As yaml.safe_load, but a key may be there only once."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key {key.value!r} is there twice",
                                                            key.start_mark)
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{flag} {path}: cannot be read ({' '.join(str(error).split())})") from error


def flag_value(args: Sequence[str], flag: str) -> str | None:
    """What follows `flag` on a command line; None where it is not given. For what must be known before parsing."""
    for position, argument in enumerate(args):
        if argument == flag and position + 1 < len(args):
            return args[position + 1]
        if argument.startswith(f"{flag}="):
            return argument.removeprefix(f"{flag}=")
    return None


def check_keys(values: Any, known: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`values`, if it is a mapping with known keys only; else a UsageError that begins with `where`."""
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected keys and values, found {values!r}")
    unknown = [key for key in values if key not in known]
    if unknown:
        raise UsageError(f"{where}.{unknown[0]}: no such key; known are {', '.join(known)}")
    return values


def typed_values(kind: type, values: Any, where: str) -> dict[str, Any]:
    """The values of a YAML mapping as the types of the fields of dataclass `kind`; what is left away stays away."""
    known, hints = {entry.name: entry for entry in fields(kind)}, get_type_hints(kind)
    return {name: typed(value, hints[name], f"{where}.{name}")
            for name, value in check_keys(values, known, where).items()}


def typed(value: Any, kind: Any, where: str) -> Any:
    """A YAML value as type `kind`; YAML knows no paths, tuples or enums, and reads 1e-5 as a string.

    `kind` is bool, int, float, str, Path, an Enum, a Literal of strings, tuple[str, ...], or one of them | None.
    UsageError, beginning with `where`, for what it cannot be.
    """
    if get_origin(kind) in (Union, types.UnionType):
        if value is None:
            return None
        kind, = (choice for choice in get_args(kind) if choice is not type(None))
    if value is None:
        raise UsageError(f"{where}: is empty; leave the key away for the default")
    if get_origin(kind) is Literal:
        if isinstance(value, bool) and "on" in get_args(kind):  # as which YAML reads a bare on or off
            value = "on" if value else "off"
        if value not in get_args(kind):
            raise UsageError(f"{where}: {value!r} is not one of {', '.join(get_args(kind))}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where}: {value!r} is no list")
        return tuple(typed(entry, str, where) for entry in value)
    if kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {value!r} is no true or false")
        return value
    return _converted(value, kind, where)


def _converted(value: Any, kind: Any, where: str) -> Any:
    try:
        if isinstance(value, (bool, list, dict)) and not issubclass(kind, Enum):
            raise ValueError(f"not a {'text' if kind in (str, Path) else 'number'}")
        if kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError("not a whole number")
        return kind(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: {value!r} cannot be used ({error})") from error
