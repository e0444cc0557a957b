"""Annotations: what is read from VOC's XML, and what is said about XML that is wrong or hostile."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from voc_cls.data.readers.split_scan import Box, VocObject
from voc_cls.data.readers.voc import CLASSES
from voc_cls.data.readers.voc_annotation import (
    ANNOTATION_LIMIT,
    BOX_OUTSIDE,
    NO_BOX,
    NO_SIZE,
    NOT_SET,
    SWAPPED_BOX,
    Annotation,
    compare_with_image,
    read_annotation,
)
from voc_cls.errors import DataError
from voc_cls.image_header import ImageHeader

DOG = """<annotation>
  <filename>000001.jpg</filename>
  <size><width>353</width><height>500</height><depth>3</depth></size>
  <object>
    <name>dog</name>
    <difficult>0</difficult>
    <bndbox>
      <xmin>48</xmin>
      <ymin>240</ymin>
      <xmax>195</xmax>
      <ymax>371</ymax>
    </bndbox>
  </object>
</annotation>
"""
VOC2007 = """<annotation>
	<folder>VOC2007</folder>
	<filename>000001.jpg</filename>
	<source>
		<database>The VOC2007 Database</database>
		<annotation>PASCAL VOC2007</annotation>
		<image>flickr</image>
		<flickrid>341012865</flickrid>
	</source>
	<owner>
		<flickrid>Fried Camels</flickrid>
		<name>Jinky the Fruit Bat</name>
	</owner>
	<size>
		<width>353</width>
		<height>500</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>dog</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>1</xmin>
			<ymin>240</ymin>
			<xmax>353</xmax>
			<ymax>500</ymax>
		</bndbox>
	</object>
	<object>
		<name>person</name>
		<pose>Left</pose>
		<truncated>1</truncated>
		<difficult>1</difficult>
		<bndbox>
			<xmin>8</xmin>
			<ymin>12</ymin>
			<xmax>352</xmax>
			<ymax>498</ymax>
		</bndbox>
	</object>
</annotation>
"""
VOC2012 = """<annotation>
	<folder>VOC2012</folder>
	<filename>000001.jpg</filename>
	<source><database>The VOC2008 Database</database></source>
	<size><width>500</width><height>375</height><depth>3</depth></size>
	<segmented>0</segmented>
	<object>
		<name>person</name>
		<actions><jumping>0</jumping><walking>1</walking></actions>
		<bndbox>
			<xmax>334.5</xmax>
			<xmin>45.70000076293945</xmin>
			<ymax>375</ymax>
			<ymin>59</ymin>
		</bndbox>
		<difficult>0</difficult>
		<pose>Unspecified</pose>
		<point><x>190</x><y>200</y></point>
		<part>
			<name>head</name>
			<bndbox><xmin>200.5</xmin><ymin>70</ymin><xmax>260</xmax><ymax>140</ymax></bndbox>
		</part>
	</object>
