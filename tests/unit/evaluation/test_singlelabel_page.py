"""report.html about pictures of one class each: the matrix, the confusions, the pictures that were confused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from lxml import html
from PIL import Image

from tests.unit.evaluation.test_multilabel_page import CONFIG, images_of, visible_text
from voc_cls.evaluation.calibration import fit_calibration
from voc_cls.evaluation.report.page import RunDetails
from voc_cls.evaluation.report.singlelabel import singlelabel_report

METRICS = tuple({"step": 50 * number, "seconds": number, "lr": 2e-3, "loss": 1 / number,
                 "val_accuracy": 0.5 + number / 100, "val_loss": 1 / number} for number in range(1, 21))
SECTIONS = ["Summary", "Classes", "Confusion", "Learning", "Reliability", "Images", "What it looked at",
            "Training run"]


def heat(paths: Sequence[Path], columns: Sequence[int]) -> npt.NDArray[np.float32]:
    assert len(paths) == len(columns)
    return np.tile(np.linspace(0, 1, 14, dtype=np.float32), (len(paths), 14, 1))


@pytest.fixture
def write(tmp_path: Path, singlelabel: Callable[..., Any]) -> Callable[..., tuple[html.HtmlElement, Any, Any]]:
    """Writes the report: `write(classes, right)` gives the parsed page, the report and the data set."""
    def page(classes: int = 5, right: bool = False) -> tuple[html.HtmlElement, Any, Any]:
        random = np.random.default_rng(0)
        paths = tuple(tmp_path / f"{number}.png" for number in range(150))
        for path in paths:
            Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(path)
        dataset, logits = singlelabel(classes, 150, paths=paths)
        logits = dataset.labels if right else logits
        report = replace(singlelabel_report(dataset, logits, fit_calibration(dataset, logits), resamples=100),
                         run=RunDetails("cifar", CONFIG, METRICS), heat_maps=heat)
        text = report.to_html()
        assert not re.search(r"url\(|@import|https?:", text)
        assert "nan" not in visible_text(html.fromstring(text)).lower()
        return html.fromstring(text), report, dataset

    return page


def test_it_has_every_section_and_the_links_to_them(write: Callable[..., Any]):
    tree, _, _ = write()
    assert [heading.text_content() for heading in tree.iter("h2")] == SECTIONS
    targets = {link.get("href").removeprefix("#") for link in tree.iter("a")}
    assert targets == {section.get("id") for section in tree.iter("section")}


def test_the_matrix_has_every_count_and_says_what_was_taken_for_what(write: Callable[..., Any]):
    tree, report, _ = write()
    rows = tree.xpath("//table[contains(@class, 'confusion')]/tbody/tr")
    counts = [[int(cell.text_content() or 0) for cell in row.findall("td")] for row in rows]
    assert counts == report.scores.confusion.counts.tolist()
    pair = report.scores.confusion.pairs(1)[0]
    cell = rows[pair.truth].findall("td")[pair.predicted]
    assert f"predicted as class {pair.predicted}: {pair.count} ({100 * pair.share:.1f} %)" in cell.get("title")
    assert "strong" in cell.get("class")  # the strongest confusion has the strongest colour


def test_a_confused_picture_is_wrong_for_the_class_predicted_and_missed_for_its_own(write: Callable[..., Any]):
    tree, report, dataset = write()
    rows = {path.name: row for row, path in enumerate(dataset.paths)}
    confused = 0
    for image in images_of(tree):
        row = rows[image["file"]]
        truth, predicted = int(dataset.labels[row].argmax()), int(report.logits[row].argmax())
        assert {(kind, column) for kind, column, _ in image["cases"]} == (
            {("right", truth)} if truth == predicted else {("wrong", predicted), ("missed", truth)})
        confused += truth != predicted
    assert confused > 20


def test_the_learning_curves_are_those_of_accuracy(write: Callable[..., Any]):
    tree, _, _ = write()
    titles = [caption.text_content() for caption in tree.xpath("//section[@id='learning']//figcaption")]
    assert titles == ["loss", "validation accuracy", "validation log loss", "learning rate"]


def test_what_is_right_and_what_is_wrong_is_explained(write: Callable[..., Any]):
    kinds = [cam.get("class") for cam in write()[0].xpath("//li[starts-with(@class, 'cam')]")]
    assert kinds == ["cam right"] * 4 + ["cam wrong"] * 4


@pytest.mark.parametrize(("classes", "matrices"), [(24, 1), (40, 1), (61, 0), (120, 0)])
def test_many_classes_have_their_most_frequent_confusions_instead_of_a_wall(write: Callable[..., Any], classes: int,
                                                                           matrices: int):
    tree, report, _ = write(classes)
    assert len(tree.xpath("//table[contains(@class, 'confusion')]")) == matrices
    assert len(tree.xpath("//table[contains(@class, 'many')]")) == (classes == 40)
    rows = tree.xpath("//table[contains(@class, 'pairs')]/tbody/tr")
    pairs = report.scores.confusion.pairs(12)
    assert [int(row[2].text_content()) for row in rows] == [pair.count for pair in pairs]


def test_a_model_that_is_always_right_has_nothing_to_show_there(write: Callable[..., Any]):
    tree, _, _ = write(right=True)
    assert "There are no confusions" in tree.get_element_by_id("confusion").text_content()
    assert {kind for image in images_of(tree) for kind, _, _ in image["cases"]} == {"right"}


def test_logits_alone_make_a_page_without_sections_about_a_run(tmp_path: Path, singlelabel: Callable[..., Any]):
    paths = tuple(tmp_path / f"{number}.png" for number in range(30))
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    report = singlelabel_report(*singlelabel(3, 30, paths=paths), resamples=100)
    tree = html.fromstring(report.to_html(tmp_path / "report.html"))
    assert [heading.text_content() for heading in tree.iter("h2")] == [
        section for section in SECTIONS if section not in ("Learning", "What it looked at", "Training run")]
    assert report.to_html() == (tmp_path / "report.html").read_text()
    assert repr(report).startswith(f"made test, 30 pictures: accuracy {100 * report.accuracy:.1f} %")
