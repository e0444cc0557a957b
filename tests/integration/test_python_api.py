"""`import voc_cls as vc`: the way of docs/python.md, from a data set to an exported model."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import voc_cls as vc
from voc_cls.errors import UsageError


@pytest.fixture(scope="module")
def data(devkit: Path) -> Any:
    return vc.load_dataset(devkit)


@pytest.fixture(scope="module")
def run(data: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run on random weights, with few steps: the path counts here, not the result."""
    train, val = data["trainval"].split(0.25, seed=0)
    net = vc.create_network("vgg_16", classes=train.classes, head="gap", image_size=32)
    return vc.train(net, train, val, test=data["test"], trainable="head", steps=60, interval=20, progress=False,
                    inference_precision="float32", out=tmp_path_factory.mktemp("runs") / "run")


def test_the_library_is_imported_in_a_moment_and_without_tensorflow():
    loaded = subprocess.run([sys.executable, "-c", "import sys, voc_cls; print(*sys.modules)"], capture_output=True,
                            text=True, check=True, timeout=60).stdout.split()
    assert not {"tensorflow", "keras", "cv2", "numpy", "lxml", "rich", "tyro", "yaml"} & set(loaded)


def test_a_data_set_shows_its_splits_and_a_split_its_classes(data: Any):
    assert "trainval: " in repr(data)
    assert "<table" in data["trainval"]._repr_html_()
    assert data.classes == data["trainval"].classes
    train, val = data["trainval"].split(0.25, seed=0)
    assert len(train) + len(val) == len(data["trainval"])
    assert {"path", "labels"} <= set(train.to_records()[0])


def test_a_run_has_its_history_and_its_report(run: Any):
    assert [record["step"] for record in run.history] == [20, 40, 60]
    assert "<table" in run.history._repr_html_()
    assert 0 <= run.report.map <= 1
    assert run.network.model.count_params() > 14_000_000


def test_an_evaluation_is_a_report_with_the_numbers_of_voc_eval(run: Any, data: Any, tmp_path: Path):
    report = vc.evaluate(run, data["test"], bootstrap=100)
    assert report.map == pytest.approx(run.report.map, abs=1e-6)
    assert {"class", "ap", "ap_11pt", "positives"} <= set(report.per_class[0])
    assert report.to_dict()["map"] == pytest.approx(report.map)
    assert "<html" in report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").is_file()


def test_predictions_are_arrays_and_records(run: Any, data: Any):
    predictions = run.predict([str(path) for path in data["test"].paths[:2]], top_k=3)
    assert predictions.probabilities.shape == (2, len(data.classes))
    assert predictions.probabilities.dtype == np.float32
    assert [line.partition(":")[0] for line in repr(predictions).splitlines()] == [
        path.name for path in data["test"].paths[:2]]
    records = predictions.to_records()
    assert len(records) == 6
    assert {"file", "label", "probability"} <= set(records[0])


def test_a_run_that_is_opened_again_answers_the_same(run: Any, data: Any):
    opened = vc.open_run(run.folder.path)
    assert repr(opened).startswith(f"run {run.folder.path}: ")
    assert "<caption>history</caption>" in opened._repr_html_()
    paths = data["test"].paths[:2]
    np.testing.assert_array_equal(opened.predict(paths).probabilities, run.predict(paths).probabilities)


def test_a_run_is_exported_and_its_folder_is_numbered(run: Any, tmp_path: Path):
    exported = vc.export(run, tmp_path / "models/voc")
    assert exported == tmp_path / "models/voc/1"
    assert (exported / "saved_model.pb").is_file()


def test_other_classes_than_the_runs_are_refused_by_the_name_of_the_parameter(run: Any, data: Any):
    with pytest.raises(UsageError, match=r"VOC2007 test: has the classes aeroplane, bicycle, the run"):
        vc.evaluate(run, data["test"].only([0, 1]))
    with pytest.raises(UsageError, match="`classes` unicorn: "):
        vc.evaluate(run, data["test"], classes=["unicorn"])
    with pytest.raises(UsageError, match=r"`stepz`"):
        vc.train(run.network, data["trainval"], out="runs/never", stepz=3)


def test_the_process_keeps_its_signal_handlers_and_random_generators(data: Any, tmp_path: Path,
                                                                     capfd: pytest.CaptureFixture[str]):
    random.seed(7)
    np.random.seed(7)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    expected = random.Random(7).random(), np.random.RandomState(7).random()
    train, val = data["trainval"].split(0.25, seed=0)
    net = vc.create_network("vgg_16", classes=train.classes, head="gap", image_size=32)
    vc.train(net, train, val, trainable="head", steps=10, interval=5, progress=False, out=tmp_path / "run")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (random.random(), np.random.random()) == expected
    assert capfd.readouterr().out == ""
