"""voc-predict: what pictures show, according to a server, an exported model or the run folder of a training."""

from __future__ import annotations

import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import tyro

from voc_cls.cli.predict_output import FilePrediction, Output, write_predictions
from voc_cls.config import Range, check_ranges
from voc_cls.console import import_tensorflow, new_console, parse, run, stop_on, with_flags
from voc_cls.errors import ClientError, DataError, UsageError, reason
from voc_cls.image_header import IMAGE_SUFFIXES
from voc_cls.prediction import Prediction
from voc_cls.stores import local_batches, opened, store_url

PROGRAM = "voc-predict"
DESCRIPTION = """Predict what pictures show: labels with their probabilities.

Ask a server (voc-serve), by default the one at 127.0.0.1:8500:
  voc-predict a.jpg b.jpg
  voc-predict holiday/ --server gpu-box:8500
  VOC_TOKEN=... voc-predict a.jpg --server box.example:443 --tls

Without a server, load an exported model (by OpenVINO, or needs TensorFlow), or
  a run of voc-train (needs TensorFlow):
  voc-predict a.jpg --model models/voc
  voc-predict a.jpg --run runs/voc07

A folder of any size, with its subfolders, into a file, also from an object
  store (extra `s3`):
  voc-predict archive/ --recursive --csv labels.csv
  voc-predict s3://bucket/archive --recursive --csv labels.csv
  voc-predict holiday/ --sheet sheet.png
  voc-predict holiday/ --label-studio tasks.json

Which parts of a picture speak for its labels, as heat maps over it:
  voc-predict a.jpg b.jpg --explain heat/

Millions of pictures, by an exported model on a Ray cluster (extra `ray`):
  voc-predict s3://bucket/archive --recursive --model models/voc --ray \\
              --out scores.parquet

Good to know:
  - On a terminal it prints tables; piped, file, label and probability, with
    tabs between them.
  - Failures are reported on stderr and in --csv and --json, and the other
    pictures are still predicted; the exit code is then 1.
  - Files of a folder that are left out are counted on stderr: other
    extensions, hidden files, and subfolders without --recursive.
  - A proxy in http_proxy is used as gRPC does, but not for this machine."""
DEFAULT_SERVER = "127.0.0.1:8500"
EXPORTED = "exported"
"""For --thresholds: those of the model."""


