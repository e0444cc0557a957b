"""voc-predict: ask a server, or a run folder, what pictures show."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from voc_cls.console import parse, run
from voc_cls.errors import UsageError

if TYPE_CHECKING:
    from voc_cls.client import Prediction

PROGRAM = "voc-predict"
DESCRIPTION = """Say what pictures show, with a probability for each label.

  voc-predict a.jpg b.jpg                            asks the server at 127.0.0.1:8500
  voc-predict holiday/ --server gpu-box:8500         every picture of a folder
  voc-predict a.jpg --run runs/voc07                 without a server, in this process, with TensorFlow
  voc-predict holiday/ --sheet answers.png           also draws the pictures with their labels
  voc-predict a.jpg | cut -f 2                       piped: file, label and probability, tab-separated"""
DEFAULT_SERVER = "127.0.0.1:8500"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
"""What counts as a picture in a folder; a file named on the command line may be called anything."""


@dataclass(frozen=True)
class PredictConfig:
    """What to ask, whom, and how to answer."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """JPEG, PNG, BMP or GIF files, or folders of them."""
    server: str | None = None
    """HOST:PORT of voc-serve. Default: 127.0.0.1:8500."""
    run: Path | None = None
    """Run folder of voc-train to predict with, instead of a server; needs the extra `train`."""
    json: bool = False
    """Print one JSON object instead of tables."""
    top_k: int = 5
    """Labels per picture, the most probable ones; 0 for all."""
    threshold: float = 0.5
    """Probability, 0 to 1, from which on a label counts as seen and is highlighted."""
    sheet: Path | None = None
    """PNG file to draw the pictures and their labels into; needs the extra `train`."""
    timeout: float = 60
    """Seconds to wait for each answer of the server."""
    wait: float = 30
    """Seconds to wait for a server that is not there yet or still loads its model; 0 to fail at once."""

    def __post_init__(self) -> None:
        if not self.pictures:
            raise UsageError("no picture given: name a file or a folder")
        if self.server is not None and self.run is not None:
            raise UsageError("--server and --run are two ways of asking: give one of them")
        if self.server is not None and not re.fullmatch(r"\S+:\d+", self.server):
            raise UsageError(f"--server {self.server} is not HOST:PORT, such as {DEFAULT_SERVER}")
        if self.top_k < 0:
            raise UsageError(f"--top-k {self.top_k} is below 0")
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"--threshold {self.threshold:g} is not a probability, 0 to 1")
        if self.timeout <= 0:
            raise UsageError(f"--timeout {self.timeout:g} must be above 0")
        if self.wait < 0:
            raise UsageError(f"--wait {self.wait:g} is below 0")
        if self.sheet is not None and self.sheet.suffix.lower() != ".png":
            raise UsageError(f"--sheet {self.sheet} must end in .png")


def main() -> None:
    """Entry point."""
    sys.exit(run(PROGRAM, predict))


def predict() -> None:
    """Parses the command line, asks, prints."""
    config = parse(PredictConfig, PROGRAM, DESCRIPTION)
    if config.sheet is not None:
        import matplotlib  # noqa: F401  # told to be missing now, not after everything was computed
    files = picture_files(config.pictures)
    predictions = _from_run(config, files) if config.run is not None else _from_server(config, files)
    from voc_cls.cli import answers

    if config.json:
        answers.print_json(files, predictions)
    else:
        answers.print_answers(files, predictions, config.threshold)
    if config.sheet is not None:
        from voc_cls.evaluation.sheet import draw_sheet

        drawn = draw_sheet(config.sheet, files, predictions, config.threshold)
        print(f"{config.sheet}: {drawn} pictures drawn", file=sys.stderr)


def picture_files(pictures: tuple[Path, ...]) -> list[Path]:
    """Files as they are, folders replaced by the pictures in them, sorted; UsageError for a folder without any."""
    files = []
    for path in pictures:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(file for file in path.iterdir() if file.is_file() and file.suffix.lower() in SUFFIXES)
        if not found:
            raise UsageError(f"{path} is a folder without pictures ({', '.join(SUFFIXES)}): give one that has some")
        files += found
    return files


def _from_server(config: PredictConfig, files: list[Path]) -> list[Prediction]:
    from voc_cls.client import Client

    server = config.server or DEFAULT_SERVER

    def on_wait() -> None:
        print(f"{PROGRAM}: {server} is not ready yet, waiting up to {config.wait:g} s", file=sys.stderr)

    with Client(server, timeout=config.timeout, wait=config.wait, on_wait=on_wait) as client:
        return client.classify(files, top_k=config.top_k)


def _from_run(config: PredictConfig, files: list[Path]) -> list[Prediction]:
    from voc_cls.client import Prediction, ScoredLabel
    from voc_cls.evaluation.predict import predict_files

    assert config.run is not None
    labels, probabilities = predict_files(config.run, files)
    name = config.run.resolve().name
    predictions = []
    for row in probabilities:
        order = (-row).argsort(kind="stable")[:config.top_k or None]
        predictions.append(Prediction(tuple(ScoredLabel(labels[at], float(row[at])) for at in order), name))
    return predictions
