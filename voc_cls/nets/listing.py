"""The table of networks that `voc-nets` and `voc-train --help` show. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from voc_cls.nets.registry import NETS, NORMALISATIONS

if TYPE_CHECKING:
    from rich.table import Table

HEADINGS = ("net", "parameters", "pixels", "values", "order", "top-1 %", "voc-weights fetch")
NOTES = """parameters: with ImageNet's classes, moving averages not counted. pixels: height and width of the input.
values: vgg subtracts the mean of ImageNet's pixels, inception maps 0 … 255 to −1 … 1. order: of the colours.
top-1 %: of ImageNet's validation pictures, one crop, as TF-Slim's README says of its checkpoint.
voc-weights fetch: the name that gets TF-Slim's checkpoint; – where none is published."""


@dataclass(frozen=True)
class Listed:
    """A network for a person or a program."""

    net: str
    parameters: int
    """With ImageNet's classes, without moving means and variances."""
    size: int
    """Height and width of the input, pixels."""
    normalisation: str
    """A key of registry.NORMALISATIONS."""
    channels: str
    head: str
    """Name of the new classifier."""
    top1: float | None
    """On ImageNet's validation pictures, percent; None without a checkpoint."""
    fetch: str | None
    """What `voc-weights fetch` takes."""
    archive: str | None
    """Where that comes from."""


def listed() -> tuple[Listed, ...]:
    """All networks, in the order of the registry."""
    rows = []
    for spec in NETS.values():
        pixels, source = spec.preprocessing, spec.published
        normalisation = next(name for name, numbers in NORMALISATIONS.items() if numbers == (pixels.mean, pixels.std))
        rows.append(Listed(
            net=spec.name, parameters=spec.parameters, size=pixels.size, normalisation=normalisation,
            channels=pixels.channels, head=spec.head, top1=source.top1 if source else None,
            fetch=spec.name if source else None,
            archive=f"download.tensorflow.org/models/{source.archive}" if source else None))
    return tuple(rows)


def to_json() -> list[dict[str, object]]:
    """A dict per network, with the fields of `Listed`."""
    return [asdict(row) for row in listed()]


def cells() -> list[tuple[str, ...]]:
    """The table's rows as text, below HEADINGS."""
    return [(row.net, f"{row.parameters:,}", str(row.size), row.normalisation, row.channels,
             "–" if row.top1 is None else f"{row.top1:.1f}", row.fetch or "–") for row in listed()]


def table() -> Table:
    """For the terminal, at most 80 columns wide."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for heading in HEADINGS:
        shown.add_column(heading, justify="right" if heading in ("parameters", "pixels", "top-1 %") else "left")
    for row in cells():
        shown.add_row(*row)
    return shown


def text() -> str:
    """The table as plain text, for a --help; lines of at most 80 columns."""
    rows = [HEADINGS, *cells()]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                     for row in rows)
