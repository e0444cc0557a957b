"""How much of the bare convolutions' speed is left when a frozen trunk runs over picture files.

    python benchmarks/trunk.py [PICTURES]

Ours: `trunk_features`, from JPEG files with mirror images, as voc-train calls it. The peer: the same layers as one
compiled TensorFlow function on tensors that lie ready in memory, nothing else. Three rounds in turn, both in one
process; read the ratio, not the times.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from voc_cls.console import import_tensorflow

BATCH = 32
ROUNDS = 3


def main(pictures: int) -> None:
    """Prints pictures per second of both, mirror images counted, and their ratio."""
    tf = import_tensorflow()
    import numpy as np

    from voc_cls.data.demo.devkit import write_demo
    from voc_cls.data.voc import read_split
    from voc_cls.nets.network import build_network
    from voc_cls.training.precision import inference_precision, policy
    from voc_cls.training.trunk import trunk_features

    precision = inference_precision("auto", on_accelerator=False)
    network = build_network("vgg_16", "gap", 20, policy(precision))
    trunk, _ = network.cut(network.scopes[-1])
    bare = tf.function(lambda inputs: trunk(inputs, training=False), jit_compile=False)
    ready = tf.constant(np.random.default_rng(0).normal(0, 50, (BATCH, 224, 224, 3)).astype(np.float32))
    batches = 2 * pictures // BATCH
    with tempfile.TemporaryDirectory() as folder:
        paths = read_split(write_demo(Path(folder), 3 * pictures // 2 + 2, seed=0).root, "trainval").paths[:pictures]
        settings = network.spec.preprocessing
        trunk_features(trunk, paths[:BATCH], settings, flip=True)
        bare(ready)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            trunk_features(trunk, paths, settings, flip=True)
            ours = 2 * len(paths) / (time.perf_counter() - started)
            started = time.perf_counter()
            for _ in range(batches):
                bare(ready)
            peer = batches * BATCH / (time.perf_counter() - started)
            print(f"{precision}: from files {ours:.1f}/s, bare layers {peer:.1f}/s, ratio {ours / peer:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 128)
