"""Label Studio's export as labels: an export of Label Studio 1.23.2, where its images may be, what it can get wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from voc_cls.cli.predict_output import Output, write_predictions
from voc_cls.data.dataset import Dataset, Task
from voc_cls.data.load import load_dataset, open_reader, read_dataset, recognise_kind
from voc_cls.data.readers.split_scan import Box, VocObject
from voc_cls.errors import DataError, UsageError
from voc_cls.evaluation.objects import read_boxes
from voc_cls.evaluation.suspects import percent_boxes
from voc_cls.pre_annotations import write_tasks
from voc_cls.prediction import Prediction, ScoredLabel

EXPORT = Path(__file__).parents[2] / "data/label_studio_1_23_2.json"
"""Seven tasks: labelled once; by two who differ; as showing nothing; skipped; not at all; with a ground truth; and an
uploaded image. All but the last are of local storage."""
PHOTOS = ("000007.jpg", "000011.jpg", "000012.jpg", "000019.jpg", "000020.jpg", "eins zwei +ö.jpg")
CHOICES = '<View><Image name="i" value="$image"/><Choices name="c" toName="i"{}>{}</Choices></View>'


def draw(*paths: Path) -> None:
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), (number, 0, 0)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The export in Label Studio's document root, and the uploaded image beside it."""
    draw(*(tmp_path / "data/photos" / name for name in PHOTOS), tmp_path / "data/ae533f96-eins_zweiü.jpg")
    shutil.copy(EXPORT, tmp_path / "data/project-1.json")
    return tmp_path / "data"


def choices(*names: str, **more: Any) -> dict[str, Any]:
    result = {"from_name": "c", "to_name": "i", "type": "choices", "value": {"choices": list(names)}}
    return {"result": [result], **more}


def write(folder: Path, *tasks: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "export.json").write_text(json.dumps(tasks))
    return folder


def read(root: Path, split: str = "export") -> Dataset:
    return read_dataset("label-studio", root, split)


def test_an_export_gives_the_classes_on_which_the_annotators_agree(root: Path):
    assert recognise_kind(root) == recognise_kind(root / "project-1.json") == "label-studio"
    dataset = load_dataset(root)["project-1"]
    assert (dataset.task, dataset.classes) == (Task.MULTI_LABEL, ("bus", 'cat & "dog" <x>', "person"))
    assert [path.name for path in dataset.paths] == [*PHOTOS[:3], PHOTOS[5], "ae533f96-eins_zweiü.jpg"]
    assert dataset.labels.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]
    assert np.argwhere(dataset.ignored).tolist() == [[1, 0]]
    assert [warning.split(": ")[1][:6] for warning in dataset.warnings] == ["2 of 7", "1 of 7", "1 of 7"]


def test_the_labelling_configuration_has_the_order_of_the_classes_and_the_task(root: Path):
    names = ("person", "cat &amp; &quot;dog&quot; &lt;x&gt;", "bus", "horse")
    values = "".join(f'<Choice value="{name}"/>' for name in names)
    config = root / "labels.xml"
    config.write_text("<!-- ours -->\n" + CHOICES.format(' choice="multiple"', values))
    dataset = read(root, "project-1")
    assert (dataset.task, dataset.classes) == (Task.MULTI_LABEL, ("person", 'cat & "dog" <x>', "bus", "horse"))
    config.write_text(CHOICES.format(' choice="multiple"', '<Choice value="bus"/><Choice value="persons"/>'))
    with pytest.raises(DataError, match="task 1: unknown class 'cat & \"dog\" <x>'"):
        read(root, "project-1")
    config.write_text(CHOICES.format(' choice="single-radio"', values))
    problems = open_reader("label-studio", root).scan("project-1").problems
    assert [problem.split(": ")[1] for problem in problems] == ["task 1", "task 2", "task 3"]
    assert "has 2 classes (bus, person), where" in problems[1]


def test_a_single_choice_is_a_single_label_data_set(tmp_path: Path):
    draw(tmp_path / "data/1.jpg", tmp_path / "data/2.jpg")
    root = write(tmp_path / "data", *({"data": {"photo": f"{number}.jpg"}, "annotations": [choices(name)]}
                                      for number, name in ((1, "dog"), (2, "cat"))))
    assert read(root).task is Task.MULTI_LABEL
    (root / "config.xml").write_text(CHOICES.format("", '<Choice value="dog"/><Choice value="Cat" alias="cat"/>'))
    assert (read(root).task, read(root).labels.tolist()) == (Task.SINGLE_LABEL, [[1, 0], [0, 1]])


