"""The documentation site builds without a warning, needs no other host, and has what the code has."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from serving.telemetry.metrics import Metrics
from tests.commands import command

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a link to a page or a heading that does not exist would end it."""
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stderr
    assert not re.search("WARNING|ERROR", done.stdout + done.stderr), done.stderr
    return folder


def text(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_no_page_loads_anything_from_another_host(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        loaded = re.findall(r"<(?:script|img|link|iframe)\b[^>]*?(?:src|href)=\"?(https?:[^\" >]+)", page.read_text())
        assert not loaded, (page, loaded)


def test_every_page_of_docs_is_reached_from_the_others(site: Path):
    sources = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    linked = {Path(os.path.normpath(page.parent / link)).relative_to(site) for page in site.rglob("*.html")
              for link in re.findall(r"<a [^>]*href=\"?([^\"#? >:/][^\"#? >:]*\.html)", page.read_text())}
    assert sources <= linked


def test_the_reference_has_every_flag_and_its_meaning(site: Path):
    for program, subcommand in (("voc-train", ()), ("voc-serve", ()), ("voc-data", ("split",))):
        page = text(site / f"reference/{program}.html")
        flags = re.findall(r"^[│ ] (--[a-z][\w-]+)", command(program, *subcommand, "--help").stdout, re.MULTILINE)
        assert len(flags) > 5
        assert not [flag for flag in flags if not re.search(rf"^{flag}\b.*\s+(?!--)\w.{{10}}", page, re.MULTILINE)]


def test_the_reference_has_every_metric_route_and_field(site: Path):
    metrics = text(site / "reference/metrics.html")
    families = re.findall(r"^# HELP (\S+)", Metrics().page()[0].decode(), re.MULTILINE)
    assert not [name for name in families if name not in metrics and not name.startswith(("process_", "python_"))]
    assert "/v1/models/{name}/versions/{version}:predict" in text(site / "reference/rest.html")
    proto = (ROOT / "proto/voc_cls/v1/classifier.proto").read_text()
    fields = re.findall(r"^ +((?:repeated |optional )?\w+ \w+ = \d+);", proto, re.MULTILINE)
    assert len(fields) > 40
    assert not [field for field in fields if field not in text(site / "reference/grpc.html")]
    assert "classify_stream" in text(site / "reference/python.html")
