"""report.html stands alone, says what was measured, and believes no name that comes from a file."""

from __future__ import annotations

import base64
import io
import json
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

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.calibration import choose_thresholds, fit_calibration
from voc_cls.evaluation.report.multilabel import multilabel_report
from voc_cls.evaluation.report.page import RunDetails

EVIL = "<script>alert(1)</script>"
CLASSES = ("bus", EVIL, "car", "cat & dog", "person")
CONFIG: dict[str, Any] = {
    "dataset": {"root": "voc", "eval_split": "test"},
    "network": {"net": "vgg_16", "cut": None, "head": "gap", "trainable": "head", "weights": EVIL,
                "exclude": ["fc6", "fc7"]},
    "training": {"lr": 2e-3, "early_stopping": None},
    "provenance": {"command": ["voc-train", "--out", "a b"], "versions": {"voc-cls": "0.1.0", "keras": "3.15"},
                   "device": "CPU, 2 cores", "weights_digest": None, "pictures_digest": "abcdef",
                   "train_pictures": 1234},
}
METRICS = tuple({"step": 50 * number, "seconds": number, "lr": 2e-3, "loss": 1 / number, "val_map": 0.5 + number / 100}
                for number in range(1, 21))
SECTIONS = ["Summary", "Classes", "Precision and recall", "Learning", "Co-occurrence", "Reliability",
            "Images", "What it looked at", "Training run"]


def dataset(folder: Path, classes: Sequence[str], pictures: int = 60, seed: int = 0) -> tuple[Dataset, np.ndarray]:
    """Noisy pictures with random labels, and logits that are right more often than not."""
    random = np.random.default_rng(seed)
    labels = (random.random((pictures, len(classes))) < 0.3).astype(np.float32)
    ignored = random.random(labels.shape) < 0.05
    labels[ignored] = 0
    paths = []
    for number in range(pictures):
        paths.append(folder / f"{number}{EVIL.replace('/', '')}.jpg")
        Image.fromarray(random.integers(0, 255, (30, 40, 3), np.uint8)).resize((400, 300)).save(paths[-1])
    logits = (2.5 * labels - 1.5 + random.normal(size=labels.shape)).astype(np.float32)
    return Dataset("voc <test>", tuple(classes), tuple(paths), labels, ignored, DifficultPolicy.IGNORE), logits


def heat(paths: Sequence[Path], columns: Sequence[int]) -> npt.NDArray[np.float32]:
    assert len(paths) == len(columns)
    return np.tile(np.linspace(0, 1, 14, dtype=np.float32), (len(paths), 14, 1))


@pytest.fixture(scope="module")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def write_page(classes: Sequence[str] = CLASSES, metrics: tuple[dict[str, Any], ...] = METRICS, fitted: bool = True,
             hide: Sequence[int] = (), pictures: int = 60) -> Path:
        folder = tmp_path_factory.mktemp("report")
        made, logits = dataset(folder, classes, pictures)
        made.labels[:, list(hide)] = 0
        report = multilabel_report(made, logits, choose_thresholds(made, logits) if fitted else None,
                                   fit_calibration(made, logits) if fitted else None, resamples=100)
        report = replace(report, run=RunDetails("voc07", CONFIG, metrics), heat_maps=heat)
        report.to_html(folder / "report.html")
        return folder / "report.html"

    return write_page


@pytest.fixture(scope="module")
def page(write: Callable[..., Path]) -> Path:
    """The report about five classes."""
    return write()


@pytest.fixture(scope="module")
def tree(page: Path) -> html.HtmlElement:
    """It, parsed."""
    return html.parse(str(page)).getroot()


def images_of(tree: html.HtmlElement) -> list[dict[str, Any]]:
    """Those that the page's script shows."""
    images: list[dict[str, Any]] = json.loads(tree.get_element_by_id("gallery").text)["images"]
    return images


def visible_text(tree: html.HtmlElement) -> str:
    return " ".join(tree.xpath("//body//text()[not(parent::script)]"))


def headings(tree: html.HtmlElement) -> list[str]:
    return [heading.text_content() for heading in tree.iter("h2")]


def test_it_has_every_section(tree: html.HtmlElement):
    assert headings(tree) == SECTIONS
    targets = [link.get("href") for link in tree.iter("a")]
    assert len(targets) == len(SECTIONS)
    assert {target.removeprefix("#") for target in targets} == {section.get("id") for section in tree.iter("section")}


def test_it_loads_nothing_from_anywhere(page: Path, tree: html.HtmlElement):
    addresses = [value for element in tree.iter() if isinstance(element.tag, str)
                 for name, value in element.items() if name in ("src", "href", "srcset", "data", "action", "poster")]
    assert len(addresses) > 10
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert not tree.xpath("//iframe | //object | //embed | //link[@rel!='icon'] | //script[@src]")
    policy, = tree.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    text = page.read_text()
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|https?:", text)


def test_names_from_files_stay_text(page: Path, tree: html.HtmlElement):
    assert len(tree.xpath("//script")) == 3
    assert EVIL not in page.read_text()
    assert EVIL in [heading.text_content() for heading in tree.xpath("//table[@class='classes']//th[@scope='row']")]
    assert any(EVIL.replace("/", "") in image["file"] for image in images_of(tree))


