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

from tests.commands import BIN
from voc_cls.console import duration, parse, with_flags, wrapped

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
    program = ("import sys; from voc_cls.console import import_openvino; "
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
