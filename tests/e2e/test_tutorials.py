"""The tutorials are true: their commands and programs are run in order, as they stand there, on generated images."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import socket
import subprocess
import traceback
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.bash import Program, bash
from tests.commands import command_in_process
from voc_cls.nets.registry import net_spec
from voc_cls.weights.formats.tf_checkpoint import write as write_checkpoint
from voc_cls.weights.naming.slim import slim_shapes
from voc_cls.weights.verify import filler

TUTORIALS = Path(__file__).parents[2] / "docs/tutorials"
SMALL = {"VOC_TRAIN_IMAGE_SIZE": "32", "VOC_TRAIN_STEPS": "30", "VOC_TRAIN_INFERENCE_PRECISION": "float32",
         "VOC_SERVE_MAX_BATCH_SIZE": "1", "VOC_SERVE_LAME_DUCK_SECONDS": "0"}
PAGES = {  # the first one makes the model that others serve
    "voc-xml": "no problem found", "folders": "accuracy", "csv": "run folder: runs.lists",
    "tf-slim": "mobilenet.safetensors", "tensorflow-serving": r"\(1, 20\)", "operate": "SERVING", "client": "NOT_FOUND",
    "develop": "TensorFlow"}
"""Page → what its commands print among other things."""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader, who does one page after the other."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "voc_cls").symlink_to(TUTORIALS.parents[1] / "voc_cls")
    random = np.random.default_rng(0)  # He's values, with which deep layers see something
    write_checkpoint(folder / "vgg_16.ckpt", {
        name: random.normal(0, (2 / np.prod(shape[:-1])) ** 0.5 * (len(shape) > 1), shape).astype(np.float32)
        for name, shape in slim_shapes(net_spec("vgg_16")).items() if "/fc" not in name})
    net = "mobilenet_v1_0.25_128"
    write_checkpoint(folder / f"{net}.ckpt", {
        name: filler(name, shape) for name, shape in slim_shapes(net_spec(net)).items()})
    return folder


def free_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def run_command(name: str, arguments: list[str], folder: Path) -> tuple[int, str, str]:
    if arguments[:1] == ["fetch"]:  # tests/integration/test_voc_weights.py downloads
        return 0, f"{folder / arguments[1].removesuffix('_conv')}.ckpt\n", ""
    done = command_in_process(name, *arguments, cwd=folder, **SMALL)
    return done.returncode, done.stdout, done.stderr


def run_python(blocks: list[str], arguments: list[str], folder: Path) -> tuple[int, str, str]:
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        try:
            exec(compile(blocks[int(arguments[0])], "tutorial", "exec"), {"__name__": "__main__"})
        except Exception:
            return 1, printed.getvalue(), traceback.format_exc()
    return 0, printed.getvalue(), ""


def run_page(name: str, folder: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    """Runs the blocks of a page as one script, in which a program in Python is a command of its own."""
    text = (TUTORIALS / f"{name}.md").read_text()
    ports = {"8500": free_port(), "8501": free_port()}
    for written, free in ports.items():
        text = text.replace(written, free)
    script, blocks = "", []
    for language, block in re.findall(r"^```(sh|python)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        script += block if language == "sh" else f"run-python {len(blocks)}\n"
        blocks += [block] if language == "python" else []
    commands: dict[str, Program] = {command: partial(run_command, command) for command in (
        "voc-data", "voc-weights", "voc-train", "voc-eval", "voc-export", "voc-predict")}
    return bash(script, folder, programs, {**commands, "run-python": partial(run_python, blocks)}, **SMALL,
                VOC_SERVE_PORT=ports["8500"], VOC_SERVE_HTTP_PORT=ports["8501"])


def test_every_tutorial_is_run():
    assert {page.stem for page in TUTORIALS.glob("*.md")} == {*PAGES, "index"}


@pytest.mark.parametrize("name", PAGES)
def test_a_tutorial_works_as_it_stands_there(name: str, reader: Path, tmp_path: Path):
    if name in ("tensorflow-serving", "operate", "client"):
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        if not (reader / "models/voc/1").is_dir():
            assert run_page("voc-xml", reader, tmp_path / "first").returncode == 0
    done = run_page(name, reader, tmp_path / "programs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(PAGES[name], done.stdout + done.stderr), done.stdout + done.stderr
