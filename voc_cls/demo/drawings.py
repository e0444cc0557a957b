"""The drawing of each VOC class: simple, recognisable, in colours that the random generator picks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from voc_cls.demo import creatures, indoor, vehicles
from voc_cls.demo.canvas import Canvas

Drawing = Callable[[Canvas, np.random.Generator], None]

DRAWINGS: dict[str, Drawing] = {
    "aeroplane": vehicles.aeroplane,
    "bicycle": vehicles.bicycle,
    "bird": creatures.bird,
    "boat": vehicles.boat,
    "bottle": indoor.bottle,
    "bus": vehicles.bus,
    "car": vehicles.car,
    "cat": creatures.cat,
    "chair": indoor.chair,
    "cow": creatures.cow,
    "diningtable": indoor.diningtable,
    "dog": creatures.dog,
    "horse": creatures.horse,
    "motorbike": vehicles.motorbike,
    "person": creatures.person,
    "pottedplant": indoor.pottedplant,
    "sheep": creatures.sheep,
    "sofa": indoor.sofa,
    "train": vehicles.train,
    "tvmonitor": indoor.tvmonitor,
}
