"""voc-predict: ask a server, or a run folder, what pictures show."""

from __future__ import annotations

import os
import re
import signal
import sys
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Annotated

import tyro

from voc_cls.console import parse, run
from voc_cls.errors import ClientError, Interrupted, UsageError

PROGRAM = "voc-predict"
DESCRIPTION = """Say what pictures show, with a probability for each label.

  voc-predict a.jpg b.jpg                            asks the server at 127.0.0.1:8500
  voc-predict holiday/ --server gpu-box:8500         every picture of a folder
  voc-predict archive/ --recursive --csv out.csv     of all folders below it, any number, into a file
  voc-predict a.jpg --tls --server box.example:443   encrypted; VOC_TOKEN in the environment says who asks
  voc-predict a.jpg --run runs/voc07                 without a server, in this process, with TensorFlow
  voc-predict holiday/ --sheet answers.png           also draws the pictures with their labels
  voc-predict test/ --top-k 1 --csv test.csv         one class for each picture, into a file
  voc-predict a.jpg | cut -f 2                       piped: file, label and probability, tab-separated

A picture that cannot be answered is told on stderr, the others are answered; the exit code is 1 then."""
DEFAULT_SERVER = "127.0.0.1:8500"
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
"""What counts as a picture in a folder; a file named on the command line may be called anything."""
EXPORTED = "exported"
"""For --thresholds: those of the model."""


@dataclass(frozen=True)
class Output:
    """How to answer."""

    json: bool = False
    """Print one JSON object instead of tables."""
    json_file: Path | None = None
    """Write that object to this file instead; it appears when it is complete."""
    csv: Path | None = None
    """Write file, model, version, label, probability and error to this file, a row for each label; it appears when it
    is complete."""
    threshold: float | None = None
    """Probability, 0 to 1, from which on a label counts as seen and is highlighted. Default: 0.5; of models that tell
    one class a picture (softmax), the most probable label alone."""
    sheet: Path | None = None
    """PNG file to draw the pictures and their labels into; needs the extra `train`."""

    @property
    def file(self) -> Path | None:
        """Where the answers go, if not to stdout."""
        return self.json_file or self.csv


@dataclass(frozen=True)
class Server:
    """Whom to ask; without --run."""

    server: str | None = None
    """HOST:PORT of voc-serve. Default: 127.0.0.1:8500."""
    model: str = ""
    """Name of the model. Default: the server's only one."""
    version: int | None = None
    """Servable version. Default: the newest that is served."""
    version_label: str = ""
    """Version by its label, such as stable."""
    thresholds: str | None = None
    """Answer only labels of at least this probability, 0 to 1; exported: those that reach the thresholds which were
    exported with the model, one for each class (softmax models have none: --top-k 1). Default: all labels."""
    timeout: float = 60
    """Seconds to wait for each answer of the server."""
    wait: float = 30
    """Seconds to wait for a server that is not there yet or still loads its model; 0 to fail at once."""
    tls: bool = False
    """Encrypt, and trust the certificate authorities that come with gRPC."""
    ca: Path | None = None
    """Encrypt, and trust the certificate authorities in this PEM file."""
    client_cert: Path | None = None
    """PEM file of the certificate to show, for servers that want one; with --client-key."""
    client_key: Path | None = None
    """PEM file of its private key."""
    token: str | None = None
    """Token that says who asks. Better set VOC_TOKEN: everybody on this machine can read a command line, and the shell
    writes it to its history."""
    api_key: str | None = None
    """API key, sent as x-api-key instead of a bearer token. Better set VOC_API_KEY."""

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return self.server or DEFAULT_SERVER

    @property
    def trust(self) -> bool | Path:
        """What the client calls tls."""
        return self.ca or self.tls or self.client_cert is not None

    @property
    def keys(self) -> tuple[str | None, str | None]:
        """(token, API key); one at most. The command line wins over the environment."""
        if self.token is not None or self.api_key is not None:
            return self.token, self.api_key
        token, api_key = (os.environ.get(name, "").strip() or None for name in ("VOC_TOKEN", "VOC_API_KEY"))
        return token, None if token is not None else api_key