@dataclass(frozen=True)
class Server:
    """The server to ask; not with --run, and not with a path as --model."""

    server: str | None = None
    """HOST:PORT of voc-serve. Default: 127.0.0.1:8500."""
    model: str = ""
    """Name of the model. Default: the server's only one. Or a path, with a slash, such as models/voc or ./voc: predict
    without a server, with this exported model or version of one; by OpenVINO where it has a model.xml (extra
    `serve-openvino`), else by TensorFlow."""
    version: int | None = None
    """Version of the model. Default: the newest that is served."""
    version_label: str = ""
    """A label of the version, such as stable, instead of its number."""
    thresholds: str | None = None
    """Return only labels with at least this probability, 0 to 1; exported: with at least the threshold that was
    exported with the model for the class (single-label models have none: use --top-k 1). Default: all labels."""
    timeout: Annotated[float, Range(1e-9)] = 60
    """How long to wait for each answer, seconds."""
    wait: Annotated[float, Range(0)] = 30
    """How long to wait for a server that is unreachable or still loads its model, seconds; 0: fail at once."""
    tls: bool = False
    """Encrypt, and trust the certificate authorities that come with gRPC."""
    ca: Path | None = None
    """Encrypt, and trust the certificate authorities in this PEM file."""
    client_cert: Path | None = None
    """PEM file of a client certificate, for servers that require one; with --client-key."""
    client_key: Path | None = None
    """PEM file of its private key."""
    token: str | None = None
    """Token for authentication. Prefer the environment variable VOC_TOKEN: command lines are visible to all users of
    this machine and stay in the shell's history."""
    api_key: str | None = None
    """API key, sent as x-api-key, instead of a token. Prefer VOC_API_KEY."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if "://" in self.address:
            from voc_cls.client.errors import url_problem

            if problem := url_problem(self.address, "server"):
                raise UsageError(problem)
        if not re.fullmatch(r"\S+:\d+", self.address):
            raise UsageError(f"`server` {self.address} is not HOST:PORT, such as {DEFAULT_SERVER}")
        if self.thresholds not in (None, EXPORTED) and not _is_probability(self.thresholds):
            raise UsageError(f"`thresholds` {self.thresholds} is neither {EXPORTED} nor a probability, 0 to 1")
        if self.version is not None and self.version_label:
            raise UsageError("`version` and `version_label` both choose a version: give one of them")
        if (self.client_cert is None) != (self.client_key is None):
            raise UsageError("`client_cert` and `client_key` belong together: give both or neither")
        if self.token is not None and self.api_key is not None:
            raise UsageError("`token` and `api_key` exclude each other: give one of them")

    @property
    def address(self) -> str:
        return self.server or DEFAULT_SERVER

    @property
    def trust(self) -> bool | Path:
        """The `tls` of a Client."""
        return self.ca or self.tls or self.client_cert is not None

    @property
    def keys(self) -> tuple[str | None, str | None]:
        """(token, API key); one at most, unless both flags are given. Flags take precedence over the environment."""
        if self.token is not None or self.api_key is not None:
            return self.token, self.api_key
        token, api_key = (os.environ.get(name, "").strip() or None for name in ("VOC_TOKEN", "VOC_API_KEY"))
        return token, None if token is not None else api_key


@dataclass(frozen=True)
class Batch:
    """Batch prediction on a Ray cluster, with a path as --model (docs/scale.md)."""

    ray: bool = False
    """Predict on all machines of a Ray cluster: that of $RAY_ADDRESS, or of `ray start` on this machine; otherwise with
    the cores of this machine. Pictures may then be given as lists, too: .txt files with a path or URL in each line."""
    out: Path | None = None
    """Folder, or URL of one, for the scores: Parquet files that together have one row per picture, in no particular
    order, with the columns path, error, and one for each label. Pictures that are in them are not predicted again: the
    same command continues a job that was interrupted."""
    worker_cpus: Annotated[int, Range(1)] = 1
    """Cores of each worker, which has a copy of the model in memory. The default has the highest throughput."""

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.ray != (self.out is not None):
            raise UsageError("`ray` and `out` belong together: give both or neither")


@dataclass(frozen=True)
class PredictConfig:
    """The pictures, where their predictions come from, and where they go."""

    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files of any extension, or folders, or URLs of either, such as s3://bucket/images. Of a folder, the files
    are taken that end in .jpg .jpeg .jfif .png .bmp .gif .webp .tif or .tiff, in upper or lower case, but no hidden
    ones."""
    recursive: bool = False
    """Include the pictures in subfolders."""
    run: Path | None = None
    """Run folder of voc-train to predict with, instead of a server; needs the extra `train`."""
    top_k: Annotated[int, Range(0)] = 5
    """Labels per picture, the most probable ones; 0 for all."""
    output: Output = field(default_factory=Output)
    server: Server = field(default_factory=Server)
    batch: Batch = field(default_factory=Batch)

    def __post_init__(self) -> None:
        if not self.pictures:
            raise UsageError("no picture given: name a file or a folder")
        check_ranges(self)
        for name in ("sheet", "explain"):
            if getattr(self.output, name) is not None and any(map(store_url, self.pictures)):
                raise UsageError(f"`{name}` draws pictures of this machine only: copy those that it is to show")
        local = "run" if self.run is not None else "model" if self.exported is not None else None
        for entry in fields(self.server) if local is not None else ():
            if entry.name != local and getattr(self.server, entry.name) != entry.default:
                raise UsageError(f"`{entry.name}` and `{local}` exclude each other: give `server` to ask a server, or "
                                 f"`{local}` to predict without one")
        if self.output.label_studio is not None and self.server.thresholds is not None:
            raise UsageError("`label_studio` needs the probabilities of all labels: omit `thresholds`")
        if self.batch.ray and local != "model":
            raise UsageError("`ray` predicts with an exported model: give its folder as `model`, such as models/voc")
        if self.batch.ray and self.output != Output():
            raise UsageError("`ray` writes `out` alone: omit `csv`, `json`, `json_file`, `label_studio`, `sheet`, "
                             "`explain` and `threshold`")

    @property
    def exported(self) -> Path | None:
        """Folder of an exported model to predict with: names of models have no slash."""
        return Path(self.server.model) if os.sep in self.server.model else None


def _is_probability(text: str | None) -> bool:
    try:
        return 0 <= float(text or "") <= 1
    except ValueError:
        return False


def main() -> None:
    sys.exit(run(PROGRAM, predict))


