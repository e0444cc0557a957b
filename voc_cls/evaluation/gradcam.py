"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): which parts of an image raise the logit of a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from voc_cls.data.pipeline import image_batches, naming_broken_images
from voc_cls.evaluation.predictions import Floats
from voc_cls.image_decoder import Preprocessing
from voc_cls.nets.explained import explained
from voc_cls.nets.network import Network

BATCH_SIZE = 8


def heat_maps(network: Network, paths: Sequence[Path], columns: Sequence[int],
              advance: Callable[[int], object] = lambda _: None) -> npt.NDArray[np.float32]:
    """Grad-CAM of each image for one class, a column of the logits: float32 [N, h, w], on the last convolution's grid.

    The highest cell of a map is 1; a map without any positive cell is all 0. `advance` is told how many more maps there
    are. DataError names a broken image.
    """
    model = explained(network)
    maps = [np.zeros((0, *model.output_shape[1][2:]), np.float32)]
    for number, (_, of_all, _) in enumerate(explanations(model, network.spec.preprocessing, paths)):
        classes = columns[number * BATCH_SIZE:(number + 1) * BATCH_SIZE]
        maps.append(of_all[np.arange(len(classes)), list(classes)])
        advance(len(classes))
    return np.concatenate(maps)


def explanations(model: keras.Model, preprocessing: Preprocessing, paths: Sequence[Path]) -> Iterator[list[Floats]]:
    """For each batch of images logits, heat maps and embeddings by `model`, which `explained` has made."""
    with naming_broken_images(paths):
        for images in image_batches(paths, BATCH_SIZE, preprocessing) if paths else ():
            outputs = model(keras.ops.convert_to_tensor(images.numpy()), training=False)
            yield [keras.ops.convert_to_numpy(output) for output in outputs]
