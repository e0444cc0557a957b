"""A peer of benchmarks/serving.py: BentoML over HTTP, with its adaptive batching.

    python benchmarks/peers/serving_bentoml.py SETTINGS_JSON

POST /classify takes the image as the form's file `pictures`. There is one worker, because the engine uses all cores.
The images of a batch are decoded in a thread pool.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
from serving_model import Model, Settings

SETTINGS = "VOC_SERVING_SETTINGS"


def service(settings: Settings) -> type:
    """The service with the settings of this run."""

    @bentoml.service(workers=1, logging={"access": {"enabled": False}},
                     traffic={"timeout": 600, "max_concurrency": settings.max_waiting})
    class Classifier:
        def __init__(self) -> None:
            self.model = Model(settings)
            self.model.warm_up(range(1, settings.max_batch_size + 1))

        @bentoml.api(batchable=True, max_batch_size=settings.max_batch_size, max_latency_ms=600_000)
        def classify(self, pictures: list[Path]) -> list[dict[str, float]]:
            inputs = self.model.decode_all([path.read_bytes() for path in pictures])
            return [self.model.labelled(row) for row in self.model.predict(inputs)]

    return Classifier


if SETTINGS in os.environ:  # BentoML's worker imports this module to find the service
    classifier = service(Settings.from_json(os.environ[SETTINGS]))

if __name__ == "__main__":
    os.environ[SETTINGS] = sys.argv[1]
    port = str(Settings.from_json(sys.argv[1]).port)
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", "serving_bentoml:classifier",
                              "--host", "127.0.0.1", "--port", port, "--working-dir", str(Path(__file__).parent)])