@pytest.mark.parametrize(("reference", "file"), [
    ("/data/local-files/?d=photos/a%20b.jpg", "photos/a b.jpg"),
    ("/data/local-files/?d=data/photos/a.jpg", "photos/a.jpg"),
    ("/data/upload/3/0a1b2c3d-a.jpg", "upload/3/0a1b2c3d-a.jpg"), ("/data/upload/3/0a1b2c3d-a.jpg", "photos/a.jpg"),
    ("http://localhost:8080/data/upload/3/0a1b2c3d-a.jpg", "a.jpg"), ("photos/a.jpg", "photos/a.jpg"),
    ("https://example.org/set/a.jpg?token=1", "a.jpg"), ("s3://bucket/photos/a.jpg", "photos/a.jpg")])
def test_images_are_found_as_label_studio_names_them(tmp_path: Path, reference: str, file: str):
    root = write(tmp_path / "data", {"data": {"image": reference}, "annotations": [choices("cat")]})
    with pytest.raises(DataError, match=r"task 1: there is no picture for .*nothing is downloaded"):
        read(root)
    draw(root / file)
    assert read(root).paths == (root / file,)


def test_labels_of_regions_count_and_texts_do_not(tmp_path: Path):
    region = {"type": "rectanglelabels", "value": {"x": 10, "y": 20, "rectanglelabels": ["dog"]}}
    root = write(tmp_path / "data", {"data": {"image": "1.jpg"}, "annotations": [{"result": [
        region, *choices("cat")["result"], {"type": "textarea", "value": {"text": ["emu"]}}, {"type": "relation"}]}]})
    draw(root / "1.jpg")
    dataset = read(root)
    assert (dataset.classes, dataset.labels.tolist()) == (("cat", "dog"), [[1, 1]])


def rectangle(name: str, x: float, y: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    """As https://labelstud.io/guide/export has it: percent of the image."""
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": more.pop("rotation", 0),
             "rectanglelabels": [name]}
    return {"original_width": 40, "original_height": 30, "image_rotation": 0, "value": value, "id": "Dx_aB91ISN",
            "from_name": "label", "to_name": "image", "type": "rectanglelabels", **more}


def test_rectangles_have_their_boxes_in_pixels_and_turned_ones_none(tmp_path: Path):
    polygon = {"type": "polygonlabels", "original_width": 40, "original_height": 30,
               "value": {"points": [[1, 1], [50, 1], [1, 50]], "polygonlabels": ["cow"]}}
    point = {"type": "keypointlabels", "original_width": 40, "original_height": 30,
             "value": {"x": 10, "y": 10, "width": 1, "keypointlabels": ["cow"]}}
    root = write(tmp_path / "data", {"data": {"image": "1.jpg"}, "annotations": [{"result": [
        rectangle("dog", 25, 10, 50, 60), rectangle("cat", 0, 0, 100, 100), polygon, point, *choices("emu")["result"],
        rectangle("cat", 10, 10, 20, 20, rotation=30), rectangle("dog", 10, 10, 20, 20, image_rotation=90)]}]})
    draw(root / "1.jpg")
    dataset = read(root)
    assert dataset.named(dataset.labels[0]) == ["cat", "cow", "dog", "emu"]
    assert open_reader("label-studio", root).scan("export").objects == ((
        VocObject("dog", Box(11, 4, 30, 21)), VocObject("cat", Box(1, 1, 40, 30))),)
    boxes = read_boxes(dataset, dataset.classes)
    assert [[float(box[side]) for side in ("column", "left", "top", "right", "bottom")] for box in boxes] == [
        [2, 10, 3, 30, 21], [0, 0, 0, 40, 30]]
    assert percent_boxes(dataset) == {0: (("dog", 25, 10, 50, 60), ("cat", 0, 0, 100, 100))}  # as they came


def test_boxes_of_a_class_that_another_annotator_does_not_give_do_not_count(tmp_path: Path):
    both, one = rectangle("dog", 0, 0, 50, 50), rectangle("cat", 0, 0, 50, 50)
    root = write(tmp_path / "data", {"data": {"image": "1.jpg"}, "annotations": [{"result": [both, one]},
                                                                                 {"result": [both]}]})
    draw(root / "1.jpg")
    assert open_reader("label-studio", root).scan("export").objects == ((VocObject("dog", Box(1, 1, 20, 15)),),)


