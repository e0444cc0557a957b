"""Trees of pictures: classes by folder or by file name, splits by folder, and what is neither."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from voc_cls.data.dataset import Dataset, DifficultPolicy, Task
from voc_cls.data.load import default_splits, open_reader, read_dataset
from voc_cls.errors import DataError, UsageError

SEEDLINGS = ("Black-grass", "Charlock", "Cleavers", "Common Chickweed", "Common wheat", "Fat Hen", "Loose Silky-bent",
             "Maize", "Scentless Mayweed", "Shepherds Purse", "Small-flowered Cranesbill", "Sugar beet")


def draw(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = ".png" if path.suffix == ".png" else ".jpg"
        path.write_bytes(cv2.imencode(suffix, np.full((8, 9, 3), 50, np.uint8))[1].tobytes())


def read(root: Path, split: str = "all") -> Dataset:
    return read_dataset("folder", root, split, DifficultPolicy.IGNORE)


def labelled(dataset: Dataset, root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): dataset.classes[row.argmax()]
            for path, row in zip(dataset.paths, dataset.labels, strict=True)}


def test_class_folders_are_one_split_and_their_own_folders_belong_to_the_class(tmp_path: Path):
    root = tmp_path / "imagenet"
    draw(root / "n02084071/b.JPEG", root / "n02084071/more/deep/a.JPEG", root / "n01443537/c.JPEG")
    assert open_reader("folder", root).splits == ("all",)
    assert default_splits("folder", root) == ("all", "none")
    dataset = read(root)
    assert (dataset.name, dataset.task) == ("imagenet all", Task.SINGLE_LABEL)
    assert dataset.classes == ("n01443537", "n02084071")
    assert labelled(dataset, root) == {"n01443537/c.JPEG": "n01443537", "n02084071/b.JPEG": "n02084071",
                                       "n02084071/more/deep/a.JPEG": "n02084071"}
    assert dataset.labels.tolist() == [[1, 0], [0, 1], [0, 1]]


def test_splits_are_folders_and_have_the_same_classes_in_the_same_order(tmp_path: Path):
    for number, name in enumerate(SEEDLINGS):
        draw(tmp_path / "train" / name / f"{number}.png")
    draw(tmp_path / "val/Maize/1.png")
    assert open_reader("folder", tmp_path).splits == ("train", "val")
    assert default_splits("folder", tmp_path) == ("train", "none")
    assert read(tmp_path, "train").classes == read(tmp_path, "val").classes == SEEDLINGS
    assert read(tmp_path, "val").labels.argmax(axis=1).tolist() == [SEEDLINGS.index("Maize")]


def test_dogs_vs_cats_have_their_class_in_the_file_name(tmp_path: Path):
    draw(tmp_path / "cat.0.jpg", tmp_path / "dog.0.jpg", tmp_path / "dog.10.jpg")
    dataset = read(tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert labelled(dataset, tmp_path) == {"cat.0.jpg": "cat", "dog.0.jpg": "dog", "dog.10.jpg": "dog"}


def test_a_test_folder_without_classes_is_no_default_and_its_error_says_how_to_predict_it(tmp_path: Path):
    draw(tmp_path / "train/cat.0.jpg", tmp_path / "train/dog.1.jpg", tmp_path / "test1/1.jpg", tmp_path / "test1/2.jpg")
    draw(tmp_path / "test/7.jpg")
    (tmp_path / "sampleSubmission.csv").write_text("id,label\n")
    assert open_reader("folder", tmp_path).splits == ("test", "test1", "train")
    assert default_splits("folder", tmp_path) == ("train", "none")
    assert read(tmp_path, "train").classes == ("cat", "dog")
    with pytest.raises(DataError, match=r"nothing gives the classes of its 2 files \(1.jpg, …\).*voc-predict --run RUN "
                                        r".*/test1 --csv predictions.csv"):
        read(tmp_path, "test1")
    draw(tmp_path / "test/cat.8.jpg")
    assert default_splits("folder", tmp_path) == ("train", "test")
    with pytest.raises(DataError, match=r"test/7.jpg: its name has no class"):
        read(tmp_path, "test")


def test_what_file_managers_leave_behind_is_left_out(tmp_path: Path):
    draw(tmp_path / "cat/a.jpg", tmp_path / "dog/b.jpg", tmp_path / "__MACOSX/cat/._a.jpg", tmp_path / ".git/x.jpg")
    for name in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini", "dog/._b.jpg", "README.md"):
        (tmp_path / name).write_text("no picture")
    dataset = read(tmp_path)
    assert list(labelled(dataset, tmp_path)) == ["cat/a.jpg", "dog/b.jpg"]
    assert dataset.warnings == (f"{tmp_path}/cat/Thumbs.db: is not a picture and is ignored (and 1 more)",)


def test_a_picture_without_extension_is_one_by_its_bytes(tmp_path: Path):
    draw(tmp_path / "cat/a", tmp_path / "cat/b.x", tmp_path / "dog/c.jpg")
    assert list(labelled(read(tmp_path), tmp_path)) == ["cat/a", "cat/b.x", "dog/c.jpg"]


@pytest.mark.parametrize(("train", "test"), [
    ("training_set", "test_set"), ("seg_train/seg_train", "seg_test/seg_test"), ("Training", "Testing"),
    ("train_images", "test_images"), ("TRAIN", "valid"), ("data-train", "Validation Set"), ("train/train", "test1"),
])
def test_the_usual_names_of_splits_are_splits_and_not_classes(tmp_path: Path, train: str, test: str):
    draw(*(tmp_path / f"{split}/{name}/1.jpg" for split in (train, test) for name in ("cat", "dog")))
    first, second = train.split("/")[0], test.split("/")[0]
    assert set(open_reader("folder", tmp_path).splits) == {first, second}
    dataset = read(tmp_path, first)
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.warnings) == ("/" in train)
    assert default_splits("folder", tmp_path) == (first, second if "est" in second else "none")


def test_classes_whose_names_only_resemble_splits_are_classes(tmp_path: Path):
    draw(*(tmp_path / f"{name}/1.jpg" for name in ("test tube", "train station", "valve", "developer", "image")))
    assert read(tmp_path).classes == ("developer", "image", "test tube", "train station", "valve")


@pytest.mark.parametrize("inside", ["", "train/"])
def test_a_folder_round_the_classes_or_splits_is_passed_and_named(tmp_path: Path, inside: str):
    draw(tmp_path / f"dataset/PetImages/{inside}cat/1.jpg", tmp_path / f"dataset/PetImages/{inside}dog/1.jpg")
    (tmp_path / "dataset/readme.txt").write_text("no picture")
    dataset = read(tmp_path, "train" if inside else "all")
    assert dataset.classes == ("cat", "dog")
    assert dataset.warnings == (f"{tmp_path}: the classes of the split {'train' if inside else 'all'} are those in "
                                f"{tmp_path}/dataset/PetImages{'/train' if inside else ''}",)


def test_names_with_the_class_may_be_in_a_folder_too(tmp_path: Path):
    draw(tmp_path / "train/train/cat.0.jpg", tmp_path / "train/train/dog.0.jpg", tmp_path / "test1/test1/1.jpg")
    assert read(tmp_path, "train").classes == ("cat", "dog")
    assert default_splits("folder", tmp_path) == ("train", "none")


def test_splits_with_unknown_names_are_warned_of(tmp_path: Path):
    draw(*(tmp_path / f"{split}/{name}/1.jpg" for split in ("learn", "exam") for name in ("cat", "dog")))
    dataset = read(tmp_path)
    assert dataset.classes == ("exam", "learn")
    assert dataset.warnings == (f"{tmp_path}: each class has the folders cat and dog; if these are classes, name the "
                                "folders above like splits (train, test), or pass one of them as the root",)


def test_a_single_class_folder_stays_a_class(tmp_path: Path):
    draw(tmp_path / "train/cat/2019/1.jpg", tmp_path / "train/dog/1.jpg", tmp_path / "test/cat/2019/2.jpg")
    assert read(tmp_path, "test").classes == ("cat", "dog")


def spoilt(name: str) -> Callable[[Path], object]:
    return lambda root: (root / name).write_text("no picture")


@pytest.mark.parametrize(("spoil", "found"), [
    (spoilt("cat/notes.jpg"), r"cat/notes.jpg: is not a JPEG, PNG, BMP"),
    (lambda root: os.truncate(root / "cat/1.jpg", 200), r"cat/1.jpg: is a truncated JPEG"),
    (lambda root: (root / "bird").mkdir(), r"bird: has no pictures; a class needs some, or remove the folder"),
    (lambda root: draw(root / "loose.jpg"), r"loose.jpg: is a picture beside folders \(cat, …\)"),
    (lambda root: draw(root / "train/cat/1.jpg"), r"has the folders train, .* like splits, beside cat, dog"),
    (lambda root: shutil.rmtree(root / "cat") or shutil.rmtree(root / "dog"), r"is empty; `root` takes class folders"),
    (lambda root: draw(root / " cat/1.jpg"), r"has the class ' cat', which begins or ends with white space"),
    (lambda root: draw(Path(os.fsdecode(os.fsencode(root) + b"/\xff/1.jpg"))), r"has the class '\\udcff'"),
    (lambda root: draw(Path(os.fsdecode(os.fsencode(root) + b"/cat/\xff.jpg"))), r"its name is not UTF-8"),
    (lambda root: (root / "cat/loop").symlink_to(root), r"dog/1.jpg: is the same file as .*cat/loop/dog/1.jpg"),
    (lambda root: (root / "cat/loop").symlink_to("loop"), r"cat/loop: cannot be read \(Too many levels"),
    (lambda root: (root / "cat/dogs").symlink_to(root / "dog"), r"dog/1.jpg: is the same file as .*cat/dogs/1.jpg"),
    (lambda root: os.mkfifo(root / "cat/pipe.jpg"), r"cat/pipe.jpg: is a device, pipe or socket"),
])
def test_a_tree_that_cannot_be_meant_is_one_sentence(tmp_path: Path, spoil: Callable[[Path], object], found: str):
    root = tmp_path / "pets"
    draw(root / "cat/1.jpg", root / "dog/1.jpg")
    assert len(read(root)) == 2
    spoil(root)
    with pytest.raises(DataError, match=found) as error:
        read(root)
    assert "\n" not in str(error.value)


def test_links_are_followed_once(tmp_path: Path):
    draw(tmp_path / "elsewhere/1.jpg", tmp_path / "root/dog/2.jpg")
    (tmp_path / "root/cat").symlink_to(tmp_path / "elsewhere")
    for level in range(12):  # 2 ** 12 ways to the bottom
        draw(tmp_path / f"maze/{level}/{level}.jpg")
        for way in "ab":
            (tmp_path / f"maze/{level}/{way}").symlink_to(tmp_path / f"maze/{level + 1}", target_is_directory=True)
    (tmp_path / "maze/12").mkdir()
    (tmp_path / "root/maze").symlink_to(tmp_path / "maze/0")
    (tmp_path / "root/dog/back").symlink_to(tmp_path / "root/dog")
    dataset = read(tmp_path / "root")
    assert dataset.labels.sum(axis=0).tolist() == [1, 1, 12]


def test_all_problems_of_a_tree_are_gathered_and_the_rest_is_read(tmp_path: Path):
    draw(tmp_path / "cat/1.jpg", tmp_path / "dog/1.jpg")
    spoilt("cat/a.png")(tmp_path)
    spoilt("dog/b.webp")(tmp_path)
    scan = open_reader("folder", tmp_path).scan("all")
    assert len(scan.dataset) == 2
    assert [problem.split(":")[0].rpartition("/")[2] for problem in scan.problems] == ["a.png", "b.webp"]


def test_wrong_roots_and_splits_are_named(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder; `root` takes class folders"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="is a file"):
        read(tmp_path / "file")
    draw(tmp_path / "set/train/cat/1.jpg")
    with pytest.raises(DataError, match=r"there is no split 'all'; the splits are: train$"):
        read(tmp_path / "set")
    (tmp_path / "set/test").mkdir()
    with pytest.raises(DataError, match=r"set/test: holds no pictures"):
        read(tmp_path / "set", "test")


def test_difficult_objects_are_vocs_alone(tmp_path: Path):
    draw(tmp_path / "cat/1.jpg", tmp_path / "dog/1.jpg")
    with pytest.raises(UsageError, match="`difficult` positive: only voc has difficult objects, folder has none"):
        read_dataset("folder", tmp_path, "all", DifficultPolicy.POSITIVE)


def test_annotations_beside_flat_pictures_are_not_passed_over(tmp_path: Path):
    for name in ("a_jpg.rf.12", "b_jpg.rf.34"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), np.full((8, 9, 3), 50, np.uint8))
        (tmp_path / f"{name}.xml").write_text("<annotation/>")
    with pytest.raises(DataError, match=r"a_jpg.rf.12.xml: is an annotation beside the picture of its name"):
        read_dataset("folder", tmp_path, "all")


def test_names_that_differ_in_their_unicode_form_alone_are_one_class(tmp_path: Path):
    for name in ("train/Ka\u0308fer", "train/b", "test/K\u00e4fer", "test/b"):
        (tmp_path / name).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name / "1.jpg"), np.full((8, 9, 3), 50, np.uint8))
    for split in ("train", "test"):
        dataset = read_dataset("folder", tmp_path, split)
        assert (set(dataset.classes), dataset.labels.sum()) == ({"K\u00e4fer", "b"}, 2)
        assert set(dataset.positives.values()) == {1}
