"""The house rules that a reader relies on: imports point one way, and help comes at once."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
COMMANDS = ("voc-train", "voc-tune", "voc-eval", "voc-data", "voc-weights", "voc-nets", "voc-predict", "voc-export",
            "voc-serve")
PACKAGES = ("voc_cls", "serving", "export")
SHARED = {"voc_cls.errors", "voc_cls.files", "voc_cls.config", "voc_cls.console", "voc_cls.image_decoder",
          "voc_cls.image_header", "voc_cls.model_metadata", "voc_cls.openvino_core", "voc_cls.stores",
          "voc_cls.usage", "voc_cls.version"}
"""The small modules that every part may import, the server included; they import nothing heavy."""
TRAINING_SHARED = {*SHARED, "voc_cls.downloads", "voc_cls.files", "voc_cls.pickles"}
DATA = {*TRAINING_SHARED, "voc_cls.data"}
NETS = {*DATA, "voc_cls.nets"}
WEIGHTS, EVALUATION = {*NETS, "voc_cls.weights"}, {*NETS, "voc_cls.prediction", "voc_cls.evaluation"}
TRAINING = {*WEIGHTS, *EVALUATION, "voc_cls.ray_cluster", "voc_cls.training"}
MAY_IMPORT = {  # package → what of this project it may import; docs/decisions.md has the reasons
    "voc_cls/data": DATA,
    "voc_cls/demo": {*DATA, "voc_cls.demo"},
    "voc_cls/nets": NETS,
    "voc_cls/weights": WEIGHTS,
    "voc_cls/evaluation": EVALUATION,
    "voc_cls/training": TRAINING,
    "voc_cls/v1": {"voc_cls.v1"},
    "voc_cls/prediction": set(),
    "voc_cls/loaded_model": {*SHARED, "voc_cls.data.files", "voc_cls.prediction"},
    "voc_cls/pre_annotations": {"voc_cls.files", "voc_cls.prediction", "voc_cls.stores"},
    "voc_cls/ray_cluster": {"voc_cls.errors", "voc_cls.console"},
    "voc_cls/batch_prediction": {*SHARED, "voc_cls.loaded_model", "voc_cls.ray_cluster"},
    "voc_cls/client": {*SHARED, "voc_cls.v1", "voc_cls.prediction", "voc_cls.client"},
    "voc_cls/cli": {*TRAINING, "voc_cls.client", "voc_cls.demo", "voc_cls.loaded_model", "voc_cls.batch_prediction",
                    "voc_cls.pre_annotations", "voc_cls.cli"},
    "export": {*TRAINING, "export"},
    "serving": {*SHARED, "voc_cls.v1", "serving"},
}
FACADE = {"voc_cls"}
"""The public API stands above everything, `export` included; nothing imports it."""
HEAVY = ("tensorflow", "keras", "cv2", "lxml", "matplotlib", "sklearn", "scipy", "cleanlab", "pandas", "imagehash",
         "onnx", "openvino", "h5py", "jax", "aiohttp", "prometheus_client", "opentelemetry", "optuna", "fsspec", "ray",
         "mlflow", "sqlalchemy")
FORKING = {"fork", "forkpty", "Process", "Pool", "get_context", "set_start_method", "ProcessPoolExecutor"}


def module_name(file: Path) -> str:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))
           if "_pb2" not in file.name}


def imports(file: Path) -> set[str]:
    """Modules of this project that a file imports: at the top, inside functions and under TYPE_CHECKING alike."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= submodules
            if len(submodules) < len(node.names):
                found.add(node.module)
    return {name for name in found if name.split(".")[0] in PACKAGES}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules of one import circle, the first of them repeated at the end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_one_way(package: str):
    files = [file for name, file in MODULES.items() if name == package.replace("/", ".")
             or name.startswith(f"{package.replace('/', '.')}.")]
    assert files
    for file in files:
        for name in imports(file):
            allowed = any(name == rule or name.startswith(f"{rule}.") for rule in MAY_IMPORT[package])
            assert allowed, f"{file.relative_to(ROOT)} imports {name}"


def test_every_package_has_its_rule():
    for name in MODULES.keys() - FACADE - TRAINING_SHARED:
        assert any(f"{name}.".startswith(f"{package.replace('/', '.')}.") for package in MAY_IMPORT), name


def test_the_small_shared_modules_import_each_other_only():
    for name in TRAINING_SHARED:
        assert imports(MODULES[name]) <= TRAINING_SHARED, name


def test_no_import_circle_not_even_a_lazy_one_or_one_for_types():
    assert circle({name: imports(file) for name, file in MODULES.items()}) == []


def test_a_circle_would_be_found():
    assert set(circle({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()})) == {"a", "b", "c"}
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_the_server_never_forks_a_process_that_has_tensorflow_and_grpc_in_it():
    for file in sorted((ROOT / "serving").rglob("*.py")):
        if file == ROOT / "serving/decoding/worker.py":  # has neither in it
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            used = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.ImportFrom):
                used = {alias.name for alias in node.names}
            assert not used & FORKING, f"{file.relative_to(ROOT)}: {used}"


def test_the_server_imports_no_tensorflow_but_in_an_engine():
    """Nor tensorflow_serving, whose messages serving.tensorflow_protos has."""
    modules = [name for name in MODULES if name.startswith("serving.") and name != "serving.engine.tensorflow"]
    importing = ("import importlib, sys; sys.modules.update(tensorflow=None, tensorflow_serving=None)\n"
                 "for name in sys.argv[1:]: importlib.import_module(name)")
    subprocess.run([sys.executable, "-c", importing, *modules], check=True, timeout=60)
    for name in modules:
        for node in ast.walk(ast.parse(MODULES[name].read_text())):
            named = ([alias.name for alias in node.names] if isinstance(node, ast.Import)
                     else [node.module or ""] if isinstance(node, ast.ImportFrom) else [])
            assert not [module for module in named if re.match("tensorflow|keras", module)], name


def test_the_process_that_forks_the_decoders_has_no_tensorflow_no_grpc_and_one_thread():
    listing = ("import sys, threading, serving.decoding.worker; print(sorted(sys.modules)); "
               "print(open('/proc/self/status').read().partition('Threads:')[2].split()[0])")
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True, timeout=60,
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
    modules, threads = done.stdout.splitlines()
    assert not {"tensorflow", "grpc", "asyncio", "google.protobuf"} & set(ast.literal_eval(modules))
    assert threads == "1"


def test_nothing_is_called_utils_and_no_file_is_long():
    assert len(MODULES) > 30
    for file in MODULES.values():
        assert not re.search(r"util|helper|common|misc", file.stem), file
        assert len(file.read_text().splitlines()) <= 500, file


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
    done = subprocess.run([sys.executable, "-c", "import sys, voc_cls; print(*sys.modules)"], capture_output=True,
                          text=True, check=True, timeout=60)
    assert not set(done.stdout.split()) & set(HEAVY)


def test_version_and_changelog_agree():
    from voc_cls.version import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
