"""Models and images that are in S3: polled, copied, verified and served like those of a folder."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import command_in_process, variables_set
from tests.integration.serving.conftest import Refused, Serve, Server, Start, jpeg, until
from tests.integration.serving.object_store import BUCKET, ObjectStore
from tests.integration.serving.served_models import ServedModels
from tests.integration.serving.test_versions import Callers
from voc_cls.files import file_digests
from voc_cls.stores import store_url

POLL = 0.2
URL = f"s3://{BUCKET}/models/tiny"
VARIABLES = "variables/variables.data-00000-of-00001"


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    store = ObjectStore()
    with variables_set(store.environment):
        yield store
    store.end()


@pytest.fixture(scope="module")
def version(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with the list of its files, as voc-export writes it."""
    folder = shutil.copytree(model / "10", tmp_path_factory.mktemp("version") / "1")
    metadata = folder / "assets/voc_cls.json"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != metadata)
    names = [str(path.relative_to(folder)) for path in files]
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {
        "files": dict(zip(names, file_digests(files), strict=True))}))
    return folder


@pytest.fixture(scope="module")
def models(store: ObjectStore, version: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModels]:
    """A server of version 1, which is in the store."""
    store.upload(version, "models/tiny/1")
    starter = Start(tmp_path_factory.mktemp("server"))
    server = starter(None, "--model-dir", URL, "--poll-seconds", POLL, "--max-batch-size", 2).wait_until_ready()
    yield ServedModels(server, Path(URL))
    starter.end_all()


def log(server: Server) -> str:
    return server.errors.read_text()


def test_a_version_is_taken_once_it_is_complete_and_no_call_fails(models: ServedModels, store: ObjectStore,
                                                                  version: Path) -> None:
    (old,) = before = models.states("tiny")
    new = old + 1
    with Callers(models, "tiny", 2) as callers:
        store.upload(version, f"models/tiny/{new}", without=VARIABLES)
        until(lambda: f"{URL}/{new} is not served until it changes: it has no {VARIABLES} yet" in log(models.server))
        assert models.states("tiny") == before
        store.put(f"models/tiny/{new}/{VARIABLES}", (version / VARIABLES).read_bytes())
        models.until("tiny", {new: "AVAILABLE"})
        until(lambda: callers.versions[-1:] == [new])
    assert callers.errors == []
    assert set(callers.versions) == {old, new}


def test_a_version_with_a_damaged_file_is_not_served(models: ServedModels, store: ObjectStore, version: Path) -> None:
    before = models.states("tiny")
    store.upload(version, "models/tiny/1000", without=VARIABLES)
    content = (version / VARIABLES).read_bytes()
    store.put(f"models/tiny/1000/{VARIABLES}", bytes([content[0] ^ 1]) + content[1:])
    until(lambda: f"{URL}/1000 is not served until it changes: its {VARIABLES} is not the one" in log(models.server))
    assert models.states("tiny") == before


def test_a_store_that_is_gone_is_a_metric_and_the_old_version_goes_on(models: ServedModels, store: ObjectStore,
                                                                      version: Path) -> None:
    answering = models.classify("tiny")
    assert models.server.metric("voc_serve_folder_unreadable", model="tiny") == 0
    store.end()
    until(lambda: models.server.metric("voc_serve_folder_unreadable", model="tiny") == 1)
    assert f"{URL} cannot be read (" in log(models.server)
    with Callers(models, "tiny", 2) as callers:
        store.start()
        store.upload(version, "models/tiny/2000")
        models.until("tiny", {2000: "AVAILABLE"})
    assert callers.errors == []
    assert set(callers.versions) <= {answering, 2000}
    until(lambda: models.server.metric("voc_serve_folder_unreadable", model="tiny") == 0)


