"""The flags of voc-serve, made from the fields of serving.config.config."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro

from serving.config.config import flag
from serving.config.settings import GROUP_OF, GROUPS, SERVED, Settings, read_settings
from voc_cls.config import flag_value
from voc_cls.console import parse
from voc_cls.errors import UsageError

PROGRAM = "voc-serve"
DESCRIPTION = """A predictor for exported models, over gRPC and HTTP, until SIGTERM or SIGINT.

One model, its highest version:
  voc-serve --model-dir models/voc

Two versions, which callers may name stable and canary:
  voc-serve --model-dir models/voc --versions 3,4 \\
            --version-labels stable=3 canary=4

Every flag is also a variable of the environment, and a key of a YAML file:
  VOC_SERVE_MAX_BATCH_SIZE=8 voc-serve --model-dir models/voc
  voc-serve --model-dir models/voc --print-config > serve.yaml
  voc-serve --config serve.yaml --check

Flags win over the environment, the environment over the file."""

HELP = frozenset({"-h", "--help"})


@dataclass(frozen=True)
class StartConfig:
    """What to do, and where the rest is said."""

    config: Path | None = None
    """YAML file with values for any flag, by group, as --print-config writes it; paths in it are relative to it. Or
    $VOC_SERVE_CONFIG."""
    check: bool = False
    """Look at everything that can be looked at without serving: configuration, model folders, keys, certificates,
    ports. Prints what would be served; exits 0, or with what is wrong."""
    print_config: bool = False
    """Print the configuration in effect as YAML for --config, with where each value comes from, and exit."""


@dataclass(frozen=True)
class CommandLine:
    """One call of voc-serve."""

    start: StartConfig
    settings: Settings
    """Of flags, environment and file together."""


def read_command_line(args: Sequence[str], environment: Mapping[str, str]) -> CommandLine:
    """Flags, environment and file together. Raises UsageError; leaves by SystemExit for --help and unknown flags."""
    path = flag_value(args, "--config")
    try:
        below = read_settings(None if path is None else Path(path), environment)
    except UsageError:
        if HELP.isdisjoint(args):
            raise
        below = Settings()  # whoever asks for help gets it, whatever is wrong
    given = {argument.partition("=")[0].replace("_", "-") for argument in args}
    below = below.without_models_if({name for name in GROUP_OF if flag(name) in given})
    kinds = {"start": StartConfig, **GROUPS}
    parsed = vars(parse(make_dataclass("VocServe", [_group(name, kind, below.values) for name, kind in kinds.items()]),
                        PROGRAM, DESCRIPTION, args))
    start = StartConfig(**vars(parsed.pop("start")))
    values = {name: value for group in parsed.values() for name, value in vars(group).items()}
    settings = Settings(values, {name: place for name, place in below.places.items()
                                 if values.get(name) == below.values[name]})
    if SERVED in below.values:
        settings = settings.overridden_by(Settings({SERVED: below.values[SERVED]}, {SERVED: below.places[SERVED]}))
    return CommandLine(start, settings)


def _group(name: str, kind: type, values: Mapping[str, Any]) -> tuple[str, type, Any]:
    """A field of the command line: `kind` with `values` for defaults and its docstrings for help."""
    hints, docs = get_type_hints(kind), _docstrings(kind)
    flags = make_dataclass(kind.__name__, [
        (entry.name, Annotated[hints[entry.name], tyro.conf.arg(help=docs[entry.name], help_behavior_hint=_default),
                               tyro.conf.FlagCreatePairsOff], values.get(entry.name, entry.default))
        for entry in fields(kind) if entry.name != SERVED], namespace={"__doc__": kind.__doc__})
    return name, flags, field(default_factory=flags)


def _default(value: str) -> str:
    return "" if value in ("None", "False", "") else f"(default: {value})"


def _docstrings(kind: type) -> dict[str, str]:
    """What is written below each field, on one line: tyro would keep the line breaks of the source."""
    definition = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {ast.unparse(entry.target): " ".join(ast.literal_eval(doc.value).split())
            for entry, doc in pairwise(definition.body)
            if isinstance(entry, ast.AnnAssign) and isinstance(doc, ast.Expr)}
