"""What all the commands share: exit codes, one-sentence errors, quiet imports, one console.

Exit codes: 0 done, 1 failed, 2 wrong usage, 128 + signal stopped (130 Ctrl-C, 143 SIGTERM). Imports nothing heavy, so
that every `--help` stays quick.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from itertools import zip_longest
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_args, get_type_hints

from voc_cls.errors import Interrupted, UsageError, VocError
from voc_cls.usage import reject

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

EXTRAS = {  # extra of `pip install "voc-cls[...]"` → modules that it brings
    "train": ("cleanlab", "cv2", "h5py", "imagehash", "iterstrat", "jinja2", "keras", "lxml", "matplotlib",
              "ml_dtypes", "onnx", "PIL", "requests", "safetensors", "scipy", "sklearn", "tensorboard", "tensorflow",
              "tensorflow_serving", "tf_keras", "tf_slim", "yaml"),
    "serve": ("aiohttp", "grpc_health", "grpc_reflection", "prometheus_client", "pythonjsonlogger"),
    "export": ("nncf", "onnxruntime", "openvino"),
    "jax": ("jax",),
    "tune": ("optuna",),
    "trace": ("opentelemetry",),
    "s3": ("fsspec", "s3fs"),
    "mlflow": ("alembic", "mlflow", "pandas", "sqlalchemy"),
    "ray": ("pyarrow", "ray"),
}
SMALLER_EXTRAS = {("voc-serve", "train"): "serve", ("voc-serve", "export"): "serve-openvino",
                  ("voc-predict", "export"): "serve-openvino"}
"""(program, extra) → one that has what this program needs of it."""
LISTS = ("--root", "--classes", "--exclude", "--seeds", "--cors-origin")
"""Flags of several values that may be given several times; tyro would keep the last time alone."""
NEGATIVE = re.compile(r"-\.?\d")
"""How a negative number begins: a value, not a flag."""
SHELLS = ("bash", "zsh", "fish")
"""Those for which `--print-completion`, as the first argument, prints a script that completes a command."""
INTERRUPTED = 130
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
PARAMETER = re.compile(r"`([a-z][a-z0-9_]*)`")
"""How a message names a parameter."""

Config = TypeVar("Config")


def run(program: str, main: Callable[[], None]) -> int:
    """Runs a command's `main` and turns how it ended into an exit code, errors into one sentence on stderr."""
    if os.environ.get("NO_COLOR"):  # rich would still print bold, tyro all colours
        os.environ["TERM"] = "dumb"
    try:
        main()
        sys.stdout.flush()
    except (VocError, Interrupted) as error:
        return _fail(program, with_flags(str(error)), error.exit_code)
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        extra = next((name for name, modules in EXTRAS.items() if module in modules), None)
        if extra is None:
            raise
        extra = SMALLER_EXTRAS.get((program, extra), extra)
        return _fail(program, f"the module '{module}' is not installed: pip install \"voc-cls[{extra}]\"", 1)
    except KeyboardInterrupt:
        return _fail(program, "interrupted", INTERRUPTED)
    except BrokenPipeError:  # `voc-eval … | head`: the reader has gone, which is no error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as leaving:
        if isinstance(leaving.__context__, BrokenPipeError):  # what rich makes of it
            return 0
        raise
    except OSError as error:
        name = re.sub(r"\.aside-\d+-", "", str(error.filename or "a file"))  # as files.write_aside names it for a while
        return _fail(program, f"{name}: {error.strerror or error}; look at the disk and its permissions", 1)
    return 0


def with_flags(message: str) -> str:
    """A library's message with the parameters that it names in backticks as flags: `image_size` → --image-size."""
    return PARAMETER.sub(lambda match: f"--{match[1].replace('_', '-')}", message)


def warn(sentences: Iterable[str]) -> None:
    for sentence in dict.fromkeys(sentences):
        print(wrapped(f"warning: {with_flags(sentence)}", sys.stderr.isatty()), file=sys.stderr)


def wrapped(text: str, terminal: bool) -> str:
    """Lines broken between words for a terminal; words such as paths stay whole, so that they can be copied."""
    width = shutil.get_terminal_size().columns if terminal else sys.maxsize
    return "\n".join(textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
                     if len(ESCAPES.sub("", line)) > width else line for line in text.splitlines())


