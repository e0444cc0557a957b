"""Labels that do not fit what the other images say: which are found, how they are shown, what is not judged."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from voc_cls.data.dataset import Dataset, Task
from voc_cls.errors import UsageError
from voc_cls.evaluation.predictions import Floats
from voc_cls.evaluation.suspects import Suspects, find_suspects

WRONG = (3, 50, 77)
"""Images of the fixtures with a wrong label."""


@pytest.fixture
def paths(tmp_path: Path) -> tuple[Path, ...]:
    paths = tuple(tmp_path / f"{number}.png" for number in range(120))
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return paths


@pytest.fixture
def several(paths: tuple[Path, ...]) -> tuple[Dataset, Floats]:
    """Three classes, each with a direction of its own among the features; three wrong labels; one class is rare."""
    random = np.random.default_rng(0)
    true = random.random((120, 3)) < 0.4
    features = np.hstack([true * 2.0 - 1, np.zeros((120, 5))]) + 0.3 * random.standard_normal((120, 8))
    labels = np.hstack([true, np.arange(120)[:, None] == 0]).astype(np.float32)
    for row in WRONG:
        labels[row, row % 3] = 1 - labels[row, row % 3]
    dataset = Dataset("animals", ("cat", "dog", "emu", "rare"), paths, labels, np.zeros(labels.shape, bool))
    return dataset, features


@pytest.fixture
def single(paths: tuple[Path, ...]) -> tuple[Dataset, Floats]:
    """Three classes, one an image, and three wrong labels."""
    random = np.random.default_rng(0)
    true = np.arange(120) % 3
    features = np.eye(6)[true] + 0.2 * random.standard_normal((120, 6))
    labels = np.eye(3, dtype=np.float32)[[(label + (row in WRONG)) % 3 for row, label in enumerate(true)]]
    return Dataset("pets", ("cat", "dog", "emu"), paths, labels, np.zeros(labels.shape, bool),
                   task=Task.SINGLE_LABEL), features


def numbers(suspects: Suspects, most: int = len(WRONG)) -> set[int]:
    return {int(suspect.file.stem) for suspect in suspects.images[:most]}


def test_a_split_without_a_class_of_enough_images_is_refused(several: tuple[Dataset, Floats]):
    dataset, features = several
    with pytest.raises(UsageError, match="animals: no class has 5 pictures, one for each fold; choose a larger split"):
        find_suspects(dataset.subset(np.arange(6), "animals"), features[:6])


def test_wrong_labels_of_several_come_first_with_what_is_to_be_changed(several: tuple[Dataset, Floats]):
    suspects = find_suspects(*several)
    assert numbers(suspects) == set(WRONG)
    dataset = several[0]
    for suspect in suspects.images[:3]:
        row = int(suspect.file.stem)
        name, given = dataset.classes[row % 3], bool(dataset.labels[row, row % 3])
        assert (name in suspect.given) == given != (name in suspect.suggested)
        assert suspect.changes[0].startswith(f"−{name} " if given else f"+{name} ")
    assert suspects.images[-1].changes == ()
    assert suspects.doubted < 20


def test_a_wrong_single_label_comes_first_with_the_likely_class(single: tuple[Dataset, Floats]):
    suspects = find_suspects(*single)
    assert numbers(suspects) == set(WRONG)
    for suspect in suspects.images[:3]:
        assert suspect.suggested == (single[0].classes[int(suspect.file.stem) % 3],) != suspect.given


def test_an_ignored_label_is_not_judged(several: tuple[Dataset, Floats]):
    dataset, features = several
    ignored, labels = dataset.ignored.copy(), dataset.labels.copy()
    row = next(row for row in range(120) if labels[row, 0] and row not in WRONG)
    labels[row, 0] = 0
    assert row in numbers(find_suspects(replace(dataset, labels=labels), features), 4)
    ignored[row, 0] = True
    suspects = find_suspects(replace(dataset, ignored=ignored, labels=labels), features)
    assert row not in numbers(suspects, 10)
    own = next(suspect for suspect in suspects.images if suspect.file.stem == str(row))
    assert dataset.classes[0] not in own.suggested


def test_a_class_with_too_few_images_is_told_and_not_judged(several: tuple[Dataset, Floats],
                                                            single: tuple[Dataset, Floats]):
    suspects = find_suspects(*several)
    assert suspects.notes == ("classes with fewer than 5 pictures are not judged: rare",)
    assert "rare" in next(suspect for suspect in suspects.images if suspect.file.stem == "0").suggested
    dataset, features = single
    labels = np.hstack([dataset.labels, np.zeros((120, 1), np.float32)])
    labels[0] = [0, 0, 0, 1]
    rare = replace(dataset, classes=(*dataset.classes, "rare"), labels=labels, ignored=np.zeros(labels.shape, bool))
    suspects = find_suspects(rare, features)
    assert len(suspects.images) == 119
    assert numbers(suspects) == set(WRONG)


def test_variants_of_a_picture_do_not_judge_each_other(several: tuple[Dataset, Floats], tmp_path: Path):
    """Twelve variants with one wrong label would confirm it to each other."""
    dataset, features = several
    labels, features = dataset.labels.copy(), features.copy()
    features[:12] = [5, -1, -1, 0, 0, 0, 0, 9]
    labels[:12] = [0, 0, 0, 0]
    names = tuple(tmp_path / f"same_png.rf.{number}.png" if number < 12 else path
                  for number, path in enumerate(dataset.paths))
    for old, new in zip(dataset.paths[:12], names[:12], strict=True):
        old.rename(new)
    variants = replace(dataset, labels=labels, paths=names)
    scores = {group: np.mean([suspect.score for suspect in find_suspects(variants, features, group=group).images
                              if ".rf." in suspect.file.name]) for group in ("auto", "none")}
    assert scores["auto"] < 0.3 < scores["none"]


def test_the_table_fits_80_columns_and_the_files_have_what_it_shows(several: tuple[Dataset, Floats], tmp_path: Path):
    suspects = find_suspects(*several)
    console = Console(width=80, record=True, quiet=False, file=(tmp_path / "out").open("w"))
    console.print(suspects.table(5))
    console.file.close()
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert suspects.images[0].file.name in text
    suspects.write_csv(tmp_path / "suspects.csv")
    with (tmp_path / "suspects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [str(suspect.file) for suspect in suspects.images]
    assert rows[0]["suggested"] == "|".join(suspects.images[0].suggested)
    suspects.write_html(tmp_path / "page.html", 7, "runs/head")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<img") == page.count('src="data:image/webp') == 7
    assert "http" not in page.replace("http-equiv", "")
    assert suspects.to_dict()["suspects"][0]["given"] == list(suspects.images[0].given)


def test_the_page_has_boxes_and_heat_maps_and_is_filtered_and_walked_through_by_keyboard(
        several: tuple[Dataset, Floats], tmp_path: Path):
    playwright, browser = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if browser is None:
        pytest.skip("needs chromium")
    found = find_suspects(*several)
    boxed = replace(found.images[0], boxes=(("cat", 10.0, 20.0, 50.0, 60.0),))
    asked: list[tuple[str, str]] = []

    def heat_maps(paths: Sequence[Path], labels: Sequence[str]) -> np.ndarray:
        asked.extend((path.name, label) for path, label in zip(paths, labels, strict=True))
        return np.random.default_rng(0).random((len(paths), 7, 7)).astype(np.float32)

    replace(found, images=(boxed, *found.images[1:])).write_html(tmp_path / "page.html", 10, "runs/head", heat_maps)
    doubted = [suspect for suspect in found.images[:10] if suspect.changes]
    assert asked == [(suspect.file.name, suspect.changes[0][1:].split()[0]) for suspect in doubted]
    with playwright.sync_playwright() as api:
        page = api.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"]).new_page()
        errors: list[object] = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto((tmp_path / "page.html").as_uri())
        assert page.locator(".suspect .heat").count() == len(doubted)
        assert not page.locator(".suspect .heat").first.is_visible()
        assert page.locator(".suspect i").is_visible()
        page.keyboard.press("h")
        page.keyboard.press("b")
        assert page.locator(".suspect .heat").first.is_visible()
        assert not page.locator(".suspect i").is_visible()
        for key in ("ArrowRight", "ArrowRight", "Enter", "ArrowRight"):
            page.keyboard.press(key)
        assert found.images[2].file.name in page.locator("dialog").inner_text()
        page.keyboard.press("Escape")
        playwright.expect(page.locator(":focus b").first).to_have_text("3.", timeout=30_000)
        name, kind = doubted[0].changed[0], doubted[0].kind
        page.select_option("#class", name)
        page.select_option("#kind", kind)
        fitting = sum(name in suspect.changed and suspect.kind == kind for suspect in found.images[:10])
        assert page.locator(".suspect:visible").count() == fitting < 10
        assert page.locator("#count").inner_text() == f"{fitting} picture{'s' * (fitting != 1)}"
        assert not errors
