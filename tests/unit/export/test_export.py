"""An export appears whole, verified and under its own number, or not at all."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from rich.console import Console
from tensorflow.core.protobuf import saved_model_pb2

from export.options import ExportOptions
from export.savedmodel import encoded_images
from export.version_folder import export_run
from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import ExportError, RunError, UsageError
from voc_cls.evaluation.calibration import Calibration
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.evaluation.report.singlelabel import singlelabel_report
from voc_cls.evaluation.tasks import Fitted, write_fitted
from voc_cls.files import file_digests, write_json
from voc_cls.model_metadata import SIGNATURES, read_metadata
from voc_cls.nets.network import build_network
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig, to_dict
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import open_run

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

LABELS = ("cat", "dog", "cow")
CUT = "pool2"
"""Two of VGG-16's five blocks are enough for what is tested here."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the beginning of a VGG-16, with random weights, for three classes."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    network = build_network("vgg_16", "gap", len(LABELS), image_size=64, cut=CUT)
    network.model.save_weights(folder.best)
    network.model.save_weights(folder.last)
    folder.labels.write_text("".join(f"{label}\n" for label in LABELS))
    config = TrainConfig(DatasetConfig(root=(Path("devkit"),), train_split="trainval", eval_split="test"),
                         NetworkConfig(weights="none", head="gap", image_size=64, cut=CUT))
    folder.config.write_text(yaml.safe_dump(to_dict(config.checked())
                                            | {"provenance": {"weights_digest": None, "train_pictures": 7}}))
    return folder.path


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The next version of a model that has two, and other things in its folder."""
    shown, models = io.StringIO(), tmp_path_factory.mktemp("models") / "pets"
    for name in ("3", "012", "notes", ".aside-1"):
        (models / name).mkdir(parents=True)
    exported = export_run(open_run(run), models, console=Console(file=shown, width=300))
    assert f"{exported}: exported and verified\n  savedmodel, float32: probabilities within " in shown.getvalue()
    return exported


def test_it_has_the_files_that_servers_look_for(exported: Path):
    for name in ("saved_model.pb", "variables/variables.index", "assets/labels.txt", "assets/voc_cls.json",
                 "assets.extra/tf_serving_warmup_requests", "MODEL_CARD.md"):
        assert (exported / name).is_file(), name
    metadata = json.loads((exported / "assets/voc_cls.json").read_text())
    assert metadata["labels"] == list(LABELS)
    assert metadata["preprocessing"] == {"size": 64, "mean": [123.68, 116.78, 103.94], "std": [1.0, 1.0, 1.0],
                                         "channels": "RGB", "resize": "bilinear", "jpeg_dct": "INTEGER_ACCURATE"}
    files = {str(path.relative_to(exported)): path for path in exported.rglob("*") if path.is_file()}
    del files["assets/voc_cls.json"], files["MODEL_CARD.md"]  # itself, and what people edit
    assert metadata["files"] == dict(zip(files, file_digests(list(files.values())), strict=True))
    assert "# pets, version 13" in (exported / "MODEL_CARD.md").read_text()


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the beginning of a VGG-16, with random weights, for pictures of one of three classes each."""
    folder = RunFolder(tmp_path_factory.mktemp("single"))
    network = build_network("vgg_16", "gap", len(LABELS), image_size=64, cut=CUT, normalisation="torch")
    network.model.save_weights(folder.best)
    network.model.save_weights(folder.last)
    folder.labels.write_text("".join(f"{label}\n" for label in LABELS))
    config = TrainConfig(DatasetConfig(root=(Path("pets"),), data="folder", train_split="train", eval_split="none"),
                         NetworkConfig(weights="none", head="gap", image_size=64, cut=CUT, normalisation="torch"))
    labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    test = Dataset("pets test", LABELS, (Path("x.jpg"),) * 4, labels, labels > 1, task=Task.SINGLE_LABEL)
    write_json(folder.evaluation, singlelabel_report(test, labels, resamples=100).to_dict())
    provenance = {"weights_digest": "abc", "train_pictures": 7, "task": "single-label"}
    folder.config.write_text(yaml.safe_dump(to_dict(config) | {"provenance": provenance}))
    return folder.path


