"""voc-predict: tables for a person, lines for a pipe, JSON for a program, a sheet for the wall."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from tests.commands import BIN, interruptible_children
from tests.commands import command_in_process as command
from tests.integration.serving.conftest import Server, jpeg
from tests.integration.serving.scripted_server import Scripted, serving
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
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty pictures in folders below it."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(30):
        (below := folder / f"{number % 3}").mkdir(exist_ok=True)
        (below / f"{number:02}.jpg").write_bytes(jpeg(number))
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


def test_a_proxy_is_not_asked_for_a_server_on_this_machine(server: Server, folder: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    asked = command("voc-predict", folder / "b.jpg", "--server", server.address, "--wait", 0)
    assert (asked.returncode, asked.stderr) == (0, "")


def test_json_has_every_label_of_every_picture(server: Server, folder: Path, prediction: Prediction) -> None:
    asked = command("voc-predict", folder, "--server", server.address, "--json", "--top-k", 0)
    pictures = json.loads(asked.stdout)["pictures"]
    assert [Path(picture["file"]).name for picture in pictures] == ["a.JPG", "b.jpg", "c.jpeg"]
    assert [set(picture["labels"][0]) for picture in pictures] == [{"label", "probability"}] * 3
    assert {one["label"]: one["probability"] for one in pictures[1]["labels"]} == pytest.approx(
        {scored.label: scored.probability for scored in prediction.labels}, abs=1e-6)
    assert (pictures[1]["model"], pictures[1]["version"]) == ("tiny", 10)


def on_a_terminal(*args: object, stdout: int | None = None) -> str:
    """What a command prints on a terminal of 80 columns; with another stdout, what it prints on stderr."""
    outer, inner = pty.openpty()
    process = subprocess.Popen([str(BIN / "voc-predict"), *map(str, args)], stdout=stdout or inner, stderr=inner,
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


def test_a_person_sees_how_far_a_long_list_is_and_the_tables_stay_whole(server: Server, many: Path) -> None:
    printed = on_a_terminal(many, "--server", server.address, "--recursive", "--top-k", 1)
    assert re.search(r"\d+/30.* pictures", printed)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed)
    for number in range(30):
        assert re.search(rf"\r{many}/\d/{number:02}\.jpg *$", plain, re.MULTILINE), plain
    assert re.search(r"\d+/30.* pictures", on_a_terminal(many, "--server", server.address, "--recursive",
                                                         stdout=subprocess.DEVNULL))


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


def test_broken_pictures_are_told_one_by_one_and_the_others_answered(server: Server, folder: Path,
                                                                     tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.jpg").write_bytes(b"no picture")
    files = (tmp_path / "0.jpg", folder / "b.jpg", tmp_path / "none.jpg", tmp_path / "1.jpg", folder / "c.jpeg")
    asked = command("voc-predict", *files, "--server", server.address, "--top-k", 1)
    assert asked.returncode == 1
    assert [line.split("\t")[0] for line in asked.stdout.splitlines()] == [str(files[1]), str(files[4])]
    told = asked.stderr.splitlines()
    assert [line.split(": error: ")[1].split(" ")[:2] for line in told[:3]] == [
        [str(files[0]), "is"], [str(files[2]), "does"], [str(files[3]), "is"]]
    assert told[3:] == ["voc-predict: error: 3 of 5 pictures failed, see above"]

    asked = command("voc-predict", *files, "--server", server.address, "--json", "--sheet", tmp_path / "sheet.png")
    pictures = json.loads(asked.stdout)["pictures"]
    assert asked.returncode == 1
    assert [set(picture) - {"error"} for picture in pictures] == [
        {"file", "model", "version", "labels", "activation", "calibration"}] * 5
    assert ["error" in picture for picture in pictures] == [True, False, True, True, False]
    assert pictures[0]["labels"] == []
    assert "sheet.png: 2 pictures drawn" in asked.stderr


def test_folders_below_a_folder_are_looked_into_only_on_request(server: Server, many: Path) -> None:
    asked = command("voc-predict", many, "--server", server.address)
    assert asked.returncode == 2
    assert asked.stderr.endswith("but with 3 subfolders: give one that has some; --recursive includes subfolders\n")
    asked = command("voc-predict", many, "--server", server.address, "--recursive", "--top-k", 1)
    assert asked.returncode == 0
    assert [line.split("\t")[0] for line in asked.stdout.splitlines()] == [
        str(file) for file in sorted(many.rglob("*.jpg"))]


def test_a_file_of_json_or_csv_has_what_is_printed_otherwise(server: Server, many: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    asked = (many, tmp_path / "broken.jpg", "--recursive", "--server", server.address, "--top-k", 2)
    printed = command("voc-predict", *asked, "--json")
    written = command("voc-predict", *asked, "--json-file", tmp_path / "answers.json")
    assert (written.returncode, written.stdout) == (1, "")
    assert f"{tmp_path}/answers.json: 31 pictures" in written.stderr
    right, found = json.loads(printed.stdout), json.loads((tmp_path / "answers.json").read_text())
    assert (tmp_path / "answers.json").read_text() == json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    assert [one["file"] for one in found["pictures"]] == [one["file"] for one in right["pictures"]]

    assert command("voc-predict", *asked, "--csv", tmp_path / "answers.csv").returncode == 1
    with (tmp_path / "answers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 30 + 1
    assert (rows[-1]["label"], rows[-1]["error"].split(" ")[1:4]) == ("", ["is", "not", "a"])
    labels = [label["label"] for one in right["pictures"] for label in one["labels"]]
    assert [row["label"] for row in rows[:-1]] == labels
    assert (rows[0]["file"], rows[0]["model"], rows[0]["version"]) == (f"{many}/0/00.jpg", "tiny", "10")
    assert 0 < float(rows[0]["probability"]) < 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "answers.json", "broken.jpg"]


@pytest.mark.parametrize(("number", "code", "said"), [(signal.SIGINT, 130, "interrupted"),
                                                      (signal.SIGTERM, 143, "stopped by SIGTERM")])
def test_stopped_it_leaves_no_half_written_file(many: Path, tmp_path: Path, number: signal.Signals, code: int,
                                                said: str) -> None:
    (tmp_path / "old.csv").write_text("what was there\n")
    with serving(Scripted(seconds=0.2)) as address, interruptible_children():
        process = subprocess.Popen([BIN / "voc-predict", many, "--recursive", "--server", address, "--csv",
                                    tmp_path / "old.csv"], stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while len(os.listdir(tmp_path)) < 2:  # the file that is being written
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, told = process.communicate(timeout=10)
        assert process.returncode == code
        assert said in told
        assert "Traceback" not in told
        assert os.listdir(tmp_path) == ["old.csv"]
        assert (tmp_path / "old.csv").read_text() == "what was there\n"


def test_memory_does_not_grow_with_the_number_of_pictures(tmp_path: Path) -> None:
    one = tmp_path / "0.jpg"
    one.write_bytes(jpeg(0) + bytes(300_000))  # what follows the end of a JPEG is ignored
    for number in range(1, 1000):
        os.link(one, tmp_path / f"{number}.jpg")

    def most_memory(pictures: str, address: str) -> int:
        """MiB."""
        process = subprocess.Popen([BIN / "voc-predict", *sorted(tmp_path.glob(pictures)), "--server", address],
                                   stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_maxrss // 1024

    with serving(Scripted()) as address:
        few, all_of_them = most_memory("1?.jpg", address), most_memory("*.jpg", address)  # 3 MB and 300 MB
    assert all_of_them < few + 60


def test_labels_can_be_chosen_by_a_number_or_by_the_exported_thresholds(server: Server, folder: Path,
                                                                        prediction: Prediction) -> None:
    asked = (folder / "b.jpg", "--server", server.address, "--top-k", 0)
    above = [scored.label for scored in prediction.labels if scored.probability >= 0.5]  # the tiny model's are all 0.5
    assert 0 < len(above) < 20
    for thresholds in ("0.5", "exported"):
        printed = command("voc-predict", *asked, "--thresholds", thresholds).stdout
        assert [line.split("\t")[1] for line in printed.splitlines()] == above
    nothing = command("voc-predict", *asked, "--thresholds", "1", "--json")
    assert json.loads(nothing.stdout)["pictures"][0]["labels"] == []
    assert nothing.returncode == 0


def test_model_and_version_are_asked_for(server: Server, folder: Path) -> None:
    asked = (folder / "b.jpg", "--server", server.address)
    assert command("voc-predict", *asked, "--model", "tiny", "--version", 10).returncode == 0
    for flags in (("--model", "huge"), ("--version", 3), ("--version-label", "stable")):
        refused = command("voc-predict", *asked, *flags)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert re.search(f"(NOT_FOUND|INVALID_ARGUMENT): .*{flags[1]}", refused.stderr)


def test_names_that_are_not_utf_8_come_back_as_they_are(server: Server, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    Path(os.fsdecode(name)).write_bytes(jpeg(0))
    for flags in ((), ("--json",)):
        done = subprocess.run([BIN / "voc-predict", tmp_path, "--server", server.address, *flags], capture_output=True,
                              check=False)
        assert (done.returncode, name in done.stdout) == (0, True), done.stderr


@pytest.mark.parametrize(("args", "code", "message"), [
    (["none.jpg"], 1, "none.jpg does not exist: give the path of a JPEG, PNG, BMP, GIF, WebP or TIFF file"),
    (["notes.txt"], 1,
     "notes.txt is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: 10 bytes that start with 'no pictu'"),
    (["b.jpg", "--run", "runs/x"], 2,
     "--server and --run exclude each other: give --server to ask a server, or --run to predict without one"),
    (["b.jpg", "--threshold", "2"], 2, "--threshold 2 is not a probability, 0 to 1"),
    (["b.jpg", "--top-k", "-1"], 2, "--top-k -1: must be at least 0"),
    (["b.jpg", "--sheet", "a.pdf"], 2, "--sheet a.pdf must end in .png"),
    (["b.jpg", "--sheet", "nowhere/a.png"], 2,
     "--sheet nowhere/a.png: the folder nowhere does not exist; make it first"),
    (["b.jpg", "--json", "--csv", "a.csv"], 2, "--json and --csv exclude each other: give one of them"),
    (["b.jpg", "--csv", "nowhere/a.csv"], 2, "--csv nowhere/a.csv: the folder nowhere does not exist; make it first"),
    (["b.jpg", "--thresholds", "some"], 2, "--thresholds some is neither exported nor a probability, 0 to 1"),
    (["b.jpg", "--version", "1", "--version-label", "a"], 2,
     "--version and --version-label both choose a version: give one of them"),
    (["b.jpg", "--client-cert", "a.pem"], 2, "--client-cert and --client-key belong together: give both or neither"),
    (["b.jpg", "--ca", "none.pem"], 1,
     "the CA file none.pem cannot be read: No such file or directory; give a PEM file"),
    (["b.jpg", "--token", "a", "--api-key", "b"], 2,
     "--token and --api-key exclude each other: give one of them"),
    (["b.jpg", "--server", "https://box:8501"], 2, "--server https://box:8501 is a URL, where HOST:PORT of voc-serve's "
     "gRPC port is expected: write box:8501 with --tls, if that is not the port of its REST API"),
    ([], 2, "no picture given: name a file or a folder"),
])
def test_errors_are_one_sentence(server: Server, folder: Path, args: list[str], code: int, message: str) -> None:
    address = () if "--server" in args else ("--server", server.address)
    asked = command("voc-predict", *args, *address, cwd=folder)
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
