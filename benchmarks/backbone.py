"""Speed of computing a frozen backbone's features from image files, relative to plain inference.

    python benchmarks/backbone.py [PICTURES] [NET] [PRECISION]    # a multiple of 64; vgg_16; auto

Ours: what voc-train does before it trains. JPEG files and their mirror images → digests → backbone → a cache on disk.
The peer: the same layers as one compiled TensorFlow function on tensors in memory, at its fastest batch size. Both run
in bfloat16 if the processor supports it, or in PRECISION, and take turns in one process. The result is the median
ratio of the rounds. Compare ratios, not absolute times. The exit code is 1 if the ratio is below the limit.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from voc_cls.console import import_tensorflow

BATCH_SIZES = (8, 16, 32, 64)
ROUNDS = 3
BAR = 0.9
"""Share of plain inference's speed, at least."""


def main(pictures: int, net: str = "vgg_16", asked: Any = "auto") -> int:
    """Prints pictures per second of both, mirror images counted, and their ratio."""
    tf = import_tensorflow()
    import numpy as np

    from voc_cls.data.augmentation import Augmentation
    from voc_cls.data.feature_cache import FeatureCache
    from voc_cls.data.load import read_dataset
    from voc_cls.demo.devkit import write_demo
    from voc_cls.files import file_digests
    from voc_cls.nets.network import build_network
    from voc_cls.training.backbone import fixed_views, frozen_backbone
    from voc_cls.training.devices import inference_precision

    accelerated = bool(tf.config.list_physical_devices("GPU"))
    precision = inference_precision(asked)
    network = build_network(net, "gap", 20)
    backbone = frozen_backbone(network, network.scopes[-1], precision)
    bare = tf.function(lambda inputs: backbone.model(inputs, training=False), jit_compile=accelerated)
    size = network.spec.preprocessing.size
    ready = np.random.default_rng(0).normal(0, 50, (max(BATCH_SIZES), size, size, 3)).astype(np.float32)

    def peer(batch_size: int, views: int) -> Callable[[], None]:
        inputs = tf.constant(ready[:batch_size])

        def run() -> None:
            for _ in range(views // batch_size):
                bare(inputs)[0, 0, 0, 0].numpy()  # waits for an accelerator

        bare(inputs)
        return run

    with tempfile.TemporaryDirectory() as folder:
        # two thirds of a demo devkit are its trainval split
        root = write_demo(Path(folder), 3 * pictures // 2 + 2, seed=0)[0]
        paths = read_dataset("voc", root, "trainval").paths[:pictures]

        def ours() -> None:
            with tempfile.TemporaryDirectory() as cache:
                views = [view for path, digest in zip(paths, file_digests(paths), strict=True)
                         for view in fixed_views(path, digest, Augmentation(horizontal=True, views=2), seed=0)]
                backbone.features(views, FeatureCache(Path(cache), 1.0, lambda _: None))

        def speed(run: Callable[[], None], views: int) -> float:
            started = time.perf_counter()
            run()
            return views / (time.perf_counter() - started)

        speeds = {batch_size: speed(peer(batch_size, pictures), pictures) for batch_size in BATCH_SIZES}
        best = max(speeds, key=lambda size: speeds[size])
        print(f"{precision}, bare layers by batch size:",
              ", ".join(f"{size}: {value:.1f}/s" for size, value in speeds.items()))
        ours()
        ratios, run = [], peer(best, 2 * pictures)
        for _ in range(ROUNDS):
            from_files, from_memory = speed(ours, 2 * pictures), speed(run, 2 * pictures)
            ratios.append(from_files / from_memory)
            print(f"from files {from_files:.1f}/s, bare layers (batch {best}) {from_memory:.1f}/s, "
                  f"ratio {ratios[-1]:.2f}", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.2f}, limit {BAR}: {'reached' if ratio >= BAR else 'missed'}")
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 128, *sys.argv[2:]))
