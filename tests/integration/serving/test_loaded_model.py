"""An exported model in OpenVINO's form predicts where TensorFlow cannot be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf

import voc_cls
from tests.commands import command_in_process as command
from tests.integration.serving.conftest import jpeg
from tests.integration.serving.tiny_ir import export_tiny_ir
from voc_cls.errors import DataError, ExportError


@pytest.fixture(scope="module")
def openvino_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/light with the versions 9 and 010, which has the weights of models/tiny/10."""
    folder = tmp_path_factory.mktemp("light") / "light"
    for name, seed in (("9", 9), ("010", 10)):
        (folder / name).mkdir(parents=True)
        export_tiny_ir(folder / name, seed=seed)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, pictures: list[bytes]) -> list[Path]:
    """More than a batch, of several kinds, one on its side; the third and the last are no pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    lying = pictures[0][:2] + b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6" + bytes(6)
    contents = [*pictures[:2], b"no picture", *map(jpeg, range(20)), lying + pictures[0][2:], b""]
    paths = [folder / f"{number:02}.jpg" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


@pytest.fixture
def without_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started cannot import TensorFlow, nor can those that they start."""
    for name in ("tensorflow", "keras", "tensorflow_serving"):
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('hidden', name='{name}')")
    path = (str(tmp_path), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))


def python(program: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True, check=False)


def probabilities(saved_model: Any, content: bytes) -> dict[str, float]:
    scores = saved_model.signatures["classify"](tf.constant([tf.train.Example(features=tf.train.Features(feature={
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))})).SerializeToString()]))
    return dict(zip((name.decode() for name in scores["classes"][0].numpy()), scores["scores"][0].numpy(), strict=True))


def test_both_forms_of_a_model_predict_what_its_graph_does(openvino_model: Path, model: Path, saved_model: Any,
                                                           files: list[Path]) -> None:
    by_openvino, by_tensorflow = voc_cls.load_model(openvino_model), voc_cls.load_model(str(model / "10"))
    assert (by_openvino.name, by_openvino.version, by_tensorflow.version) == ("light", 10, 10)
    answers = by_openvino.predict(files, raise_errors=False)
    good = [file for file, answer in zip(files, answers, strict=True) if answer.error is None]
    assert [files.index(file) for file in set(files) - set(good)] in ([2, 24], [24, 2])
    same = by_tensorflow.predict(good)
    for file, answer, other in zip(good, (one for one in answers if one.error is None), same, strict=True):
        assert (answer.model, answer.version, answer.activation) == ("light", 10, "sigmoid")
        expected = None if file == files[23] else probabilities(saved_model, file.read_bytes())  # its graph has no EXIF
        for one in (answer, other):
            found = {scored.label: scored.probability for scored in one.labels}
            assert list(found.values()) == sorted(found.values(), reverse=True)
            assert expected is None or found == pytest.approx(expected, abs=1e-5)
        assert [scored.label for scored in answer.labels[:3]] == [scored.label for scored in other.labels[:3]]
    assert [len(answer.labels) for answer in by_openvino.predict(good[:2], top_k=3)] == [3, 3]


@pytest.mark.usefixtures("without_tensorflow")
def test_voc_predict_needs_no_tensorflow(openvino_model: Path, files: list[Path]) -> None:
    assert "hidden" in python("import tensorflow").stderr
    done = python("from voc_cls.cli.predict import main; main()", *files, "--model", openvino_model, "--json",
                  "--top-k", 0)
    assert done.stderr.endswith("voc-predict: error: 2 of 25 pictures failed, see above\n")
    local = json.loads(done.stdout)["pictures"]
    right = voc_cls.load_model(openvino_model).predict(files, raise_errors=False)
    for one, other in zip(local, right, strict=True):
        assert (one["model"], one["version"], one.get("error")) == (other.model, other.version, other.error)
        assert {label["label"]: label["probability"] for label in one["labels"]} == pytest.approx(
            {scored.label: scored.probability for scored in other.labels}, abs=1e-6)


def test_what_is_no_exported_model_and_what_is_no_picture_is_named(openvino_model: Path, files: list[Path],
                                                                  tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{files[2]}: is not a JPEG, PNG"):
        voc_cls.load_model(openvino_model).predict(files)
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ExportError, match=f"{path}: has no version of a model in it"):
            voc_cls.load_model(path)
    (tmp_path / "1" / "assets").mkdir(parents=True)
    for file in ("assets/voc_cls.json", "model.xml"):
        (tmp_path / "1" / file).write_bytes((openvino_model / "9" / file).read_bytes())
    with pytest.raises(ExportError, match=f"{tmp_path}/1: cannot be loaded .*; export the model again"):
        voc_cls.load_model(tmp_path)


def test_a_name_is_the_servers_and_a_path_an_exported_model(openvino_model: Path, files: list[Path]) -> None:
    asked = command("voc-predict", files[0], "--model", "./light", cwd=openvino_model.parent)
    assert (asked.returncode, len(asked.stdout.splitlines())) == (0, 5), asked.stderr
    asked = command("voc-predict", files[0], "--model", "light", "--server", "127.0.0.1:1", "--wait", 0,
                    cwd=openvino_model.parent)
    assert "no server answers at 127.0.0.1:1" in asked.stderr
    asked = command("voc-predict", files[0], "--model", openvino_model, "--version", 9)
    assert asked.stderr == ("voc-predict: error: --version and --model exclude each other: give --server to ask a "
                            "server, or --model to predict without one\n")
