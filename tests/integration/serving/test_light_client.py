"""The base install, without TensorFlow, really asks a server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.serving.conftest import Server, jpeg

ROOT = Path(__file__).parents[3]
SOURCES = ("setup.py", "pyproject.toml", "README.md", "voc_cls", "serving", "export")


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new virtual environment with `pip install voc-cls`, no extras."""
    folder = tmp_path_factory.mktemp("light")
    source = folder / "source"
    source.mkdir()  # a copy, as building leaves its traces
    for name in SOURCES:
        path = ROOT / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, source / name)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", source],
                               capture_output=True, text=True, check=False)
    if installed.returncode and "Could not find a version" in installed.stderr:
        pytest.skip(f"pip reaches no package index: {installed.stderr.splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    return python.parent


def test_voc_predict_works_where_tensorflow_cannot_be_imported(light: Path, server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(jpeg(0))
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(part) for part in command], cwd=tmp_path, env=environment, capture_output=True,
                              text=True, check=False, timeout=60)

    missing = run(light / "python", "-c", "import tensorflow")
    assert "No module named 'tensorflow'" in missing.stderr
    asked = run(light / "voc-predict", picture, "--server", server.address, "--top-k", 4)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert len(asked.stdout.splitlines()) == 4
    streamed = run(light / "python", ROOT / "examples/python/stream.py", server.address, tmp_path)
    assert (streamed.returncode, streamed.stdout.split(": ")[0]) == (0, str(picture)), streamed.stderr
    for args, extra in ((["voc-predict", picture, "--sheet", "a.png"], "train"), (["voc-serve", "--model-dir", "."],
                                                                                "serve")):
        refused = run(light / str(args[0]), *args[1:])
        assert refused.returncode == 1
        assert f'pip install "voc-cls[{extra}]"' in refused.stderr
