"""Batch prediction on a Ray cluster gives what voc-predict gives. Training is in tests/endurance/test_ray.py."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet
import pytest
from ray.cluster_utils import Cluster

from tests.commands import command_in_process as command
from tests.commands import variables_set
from tests.integration.serving.object_store import BUCKET, ObjectStore
from tests.integration.serving.tiny_ir import export_tiny_ir
from tests.integration.serving.tiny_model import LABELS
from tests.pictures import encoded, smooth
from voc_cls import batch_prediction
from voc_cls.stores import opened


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    started = ObjectStore()
    yield started
    started.end()


@pytest.fixture(scope="module", autouse=True)
def cluster(store: ObjectStore) -> Iterator[None]:
    """A Ray of one core for all the commands here, whose workers know the object store."""
    with variables_set(store.environment):
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        with variables_set({"RAY_ADDRESS": started.address}):
            yield
        started.shutdown()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    (folder / "1").mkdir(parents=True)
    export_tiny_ir(folder / "1", seed=1)
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 images, of which one is none and one is empty."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(40):
        (folder / f"{number:02}.jpg").write_bytes(encoded(smooth(40, 60, number), "JPEG"))
    (folder / "07.jpg").write_bytes(b"no image")
    (folder / "30.jpg").write_bytes(b"")
    return folder


@pytest.fixture(scope="module", autouse=True)
def small_files() -> Iterator[None]:
    """Several tasks and files, of few images."""
    with mock.patch.multiple(batch_prediction, TASK_IMAGES=8, FILE_ROWS=16):
        yield


@pytest.fixture(scope="module")
def job(images: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
        ) -> tuple[subprocess.CompletedProcess[str], Path]:
    """voc-predict --ray of all the images, and what it wrote."""
    out = tmp_path_factory.mktemp("job") / "scores.parquet"
    return command("voc-predict", images, "--model", model, "--ray", "--out", out), out


def rows(out: Path) -> dict[str, dict[str, Any]]:
    """The scores by path; as a reader of Parquet reads a folder."""
    table = pyarrow.parquet.read_table(out).to_pylist()
    by_path = {row.pop("path"): row for row in table}
    assert len(by_path) == len(table), "an image is twice in it"
    return by_path


def plain(*args: object) -> dict[str, Any]:
    """What voc-predict says of each image without Ray."""
    done = command("voc-predict", *args, "--json", "--top-k", 0)
    return {entry["file"]: entry for entry in json.loads(done.stdout)["pictures"]}


def test_the_scores_are_those_of_plain_voc_predict_and_failures_have_their_column(
        job: tuple[subprocess.CompletedProcess[str], Path], images: Path, model: Path):
    done, out = job
    assert done.returncode == 1
    assert f"{out}: 40 pictures" in done.stderr
    assert "2 of 40 pictures failed, see the column 'error' of" in done.stderr
    scores = rows(out)
    expected = plain(images, "--model", model)
    assert scores.keys() == expected.keys()
    for path, entry in expected.items():
        assert scores[path].pop("error") == entry.get("error")
        if "error" in entry:
            assert set(scores[path].values()) == {None}
        else:
            assert scores[path] == pytest.approx({one["label"]: one["probability"] for one in entry["labels"]},
                                                 abs=1e-6)
            assert list(scores[path]) == list(LABELS)


def test_a_job_continues_with_what_no_file_has(
        job: tuple[subprocess.CompletedProcess[str], Path], images: Path, model: Path, tmp_path: Path):
    out = shutil.copytree(job[1], tmp_path / "scores.parquet")
    args = ("voc-predict", images, "--model", model, "--ray", "--out", out)
    complete = rows(out)
    first, *others = sorted(out.iterdir())
    content = {path: path.stat().st_mtime_ns for path in others}
    first.unlink()
    (out / ".aside-1-half.parquet").write_bytes(b"PAR1")  # what a kill leaves, and readers ignore
    assert len(rows(out)) < 40
    command(*args)
    assert rows(out) == complete
    assert {path: path.stat().st_mtime_ns for path in others} == content
    with variables_set({"RAY_ADDRESS": "127.0.0.1:1"}):  # nothing to do: no Ray is asked
        assert command(*args).returncode == 0


def test_images_and_scores_may_have_urls_and_images_a_list(images: Path, model: Path, tmp_path: Path):
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"file://{images}/{number:02}.jpg\n" for number in (1, 2, 7, 99, 1)))
    (tmp_path / "store").mkdir()
    done = command("voc-predict", listed, "--model", model, "--ray", "--out", f"file://{tmp_path}/store")
    assert done.returncode == 1
    scores = rows(tmp_path / "store")
    errors = {path.rpartition("/")[2]: row["error"] for path, row in scores.items()}
    assert errors.keys() == {"01.jpg", "02.jpg", "07.jpg", "99.jpg"}
    assert (errors["01.jpg"], errors["02.jpg"]) == (None, None)
    assert errors["07.jpg"].startswith(f"file://{images}/07.jpg: ")
    assert f"file://{images}/99.jpg cannot be read" in errors["99.jpg"]
    expected = plain(images / "01.jpg", "--model", model)[str(images / "01.jpg")]["labels"]
    assert scores[f"file://{images}/01.jpg"] == pytest.approx(
        {one["label"]: one["probability"] for one in expected} | {"error": None}, abs=1e-6)


def test_images_and_scores_are_in_an_object_store(
        store: ObjectStore, job: tuple[subprocess.CompletedProcess[str], Path], images: Path, model: Path,
        tmp_path: Path):
    folder, expected = f"s3://{BUCKET}/images", {Path(path).name: row for path, row in rows(job[1]).items()}
    store.upload(images, "images", without="39.jpg")
    for out in (tmp_path / "here", f"s3://{BUCKET}/scores/job"):
        args = ("voc-predict", folder, "--model", model, "--ray", "--out", out)
        assert f"{out}: 39 pictures" in command(*args).stderr
        store.put("images/39.jpg", (images / "39.jpg").read_bytes())
        assert f"{out}: 40 pictures" in command(*args).stderr
        store.remove("images/39.jpg")
        copy = tmp_path / "copy"
        with opened(str(out)) as (files, root):
            files.get(root, str(copy), recursive=True)
        scores = rows(copy)
        shutil.rmtree(copy)
        assert scores.keys() == {f"{folder}/{name}" for name in expected}
        for path, row in scores.items():
            error = expected[Path(path).name]["error"]
            assert row == {**expected[Path(path).name], "error": error and error.replace(str(images), folder)}


def refused(*args: object) -> str:
    done = command("voc-predict", *args)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_what_cannot_be_is_refused_in_a_sentence(
        job: tuple[subprocess.CompletedProcess[str], Path], images: Path, model: Path, tmp_path: Path):
    out, empty = shutil.copytree(job[1], tmp_path / "scores.parquet"), tmp_path / "empty"
    ray = ("--model", model, "--ray", "--out", out)
    assert f"--out {out}: has scores of 39 images that are not among the given ones, such as {images}/00.jpg" in (
        refused(images / "01.jpg", *ray))
    (tmp_path / "2").mkdir()
    other = export_tiny_ir(tmp_path / "2", seed=2)
    metadata = other / "assets/voc_cls.json"
    metadata.write_text(metadata.read_text().replace('"tiny"', '"small"'))
    assert f"--out {out}: has scores of tiny/1 (OpenVINO, " in refused(images, "--model", other, "--ray", "--out", out)
    (out / "notes.txt").write_text("mine")
    assert f"--out {out}: notes.txt in it was not written by voc-predict" in refused(images, *ray)
    assert "--out" in refused(images, "--model", model, "--ray")
    done = command("voc-predict", images, "--model", model, "--ray", "--out", metadata)
    assert (done.returncode, f"{metadata}: File exists" in done.stderr) == (1, True)
    assert "give its folder as --model" in refused(images, "--ray", "--out", out)
    empty.mkdir()
    assert f"{empty} is a folder without pictures" in refused(empty, *ray)
    assert "none.txt: cannot be read as a list" in refused(tmp_path / "none.txt", *ray)
