"""VOC annotations as tools write them: folders without lists, classes of one's own, several devkits as one."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from voc_cls.data.check import check_dataset
from voc_cls.data.dataset import Dataset
from voc_cls.data.load import default_splits, load_dataset, open_reader, read_dataset, scan_dataset
from voc_cls.data.readers.voc import CLASSES
from voc_cls.errors import DataError, UsageError


def draw(image: Path, *names: str, xml: Path | None = None, filename: str | None = None) -> None:
    """An image of 16 × 12 pixels, and its annotation beside it or at `xml`, with an object of each name."""
    for folder in (image.parent, (xml or image).parent):
        folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(crc32(str(image).encode()))
    Image.fromarray(random.integers(0, 255, (12, 16, 3), np.uint8)).save(image)
    objects = "".join(f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
                      "<xmax>9</xmax><ymax>9</ymax></bndbox></object>" for name in names)
    (xml or image.with_suffix(".xml")).write_text(
        f"<annotation><filename>{filename or image.name}</filename><source><database>Unknown</database></source>"
        f"<size><width>16</width><height>12</height></size>{objects}</annotation>")


def shown(dataset: Dataset) -> dict[str, list[str]]:
    """File name → classes."""
    return {str(record["path"]).rpartition("/")[2]: record["labels"] for record in dataset.to_records()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of labelImg: annotations beside the pictures."""
    draw(tmp_path / "photos/a.jpg", "pallet", "forklift")
    draw(tmp_path / "photos/b.png", "forklift", "forklift")
    draw(tmp_path / "photos/c.JPG")
    return tmp_path / "photos"


def test_a_folder_without_lists_is_one_split_with_all_classes_that_occur(photos: Path):
    assert open_reader("voc", photos).splits == ("all",)
    assert default_splits("voc", photos) == ("all", "none")
    dataset = read_dataset("voc", photos, "all")
    assert dataset.classes == ("forklift", "pallet")
    assert shown(dataset) == {"a.jpg": ["forklift", "pallet"], "b.png": ["forklift"], "c.JPG": []}
    assert load_dataset(photos).kind == "voc"
    assert check_dataset(scan_dataset("voc", photos)).problems == ()


def test_pictures_that_nobody_annotated_are_counted_and_left_out(photos: Path):
    for name in ("d.jpg", "e.jpg"):
        shutil.copy(photos / "a.jpg", photos / name)
    assert read_dataset("voc", photos, "all").warnings == (
        f"{photos}/d.jpg: has no annotation and is left out (and 1 more)",)


def test_an_annotation_without_its_picture_is_a_problem(photos: Path):
    (photos / "b.png").unlink()
    with pytest.raises(DataError, match=r"photos/b.xml: there is no picture of this name in .*/photos; add it"):
        read_dataset("voc", photos, "all")
    (photos / "annotations.xml").write_text("<annotations><image/></annotations>")
    assert "the outermost element is <annotations>" in open_reader("voc", photos).scan("all").problems[0]


@pytest.mark.parametrize("place", ["Annotations/{}.xml JPEGImages/{}.jpg", "xmls/{}.xml images/{}.jpg",
                                   "labels/cam/{}.xml images/cam/{}.jpg", "{}.xml images/{}.jpg"])
def test_annotations_may_be_apart_from_the_pictures(tmp_path: Path, place: str):
    xml, image = place.split()
    for name in ("1", "2"):
        draw(tmp_path / "set" / image.format(name), f"class{name}", xml=tmp_path / "set" / xml.format(name))
    assert shown(read_dataset("voc", tmp_path / "set", "all")) == {"1.jpg": ["class1"], "2.jpg": ["class2"]}


def test_drawings_of_the_annotations_that_labelme_puts_beside_them_are_not_mistaken_for_pictures(tmp_path: Path):
    draw(tmp_path / "JPEGImages/1.jpg", "cup", xml=tmp_path / "Annotations/1.xml")
    draw(tmp_path / "AnnotationsVisualization/1.jpg", xml=tmp_path / "other")
    (tmp_path / "class_names.txt").write_text("__ignore__\n_background_\nmug\ncup\n")
    dataset = read_dataset("voc", tmp_path, "all")
    assert (dataset.classes, dataset.paths) == (("mug", "cup"), (tmp_path / "JPEGImages/1.jpg",))