@pytest.mark.parametrize(("content", "found"), [
    ('[{"image": "1.jpg", "id": 1, "c": "cat"}]',
     "not a list of tasks with 'data' and 'annotations'; export .*not JSON-MIN"),
    ('[{"id": 1', "is not JSON"), ('[{"data": {}, "annotations": []}]', r"task 1: its data \(empty\) have no picture"),
    ('[{"id": 7, "data": {"image": "1.jpg"}, "annotations": [{}]}]', "task 7: lacks a key .*'result'"),
    ('[{"data": {"image": "1.jpg"}, "annotations": [{"result": [{"type": "choices", "value": {"choices": [1]}}]}]}]',
     "task 1: lacks a key of Label Studio or has another kind of value"),
    ('[{"data": {"a": "1.jpg", "b": "2.jpg"}, "annotations": []}]', r"its data \(a, b\) have no picture, or several")])
def test_a_file_that_cannot_be_meant_is_one_sentence(tmp_path: Path, content: str, found: str):
    (tmp_path / "export.json").write_text(content)
    with pytest.raises(DataError, match=found) as error:
        read(tmp_path)
    assert str(tmp_path / "export.json") in str(error.value)
    assert "\n" not in str(error.value)


def test_roots_and_configurations_that_cannot_be_meant_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="has no export of Label Studio"):
        read(tmp_path)
    root = write(tmp_path, {"data": {"image": "1.jpg"}, "annotations": []})
    (root / "a.xml").write_text("<View><Choices>")
    with pytest.raises(DataError, match=r"a\.xml:1: malformed XML"):
        read(root)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_pre_annotations_that_are_accepted_are_read_as_labels(tmp_path: Path, activation: str):
    photos = [tmp_path / "data/photos" / name for name in ("a b.jpg", "c+ö.jpg")]
    draw(*photos)
    predictions = [Prediction((ScoredLabel("dog", 0.9), ScoredLabel("a <cat>", second)), "pets", 3,
                              activation=activation) for second in (0.8, 0.2)]
    files = [*zip(map(str, photos), predictions, strict=True), ("s3://bucket/d.jpg", predictions[0]),
             ("e.jpg", Prediction((), "", error="broken"))]
    use = write_tasks(tmp_path / "data/tasks.json", files)
    assert f"DOCUMENT_ROOT={tmp_path}/data and has the local storage {tmp_path}/data/photos" in use
    tasks = json.loads((tmp_path / "data/tasks.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        "/data/local-files/?d=photos/a%20b.jpg", "/data/local-files/?d=photos/c%2B%C3%B6.jpg", "s3://bucket/d.jpg"]
    assert [task["predictions"][0]["score"] for task in tasks] == [0.8 if activation == "sigmoid" else 0.9] + (
        [0.8, 0.8] if activation == "sigmoid" else [0.9, 0.9])
    assert tasks[0]["predictions"][0]["model_version"] == "pets 3"
    root = write(tmp_path / "data/labelled", *({"data": task["data"], "annotations": task["predictions"]}
                                               for task in tasks[:2]))
    shutil.copy(tmp_path / "data/tasks.xml", root)
    dataset = read(root)
    assert dataset.paths == tuple(tmp_path / "data/photos" / path.name for path in photos)
    assert dataset.task is (Task.MULTI_LABEL if activation == "sigmoid" else Task.SINGLE_LABEL)
    assert dataset.classes == ("a <cat>", "dog")
    assert dataset.labels.tolist() == ([[1, 1], [0, 1]] if activation == "sigmoid" else [[0, 1], [0, 1]])


def test_voc_predict_pre_annotates_from_its_threshold_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    shown = Prediction((ScoredLabel("dog", 0.9), ScoredLabel("cat", 0.3)), "pets", None, activation="sigmoid")
    output = Output(label_studio=tmp_path / "tasks.json", threshold=0.2)
    write_predictions(output, (entry for entry in [(str(tmp_path / "photos/a.jpg"), shown)]), 1)
    task, = json.loads((tmp_path / "tasks.json").read_text())
    assert task["predictions"] == [{"model_version": "pets", "score": 0.3, "result": [
        {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["dog", "cat"]}}]}]
    assert capsys.readouterr().err.startswith(f"{tmp_path}/tasks.json: 1 task for Label Studio, with the label")
    with pytest.raises(UsageError, match="`csv` and `label_studio` exclude each other"):
        Output(csv=tmp_path / "a.csv", label_studio=tmp_path / "tasks.json")
