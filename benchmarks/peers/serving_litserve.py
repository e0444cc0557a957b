"""A peer of benchmarks/serving.py: LitServe over HTTP, with its batching.

    python benchmarks/peers/serving_litserve.py SETTINGS_JSON

POST /predict takes the image as the form's file `content`, as LitServe documents it. There is one worker, because the
engine uses all cores. Images are decoded in a thread pool in `batch`, as LitServe's performance guide does.
"""

from __future__ import annotations

import sys
from typing import Any

import litserve
from serving_model import Model, Settings


class Classifier(litserve.LitAPI):  # type: ignore[misc]
    """Picture file in, labels with probabilities out."""

    settings: Settings

    def setup(self, device: str) -> None:  # noqa: ARG002
        self.model = Model(self.settings)
        self.model.warm_up(range(1, self.settings.max_batch_size + 1))

    def decode_request(self, request) -> bytes:  # type: ignore[no-untyped-def]  # a type would say how to parse it
        return request["content"].file.read()

    def batch(self, contents: list[bytes]) -> Any:
        return self.model.decode_all(contents)

    def predict(self, inputs: Any) -> Any:
        return self.model.predict(inputs)

    def unbatch(self, probabilities: Any) -> Any:
        return list(probabilities)

    def encode_response(self, probabilities: Any) -> dict[str, float]:
        return self.model.labelled(probabilities)


if __name__ == "__main__":
    settings = Settings.from_json(sys.argv[1])
    api = Classifier(max_batch_size=settings.max_batch_size, batch_timeout=0.01)
    api.settings = settings
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=False)
    server.run(host="127.0.0.1", port=settings.port, num_api_servers=1, generate_client_file=False,
               log_level="warning")
