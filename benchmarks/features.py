"""A frozen backbone's features by engine and number format: their speed, and the mean AP of a head trained on them.

    python benchmarks/features.py VOCdevkit/VOC2007 vgg_16_conv.ckpt [NET] [SEEDS]    # vgg_16; 1

NET with the `gap` head, trained as `voc-train --trainable head` does; mean AP over the five classes of
docs/training.md. Speeds are per second of processor time, medians of rounds in which all take turns; compare ratios.
INT8 is quantised by NNCF with 300 training images: pip install nncf.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voc_cls.console import import_tensorflow

ROUNDS = 4
CALIBRATION = 300
CLASSES = ("bus", "car", "cat", "person", "train")


def main(root: Path, weights: Path, net: str = "vgg_16", seeds: int = 1) -> None:
    """Prints a row for every engine: pictures per second, the ratio to Keras in float32, and the mean AP."""
    import_tensorflow()
    import numpy as np
    from rich.console import Console

    from voc_cls.data.feature_cache import FeatureCache
    from voc_cls.files import file_digests
    from voc_cls.training.backbone import BATCH_SIZE, FrozenBackbone, View, _batches, fixed_views, frozen_backbone
    from voc_cls.training.config import (
        ComputeConfig,
        DatasetConfig,
        NetworkConfig,
        RunConfig,
        TrainConfig,
        TrainingConfig,
    )
    from voc_cls.training.initial_weights import create_network
    from voc_cls.training.session import train
    from voc_cls.training.splits import read_splits

    chosen = NetworkConfig(str(weights.absolute()), net=net, head="gap", trainable="head")
    dataset = DatasetConfig((root,), val_split="none").checked()
    splits = read_splits(dataset, 0)
    network = create_network(chosen, splits.train.classes, "float32", 0)

    def backbone(precision: str) -> FrozenBackbone:
        return frozen_backbone(network, network.scopes[-1], precision)

    plain = {precision: backbone(precision) for precision in ("float32", "bfloat16")}
    views = [View(path, digest) for path, digest in zip(splits.train.paths, file_digests(splits.train.paths),
                                                        strict=True)]

    @dataclass(frozen=True)
    class Ready(FrozenBackbone):
        compute: Callable[[Any], Any] = print

        def function(self) -> Callable[[Any], Any]:
            return self.compute

    def int8() -> Callable[[Any], Any]:
        import nncf
        import openvino

        model = plain["float32"].model
        with tempfile.TemporaryDirectory() as folder:
            model.export(f"{folder}/model.xml", format="openvino", verbose=False)
            graph = openvino.Core().read_model(f"{folder}/model.xml")
            batches = _batches(views[:CALIBRATION], plain["float32"].preprocessing)
            pictures = [images[number:number + 1] for images in batches for number in range(len(images))]
            graph = nncf.quantize(graph, nncf.Dataset(pictures), subset_size=CALIBRATION)
            graph.reshape([BATCH_SIZE, *model.input_shape[1:]])
            compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "bf16",
                                                                   "NUM_STREAMS": 1})
        return lambda images: compiled(images)[0]

    functions = {f"{engine} {precision}": plain[precision].on(engine).function
                 for precision in plain for engine in ("keras", "openvino")}
    try:
        functions["openvino int8"] = int8()
    except ModuleNotFoundError as error:
        print(f"no INT8: {error}")
    batch = np.asarray(next(_batches(views[:BATCH_SIZE], plain["float32"].preprocessing)))
    speeds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(ROUNDS + 1):
        for name, compute in functions.items():
            started = time.process_time()
            compute(batch)
            if number:
                speeds[name].append(BATCH_SIZE / (time.process_time() - started))
    reference = functions["keras float32"](batch)
    print(f"{'engine':20} {'pictures/s':>10} {'ratio':>6} {'difference':>10}  mean AP by seed")
    for name, compute in functions.items():
        speed = statistics.median(speeds[name])
        ratio = statistics.median(a / b for a, b in zip(speeds[name], speeds["keras float32"], strict=True))
        difference = np.linalg.norm(compute(batch) - reference) / np.linalg.norm(reference)
        values = []
        with tempfile.TemporaryDirectory() as folder:
            # kept under the key of Keras in float32, where the training finds them
            ready = Ready(**vars(plain["float32"]), compute=compute)
            for seed in range(seeds):
                config = TrainConfig(dataset, chosen, training=TrainingConfig(seed=seed),
                                     compute=ComputeConfig(inference_precision="float32", feature_engine="keras"),
                                     run=RunConfig(Path(folder) / f"run{seed}", cache_dir=Path(folder)))
                augmentation = config.checked().resolved(splits.train).augmentation
                digests = dict(zip(splits.pictures, file_digests(splits.pictures), strict=True))
                wanted = [view for path in splits.train.paths
                          for view in fixed_views(path, digests[path], augmentation, seed)]
                wanted += [View(path, digests[path]) for path in splits.pictures]
                ready.features(wanted, FeatureCache(Path(folder) / "arrays", 16.0, lambda _: None))
                train(config, Console(quiet=True))
                scores = json.loads((Path(folder) / f"run{seed}/evaluation.json").read_text())["classes"]
                values.append(statistics.mean(scores[label]["ap"] for label in CLASSES))
        print(f"{name:20} {speed:10.1f} {ratio:6.2f} {difference:10.1e}  {', '.join(f'{v:.4f}' for v in values)}",
              flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:4], *map(int, sys.argv[4:]))
