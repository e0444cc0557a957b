"""How a command ends when nobody reads on, for what it prints itself and for what rich prints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tyro

from tests.commands import BIN, command_in_process
from voc_cls.client import Client
from voc_cls.config import read_yaml
from voc_cls.console import duration, import_tensorflow, parse, run, with_flags, wrapped
from voc_cls.errors import ClientError, RunError, UsageError, reason
from voc_cls.files import read_json, write_text

PROGRAM = """
import sys
from voc_cls.console import run
def main():
    {print}
sys.exit(run("voc-test", main))
"""
PRINTS = {
    "rich": "from rich.console import Console; [Console().print('row') for _ in range(100_000)]",
    "print": "[print('row') for _ in range(100_000)]",
    "what is still in the buffer": "import time; time.sleep(0.5); print('row')",
}


@pytest.mark.parametrize("kind", PRINTS)
def test_a_reader_that_leaves_is_no_error(kind: str):
    reader = "head -n 1" if kind != "what is still in the buffer" else "true"
    done = subprocess.run(["bash", "-c", f'"$0" -c "$1" | {reader} > /dev/null; exit "${{PIPESTATUS[0]}}"',
                           sys.executable, PROGRAM.format(print=PRINTS[kind])], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


TENSORFLOW = """
try:
    import matplotlib
except ImportError:
    matplotlib = None
class config:
    list_physical_devices = list
