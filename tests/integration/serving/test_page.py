"""The page at /: people choose, drop, paste and photograph images in a browser and see what the models say of them.

A test fails if the page logs an error, breaks its content security policy or calls another server.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from export.options import ExportOptions
from export.version_folder import export_run
from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.secured import TOKEN
from tests.integration.serving.test_explain import write_run
from tests.integration.serving.tiny_model import LABELS, export_tiny_model
from tests.pictures import encoded, smooth

Open = Callable[..., Any]
THRESHOLDS = {label: round(0.1 + column / 25, 2) for column, label in enumerate(LABELS)}
"""Of version 10."""


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves tiny, versions 9 and 10, and the softmax model breeds."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(model, folder / "tiny")
    about = folder / "tiny/10/assets/voc_cls.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "thresholds": THRESHOLDS, "trained_on": {
        "data": "voc", "train_split": "trainval", "difficult": "ignore", "pictures": 5011}}))
    export_tiny_model(folder / "breeds" / "1", activation="softmax")
    config = folder / "serve.yaml"
    config.write_text("models:\n  served:\n    - {name: tiny, path: tiny, versions: all}\n"
                      "    - {name: breeds, path: breeds}\n")
    starter = Start(folder)
    yield starter(None, "--config", config).wait_until_ready()
    starter.end_all()


@pytest.fixture(scope="module")
def start_with(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers of version 10 with flags."""
    starter = Start(tmp_path_factory.mktemp("flags"))
    yield lambda *flags: starter(model, *flags).wait_until_ready()
    starter.end_all()


@pytest.fixture(scope="module")
def keyed(start_with: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that wants a key."""
    keys = tmp_path_factory.mktemp("keys") / "keys.yaml"
    keys.write_text(f"keys:\n  - name: app\n    token: {TOKEN}\n")
    keys.chmod(0o600)
    return start_with("--keys-file", keys)


@pytest.fixture(scope="module")
def explained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serves a model with heat maps."""
    folder = tmp_path_factory.mktemp("explained")
    export_run(write_run(folder / "run"), folder / "pets", options=ExportOptions(("openvino",), evaluate=False))
    starter = Start(folder)
    yield starter(folder / "pets").wait_until_ready()
    starter.end_all()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Opens the page of a server in a window of its own; afterwards nothing may have gone wrong in it."""
    contexts, problems = [], []

    def open_in(server: Server, expected: str = "nothing", **options: Any) -> Any:
        """`expected`: the only errors that the browser may log."""
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.http)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda line: problems.append(line.text)
                if line.type in ("error", "warning") and not re.search(expected, line.text) else None)
        page.on("filechooser", lambda _: None)  # from the start, as the first key may come before it is listened to
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url)
                if not request.url.startswith((f"{server.http}/", f"blob:{server.http}/")) else None)
        page.goto(f"{server.http}/")
        return page

    yield open_in
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two images."""
    paths = [tmp_path / "a.jpg", tmp_path / "b.png"]
    paths[0].write_bytes(encoded(smooth(60, 80, 1), "JPEG"))
    paths[1].write_bytes(encoded(smooth(90, 60, 2), "PNG"))
    return paths


def result(page: Any, name: str) -> Any:
    """The result of an image, once it is answered."""
    item = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name=name, exact=True))
    item.wait_for()
    item.get_by_text("Waiting").first.wait_for(state="detached")
    return item


def labels(panel: Any) -> dict[str, str]:
    """All labels of an answer in the order shown → probability as shown."""
    return dict(zip(panel.locator(".label .name").all_text_contents(),
                    panel.locator(".label .value").all_text_contents(), strict=True))


def expected_labels(server: Server, file: Path, model: str = "tiny/versions/10") -> dict[str, str]:
    """What TensorFlow Serving's REST says, in that form."""
    body = {"instances": [{"b64": base64.b64encode(file.read_bytes()).decode()}]}
    answer = requests.post(f"{server.http}/v1/models/{model}:predict", json=body, timeout=20).json()
    scores = sorted(zip(LABELS, answer["predictions"][0], strict=True), key=lambda pair: -pair[1])
    return {label: f"{100 * score:.1f} %" for label, score in scores}


