"""assets/voc_cls.json is checked before anything of a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.errors import ServeError
from serving.metadata import ModelMetadata, read_metadata

GOOD = {"format": 1, "net": "vgg_16", "labels": ["cat", "dog"], "preprocessing": {"size": 224}, "what comes later": 1}


def written(folder: Path, content: Any) -> Path:
    (folder / "assets").mkdir(exist_ok=True)
    (folder / "assets" / "voc_cls.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def test_what_the_server_needs_is_read_and_the_rest_ignored(tmp_path: Path) -> None:
    assert read_metadata(written(tmp_path, GOOD)) == ModelMetadata(("cat", "dog"), "vgg_16", 224)


@pytest.mark.parametrize(("content", "message"), [
    ("{", "cannot be read"),
    ("[]", 'has no number as its "format"'),
    ({"labels": ["cat"]}, 'has no number as its "format"'),
    ({**GOOD, "format": 2}, "has format 2, this voc-serve reads up to 1: upgrade voc-cls"),
    ({**GOOD, "labels": []}, '"labels" must be a list of names, found []'),
    ({**GOOD, "labels": ["cat", 3]}, '"labels" must be a list of names'),
    ({**GOOD, "labels": ["cat", "dog", "cat"]}, '"labels" has cat more than once'),
    ({**GOOD, "preprocessing": {"size": 0}}, '"preprocessing" must have a "size" in pixels'),
])
def test_a_file_that_cannot_be_used_is_named_with_what_was_found(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ServeError) as error:
        read_metadata(written(tmp_path, content))
    assert str(error.value).startswith(f"{tmp_path}/assets/voc_cls.json")
    assert message in str(error.value)


def test_a_model_without_it_is_told_to_be_foreign(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=r"has no assets/voc_cls\.json, so it was not made by voc-export"):
        read_metadata(tmp_path)
