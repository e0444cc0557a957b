"""voc-serve --check and --print-config: what would be served, without serving it."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import BIN
from tests.integration.serving.conftest import Refused, Serve


@pytest.fixture
def models(model: Path, tmp_path: Path) -> Path:
    """models/tiny with the versions 9 and 10, to be damaged at will."""
    shutil.copytree(model, tmp_path / "models" / "tiny")
    return tmp_path / "models" / "tiny"


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key, by openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificate, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-subj", "/CN=localhost", "-days", "2", "-keyout", key, "-out", certificate], check=True,
                   capture_output=True)
    return certificate, key


@pytest.mark.usefixtures("certificate")
def test_what_would_be_served_is_shown(models: Path, tmp_path: Path, serve: Serve) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []\n")
    (tmp_path / "keys.yaml").chmod(0o600)
    (tmp_path / "serve.yaml").write_text(
        "models: {model_dir: models/tiny, versions: all, version_labels: [stable=9, canary=10]}\n"
        "ports: {port: 0, http_port: -1}\nbatching: {max_batch_size: 6}\npictures: {max_megapixels: 12}\n"
        "security: {tls_cert: server.pem, tls_key: server.key, keys_file: keys.yaml, client_rate: 5}\n")
    done = serve("--config", tmp_path / "serve.yaml", "--check", "--threads", 3)
    assert (done.returncode, done.stderr) == (0, "")
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in done.stdout.splitlines() if line}
    assert lines["tiny"] == f"9 10 stable=9 canary=10 tensorflow tiny 8 px 20 yes {models}"
    assert lines["gRPC"] == "127.0.0.1, a free port"
    assert lines["HTTP"] == "none"
    assert lines["security"] == f"TLS, keys of {tmp_path}/keys.yaml, 5 calls/s a client, 20 at once, reflection off"
    assert lines["batches"].startswith("of 1 2 4 6 pictures, which wait 0 ms for others; at most 128 in the server")
    assert lines["engine"] == "3 threads, float32"
    assert lines["pictures"] == "up to 12 megapixels, 32 MiB"
    assert lines["voc-serve:"] == "nothing wrong was found"
    shown = json.loads(serve("--config", tmp_path / "serve.yaml", "--json", "--threads", 3).stdout)
    assert shown["models"][0]["labels"] == "stable=9 canary=10"
    assert shown["security"] == lines["security"]


def test_a_port_that_is_taken_is_shown_and_one_that_cannot_be_is_refused(models: Path, refused: Refused,
                                                                         serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = serve("--check", "--model-dir", models, "--host", "127.0.0.1", "--port", port,
                       "--http-port", 0)
    assert done.returncode == 0
    assert f"127.0.0.1:{port}, which is taken at the moment" in done.stdout
    assert refused("--model-dir", models, "--host", "192.0.2.1").startswith(
        "--host 192.0.2.1 --port 8500 cannot be listened on (Cannot assign requested address)")
    assert refused("--model-dir", models, VOC_SERVE_HOST="no.host.invalid").startswith(
        "VOC_SERVE_HOST no.host.invalid --port 8500 cannot be listened on (")


def test_every_version_that_is_wanted_must_be_there_and_whole(models: Path, tmp_path: Path, refused: Refused,
                                                             serve: Serve) -> None:
    assert refused("--model-dir", models, "--versions", "9,11").startswith(
        "model 'tiny' has no version 11 (on disk: 9, 10): export it, or change --versions")
    assert refused("--model-dir", models, "--version-labels", "stable=9").startswith(
        "model 'tiny': the label 'stable' is version 9, which is not served (on disk: 9, 10; --versions latest)")
    (models / "09").mkdir()
    assert refused("--model-dir", models) == f"{models}/09 and {models}/9 are the same version: remove one"
    (models / "09").rmdir()
    (models / "9" / "variables" / "variables.index").unlink()
    assert serve("--check", "--model-dir", models).returncode == 0
    assert refused("--model-dir", models, "--versions", "all").startswith(
        f"{models}/9 has no variables/variables.index: export the model again")
    (models / "9" / "saved_model.pb").write_bytes(b"")
    assert "/9 has no saved_model.pb" in refused("--model-dir", models, "--versions", "9")
    data = next((models / "10" / "variables").glob("*.data*"))
    data.rename(tmp_path / "data")
    assert "/10 has no variables/variables.data-*: export the model again" in refused("--model-dir", models)
    data.symlink_to("nowhere")
    assert "/10 has no variables/variables.data-*" in refused("--model-dir", models)
    (tmp_path / "data").rename(data)
    (models / "10" / "assets" / "voc_cls.json").write_text("{}")
    assert refused("--model-dir", models).startswith(f"{models}/10/assets/voc_cls.json has no number as its")


def test_files_and_folders_of_the_configuration_must_be_usable(models: Path, tmp_path: Path, refused: Refused,
                                                               certificate: tuple[Path, Path]) -> None:
    pem, key = certificate
    assert refused("--model-dir", tmp_path / "none").startswith(f"--model-dir {tmp_path}/none is not there")
    assert refused("--model-dir", models, VOC_SERVE_KEYS_FILE="none").startswith("VOC_SERVE_KEYS_FILE none cannot be")
    assert "--tls-key" in refused("--model-dir", models, "--tls-cert", pem, "--tls-key", pem)
    assert "--client-ca" in refused("--model-dir", models, "--tls-cert", pem, "--tls-key", key, "--client-ca", key)
    assert refused("--model-dir", models, "--models-root", "none").startswith("--models-root: there is no folder none")
    assert refused("--model-dir", models, "--port-file", "none/port").startswith("--port-file: there is no folder")


def test_wrong_usage_is_told_from_what_lies_on_disk(models: Path, tmp_path: Path, refused: Refused) -> None:
    assert refused(code=2).startswith("no model to serve: pass --model-dir models/voc")
    assert refused("--model-dir", models, "--queue-size", 1, code=2).startswith("--queue-size 1 is below --max-batch")
    assert refused("--model-dir", models, "--port", 8600, "--http-port", 8600, code=2) == (
        "--port and --http-port are both 8600: give each its own, or -1 as --http-port for none")
    assert refused("--model-dir", models, VOC_SERVE_PROT="1", code=2) == (
        "VOC_SERVE_PROT: no such variable; did you mean VOC_SERVE_PORT?")
    (tmp_path / "serve.yaml").write_text("ports: {prot: 1}")
    assert refused("--config", tmp_path / "serve.yaml", code=2).startswith(
        f"--config {tmp_path}/serve.yaml: ports.prot: no such key")


def test_nothing_of_it_imports_tensorflow(models: Path) -> None:
    listing = ("import sys\nfrom serving.cli import ForeignLines, _main\nsys.argv[0] = 'voc-serve'\n"
               "_main(ForeignLines())\n"
               "print('tensorflow' in sys.modules, 'keras' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", listing, "--check", "--model-dir", models], capture_output=True,
                          text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["voc-serve: nothing wrong was found", "False False"]


def test_the_printed_configuration_can_be_served_from(models: Path, tmp_path: Path, serve: Serve) -> None:
    printed = serve("--model-dir", "tiny", "--print-config", cwd=models.parent, VOC_SERVE_PORT="0",
                      VOC_SERVE_HTTP_PORT="0", VOC_SERVE_QUEUE_SIZE="99")
    assert printed.returncode == 0
    (tmp_path / "serve.yaml").write_text(printed.stdout)
    done = serve("--config", "serve.yaml", "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "at most 99 in the server" in done.stdout


def test_a_reader_that_goes_away_is_no_error(models: Path) -> None:
    done = subprocess.run(f"{BIN}/voc-serve --model-dir {models} --print-config | head -1", shell=True,
                          capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("models:\n", "")
