"""Label Studio's export as a data set: JSON, with the choices of each image, or the labels and boxes of its regions.

    root/project-1.json  root/…     the split project-1, as Label Studio exports a project (format JSON)
    root/labels.xml                 the project's labelling configuration, if it is there: the classes and their order

https://labelstud.io/guide/export has the format. Skipped annotations do not count, and others not beside one that is
marked as ground truth. A class that only some annotators have given is neither positive nor negative.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import parse_qs, unquote, urlsplit

from voc_cls.data.dataset import Task
from voc_cls.data.files import check_file, decode_text, read_bytes
from voc_cls.data.readers import split_scan
from voc_cls.data.readers.image_finder import ImageFinder
from voc_cls.data.readers.split_scan import Box, LabelledImage, Reader, SplitScan, VocObject
from voc_cls.errors import DataError, reason
from voc_cls.image_header import IMAGE_SUFFIXES

JSON_LIMIT, XML_LIMIT = 2**31, 2**20
"""Bytes a file may have; an annotated image takes about 1 kB."""
CONFIG_START = re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<View\b", re.DOTALL)
EXPORT_START = re.compile(rb"(\xef\xbb\xbf)?\s*\[\s*(\{|\])")
UPLOADED = re.compile("[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
USAGE = "export the project from Label Studio as JSON (not JSON-MIN)"


@dataclass(frozen=True)
class AnnotatedTask:
    """An image as the task names it, what each annotation that counts has, and what a problem begins with."""

    reference: str
    annotations: tuple[tuple[VocObject, ...], ...]
    where: str


class LabelStudioReader(Reader):
    """Each exported file is a split."""

    kind = "label-studio"

    @staticmethod
    def matches(root: Path) -> bool:
        return any(map(_is_export, [root] if root.is_file() else root.glob("*.json")))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._files)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Split → its file."""
        files = [self.root] if self.root.is_file() else sorted(filter(_is_export, self.root.glob("*.json")))
        if not files:
            found = "has no export of Label Studio (.json)" if self.root.is_dir() else "no such file or folder"
            raise DataError(f"{self.root}: {found}; `root` takes its folder, or the file")
        return {path.stem: path for path in files}

    def _scan(self, split: str, *_: object) -> SplitScan:
        path, folder = self._files[split], self.root if self.root.is_dir() else self.root.parent
        config = next((file for file in sorted(folder.glob("*.xml")) if _starts(file, CONFIG_START)), None)
        tasks = {name: _read_once(file, file.stat().st_mtime_ns) for name, file in self._files.items()}
        named = {item.name for of_file in tasks.values() for task in of_file for item in chain(*task.annotations)}
        classes, kind = (tuple(sorted(named)), Task.MULTI_LABEL) if config is None else _read_config(config)
        problems = [f"{path}: {problem}" for name in classes if (problem := split_scan.class_problem(name))]
        images, finder = [], ImageFinder(path.parent, split)
        annotated = [task for task in tasks[split] if task.annotations]
        for task in annotated:
            try:
                images.append(_labelled_image(task, finder, classes, kind, config))
            except DataError as error:
                problems.append(f"{task.where}{error}")
        warnings = [f"{path}: {number:,} of {len(tasks[split]):,} {text}" for number, text in (
            (len(tasks[split]) - len(annotated), "tasks have no annotation, or only skipped ones, and are left out"),
            (sum(not image.classes + image.ignored for image in images),
             "pictures have no label; they show none of the classes"),
            (sum(bool(image.ignored) for image in images), "pictures have a class that only some of their annotations "
             "give; for it they count neither as positive nor as negative")) if number]
        return split_scan.scan_images(folder, split, kind, classes, images, problems, warnings)


def _starts(path: Path, start: re.Pattern[bytes]) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return start.match(file.read(4096)) is not None


def _is_export(path: Path) -> bool:
    """Whether a file begins like a list of tasks; COCO's, too, are .json files, but objects."""
    return path.suffix == ".json" and _starts(path, EXPORT_START)


