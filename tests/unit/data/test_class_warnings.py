"""Classes that may be one, that are nearly always shown, alone or never."""

from __future__ import annotations

import numpy as np

from voc_cls.data.check import class_warnings, never_shown
from voc_cls.data.dataset import Dataset, Task


def dataset(counts: dict[str, int], images: int = 200, ignored: int = 0, task: Task = Task.MULTI_LABEL) -> Dataset:
    labels = np.zeros((images, len(counts)), np.float32)
    for column, count in enumerate(counts.values()):
        labels[:count, column] = 1
    mask = np.zeros(labels.shape, bool)
    mask[images - ignored:, 0] = True
    return Dataset("pets train", tuple(counts), (), labels, mask, task=task)


def test_names_that_differ_in_form_alone_are_named_together():
    found = dataset(dict.fromkeys(("Dog", "dog", "guinea pig", "Guinea_Pig", "café", "cafe\u0301", "C", "C++"), 9))
    assert class_warnings([found]) == [
        "the classes 'Dog' and 'dog' differ in case, blanks or hyphens alone; are they one?",
        "the classes 'guinea pig' and 'Guinea_Pig' differ in case, blanks or hyphens alone; are they one?",
        "the classes 'café' and 'cafe\u0301' differ in case, blanks or hyphens alone; are they one?"]


def test_a_class_that_nearly_all_known_images_show_is_named_over_all_splits():
    often = dataset({"person": 198, "cat": 3})
    assert class_warnings([often]) == ["198 of 200 pictures show 'person', so there is little to learn about it"]
    assert class_warnings([often, dataset({"person": 3, "cat": 3})]) == []
    assert class_warnings([dataset({"person": 190, "cat": 3}, ignored=9)]) == [
        "190 of 191 pictures show 'person', so there is little to learn about it"]


def test_a_class_alone_and_those_that_no_picture_shows():
    assert class_warnings([dataset({"pets": 5})]) == ["has the class 'pets' alone"]
    assert class_warnings([dataset({"cat": 5, "dog": 0})]) == []
    assert never_shown(dataset({"cat": 5, "dog": 0, "elk": 0})) == [
        "no picture shows dog, elk; it cannot be learned or measured"]