def test_a_single_label_export_has_softmax_in_its_graph_and_says_so(single: Path, tmp_path: Path):
    exported = export_run(single, tmp_path / "pets")
    assert exported == tmp_path / "pets/1"
    metadata = json.loads((exported / "assets/voc_cls.json").read_text())
    assert (metadata["activation"], metadata["thresholds"]) == ("softmax", {})
    assert metadata["preprocessing"]["std"] == [58.395, 57.12, 57.375]
    pictures, files = encoded_images(), []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(picture)
    trained = open_run(single)
    signatures = tf.saved_model.load(str(exported)).signatures
    answer = signatures["serving_default"](image_bytes=tf.constant(pictures))["probabilities"].numpy()
    np.testing.assert_allclose(answer, probabilities_of(trained.logits(files), trained.task), atol=1e-6)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)
    inputs = signatures["preprocess"](image_bytes=tf.constant(pictures))["inputs"]
    np.testing.assert_allclose(signatures["predict_tensors"](inputs=inputs)["probabilities"], answer, atol=1e-6)
    card = (exported / "MODEL_CARD.md").read_text()
    assert "single-label" in card
    assert "**accuracy 100.0 %**" in card
    assert "divided by [58.395, 57.12, 57.375]" in card
    assert "difficult" not in card


def test_a_calibrated_single_label_export_divides_its_logits_by_the_temperature(single: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"`calibrated`: .*single.* has no calibration\.json, .*`val_split`"):
        export_run(single, tmp_path / "pets", options=ExportOptions(calibrated=True))
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(single, folder.path)
    write_fitted(folder.path, Fitted(calibration=Calibration("pets val", 2.5)), LABELS)
    exported = export_run(folder.path, tmp_path / "pets", options=ExportOptions(calibrated=True))
    inputs = np.random.default_rng(0).normal(0, 1, (2, 64, 64, 3)).astype(np.float32)
    own = open_run(single).network.model(inputs, training=False).numpy()
    outputs = tf.saved_model.load(str(exported)).signatures["predict_tensors"](inputs=tf.constant(inputs))
    np.testing.assert_allclose(outputs["logits"], own / 2.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(outputs["probabilities"], probabilities_of(own / 2.5, Task.SINGLE_LABEL), atol=1e-6)
    assert read_metadata(exported).calibration == "temperature"
    assert "Calibrated by the temperature 2.5, fitted to pets val." in (exported / "MODEL_CARD.md").read_text()


def test_an_export_whose_graph_has_the_other_activation_is_refused(single: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch):
    import export.savedmodel as savedmodel

    monkeypatch.setattr(savedmodel, "ACTIVATIONS", {"softmax": tf.sigmoid})
    with pytest.raises(ExportError, match="differ by"):
        export_run(single, tmp_path / "pets")


@pytest.mark.parametrize(("net", "said"), [("vgg_19", "VGG weights: Simonyan & Zisserman, CC BY 4.0"),
                                           ("resnet_v1_50", "under the licence of its publisher")])
def test_no_licence_is_claimed_that_is_not_known(exported: Path, net: str, said: str, tmp_path: Path):
    metadata = json.loads((exported / "assets/voc_cls.json").read_text()) | {"net": net, "pretrained_digest": "2"}
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/voc_cls.json").write_text(json.dumps(metadata))
    assert f"Pretrained weights: checkpoint with SHA-256 2 ({said})." in read_metadata(tmp_path).training_data


def test_the_card_has_the_training_data_as_the_metadata_give_it(exported: Path):
    training_data = read_metadata(exported).training_data
    assert training_data == ("voc, split trainval, 7 pictures; pictures with only difficult objects of a class: "
                             "ignore. Pretrained weights: none.")
    assert f"## Training data\n\n{training_data}\n" in (exported / "MODEL_CARD.md").read_text()


def test_a_run_of_a_task_that_nobody_knows_is_named(single: Path, tmp_path: Path):
    for file in single.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace("single-label", "no-label"))
    with pytest.raises(RunError, match=r"config\.yaml: provenance\.task is 'no-label', expected multi-label or single"):
        export_run(tmp_path, tmp_path / "pets")


def test_the_signatures_have_their_names_and_dtypes(exported: Path):
    loaded = tf.saved_model.load(str(exported))
    assert set(loaded.signatures) == set(SIGNATURES) - {"predict_augmented"}


