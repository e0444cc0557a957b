"""Speed of the input pipeline of training, relative to only decoding the same JPEG files.

    python benchmarks/pipeline.py [VOC_ROOT]

The limit: `decode`, as the exported graph has it, of the files on all cores (tf.data, AUTOTUNE), which yields the
images one by one. "kept inside": only their sizes leave tf.data. "decode_jpeg only": one op instead of `decode`, which
looks for EXIF, transparency and other formats too. The others: `training_batches` as voc-train calls it, which also
resizes, augments, subtracts the mean and batches. Each round runs all of them in turn, in one process. The best round
of each is shown, in elapsed time and in processor time; other programs disturb the latter less. Compare the ratios to
the first line, not absolute times. VOC_ROOT's trainval is read; without VOC_ROOT, demo images are used.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from voc_cls.console import import_tensorflow

PICTURES, BATCH, ROUNDS = 256, 32, 5


def main(root: Path | None) -> None:
    """Prints pictures per second of each pipeline and its ratio to decoding alone."""
    import_tensorflow()
    from voc_cls.data.dataset import DifficultPolicy
    from voc_cls.data.load import read_dataset
    from voc_cls.demo.devkit import write_demo

    with tempfile.TemporaryDirectory() as folder:
        devkit = root or write_demo(Path(folder), 3 * PICTURES // 2 + 6, seed=0)[0]
        dataset = read_dataset("voc", devkit, "trainval", DifficultPolicy.IGNORE)
        kinds = pipelines(dataset.paths[:PICTURES], dataset.targets[:PICTURES], Path(folder))
        best = {name: (float("inf"), float("inf")) for name in kinds}
        for _ in range(ROUNDS):
            for name, batches in kinds.items():
                wall, processor = consumed(batches)
                best[name] = min(best[name][0], wall), min(best[name][1], processor)
    limit = next(iter(best.values()))
    print(f"{'':38} {'images/s':>10} {'ratio':>6} {'CPU ms':>8} {'ratio':>6}")
    for name, (wall, processor) in best.items():
        print(f"{name:38} {PICTURES / wall:10.0f} {limit[0] / wall:6.2f} {processor / PICTURES * 1e3:8.2f} "
              f"{limit[1] / processor:6.2f}")


def consumed(batches: Any) -> tuple[float, float]:
    """Seconds by the clock and of all processors that it takes to take all batches."""
    started = time.perf_counter(), time.process_time()
    for _ in batches:
        pass
    return time.perf_counter() - started[0], time.process_time() - started[1]


def pipelines(paths: Any, targets: Any, folder: Path) -> dict[str, Any]:
    """What is compared: tf.data pipelines over the same pictures, by name."""
    import tensorflow as tf

    from voc_cls.data.augmentation import AugmentationConfig
    from voc_cls.data.pipeline import cached_images, shuffled_order, training_batches
    from voc_cls.data.preprocessing import decode
    from voc_cls.nets.registry import net_spec

    preprocessing = net_spec("vgg_16").preprocessing
    order = shuffled_order(len(paths), len(paths) // BATCH, BATCH, seed=0)

    def alone(path: Any) -> Any:
        return decode(tf.io.read_file(path), preprocessing)

    def plain(path: Any) -> Any:
        return tf.io.decode_jpeg(tf.io.read_file(path), channels=3, dct_method=preprocessing.jpeg_dct)

    def ours(pictures: Any = None, **flags: Any) -> Any:
        return training_batches(paths, targets, order, preprocessing, AugmentationConfig(**flags).resolved(), pictures)

    names = tf.data.Dataset.from_tensor_slices([str(paths[number]) for number in order.index.ravel()])
    every = tf.data.AUTOTUNE
    kinds = {"decode only": names.map(alone, every).prefetch(every),
             "decode only, kept inside": names.map(lambda path: tf.shape(alone(path)), every).batch(BATCH),
             "decode_jpeg only": names.map(plain, every).prefetch(every),
             "--augment flip (default)": ours(), "--augment none": ours(augment="none"),
             "--augment mild": ours(augment="mild"), "--augment randaugment": ours(augment="randaugment"),
             "--mixup 0.2 --cutmix 1": ours(mixup=0.2, cutmix=1.0)}
    for cache in ("memory", "disk"):
        kept = cached_images(paths, preprocessing, cache, folder / "cache", float("inf"), lambda _: None)
        kinds[f"--cache {cache}"] = ours(kept)
        kinds[f"--cache {cache} --augment mild"] = ours(kept, augment="mild")
    return kinds


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