def predict() -> None:
    """Parses the command line, predicts, and writes; ClientError at the end if some pictures failed."""
    config = parse(PredictConfig, PROGRAM, DESCRIPTION)
    if config.output.label_studio is not None:
        config = replace(config, top_k=0)
    explain = config.output.explain
    if config.output.sheet is not None or explain is not None:
        import matplotlib  # noqa: F401  # reported as missing now, not after all predictions
    if explain is not None:
        from voc_cls.evaluation.contact_sheet import draw_heat_maps

        explain.mkdir(parents=True, exist_ok=True)
    if config.batch.ray:
        stop_on("the same command continues", signal.SIGTERM, signal.SIGINT)
    else:
        stop_on("no file was written", signal.SIGTERM)
    files, left_out = picture_files(config.pictures, recursive=config.recursive, lists=config.batch.ray)
    for note in left_out:
        print(f"{PROGRAM}: note: {with_flags(note)}", file=sys.stderr)
    if config.exported is not None and config.batch.out is not None:
        _on_ray(files, config.exported, config.batch.out, config.batch.worker_cpus)
        return
    errors: list[str] = []
    failures: dict[int, str] = {}
    succeeded: list[tuple[Path, Prediction]] = []
    explained: Counter[str] = Counter()

    def reported(predictions: Iterable[Prediction], copies: Path) -> Iterator[FilePrediction]:
        for position, (file, prediction) in enumerate(zip(files, predictions, strict=True)):
            name = store_url(file) or str(file)
            if prediction.error is not None:
                error = failures.get(position) or prediction.error.replace(str(copies / str(position)), name)
                errors.append(error)
                prediction = replace(prediction, error=error)
                if len(files) > 1:
                    print(f"{PROGRAM}: error: {error}", file=sys.stderr)
            elif config.output.sheet is not None:
                succeeded.append((file, prediction))
            if explain is not None and prediction.labels:
                explained[file.name] += 1
                again = f"-{explained[file.name]}" if explained[file.name] > 1 else ""
                draw_heat_maps(explain / f"{file.name}{again}.png", file, prediction, config.output.threshold)
            yield name, prediction

    with tempfile.TemporaryDirectory() as copies:
        batches = local_batches(files, Path(copies), failures)
        predictions = predictions_of(config, batches, explain is not None)
        write_predictions(config.output, reported(predictions, Path(copies)), len(files))
    if explain is not None:
        print(f"{explain}: {explained.total()} pictures with heat maps", file=sys.stderr)
    if config.output.sheet is not None and succeeded:
        from voc_cls.evaluation.contact_sheet import draw_sheet

        drawn = draw_sheet(config.output.sheet, [file for file, _ in succeeded],
                           [prediction for _, prediction in succeeded], config.output.threshold)
        print(f"{config.output.sheet}: {drawn} pictures drawn", file=sys.stderr)
    if errors:
        raise ClientError(errors[0] if len(files) == 1 else
                          f"{len(errors)} of {len(files)} pictures failed, see above")


def predictions_of(config: PredictConfig, batches: Iterable[Sequence[Path]], explain: bool) -> Iterable[Prediction]:
    """One prediction per file, in order, by what `config` names; with `explain` with heat maps and embeddings."""
    if config.run is not None:
        return list(_from_run(config.run, batches, config.top_k, explain))
    if config.exported is not None:
        return _from_model(config.exported, batches, config.top_k, explain)
    return _from_server(config, chain.from_iterable(batches), explain)


def _on_ray(files: Sequence[Path], model: Path, out: Path, cpus: int) -> None:
    """--ray; ClientError at the end if some pictures failed."""
    from voc_cls.batch_prediction import predict_on_ray

    scored, failed = predict_on_ray(files, model, out, cpus, new_console(stderr=True))
    where = store_url(out) or out
    print(f"{where}: {scored:,} pictures", file=sys.stderr)
    if failed:
        raise ClientError(f"{failed:,} of {len(files):,} pictures failed, see the column 'error' of {where}")


def picture_files(paths: Iterable[Path], *, recursive: bool = False, lists: bool = False
                  ) -> tuple[list[Path], list[str]]:
    """The given files and the pictures in the given folders, sorted; and what was left out of each folder.

    UsageError for a folder without any. lists: whether .txt files of this machine are lists of paths.
    """
    files, notes = [], []
    for path in paths:
        if lists and path.suffix.lower() == ".txt" and not store_url(path) and not path.is_dir():
            files += _listed(path)
            continue
        left_out: Counter[str] = Counter()
        pictures = [path] if not path.is_dir() and not store_url(path) else list(
            _pictures_in(path, recursive, left_out))
        counts = ", ".join(f"{count:,} {kind}{'s' * (count > 1)}" for kind, count in (+left_out).items())
        hint = "; `recursive` includes subfolders" if left_out["subfolder"] else ""
        if not pictures:
            raise UsageError(f"{store_url(path) or path} is a folder without pictures ({', '.join(IMAGE_SUFFIXES)})"
                             f"{counts and f', but with {counts}'}: give one that has some{hint}")
        files += pictures
        notes += [f"{store_url(path) or path}: left out {counts}{hint}"] if counts else []
    return files, notes


