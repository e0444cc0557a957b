"""voc-predict: tables for a person, lines for a pipe, JSON for a program, a sheet for the wall."""

from __future__ import annotations

import json
import os
import pty
import re
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import BIN, command
from tests.integration.serving.conftest import Server, jpeg
from voc_cls.client import Client, Prediction

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures and something else."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(("b.jpg", "a.JPG", "c.jpeg")):
        (folder / name).write_bytes(jpeg(number))
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def prediction(server: Server, folder: Path) -> Prediction:
    """What the server says of b.jpg."""
    with Client(server.address) as client:
        return client.classify([folder / "b.jpg"])[0]


def test_a_pipe_gets_one_line_per_label_with_tabs(server: Server, folder: Path, prediction: Prediction) -> None:
    asked = command("voc-predict", folder / "b.jpg", "--server", server.address, "--top-k", 3)
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout.splitlines() == [f"{folder}/b.jpg\t{scored.label}\t{scored.probability:.4f}"
                                         for scored in prediction.labels[:3]]


def test_json_has_every_label_of_every_picture(server: Server, folder: Path, prediction: Prediction) -> None:
    asked = command("voc-predict", folder, "--server", server.address, "--json", "--top-k", 0)
    pictures = json.loads(asked.stdout)["pictures"]
    assert [Path(picture["file"]).name for picture in pictures] == ["a.JPG", "b.jpg", "c.jpeg"]
    assert [set(picture["labels"][0]) for picture in pictures] == [{"label", "probability"}] * 3
    assert {one["label"]: one["probability"] for one in pictures[1]["labels"]} == pytest.approx(
        {scored.label: scored.probability for scored in prediction.labels}, abs=1e-6)
    assert (pictures[1]["model"], pictures[1]["version"]) == ("tiny", 10)


def on_a_terminal(*args: object) -> str:
    """What a command prints on a terminal of 80 columns."""
    outer, inner = pty.openpty()
    process = subprocess.Popen([str(BIN / "voc-predict"), *map(str, args)], stdout=inner, stderr=inner,
                               env={**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"})
    os.close(inner)
    printed = b""
    try:
        while block := os.read(outer, 65536):
            printed += block
    except OSError:  # how a terminal says that its last writer has gone
        pass
    assert process.wait(20) == 0
    return printed.decode().replace("\r\n", "\n")


def test_a_person_gets_a_table_of_80_columns_in_which_the_seen_labels_stand_out(
        server: Server, folder: Path, prediction: Prediction) -> None:
    threshold = (prediction.labels[1].probability + prediction.labels[2].probability) / 2
    printed = on_a_terminal(folder / "b.jpg", "--server", server.address, "--threshold", threshold)
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in printed.splitlines()]
    assert max(map(len, plain)) <= 80
    rows = [line for line in printed.splitlines() if " %" in line and "█" in line]
    assert len(rows) == 5
    for row, scored in zip(rows, prediction.labels, strict=False):
        assert scored.label in row
        assert f"{100 * scored.probability:.1f} %" in row
        assert ("\x1b[1;32m" in row) == (scored.probability >= threshold)
    assert "model tiny, version 10" in plain[-1]


def test_the_sheet_is_a_picture_with_a_cell_for_each(server: Server, folder: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "answers.png"
    asked = command("voc-predict", folder, "--server", server.address, "--sheet", sheet)
    assert asked.returncode == 0, asked.stderr
    assert f"{sheet}: 3 pictures drawn" in asked.stderr
    content = sheet.read_bytes()
    width, height = struct.unpack(">II", content[16:24])
    assert content.startswith(PNG_MAGIC)
    assert (width > 1000, height > 400) == (True, True)
    assert os.listdir(tmp_path) == ["answers.png"]


@pytest.mark.parametrize(("args", "code", "message"), [
    (["none.jpg"], 1, "none.jpg is not there: give the path of a JPEG, PNG, BMP or GIF file"),
    (["notes.txt"], 1, "notes.txt is not a JPEG, PNG, BMP or GIF picture: 10 bytes that start with b'no pictu'"),
    (["b.jpg", "--run", "runs/x"], 2, "--server and --run are two ways of asking: give one of them"),
    (["b.jpg", "--threshold", "2"], 2, "--threshold 2 is not a probability, 0 to 1"),
    (["b.jpg", "--top-k", "-1"], 2, "--top-k -1 is below 0"),
    (["b.jpg", "--sheet", "a.pdf"], 2, "--sheet a.pdf must end in .png"),
    (["b.jpg", "--sheet", "nowhere/a.png"], 1, "nowhere/a.png cannot be written: No such file or directory"),
    ([], 2, "no picture given: name a file or a folder"),
])
def test_errors_are_one_sentence(server: Server, folder: Path, args: list[str], code: int, message: str) -> None:
    asked = command("voc-predict", *args, "--server", server.address, cwd=folder)
    assert asked.returncode == code
    assert asked.stderr.splitlines()[-1] == f"voc-predict: error: {message}"
    assert "Traceback" not in asked.stderr


def test_an_address_where_nobody_is_and_a_folder_without_pictures_are_told(folder: Path, tmp_path: Path) -> None:
    asked = command("voc-predict", folder / "b.jpg", "--server", "localhost")
    assert (asked.returncode, asked.stderr) == (
        2, "voc-predict: error: --server localhost is not HOST:PORT, such as 127.0.0.1:8500\n")
    begun = time.monotonic()
    asked = command("voc-predict", folder / "b.jpg", "--server", "127.0.0.1:1", "--wait", 0)
    assert asked.returncode == 1
    assert asked.stderr.startswith("voc-predict: error: no server answers at 127.0.0.1:1 (")
    assert time.monotonic() - begun < 10
    asked = command("voc-predict", tmp_path)
    assert asked.returncode == 2
    assert "is a folder without pictures" in asked.stderr
