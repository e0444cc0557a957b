"""What a server is to serve is said by flags or by a file, and a mistake in either is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.config.models import ModelsConfig, ModelSettings, VersionPolicy, model_settings, parse_policy
from voc_cls.errors import UsageError


@pytest.mark.parametrize(("text", "wanted"), [
    ("latest", (12,)), ("latest:1", (12,)), ("latest:2", (7, 12)), ("latest:9", (1, 3, 7, 12)),
    ("all", (1, 3, 7, 12)), ("3", (3,)), ("7,3", (3, 7)), ("007,03", (3, 7)), ("3, 8, 12", (3, 12)), ("5", ()),
])
def test_a_policy_chooses_among_the_versions_on_disk(text: str, wanted: tuple[int, ...]) -> None:
    assert parse_policy(text).wanted((7, 1, 12, 3)) == wanted
    assert parse_policy(text).wanted(()) == ()
    assert parse_policy(str(parse_policy(text))) == parse_policy(text)


@pytest.mark.parametrize("text", ["", "newest", "latest:", "latest:0", "latest:-1", "latest:x", "3,", "3,x", "-3",
                                  "ALL", "1.5", "latest:²", "9" * 30])
def test_a_policy_that_is_none_names_those_there_are(text: str) -> None:
    with pytest.raises(UsageError, match=r"^`versions` '.*' is not latest, latest:2 \(the two highest\), all, or"):
        parse_policy(text)


def test_the_flags_say_one_model_with_the_name_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "voc").mkdir()
    monkeypatch.chdir(tmp_path / "voc")
    assert model_settings(ModelsConfig(Path("."))) == (ModelSettings("voc", Path(".")),)
    assert model_settings(ModelsConfig(Path("."), "cats", "3,4", ("stable=3", "old=003", "canary=4"))) == (
        ModelSettings("cats", Path("."), VersionPolicy("specific", numbers=(3, 4)),
                      {"stable": 3, "old": 3, "canary": 4}),)


def test_a_file_says_several_models_in_folders_relative_to_itself(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("- {name: cats, path: models/voc, versions: [3, 7], labels: {stable: 3}}\n"
                    "- {path: /data/dogs, versions: latest:2}\n"
                    "- {name: birds, path: ../birds, versions: 010, labels: {stable: 010}}\n"
                    "- {name: cows, path: cows, labels: }\n")
    assert model_settings(ModelsConfig(models_file=file)) == (
        ModelSettings("cats", tmp_path / "models/voc", VersionPolicy("specific", numbers=(3, 7)), {"stable": 3}),
        ModelSettings("dogs", Path("/data/dogs"), VersionPolicy("latest", latest=2)),
        ModelSettings("birds", tmp_path / "../birds", VersionPolicy("specific", numbers=(10,)), {"stable": 10}),
        ModelSettings("cows", tmp_path / "cows"),
    )


@pytest.mark.parametrize(("values", "message"), [
    ({}, "no model to serve: pass `model_dir` models/voc"),
    ({"model_dir": Path("a"), "models_file": Path("b")}, "`model_dir` and `models_file` both say what to serve"),
    ({"model_dir": Path("a"), "served": (ModelSettings("b", Path("b")),)}, "`model_dir` and models.served both say"),
    ({"models_file": Path("a"), "model_name": "b"}, "`model_name` belongs to `model_dir`: set it in `models_file`"),
    ({"models_file": Path("a"), "versions": "all"}, "`versions` belongs to `model_dir`"),
    ({"models_file": Path("a"), "version_labels": ("a=1",)}, "`version_labels` belongs to `model_dir`"),
    ({"models_file": Path("none.yaml")}, "`models_file` none.yaml: cannot be read ("),
    ({"model_dir": Path("/")}, "`model_dir` / has no `model_name`, and its name '' cannot be a model's name"),
    ({"model_dir": Path("a"), "model_name": "../etc"}, "`model_name` '../etc' cannot be a model's name"),
    ({"model_dir": Path("a"), "model_name": ""}, "`model_name` '' cannot be a model's name"),
    ({"model_dir": Path("a"), "model_name": "a\nb"}, "`model_name` 'a\\nb' cannot be a model's name"),
    ({"model_dir": Path("a"), "model_name": "x" * 101}, f"`model_name` '{'x' * 20}…' cannot be a model's name"),
    ({"model_dir": Path("a"), "versions": "new"}, "`versions` 'new' is not latest"),
    ({"model_dir": Path("a"), "version_labels": ("stable",)}, "`version_labels` 'stable' is not a label of a version"),
    ({"model_dir": Path("a"), "version_labels": ("stable=new",)}, "`version_labels` 'stable=new' is not a label"),
    ({"model_dir": Path("a"), "version_labels": ("a=1", "a=2")}, "`version_labels` 'a=2': the label 'a' is version 1"),
    ({"model_dir": Path("a"), "version_labels": ("3=4",)}, "`version_labels`: the label '3' is a number, which"),
    ({"model_dir": Path("a"), "version_labels": ("a/b=4",)}, "`version_labels`: 'a/b' cannot be a label"),
    ({"model_dir": Path("a"), "versions": "3,4", "version_labels": ("a=5",)},
     "`version_labels`: the label 'a' is version 5, which is not served, as only 3,4 are"),
])
def test_a_wrong_flag_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        model_settings(ModelsConfig(**values))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("text", "message"), [
    ("", "must be a list of models, such as - {name: voc"),
    ("voc: models/voc", "must be a list of models, such as"),
    ("- models/voc", "[0]: expected keys and values, found 'models/voc'"),
    ("- {path: a}\n- {folder: b}", "[1].folder: no such key; known are name, path, versions, labels"),
    ("- {name: a}", "[0].path: must be a folder of versions, such as models/voc, found null"),
    ("- {path: a, name: 7}", "[0].name: 7 is not a text: write it in quotation marks"),
    ("- {path: a, name: .a}", "[0].name '.a' cannot be a model's name: use letters"),
    ("- {path: 'a b'}", "[0].path has no name beside it, and its own 'a b' cannot be a model's name"),
    ("- {path: a, versions: new}", "[0].versions 'new' is not latest"),
    ("- {path: a, versions: [3, new]}", "[0].versions [3, \"new\"] is not latest"),
    ("- {path: a, versions: }", "[0].versions null is not latest"),
    ("- {path: a, versions: true}", "[0].versions true is not latest"),
    ("- {path: a, labels: [stable]}", '[0].labels: ["stable"] are not labels: write them as {stable: 3, canary: 4}'),
    ("- {path: a, labels: {3: 3}}", "[0].labels: the label 3 is a number"),
    ("- {path: a, labels: {'3': 3}}", "[0].labels: the label '3' is a number"),
    ("- {path: a, labels: {stable: newest}}", "[0].labels: the label 'stable' must be the number of a version, found"),
    ("- {path: a, labels: {stable: true}}", "[0].labels: the label 'stable' must be the number of a version, found"),
    ("- {path: a, versions: 3, labels: {stable: 4}}", "[0].labels: the label 'stable' is version 4, which is not"),
    ("- {path: a}\n- {path: b/a}", "'a' is the name of several models: give each a different \"name\""),
    ("- {path: a, path: b}", "cannot be read (line 1: the key path is there twice)"),
])
def test_a_wrong_entry_of_a_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        model_settings(ModelsConfig(models_file=file))
    assert str(error.value).startswith(f"`models_file` {file}: {message}")
