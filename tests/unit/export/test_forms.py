"""ONNX and OpenVINO compute what the trained network does; int8 says what it loses, and never too much."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from scipy.special import expit

from export.options import ExportOptions
from export.version_folder import export_run
from voc_cls.data.dataset import Task
from voc_cls.errors import DataError, ExportError, UsageError
from voc_cls.evaluation.calibration import Calibration, default_thresholds
from voc_cls.evaluation.predictions import probabilities_of
from voc_cls.evaluation.tasks import Fitted, write_fitted
from voc_cls.files import write_text
from voc_cls.model_metadata import read_metadata
from voc_cls.nets.explained import explained
from voc_cls.nets.network import Network, build
from voc_cls.nets.registry import net_spec
from voc_cls.training.config import DatasetConfig, NetworkConfig, TrainConfig, to_dict
from voc_cls.training.run_folder import RunFolder
from voc_cls.training.trained_run import open_run

pytestmark = pytest.mark.slow  # builds whole networks; `make test-fast` leaves it out

NET, SIZE = "mobilenet_v1_0.25_128", 32
FITTED = Calibration("val", 2.5, -1.5)
"""What the run was calibrated by."""


def with_statistics(network: Network) -> Network:
    """The network with biases and moving averages that are not those of a new one."""
    random = np.random.default_rng(0)
    for variable in network.model.weights:
        if variable.path.endswith(("moving_mean", "beta", "bias")):
            variable.assign(random.normal(0, 0.1, variable.shape))
        elif variable.path.endswith(("moving_variance", "gamma")):
            variable.assign(random.uniform(0.5, 1.5, variable.shape))
    return network


@pytest.fixture(scope="module")
def run(devkit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a small MobileNet of random weights for the demo pictures."""
    from voc_cls.data.load import load_dataset

    folder = RunFolder(tmp_path_factory.mktemp("run"))
    labels = load_dataset(devkit)["trainval"].classes
    network = with_statistics(build(net_spec(NET, SIZE), "gap", len(labels)))
    network.model.save_weights(folder.best)
    network.model.save_weights(folder.last)
    write_text(folder.labels, "".join(f"{label}\n" for label in labels))
    write_fitted(folder.path, Fitted(default_thresholds(labels), FITTED), labels)
    config = TrainConfig(DatasetConfig(root=(devkit,), train_split="trainval", eval_split="test", val_split="none"),
                         NetworkConfig(weights="none", net=NET, head="gap", image_size=SIZE))
    folder.config.write_text(yaml.safe_dump(to_dict(config.checked())
                                            | {"provenance": {"weights_digest": None, "train_pictures": 20}}))
    return folder.path


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_run(run, tmp_path_factory.mktemp("models") / "voc", options=ExportOptions(("onnx", "openvino")))


def images(number: int, size: int) -> Any:
    return np.random.default_rng(number).uniform(-1, 1, (number, size, size, 3)).astype(np.float32)


def test_a_version_without_a_savedmodel_has_its_forms_and_what_describes_them(exported: Path):
    assert {path.name for path in exported.iterdir()} == {"model.onnx", "model.xml", "model.bin", "assets",
                                                          "MODEL_CARD.md"}
    assert {path.name for path in (exported / "assets").iterdir()} == {"labels.txt", "voc_cls.json"}
    forms = json.loads((exported / "assets/voc_cls.json").read_text())["forms"]
    assert list(forms) == ["onnx", "openvino"]
    for form in forms.values():
        assert form["precision"] == "float32"
        assert form["largest_difference"] < 1e-5
        assert 0 < form["map"] < 1
    card = (exported / "MODEL_CARD.md").read_text()
    assert "| openvino | float32 |" in card
    assert "`model.onnx` and `model.xml` take `inputs`, float32 [N, 32, 32, 3]" in card
    assert "serving_default" not in card


