"""The house rules that a reader relies on: imports point one way, and help comes at once."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMMANDS = ("voc-train", "voc-eval", "voc-data", "voc-weights", "voc-nets", "voc-predict", "voc-export", "voc-serve")
MAY_IMPORT = {  # package → what of this project it may import beside itself; see docs/decisions.md
    "voc_cls/data": {"voc_cls.errors", "voc_cls.console", "voc_cls.data", "voc_cls.downloads", "voc_cls.files",
                     "voc_cls.paths", "voc_cls.pickles"},
    "voc_cls/nets": {"voc_cls.errors", "voc_cls.data", "voc_cls.nets"},
    "voc_cls/weights": {"voc_cls.errors", "voc_cls.console", "voc_cls.downloads", "voc_cls.files", "voc_cls.nets",
                        "voc_cls.paths", "voc_cls.pickles", "voc_cls.weights"},
    "serving": {"serving", "voc_cls.v1", "voc_cls.config", "voc_cls.console", "voc_cls.errors", "voc_cls.files",
                "voc_cls.image_header"},
    "voc_cls/v1": {"voc_cls.v1"},
}
HEAVY = ("tensorflow", "keras", "cv2", "lxml", "matplotlib", "sklearn", "onnx", "h5py", "jax", "aiohttp",
         "prometheus_client", "opentelemetry")
FORKING = {"fork", "forkpty", "Process", "Pool", "get_context", "set_start_method", "ProcessPoolExecutor"}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return {name for name in found if name.split(".")[0] in ("voc_cls", "serving", "export")}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str):
    for file in sorted((ROOT / package).rglob("*.py")):
        for name in imports(file):
            allowed = any(name == rule or name.startswith(f"{rule}.") for rule in MAY_IMPORT[package])
            assert allowed or name == "voc_cls", f"{file.relative_to(ROOT)} imports {name}"


def test_the_server_never_forks_a_process_that_has_tensorflow_and_grpc_in_it():
    for file in sorted((ROOT / "serving").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            used = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.ImportFrom):
                used = {alias.name for alias in node.names}
            assert not used & FORKING, f"{file.relative_to(ROOT)}: {used}"


def test_nothing_is_called_utils_and_no_file_is_long():
    files = [file for package in ("voc_cls", "serving", "export") for file in (ROOT / package).rglob("*.py")
             if "_pb2" not in file.name]
    assert len(files) > 30
    for file in files:
        assert not re.search(r"util|helper|common|misc", file.stem), file
        assert len(file.read_text().splitlines()) <= 300, file


@pytest.mark.parametrize("program", COMMANDS)
def test_help_comes_without_the_heavy_libraries(program: str):
    listing = ("import sys, runpy; sys.argv = [sys.argv[1], '--help']\n"
               "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
               "finally:\n    print(sorted(sys.modules), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", listing, str(BIN / program)], capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    loaded = set(ast.literal_eval(done.stderr.strip().splitlines()[-1]))
    assert not loaded & set(HEAVY)


def test_the_library_imports_in_a_moment():
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import voc_cls"], check=True, timeout=60)
    assert time.monotonic() - started < 5  # TensorFlow alone takes longer on a slow machine


def test_version_and_changelog_agree():
    from voc_cls.version import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