def test_chosen_images_get_their_labels_and_a_broken_one_beside_them_its_error(
        server: Server, open_page: Open, files: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(jpeg(0)[:300])
    (tmp_path / "page.png").write_bytes(b"<!DOCTYPE html>")
    (tmp_path / "noise.png").write_bytes(b"\x00\xffPNG")
    page = open_page(server)
    page.get_by_label("Choose images").set_input_files(
        [files[0], *(tmp_path / name for name in ("broken.jpg", "page.png", "noise.png")), files[1]])
    for file in files:
        assert [*labels(result(page, file.name)).items()] == [*expected_labels(server, file).items()]  # in order
        assert re.search(r"answered in \d+ ms", result(page, file.name).inner_text())
    broken = result(page, "broken.jpg")
    assert labels(broken) == {}
    assert "JPEG" in broken.locator(".error").inner_text()
    for name, said in (("page.png", "15 bytes that start with '<!DOCTYP'"),
                       ("noise.png", "5 bytes that start with the bytes 00 ff 50 4e 47")):
        assert result(page, name).locator(".error").inner_text() == (
            f"This is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: {said}")
    assert page.locator(".result h3").all_text_contents() == ["a.jpg", "broken.jpg", "page.png", "noise.png", "b.png"]


def test_one_image_is_removed_and_the_next_one_has_the_focus(server: Server, open_page: Open, files: list[Path],
                                                             tmp_path: Path) -> None:
    shutil.copy(files[0], tmp_path / "c.jpg")
    page = open_page(server)
    page.get_by_label("Choose images").set_input_files([*files, tmp_path / "c.jpg"])
    for name in ("a.jpg", "b.png", "c.jpg"):
        result(page, name)
    focused = "document.activeElement.ariaLabel ?? document.activeElement.id"
    for key, left in (("b.png", ["a.jpg", "c.jpg"]), ("c.jpg", ["a.jpg"]), ("a.jpg", [])):
        page.get_by_role("button", name=f"Remove {key}").press("Enter")
        assert page.locator(".result h3").all_text_contents() == left
        assert page.evaluate(focused) == (f"Remove {left[-1]}" if left else "files")
        assert page.get_by_role("log").inner_text().endswith(f"{key} is removed")
    assert not page.get_by_role("button", name="Remove all").is_visible()


def test_an_image_that_is_removed_while_it_waits_is_not_asked_about(server: Server, open_page: Open, files: list[Path],
                                                                    tmp_path: Path) -> None:
    copies = [Path(shutil.copy(files[0], tmp_path / f"{number}.jpg")) for number in range(9)]
    page, routes, going = open_page(server), [], []
    page.route("**/v1/classify", lambda route: (routes.append(route), route.continue_() if going else None))
    page.get_by_label("Choose images").set_input_files(copies[:5])  # four are asked about at once
    page.get_by_role("button", name="Remove 4.jpg").click()
    while len(routes) < 4:
        page.wait_for_timeout(20)
    going.append(True)
    for route in routes[:]:
        route.continue_()
    page.get_by_label("Choose images").set_input_files(copies[5:])  # the last one has its turn after the removed one
    for number in (0, 1, 2, 3, 5, 6, 7, 8):
        assert len(labels(result(page, f"{number}.jpg"))) == len(LABELS)
    assert len(routes) == 8


def test_the_model_card_has_what_the_model_was_trained_on(server: Server, open_page: Open) -> None:
    page = open_page(server)
    page.get_by_text("Training data, input and versions").click()
    assert page.locator("dl.made").inner_text().startswith(
        "training data\nvoc, split trainval, 5,011 pictures; pictures with only difficult objects of a class: ignore. "
        "Pretrained weights: none.\n")


def test_labels_from_their_thresholds_on_are_marked_and_read_out(server: Server, open_page: Open, files: list[Path]
                                                                 ) -> None:
    page = open_page(server)
    page.get_by_label("Choose images").set_input_files(files[0])
    shown = labels(result(page, "a.jpg"))
    seen = {label for label, value in shown.items() if float(value[:-2]) >= 100 * THRESHOLDS[label]}
    assert seen != {label for label, value in shown.items() if float(value[:-2]) >= 50}
    assert set(page.locator(".label.seen .name").all_text_contents()) == seen
    name = next(label for label in shown if label in seen)
    threshold = 100 * THRESHOLDS[name]
    row = page.get_by_role("button", name=f"{name} {shown[name]} , at or above its threshold of {threshold:.1f} %")
    bar, mark, box = (row.locator(part).bounding_box() for part in (".bar i", ".bar u", ".bar"))
    assert bar["width"] == pytest.approx(float(shown[name][:-2]) / 100 * box["width"], abs=1)
    assert mark["x"] + 1 - box["x"] == pytest.approx(threshold / 100 * box["width"], abs=1)
    spoken = page.get_by_role("log").inner_text()
    assert spoken.startswith("a.jpg: ")
    assert all(f"{label} {shown[label]}" in spoken for label in seen)


def test_images_are_dropped_and_pasted(server: Server, open_page: Open, files: list[Path]) -> None:
    page = open_page(server)
    page.get_by_role("heading", name="Model card").wait_for()
    drag = {"items": [], "files": [str(files[0])], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 700, "data": drag})
        assert page.locator("#drop.over").count() == (kind == "dragOver")
    assert labels(result(page, "a.jpg")) == expected_labels(server, files[0])
    page.evaluate("""async (content) => {
        const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
        await navigator.clipboard.write([new ClipboardItem({"image/png": new Blob([bytes], {type: "image/png"})})]);
    }""", base64.b64encode(files[1].read_bytes()).decode())
    page.keyboard.press("Control+V")
    assert labels(result(page, "image.png")) == expected_labels(server, files[1])


