"""Draws the screenshots of docs/images from what `make demo` left: `python scripts/screenshots.py demo`.

Needs Chromium (apt-get install chromium). All images in them are generated.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

IMAGES = Path(__file__).parents[1] / "docs/images"
WIDTH, HEIGHT, COLUMNS = 1100, 760, 80


def main(demo: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto((demo / "run/report.html").absolute().as_uri())
        save(page.screenshot(), "report")
        page.goto(f"{page.url}#images")
        page.locator(".gallery button").first.click()
        save(page.screenshot(), "report-images")
        page.set_viewport_size({"width": 720, "height": HEIGHT})
        page.set_content(terminal(["voc-data", "stats", "--root", str(demo / "devkit/VOCdevkit/VOC2007")]))
        save(page.locator("pre").screenshot(), "terminal")
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        with served(demo / "models/voc") as address:
            page.goto(address)
            page.locator("#files").set_input_files(demo / "devkit/VOCdevkit/VOC2007/JPEGImages/000007.jpg")
            page.locator("button.label").first.click()
            page.wait_for_timeout(3000)  # until the heat map has come
            save(page.screenshot(full_page=True), "page")


@contextlib.contextmanager
def served(model: Path) -> Iterator[str]:
    """Serves a model for a while; yields the address of the page."""
    ports = ["--port", "0", "--http-port", "0"]
    with subprocess.Popen(["voc-serve", "--model-dir", model, *ports], stdout=subprocess.PIPE, text=True) as server:
        yield next(f"http://{line[1]}/" for line in (
            re.search(r"and (\S+) \(HTTP\)", printed) for printed in server.stdout) if line)
        server.terminate()


def terminal(command: list[str]) -> str:
    """What a command prints on a terminal of 80 columns, in its colours, as a page."""
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "FORCE_COLOR": "1"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"$ {' '.join(command)}\n"), Text.from_ansi(printed.stdout))
    return console.export_html(inline_styles=True)


def save(png: bytes, name: str) -> None:
    """Writes a screenshot as a WebP, which has less than 100 kB."""
    Image.open(io.BytesIO(png)).save(IMAGES / f"{name}.webp", quality=70, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