def test_equal_names_in_several_folders_belong_to_their_own_annotations(tmp_path: Path):
    for camera in ("left", "right"):
        draw(tmp_path / f"images/{camera}/1.jpg", camera, xml=tmp_path / f"xml/{camera}/1.xml")
    records = read_dataset("voc", tmp_path, "all").to_records()
    assert [(Path(record["path"]).parent.name, record["labels"]) for record in records] == [
        ("left", ["left"]), ("right", ["right"])]


def test_folders_named_like_splits_are_the_splits(tmp_path: Path):
    for split, names in (("train", ("cat_jpg.rf.0a1b", "dog_jpg.rf.2c3d")), ("valid", ("cat_jpg.rf.4e5f",)),
                         ("test", ("dog_jpg.rf.6a7b",))):
        for name in names:
            draw(tmp_path / split / f"{name}.jpg", name[:3])
    (tmp_path / "README.roboflow.txt").write_text("exported")
    assert open_reader("voc", tmp_path).splits == ("test", "train", "valid")
    assert default_splits("voc", tmp_path) == ("train", "test")
    assert shown(read_dataset("voc", tmp_path, "test")) == {"dog_jpg.rf.6a7b.jpg": ["dog"]}
    assert read_dataset("voc", tmp_path, "test").classes == ("cat", "dog")
    assert load_dataset(tmp_path).kind == "voc"


def test_equal_names_in_two_splits_are_never_mixed(tmp_path: Path):
    for split in ("train", "val"):
        draw(tmp_path / f"images/{split}/1.jpg", split, xml=tmp_path / f"xml/{split}/1.xml")
    assert shown(read_dataset("voc", tmp_path, "val")) == {"1.jpg": ["val"]}
    (tmp_path / "images/val/1.jpg").unlink()
    with pytest.raises(DataError, match=r"xml/val/1.xml: there is no picture of this name"):
        read_dataset("voc", tmp_path, "val")


