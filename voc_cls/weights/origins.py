"""Where published weights come from: a `.tar.gz` on a server, or a wheel on the Python package index."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from rich.console import Console

from voc_cls.downloads import check_sha256, fetched, unpack
from voc_cls.errors import DownloadError
from voc_cls.nets.registry import net_spec
from voc_cls.weights.formats import onnx
from voc_cls.weights.formats.tf_checkpoint import write_checkpoint
from voc_cls.weights.naming.keras import tf2onnx_mappings

GZIP_MAGIC = b"\x1f\x8b"
PIP_OPTIONS = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--no-input",
               "--progress-bar=off", "--timeout=30", "--retries=3")
LARGEST = 2 << 30
"""Bytes of an unpacked checkpoint; what claims more is a bomb. VGG-16's has 553 MB."""


@dataclass(frozen=True)
class Archive:
    """A `.tar.gz` on a server, and the one file wanted from it."""

    url: str
    member: str
    """Name of the v1 checkpoint inside, at the top."""
    sha256: str | None = None
    """Of the archive, if known."""

    def write(self, checkpoint: Path, local: Path | None = None, console: Console | None = None) -> None:
        """Puts the member at `checkpoint`; the download lies beside that file's folder until it is unpacked.

        `checkpoint` is alone in its folder; `local` is the archive, if it need not be downloaded; it stays as it is.
        DownloadError if the archive does not come, is damaged or another one.
        """
        name = PurePosixPath(urlsplit(self.url).path).name
        aside = checkpoint.parent.parent / f".{name}"  # hidden: a visible one belongs to the user
        with fetched(self.url, aside, local, GZIP_MAGIC, None, self.sha256, console) as archive:
            unpack(archive, checkpoint.parent, LARGEST, only=self.member)
            (checkpoint.parent / self.member).replace(checkpoint)


@dataclass(frozen=True)
class Wheel:
    """A wheel on the package index, pinned by digest, and the ONNX file in it with a network's convolutions.

    The way to real weights for a machine that reaches only the package index.
    """

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
            check_sha256(wheel, self.sha256)
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
            raise DownloadError(f"pip could not download {self.requirement} ({reason}): check the network and "
                                f"`pip config list`, or run `pip download --no-deps {self.requirement}` elsewhere and "
                                "give the wheel with `archive`")
        return wheels[0]