def test_a_photo_is_taken_with_the_camera(server: Server, open_page: Open) -> None:
    page = open_page(server)
    page.get_by_role("button", name="Take a photo").click()
    page.locator("video").evaluate("video => new Promise(playing => video.requestVideoFrameCallback(playing))")
    page.get_by_role("button", name="Take the photo").click()
    photo = page.get_by_role("listitem").filter(has_text=re.compile(r"photo \d\d:\d\d:\d\d.jpg"))
    photo.locator(".label").first.wait_for()
    assert page.locator("dialog[open]").count() == 0
    assert photo.get_by_role("img").evaluate("image => image.naturalWidth") > 100
    assert page.locator("video").evaluate("video => video.srcObject.getTracks().map(track => track.readyState)") == [
        "ended"]


def test_a_phone_opens_its_camera_app(server: Server, open_page: Open, files: list[Path]) -> None:
    page = open_page(server, has_touch=True, is_mobile=True)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Take a photo").tap()
    assert chooser.value.element.get_attribute("capture") == "environment"
    chooser.value.set_files(files[0])
    assert labels(result(page, "a.jpg")) == expected_labels(server, files[0])


def test_everything_is_reached_by_keyboard_with_a_visible_focus(server: Server, open_page: Open,
                                                               files: list[Path]) -> None:
    page = open_page(server)
    page.get_by_role("heading", name="Model card").wait_for()

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            text, has_outline = page.evaluate("""() => {
                const focused = document.activeElement, shown = focused.closest("label") ?? focused;
                return [shown.innerText || focused.ariaLabel || "",
                        [focused, shown].map(element => getComputedStyle(element)).some(
                            ({outlineStyle, opacity}) => outlineStyle !== "none" && opacity !== "0")];
            }""")
            assert has_outline or not text  # which is the end of the page
            if text.startswith(name):
                return
        raise AssertionError(f"no Tab leads to {name}")

    tab_to("Compare with")
    tab_to("Choose images")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(files[0])
    result(page, "a.jpg")
    tab_to("Take a photo")
    tab_to(f"Show all {len(LABELS)} labels")
    page.keyboard.press("Enter")
    assert page.locator(".label:visible").count() == len(LABELS)
    tab_to("Labels")
    page.keyboard.press("Enter")
    assert page.get_by_role("row").count() == 1 + len(LABELS)
    page.keyboard.press("Shift+Tab")
    for _ in range(40):
        if page.evaluate("document.activeElement.id") == "clear":
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator(".result").count() == 0
    assert page.evaluate("document.activeElement.id") == "files"


