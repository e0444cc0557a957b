"""docs/clients.md is true: its programs and commands are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import BIN
from tests.integration.serving.conftest import Server, jpeg
from tests.integration.serving.secured import TOKEN, Files

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", (ROOT / "docs/clients.md").read_text(), re.DOTALL | re.MULTILINE)
NEEDS = {"npm": "npm", "grpcurl": "base64", "curl": "curl"}
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl is not installed")


@pytest.fixture(scope="module")
def folder(certificates: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that a reader of the page has."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "holiday").mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg", "holiday/1.jpg", "holiday/2.jpg")):
        (folder / name).write_bytes(jpeg(number))
    for name in ("proto", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("node_modules"))
    for file, name in ((certificates.ca, "ca.pem"), (certificates.cert, "app.pem"), (certificates.key, "app.key")):
        shutil.copy(file, folder / name)
    return folder


def run_block(language: str, block: str, folder: Path, server: Server, secured_server: Server,
              packages: str = "") -> subprocess.CompletedProcess[str]:
    """Runs a program of the page with the addresses, and the model's name, of the tests' servers."""
    for written, served in (("127.0.0.1:8500", server.address), ("127.0.0.1:8501", server.http.split("//")[1]),
                            ("box.example:8500", secured_server.address),
                            ("box.example:8501", secured_server.http.split("//")[1]),
                            ("/models/voc", "/models/tiny"), ('infer("voc"', 'infer("tiny"')):
        block = block.replace(written, served)
    program = [sys.executable, "-c", block] if language == "python" else ["bash", "-euo", "pipefail", "-c", block]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env={
        **os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "VOC_TOKEN": TOKEN,
        "PYTHONPATH": os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")]))})


@pytest.mark.parametrize(("language", "block"), BLOCKS)
def test_it_runs(language: str, block: str, folder: Path, server: Server, secured_server: Server,
                 request: pytest.FixtureRequest) -> None:
    for start, needed in NEEDS.items():
        if re.search(rf"^{start} ", block, re.MULTILINE) and shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed")
    packages = str(request.getfixturevalue("triton")) if "tritonclient" in block else ""
    done = run_block(language, block, folder, server, secured_server, packages)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_what_curl_gets_is_a_row_of_probabilities(folder: Path, server: Server, secured_server: Server) -> None:
    block = next(block for _, block in BLOCKS if "curl --fail" in block)
    done = run_block("sh", "\n".join(block.splitlines()[:2]), folder, server, secured_server)
    (row,) = json.loads(done.stdout)["predictions"]
    assert len(row) == 20


def test_every_kind_of_block_was_found() -> None:
    assert [language for language, _ in BLOCKS] == ["python"] * 5 + ["sh"] * 5 + ["python", "sh"]