def say(console: Console, text: str) -> None:
    """Prints plain text; off a terminal, lines stay as they are."""
    console.print(wrapped(with_flags(text), console.is_terminal), highlight=False, markup=False, soft_wrap=True)


def _fail(program: str, message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # nobody to tell, or a full disk
        print(wrapped(f"{program}: error: {message}", sys.stderr.isatty()), file=sys.stderr)
    return code


def parse(config: Callable[..., Config], program: str, description: str, args: Sequence[str] | None = None) -> Config:
    """Parses a command line, by default sys.argv; SystemExit for --help and for wrong flags.

    config: a dataclass, whose fields, defaults and docstrings are the flags, or a union of them: subcommands.
    """
    import tyro

    set_help(config)
    given = list(sys.argv[1:] if args is None else args)
    if given[:1] == ["--print-completion"]:
        if given[1:] not in ([shell] for shell in SHELLS):
            raise UsageError(f"{' '.join(given)}: --print-completion takes one of {', '.join(SHELLS)}, alone")
        given[0] = "--tyro-print-completion"
    terminal, arguments = sys.stdout.isatty(), _joined(given)
    read = functools.partial(tyro.cli, config, prog=program, description=description,
                             config=(tyro.conf.OmitArgPrefixes, tyro.conf.HelptextFromCommentsOff,
                                     tyro.conf.EnumChoicesFromValues, tyro.conf.DisallowNone))

    def printed(arguments: Sequence[str], terminal: bool = False) -> str:
        text = io.StringIO()
        text.isatty = lambda: terminal  # type: ignore[method-assign]
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            read(args=arguments)
        return text.getvalue()

    completion = given[:1] == ["--tyro-print-completion"]
    if not (completion or "--help" in given or "-h" in given):
        rejecting = getattr(getattr(tyro, "_errors", None), "on_parse_error", contextlib.nullcontext)  # private
        with rejecting(lambda event: reject(event, program, given, printed)):
            parsed: Config = read(args=arguments)
        return parsed
    text = printed(arguments, terminal)
    print(_completing_files(text) if completion else wrapped(text, terminal))
    sys.exit(0)


def _completing_files(script: str) -> str:
    """tyro's script for a shell, with the names of files where it knows nothing: it knows single paths only."""
    files = re.search(r"return (\[\S*COMPLETE_FILES\S*\])", script)
    return re.sub(r"return (\[\]|completions(?=\n+def main))", lambda found: found[0].replace("[]", files[1]).replace(
        "completions", f"completions or {files[1]}"), script) if files else script


def _joined(args: Sequence[str]) -> list[str]:
    """The arguments with --root A --root B as --root A B, at the end."""
    lists: dict[str, list[str]] = {}
    others: list[str] = []
    current = others
    for argument, following in zip_longest(args, args[1:], fillvalue="-"):
        if argument == "--mlflow" and following.startswith("-"):  # tyro has no flags that may stand without a value
            argument = "--mlflow=auto"
        flag, equals, value = argument.partition("=")
        if flag in LISTS:
            values = lists.setdefault(flag, [flag])
            values += [value] if equals else []
            current = others if equals else values
        else:
            current = others if argument.startswith("-") and not NEGATIVE.match(argument) else current
            current.append(argument)
    return [*others, *(argument for values in lists.values() for argument in values)]


@functools.cache
def set_help(config: Any) -> None:
    """Sets the help of all fields of a dataclass, of those within, or of a union of them, to their docstrings."""
    import tyro
    from docstring_parser import parse_from_object

    if not (isinstance(config, type) and is_dataclass(config)):
        for part in get_args(config):
            set_help(part)
        return
    kinds = get_type_hints(config, include_extras=True)
    docs = {param.arg_name: " ".join((param.description or "").split())  # tyro would keep the line breaks of the source
            for kind in reversed(config.__mro__) if is_dataclass(kind) for param in parse_from_object(kind).params}
    for entry in fields(config):
        if is_dataclass(kinds[entry.name]):
            set_help(kinds[entry.name])
        elif entry.name in docs:
            text = tyro.conf.arg(help=docs[entry.name], help_behavior_hint=default_hint)
            config.__annotations__[entry.name] = Annotated[kinds[entry.name], text]


def stop_on(then: str, *numbers: signal.Signals) -> None:
    """From now on, each of these signals raises Interrupted, which ends with `then`: what was saved, what continues."""
    def stop(number: int, _: FrameType | None) -> None:
        raise Interrupted(signal.Signals(number), then)

    for number in numbers:
        signal.signal(number, stop)


@contextlib.contextmanager
def sigterm_kept() -> Iterator[None]:
    """Ray is started within: SIGTERM keeps its handler, instead of Ray's, which end without a word or with a C++ stack.

    Ray's own may run within; then SIGTERM is raised again at the end.
    """
    main = threading.current_thread() is threading.main_thread()
    handler, ended = signal.getsignal(signal.SIGTERM), False
    try:
        yield
    except SystemExit:  # of Ray's handlers
        ended = True
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)
    if ended:
        signal.raise_signal(signal.SIGTERM)


