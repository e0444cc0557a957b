"""How many wrong labels `voc-data suspects` finds: labels of a run's images are changed at random, then looked for.

    python benchmarks/suspects.py RUN [--classes CLASS …] [--share 0.05] [--seeds 5] [--cache-dir DIR]

RUN is the folder of a `voc-train --trainable head` run: its frozen features have not seen the labels. Of `share` of the
images one label each is changed: half of them lose a class that they show, the others get one that they do not show.
(Ignored labels stay as they are; single-label: another class. --classes: only these are changed and judged.) Recall is
the share of the changed images among the first 5 % and 10 % of all images, as `voc-data suspects` sorts them. The
labels of a real data set have errors already: those that are found first count as misses here.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from voc_cls.console import import_tensorflow
from voc_cls.data.dataset import Dataset


def changed(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """(the data set with wrong labels, the rows that lost a class, the rows that got one)."""
    random = np.random.default_rng(seed)
    labels = dataset.labels.copy()
    rows = random.choice(len(labels), round(share * len(labels)), replace=False)
    lost = [row for row in rows[::2] if labels[row].any()]
    for row in rows:
        present = np.flatnonzero(labels[row] == 1)
        absent = np.flatnonzero((labels[row] == 0) & ~dataset.ignored[row])
        if dataset.single_label or row in lost:
            labels[row, random.choice(present)] = 0
        if dataset.single_label or row not in lost:
            labels[row, random.choice(absent)] = 1
    got = np.setdiff1d(rows, lost)
    return replace(dataset, labels=labels), np.array(lost, int), got


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--classes", nargs="*", default=())
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache-dir", type=Path)
    args = parser.parse_args()
    import_tensorflow()
    from voc_cls.evaluation.suspects import find_suspects
    from voc_cls.training.trained_run import open_run, run_features, run_images

    trained = open_run(args.run)
    dataset = run_images(trained)
    features = run_features(trained, dataset, args.cache_dir, print)
    if args.classes:
        dataset = dataset.only([dataset.classes.index(name) for name in args.classes])
    print(f"{dataset.name}: {len(dataset):,} images, {len(dataset.classes)} classes; {args.share:.0%} of the images "
          f"with a wrong label, means of {args.seeds} seeds")
    recalls = []
    for seed in range(args.seeds):
        wrong, lost, got = changed(dataset, args.share, seed)
        order = [suspect.file for suspect in find_suspects(wrong, features, seed=seed).images]
        for first in (0.05, 0.1):
            found = set(order[:round(first * len(order))])
            recalls.append([np.mean([dataset.paths[row] in found for row in rows])
                            for rows in (np.concatenate([lost, got]), lost, got)])
    means = np.array(recalls).reshape(args.seeds, 2, 3).mean(axis=0)
    spread = np.array(recalls).reshape(args.seeds, 2, 3)[:, :, 0].std(axis=0)
    print(f"{'within the first':>18} {'recall':>8} {'±':>6} {'class lost':>11} {'class added':>12}")
    for first, (both, lost_recall, got_recall), deviation in zip(("5 %", "10 %"), means, spread, strict=True):
        print(f"{first:>18} {both:8.1%} {deviation:6.1%} {lost_recall:11.1%} {got_recall:12.1%}")


if __name__ == "__main__":
    main()