@dataclass(frozen=True)
class PredictConfig:
    """What to ask, whom, and how to answer."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """JPEG, PNG, BMP or GIF files, or folders of them."""
    recursive: bool = False
    """Look in the folders below the given ones too."""
    run: Path | None = None
    """Run folder of voc-train to predict with, instead of a server; needs the extra `train`."""
    top_k: int = 5
    """Labels per picture, the most probable ones; 0 for all."""
    output: Output = field(default_factory=Output)
    server: Server = field(default_factory=Server)

    def __post_init__(self) -> None:
        if not self.pictures:
            raise UsageError("no picture given: name a file or a folder")
        if self.top_k < 0:
            raise UsageError(f"--top-k {self.top_k} is below 0")
        if self.run is not None:
            _check_run(self.server)
        _check_output(self.output)
        _check_server(self.server)


def _check_run(server: Server) -> None:
    for entry in fields(server):
        if getattr(server, entry.name) != entry.default:
            flag = "--" + entry.name.replace("_", "-")
            what = "two ways of asking: give one of them" if flag == "--server" else "not for each other: " + (
                f"{flag} is about a server")
            raise UsageError(f"{flag} and --run are {what}")


def _check_output(output: Output) -> None:
    if output.threshold is not None and not 0 <= output.threshold <= 1:
        raise UsageError(f"--threshold {output.threshold:g} is not a probability, 0 to 1")
    if output.sheet is not None and output.sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {output.sheet} must end in .png")
    given = [flag for flag, value in (("--json", output.json), ("--json-file", output.json_file), ("--csv", output.csv))
             if value]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are different ways of answering: give one of them")
    if output.file is not None and not output.file.absolute().parent.is_dir():
        raise UsageError(f"{given[0]} {output.file}: the folder {output.file.parent} does not exist; make it first")


def _check_server(server: Server) -> None:
    if not re.fullmatch(r"\S+:\d+", server.address):
        raise UsageError(f"--server {server.address} is not HOST:PORT, such as {DEFAULT_SERVER}")
    if server.timeout <= 0:
        raise UsageError(f"--timeout {server.timeout:g} must be above 0")
    if server.wait < 0:
        raise UsageError(f"--wait {server.wait:g} is below 0")
    if server.thresholds not in (None, EXPORTED) and not _is_probability(server.thresholds):
        raise UsageError(f"--thresholds {server.thresholds} is neither {EXPORTED} nor a probability, 0 to 1")
    if server.version is not None and server.version_label:
        raise UsageError("--version and --version-label both name a version: give one of them")
    if (server.client_cert is None) != (server.client_key is None):
        raise UsageError("--client-cert and --client-key belong together: give both or neither")
    if server.token is not None and server.api_key is not None:
        raise UsageError("--token and --api-key are two ways to say who asks: give one of them")


def _is_probability(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def main() -> None:
    """Entry point."""
    sys.exit(run(PROGRAM, predict))


def predict() -> None:
    """Parses the command line, asks, answers; ClientError at the end if some pictures have no answer."""
    config = parse(PredictConfig, PROGRAM, DESCRIPTION)
    if config.output.sheet is not None:
        import matplotlib  # noqa: F401  # told to be missing now, not after everything was computed
    files = picture_files(config.pictures, recursive=config.recursive)
    from voc_cls.cli.answers import Answers, answered
    from voc_cls.cli.asking import ask

    signal.signal(signal.SIGTERM, _stop)
    collected = Answers(files, keep_for_sheet=config.output.sheet is not None)
    answered(config.output, collected.each(ask(config, files)), len(files))
    if config.output.sheet is not None and collected.files:
        from voc_cls.evaluation.sheet import draw_sheet

        drawn = draw_sheet(config.output.sheet, collected.files, collected.predictions, config.output.threshold)
        print(f"{config.output.sheet}: {drawn} pictures drawn", file=sys.stderr)
    if collected.errors:
        failed = len(collected.errors)
        raise ClientError(collected.errors[0] if len(files) == 1 else
                          f"{failed} of {len(files)} pictures {'has' if failed == 1 else 'have'} no answer, see above")


def _stop(number: int, _: FrameType | None) -> None:
    raise Interrupted(signal.Signals(number), "no file was written")


def picture_files(pictures: tuple[Path, ...], *, recursive: bool = False) -> list[Path]:
    """Files as they are, folders replaced by the pictures in them, sorted; UsageError for a folder without any."""
    files = []
    for path in pictures:
        if not path.is_dir():
            files.append(path)
            continue
        found = _below(path) if recursive else sorted(file for file in path.iterdir() if file.is_file())
        found = [file for file in found if file.suffix.lower() in SUFFIXES]
        if not found:
            elsewhere = "" if recursive else ", or --recursive to look in the folders below it"
            raise UsageError(f"{path} is a folder without pictures ({', '.join(SUFFIXES)}): give one that has some"
                             f"{elsewhere}")
        files += found
    return files


def _below(folder: Path) -> list[Path]:
    """All files, a folder's own ones before those of the folders in it; links to folders are not followed."""
    found = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(parent, name) for name in sorted(names)]
    return found
