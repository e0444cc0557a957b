"""What lies in voc_cls/v1 is what proto/ says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from voc_cls.v1 import classifier_pb2_grpc

ROOT = Path(__file__).parents[2]
GENERATED = ("classifier_pb2.py", "classifier_pb2.pyi", "classifier_pb2_grpc.py")


def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    tools = f"grpcio-tools=={classifier_pb2_grpc.GRPC_GENERATED_VERSION}"  # as make proto
    installed = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                                "--no-deps", "--target", tmp_path / "tools", tools],
                               capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip cannot get {tools}: {installed.stderr.splitlines()[-1]}")
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-Iproto", f"--python_out={out}", f"--pyi_out={out}",
                    f"--grpc_python_out={out}", "proto/voc_cls/v1/classifier.proto"], cwd=ROOT, check=True,
                   env={**os.environ, "PYTHONPATH": str(tmp_path / "tools")})
    assert sorted(path.name for path in (out / "voc_cls/v1").iterdir()) == sorted(GENERATED)
    for name in GENERATED:
        assert (out / "voc_cls/v1" / name).read_text() == (ROOT / "voc_cls/v1" / name).read_text(), name