@pytest.mark.usefixtures("store")
def test_a_store_that_has_no_model_or_is_not_there_ends_a_start(refused: Refused) -> None:
    assert refused("--model-dir", f"s3://{BUCKET}/nothing") == (
        f"--model-dir s3://{BUCKET}/nothing has no complete version of a model in it (a folder named by a whole number)"
        ": upload one that voc-export wrote")
    assert refused("--model-dir", "s3://nowhere/voc") == (
        "s3://nowhere/voc cannot be read (The specified bucket does not exist): check the address and the credentials, "
        "and that the store can be reached")


def test_several_models_of_a_file_may_be_in_a_store(store: ObjectStore, version: Path, model: Path, serve: Serve,
                                                    tmp_path: Path) -> None:
    store.upload(version, "models/several/4")
    (tmp_path / "models.yaml").write_text(
        f"- {{path: {model}}}\n- {{name: stored, path: s3://{BUCKET}/models/several, labels: {{stable: 4}}}}\n")
    done = serve("--models-file", tmp_path / "models.yaml", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("stored ")]
    assert line.split()[1:3] == ["4", "stable=4"]
    assert line.endswith(f"s3://{BUCKET}/models/several")
    (tmp_path / "serve.yaml").write_text(f"models:\n  model_dir: s3://{BUCKET}/models/several\n")
    printed = serve("--config", tmp_path / "serve.yaml", "--print-config").stdout
    assert f"  model_dir: s3://{BUCKET}/models/several  #" in printed


@pytest.fixture(scope="module")
def images(store: ObjectStore) -> str:
    """s3://…/images with two pictures, a broken one, a text file and a subfolder."""
    for name, content in (("b.jpg", jpeg(1)), ("a.jpg", jpeg(0)), ("broken.png", b"no picture"), ("notes.txt", b""),
                          ("more/c.JPG", jpeg(2))):
        store.put(f"images/{name}", content)
    return f"s3://{BUCKET}/images"


@pytest.mark.parametrize("by", ["server", "model"])
def test_voc_predict_reads_images_of_a_store_and_reports_the_broken_one(images: str, model: Path, server: Server,
                                                                        by: str) -> None:
    source = ("--model", model) if by == "model" else ("--server", server.address)
    done = command_in_process("voc-predict", images, "--recursive", "--json", *source)
    assert done.returncode == 1
    answers = json.loads(done.stdout)["pictures"]
    assert [answer["file"].removeprefix(f"{images}/") for answer in answers] == [
        "a.jpg", "b.jpg", "broken.png", "more/c.JPG"]
    assert [len(answer["labels"]) for answer in answers] == [5, 5, 0, 5]
    assert re.match(f"{images}/broken.png:? is not a JPEG, PNG, ", answers[2]["error"])
    assert f"voc-predict: error: {answers[2]['error']}\n" in done.stderr
    assert f"voc-predict: note: s3://{BUCKET}/images: left out 1 .txt file" in done.stderr


def test_a_single_image_of_a_store_and_one_that_is_not_there(images: str, model: Path) -> None:
    done = command_in_process("voc-predict", f"{images}/a.jpg", "--model", model)
    assert (done.returncode, done.stdout.count("\n")) == (0, 5), done.stderr
    done = command_in_process("voc-predict", f"{images}/nothing.jpg", "--model", model)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{images}/nothing.jpg cannot be read (" in done.stderr


@pytest.mark.parametrize("module", ["s3fs", "fsspec"])
def test_without_the_extra_the_error_says_what_to_install(module: str) -> None:
    program = (f"import sys; sys.modules['{module}'] = None; sys.argv = ['voc-predict', 's3://bucket/a.jpg']\n"
               "from voc_cls.cli.predict import main; main()")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (
        1, f"voc-predict: error: the module '{module}' is not installed: pip install \"voc-cls[s3]\"\n")


def test_a_url_is_told_from_a_path_and_keeps_its_slashes() -> None:
    for url in (URL, "file:///srv/voc", "memory://voc", "s3://b/a b"):
        assert store_url(Path(url)) == url
    for path in ("models/voc", "/srv/s3/voc", "C:/voc", "a:b", "."):
        assert store_url(Path(path)) == ""
