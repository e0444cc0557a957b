"""Training from Python: a network and data sets as objects, and a run folder that the commands can go on with."""

from __future__ import annotations

import io
import random
import signal
from dataclasses import replace
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import yaml
from rich.console import Console

from voc_cls.cli.evaluate import EvalConfig, read
from voc_cls.cli.train import read_settings
from voc_cls.data.dataset import Dataset, DifficultPolicy, Source
from voc_cls.data.load import read_dataset
from voc_cls.errors import RunError, UsageError
from voc_cls.training.config import NetworkConfig, TrainConfig
from voc_cls.training.initial_weights import create_network
from voc_cls.training.session import train, train_network
from voc_cls.training.splits import Splits, dataset_config
from voc_cls.training.trained_run import open_run

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

NET = {"net": "alexnet_v2", "head": "gap", "image_size": 67}
OPTIONS = {"trainable": "head", "steps": 6, "batch_size": 4, "interval": 3, "val_fraction": 0.3}


@pytest.fixture(scope="module")
def trainval(devkit: Path) -> Dataset:
    return read_dataset("voc", devkit, "trainval", DifficultPolicy.IGNORE)


def weights(file: Path) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    with h5py.File(file) as content:
        content.visititems(lambda name, item: arrays.update({name: np.asarray(item)})
                           if isinstance(item, h5py.Dataset) else None)
    return arrays


def from_python(dataset: Dataset, out: Path, **options: object):
    part, val = dataset.split(0.3, seed=0)
    network = create_network(NetworkConfig("none", **NET), dataset.classes)
    chosen = {name: value for name, value in OPTIONS.items() if name != "val_fraction"} | options
    return train_network(network, Splits(part, val), out, **chosen)


@pytest.fixture(scope="module")
def run(trainval: Dataset, tmp_path_factory: pytest.TempPathFactory):
    """A run that was trained from Python."""
    random.seed(5)
    expected = random.getstate()
    create_network(NetworkConfig("none", **NET), trainval.classes)
    assert random.getstate() == expected
    before = np.random.get_state()[1].tolist(), signal.getsignal(signal.SIGTERM)
    trained = from_python(trainval, tmp_path_factory.mktemp("python") / "run")
    assert (np.random.get_state()[1].tolist(), signal.getsignal(signal.SIGTERM)) == before
    return trained


def test_it_prints_nothing_and_leaves_generators_and_signals_alone(run, trainval: Dataset, tmp_path: Path,
                                                                   capfd: pytest.CaptureFixture[str]):
    from_python(trainval, tmp_path / "again")
    assert capfd.readouterr() == ("", "")
    assert weights(tmp_path / "again/last.weights.h5").keys() == weights(run.folder.last).keys()
    for name, values in weights(tmp_path / "again/last.weights.h5").items():
        np.testing.assert_array_equal(values, weights(run.folder.last)[name])


def test_its_config_repeats_the_run_by_the_command(run, tmp_path: Path):
    settings = read_settings(["--config", str(run.folder.config), "--out", str(tmp_path / "again")], {})
    train(settings.config(TrainConfig), Console(quiet=True))
    again = weights(tmp_path / "again/last.weights.h5")
    assert all(np.array_equal(values, again[name]) for name, values in weights(run.folder.last).items())
    assert (tmp_path / "again/metrics.jsonl").read_text().count("\n") == 2


def test_its_history_is_a_list_of_records_and_a_table_in_a_notebook(run):
    assert [record["step"] for record in run.history] == [3, 6]
    assert {"loss", "val_map", "lr", "seconds"} <= set(run.history[0])
    assert "<th>val_map</th>" in run.history._repr_html_()


def test_it_predicts_and_is_opened_again_with_the_same_weights(run, trainval: Dataset):
    paths = trainval.paths[:3]
    first = run.logits(paths)
    assert first.shape == (3, 20)
    np.testing.assert_array_equal(open_run(run.folder.path).logits(paths), first)


def test_it_is_resumed_with_the_same_objects_and_refused_with_others(run, trainval: Dataset):
    resumed = from_python(trainval, run.folder.path, resume=True)
    np.testing.assert_array_equal(resumed.network.model.get_weights()[0], run.network.model.get_weights()[0])
    with pytest.raises(UsageError, match=r"^`resume`: the settings differ from .*config.yaml: lr was 0.002, is 0.5; "
                       r"omit them"):
        from_python(trainval, run.folder.path, resume=True, lr=0.5)
    with pytest.raises(UsageError, match=r"^`out` .* exists already"):
        from_python(trainval, run.folder.path)


