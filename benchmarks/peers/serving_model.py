"""What all contestants of benchmarks/serving.py share: voc-serve's decoder and network, without its server.

The peers use the frozen network with voc-serve's session settings, not the slower `tf.saved_model.load` with which
their users would start, so the ratios compare servers only. All batch sizes are warmed up for them, because their
batches have any size, and an engine prepares for each size separately.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from serving.engine.tensorflow import TensorFlowNetwork
from voc_cls.image_decoder import Preprocessing, decode, prepare
from voc_cls.image_header import image_work

MAX_PIXELS = 64_000_000


@dataclass(frozen=True)
class Settings:
    """The same for everybody; travels as the JSON text that is a peer's only argument."""

    version_folder: str
    precision: str
    threads: int
    """Of the network, and as many that decode."""
    max_batch_size: int
    max_waiting: int
    """Pictures that a server lets wait, where it has such a limit."""
    port: int

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """As `dataclasses.asdict` and `json.dumps` wrote it."""
        return cls(**json.loads(text))


class Model:
    """A version's decoder and network."""

    def __init__(self, settings: Settings) -> None:
        folder = Path(settings.version_folder)
        metadata = json.loads((folder / "assets" / "voc_cls.json").read_text())
        self.labels: list[str] = metadata["labels"]
        wanted = metadata["preprocessing"]
        self.size: int = wanted["size"]
        self._preprocessing = Preprocessing(**wanted)
        cv2.setNumThreads(1)
        self.threads = settings.threads
        self.decoders = ThreadPoolExecutor(settings.threads)
        self._network = TensorFlowNetwork(folder, settings.precision, settings.threads)

    def warm_up(self, sizes: Sequence[int]) -> None:
        """Runs each batch size once."""
        inputs = np.zeros((max(sizes), self.size, self.size, 3), np.float32)
        for size in sizes:
            self.predict(inputs[:size])

    def decode(self, content: bytes) -> Any:
        """The bytes of a picture file → float32 [size, size, 3]; from any thread."""
        return prepare(decode(image_work(content, MAX_PIXELS)), self._preprocessing)

    def decode_all(self, contents: Sequence[bytes]) -> Any:
        """Picture files, on the decoder threads → float32 [N, size, size, 3]."""
        return np.stack(list(self.decoders.map(self.decode, contents)))

    def predict(self, inputs: Any) -> Any:
        """float32 [N, size, size, 3] → probabilities [N, C]."""
        return self._network.predict(inputs).probabilities

    def labelled(self, probabilities: Any) -> dict[str, float]:
        """One row, the most probable label first, as voc-serve answers it."""
        return {self.labels[column]: float(probabilities[column]) for column in np.argsort(-probabilities)}
