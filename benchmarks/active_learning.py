"""Mean AP against the number of labels spent: the rule of `voc-data next` beside random choice and other rules.

    python benchmarks/active_learning.py RUN [--seeds 6] [--png FILE] [--cache-dir DIR]

RUN is the folder of a `voc-train --trainable head` run: its frozen features, of the training split as the pool and of
the test split, are what all rules get. From START random images on, each rule chooses BATCH more, ROUNDS times; after
each, the head is solved by L-BFGS on what is labelled, for the classes of docs/training.md. The spread is the standard
deviation over the seeds.

    random      each image alike
    entropy     the most uncertain images: the largest sum of the entropies of the classes' probabilities
    weighted    images that differ (k-means++), each weighted by that sum
    coreset     each the farthest from all labelled and chosen ones (k-centre, Sener & Savarese 2018)
    next        `voc-data next`: images whose gradients of the head differ (k-means++; BADGE, Ash et al. 2020)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.console import import_tensorflow

CLASSES = ("bus", "car", "cat", "person", "train")
START, BATCH, ROUNDS = 40, 40, 7
RULES = ("random", "next", "weighted", "entropy", "coreset")


def chosen(rule: str, features: Any, labelled: Any, probabilities: Any, seed: int) -> Any:
    """Rows of `features` [N, D] that `rule` chooses, of images with these `probabilities` [N, classes]."""
    from scipy.special import entr
    from sklearn.cluster import kmeans_plusplus

    from voc_cls.data.dataset import Task
    from voc_cls.evaluation.active_learning import choose, expected_errors

    if rule == "random":
        return np.random.default_rng(seed).choice(len(features), BATCH, replace=False)
    if rule == "next":
        return choose(features, expected_errors(probabilities, Task.MULTI_LABEL), BATCH, seed)
    entropies = (entr(probabilities) + entr(1 - probabilities)).sum(axis=1)
    if rule == "entropy":
        return np.argsort(-entropies)[:BATCH]
    if rule == "weighted":
        return kmeans_plusplus(features, BATCH, sample_weight=entropies, random_state=seed)[1]
    distances = np.min([np.square(features - row).sum(axis=1) for row in labelled], axis=0)
    rows = []
    for _ in range(BATCH):
        rows.append(int(distances.argmax()))
        distances = np.minimum(distances, np.square(features - features[rows[-1]]).sum(axis=1))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--cache-dir", type=Path)
    args = parser.parse_args()
    import_tensorflow()
    from scipy.special import expit

    from voc_cls.evaluation.average_precision import average_precisions
    from voc_cls.training.convex import PLAIN_STRENGTH, problem
    from voc_cls.training.losses import MultiLabelLoss
    from voc_cls.training.trained_run import open_run, run_features, run_images

    trained = open_run(args.run)
    whole, test = run_images(trained), run_images(trained, "test")
    features, test_features = (run_features(trained, split, args.cache_dir, print) for split in (whole, test))
    columns = [whole.classes.index(name) for name in CLASSES]
    whole, test = whole.only(columns), test.only(columns)
    l2 = PLAIN_STRENGTH * float(np.square(features).sum(axis=1).mean())

    def head(rows: Any) -> Any:
        part = problem(features[rows], whole.subset(rows, whole.name), MultiLabelLoss())
        return part.back(part.solve(l2))

    def curve(rule: str, seed: int) -> list[float]:
        random = np.random.default_rng(seed)
        rows, values = random.choice(len(whole), START, replace=False), []
        for number in range(ROUNDS + 1):
            solution = head(rows)
            values.append(average_precisions(test, solution.logits(test_features)).map)
            if number < ROUNDS:
                pool = np.setdiff1d(np.arange(len(whole)), rows)
                probabilities = expit(solution.logits(features[pool]))
                picked = chosen(rule, features[pool], features[rows], probabilities, int(random.integers(2**31)))
                rows = np.concatenate([rows, pool[picked]])
        return values

    labels = START + BATCH * np.arange(ROUNDS + 1)
    limit = average_precisions(test, head(np.arange(len(whole))).logits(test_features)).map
    print(f"mean AP over {', '.join(CLASSES)}, means ± standard deviations of {args.seeds} seeds; all {len(whole):,} "
          f"labels: {limit:.4f}\n{'labels':10}" + "".join(f"{number:>16}" for number in labels) + f"{'mean':>8}")
    curves = {}
    for rule in RULES:
        values = curves[rule] = np.array([curve(rule, seed) for seed in range(args.seeds)])
        pairs = zip(values.mean(axis=0), values.std(axis=0), strict=True)
        cells = (f"{mean:.4f} ±{spread:.4f}" for mean, spread in pairs)
        print(f"{rule:10}" + "".join(f"{cell:>16}" for cell in cells) + f"{values[:, 1:].mean():8.4f}", flush=True)
        if args.png is not None:
            draw(args.png, labels, curves, limit, len(whole))


def draw(path: Path, labels: Any, curves: dict[str, Any], limit: float, pool: int) -> None:
    """The curves, of `next` and `random` with their spread, and the mean AP with all labels of the pool."""
    from matplotlib.figure import Figure
    from PIL import Image

    figure = Figure((7, 4), 110, facecolor="white", layout="constrained")
    axes = figure.subplots()
    colours = {"random": "#5b6875", "next": "#1668a8"}
    for rule, values in curves.items():
        mean, spread = 100 * values.mean(axis=0), 100 * values.std(axis=0)
        wide = rule in colours
        axes.plot(labels, mean, label=f"voc-data {rule}" if rule == "next" else rule, color=colours.get(rule),
                  linewidth=2.2 if wide else 1, linestyle="-" if wide else "--", zorder=3 if wide else 2)
        if wide:
            axes.fill_between(labels, mean - spread, mean + spread, color=colours[rule], alpha=0.15, linewidth=0)
    axes.axhline(100 * limit, color="#b3372f", linewidth=1, linestyle=":", label=f"all {pool:,} labels")
    axes.set(xlabel="labelled images", ylabel="mean AP on test, %", xticks=labels)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8.5, frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