def test_a_resumed_run_keeps_the_engine_that_it_was_begun_with(trainval: Dataset, tmp_path: Path):
    pytest.importorskip("openvino")
    run = from_python(trainval, tmp_path / "run", feature_engine="openvino", inference_precision="float32")
    config = run.folder.read_config()
    assert config["provenance"]["features"] == {"engine": "openvino", "precision": "float32"}
    assert config["provenance"]["versions"]["openvino"]
    config["compute"]["feature_engine"] = None  # as if it had been measured
    run.folder.config.write_text(yaml.safe_dump(config))
    said = Console(record=True, file=io.StringIO())
    from_python(trainval, run.folder.path, resume=True, inference_precision="float32", console=said)
    assert "on the frozen backbone's features (float32, by OpenVINO)" in said.export_text()
    assert run.folder.read_config()["provenance"]["features"]["engine"] == "openvino"
    del config["provenance"]["features"]  # of a version that had no choice
    run.folder.config.write_text(yaml.safe_dump(config))
    from_python(trainval, run.folder.path, resume=True, inference_precision="float32")
    assert run.folder.read_config()["provenance"]["features"]["engine"] == "keras"


def test_a_run_that_the_command_cannot_repeat_says_why(run, trainval: Dataset, tmp_path: Path):
    copied = replace(trainval, source=None)
    trained = train_network(run.network, Splits(copied), tmp_path / "run", trainable="head", steps=1)
    recorded = yaml.safe_load(trained.folder.config.read_text())
    assert recorded["provenance"]["not_repeatable"] == {
        "dataset": "its data sets were made in Python and cannot be read again",
        "network": "its network had been trained before"}
    with pytest.raises(RunError, match="run: cannot be repeated, its data sets were"):
        trained.folder.check_repeatable()
    with pytest.raises(UsageError, match=r"run: its data sets were made in Python .*; pass --root and --split"):
        read(EvalConfig((trained.folder.path,)), trained.folder.path, recorded)


@pytest.mark.parametrize(("options", "message"), [
    ({"stepps": 3}, "^`stepps`: there is no such option; known are accumulate, augment, "),
    ({"steps": 0}, "^`steps` 0: must be at least 1"),
    ({"schedule": "linear"}, "^`schedule`: 'linear' is not one of constant, cosine, plateau"),
    ({"loss": "softmax"}, "^`loss` softmax: not for a multi-label data set"),
    ({"trainable": "conv9"}, "^`trainable` conv9: matches no layer"),
])
def test_a_wrong_option_is_named_before_anything_is_written(trainval: Dataset, tmp_path: Path,
                                                            options: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        from_python(trainval, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_splits_that_share_images_or_have_other_classes_are_refused(trainval: Dataset, tmp_path: Path):
    network = create_network(NetworkConfig("none", **NET), trainval.classes)
    with pytest.raises(UsageError, match=r"^`val`: 27 of its 27 pictures are in `train` too"):
        train_network(network, Splits(trainval, trainval), tmp_path)
    with pytest.raises(UsageError, match=r"^`train`: has 2 classes, the network 20 outputs"):
        train_network(network, Splits(trainval.only((0, 1))), tmp_path)


def test_splits_from_python_are_written_down_as_the_settings_that_read_them(trainval: Dataset):
    rest, part = trainval.split(0.25, seed=3)
    config, reason = dataset_config(Splits(rest, part), seed=3)
    assert (config.train_split, config.val_split, config.val_fraction, reason) == ("trainval", "auto", 0.25, "")
    assert "seed=4" in dataset_config(Splits(rest, part), seed=4)[1]
    assert "part of a split" in dataset_config(Splits(rest), seed=3)[1]
    source = trainval.source
    assert isinstance(source, Source)
    other = replace(part, source=replace(source, split="val"))
    config, reason = dataset_config(Splits(trainval, other), seed=0)
    assert (config.train_split, config.val_split, config.eval_split, reason) == ("trainval", "val", "none", "")
    elsewhere = replace(part, source=replace(source, root=Path("elsewhere")))
    assert dataset_config(Splits(trainval, elsewhere), seed=0)[1] == "its data sets come from different places"


def test_arrays_are_predicted_as_their_files_are(run, trainval: Dataset):
    arrays = [keras.utils.img_to_array(keras.utils.load_img(path)) for path in trainval.paths[:2]]
    predicted = run.predict(trainval.paths[:2], top_k=3, batch_size=1)
    np.testing.assert_allclose(run.predict_arrays(arrays), predicted.probabilities, atol=0.02)  # another JPEG decoder
    assert [len(prediction.labels) for prediction in predicted] == [3, 3]
