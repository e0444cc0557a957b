"""What predict_augmented costs in voc-serve: processor time of engine and decoders beside serving_default's.

    voc-export runs/voc07 models/both --format openvino --tta both
    python benchmarks/augmented.py models/both VOCdevkit/VOC2007/JPEGImages

Single pictures, one call at a time; the two signatures take turns. Ratios are stable on a busy machine; times are not.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROUNDS, CALLS = 6, {"serving_default": 16, "predict_augmented": 4}
READY = re.compile(r"ready on \S+:(\d+) \(gRPC\)")


def main(model_dir: Path, images: Path) -> None:
    """Prints the processor milliseconds of a call of each, and their ratio."""
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    contents = [path.read_bytes() for path in sorted(images.glob("*.jpg"))[:8]]
    voc_serve = Path(sys.executable).parent / "voc-serve"
    command = [sys.executable, str(voc_serve), "--model-dir", str(model_dir), "--port", "0", "--http-port", "-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = next(found[1] for line in server.stdout if (found := READY.search(line)))
        service = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))

        def call(signature: str, content: bytes) -> None:
            service.Predict(predict_pb2.PredictRequest(
                model_spec={"signature_name": signature},
                inputs={"image_bytes": tf.make_tensor_proto([content])}), timeout=120)

        call("predict_augmented", contents[0])
        spent: dict[str, list[float]] = {signature: [] for signature in CALLS}
        for _ in range(ROUNDS):
            for signature, calls in CALLS.items():
                before = processor_seconds(server.pid)
                for number in range(calls):
                    call(signature, contents[number % len(contents)])
                spent[signature].append((processor_seconds(server.pid) - before) / calls)
        server.terminate()
    single, augmented = (sum(spent[signature]) / ROUNDS for signature in CALLS)
    ratios = sorted(b / a for a, b in zip(*spent.values(), strict=True))
    print(f"{model_dir.name}: {1000 * single:.0f} ms, augmented {1000 * augmented:.0f} ms; ratio "
          f"{augmented / single:.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})")


def processor_seconds(process: int) -> float:
    """User and system time of a process and those below it, seconds (proc_pid_stat(5))."""
    fields: list[Any] = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    children = [child for task in Path(f"/proc/{process}/task").iterdir()
                for child in (task / "children").read_text().split()]
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(processor_seconds(int(child)) for child in children)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