def default_hint(default: str) -> str:
    """How help shows a default; empty ones are left to the text of the flag."""
    return "" if default in ("None", "False", "", "''") else f"(default: {default})"


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what native libraries print on stderr; shown after all if the block raises.

    TensorFlow's C++ side writes a dozen lines about oneDNN and CUDA before its own log level applies.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            sys.stderr.flush()
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)


def new_console(**options: Any) -> Console:
    """rich's Console, whose import takes a moment."""
    from rich.console import Console

    return Console(**options)


def progress_bar(console: Console) -> Progress:
    """The project's progress bar; silent unless `console` is a terminal or a notebook."""
    from rich import progress as rich

    return rich.Progress(rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
                         rich.TimeElapsedColumn(), rich.TextColumn("left"), rich.TimeRemainingColumn(),
                         rich.TextColumn("{task.fields[note]}"), console=console,
                         speed_estimate_period=300,  # seconds; a batch of a large network takes tens of them
                         disable=not (console.is_terminal or console.is_jupyter) or console.is_dumb_terminal)


def duration(seconds: float) -> str:
    """For people: 40 seconds, 3 minutes, 1.5 hours."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{max(seconds, 1):.0f} seconds"


@contextlib.contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """Ctrl-C within is a KeyboardInterrupt at the end, also where the block swallows it or makes it another error.

    A callback of the garbage collector swallows it; a C extension turns it into an ImportError.
    """
    if (threading.current_thread() is not threading.main_thread()
            or signal.getsignal(signal.SIGINT) is not signal.default_int_handler):
        yield
        return
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if pressed:
            raise KeyboardInterrupt


@contextlib.contextmanager
def hidden(modules: Iterable[str]) -> Iterator[None]:
    """Within, those of the modules that are not imported yet seem not to be installed."""
    new = [name for name in modules if name not in sys.modules]
    sys.modules.update(cast("dict[str, Any]", dict.fromkeys(new)))
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


def import_tensorflow(*, whole: bool = False) -> Any:
    """Imports TensorFlow and looks for devices, without its start-up lines on stderr.

    Under KERAS_BACKEND=jax it reads and decodes pictures only: the GPUs, whose memory it would take, are JAX's.

    whole: with the functions of Keras that need scikit-learn or matplotlib, which no command of voc-cls calls and whose
    import would take a third of the time.
    """
    if (backend := os.environ.get("KERAS_BACKEND", "tensorflow")) not in ("tensorflow", "jax"):
        raise UsageError(f"KERAS_BACKEND={backend}: must be tensorflow or jax")
    needless = [] if whole else ["matplotlib", "sklearn"]
    if os.environ.get("KERAS_BACKEND") == "tensorflow" and not whole:
        needless.append("jax")  # TensorFlow Lite imports it
    with quiet_stderr(), _ctrl_c_kept(), hidden(needless):
        import tensorflow

        tensorflow.config.list_physical_devices()
        if os.environ.get("KERAS_BACKEND") == "jax":
            tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow
