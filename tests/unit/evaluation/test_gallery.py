"""The images of a page: which are chosen, what is said of them, how many there are in all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lxml import html
from PIL import Image

from tests.unit.evaluation.test_multilabel_page import CLASSES, dataset, images_of
from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.compare import compare
from voc_cls.evaluation.report.gallery import DECISIONS, Kind, decisions, gallery, most_telling
from voc_cls.evaluation.report.multilabel import multilabel_report
from voc_cls.evaluation.report.page import surest

LABELS = np.array([[1], [0], [0], [1], [0], [1], [0]], np.float32)
PROBABILITIES = np.array([[0.9], [0.8], [0.95], [0.1], [0.2], [0.3], [0.99]])
DATASET = Dataset("test", ("cat",), tuple(Path(f"{row}.jpg") for row in range(7)), LABELS,
                  np.array([[False]] * 6 + [[True]]), DifficultPolicy.IGNORE)


def kinds_at(threshold: float) -> dict[str, Kind]:
    return decisions(DATASET, PROBABILITIES, np.greater_equal(PROBABILITIES, threshold))


@pytest.mark.parametrize(("kind", "rows"), [("wrong", [2, 1]), ("missed", [3, 5]), ("right", [0])])
def test_the_surest_of_a_kind_come_first_and_an_ignored_picture_is_of_none(kind: str, rows: list[int]):
    assert list(most_telling({kind: kinds_at(0.5)[kind]})) == rows


def test_the_threshold_itself_counts_as_seen():
    assert [int(kinds_at(threshold)["wrong"].labels.sum()) for threshold in (0.8, 0.81)] == [2, 1]


def test_the_surest_example_has_its_probability():
    kinds = kinds_at(0.5)
    found = {name: [(example.row, example.probability) for example in surest(kind, PROBABILITIES)]
             for name, kind in kinds.items()}
    assert found == {"right": [(0, 0.9)], "wrong": [(2, 0.95)], "missed": [(3, 0.1)]}
    assert surest(kinds_at(0.95)["right"], PROBABILITIES) == []


def test_classes_and_kinds_take_turns_and_what_is_right_comes_less_often():
    wrong, right = np.zeros((2, 7, 2), bool)
    wrong[:3, 0] = wrong[3:5, 1] = right[5:, 0] = True
    sureness = np.linspace(0.9, 0.3, 7)[:, None] * [1, 0.1]  # the second class is never sure
    order = list(most_telling({"wrong": Kind(wrong, sureness), "right": Kind(right, sureness, rarity=4)}))
    assert order == [0, 5, 3, 1, 4, 2, 6]


@pytest.fixture
def made(tmp_path: Path) -> dict[str, Any]:
    """A gallery of 40 pictures and 12 classes by two models, of which 30 kB fit."""
    random = np.random.default_rng(0)
    paths = tuple(tmp_path / f"{number}.png" for number in range(40))
    for path in paths:
        Image.fromarray(random.integers(0, 255, (6, 8, 3), np.uint8)).resize((200, 150)).save(path)
    labels = (random.random((40, 12)) < 0.2).astype(np.float32)
    ignored = (labels == 0) & (random.random(labels.shape) < 0.1)
    dataset = Dataset("test", tuple(map(str, range(12))), paths, labels, ignored, DifficultPolicy.IGNORE)
    probabilities = random.random((2, 40, 12))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("voc_cls.evaluation.report.gallery.MOST_BYTES", 60_000)
        found = gallery(dataset, {"A": (probabilities[0], np.full(12, 0.5)), "B": (probabilities[1], None)},
                        decisions(dataset, probabilities[0], probabilities[0] >= 0.5), DECISIONS)
    return {"dataset": dataset, "probabilities": probabilities, **found}


def test_as_many_pictures_are_taken_as_fit_and_all_are_counted(made: dict[str, Any]):
    sizes = [len(image["picture"]) for image in made["images"]]
    assert 30_000 - 2 * max(sizes) < sum(sizes) <= 30_000
    assert len(sizes) < made["chosen_from"] == 40
    dataset, seen = made["dataset"], made["probabilities"][0] >= 0.5
    wrong = (dataset.labels == 0) & seen & ~dataset.ignored
    totals = {entry["title"]: entry["totals"] for entry in made["filters"]}
    assert totals["Predicted, but not in the labels"] == [wrong.any(axis=1).sum(), *wrong.sum(axis=0)]
    mistakes = (seen != (dataset.labels == 1)) & ~dataset.ignored
    assert totals["All mistakes"] == [mistakes.any(axis=1).sum(), *mistakes.sum(axis=0)]


def test_an_image_has_its_labels_its_cases_and_the_most_probable_classes_with_the_scores_of_all_models(
        made: dict[str, Any]):
    dataset = made["dataset"]
    rows = {path.name: row for row, path in enumerate(dataset.paths)}
    for image in made["images"]:
        row = rows[image["file"]]
        shown = {column: (state, scores) for column, state, scores in image["labels"]}
        assert set(shown) >= {*np.flatnonzero(dataset.labels[row]), *np.flatnonzero(dataset.ignored[row]),
                              *(column for _, column, _ in image["cases"]),
                              int(made["probabilities"][:, row].max(axis=0).argmax())}
        for column, (state, scores) in shown.items():
            assert state == (-1 if dataset.ignored[row, column] else dataset.labels[row, column])
            assert scores == pytest.approx(made["probabilities"][:, row, column], abs=1e-4)
        assert [sure for _, _, sure in image["cases"]] == sorted((sure for _, _, sure in image["cases"]), reverse=True)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with report.html of 60 pictures, and compare.html of another model and this one."""
    folder = tmp_path_factory.mktemp("pages")
    made, logits = dataset(folder, CLASSES)
    other = logits + np.random.default_rng(1).normal(0, 2, size=logits.shape)
    a, b = (multilabel_report(made, scores, resamples=100) for scores in (logits, other))
    b.to_html(folder / "report.html")
    (folder / "compare.html").write_text(compare(a, b, ("runs/first", "runs/second"), 100).to_html())
    return folder


@pytest.fixture
def open_page(pages: Path, browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page; afterwards nothing may have gone wrong in it, and it has loaded nothing else."""
    opened, problems = [], []

    def open_file(name: str, **options: Any) -> Any:
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}, **options})
        opened.append(page)
        page.on("console", lambda line: problems.append(line.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url)
                if not request.url.startswith(("data:", (pages / name).as_uri())) else None)
        page.goto((pages / name).as_uri())
        return page

    yield open_file
    for page in opened:
        page.close()
    assert problems == []


def cards(page: Any) -> list[str]:
    """Names of the files shown."""
    names: list[str] = page.locator(".gallery button span:last-child").all_text_contents()
    return names


def test_images_are_filtered_by_kind_class_and_name_the_surest_first(open_page: Callable[..., Any], pages: Path):
    page, images = open_page("report.html"), images_of(html.parse(str(pages / "report.html")).getroot())
    column = CLASSES.index("car")
    expected = sorted(((sure, image["file"]) for image in images for kind, of, sure in image["cases"]
                       if (kind, of) == ("wrong", column)), reverse=True)
    page.get_by_role("combobox", name="Kind", exact=True).select_option("Predicted, but not in the labels")
    page.get_by_role("combobox", name="Class", exact=True).select_option("2")
    assert cards(page) == [file for _, file in expected]
    assert 1 < len(expected) < 28
    assert page.locator(".choices output").inner_text().startswith(f"{len(expected)} ")
    first = page.locator(".gallery button").first
    assert f"car {100 * expected[0][0]:.0f} % not there" in first.inner_text()
    page.get_by_role("searchbox", name="File").fill(expected[1][1][:3].upper())
    assert cards(page) == [file for _, file in expected if file.startswith(expected[1][1][:3])]
    assert page.locator(".choices output").inner_text() == "1 image"
    page.get_by_role("searchbox", name="File").fill("no such name")
    assert (cards(page), page.locator(".choices output").inner_text()) == ([], "0 images")
    page.get_by_role("searchbox", name="File").fill("")
    page.get_by_role("combobox", name="Class", exact=True).select_option("")
    page.get_by_role("combobox", name="Kind", exact=True).select_option("All mistakes")
    mistaken = [image for image in images if any(kind != "right" for kind, _, _ in image["cases"])]
    assert len(cards(page)) == 28 < len(mistaken)
    page.get_by_role("button", name=f"Show more: {len(mistaken) - 28} are left").click()
    assert len(cards(page)) == len(mistaken)


def test_an_image_is_enlarged_by_keyboard_with_its_labels_scores_and_thresholds(open_page: Callable[..., Any],
                                                                                pages: Path):
    from playwright.sync_api import expect

    page, images = open_page("report.html"), images_of(html.parse(str(pages / "report.html")).getroot())
    files, dialog = cards(page), page.get_by_role("dialog")
    page.locator(".gallery button").first.focus()
    page.keyboard.press("Enter")
    for key, place in (("ArrowRight", 0), ("ArrowRight", 1), ("ArrowLeft", 2), ("", 1)):
        assert dialog.get_by_role("heading").inner_text() == files[place]
        image = next(image for image in images if image["file"] == files[place])
        assert dialog.get_by_role("img").get_attribute("src") == image["picture"]
        words = {(1, True): "recognised", (1, False): "missed", (0, True): "not there", (0, False): ""}
        rows = [(CLASSES[column], f"{words.get((state, score >= 0.5), 'not counted')} {100 * score:.1f} %".strip())
                for column, state, (score,) in image["labels"]]
        assert list(zip(dialog.locator(".name").all_text_contents(), (
            text.strip() for text in dialog.locator(".value").all_text_contents()), strict=True)) == rows
        bar, mark = (dialog.locator(part).first.bounding_box() for part in (".bar", ".bar u"))
        assert mark["x"] + 1 - bar["x"] == pytest.approx(0.5 * bar["width"], abs=1)
        page.keyboard.press(key or "Escape")
    assert dialog.count() == 0
    expect(page.locator(":focus")).to_contain_text(files[1], timeout=30_000)
    page.locator(".gallery button").first.click()
    dialog.get_by_role("button", name="Previous").click()
    mistaken = sum(any(kind != "right" for kind, _, _ in image["cases"]) for image in images)
    assert f"{mistaken} of {mistaken}" in dialog.inner_text()
    dialog.get_by_role("button", name="Close").click()
    expect(page.locator(".gallery button")).to_have_count(mistaken, timeout=30_000)  # up to this image


def test_two_models_have_their_scores_beside_each_other_on_images_that_changed(open_page: Callable[..., Any],
                                                                               pages: Path):
    page, images = open_page("compare.html"), images_of(html.parse(str(pages / "compare.html")).getroot())
    page.get_by_role("combobox", name="Kind", exact=True).select_option("Broken by B")
    broken = sorted(((sure, image["file"], column) for image in images for kind, column, sure in image["cases"]
                     if kind == "broken"), reverse=True)
    assert cards(page) == list(dict.fromkeys(file for _, file, _ in broken))[:28]
    sure, file, column = broken[0]
    image = next(image for image in images if image["file"] == file)
    state, scores = next((state, scores) for of, state, scores in image["labels"] if of == column)
    assert abs(scores[1] - scores[0]) == pytest.approx(sure, abs=2e-4)
    assert [score >= 0.5 for score in scores] == [state == 1, state == 0]
    first = page.locator(".gallery button").first
    assert f"{CLASSES[column]} {100 * scores[0]:.0f} → {100 * scores[1]:.0f} % broken" in first.inner_text()
    first.click()
    left, right = page.locator("#scores > div").all()
    assert [side.locator(".soft").first.inner_text() for side in (left, right)] == ["A: first", "B: second"]
    for number, side in enumerate((left, right)):
        assert [float(text.split()[-2]) for text in side.locator(".value").all_text_contents()] == pytest.approx(
            [100 * values[number] for _, _, values in image["labels"]], abs=0.051)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_both_pages_and_the_enlarged_image_without_scrolling_sideways(open_page: Callable[..., Any],
                                                                                    scheme: str):
    for name in ("report.html", "compare.html"):
        page = open_page(name, viewport={"width": 390, "height": 844}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        page.locator(".gallery button").first.click()
        dialog = page.get_by_role("dialog")
        assert dialog.evaluate("dialog => dialog.scrollWidth - dialog.clientWidth") <= 0
        background = dialog.evaluate("dialog => getComputedStyle(dialog).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 23, 29)"}[scheme]