def test_a_heat_map_is_laid_over_the_image_for_the_label_that_is_chosen_by_mouse_or_keyboard(
        explained: Server, open_page: Open, files: list[Path]) -> None:
    page = open_page(explained)
    page.get_by_label("Choose images").set_input_files(files[0])
    name = next(iter(labels(result(page, "a.jpg"))))
    label, heat_map = page.get_by_role("button", name=f"{name} "), page.get_by_role("img", name=f"Heat map of {name}")
    label.click()
    heat_map.wait_for()
    assert label.get_attribute("aria-pressed") == "true"
    body = {"pictures": [{"content": base64.b64encode(files[0].read_bytes()).decode()}], "heat_maps": True, "top_k": 1}
    answer = requests.post(f"{explained.http}/v1/classify", json=body, timeout=20).json()
    found = answer["classifications"][0]["labels"][0]["heat_map"]
    cells = list(base64.b64decode(found["values"]))
    opacity = heat_map.evaluate("""(canvas, [height, width]) => {
        const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const middle = (cell, cells, pixels) => Math.floor((cell + 0.5) * pixels / cells);
        return Array.from({length: height * width}, (_, cell) => data[3 + 4 * (
            middle(Math.floor(cell / width), height, canvas.height) * canvas.width
            + middle(cell % width, width, canvas.width))]);
    }""", [found["height"], found["width"]])
    assert len(set(cells)) > 10
    assert np.corrcoef(cells, opacity)[0, 1] > 0.95
    image = page.get_by_role("img", name="a.jpg")
    assert heat_map.bounding_box() == image.bounding_box()
    strongest = heat_map.get_attribute("aria-label").partition(", strongest at the ")[2]
    row, column = divmod(cells.index(max(cells)), found["width"])
    assert strongest == (f"{('top', 'middle', 'bottom')[3 * row // found['height']]} "
                         f"{('left', 'centre', 'right')[3 * column // found['width']]}")
    assert strongest in page.get_by_role("log").inner_text()
    page.get_by_role("button", name="Remove a.jpg").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    heat_map.wait_for(state="detached")
    page.keyboard.press("Space")
    heat_map.wait_for()


def test_two_versions_answer_side_by_side(server: Server, open_page: Open, files: list[Path]) -> None:
    page = open_page(server)
    page.get_by_label("Choose images").set_input_files(files[0])
    result(page, "a.jpg")
    page.get_by_label("Compare with").select_option("tiny, version 9")
    page.get_by_role("heading", name="tiny, version 10 beside tiny, version 9").wait_for()
    left, right = result(page, "a.jpg").locator(".panel").all()
    shown = [labels(left), labels(right)]
    assert shown == [expected_labels(server, files[0], f"tiny/versions/{version}") for version in (10, 9)]
    assert list(shown[0]) == list(shown[1])
    assert shown[0] != shown[1]
    assert left.bounding_box()["y"] == right.bounding_box()["y"]
    assert page.locator(".cards > div").count() == 2


