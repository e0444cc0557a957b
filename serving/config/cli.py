"""The command line of voc-serve, and the configuration that --print-config prints."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from serving.config.config import ServeConfig
from serving.config.models import ModelSettings, replaced_models
from voc_cls.config import FlagOnly, Program, Settings, YamlOnly, settings_of

DESCRIPTION = """Serve exported models over gRPC and HTTP until SIGTERM or SIGINT.

One model, its highest version:
  voc-serve --model-dir models/voc

Two versions, with the labels stable and canary:
  voc-serve --model-dir models/voc --versions 3,4 \\
            --version-labels stable=3 canary=4

Every flag is also an environment variable and a key of a YAML file:
  VOC_SERVE_MAX_BATCH_SIZE=8 voc-serve --model-dir models/voc
  voc-serve --model-dir models/voc --print-config > serve.yaml
  voc-serve --config serve.yaml --check

Flags win over variables, variables over the file."""


@dataclass(frozen=True)
class StartConfig:
    """What to do, and where the configuration is."""

    config: Annotated[Path | None, FlagOnly()] = None
    """YAML file with values for any flag, by group, as --print-config writes it; paths in it are relative to it. Or
    $VOC_SERVE_CONFIG."""
    check: Annotated[bool, FlagOnly()] = False
    """Check everything that can be checked without serving: configuration, model folders, keys, certificates, ports.
    Prints what would be served; exits 0, or with what is wrong."""
    print_config: Annotated[bool, FlagOnly()] = False
    """Print the configuration in effect as YAML for --config, with where each value comes from, and exit."""


PROGRAM = Program("voc-serve", DESCRIPTION, {"start": StartConfig, **get_type_hints(ServeConfig)},
                  relative_to_file=True, replaced=replaced_models)


def to_yaml(settings: Settings) -> str:
    """A file for --config with the same settings, wherever it lies: every field, with where its value was set."""
    lines = []
    for group, kind in get_type_hints(ServeConfig).items():
        lines.append(f"{group}:")
        for setting in settings_of(kind):
            value = settings.values.get(setting.name, setting.default)
            source = settings.sources.get(setting.name, "given as a flag" if value != setting.default else "")
            if not setting.mark(YamlOnly):
                lines.append(f"  {setting.name}: {_flow(value)}{f'  # {source}' if source else ''}")
            elif value:
                lines += [f"  {setting.name}:  # {source}", *(f"    - {_flow(entry)}" for entry in value)]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """A value as YAML on one line."""
    import yaml

    text: str = yaml.safe_dump(_plain(value), default_flow_style=True, width=math.inf, sort_keys=False,
                               allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, ModelSettings):
        return {"name": value.name, "path": str(value.folder.absolute()), "versions": str(value.policy),
                "labels": dict(value.labels)}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
