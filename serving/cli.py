"""voc-serve: from the command line to a server or to what --print-config prints, and how the process ends."""

from __future__ import annotations

import faulthandler
import math
import os
import re
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from serving.config.config import ServeConfig
from serving.config.models import ModelSettings, model_settings, replaced_models
from serving.telemetry.foreign_lines import ForeignLines
from voc_cls.config import FlagOnly, Program, Settings, YamlOnly, flag_value, settings_of
from voc_cls.console import run
from voc_cls.stores import store_url

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
    json: Annotated[bool, FlagOnly()] = False
    """As --check, but print what it finds as JSON."""
    print_config: Annotated[bool, FlagOnly()] = False
    """Print the configuration in effect as YAML for --config, with where each value comes from, and exit."""


PROGRAM = Program("voc-serve", DESCRIPTION, {"start": StartConfig, **get_type_hints(ServeConfig)},
                  relative_to_file=True, replaced=replaced_models)


def main() -> None:
    hold_standard_streams()
    faulthandler.enable()
    foreign_lines = ForeignLines()
    if _says_json(sys.argv[1:], os.environ):
        foreign_lines.start()
    try:
        code = run("voc-serve", partial(_main, foreign_lines))
    except Exception:
        traceback.print_exc()
        code = 1
    finally:
        foreign_lines.close()
    # a thread may still wait for a result that is no longer needed, and the interpreter's own exit for the thread
    os._exit(code)


def hold_standard_streams() -> None:
    """Puts /dev/null where a standard stream is closed: else a socket gets its number, and what is printed with it.

    To be called before anything is opened.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, so this one
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # as Python has it where the stream was closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _says_json(args: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether the log is to be JSON: known before anything is checked, so that errors in flags are JSON too."""
    if chosen := flag_value(args, "--log-format") or environment.get("VOC_SERVE_LOG_FORMAT"):
        return chosen == "json"
    file = flag_value(args, "--config") or environment.get("VOC_SERVE_CONFIG")
    try:
        return bool(file and re.search(r"^\s*log_format:\s*json\b", Path(file).read_text(), re.MULTILINE))
    except (OSError, UnicodeDecodeError):
        return False


def _main(foreign_lines: ForeignLines) -> None:
    def read_again() -> ServeConfig:
        again = PROGRAM.read(sys.argv[1:], os.environ)
        with again.explaining():
            config = again.config(ServeConfig)
            model_settings(config.models)  # for its errors
        return config

    settings = PROGRAM.read(sys.argv[1:], os.environ)
    if settings.values["log_format"] == "json":
        foreign_lines.start()
    start, config = settings.values, settings.config(ServeConfig)
    with settings.explaining():
        if start["print_config"]:
            print(to_yaml(settings), end="")
        elif start["check"] or start["json"]:
            from serving.check import check

            check(config, start["json"])
        elif config.ray.ray:
            from serving.ray.app import run as run_on_ray  # needs the extra `ray`

            run_on_ray(config)
        else:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the server can follow it
            import asyncio

            from serving.server import serve

            foreign_lines.take_stdout()
            asyncio.run(serve(config, read_again, *foreign_lines.streams))


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
        return store_url(value) or str(value.absolute())
    if isinstance(value, ModelSettings):
        return {"name": value.name, "path": _plain(value.folder), "versions": str(value.policy),
                "labels": dict(value.labels)}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
