"""What int8 changes in networks for which there are no trained weights at hand: the distance of their logits.

    python benchmarks/quantisation.py --root VOCdevkit/VOC2007 --nets resnet_v1_50 inception_v3

The networks have random weights; the moving averages of their batch normalisation are those of some real images, so
that activations have the sizes that they have in trained networks. Prints for each network, float32 against int8 in one
run: the size of model.bin; the error of the logits (root mean square, in percent of their deviation); how often the
same of 20 labels is the most probable; the processor time of float32 as a multiple of int8's, at batch 1.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["NNCF_CI"] = "1"  # no reports of its use

import nncf
import numpy as np

from export.onnx import write_onnx
from export.openvino import openvino_predictor, read_model, write_model
from export.verify import Predictor
from voc_cls.data.dataset import Task
from voc_cls.data.load import load_dataset
from voc_cls.data.pipeline import image_batches
from voc_cls.nets.layers import BatchNorm
from voc_cls.nets.network import Network, build_network

STATISTICS_IMAGES, LABELS = 16, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="VOC data set: calibration from trainval, comparison on test")
    parser.add_argument("--nets", nargs="+", default=["resnet_v1_50", "resnet_v2_50", "inception_v1", "inception_v3"])
    parser.add_argument("--calibration", type=int, default=100)
    parser.add_argument("--images", type=int, default=50)
    args = parser.parse_args()
    data = load_dataset(args.root)
    print("| network | MB | RMS error of the logits % | same label % | speed |\n|---|---:|---:|---:|---:|", flush=True)
    for net in args.nets:
        network = build_network(net, "gap", LABELS)
        calibration, compared = (list(image_batches(data[split].paths[:number], 1, network.spec.preprocessing)
                                      .as_numpy_iterator())
                                 for split, number in (("trainval", args.calibration), ("test", args.images)))
        with_real_statistics(network, np.concatenate(calibration[:STATISTICS_IMAGES]))
        with tempfile.TemporaryDirectory() as folder:
            print(compare(net, network, Path(folder), calibration, compared), flush=True)


def with_real_statistics(network: Network, images: Any) -> None:
    """Sets all moving averages to the statistics of these images."""
    for layer in network.model.layers:
        if isinstance(layer, BatchNorm):
            layer.momentum = 0.0
    network.model(images, training=True)


def compare(net: str, network: Network, folder: Path, calibration: list[Any], compared: list[Any]) -> str:
    write_onnx(folder / "model.onnx", network, Task.MULTI_LABEL)
    model = read_model(folder / "model.onnx")
    sizes, logits, seconds = [], [], []
    predictors: list[Predictor] = []
    for quantised in (False, True):
        chosen = nncf.quantize(model, nncf.Dataset(calibration), subset_size=len(calibration)) if quantised else model
        path = write_model(chosen, folder)
        sizes.append(path.with_suffix(".bin").stat().st_size / 1e6)
        predictors.append(openvino_predictor(chosen))
    for predict in predictors:
        predict(compared[0])
        started = time.process_time()
        logits.append(np.concatenate([predict(image)[1] for image in compared]))
        seconds.append(time.process_time() - started)
    exact, approximate = logits
    error = 100 * np.sqrt(((approximate - exact) ** 2).mean()) / exact.std()
    same = 100 * (exact.argmax(axis=1) == approximate.argmax(axis=1)).mean()
    return (f"| `{net}` | {sizes[0]:.1f} → {sizes[1]:.1f} | {error:.1f} | {same:.0f} | "
            f"{seconds[0] / seconds[1]:.2f} × |")


if __name__ == "__main__":
    main()
