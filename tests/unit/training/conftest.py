"""A small real network, and pictures for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

from voc_cls.data.dataset import Dataset, DifficultPolicy
from voc_cls.image_decoder import Preprocessing
from voc_cls.nets.network import Network, build_network
from voc_cls.nets.registry import NETS, net_spec


@pytest.fixture
def small_network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Network]:
    """Builds a VGG of three blocks for pictures of 32 pixels: `small_network(seed)`."""
    def build(seed: int = 0, mean: float = 100.0, head: str = "gap") -> Network:
        spec = replace(net_spec("vgg_16"), name="small_vgg", scope="small_vgg", blocks=((8, 1), (16, 1), (32, 1)),
                       preprocessing=Preprocessing(size=32, mean=(mean, mean, mean)))
        monkeypatch.setitem(NETS, "small_vgg", spec)
        keras.utils.set_random_seed(seed)
        return build_network("small_vgg", head, 3)

    return build


@pytest.fixture
def small_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """Writes PNGs of random colours into a folder: `small_dataset("train", 10)`."""
    def write(name: str, pictures: int) -> Dataset:
        folder = tmp_path / "pictures" / name
        folder.mkdir(parents=True)
        random = np.random.default_rng(len(name))
        paths = tuple(folder / f"{number}.png" for number in range(pictures))
        for path in paths:
            cv2.imwrite(str(path), random.integers(0, 256, (24, 40, 3), np.uint8))
        labels = (random.random((pictures, 3)) < 0.5).astype(np.float32)
        return Dataset(name, ("a", "b", "c"), paths, labels, np.zeros((pictures, 3), bool), DifficultPolicy.IGNORE)

    return write
