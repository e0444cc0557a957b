"""The programs in examples/ do what their headers say, against a real server, plain and secured."""

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
from voc_cls.client import Client

ROOT = Path(__file__).parents[3]
EXAMPLES = ROOT / "examples"
needs_node = pytest.mark.skipif(shutil.which("node") is None or shutil.which("npm") is None,
                                reason="node and npm are not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl is not installed")
PERCENT = re.compile(r"(\w+) (\d+)%")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures, more than are on their way at a time, and one that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(40):
        (folder / f"{number:02}.jpg").write_bytes(jpeg(number))
    (folder / "broken.jpg").write_bytes(b"no picture at all")
    return folder


@pytest.fixture(scope="module")
def best(server: Server, folder: Path) -> dict[str, list[str]]:
    """File → its three most probable labels."""
    files = sorted(folder.glob("[0-9]*.jpg"))
    with Client(server.address) as client:
        return {str(file): [scored.label for scored in prediction.labels]
                for file, prediction in zip(files, client.classify(files, top_k=3), strict=True)}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/node with its packages, beside the proto files."""
    copy = tmp_path_factory.mktemp("node")
    shutil.copytree(ROOT / "proto", copy / "proto")
    shutil.copytree(EXAMPLES / "node", copy / "examples" / "node", ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", "examples/node"], cwd=copy,
                   check=True, capture_output=True, timeout=300)
    return copy / "examples" / "node"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, timeout=120,
                          check=False, env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                                            **environment})


def answers(printed: str) -> dict[str, list[str]]:
    """File → labels, of lines such as `a.jpg: cat 98%, dog 3%`."""
    lines = (line.split(": ", 1) for line in printed.splitlines() if ": " in line)
    return {file: [label for label, _ in PERCENT.findall(said)] for file, said in lines}


def test_classify_py(server: Server, folder: Path, best: dict[str, list[str]]) -> None:
    done = run(sys.executable, EXAMPLES / "python/classify.py", server.address, *list(best)[:2], folder / "broken.jpg")
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    assert first == "tiny, version 10: 20 labels"
    assert answers("\n".join(lines[:2])) == dict(list(best.items())[:2])
    assert "is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture" in lines[2]


@needs_openssl
def test_classify_py_with_tls_and_a_token(secured_server: Server, certificates: Files,
                                          best: dict[str, list[str]]) -> None:
    asked = (sys.executable, EXAMPLES / "python/classify.py", secured_server.address, next(iter(best)))
    done = run(*asked, VOC_CA=str(certificates.ca), VOC_TOKEN=TOKEN)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "tiny, version 10: 20 labels"), done.stderr
    refused = run(*asked, VOC_CA=str(certificates.ca))
    assert refused.returncode == 1
    assert "(UNAUTHENTICATED, request " in refused.stderr


def test_stream_py(server: Server, folder: Path) -> None:
    done = run(sys.executable, EXAMPLES / "python/stream.py", server.address, folder)
    assert done.returncode == 0, done.stderr
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert sorted(said) == sorted(str(file) for file in folder.iterdir())
    assert "is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture" in said[str(folder / "broken.jpg")]


def test_with_tensorflow_serving_py(server: Server, best: dict[str, list[str]]) -> None:
    done = run(sys.executable, EXAMPLES / "python/with_tensorflow_serving.py", server.address, "tiny", *list(best)[:2])
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == list(best)[:2]
    probabilities = [float(one) for one in lines[0].split("version 10: ")[1].split()]
    with Client(server.address) as client:
        right = {scored.label: scored.probability for scored in client.classify([Path(next(iter(best)))])[0].labels}
        order = [label.name for label in client.model().labels]
    assert probabilities == pytest.approx([right[label] for label in order], abs=0.001)


@needs_node
def test_classify_js(node: Path, server: Server, folder: Path, best: dict[str, list[str]]) -> None:
    done = run("node", node / "classify.js", server.address, *list(best)[:2], folder / "broken.jpg")
    assert done.returncode == 0, done.stderr
    assert answers("\n".join(done.stdout.splitlines()[:2])) == dict(list(best.items())[:2])
    assert "is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture" in done.stdout.splitlines()[2]
    refused = run("node", node / "classify.js", "127.0.0.1:1", next(iter(best)))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "127.0.0.1:1: 14 UNAVAILABLE" in refused.stderr


@needs_node
def test_stream_js(node: Path, server: Server, folder: Path, best: dict[str, list[str]]) -> None:
    done = run("node", node / "stream.js", server.address, *best, folder / "broken.jpg")
    assert done.returncode == 0, done.stderr
    found = answers(done.stdout)
    assert found.pop(str(folder / "broken.jpg")) == []
    assert found == best


@needs_node
@needs_openssl
def test_node_with_tls_and_a_token(node: Path, secured_server: Server, certificates: Files,
                                   best: dict[str, list[str]]) -> None:
    file = next(iter(best))
    for program in ("classify.js", "stream.js"):
        done = run("node", node / program, secured_server.address, file, VOC_CA=str(certificates.ca), VOC_TOKEN=TOKEN)
        assert (done.returncode, answers(done.stdout)) == (0, {file: best[file]}), done.stderr
        refused = run("node", node / program, secured_server.address, file, VOC_CA=str(certificates.ca))
        assert refused.returncode == 1
        assert "16 UNAUTHENTICATED" in refused.stderr


@needs_node
def test_the_lock_file_pins_every_package_and_names_no_registry() -> None:
    lock = json.loads((EXAMPLES / "node/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert {"node_modules/@grpc/grpc-js", "node_modules/@grpc/proto-loader"} <= set(packages)
    assert all(package["integrity"] and "resolved" not in package for package in packages.values())


@pytest.mark.parametrize("proto", [{}, {"PROTO": str(ROOT / "proto")}])
def test_grpcurl_sh_by_reflection_and_by_the_proto_file(proto: dict[str, str], server: Server,
                                                        best: dict[str, list[str]]) -> None:
    file = next(iter(best))
    done = run(EXAMPLES / "grpcurl.sh", server.address, file, **proto)
    assert done.returncode == 0, done.stderr
    assert ("voc_cls.v1.Classifier" in done.stdout.splitlines()) == (not proto)
    assert '"net": "tiny"' in done.stdout
    assert re.findall(r'"label": "(\w+)"', done.stdout) == best[file]


@needs_openssl
def test_grpcurl_sh_with_tls_and_a_token(secured_server: Server, certificates: Files,
                                         best: dict[str, list[str]]) -> None:
    file = next(iter(best))
    asked = (EXAMPLES / "grpcurl.sh", secured_server.address, file)
    done = run(*asked, FLAGS=f"-cacert {certificates.ca}", VOC_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert re.findall(r'"label": "(\w+)"', done.stdout) == best[file]
    refused = run(*asked, FLAGS=f"-cacert {certificates.ca}", PROTO=str(ROOT / "proto"))
    assert refused.returncode != 0
    assert "Unauthenticated" in refused.stderr