</annotation>
"""


def annotation(folder: Path, content: str | bytes) -> Annotation:
    """Writes `content` as the annotation of picture 000001, and reads it."""
    path = folder / "000001.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_annotation(path, CLASSES, "VOC")


def complaint(folder: Path, content: str | bytes) -> str:
    """What reading `content` is refused with, without the folder."""
    with pytest.raises(DataError) as caught:
        annotation(folder, content)
    return str(caught.value).removeprefix(f"{folder}/")


def test_a_voc2007_annotation_is_read_in_full(tmp_path: Path) -> None:
    assert annotation(tmp_path, VOC2007) == Annotation((353, 500), 14, (
        VocObject("dog", Box(1, 240, 353, 500), difficult=False, truncated=True),
        VocObject("person", Box(8, 12, 352, 498), difficult=True, truncated=True),
    ))


def test_a_voc2012_person_with_fractional_box_actions_and_parts_is_one_object(tmp_path: Path) -> None:
    read = annotation(tmp_path, VOC2012)
    assert read.objects == (VocObject("person", Box(45.70000076293945, 59, 334.5, 375)),)


def test_fields_that_labels_do_not_need_may_be_missing(tmp_path: Path) -> None:
    bare = DOG.replace("  <filename>000001.jpg</filename>\n", "").replace("    <difficult>0</difficult>\n", "")
    assert annotation(tmp_path, bare).objects == (VocObject("dog", Box(48, 240, 195, 371)),)


def test_a_flag_that_a_tool_left_unspecified_is_not_set(tmp_path: Path) -> None:
    unset = annotation(tmp_path, DOG.replace("<difficult>0<", "<truncated></truncated><difficult>Unspecified<"))
    assert unset.objects[0].difficult is False
    assert unset.warnings == ((6, NOT_SET),)


def test_a_picture_without_objects_is_read(tmp_path: Path) -> None:
    empty = "<annotation><size><width>9</width><height>8</height></size></annotation>"
    assert annotation(tmp_path, empty) == Annotation((9, 8), 1, ())


@pytest.mark.parametrize(("old", "new", "line", "warning"), [
    ("<size><width>353</width><height>500</height><depth>3</depth></size>", "", 1, NO_SIZE),
    ("<width>353</width>", "", 3, NO_SIZE),
    (">353<", ">0<", 3, NO_SIZE),
    (">353<", ">35.3<", 3, NO_SIZE),
    (">48<", ">196<", 4, SWAPPED_BOX),
    (">371<", ">low<", 4, NO_BOX),
    (">371<", ">nan<", 4, NO_BOX),
    (">371<", ">1e999<", 4, NO_BOX),
    ("      <ymax>371</ymax>\n", "", 4, NO_BOX),
    ("bndbox", "polygon", 4, NO_BOX),
    ("<difficult>0</difficult>", "<difficult/>", 6, NOT_SET),
])
def test_what_labels_do_not_need_is_a_warning_with_its_line(tmp_path: Path, old: str, new: str, line: int,
                                                             warning: str) -> None:
    assert old in DOG
    read = annotation(tmp_path, DOG.replace(old, new))
    assert [item.name for item in read.objects] == ["dog"]
    assert read.warnings == ((line, warning),)


@pytest.mark.parametrize("filename", ["000001.png", "000001", "frames/000001.JPG", "C:\\photos\\000001.jpg", ""])
def test_the_filename_may_have_folders_and_another_extension(tmp_path: Path, filename: str) -> None:
    assert len(annotation(tmp_path, DOG.replace("000001.jpg", filename)).objects) == 1


@pytest.mark.parametrize("flag", ["1", "true", "True", "yes"])
def test_a_flag_may_be_a_word(tmp_path: Path, flag: str) -> None:
    assert annotation(tmp_path, DOG.replace("<difficult>0<", f"<difficult>{flag}<")).objects[0].difficult is True


def compared(folder: Path, content: str, width: int = 353, height: int = 500, orientation: int = 1) -> list[str]:
    """What is odd about an annotation beside an image of some size."""
    image = ImageHeader("JPEG", width, height, orientation)
    return [what for _, what in compare_with_image(folder / "a.xml", annotation(folder, content), folder / "a", image)]


@pytest.mark.parametrize(("width", "height", "orientation"), [(353, 500, 1), (353, 500, 6), (500, 353, 6),
                                                              (500, 353, 8)])
def test_the_size_may_be_that_as_stored_or_as_displayed(tmp_path: Path, width: int, height: int, orientation: int
                                                        ) -> None:
    assert compared(tmp_path, DOG, width, height, orientation) == []


@pytest.mark.parametrize(("width", "height", "orientation"), [(500, 353, 1), (500, 353, 3), (354, 500, 1)])
def test_a_size_that_the_image_has_in_no_way_is_refused(tmp_path: Path, width: int, height: int, orientation: int
                                                        ) -> None:
    with pytest.raises(DataError, match=r"a\.xml:3: says 353 × 500 pixels, but .*/a has "):
        compared(tmp_path, DOG, width, height, orientation)


def test_boxes_count_from_zero_or_one_and_may_reach_beyond_the_image_a_little(tmp_path: Path) -> None:
    assert compared(tmp_path, DOG.replace(">48<", ">0<")) == []
    for old, new in ((">195<", ">354<"), (">240<", ">-1<"), (">371<", ">500.6<")):
        assert compared(tmp_path, DOG.replace(old, new)) == [BOX_OUTSIDE]


@pytest.mark.parametrize(("old", "new"), [(">195<", ">900<"), (">48<", ">-400<"), (">48<", ">354<")])
def test_a_box_far_outside_is_of_another_image(tmp_path: Path, old: str, new: str) -> None:
    content = DOG.replace(old, new).replace(">195<", ">360<") if new == ">354<" else DOG.replace(old, new)
    with pytest.raises(DataError, match=r"a\.xml:4: the box of 'dog' is .* far outside the picture of 353 × 500"):
        compared(tmp_path, content)


def test_a_declared_encoding_and_a_byte_order_mark_are_understood(tmp_path: Path) -> None:
    latin = '<?xml version="1.0" encoding="ISO-8859-1"?>\n' + DOG.replace("<size>", "<owner>Zoë</owner><size>")
    assert annotation(tmp_path, latin.encode("latin-1")) == annotation(tmp_path, b"\xef\xbb\xbf" + latin.replace(
        "ISO-8859-1", "UTF-8").encode())


@pytest.mark.parametrize(("old", "new", "said"), [
    ("</object>", "</objekt>", "13: malformed XML: Opening and ending tag mismatch: object line 4 and objekt"),
    ("</annotation>\n", "", "14: malformed XML: Premature end of data"),
    ("<name>dog</name>", "<name>&horse;</name>", "5: malformed XML: Entity 'horse' not defined"),
    ("<name>dog</name>", "<name>dog</name><name>cat</name>", "5: a second <name> in the same <object>"),
    ("<name>dog</name>\n", "", "4: <object> has no <name>"),
    ("<name>dog</name>", "<name></name>", "5: has an empty class"),
    ("<name>dog</name>", "<name>unicorn</name>", "5: unknown class 'unicorn', it is not in VOC; known are aeroplane"),
    ("<name>dog</name>", "<name>Dog</name>", "5: unknown class 'Dog', it is not in VOC; did you mean dog"),
    ("<difficult>0<", "<difficult>maybe<", "6: <difficult> is 'maybe'; 0 or 1 is expected"),
    ("000001.jpg", "000007.jpg", "2: is the annotation of '000007.jpg', but the file's own name says '000001'"),
    ("annotation>", "note>", "1: the outermost element is <note>; a VOC annotation starts with <annotation>"),
])
def test_a_wrong_annotation_is_refused_by_file_line_and_what_was_found(
        tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in DOG
    assert complaint(tmp_path, DOG.replace(old, new)).startswith(f"000001.xml:{said}")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path, " \n").startswith("000001.xml:1: is empty")


def test_bytes_that_are_not_utf8_are_refused_by_line(tmp_path: Path) -> None:
    assert complaint(tmp_path, DOG.encode().replace(b"dog", b"d\xf6g")).startswith("000001.xml:5: malformed XML: ")


def entity_bomb(encoding: str) -> str:
    """An annotation whose class name would be 300 GB long."""
    levels = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">\n' for n in range(1, 12))
    document_type = f'<!DOCTYPE annotation [\n<!ENTITY a0 "dog">\n{levels}]>\n'
    return f'<?xml version="1.0" encoding="{encoding}"?>\n' + document_type + DOG.replace("<name>dog", "<name>&a11;")


def test_an_entity_bomb_is_refused_at_once(tmp_path: Path) -> None:
    assert complaint(tmp_path, entity_bomb("utf-8")).startswith("000001.xml:2: has a document type declaration")


@pytest.mark.parametrize(("encoding", "bomb"), [
    ("utf-16", entity_bomb("utf-16").encode("utf-16")),
    ("utf-7", entity_bomb("utf-7").encode().replace(b"<!", b"+ADwAIQ-")),
])
def test_an_entity_bomb_cannot_hide_behind_its_encoding(tmp_path: Path, encoding: str, bomb: bytes) -> None:
    assert b"<!DOCTYPE" not in bomb, encoding
    assert complaint(tmp_path, bomb).startswith("000001.xml:")


def test_a_harmless_document_type_hidden_by_its_encoding_is_refused_too(tmp_path: Path) -> None:
    hidden = f"<!DOCTYPE annotation [<!ENTITY a 'dog'>]>\n{DOG.replace('<name>dog', '<name>&a;')}".encode("utf-16")
    assert complaint(tmp_path, hidden).startswith("000001.xml:1: has a document type declaration")


def test_an_entity_cannot_read_another_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("dog")
    thief = f'<!DOCTYPE annotation [<!ENTITY secret SYSTEM "file://{tmp_path}/secret">]>\n'
    assert "document type declaration" in complaint(tmp_path, thief + DOG.replace("<name>dog", "<name>&secret;"))


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    said = complaint(tmp_path, DOG.replace("<size>", f"{deep}<size>"))
    assert said.startswith("000001.xml:3: malformed XML: Excessive depth")


def test_a_file_beyond_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "000001.xml"
    path.touch()
    os.truncate(path, 50 * 2**30)  # sparse: would not fit into memory
    with pytest.raises(DataError, match=rf"000001\.xml: has 53,687,091,200 bytes, more than the {ANNOTATION_LIMIT:,}"):
        read_annotation(path, CLASSES)


def test_a_folder_and_a_pipe_are_refused_instead_of_waited_for(tmp_path: Path) -> None:
    (tmp_path / "000001.xml").mkdir()
    os.mkfifo(tmp_path / "000002.xml")
    with pytest.raises(DataError, match=r"000001\.xml: is a folder where a file is expected"):
        read_annotation(tmp_path / "000001.xml", CLASSES)
    with pytest.raises(DataError, match=r"000002\.xml: is a device, pipe or socket where a file is expected"):
        read_annotation(tmp_path / "000002.xml", CLASSES)
