"""How a command ends when nobody reads on, for what it prints itself and for what rich prints."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tyro

from voc_cls.console import parse, with_flags

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