def _read_config(path: Path) -> tuple[tuple[str, ...], Task]:
    """The classes of a labelling configuration; if it has nothing but a single choice: single-label."""
    from lxml import etree

    try:
        root = etree.fromstring(read_bytes(path, XML_LIMIT), etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise DataError(f"{path}:{error.lineno or 1}: malformed XML: {' '.join(str(error.msg).split())}; copy the "
                        "labelling configuration anew") from None
    names = (element.get("alias") or element.get("value") or "" for element in root.iter("Choice", "Label"))
    choices = {element.get("choice", "single") for element in root.iter("Choices")}
    single = choices and "multiple" not in choices and root.find(".//Label") is None
    return tuple(dict.fromkeys(normalize("NFC", name) for name in names)), (
        Task.SINGLE_LABEL if single else Task.MULTI_LABEL)


@lru_cache(maxsize=8)
def _read_once(path: Path, _: int) -> tuple[AnnotatedTask, ...]:
    """Reads a file, once for all splits. The number changes when the file does."""
    check_file(path)
    try:
        content = json.loads(decode_text(read_bytes(path, JSON_LIMIT)))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}); {USAGE}") from None
    if not isinstance(content, list) or not all(
            isinstance(task, dict) and isinstance(task.get("data"), dict) and isinstance(task.get("annotations"), list)
            for task in content):
        raise DataError(f"{path}: is not a list of tasks with 'data' and 'annotations'; {USAGE}")
    tasks = []
    for number, task in enumerate(content, 1):
        where = f"{path}: task {task.get('id', number)}: "
        try:
            counted = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
            truth = [annotation for annotation in counted if annotation.get("ground_truth")]
            tasks.append(AnnotatedTask(_reference(task["data"]), tuple(
                tuple(_objects(annotation["result"])) for annotation in truth or counted), where))
        except DataError as error:
            raise DataError(f"{where}{error}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DataError(f"{where}lacks a key of Label Studio or has another kind of value ({reason(error)}); "
                            f"{USAGE}") from None
    return tuple(tasks)


def _reference(data: dict[str, Any]) -> str:
    """The image of a task: what is called `image`, else the only value that is named like one."""
    found = [data["image"]] if "image" in data else [
        value for value in data.values() if isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES)]
    if len(found) != 1 or not isinstance(found[0], str):
        raise DataError(f"its data ({', '.join(data) or 'empty'}) have no picture, or several; call it 'image'")
    return found[0]


def _objects(result: Sequence[dict[str, Any]]) -> Iterator[VocObject]:
    """Choices and regions; what else an annotation has (texts, ratings) is no class."""
    for item in result:
        kind = item.get("type", "")
        if kind == "choices" or kind.endswith("labels"):
            yield from (VocObject(normalize("NFC", name), _box(item)) for name in item["value"][kind])


def _box(item: dict[str, Any]) -> Box | None:
    """Of a rectangle that is not rotated: from percent of the image to pixels as VOC has them, counted from 1."""
    value, turned = item["value"], item["value"].get("rotation") or item.get("image_rotation")
    if turned or "original_width" not in item or not {"x", "y", "width", "height"} <= value.keys():
        return None
    across, down = item["original_width"] / 100, item["original_height"] / 100
    return Box(value["x"] * across + 1, value["y"] * down + 1, (value["x"] + value["width"]) * across,
               (value["y"] + value["height"]) * down)


def _labelled_image(task: AnnotatedTask, finder: ImageFinder, classes: Sequence[str], kind: Task, config: Path | None
                    ) -> LabelledImage:
    names = [{item.name for item in annotation} for annotation in task.annotations]
    shown, some = set.intersection(*names), sorted(set.union(*names))
    for name in some:
        if name not in classes:
            raise DataError(split_scan.unknown_class(name, classes, str(config)))
    if kind is Task.SINGLE_LABEL and not len(shown) == len(some) == 1:
        raise DataError(f"has {len(some)} classes ({', '.join(some) or 'none'}), where {config} has one for each "
                        "picture; correct its annotations, or mark one as ground truth")
    return LabelledImage(_find(task.reference, finder), tuple(name for name in some if name in shown),
                         tuple(name for name in some if name not in shown), task.where,
                         objects=tuple(item for item in task.annotations[0] if item.box and item.name in shown))


def _find(reference: str, finder: ImageFinder) -> Path:
    """The image on this machine; DataError where it is not there. Nothing is downloaded."""
    names = _file_names(reference)
    for path in map(finder.find, names):
        if os.path.exists(path):
            return path
    raise DataError(f"there is no picture for {reference[:200]!r}; copy it beside the export as {names[-1][:200]} "
                    "(nothing is downloaded)")


def _file_names(reference: str) -> tuple[str, ...]:
    """Where the image may be, relative to the export or a folder above it.

    Local storage has a path below its document root in `d`; an upload has a new name; of a URL, the path counts.
    """
    url = urlsplit(reference)
    if url.path.endswith("/data/local-files/"):
        path = parse_qs(url.query).get("d", [""])[0].lstrip("/")
        return f"/{path}", path, path.rpartition("/")[2]
    path = unquote(url.path).lstrip("/")
    base = path.rpartition("/")[2]
    if "data/upload/" in path:
        return path.partition("data/")[2], base, UPLOADED.sub("", base, count=1)
    return (path, base) if url.netloc else (reference,)
