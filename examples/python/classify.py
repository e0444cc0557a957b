"""Classifies picture files in one call, with a deadline, TLS, a token and error handling.

    pip install voc-cls                                        # without extras: no TensorFlow
    python examples/python/classify.py 127.0.0.1:8500 a.jpg b.jpg
    VOC_TOKEN=… VOC_CA=ca.pem python examples/python/classify.py box.example:8500 a.jpg
"""

import os
import sys
from pathlib import Path

from voc_cls.client import CallError, Client


def main(address: str, *files: str) -> None:
    ca, token = os.environ.get("VOC_CA"), os.environ.get("VOC_TOKEN")
    with Client(address, timeout=10, wait=30, tls=Path(ca) if ca else False, token=token) as client:
        model = client.model()
        print(f"{model.model}, version {model.version}: {len(model.labels)} labels")
        for file, prediction in zip(files, client.classify([Path(file) for file in files], top_k=3, raise_errors=False),
                                    strict=True):
            seen = ", ".join(f"{scored.label} {scored.probability:.0%}" for scored in prediction.labels)
            print(f"{file}: {prediction.error or seen}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except CallError as error:
        sys.exit(f"{error} ({error.code.name}, request {error.request_id})")
