"""COCO's annotations as a multi-label data set: which categories an image shows (https://cocodataset.org/#format-data).

    root/annotations/instances_train2017.json  root/train2017/…     the split train2017
    root/train/_annotations.coco.json  root/train/…                 the split train, as Roboflow exports it

Masks are not read. A crowd (`iscrowd`) is a label like any other, and an image without annotations shows
none of the classes, as torchvision's CocoDetection has it. The classes are the categories in the order of their ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

from voc_cls.data.dataset import Task
from voc_cls.data.files import check_file, decode_text, read_bytes
from voc_cls.data.readers.image_finder import ImageFinder
from voc_cls.data.readers.label_studio import LabelStudioReader
from voc_cls.data.readers.split_scan import (
    Box,
    LabelledImage,
    Reader,
    SplitScan,
    VocObject,
    class_problem,
    scan_images,
    summed_up,
)
from voc_cls.errors import DataError, reason

PREFIX, IN_SPLIT_FOLDER = "instances_", "_annotations.coco.json"
OTHER_TASKS = ("captions_", "person_keypoints_", "image_info_", "panoptic_", "stuff_")
"""Files beside the instances that have other annotations."""
KEYS = ("images", "annotations", "categories")
KEPT = frozenset({*KEYS, "id", "file_name", "image_id", "category_id", "name", "supercategory", "bbox", "iscrowd"})
"""All that is needed; masks alone take gigabytes."""
JSON_LIMIT = 2**31
"""Bytes a file may have; instances_train2017.json has 0.45 GB."""
USAGE = f"`root` takes the folder above annotations/{PREFIX}*.json, or above train/{IN_SPLIT_FOLDER}, or one such file"


@dataclass(frozen=True)
class CocoFile:
    """The images of a split with their objects."""

    path: Path
    classes: tuple[str, ...]
    images: tuple[tuple[str, tuple[VocObject, ...]], ...]
    """(`file_name`, objects) of each."""
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


class CocoReader(Reader):
    """The splits are what follows "instances_", the folder, or else the name of a file."""

    kind = "coco"

    @staticmethod
    def matches(root: Path) -> bool:
        if root.is_file():
            return root.suffix == ".json" and not LabelStudioReader.matches(root)
        return any(any(root.glob(pattern)) for pattern in (f"annotations/{PREFIX}*.json", f"{PREFIX}*.json",
                                                           f"*/{IN_SPLIT_FOLDER}", IN_SPLIT_FOLDER))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._files)

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Split → its file."""
        root = self.root
        if root.is_file():
            files = [root]
        else:
            folders = (root / "annotations", root)
            files = [path for folder in folders for path in sorted(folder.glob(f"{PREFIX}*.json"))] or [
                *sorted(root.glob(f"*/{IN_SPLIT_FOLDER}")), *root.glob(IN_SPLIT_FOLDER)] or [
                path for folder in folders for path in sorted(folder.glob("*.json"))
                if not path.name.startswith(OTHER_TASKS)]
        if not files:
            raise DataError(f"{root}: {'has no annotations of COCO' if root.is_dir() else 'no such file or folder'}; "
                            f"{USAGE}")
        return {path.absolute().parent.name if path.name == IN_SPLIT_FOLDER else path.stem.removeprefix(PREFIX): path
                for path in files}

    def _scan(self, split: str, *_: object) -> SplitScan:
        contents = {name: _read_once(path, path.stat().st_mtime_ns) for name, path in self._files.items()}
        classes = tuple(dict.fromkeys(name for content in contents.values() for name in content.classes))
        content, finder = contents[split], ImageFinder(self._files[split].parent, split)
        problems, images = list(content.problems), dict[Path, LabelledImage]()
        for file_name, objects in content.images:
            try:
                path = finder.find(file_name)
                before = images[path].objects if path in images else ()  # merged files list an image under several ids
                objects = tuple(dict.fromkeys((*before, *objects)))
                images[path] = LabelledImage(path, tuple(dict.fromkeys(item.name for item in objects)),
                                             where=f"{content.path}: ", objects=objects)
            except DataError as error:
                problems.append(f"{content.path}: {error}")
        twice = len(content.images) - len(images)
        merged = [f"{content.path}: lists {twice:,} pictures again under another id; each is taken once, with all of "
                  "its classes"] if twice and not problems else []
        return scan_images(self.root if self.root.is_dir() else self.root.parent, split, Task.MULTI_LABEL, classes,
                           images.values(), problems, (*content.warnings, *merged))


@lru_cache(maxsize=8)
def _read_once(path: Path, _: int) -> CocoFile:
    """Reads a file, once for all splits: each has the categories. The number changes when the file does."""
    check_file(path)
    try:
        content = json.loads(decode_text(read_bytes(path, JSON_LIMIT)), object_hook=lambda found: {
            key: value for key, value in found.items() if key in KEPT})
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error}); copy it anew") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in KEYS):
        raise DataError(f"{path}: has no lists {', '.join(map(repr, KEYS))}, as COCO's instances do; {USAGE}")
    try:
        return _coco_file(path, *(content[key] for key in KEYS))
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: an image, annotation or category lacks a key of COCO or has another kind of value "
                        f"({reason(error)}); correct the file") from None


def _coco_file(path: Path, images: Iterable[Any], annotations: Iterable[Any], categories: Iterable[Any]) -> CocoFile:
    categories = sorted(categories, key=lambda category: category["id"])
    above = {category.get("supercategory") for category in categories}
    names = {category["id"]: normalize("NFC", str(category["name"] or "").strip()) for category in categories
             if not (category.get("supercategory") == "none" and category["name"] in above)}  # Roboflow's category 0
    problems = [f"{path}: {problem}" for name in names.values() if (problem := class_problem(name))]
    file_names: dict[Any, str] = {}
    for image in images:
        if image["id"] in file_names:
            problems.append(f"{path}: has the image id {image['id']} twice; remove one")
        file_names[image["id"]] = str(image["file_name"])
    shown: dict[Any, list[VocObject]] = {image: [] for image in file_names}
    stray = []
    for annotation in annotations:
        image, category = annotation["image_id"], annotation["category_id"]
        if image not in shown or category not in names:
            stray.append((str(path), "an annotation has an image_id or category_id that the file does not list"))
        else:
            shown[image].append(VocObject(names[category], _box(annotation)))
    warnings = []
    if len(set(names.values())) < len(names):
        warnings.append(f"{path}: has {len(names)} categories with {len(set(names.values()))} names; those of one name "
                        "are one class")
    if empty := sum(not labels for labels in shown.values()):
        warnings.append(f"{path}: {empty:,} of {len(shown):,} pictures have no annotations; they show none of the "
                        "classes")
    return CocoFile(path, tuple(dict.fromkeys(names.values())),
                    tuple((file_names[image], tuple(objects)) for image, objects in shown.items()),
                    (*problems, *summed_up(stray)), tuple(warnings))


def _box(annotation: Any) -> Box | None:
    """None for a crowd, whose box is not one of an object, and where there are not four numbers."""
    try:
        left, top, width, height = annotation["bbox"]
        box = Box(left + 1, top + 1, left + width, top + height)  # VOC's, which counts from 1
    except (KeyError, TypeError, ValueError):
        return None
    return None if annotation.get("iscrowd") else box