"""


@pytest.mark.parametrize("whole", [False, True])
def test_commands_do_not_wait_for_what_tensorflow_imports_and_they_never_call(whole: bool, tmp_path: Path):
    (tmp_path / "matplotlib.py").touch()
    (tmp_path / "tensorflow.py").write_text(TENSORFLOW)
    program = ("import sys; sys.path.insert(0, sys.argv[1]); from voc_cls.console import import_tensorflow; "
               f"print(import_tensorflow(whole={whole}).matplotlib is not None); import matplotlib")
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60,
                          check=False)
    assert (done.returncode, done.stdout) == (0, f"{whole}\n"), done.stderr


@pytest.mark.parametrize("whole", [False, True])
def test_openvino_does_not_report_its_use_over_the_network(whole: bool):
    program = ("import sys; from voc_cls.openvino_core import import_openvino; "
               f"openvino = import_openvino(whole={whole}); "
               "print(hasattr(openvino, 'convert_model'), 'openvino_telemetry' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == [str(whole), "False"]



def test_other_ways_to_leave_keep_their_code():
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(print="sys.exit(3)")], check=False, timeout=60)
    assert done.returncode == 3


def test_parameters_that_a_library_error_names_are_shown_as_flags():
    text = with_flags("`image_size` 12: must be at least 32; choose `head` gap, see `voc-nets`")
    assert text == "--image-size 12: must be at least 32; choose --head gap, see `voc-nets`"


@dataclass(frozen=True)
class Inner:
    """Part of a command line."""

    path: Path | None = None
    """A file. Default: none."""


@dataclass(frozen=True)
class Outer:
    """A command line."""

    inner: Inner = field(default_factory=Inner)
    number: int = 3
    """A number."""


def test_help_shows_defaults_but_not_empty_ones(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        parse(Outer, "voc-x", "Does x.", ["--help"])
    printed = capsys.readouterr().out
    assert "(default: 3)" in printed
    assert "None" not in printed
    assert parse(Outer, "voc-x", "Does x.", ["--path", "a"]) == Outer(Inner(Path("a")))


@dataclass(frozen=True)
class Lists:
    """A command line with lists."""

    file: tyro.conf.Positional[Path]
    """A file."""
    root: tuple[Path, ...] = ()
    """Folders."""
    classes: tuple[str, ...] = ()
    """Names."""
    number: int = 3
    """A number."""
    seeds: tuple[int, ...] = ()
    """Numbers."""


@pytest.mark.parametrize("args", ["f --root a b --classes x y --number 4",
                                  "f --root a --number 4 --root b --classes x y",
                                  "--root=a --root=b f --number=4 --classes x --classes=y"])
def test_a_flag_of_several_values_may_be_repeated(args: str):
    assert parse(Lists, "voc-x", "Does x.", args.split()) == Lists(Path("f"), (Path("a"), Path("b")), ("x", "y"), 4)


def test_a_negative_number_is_a_value_in_a_list_too():
    assert parse(Lists, "voc-x", "Does x.", ["--seeds", "-1", "2", "f", "--number", "-4"]) == Lists(
        Path("f"), seeds=(-1, 2), number=-4)


COMPLETED = {  # shell → what completes the words $1 in it
    "bash": "source ./script; COMP_WORDS=($1 ''); [ $2 ] && COMP_WORDS=($1 $2); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
            "_tyro_voc_weights; printf '%s\n' \"${COMPREPLY[@]}\"",
    "fish": "source ./script; complete -C \"$argv[1] $argv[2]\"",
}


@pytest.mark.parametrize("shell", COMPLETED)
def test_a_shell_completes_subcommands_flags_their_choices_and_files(shell: str, tmp_path: Path):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    printed = subprocess.run([BIN / "voc-weights", "--print-completion", shell], capture_output=True, text=True,
                             check=True)
    (tmp_path / "script").write_text(printed.stdout)
    (tmp_path / "vgg_16.ckpt.index").touch()
    ask = [shell, "-c", COMPLETED[shell], *(["bash"] if shell == "bash" else [])]

    def completed(words: str, begun: str = "") -> list[str]:
        done = subprocess.run([*ask, words, begun], cwd=tmp_path, capture_output=True, text=True, check=True,
                              env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
        return [line.split("\t")[0].strip() for line in done.stdout.splitlines()]

    assert "convert" in completed("voc-weights")
    assert completed("voc-weights diff", "--exc") == ["--exclude"]
    assert "gap+max" in completed("voc-weights diff --head")
    assert completed("voc-weights fetch --archive", "vgg") == ["vgg_16.ckpt.index"]


def test_a_shell_without_completion_is_one_sentence():
    done = subprocess.run([BIN / "voc-nets", "--print-completion", "tcsh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == ("voc-nets: error: --print-completion tcsh: --print-completion takes one of bash, zsh, fish, "
                           "alone\n")


def test_lines_break_between_words_on_a_terminal_and_paths_stay_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "20")
    path = "/a/path/that-is/longer-than/a-line"
    assert wrapped(f"written: {path} and more", terminal=True) == f"written:\n{path}\nand more"
    assert wrapped(f"written: {path} and more", terminal=False) == f"written: {path} and more"


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_a_terminal_of_80_columns_gets_help_that_fits_and_escape_codes_only_where_wanted(variable: dict[str, str]):
    program = ("import fcntl, os, pty, struct, sys, termios\n"
               "pid, terminal = pty.fork()\n"
               "if not pid: os.execv(sys.argv[1], sys.argv[1:])\n"
               "fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))\n"
               "try:\n    while piece := os.read(terminal, 4096): os.write(1, piece)\nexcept OSError: pass\n")
    plain = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    done = subprocess.run([sys.executable, "-c", program, BIN / "voc-weights", "verify", "--help"], capture_output=True,
                          text=True, check=True, env={**plain, "TERM": "xterm", **variable})
    assert "Compare our network" in done.stdout
    assert ("\x1b" in done.stdout) == (not variable)
    if variable:
        assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(("seconds", "said"), [(0.2, "1 seconds"), (80, "80 seconds"), (150, "2.5 minutes"),
                                               (7200, "2 hours")])
def test_a_time_to_expect_is_said_in_the_largest_unit_that_fits(seconds: float, said: str):
    assert duration(seconds) == said


WRONG = {  # what is typed → what is said
    "voc-train --rooot x": "--rooot: no such flag (did you mean --root?); see `voc-train --help`",
    "voc-train --lr fast --root x": "--lr fast: must be a number; see `voc-train --help`",
    "voc-train --root x --seeds 1 b": "--seeds 1, b: must be a whole number; see `voc-train --help`",
    "voc-data download voc": "voc: must be one of voc2007, voc2012, cifar10; see `voc-data download --help`",
    "voc-eval runs --tta no": "--tta no: must be one of none, flip, multi-scale, both; see `voc-eval --help`",
    "voc-train --root x y --out": "--out: a value is missing, PATH; see `voc-train --help`",
    "voc-train --resume --out nowhere": "--resume: nowhere does not hold a run; name one by --out, or omit --resume",
    "voc-data": "missing: one of the commands check, stats, preview, split, suspects, similar, next, download, demo; "
                "see `voc-data --help`",
    "voc-data chekc": "chekc: no such argument (did you mean check?); see `voc-data --help`",
    "voc-data stats": "missing: --root (Path of the data set); see `voc-data stats --help`",
    "voc-data split --root x --out y z": "z: no such argument; see `voc-data split --help`",
    "voc-weights fetch": "missing: name (vgg_16_conv, or a network for which voc-weights list shows a checkpoint); see "
                         "`voc-weights fetch --help`",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_one_sentence(line: str):
    program, *args = line.split()
    done = command_in_process(program, *args)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{program}: error: {WRONG[line]}\n")


def test_a_terminal_whose_help_has_colours_and_boxes_suggests_the_same(monkeypatch: pytest.MonkeyPatch,
                                                                     capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    with pytest.raises(UsageError, match="did you mean --number"):
        parse(Outer, "voc-x", "Does x.", ["--numbre", "3"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("error", "said"), [
    (KeyError("split"), "'split' is missing"),
    (FileNotFoundError(2, "No such file", "a"), "No such file"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "byte 0 is not UTF-8 text"),
    (ValueError(), "ValueError"),
    (RuntimeError("Exception from src/a.cpp:1:\nException from src/b.cpp:2:\nIt is empty!\n"), "It is empty"),
    (RuntimeError("Graph execution error:\n{{node a}} is too large [Op:Conv2D]"), "is too large"),
])
def test_what_a_library_says_is_shown_without_python(error: Exception, said: str):
    assert reason(error) == said


def test_yaml_errors_name_the_line(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("a: 1\nb: [1\n")
    with pytest.raises(UsageError, match=r"^a: cannot be read \(line 3: expected ',' or '\]', .*\); correct it$"):
        read_yaml(tmp_path / "a.yaml", "a")


def test_a_file_that_cannot_be_written_is_named_as_the_person_named_it(tmp_path: Path,
                                                                       capsys: pytest.CaptureFixture[str]):
    assert run("voc-x", lambda: write_text(tmp_path / "nowhere/a.json", "")) == 1
    assert capsys.readouterr().err == (f"voc-x: error: {tmp_path}/nowhere/a.json: No such file or directory; look at "
                                       "the disk and its permissions\n")


def test_a_damaged_json_file_of_a_run_is_one_sentence_and_a_missing_one_is_nothing(tmp_path: Path):
    assert read_json(tmp_path / "evaluation.json") is None
    (tmp_path / "evaluation.json").write_bytes(b"\xff")
    with pytest.raises(RunError, match=r"evaluation\.json: cannot be read \(byte 0 is not UTF-8 text\); delete it"):
        read_json(tmp_path / "evaluation.json")


def test_a_backend_that_is_not_supported_is_refused_before_keras_is_imported(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KERAS_BACKEND", "foo")
    with pytest.raises(UsageError, match=r"^KERAS_BACKEND=foo: must be tensorflow or jax$"):
        import_tensorflow()


def test_a_ca_file_without_certificates_is_refused_before_grpc_tells_of_it(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ClientError, match=r"^the CA file .*ca\.pem holds nothing in PEM form; give a PEM file$"):
        Client("127.0.0.1:1", tls=tmp_path / "ca.pem")
