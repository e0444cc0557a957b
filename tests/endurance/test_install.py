"""`make endurance`: voc-cls[serve-openvino] installed as users install it has no TensorFlow, and serves; and its wheels
for ARM64 exist.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.installed import ENVIRONMENT, ROOT, install, pip, sources
from tests.integration.serving.conftest import READY, jpeg, until
from tests.integration.serving.tiny_ir import export_tiny_ir

CONSTRAINTS = ("--constraint", ROOT / "constraints.txt")
ARM_LIBC = 35
"""Debian 12 has glibc 2.36; OpenVINO's wheels for ARM64 need 2.35."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"), "serve-openvino", *CONSTRAINTS)


def test_the_openvino_extra_serves_and_predicts_without_tensorflow(installed: Path, tmp_path: Path) -> None:
    model = tmp_path / "models" / "tiny"
    (model / "1").mkdir(parents=True)
    export_tiny_ir(model / "1")
    (tmp_path / "picture.jpg").write_bytes(jpeg(0))

    def run(*command: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([str(part) for part in command], cwd=tmp_path, env=ENVIRONMENT, capture_output=True,
                              text=True, check=False, timeout=120)

    for module in ("tensorflow", "keras", "tensorflow_serving", "scipy"):
        assert f"No module named '{module}'" in run(installed / "python", "-c", f"import {module}").stderr
    with (tmp_path / "output").open("w") as output:
        server = subprocess.Popen([installed / "voc-serve", "--model-dir", model, "--port", "0", "--http-port", "0"],
                                  stdout=output, stderr=output, env=ENVIRONMENT)
    try:
        until(lambda: server.poll() is not None or READY.search((tmp_path / "output").read_text()))
        ready = READY.search((tmp_path / "output").read_text())
        assert ready, (tmp_path / "output").read_text()
        asked = run(installed / "voc-predict", "picture.jpg", "--server", f"127.0.0.1:{ready['port']}", "--json")
        local = run(installed / "voc-predict", "picture.jpg", "--model", "models/tiny", "--json")
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    finally:
        server.kill()
    assert json.loads(local.stdout)["pictures"] == json.loads(asked.stdout)["pictures"], local.stderr + asked.stderr


def test_there_is_a_wheel_of_everything_for_arm64(installed: Path, tmp_path: Path) -> None:
    python, report = installed / "python", tmp_path / "report.json"
    pip(python, "wheel", "--no-deps", "--wheel-dir", tmp_path, sources(tmp_path))
    wheel, = tmp_path.glob("*.whl")
    platforms = [f"--platform=manylinux_2_{libc}_aarch64" for libc in range(ARM_LIBC, 16, -1)]
    pip(python, "install", "--dry-run", "--ignore-installed", "--target", tmp_path / "arm", "--report", report,
        "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", *platforms,
        "--platform=manylinux2014_aarch64", *CONSTRAINTS, f"voc-cls[serve-openvino,trace] @ {wheel.as_uri()}")
    urls = [entry["download_info"]["url"] for entry in json.loads(report.read_text())["install"]]
    files = sorted(url.rpartition("/")[2] for url in urls)
    print(*files, sep="\n")
    for name in ("openvino", "numpy", "grpcio", "opencv_python_headless"):
        assert any(file.startswith(f"{name}-") and "aarch64" in file for file in files), files
    assert all(file.endswith("-none-any.whl") or "aarch64" in file for file in files), files
