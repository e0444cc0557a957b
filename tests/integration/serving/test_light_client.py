"""The base install, without TensorFlow, really asks a server."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.installed import ENVIRONMENT, ROOT, install
from tests.integration.serving.conftest import Server, jpeg


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a new virtual environment with `pip install voc-cls`, no extras."""
    return install(tmp_path_factory.mktemp("light"))


def test_voc_predict_works_where_tensorflow_cannot_be_imported(light: Path, server: Server, tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(jpeg(0))

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(part) for part in command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True,
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
