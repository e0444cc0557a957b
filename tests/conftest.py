"""What tests of several folders share: real servers, real checkpoints, and where the real data lie."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from tests.commands import command_in_process

os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # then commands need not import JAX
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # JAX, once imported, would set 1 for all processes started later
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each command would compile the whole package
WEIGHTS_DIR = Path(os.environ.get("VOC_WEIGHTS_DIR", Path(__file__).parents[2] / "shared/weights"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order of the files, for the two processes of `make test`.

    Files with servers, whose tests wait much, alternate with those that compute, so that one process has the processor
    while the other waits; the quick files of tests/unit come last, so that both end together.
    """
    slow = {item.path: None for item in items if "unit" not in item.path.parts or item.get_closest_marker("slow")}
    kinds: dict[bool, list[Path]] = {True: [], False: []}
    for path in slow:
        kinds[path.parent.name == "serving"].append(path)
    pairs = [path for pair in zip_longest(kinds[False], kinds[True]) for path in pair if path is not None]
    places = {path: place for place, path in enumerate(pairs)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Commands keep what they cache in a folder of the tests, not in the home of whoever runs them."""
    os.environ["VOC_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def imagenet_convolutions() -> Path:
    """The checkpoint with the 13 ImageNet convolutions of VGG-16, read-only; skips where there is none."""
    checkpoint = WEIGHTS_DIR / "vgg_16_conv.ckpt"
    if not checkpoint.with_name("vgg_16_conv.ckpt.index").is_file():
        pytest.skip(f"no {checkpoint}: set VOC_WEIGHTS_DIR")
    return checkpoint


@pytest.fixture
def save_slim() -> Callable[..., Path]:
    """Writes a checkpoint as TF-Slim's training does: tf.compat.v1.train.Saver, format 1 or 2."""
    import tensorflow as tf

    from voc_cls.weights.verify import quick_graphs

    v1 = tf.compat.v1

    def save(prefix: Path, arrays: Mapping[str, Any], version: int = 2) -> Path:
        prefix.parent.mkdir(exist_ok=True)
        with quick_graphs(), tf.Graph().as_default(), v1.Session() as session:
            variables = [v1.get_variable(name, array.shape, array.dtype, v1.zeros_initializer(), use_resource=False)
                         for name, array in arrays.items()]
            # all in one run, because TensorFlow plans every other set of outputs anew
            session.run([variable.initializer for variable in variables],
                        {variable.initializer.inputs[1]: array
                         for variable, array in zip(variables, arrays.values(), strict=True)})
            v1.train.Saver(variables, write_version=version).save(session, str(prefix), write_meta_graph=True,
                                                                  write_state=False)
        return prefix

    return save


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The chromium of this machine, headless, with a camera that makes pictures; skips where there is none.

    A module's, as while Playwright's synchronous API is open no event loop can run in this thread.
    """
    if (chromium := shutil.which("chromium")) is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, chromium_sandbox=False, args=[
            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"])
        yield browser
        browser.close()


class FileServer:
    """A real HTTP server on a free port that serves one file, well or badly; what was asked of it is in `requests`."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.etag = '"first"'
        """Empty: neither ETag nor Last-Modified is sent."""
        self.ranges = True
        self.range_shift = 0
        """Bytes by which an answered range is off."""
        self.breaks: list[int] = []
        """After how many bytes the next answers end although more was announced."""
        self.statuses: list[int] = []
        """What the next answers are, instead of the file."""
        self.headers: dict[str, str] = {}
        self.requests: list[dict[str, str]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, name: str) -> str:
        """The address of the file under some name."""
        return f"http://127.0.0.1:{self._server.server_port}/{name}"

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = dict(self.headers)
                outer.requests.append(asked)
                if outer.statuses:
                    self.send_error(outer.statuses.pop(0))
                    return
                start = self._start(asked)
                if start > len(outer.body):
                    self.send_error(416)
                    return
                self.send_response(206 if start else 200)
                if start:
                    start += outer.range_shift
                    self.send_header("Content-Range", f"bytes {start}-{len(outer.body) - 1}/{len(outer.body)}")
                if outer.etag:
                    self.send_header("ETag", outer.etag)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body) - start))
                self.end_headers()
                rest = outer.body[start:]
                with contextlib.suppress(ConnectionError):  # a client may hang up
                    self.wfile.write(rest[:outer.breaks.pop(0)] if outer.breaks else rest)

            def _start(self, asked: dict[str, str]) -> int:
                if "Range" not in asked or not outer.ranges or asked.get("If-Range", outer.etag) != outer.etag:
                    return 0
                return int(asked["Range"].removeprefix("bytes=").removesuffix("-"))

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture
def file_server() -> Iterator[Callable[[bytes], FileServer]]:
    """Starts HTTP servers that each serve one file: `file_server(body)`; see FileServer for how badly they can."""
    servers: list[FileServer] = []

    def start(body: bytes) -> FileServer:
        servers.append(FileServer(body))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def devkit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo devkit of 40 pictures, for reading only."""
    folder = tmp_path_factory.mktemp("demo")
    made = command_in_process("voc-data", "demo", folder / "devkit", "--pictures", 40, "--seed", 1)
    assert made.returncode == 0, made.stderr
    return folder / "devkit" / "VOCdevkit" / "VOC2007"