def test_the_onnx_graph_has_one_input_four_outputs_and_any_batch_size(exported: Path, run: Path):
    import onnxruntime

    model = onnx.load(exported / "model.onnx")
    assert model.opset_import[0].version >= 17
    session = onnxruntime.InferenceSession(exported / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(value.name, value.type, value.shape) for value in session.get_inputs()] == [
        ("inputs", "tensor(float)", ["N", SIZE, SIZE, 3])]
    assert [(value.name, value.shape) for value in session.get_outputs()] == [
        ("probabilities", ["N", 20]), ("logits", ["N", 20]), ("heat_maps", ["N", 20, 1, 1]), ("embedding", ["N", 256])]
    network = open_run(run).network
    for number in (1, 3):
        probabilities, logits = session.run(["probabilities", "logits"], {"inputs": images(number, SIZE)})
        right = network.model(images(number, SIZE), training=False).numpy()
        np.testing.assert_allclose(logits, right, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(probabilities, probabilities_of(right, Task.MULTI_LABEL), atol=1e-5)


def test_the_openvino_model_has_the_same_names_and_values_in_float32(exported: Path, run: Path):
    from export.openvino import openvino_predictor, read_model

    model = read_model(exported / "model.xml")
    assert [tensor.get_any_name() for tensor in model.inputs] == ["inputs"]
    assert [tensor.get_any_name() for tensor in model.outputs] == ["probabilities", "logits", "heat_maps",
                                                                           "embedding"]
    assert model.input().partial_shape.to_string() == f"[?,{SIZE},{SIZE},3]"
    right = open_run(run).network.model(images(3, SIZE), training=False).numpy()
    logits = openvino_predictor(exported / "model.xml")(images(3, SIZE))[1]
    np.testing.assert_allclose(logits, right, rtol=1e-4, atol=1e-4)


NARROW: dict[str, dict[str, Any]] = {  # between them all kinds of layers
    "resnet_v2_50": {"head": "gap+max", "blocks": ((8, 2), (8, 2))},
    "resnet_v1_50": {"head": "gap+max+lower", "blocks": ((8, 2), (8, 2))},
    "nasnet_mobile": {"head": "fc", "blocks": ((8, 1), (12, 1), (24, 1), (48, 1))},
    "vgg_19": {"head": "csra", "blocks": ((4, 1), (4, 1))},
    "vgg_16": {"head": "flatten", "blocks": ((4, 1), (4, 1))},
}


@pytest.mark.parametrize("net", NARROW)
def test_every_kind_of_layer_computes_the_same_in_onnx(net: str, tmp_path: Path):
    from export.onnx import onnx_predictor, write_onnx

    head, size = NARROW[net]["head"], 48
    network = with_statistics(build(replace(net_spec(net, size), blocks=NARROW[net]["blocks"]), head, 3))
    write_onnx(tmp_path / "model.onnx", network, Task.SINGLE_LABEL)
    probabilities, logits, *explanations = onnx_predictor(tmp_path / "model.onnx")(images(2, size))
    right, *explained_right = map(np.asarray, explained(network)(images(2, size), training=False))
    np.testing.assert_allclose(logits, right, rtol=1e-3, atol=1e-5 * np.abs(right).max())
    np.testing.assert_allclose(probabilities, probabilities_of(right, Task.SINGLE_LABEL), atol=1e-4)
    for found, expected in zip(explanations, explained_right, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_int8_is_a_quarter_of_the_size_with_thresholds_of_its_own_and_calibrates_in_float(
        run: Path, exported: Path, tmp_path: Path):
    from export.openvino import openvino_predictor, read_model

    options = ExportOptions(("openvino",), "int8", calibration=8, max_drop=100, evaluate=False, calibrated=True)
    version = export_run(run, tmp_path / "voc", options=options)
    form = json.loads((version / "assets/voc_cls.json").read_text())["forms"]["openvino"]
    assert (form["precision"], form["float_layers"]) == ("int8", ["m_logits/WithoutBiases"])  # the classifier
    assert list(form["thresholds"]) == (version / "assets/labels.txt").read_text().split("\n")[:-1]
    assert (version / "model.bin").stat().st_size < 0.35 * (exported / "model.bin").stat().st_size
    assert "Layers that stayed in float32: m_logits/WithoutBiases." in (version / "MODEL_CARD.md").read_text()
    model = read_model(version / "model.xml")
    assert model.input().get_any_name() == "inputs"
    embeddings = [openvino_predictor(folder / "model.xml")(images(3, SIZE))[3] for folder in (version, exported)]
    assert (embeddings[0] * embeddings[1]).sum(axis=1).min() > 0.95
    lines = [node for node in model.get_ordered_ops() if node.get_friendly_name().startswith("calibration")
             and node.get_type_name() in ("Multiply", "Add")]
    assert lines
    assert all(value.get_node().get_type_name() != "FakeQuantize" for node in lines for value in node.input_values())


def test_the_forms_of_a_calibrated_export_give_platts_probabilities_and_say_so(run: Path, tmp_path: Path):
    from export.onnx import onnx_predictor
    from export.openvino import openvino_predictor

    version = export_run(run, tmp_path / "voc", options=ExportOptions(("onnx", "openvino"), evaluate=False,
                                                                      calibrated=True))
    calibrated = open_run(run).network.model(images(3, SIZE), training=False).numpy() / 2.5 - 1.5
    for predict in (onnx_predictor(version / "model.onnx"), openvino_predictor(version / "model.xml")):
        probabilities, logits, *_ = predict(images(3, SIZE))
        np.testing.assert_allclose(logits, calibrated, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(probabilities, expit(calibrated), atol=1e-5)
    metadata = read_metadata(version)
    assert metadata.calibration == "platt"
    assert list(metadata.thresholds.values()) == pytest.approx([expit(-1.5)] * 20)  # where the network's own are 0.5
    assert "Calibrated by the temperature 2.5 and the offset -1.5 (" in (version / "MODEL_CARD.md").read_text()


def test_int8_that_loses_too_much_is_refused_with_the_loss_and_the_layers_in_float(
        run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import nncf
    import openvino

    def in_float32(model: Any, calibration: Any, validation: Any, validate: Any, **_: Any) -> Any:
        assert calibration.get_length() == 2
        assert validate(openvino.compile_model(model), validation.get_data())[0] == 0.9
        return model

    results = iter([0.9, 0.9, 0.8])
    monkeypatch.setattr("export.openvino.result_of", lambda *_: next(results))
    monkeypatch.setattr(nncf, "quantize_with_accuracy_control", in_float32)
    options = ExportOptions(("openvino",), "int8", calibration=2)
    with pytest.raises(ExportError, match=r"int8 loses 10\.00 points \(0\.9000 in float32, 0\.8000 in int8 on VOC2007 "
                                          r"test\) although these layers stay in float32: Conv2d_0, .*more than "
                                          r"`max_drop` 0\.5; raise it"):
        export_run(run, tmp_path / "voc", options=options)
    assert not list((tmp_path / "voc").iterdir())


def test_without_its_pictures_a_run_is_exported_unmeasured_and_not_quantised(run: Path, tmp_path: Path):
    moved = RunFolder(tmp_path / "run")
    moved.path.mkdir()
    for file in run.iterdir():
        (moved.path / file.name).write_bytes(file.read_bytes())
    config = yaml.safe_load(moved.config.read_text())
    config["dataset"]["root"] = [str(tmp_path / "gone")]
    moved.config.write_text(yaml.safe_dump(config))
    version = export_run(moved.path, tmp_path / "voc", options=ExportOptions(("openvino",)))
    assert json.loads((version / "assets/voc_cls.json").read_text())["forms"]["openvino"]["map"] is None
    with pytest.raises(DataError, match="gone"):
        export_run(moved.path, tmp_path / "voc", options=ExportOptions(("openvino",), "int8"))


@pytest.mark.parametrize(("options", "message"), [
    (ExportOptions(()), "`format`: is empty; choose one or several of savedmodel, onnx, openvino"),
    (ExportOptions(("tflite",)), "`format`: 'tflite' is not one of savedmodel, onnx, openvino"),  # type: ignore[arg-type]
    (ExportOptions(("onnx",), "int8"), "`precision` int8: is for `format` openvino, not for onnx; add openvino"),
    (ExportOptions(calibration=0), "`calibration` 0: must be at least 1"),
    (ExportOptions(max_drop=-1), "`max_drop` -1: must be from 0 to 100"),
], ids=str)
def test_options_that_contradict_each_other_are_refused(options: ExportOptions, message: str):
    with pytest.raises(UsageError, match=message):
        options.check()