def test_every_signature_answers_as_the_trained_network(exported: Path, run: Path, tmp_path: Path):
    pictures = encoded_images()
    files = []
    for number, picture in enumerate(pictures):
        files.append(tmp_path / f"{number}.jpg")
        files[-1].write_bytes(picture)
    logits = open_run(run).logits(files)
    loaded = tf.saved_model.load(str(exported))
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant(pictures))["probabilities"].numpy()
    np.testing.assert_allclose(answer, 1 / (1 + np.exp(-logits)), atol=1e-6)
    classes = loaded.signatures["classify"](inputs=tf.constant([tf.train.Example(features=tf.train.Features(feature={
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[pictures[0]]))
    })).SerializeToString()]))
    assert [name.decode() for name in classes["classes"].numpy()[0]] == list(LABELS)
    np.testing.assert_allclose(classes["scores"].numpy()[0], answer[0], atol=1e-6)


def test_the_warm_up_records_run(exported: Path):
    from tensorflow_serving.apis import prediction_log_pb2

    loaded = tf.saved_model.load(str(exported))
    sizes = []
    for record in tf.data.TFRecordDataset(str(exported / "assets.extra/tf_serving_warmup_requests")):
        request = prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        assert request.model_spec.name == "pets"
        pictures = tf.constant(tf.make_ndarray(request.inputs["image_bytes"]))
        answer = loaded.signatures[request.model_spec.signature_name](image_bytes=pictures)
        sizes.append(answer["probabilities"].shape[0])
    assert sizes == [1, 4]


def test_a_version_below_one_is_refused(run: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="`version` 0: must be at least 1"):
        export_run(run, tmp_path / "pets", version=0)


def test_an_existing_version_is_never_overwritten(run: Path, exported: Path):
    before = (exported / "saved_model.pb").stat()
    with pytest.raises(ExportError, match="never overwritten"):
        export_run(run, exported.parent, version=13)
    assert (exported / "saved_model.pb").stat() == before


def test_a_version_whose_folder_has_zeros_in_front_exists_too(run: Path, tmp_path: Path):
    (tmp_path / "007").mkdir()
    with pytest.raises(ExportError, match="007: exists already"):
        export_run(run, tmp_path, version=7)


def test_the_next_version_is_one_above_the_highest(exported: Path):
    assert exported.name == "13"
    assert {path.name for path in exported.parent.iterdir()} == {"3", "012", "13", "notes", ".aside-1"}


def test_an_export_that_differs_from_the_trained_network_is_refused_and_leaves_nothing(
        run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import export.savedmodel as savedmodel

    honest = savedmodel.preprocess
    monkeypatch.setattr(savedmodel, "preprocess", lambda *args: honest(*args)[..., ::-1])  # BGR for RGB
    with pytest.raises(ExportError, match="differ by"):
        export_run(run, tmp_path / "pets")
    assert list((tmp_path / "pets").iterdir()) == []


def test_a_run_that_is_not_finished_is_named(run: Path, tmp_path: Path):
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    for name in ("config.yaml", "labels.txt"):
        (unfinished / name).write_bytes((run / name).read_bytes())
    with pytest.raises(RunError, match="not finished"):
        export_run(unfinished, tmp_path / "pets")
    assert not (tmp_path / "pets").exists()


def test_tensorflow_servings_own_classifier_accepts_the_signature_classify(exported: Path):
    saved_model = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    (graph,) = [graph for graph in saved_model.meta_graphs if "serve" in graph.meta_info_def.tags]
    signature = graph.signature_def["classify"]
    # PreProcessClassification and PostProcessClassificationResult of servables/tensorflow/classifier.cc
    assert signature.method_name == "tensorflow/serving/classify"
    assert {name: tensor.dtype for name, tensor in signature.inputs.items()} == {"inputs": tf.string.as_datatype_enum}
    outputs = {name: (tensor.dtype, len(tensor.tensor_shape.dim)) for name, tensor in signature.outputs.items()}
    assert outputs == {"classes": (tf.string.as_datatype_enum, 2), "scores": (tf.float32.as_datatype_enum, 2)}
    assert tf.compat.v1.saved_model.is_valid_signature(signature)
    methods = {name: found.method_name for name, found in graph.signature_def.items() if name in SIGNATURES}
    assert set(methods.values()) - {methods.pop("classify")} == {"tensorflow/serving/predict"}


def test_it_also_runs_the_way_tensorflow_serving_loads_it(exported: Path):
    # by the graph, not by objects: variables that are tracked through Keras get a second node, which is not restored
    pictures = encoded_images()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(exported)).signature_def["serving_default"]
        answer = session.run(signature.outputs["probabilities"].name,
                             {signature.inputs["image_bytes"].name: pictures})
    assert answer.shape == (len(pictures), len(LABELS))
    assert np.isfinite(answer).all()