def test_an_annotation_beside_the_folders_of_the_splits_is_refused(tmp_path: Path):
    draw(tmp_path / "train/a.jpg", "cat")
    draw(tmp_path / "b.jpg", "cat")
    with pytest.raises(DataError, match=r"b.xml: is beside the folders train, which are named like splits; move it"):
        _ = open_reader("voc", tmp_path).splits


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A folder of CVAT: lists of the split `default` and of its classes, and labelmap.txt."""
    root = tmp_path / "task"
    for name, classes in (("frames/0 1", ("truck",)), ("frames/2", ()), ("frames/3", ("car", "truck"))):
        draw(root / f"JPEGImages/{name}.png", *classes, xml=root / f"Annotations/{name}.xml", filename=f"{name}.png")
    lists = root / "ImageSets/Main"
    lists.mkdir(parents=True)
    (lists / "default.txt").write_text("frames/0 1\nframes/2\nframes/3\n")
    (lists / "truck_default.txt").write_text("frames/0 1  1\nframes/3  1\n")
    (lists / "background_default.txt").write_text("frames/0 1 -1\nframes/3 -1\n")
    (lists / "car_default.txt").touch()
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntruck:1,2,3::\ncar:250,50,83::\nbus:0,0,1::\n")
    return root


def test_an_export_of_cvat_has_the_classes_of_its_labelmap(exported: Path):
    assert default_splits("voc", exported) == ("default", "none")
    dataset = read_dataset("voc", exported, "default")
    assert dataset.classes == ("truck", "car", "bus")
    assert shown(dataset) == {"0 1.png": ["truck"], "2.png": [], "3.png": ["truck", "car"]}
    check = check_dataset(scan_dataset("voc", exported))
    assert (check.problems, check.splits, check.images) == ((), ("default",), 3)


def test_a_class_that_the_list_of_classes_lacks_is_a_problem(exported: Path):
    draw(exported / "JPEGImages/frames/2.png", "trucks", xml=exported / "Annotations/frames/2.xml")
    with pytest.raises(DataError, match=r"2\.xml:1: unknown class 'trucks', it is not in .*labelmap.txt; did you mean"):
        read_dataset("voc", exported, "default")


def test_an_entry_of_a_list_may_have_an_extension_or_folder_but_counts_once(exported: Path):
    path = exported / "ImageSets/Main/default.txt"
    path.write_text("JPEGImages/frames/0 1.png\nframes/3.xml\nframes/3\n")
    scan = open_reader("voc", exported).scan("default")
    assert list(shown(scan.dataset)) == ["0 1.png", "3.png"]
    assert scan.problems == (f"{path}:3: lists 'frames/3' again, it is on line 2 too; remove one",)


def test_names_with_accents_are_found_composed_and_decomposed(tmp_path: Path):
    (tmp_path / "ImageSets/Main").mkdir(parents=True)
    for number, (image, xml, entry) in enumerate((("NFD", "NFC", "NFC"), ("NFC", "NFD", "NFD"), ("NFD", "NFD", "NFC"))):
        names = [normalize(form, f"Zoë {number}") for form in (image, xml, entry)]  # type: ignore[arg-type]
        draw(tmp_path / f"JPEGImages/{names[0]}.jpg", "cat", xml=tmp_path / f"Annotations/{names[1]}.xml")
        with (tmp_path / "ImageSets/Main/train.txt").open("a") as file:
            file.write(f"{names[2]}\n")
    assert len(read_dataset("voc", tmp_path, "train")) == 3


def test_of_two_pictures_with_one_name_the_annotation_names_one(photos: Path):
    Image.open(photos / "a.jpg").save(photos / "a.bmp")
    assert "a.jpg" in shown(read_dataset("voc", photos, "all"))
    Image.open(photos / "b.png").save(photos / "b.gif")
    (photos / "b.xml").write_text((photos / "b.xml").read_text().replace("b.png", "b.webp"))
    with pytest.raises(DataError, match=r"b\.xml: .*b\.(gif|png) and .*b\.(gif|png) have its name; name one of them"):
        read_dataset("voc", photos, "all")


def test_classes_are_those_of_a_list_in_its_order(photos: Path):
    (photos / "classes.txt").write_text("person\npallet\nforklift\n")
    assert read_dataset("voc", photos, "all").classes == ("person", "pallet", "forklift")


def test_chosen_classes_are_read_in_their_order_and_the_others_counted(photos: Path):
    dataset = read_dataset("voc", photos, "all", classes=("pallet",))
    assert (dataset.classes, dataset.labels.tolist()) == (("pallet",), [[1], [0], [0]])
    assert dataset.warnings == ("photos all: 2 of 3 pictures show classes that were not chosen (forklift); these "
                                "classes are ignored",)
    with pytest.raises(UsageError, match=r"`classes`: unknown class 'palet', it is not in photos all; did you"):
        read_dataset("voc", photos, "all", classes=("palet",))


def test_a_folder_of_vocs_annotations_has_vocs_classes_and_one_of_a_few_others_only_those(tmp_path: Path):
    draw(tmp_path / "a.jpg", "dog")
    draw(tmp_path / "b.jpg", "cat")
    assert read_dataset("voc", tmp_path, "all").classes == ("cat", "dog")
    for path in tmp_path.glob("*.xml"):
        path.write_text(path.read_text().replace("Unknown", "The VOC2007 Database"))
    assert read_dataset("voc", tmp_path, "all").classes == CLASSES


def test_annotations_of_nothing_need_a_list_of_classes(tmp_path: Path):
    draw(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"no annotation has an object, so there are no classes; list them in classes"):
        read_dataset("voc", tmp_path, "all")


@pytest.fixture
def years(devkit: Path) -> Sequence[Path]:
    """Two years with equal ids and no test in the second."""
    second = shutil.copytree(devkit, devkit.with_name("VOC2012"))
    for path in (second / "ImageSets/Main").glob("*test.txt"):
        path.unlink()
    return devkit, second


def test_several_years_are_one_data_set_with_ids_kept_apart(years: Sequence[Path]):
    one = read_dataset("voc", years[0], "trainval")
    both = read_dataset("voc", years, "trainval")
    assert (both.name, both.classes) == ("VOC2007+VOC2012 trainval", CLASSES)
    assert both.paths[:len(one)] == one.paths
    assert [path.name for path in both.paths] == [path.name for path in one.paths] * 2
    assert both.labels.tolist() == [*one.labels.tolist()] * 2
    assert load_dataset(list(years))["trainval"].paths == both.paths
    assert read_dataset("voc", years[0].parent, "trainval").paths == both.paths


def test_a_split_that_only_some_years_have_is_told(years: Sequence[Path]):
    assert default_splits("voc", years) == ("trainval", "test")
    test = read_dataset("voc", years, "test")
    assert test.paths == read_dataset("voc", years[0], "test").paths
    assert test.warnings == (f"{years[1]}: has no split test with annotations; test is of VOC2007 alone",)


def test_a_list_of_pictures_without_annotations_is_not_a_split_to_read(years: Sequence[Path]):
    (years[1] / "ImageSets/Main/test.txt").write_text("2012_000001\n2012_000002\n")
    assert len(read_dataset("voc", years, "test").warnings) == 1
    assert default_splits("voc", years[1]) == ("trainval", "none")


def test_a_root_twice_and_several_roots_of_another_kind_are_refused(years: Sequence[Path], tmp_path: Path):
    with pytest.raises(UsageError, match=r"`root` .*VOC2007: is given twice"):
        read_dataset("voc", (years[0], years[0]), "trainval")
    with pytest.raises(UsageError, match=r"`root` .*: is a second path, and csv takes one; only voc takes several"):
        read_dataset("csv", (tmp_path, years[0]), "trainval")


def test_oddities_that_do_not_matter_are_one_warning_for_each_kind(photos: Path):
    for name in ("a", "b"):
        path = photos / f"{name}.xml"
        path.write_text(path.read_text().replace("<width>16<", "<width>0<").replace("<xmax>9<", "<xmax>17<"))
    warnings = read_dataset("voc", photos, "all").warnings
    assert [warning.replace(f"{photos}/", "") for warning in warnings] == [
        "a.xml:1: has no <size> in whole pixels; the picture's own is used (and 1 more)",
        "a.xml:1: a box reaches beyond the picture; only the object's class is used (and 1 more)"]


def test_a_second_picture_of_one_name_is_counted(photos: Path):
    shutil.copy(photos / "b.png", photos / "a.png")
    assert read_dataset("voc", photos, "all").warnings == (
        f"{photos}/a.png: has the name of another picture with an annotation and is left out",)


def test_other_xml_files_hide_no_annotations(photos: Path):
    (photos / "0.xml").write_text("<project/>")
    assert load_dataset(photos).kind == "voc"


def test_objects_where_voc_has_none_are_not_lost_silently(photos: Path):
    path = photos / "a.xml"
    for before, after in (("<object>", "<objects><object>"), ("</object>", "</object></objects>")):
        path.write_text(path.read_text().replace(before, after))
    with pytest.raises(DataError, match=r"a.xml:\d+: <object> in <objects> is not read as an object"):
        read_dataset("voc", photos, "all")


def test_a_folder_of_no_kind_is_told_what_a_list_lacks(tmp_path: Path):
    (tmp_path / "train.csv").write_text("picture,height\na.jpg,12\n")
    with pytest.raises(DataError, match=r"what is missing \(as csv: .*train.csv:1: has the columns"):
        load_dataset(tmp_path)


def test_names_of_classes_are_compared_composed(photos: Path):
    for name, label in (("a", "Ka\u0308fer"), ("b", "K\u00e4fer")):
        draw(photos / f"{name}.jpg", label)
    assert read_dataset("voc", photos, "all").classes == ("K\u00e4fer",)
