"""assets/voc_cls.json is checked before anything of a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from voc_cls.errors import ExportError
from voc_cls.image_decoder import Preprocessing
from voc_cls.model_metadata import ModelMetadata, read_metadata

VGG = {"size": 224, "mean": [123.68, 116.78, 104], "channels": "RGB", "resize": "bilinear"}
GOOD = {"format": 1, "net": "vgg_16", "labels": ["cat", "dog"], "preprocessing": VGG, "what comes later": 1}
"""As much as the first exports had to say."""
METRICS = {"split": "VOC2007 test", "pictures": 160, "difficult": "ignored", "map": 0.75, "map_11pt": 0.7, "cf1": 0.5,
           "of1": None, "classes": {"cat": {"ap": 0.9, "f1": 1}, "dog": {"ap": None}, "cow": {"ap": 1}},
           "top_3": {"cf1": 0.1}, "thresholds": {"shared": 0.5}}
WHOLE = {**GOOD, "activation": "sigmoid", "thresholds": {"cat": 0.25, "dog": 1}, "metrics": METRICS,
         "preprocessing": {**VGG, "std": [58, 57.5, 57], "jpeg_dct": "INTEGER_ACCURATE"},
         "weights_digest": "50cc"}


def written(folder: Path, content: Any) -> Path:
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "voc_cls.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_an_export_that_says_little_is_read_and_what_is_unknown_is_ignored(tmp_path: Path) -> None:
    expected = ModelMetadata(("cat", "dog"), "vgg_16", Preprocessing(224, (123.68, 116.78, 104.0)))
    assert read_metadata(written(tmp_path, GOOD)) == expected
    assert read_metadata(written(tmp_path, {**GOOD, "metrics": None, "thresholds": None})) == expected


def test_thresholds_preprocessing_and_what_was_measured_are_read(tmp_path: Path) -> None:
    assert read_metadata(written(tmp_path, WHOLE)) == ModelMetadata(
        ("cat", "dog"), "vgg_16", Preprocessing(224, (123.68, 116.78, 104.0), (58.0, 57.5, 57.0)), "sigmoid",
        {"cat": 0.25, "dog": 1.0}, {"pictures": 160.0, "map": 0.75, "map_11pt": 0.7, "cf1": 0.5}, {"cat": 0.9}, "50cc")


def test_thresholds_are_those_of_the_form_that_is_served_if_it_has_its_own(tmp_path: Path) -> None:
    forms = {"savedmodel": {"precision": "float32"}, "openvino": {"precision": "int8", "thresholds": {"cat": 0.75}}}
    metadata = read_metadata(written(tmp_path, {**WHOLE, "forms": forms}))
    assert metadata.as_form("openvino").thresholds == {"cat": 0.75}
    assert metadata.as_form("savedmodel") == metadata


def test_what_an_int8_form_is_said_to_reach_is_what_it_was_measured_to_reach_itself(tmp_path: Path) -> None:
    forms = {"onnx": {"precision": "float32", "map": 0.75}, "openvino": {"precision": "int8", "map": 0.625}}
    metadata = read_metadata(written(tmp_path, {**WHOLE, "forms": forms}))
    assert metadata.as_form("openvino").metrics == {"map": 0.625}
    assert metadata.as_form("openvino").average_precisions == {}
    assert metadata.as_form("onnx") == metadata
    forms["openvino"]["map"] = None
    assert read_metadata(written(tmp_path, {**WHOLE, "forms": forms})).as_form("openvino").metrics == {}


@pytest.mark.parametrize(("content", "message"), [
    ("{", "cannot be read"),
    ("[" * 100000, "cannot be read"),
    ("[]", 'has no number as its "format"'),
    ({"labels": ["cat"]}, 'has no number as its "format"'),
    ({**GOOD, "format": 2}, "has format 2, this voc-cls reads up to 1: upgrade voc-cls"),
    ({**GOOD, "labels": []}, '"labels" must be a list of names, found []'),
    ({**GOOD, "labels": ["cat", 3]}, '"labels" must be a list of names'),
    ({**GOOD, "labels": ["cat", "dog", "cat"]}, '"labels" has cat more than once'),
    ({**GOOD, "net": 16}, '"net" must be text, found 16'),
    ({**GOOD, "preprocessing": {"size": 0}}, '"preprocessing.size" must be from 1 to 2364 pixels, found 0'),
    ({**GOOD, "preprocessing": {"size": True}}, '"preprocessing.size" must be from 1 to 2364 pixels, found true'),
    ({**GOOD, "preprocessing": {**VGG, "size": 3000}}, '"preprocessing.size" must be from 1 to 2364 pixels, found'),
    ({**GOOD, "preprocessing": None}, '"preprocessing.size" must be from 1 to 2364 pixels, found null'),
    ({**GOOD, "preprocessing": 224}, '"preprocessing" must have keys and values, found 224'),
    ({**GOOD, "preprocessing": {"size": 8, "mean": 100}}, '"preprocessing.mean" must be three grey levels, found 100'),
    ({**GOOD, "preprocessing": {"size": 8, "mean": ["a"]}}, '"preprocessing.mean" must be three grey levels'),
    ({**GOOD, "preprocessing": {**VGG, "std": [1, 1]}}, '"preprocessing.std" must be three grey levels, found [1, 1]'),
    ({**GOOD, "preprocessing": {**VGG, "channels": "BGR"}}, '"preprocessing.channels" must be RGB, found \'BGR\''),
    ({**GOOD, "preprocessing": {**VGG, "resize": "area"}},
     '"preprocessing.resize" must be bilinear or bilinear-constant, found \'area\''),
    ({**GOOD, "thresholds": [0.5, 0.5]}, '"thresholds" must have keys and values, found [0.5, 0.5]'),
    ({**GOOD, "thresholds": {"cow": 0.5}}, '"thresholds.cow" must be for one of "labels", found 0.5'),
    ({**GOOD, "thresholds": {"cat": "high"}}, '"thresholds.cat" must be from 0 to 1, found \'high\''),
    ({**GOOD, "thresholds": {"cat": 1.5}}, '"thresholds.cat" must be from 0 to 1, found 1.5'),
    ({**GOOD, "thresholds": {"cat": float("nan")}}, '"thresholds.cat" must be from 0 to 1, found NaN'),
    ({**GOOD, "forms": {"openvino": {"thresholds": {"cow": 0.5}}}},
     '"forms.openvino.thresholds.cow" must be for one of "labels", found 0.5'),
    ({**GOOD, "metrics": 0.9}, '"metrics" must have keys and values, found 0.9'),
    ({**GOOD, "metrics": {"classes": {"cat": 0.9}}}, '"metrics.classes.cat" must have keys and values, found 0.9'),
    ({**GOOD, "metrics": {"classes": {"cat": {"ap": 9}}}}, '"metrics.classes.cat.ap" must be from 0 to 1, found 9'),
    ({**GOOD, "activation": None}, '"activation" must be text, found null'),
    ({**GOOD, "weights_digest": 5}, '"weights_digest" must be text, found 5'),
])
def test_a_file_that_cannot_be_used_is_named_with_what_was_found(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ExportError) as error:
        read_metadata(written(tmp_path, content))
    assert str(error.value).startswith(f"{tmp_path}/assets/voc_cls.json")
    assert message in str(error.value)


def test_a_model_without_it_is_told_to_be_foreign(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has no assets/voc_cls\.json, so it was not made by voc-export"):
        read_metadata(tmp_path)