def test_a_softmax_model_has_one_label_and_no_thresholds(server: Server, open_page: Open, files: list[Path]) -> None:
    page = open_page(server)
    page.get_by_role("combobox", name="Model", exact=True).select_option("breeds, version 1")
    page.get_by_role("heading", name="breeds, version 1").wait_for()
    page.get_by_label("Choose images").set_input_files(files[1])  # whose best label has less than 50 %
    shown = labels(result(page, "b.png"))
    assert page.locator(".label.seen .name").all_text_contents() == [next(iter(shown))]
    assert page.locator(".bar u:visible").count() == 0
    assert not page.get_by_text("Choose a label").is_visible()  # as this export has no heat maps
    assert "sum to 100 %" in page.get_by_label("Model card").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways_in_its_colours(server: Server, open_page: Open, scheme: str,
                                                                    files: list[Path]) -> None:
    page = open_page(server, viewport={"width": 360, "height": 740}, color_scheme=scheme)
    page.get_by_label("Choose images").set_input_files(files)
    page.get_by_label("Compare with").select_option("tiny, version 9")
    result(page, "b.png").locator(".label").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 23, 29)"}[scheme]


def test_a_key_is_asked_for_and_kept_for_the_tab_only(keyed: Server, open_page: Open, files: list[Path]) -> None:
    page = open_page(keyed, expected="status of 401")
    dialog = page.get_by_role("dialog", name="This server needs a key")
    for key, message in (("the-wrong-key-0123", "Its operator gives them out"), (TOKEN, "the key is not known here")):
        dialog.get_by_text(message).wait_for()
        dialog.get_by_label("Key").fill(key)
        page.keyboard.press("Enter")
    page.get_by_label("Choose images").set_input_files(files[0])
    assert len(labels(result(page, "a.jpg"))) == len(LABELS)
    assert page.context.cookies() == []
    assert page.evaluate("[localStorage.length, {...sessionStorage}]") == [0, {"voc-serve-key": TOKEN}]
    page.reload()
    page.get_by_role("heading", name="tiny, version 10").wait_for()
    assert not dialog.is_visible()


def test_a_client_above_its_rate_waits_and_gets_all_its_answers(start_with: Callable[..., Server], open_page: Open,
                                                                files: list[Path]) -> None:
    server = start_with("--client-rate", 2, "--client-burst", 1)
    page = open_page(server, expected="status of 429")
    page.get_by_label("Choose images").set_input_files(files)
    for file in files:
        assert len(labels(result(page, file.name))) == len(LABELS)


def test_a_server_that_has_gone_is_an_error_of_the_image(start_with: Callable[..., Server], open_page: Open,
                                                         files: list[Path]) -> None:
    server = start_with()
    page = open_page(server, expected="ERR_CONNECTION_REFUSED")
    page.get_by_role("heading", name="Model card").wait_for()
    server.end()
    page.get_by_label("Choose images").set_input_files(files[0])
    assert result(page, "a.jpg").locator(".error").inner_text().startswith("The server cannot be reached")


def test_its_files_are_public_may_load_nothing_else_and_are_cached_by_their_etag(keyed: Server) -> None:
    page = requests.get(f"{keyed.http}/", timeout=20)
    assert page.status_code == 200
    assert page.headers["Content-Type"] == "text/html"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    paths = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(paths) >= 4
    for path in ("", *paths):
        url = f"{keyed.http}/{path}"
        answer = requests.get(url, timeout=20)
        headers = answer.headers
        assert (answer.status_code, headers["X-Content-Type-Options"], headers["Referrer-Policy"],
                headers["Cache-Control"]) == (200, "nosniff", "no-referrer", "no-cache")
        again = requests.get(url, headers={"If-None-Match": headers["ETag"]}, timeout=20)
        assert (again.status_code, again.content) == (304, b"")
    assert requests.get(f"{keyed.http}/v1/models", timeout=20).status_code == 401


def test_no_page_turns_it_off(start_with: Callable[..., Server]) -> None:
    server = start_with("--no-page")
    assert [server.get(path)[0] for path in ("/", "/page/page.js", "/v1/models")] == [404, 404, 200]
    assert "page: http" not in server.ready_line