def test_it_has_the_numbers_of_the_report(tree: html.HtmlElement, tmp_path: Path):
    made, logits = dataset(tmp_path, CLASSES)
    report = multilabel_report(made, logits, choose_thresholds(made, logits), fit_calibration(made, logits))
    values = [" ".join(value.text_content().split()) for value in tree.xpath("//div[@class='value']")]
    scores = report.scores.overall
    assert values == [f"{100 * report.map:.1f} %", f"{100 * report.average_precisions.map_11pt:.1f} %",
                      f"{100 * scores.cf1:.1f} %", f"{100 * scores.of1:.1f} %",
                      f"{100 * report.reliability.ece:.2f} %"]
    rows = tree.xpath("//table[@class='classes']/tbody/tr")
    assert [row[0].text_content() for row in rows] == list(CLASSES)
    for row, result, decisions in zip(rows, report.average_precisions.classes, report.scores.classes, strict=True):
        texts = [cell.text_content().strip() for cell in row]
        threshold = report.thresholds.classes[result.name].threshold
        assert texts[1] == f"{100 * result.ap:.1f}"
        assert texts[5:10] == [f"{threshold:.3f}", *(f"{100 * value:.1f}" for value in (
            decisions.precision, decisions.recall, decisions.f1)), str(result.positives)]


def test_the_diagonal_of_the_matrices_counts_pictures(tree: html.HtmlElement, tmp_path: Path):
    made, _ = dataset(tmp_path, CLASSES)
    truth = tree.xpath("//table[contains(@class, 'matrix')]")[0].xpath("./tbody/tr")
    counts = [int(row[1 + number].text_content()) for number, row in enumerate(truth)]
    assert counts == made.labels.sum(axis=0).astype(int).tolist()


def test_every_picture_and_chart_can_be_read_out(tree: html.HtmlElement):
    images = list(tree.iter("img"))
    assert len(images) > 10
    assert all(image.get("alt") for image in images)
    charts = [element for element in tree.iter() if element.tag == "svg"]
    assert len(charts) == 5 + 3 + 2  # classes, learning, reliability
    assert all(chart.get("role") == "img" and chart.get("aria-label") for chart in charts)


def test_pictures_are_small(tree: html.HtmlElement):
    pictures = [image["picture"] for image in images_of(tree)]
    assert len(pictures) > 40
    for picture in [*pictures, *(image.get("src") for image in tree.iter("img"))]:
        kind, _, data = picture.partition(",")
        assert kind == "data:image/webp;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as opened:
            assert max(opened.size) == 256


def test_the_config_is_in_it(tree: html.HtmlElement):
    made = tree.get_element_by_id("made")
    texts = [element.text_content() for element in made.iter("dt", "dd")]
    for key, value in (("head", "gap"), ("exclude", "fc6 fc7"), ("early_stopping", "none"), ("lr", "0.002"),
                       ("initial weights", "random")):
        assert texts[texts.index(key) + 1] == value
    assert made.find("pre").text == "voc-train --out 'a b'"


def test_a_run_without_validation_has_no_calibrated_charts_and_thresholds_of_a_half(write: Callable[..., Path]):
    tree = html.parse(str(write(metrics=(), fitted=False))).getroot()
    assert headings(tree) == [section for section in SECTIONS if section != "Learning"]
    assert "of 0.5" in tree.get_element_by_id("classes").text_content()
    assert len(tree.get_element_by_id("reliability").xpath(".//figure")) == 1
    assert "no validation split" in tree.get_element_by_id("summary").text_content()


def test_a_class_without_positives_has_dashes(write: Callable[..., Path]):
    tree = html.parse(str(write(hide=[2]))).getroot()
    texts = [cell.text_content().strip() for cell in tree.xpath("//table[@class='classes']/tbody/tr")[2]]
    assert texts[0:2] == ["car", "–"]
    assert texts[9] == "0"
    assert "nan" not in visible_text(tree).lower()
    assert len(tree.get_element_by_id("curves").xpath(".//figure")) == 4


def test_five_thousand_pictures_of_eighty_classes_stay_below_two_megabytes(tmp_path: Path):
    made, _ = dataset(tmp_path, CLASSES, pictures=60)
    random = np.random.default_rng(0)
    labels = (random.random((5000, 80)) < 0.03).astype(np.float32)
    many = Dataset("many", tuple(f"class {number}" for number in range(80)), 84 * made.paths[:-1] + made.paths[:44],
                   labels, np.zeros(labels.shape, bool), DifficultPolicy.IGNORE)
    report = multilabel_report(many, (5 * labels - 4 + random.normal(size=labels.shape)).astype(np.float32),
                               resamples=100)
    page = replace(report, run=RunDetails("voc07", CONFIG, METRICS), heat_maps=heat).to_html()
    assert len(page.encode()) < 2e6
    tree = html.fromstring(page)
    assert len(tree.xpath("//table[@class='classes']/tbody/tr")) == 80
    assert len(tree.xpath("//table[@class='matrix many']")) == 2
    shown, chosen_from = len(images_of(tree)), int((labels.any(axis=1) | (report.logits >= 0).any(axis=1)).sum())
    assert f"The page has room for {shown} of these {chosen_from:,} images" in " ".join(visible_text(tree).split())


def test_one_class_is_enough(write: Callable[..., Path]):
    assert headings(html.parse(str(write(classes=["cat"]))).getroot()) == SECTIONS


@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_without_scrolling_sideways_and_sorts_its_table(page: Path, browser: Any, width: int):
    shown = browser.new_page(viewport={"width": width, "height": 900})
    shown.goto(page.as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert shown.evaluate("[...document.images].filter(image => image.complete && !image.naturalWidth).length") == 0
    shown.locator(".classes thead button").nth(1).click()
    numbers = [float(text) for text in shown.locator(".classes tbody tr td:nth-child(2)").all_text_contents()]
    shown.close()
    assert len(numbers) == len(CLASSES)
    assert numbers == sorted(numbers, reverse=True)
