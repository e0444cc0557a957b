"""What the server and the process of an engine say to each other, besides the pictures in shared memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LoadRequest:
    """What a worker is started for."""

    version_folder: Path
    precision: str
    threads: int
    size: int
    """Height and width of the network's input, pixels."""
    labels: int
    """Columns that `probabilities` must have."""
    batch_sizes: tuple[int, ...]
    """All that will ever be asked for, ascending."""
    memory: int
    """File descriptor of shared memory for the largest batch."""
    modest: bool
    """Load on half of the cores only, because another version is answering on all of them."""


@dataclass(frozen=True)
class Loaded:
    """A worker's word that it is loaded and warmed up."""

    description: str
    warm_up_seconds: tuple[float, ...]
    """For each batch size, how long its first batch took."""


@dataclass(frozen=True)
class Failure:
    """Why a worker could not load its version, or could not compute a batch."""

    reason: str
