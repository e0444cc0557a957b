"""The notebooks run from their first cell to their last, on small generated data, one after the other in one kernel."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import yaml
from nbclient import NotebookClient

from tests.commands import command_in_process
from tests.integration.serving.conftest import BIN, Server
from voc_cls.nets.registry import net_spec
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.naming.slim import slim_shapes

ROOT = Path(__file__).parents[3]
NOTEBOOKS = sorted((ROOT / "examples/notebooks").glob("*.ipynb"))
CUTS = {"vgg_16": "pool2", "vgg_19": "pool2", "resnet_v2_50": "block1"}
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def kernel() -> Iterator[NotebookClient]:
    """A kernel that imports TensorFlow once."""
    first = NotebookClient(nbformat.v4.new_notebook(), timeout=600, kernel_name="python3")
    first.create_kernel_manager()
    first.start_new_kernel()
    first.start_new_kernel_client()
    yield first
    first._cleanup_kernel()


@pytest.fixture
def run(kernel: NotebookClient, tmp_path: Path) -> Run:
    """Runs a notebook in the test's folder with values for its first cell; returns what it shows."""

    def run(name: str, **values: object) -> list[dict[str, Any]]:
        notebook = nbformat.read(ROOT / f"examples/notebooks/{name}.ipynb", as_version=4)
        first = next(place for place, cell in enumerate(notebook.cells) if cell.cell_type == "code")
        given = "\n".join(f"{key} = {value!r}" for key, value in values.items())
        assert all(f"{key} = " in notebook.cells[first].source for key in values)
        notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(given))
        place = f"os.chdir({str(tmp_path)!r})\nos.environ['PATH'] = {os.pathsep.join([str(BIN), os.environ['PATH']])!r}"
        notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import os\n{place}\n%reset -f"))
        client = NotebookClient(notebook, timeout=600, km=kernel.km)
        client.kc = kernel.kc
        client.execute(cleanup_kc=False)
        return [output.get("data", output) for cell in notebook.cells[1:] for output in cell.get("outputs", [])]

    return run


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The convolutions of VGG-16 with random values, as a TF-Slim checkpoint."""
    path, random = tmp_path_factory.mktemp("weights") / "vgg_16.ckpt", np.random.default_rng(0)
    write_checkpoint(path, {
        name: random.normal(0, (2 / np.prod(shape[:-1])) ** 0.5 * (len(shape) > 1), shape).astype(np.float32)
        for name, shape in slim_shapes(net_spec("vgg_16")).items() if "/fc" not in name})
    return str(path)


@pytest.fixture(scope="module")
def small_configs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The configs with the first blocks of their networks only, on small images."""
    folder = tmp_path_factory.mktemp("configs")
    for file in (ROOT / "configs").glob("*.yaml"):
        config = yaml.safe_load(file.read_text())
        if (net := config["network"]["net"]) in CUTS:
            config["network"] |= {"cut": CUTS[net], "image_size": 32, "weights": "none"}
            config["network"].pop("exclude", None)
            if config["network"].get("head") == "fc" and not net.startswith("resnet"):
                config["network"]["head"] = "gap"
            config.setdefault("training", {})["batch_size"] = 4
        (folder / file.name).write_text(yaml.safe_dump(config))
    return str(folder)


def test_train_and_look(run: Run, devkit: Path, weights: str, tmp_path: Path):
    shown = run("train_and_look", ROOT=str(devkit), WEIGHTS=weights, IMAGE_SIZE=32, STEPS=20)
    assert (tmp_path / "models/voc/1/saved_model.pb").is_file()
    assert "<html" in (tmp_path / "report.html").read_text()
    assert sum("text/html" in output for output in shown) >= 6  # data, split, history, report, two lots of predictions


def test_bring_your_own_annotations(run: Run, weights: str, tmp_path: Path):
    shown = run("bring_your_own", WEIGHTS=weights, IMAGE_SIZE=32, STEPS=20, FEWEST=5)
    assert (tmp_path / "models/own/1/model.xml").is_file()
    assert any("no problem found" in output.get("text", "") for output in shown)


def test_ask_a_server(run: Run, server: Server, devkit: Path):
    shown = run("ask_a_server", ADDRESS=server.address, HTTP=server.http, IMAGES=str(devkit / "JPEGImages"))
    printed = "".join(output.get("text", "") for output in shown)
    for said in ("20 labels", "StatusCode.NOT_FOUND", "images/s in a stream", "engine"):
        assert said in printed


def test_the_lectures(run: Run, small_configs: str, tmp_path: Path):
    assert command_in_process("voc-data", "demo", tmp_path, "--pictures", 120).returncode == 0
    run("lectures", ROOT=str(tmp_path / "VOCdevkit/VOC2007"), CONFIGS=small_configs, STEPS=2)
    assert len(list((tmp_path / "runs/lectures").glob("*/evaluation.json"))) == 7


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_without_outputs_and_is_run_here(path: Path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert f'run("{path.stem}"' in Path(__file__).read_text()
