"""Divisions hold whatever is divided: no part is empty, each is near its fraction, groups stay together."""

from __future__ import annotations

import numpy as np
import pytest

from voc_cls.data.stratify import Stratified, connected
from voc_cls.errors import UsageError


def stratified(labels: np.ndarray, single_label: bool = False, keys: list[object] | None = None) -> Stratified:
    classes = tuple(f"class {column}" for column in range(labels.shape[1]))
    return Stratified("images", classes, labels.astype(np.float32), single_label,
                      connected(keys or list(range(len(labels)))))


def drawn(images: int, classes: int, each: int, seed: int) -> np.ndarray:
    """`each` of the classes, at random, on every image."""
    random = np.random.default_rng(seed)
    labels = np.zeros((images, classes))
    for row in labels:
        row[random.choice(classes, min(each, classes), replace=False)] = 1
    return labels


@pytest.mark.parametrize("single_label", [False, True])
def test_three_images_of_each_of_twenty_classes_give_full_parts(single_label: bool):
    labels = np.tile(np.eye(20), (3, 1))
    rest, part = stratified(labels, single_label).part(0.15, 0, "`test` 0.15")
    assert (len(rest), len(part)) == (51, 9)
    assert labels[part].sum(axis=0).max() == 1
    assert labels[rest].sum(axis=0).min() >= 2


@pytest.mark.parametrize("images", [2, 3, 7, 12, 30, 100])
@pytest.mark.parametrize("classes", [1, 2, 20, 60])
@pytest.mark.parametrize("each", [0, 1, 4])
def test_a_part_is_near_its_fraction_however_few_the_images_and_many_the_classes(images: int, classes: int, each: int):
    for seed, fraction in enumerate((0.05, 0.15, 0.5, 0.8)):
        division = stratified(drawn(images, classes, each, seed))
        if round(images * fraction) in (0, images):
            with pytest.raises(UsageError, match=f"takes {round(images * fraction)} of the {images} pictures"):
                division.part(fraction, seed, "`val`")
            continue
        rest, part = division.part(fraction, seed, "`val`")
        assert sorted([*rest, *part]) == list(range(images))
        assert abs(len(part) - images * fraction) <= max(1, 0.05 * images)
        assert len(part) * len(rest) > 0


@pytest.mark.parametrize(("images", "folds"), [(5, 5), (12, 10), (30, 7), (100, 10)])
@pytest.mark.parametrize("classes", [1, 20, 60])
@pytest.mark.parametrize("each", [0, 1, 4])
def test_no_fold_is_empty_and_all_are_alike(images: int, folds: int, classes: int, each: int):
    for seed in range(3):
        drawn_folds = stratified(drawn(images, classes, each, seed)).folds(folds, seed)
        assert sorted(np.concatenate([val for _, val in drawn_folds])) == list(range(images))
        for train, val in drawn_folds:
            assert abs(len(val) - images / folds) <= 1
            assert sorted([*train, *val]) == list(range(images))


@pytest.mark.parametrize("single_label", [False, True])
def test_groups_of_any_size_stay_together_in_parts_of_the_right_size_with_every_class(single_label: bool):
    random = np.random.default_rng(0)
    keys = np.repeat(np.arange(80), random.integers(1, 40, 80)).tolist()
    group_class = random.choice(3, 80, p=[0.6, 0.3, 0.1])
    labels = np.eye(3)[group_class[keys]]
    if not single_label:
        labels[random.random(len(labels)) < 0.2] = 1
    for seed in range(3):
        division = stratified(labels, single_label, keys)
        rest, part = division.part(0.2, seed, "`val`")
        assert {keys[row] for row in rest}.isdisjoint(keys[row] for row in part)
        assert len(part) == pytest.approx(0.2 * len(keys), rel=0.1)
        np.testing.assert_allclose(labels[part].mean(axis=0), labels.mean(axis=0), atol=0.05)
        for train, val in division.folds(4, seed):
            assert {keys[row] for row in train}.isdisjoint(keys[row] for row in val)
            assert len(val) == pytest.approx(len(keys) / 4, rel=0.1)


def test_the_seed_decides_which_also_where_groups_are_moved():
    division = stratified(np.tile(np.eye(20), (3, 1)))
    parts = [division.part(0.15, seed, "`val`")[1].tolist() for seed in (0, 0, 1)]
    assert parts[0] == parts[1] != parts[2]


def test_what_whole_groups_cannot_give_is_refused_and_what_they_can_is_told():
    keys = ["film 1"] * 60 + ["film 2"] * 40
    division = stratified(np.ones((100, 1)), keys=keys)
    with pytest.raises(UsageError, match=r"`val` 0.1: takes about 10 of the 100 pictures of images, but its 2 groups "
                                         r"of pictures have 40 to 60 each; give another fraction or `group`"):
        division.part(0.1, 0, "`val` 0.1")
    assert len(division.part(0.4, 0, "`val` 0.4")[1]) == 40
    with pytest.raises(UsageError, match=r"`folds` 3: images has 2 groups of pictures; choose at most 2 folds"):
        division.folds(3, 0)


@pytest.mark.parametrize(("count", "keys", "found"), [
    (1, None, "has a single picture of the class 'class 1', which cannot be on both sides; add pictures, or remove"),
    (4, [*range(20), *"aaaa"], "has a single group of pictures of the class 'class 1', which cannot"),
])
def test_a_class_that_cannot_be_on_both_sides_is_named(count: int, keys: list[object] | None, found: str):
    labels = np.eye(2)[[0] * 20 + [1] * count]
    with pytest.raises(UsageError, match=found):
        stratified(labels, True, keys).part(0.15, 0, "`val` 0.15")


def test_a_class_with_fewer_images_than_folds_names_how_many_are_possible():
    labels = np.eye(2)[[0] * 20 + [1] * 3]
    with pytest.raises(UsageError, match=r"`folds` 4: images has 3 pictures of the class 'class 1', fewer than there "
                                         r"are folds; choose at most 3 folds, add pictures"):
        stratified(labels, True).folds(4, 0)
    assert len(stratified(labels, True).folds(3, 0)) == 3