def _listed(path: Path) -> list[Path]:
    """What a list has; UsageError if it cannot be read, or is empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as a list ({reason(error)}); give a text file in UTF-8 with the path "
                         "or URL of a picture in each line") from error
    if not (files := [Path(line) for line in lines if line.strip()]):
        raise UsageError(f"{path}: is an empty list; give one with the path or URL of a picture in each line")
    return files


def _pictures_in(folder: Path, recursive: bool, left_out: Counter[str]) -> Iterator[Path]:
    """A folder's own pictures before those of its subfolders; links to folders are not followed."""
    for parent, folders, names in _walk(folder, left_out):
        visible = [name for name in sorted(folders) if not name.startswith(".")]
        left_out["hidden folder"] += len(folders) - len(visible)
        left_out["subfolder"] += 0 if recursive else len(visible)
        folders[:] = visible if recursive else ()
        left_out["linked folder"] += sum(Path(parent, name).is_symlink() for name in folders)
        for name in sorted(names):
            file = Path(parent, name)
            if name.startswith("."):
                left_out["hidden file"] += 1
            elif not name or file.suffix.lower() in IMAGE_SUFFIXES:
                yield file
            else:
                left_out[f"{file.suffix.lower()} file" if file.suffix else "file without extension"] += 1


def _walk(folder: Path, left_out: Counter[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk; for a URL fsspec's, which gives a file the name "". DownloadError if there is nothing."""
    if not (url := store_url(folder)):
        yield from os.walk(folder, onerror=lambda _: left_out.update(["unreadable folder"]))
        return
    with opened(url) as (files, root):
        for parent, folders, names in files.walk(root, on_error="raise"):
            yield files.unstrip_protocol(parent), folders, names


def _from_server(config: PredictConfig, files: Iterable[Path], explain: bool) -> Iterator[Prediction]:
    """One prediction per file, in order, over one stream; few pictures are in memory at a time."""
    from voc_cls.client import ClassifyOptions, Client
    from voc_cls.client.client import plain_text_risk

    server = config.server
    token, api_key = server.keys
    if not server.trust and (risk := plain_text_risk(server.address, token, api_key)):
        print(f"{PROGRAM}: note: {risk}; --tls encrypts", file=sys.stderr)

    def on_wait() -> None:
        print(f"{PROGRAM}: {server.address} is not ready yet, waiting up to {server.wait:g} s", file=sys.stderr)

    options = ClassifyOptions(top_k=config.top_k, model=server.model, version_label=server.version_label,
                              heat_maps=explain, embedding=explain)
    if server.version is not None:
        options["version"] = server.version
    if server.thresholds == EXPORTED:
        options["exported_thresholds"] = True
    elif server.thresholds is not None:
        options["threshold"] = float(server.thresholds)
    with Client(server.address, timeout=server.timeout, wait=server.wait, tls=server.trust, token=token,
                api_key=api_key, client_cert=server.client_cert, client_key=server.client_key, plain_text_keys=True,
                on_wait=on_wait) as client:
        for _, prediction in client.classify_stream(files, ordered=True, **options):
            yield prediction


def _from_model(folder: Path, batches: Iterable[Sequence[Path]], top_k: int, explain: bool) -> Iterator[Prediction]:
    """One prediction per file, in order, computed in this process; few pictures are in memory at a time."""
    from voc_cls.loaded_model import BATCH_SIZE, LoadedModel

    model = LoadedModel(folder)
    for files in batches:
        for start in range(0, len(files), BATCH_SIZE):
            yield from model.predict(files[start:start + BATCH_SIZE], top_k=top_k, raise_errors=False,
                                     explain=explain)


def _from_run(folder: Path, batches: Iterable[Sequence[Path]], top_k: int, explain: bool) -> Iterator[Prediction]:
    """One prediction per file, in order, computed in this process; with an `error` for what cannot be decoded."""
    from voc_cls.data.files import read_header

    trained = None
    for files in batches:
        errors: dict[Path, str] = {}
        for file in files:  # before TensorFlow starts, which takes seconds
            try:
                read_header(file)
            except DataError as error:
                errors[file] = str(error)
        predictions: dict[Path, Prediction] = {}
        if likely := [file for file in files if file not in errors]:
            import_tensorflow()
            from voc_cls.data.check import decode_all
            from voc_cls.training.trained_run import open_run

            trained = trained or open_run(folder)
            outcomes = zip(likely, decode_all(likely), strict=True)  # in a batch, one would end them all
            errors |= {file: str(outcome) for file, outcome in outcomes if isinstance(outcome, DataError)}
            decodable = [file for file in likely if file not in errors]
            answers = (trained.explain if explain else trained.predict)(decodable, top_k) if decodable else ()
            predictions = dict(zip(decodable, answers, strict=True))
        yield from [predictions.get(file) or Prediction((), "", error=errors[file]) for file in files]
