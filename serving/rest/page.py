"""The page on which people try the models: files of serving/page, with headers that let it load and run nothing else.

The files need no key, as they are the same for everybody; what the page shows comes by calls with its reader's key.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from serving.http_middleware import answer_expectation

FOLDER = Path(__file__).parents[1] / "page"
FILES = {"/": FOLDER / "index.html",
         "/page/base.css": resources.files("voc_cls") / "evaluation/report/templates/base.css",  # the report's design
         **{f"/page/{name}": FOLDER / name
            for name in ("icon.svg", "page.css", "page.js", "calls.js", "camera.js", "card.js", "result.js")}}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "img-src 'self' blob:; "  # blob: are the images that its reader has chosen
                               "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
                               "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # asked for again with its ETag, so that all files are of one version
}


def add_page(application: web.Application) -> None:
    """Adds the routes of the page."""
    for path, file in FILES.items():
        application.router.add_get(path, _handler(Path(str(file))), expect_handler=answer_expectation)


def _handler(file: Path) -> Handler:
    async def handle(request: web.Request) -> web.FileResponse:  # noqa: ARG001
        """A file of the page to try models."""
        return web.FileResponse(file, headers=HEADERS)

    return handle
