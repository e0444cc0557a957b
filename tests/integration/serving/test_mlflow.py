"""Runs that MLflow tracks, models in its registry, and servers of them; in a real database of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.commands import command_in_process as command
from tests.commands import variables_set
from tests.forked import start_command
from tests.integration.serving.conftest import Refused, Serve, Start, until
from tests.integration.serving.mlflow_server import MlflowServer
from tests.integration.serving.served_models import ServedModels
from tests.integration.serving.test_life_cycle import free_port
from tests.integration.serving.test_versions import Callers
from voc_cls.stores import MLFLOW, masked, registered_model, store_url
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.tracking import Tracker
from voc_cls.v1 import classifier_pb2

SMALL = ("--net", "vgg_16", "--cut", "pool1", "--head", "gap", "--image-size", 32, "--weights", "none",
         "--train-split", "train", "--val-split", "val", "--batch-size", 4, "--interval", 10)
NOT_EVALUATED = ("--eval-split", "none")
NOT_INSTALLED = "the module 'mlflow' is not installed: pip install \"voc-cls[mlflow]\""
POLL = 0.2
MLFLOW_SETS = ("MLFLOW_EXPERIMENT_ID", *MLFLOW)
"""Variables that are there once a command has used MLflow in this process."""
LABELS = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where mlflow.db is, which $MLFLOW_TRACKING_URI names, and where its files are."""
    folder = tmp_path_factory.mktemp("mlflow")
    before = {name: os.environ.get(name) for name in MLFLOW_SETS}
    with variables_set({"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}):
        yield folder
    for name in [name for name, value in before.items() if value is None]:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def same_address(folder: Path) -> Iterator[None]:
    """MLflow sets the variable to what a command in this process has used."""
    yield
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"


@pytest.fixture(scope="module")
def run(folder: Path, devkit: Path) -> Path:
    """A tracked run folder."""
    done = command("voc-train", "--root", devkit, *SMALL, "--steps", 30, "--out", "run", "--mlflow", cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "run"


@pytest.fixture(scope="module")
def registered(run: Path) -> str:
    """models:/voc, with its first version."""
    done = command("voc-export", run, "models:/voc")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("models:/voc/1: exported, verified and registered at sqlite:///")
    return "models:/voc"


@pytest.fixture(scope="module")
def images(devkit: Path) -> list[Path]:
    return sorted((devkit / "JPEGImages").glob("*.jpg"))[:3]


def client(uri: str | None = None) -> Any:
    import mlflow

    return mlflow.MlflowClient(uri or os.environ["MLFLOW_TRACKING_URI"], uri or os.environ["MLFLOW_TRACKING_URI"])


def tracked(run: Path, uri: str | None = None) -> Any:
    """The run of MLflow that a run folder names."""
    return client(uri).get_run(json.loads((run / "mlflow.json").read_text())["run_id"])


def history(run: Path, name: str, uri: str | None = None) -> list[tuple[int, float]]:
    """(step, value) of a metric, in MLflow."""
    return sorted((metric.step, metric.value)
                  for metric in client(uri).get_metric_history(tracked(run, uri).info.run_id, name))


def lines(run: Path, name: str) -> list[tuple[int, float]]:
    """(step, value) of a metric, in metrics.jsonl."""
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(record["step"], record[name]) for record in records]


def files_with(text: str, folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file() and text.encode() in path.read_bytes()]


def test_a_run_is_tracked_with_its_settings_metrics_results_and_files(run: Path) -> None:
    found, evaluation = tracked(run), json.loads((run / "evaluation.json").read_text())
    assert (found.info.status, found.info.run_name) == ("FINISHED", "run")
    assert client().get_experiment(found.info.experiment_id).name == "voc-cls"
    assert {name: found.data.params[name] for name in ("lr", "net", "cut", "batch_size")} == {
        "lr": "1e-05", "net": "vgg_16", "cut": "pool1", "batch_size": "4"}
    for name in ("val_map", "loss", "lr"):
        assert history(run, name) == lines(run, name)
    assert len(lines(run, "loss")) == 3
    assert found.data.metrics["map"] == evaluation["map"]
    assert found.data.metrics["AP car"] == evaluation["classes"]["car"]["ap"]
    files = {file.path for file in client().list_artifacts(found.info.run_id)}
    assert files >= {"report.html", "config.yaml", "evaluation.json", "predictions.csv", "thresholds.json"}
    assert not [file for file in files if file.endswith(".h5")]


def test_a_stopped_run_is_killed_and_goes_on_as_the_same_run(devkit: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start_command("voc-train", "--root", devkit, *SMALL, *NOT_EVALUATED, "--steps", 300, "--out", out,
                            "--mlflow", output=tmp_path / "said", errors=tmp_path / "errors")
    until(lambda: (out / "metrics.jsonl").exists() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143, (tmp_path / "errors").read_text()
    stopped = tracked(out)
    assert stopped.info.status == "KILLED"
    assert history(out, "loss") == lines(out, "loss")
    resumed = command("voc-train", "--out", out, "--resume")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert (tracked(out).info.run_id, tracked(out).info.status) == (stopped.info.run_id, "FINISHED")
    assert history(out, "val_map") == lines(out, "val_map")
    assert lines(out, "val_map")[-1][0] == 300


def test_several_seeds_are_children_of_a_run_with_their_means(devkit: Path, tmp_path: Path) -> None:
    out = tmp_path / "seeds"
    done = command("voc-train", "--root", devkit, *SMALL, "--steps", 10, "--seeds", 3, 4, "--out", out, "--mlflow")
    assert (done.returncode, done.stderr) == (0, "")
    parent, first, second = tracked(out), tracked(out / "seed-3"), tracked(out / "seed-4")
    assert "mlflow.parentRunId" not in parent.data.tags
    assert {run.data.tags["mlflow.parentRunId"] for run in (first, second)} == {parent.info.run_id}
    assert {run.info.status for run in (parent, first, second)} == {"FINISHED"}
    assert parent.data.metrics["AP car"] == pytest.approx(
        (first.data.metrics["AP car"] + second.data.metrics["AP car"]) / 2)


def test_a_training_goes_on_without_its_server_which_gets_the_rest_later(devkit: Path, tmp_path: Path) -> None:
    server, out = MlflowServer(tmp_path), tmp_path / "run"
    secret, shown = (server.uri.replace("://", f"://me:{password}@") for password in ("geheim", "***"))
    try:
        process = start_command("voc-train", "--root", devkit, *SMALL, *NOT_EVALUATED, "--steps", 60, "--out",
                                out, "--mlflow", secret, output=tmp_path / "said", errors=tmp_path / "errors")
        until(lambda: (out / "metrics.jsonl").exists() or process.poll() is not None)
        server.end()
        assert process.wait(120) == 0
        errors = (tmp_path / "errors").read_text()
        assert errors.startswith(f"warning: MLflow at {shown}: ")
        assert f"MLflow gets what is missing later, at the latest with --resume and --out {out}" in errors
        assert "Traceback" not in errors
        assert files_with("geheim", tmp_path) == []
        server.start()
        assert len(history(out, "loss", server.uri)) < len(lines(out, "loss")) == 6
        with variables_set({"MLFLOW_TRACKING_URI": secret}):
            assert Tracker(RunFolder(out), None).uri == secret
        resumed = command("voc-train", "--out", out, "--resume", MLFLOW_TRACKING_URI=secret)
        assert (resumed.returncode, resumed.stderr) == (0, "")
        assert history(out, "loss", server.uri) == lines(out, "loss")
        assert tracked(out, server.uri).info.status == "FINISHED"
        assert json.loads((out / "mlflow.json").read_text())["uri"] == shown
        assert "geheim" not in resumed.stdout
        assert files_with("geheim", tmp_path) == []
        assert [path.name for path in files_with(shown, tmp_path / "mlartifacts")] == ["mlflow.json"]  # as it was sent
    finally:
        server.end()


def test_a_server_that_is_not_there_is_said_before_a_training_begins(devkit: Path, tmp_path: Path) -> None:
    uri = f"http://me:geheim@127.0.0.1:{free_port()}"
    done = command("voc-train", "--root", devkit, *SMALL, "--out", tmp_path / "run", "--mlflow", uri)
    assert done.returncode == 1
    assert done.stderr.startswith(f"voc-train: error: MLflow at {uri.replace('geheim', '***')}: API request to ")
    assert "geheim" not in done.stdout + done.stderr
    assert done.stderr.endswith("failed; check the address and that it can be reached\n")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("program", "arguments"), [
    ("voc-train", ["--root", "DEVKIT", *map(str, SMALL), "--out", "runs/x", "--mlflow"]),
    ("voc-export", ["runs/x", "models:/voc"])])
def test_without_mlflow_each_command_says_what_brings_it(devkit: Path, tmp_path: Path, program: str,
                                                         arguments: list[str]) -> None:
    arguments = [argument.replace("DEVKIT", str(devkit)) for argument in arguments]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)
        done = command(program, *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"{program}: error: {NOT_INSTALLED}\n"


def test_without_mlflow_voc_serve_says_so_too(refused: Refused) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "mlflow", None)
        assert refused("--model-dir", "models:/voc") == NOT_INSTALLED


def test_a_registered_model_answers_as_voc_serve_does(registered: str, start: Start, images: list[Path]) -> None:
    import mlflow

    server = start(None, "--model-dir", f"{registered}/1").wait_until_ready()
    assert "model voc, version 1 " in server.ready_line
    loaded = mlflow.pyfunc.load_model(f"{registered}/1")
    contents = [image.read_bytes() for image in images]
    request = classifier_pb2.ClassifyRequest(pictures=[classifier_pb2.Picture(content=content) for content in contents])
    answers = server.classifier().Classify(request, timeout=60).classifications
    expected = pd.DataFrame([{label.label: label.probability for label in answer.labels} for answer in answers])
    for column in (contents, list(map(str, images))):
        predicted = loaded.predict(column)
        assert predicted.shape == (len(images), LABELS)
        pd.testing.assert_frame_equal(predicted, expected, check_like=True, check_dtype=False, rtol=0, atol=1e-6)
    table = pd.DataFrame({"image": contents}, index=["a", "b", "c"])
    assert list(loaded.predict(table).index) == ["a", "b", "c"]
    model = loaded.get_raw_model()
    assert (model.name, model.version) == ("voc", 1)
    assert model.predict(images[:1])[0].labels[0].label == answers[0].labels[0].label


def test_an_alias_is_followed_and_no_call_fails_nor_is_a_damaged_version_served(registered: str, start: Start) -> None:
    import mlflow

    registry, source = client(), client().get_model_version("voc", "1")
    registry.set_registered_model_alias("voc", "best", 1)
    server = start(None, "--model-dir", f"{registered}@best", "--poll-seconds", POLL, "--max-batch-size", 2)
    models = ServedModels(server.wait_until_ready(), Path(registered))
    second = int(mlflow.register_model(source.source, "voc").version)
    with Callers(models, "voc", 2) as callers:
        registry.set_registered_model_alias("voc", "best", second)
        models.until("voc", {second: "AVAILABLE"})
        until(lambda: callers.versions[-1:] == [second])
    assert callers.errors == []
    assert set(callers.versions) == {1, second}
    damaged = int(mlflow.register_model(source.source, "voc").version)
    artifacts = registry.get_logged_model(source.source.rpartition("/")[2]).artifact_location
    (variables,) = Path(artifacts).rglob("variables.data*")
    content = variables.read_bytes()
    try:
        variables.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        registry.set_registered_model_alias("voc", "best", damaged)
        until(lambda: f"{registered}@best/{damaged} is not served until it changes: its variables/" in
              server.errors.read_text())
    finally:
        variables.write_bytes(content)
    assert models.states("voc") == {second: "AVAILABLE"}


def test_a_model_that_is_not_registered_ends_a_start(registered: str, refused: Refused, serve: Serve) -> None:
    assert refused("--model-dir", "models:/nothing").startswith(
        "--model-dir models:/nothing has no complete version of a model in it")
    assert "Registered model alias nobody not found" in refused("--model-dir", "models:/voc@nobody")
    done = serve("--model-dir", f"{registered}/1", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("voc ")]
    assert line.split()[1] == "1"
    assert line.endswith("models:/voc/1")


def test_mlflow_numbers_the_versions_itself(tmp_path: Path) -> None:
    for arguments in (["models:/voc/3"], ["models:/voc", "--version", 3]):
        done = command("voc-export", tmp_path, *arguments)
        assert (done.returncode, done.stderr) == (2, f"voc-export: error: {arguments[0]}: MLflow numbers the versions; "
                                                     "pass models:/voc alone\n")


@pytest.mark.parametrize(("uri", "shown"), [
    ("postgresql+psycopg2://me:a@b:c@db:5432/mlflow", "postgresql+psycopg2://me:***@db:5432/mlflow"),
    ("--mlflow=https://:x%40y@host", "--mlflow=https://:***@host"),
    *((same, same) for same in ("http://host:5000/a@b", "sqlite:////home/a:b@c/mlflow.db", "https://me@host", "auto"))])
def test_passwords_are_masked_and_nothing_else(uri: str, shown: str) -> None:
    assert masked(uri) == shown


def test_urls_of_registered_models_are_understood() -> None:
    for url, meant in (("models:/voc", ("voc", "")), ("models:/voc/latest", ("voc", "")),
                       ("models:/voc/3", ("voc", "3")), ("models:/voc@best", ("voc", "best"))):
        assert (registered_model(Path(url)), store_url(Path(url))) == (meant, url)
    assert registered_model("models/voc") is registered_model("s3://models/voc") is None
