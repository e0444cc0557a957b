"""The intervals: each resample is what evaluating the drawn pictures would give, and they hold the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.evaluation.average_precision import weighted_average_precisions
from voc_cls.evaluation.bootstrap import UNKNOWN, interval_of
from voc_cls.evaluation.decisions import multilabel_intervals


def made(pictures: int, classes: int = 1, rate: float = 0.3, separation: float = 1.5,
         seed: int = 0) -> tuple[Dataset, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.random((pictures, classes)) < rate
    scores = separation * labels + random.normal(size=(pictures, classes))
    paths = tuple(Path(f"{row}.jpg") for row in range(pictures))
    names = tuple(f"class{column}" for column in range(classes))
    return Dataset("made", names, paths, labels.astype(np.float32), np.zeros((pictures, classes), bool),
                   DifficultPolicy.IGNORE), scores


def once(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Area and 11-point average precision of every picture once, [2]."""
    return weighted_average_precisions(truth, scores, np.ones((len(truth), 1), np.int32))[:, 0]


@pytest.mark.parametrize("decimals", [0, 1, 8], ids=["many ties", "some ties", "no ties"])
def test_counting_a_picture_twice_is_having_it_twice(decimals: int):
    random = np.random.default_rng(decimals)
    truth = random.random(80) < 0.15
    scores = np.round(truth + random.normal(size=80), decimals)
    counts = random.multinomial(80, np.full(80, 1 / 80), 50).T
    drawn = [np.repeat(np.arange(80), resample) for resample in counts.T]
    repeated = np.stack([once(truth[index], scores[index]) for index in drawn], axis=1)
    assert weighted_average_precisions(truth, scores, counts) == pytest.approx(repeated)


def test_a_resample_without_positives_has_no_average_precision():
    counts = np.array([[0, 2], [2, 0]])  # the only positive is drawn in the second resample alone
    area, eleven = weighted_average_precisions(np.array([True, False]), np.array([0.9, 0.1]), counts)
    assert np.isnan([area[0], eleven[0]]).all()
    assert (area[1], eleven[1]) == (1, 1)
    assert np.isnan(weighted_average_precisions(np.zeros(2, bool), np.array([0.9, 0.1]), counts)).all()


def test_a_class_without_positives_leaves_the_mean_to_the_others():
    dataset, scores = made(60, classes=2)
    labels = dataset.labels.copy()
    labels[:, 1] = 0
    intervals = multilabel_intervals(replace(dataset, labels=labels), scores, scores > 0.5, resamples=50)
    assert intervals.metrics["map"] == intervals.classes["class0"]
    assert intervals.classes["class1"] is UNKNOWN


def test_the_ends_move_away_from_where_the_resamples_lie():
    resamples = np.linspace(0, 1, 1001)
    median, skewed = (interval_of(np.append(value, resamples)) for value in (0.5, 0.3))
    assert (median.low, median.high) == (pytest.approx(0.025, abs=1e-3), pytest.approx(0.975, abs=1e-3))
    # 30 % lie below the value: 2 × -0.524 ± 1.960 standard deviations instead of ± 1.960
    assert (skewed.low, skewed.high) == (pytest.approx(norm.cdf(2 * norm.ppf(0.3) - 1.96), abs=1e-3),
                                         pytest.approx(norm.cdf(2 * norm.ppf(0.3) + 1.96), abs=1e-3))


def test_four_positives_are_too_few_for_an_interval_of_their_own():
    dataset, scores = made(60)
    positives = np.flatnonzero(dataset.labels[:, 0] == 1)
    for number, known in ((5, True), (4, False)):
        labels = np.zeros((60, 1), np.float32)
        labels[positives[:number]] = 1
        found = multilabel_intervals(replace(dataset, labels=labels), scores, scores > 0.5, resamples=50)
        assert (found.classes["class0"] is not UNKNOWN) == known
        assert found.metrics["map"].low < found.metrics["map"].high  # the mean has one all the same


def test_an_ignored_picture_does_not_move_its_class():
    dataset, scores = made(60)
    ignored = np.zeros((60, 1), bool)
    ignored[:5] = True
    with_ignored = replace(dataset, ignored=ignored, labels=np.where(ignored, 0, dataset.labels).astype(np.float32))
    high = scores.copy()
    high[:5] = 100
    first, second = (multilabel_intervals(with_ignored, values, values > 0.5, 50) for values in (scores, high))
    assert first == second


def test_the_resamples_are_the_same_each_time():
    dataset, scores = made(60)
    same, again = (multilabel_intervals(dataset, scores, scores > 0.5, 50) for _ in range(2))
    assert same == again


def test_a_perfect_ranking_stays_perfect_in_every_resample():
    dataset, _ = made(60)
    intervals = multilabel_intervals(dataset, dataset.labels, dataset.labels == 1, resamples=50)
    assert [intervals.metrics[name].low for name in ("map", "of1", "cf1")] == [1, 1, 1]
    assert intervals.metrics["map"].high == 1


def test_four_times_the_pictures_make_the_interval_half_as_wide():
    widths = [np.mean([multilabel_intervals(dataset, scores, scores > 0.75, 200).metrics["map"].half_width
                       for dataset, scores in (made(pictures, seed=seed) for seed in range(8))])
              for pictures in (150, 600)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=0.25)


def test_the_interval_holds_the_true_value_about_95_times_of_100():
    rate, separation, cut = 0.3, 1.5, 0.75
    truth, scores = made(200_000, seed=99, rate=rate, separation=separation)
    area, _ = once(truth.labels[:, 0] == 1, scores[:, 0])
    hit, alarm = norm.sf(cut - separation), norm.sf(cut)
    f1 = 2 * rate * hit / (rate + rate * hit + (1 - rate) * alarm)
    drawn = [made(300, seed=seed, rate=rate, separation=separation) for seed in range(80)]
    intervals = [multilabel_intervals(dataset, scores, scores > cut, resamples=300) for dataset, scores in drawn]
    maps, of1s = ([interval.metrics[name] for interval in intervals] for name in ("map", "of1"))
    for held in ([interval.low <= area <= interval.high for interval in maps],
                 [interval.low <= f1 <= interval.high for interval in of1s]):
        assert 0.9 <= np.mean(held) <= 1
    assert any(interval.low > area or interval.high < area for interval in maps)  # not simply too wide
