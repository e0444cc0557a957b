"""docs/clients.md is true: its programs and commands are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import BIN
from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.secured import TOKEN, make_certificates
from tests.integration.serving.tiny_model import export_tiny_model

ROOT = Path(__file__).parents[3]
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```", (ROOT / "docs/clients.md").read_text(), re.DOTALL | re.MULTILINE)
NEEDS = {"npm": "npm", "grpcurl": "base64", "curl": "curl"}
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody who reads the page has before them."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "holiday").mkdir()
    for number, name in enumerate(("a.jpg", "b.jpg", "holiday/1.jpg", "holiday/2.jpg")):
        (folder / name).write_bytes(jpeg(number))
    shutil.copytree(ROOT / "proto", folder / "proto")
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("node_modules"))
    files = make_certificates(folder)
    files.cert.rename(folder / "app.pem")
    files.key.rename(folder / "app.key")
    return folder


@pytest.fixture(scope="module")
def servers(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    """One without keys and encryption, and one with everything; both serve the model voc."""
    starter = Start(tmp_path_factory.mktemp("servers"))
    model = tmp_path_factory.mktemp("models") / "voc"
    export_tiny_model(model / "1")
    secured = starter(model, "--tls-cert", folder / "app.pem", "--tls-key", folder / "app.key", "--keys-file",
                      folder / "keys.yaml")
    yield starter(model).wait_until_ready(), secured.wait_until_ready()
    starter.end_all()


@pytest.mark.parametrize(("language", "block"), BLOCKS)
def test_it_runs(language: str, block: str, folder: Path, servers: tuple[Server, Server]) -> None:
    for start, needed in NEEDS.items():
        if re.search(rf"^{start} ", block, re.MULTILINE) and shutil.which(needed) is None:
            pytest.skip(f"{needed} is not installed")
    plain, secured = servers
    for written, address in (("127.0.0.1:8500", plain.address), ("127.0.0.1:8501", plain.http.split("//")[1]),
                             ("box.example:8500", secured.address),
                             ("box.example:8501", secured.http.split("//")[1])):
        block = block.replace(written, address)
    program = [sys.executable, "-c", block] if language == "python" else ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(program, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env={
        **os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "VOC_TOKEN": TOKEN})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_what_curl_gets_is_a_row_of_probabilities(folder: Path, servers: tuple[Server, Server]) -> None:
    block = next(block for _, block in BLOCKS if "curl --fail" in block)
    lines = block.splitlines()[:2]
    done = subprocess.run(["bash", "-euc", "\n".join(lines).replace("127.0.0.1:8501", servers[0].http.split("//")[1])],
                          cwd=folder, capture_output=True, text=True, check=True, timeout=60)
    (row,) = json.loads(done.stdout)["predictions"]
    assert len(row) == 20


def test_every_kind_of_block_was_found() -> None:
    assert [language for language, _ in BLOCKS] == ["python"] * 5 + ["sh"] * 4
