"""Scores of any number of images, computed on a Ray cluster and kept as Parquet files. See docs/scale.md.

Ray Data reads and decodes the images and scores them in actors that hold the model; where a machine is lost, it
computes elsewhere what is missing. The process that began the job takes the scores, each once, and writes a file for
every FILE_ROWS of them, which appears whole. A job that was ended goes on with the images that no file has.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
from rich.console import Console

from voc_cls.console import import_tensorflow, progress_bar
from voc_cls.errors import DataError, UsageError
from voc_cls.files import locked, write_aside
from voc_cls.image_decoder import Preprocessing
from voc_cls.loaded_model import LoadedModel, by_openvino, decoded_file, version_folder
from voc_cls.model_metadata import read_metadata
from voc_cls.ray_cluster import connected
from voc_cls.stores import local_batches, opened, store_url

TASK_IMAGES = 64
"""Of a task: seconds of a core, beside which the milliseconds that Ray takes for it do not count."""
DECODED = 32
"""Images that are in memory, and that the network sees, at once; for each actor."""
FILE_ROWS = 512
"""A million images make 2,000 files of some 50 kB. A job that is killed has to score as many again at most, and what
was computed at that moment."""
PATH, ERROR, MODEL = "path", "error", b"voc_cls_model"
"""The columns beside those of the labels; what the files say of the model."""

Batch = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Scores:
    """The folder of the Parquet files of a job, on this machine or in an object store, and the model they are of."""

    folder: Path
    model: str

    @property
    def _url(self) -> str:
        return store_url(self.folder) or str(self.folder.absolute())

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Makes the folder; within, no other job on this machine can have it."""
        def refuse() -> None:
            raise UsageError(f"`out` {self.folder}: another voc-predict writes there; wait, or choose another folder")

        if not store_url(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with nullcontext() if store_url(self.folder) else locked(self.folder, refuse):
            yield

    def paths(self) -> set[str]:
        """The images that the files have. UsageError for files of another model, or that are none of a job."""
        paths: set[str] = set()
        with opened(self._url) as (files, root):
            names = [name for name in (files.ls(root, detail=False) if files.exists(root) else ())
                     if not name.rpartition("/")[2].startswith(".")]
            for name in names:
                try:
                    with files.open(name) as file:
                        table = pyarrow.parquet.read_table(file, columns=[PATH])
                except (pyarrow.ArrowException, IsADirectoryError, KeyError):
                    raise UsageError(f"`out` {self.folder}: {name.rpartition('/')[2]} in it was not written by "
                                     "voc-predict; choose an empty folder") from None
                model = (table.schema.metadata or {}).get(MODEL, b"another program").decode()
                if model != self.model:
                    raise UsageError(f"`out` {self.folder}: has scores of {model}, this is {self.model}; choose "
                                     "another folder, or delete it")
                paths.update(table[PATH].to_pylist())
        return paths

    def write(self, rows: pyarrow.Table) -> None:
        """Writes a file."""
        name, content = f"{uuid.uuid4().hex}.parquet", io.BytesIO()
        pyarrow.parquet.write_table(rows.replace_schema_metadata({MODEL: self.model}), content)
        if store_url(self.folder):  # which shows an object when it is complete
            with opened(self._url) as (files, root):
                files.pipe_file(f"{root}/{name}", content.getvalue())
        else:
            write_aside(self.folder.absolute() / name, lambda aside: aside.write_bytes(content.getvalue()))


class Scorer:
    """The actor that holds the model."""

    def __init__(self, files: Any, name: str, threads: int) -> None:
        """files: a reference to the content of each file of the version called `name`, such as voc/1."""
        import ray

        contents = ray.get(files)
        if "model.xml" not in contents:
            import_tensorflow(whole=True)  # it takes seconds, in which a worker that is ended would leave its folder
        with tempfile.TemporaryDirectory() as folder:
            for path, content in contents.items():
                file = Path(folder, name, path)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            self.model = LoadedModel(Path(folder, name), threads)

    def __call__(self, batch: Batch) -> pyarrow.Table:
        """The columns of a file, of what `decoded` returned."""
        failed = batch[ERROR] != ""
        labels = self.model.metadata.labels
        scores = np.zeros((len(failed), len(labels)), np.float32)
        if not failed.all():
            scores[~failed] = self.model.network(np.stack(list(batch["inputs"][~failed])))
        columns = [pyarrow.array(column, mask=failed) for column in np.ascontiguousarray(scores.T)]
        return pyarrow.table({PATH: pyarrow.array(batch[PATH].tolist(), pyarrow.string()),
                              **dict(zip(labels, columns, strict=True)),
                              ERROR: pyarrow.array(batch[ERROR].tolist(), pyarrow.string(), mask=~failed)})


def decoded(batch: Batch, wanted: Preprocessing) -> dict[str, Any]:
    """Images as inputs of the network, zeros where there is an error."""
    paths: list[str] = batch[PATH].tolist()
    inputs = np.zeros((len(paths), wanted.size, wanted.size, 3), np.float32)
    errors, failures, position = [""] * len(paths), dict[int, str](), 0
    with tempfile.TemporaryDirectory() as copies:
        for files in local_batches([Path(path) for path in paths], Path(copies), failures):
            for file in files:
                image = decoded_file(file, wanted)
                if isinstance(image, DataError):
                    name = store_url(paths[position]) or paths[position]
                    errors[position] = failures.get(position) or str(image).replace(str(file), name)
                else:
                    inputs[position] = image
                position += 1
    return {PATH: batch[PATH], "inputs": inputs, ERROR: np.array(errors, object)}


def predict_on_ray(images: Sequence[Path], folder: Path, out: Path, cpus: int, console: Console) -> tuple[int, int]:
    """Scores of images by an exported model into the folder `out`; returns how many it has now, and how many of those
    scored now have an error instead.

    Args:
        images: Files or URLs, which every machine of the cluster can read.
        folder: The exported model or version, on this machine alone.
        out: A folder, or the URL of one.
        cpus: Cores that each actor has.
        console: Where a progress bar is shown.
    """
    version = version_folder(folder)
    metadata = read_metadata(version)
    name = f"{version.parent.name}/{version.name}"
    digest = hashlib.sha256((version / "assets/voc_cls.json").read_bytes()).hexdigest()[:16]
    scores = Scores(out, f"{name} ({'OpenVINO' if by_openvino(version) else 'TensorFlow'}, {digest})")
    names = dict.fromkeys(store_url(image) or str(image.absolute()) for image in images)
    if clash := {PATH, ERROR} & set(metadata.labels):
        raise UsageError(f"{folder}: its label {clash.pop()!r} is also the name of a column of the scores; rename it")
    if bad := next((path for path in names if path != path.encode(errors="ignore").decode()), None):
        raise UsageError(f"{bad!r}: its name is not UTF-8, as Parquet wants all text; rename it")
    with scores.reserved():
        done = scores.paths()
        if strange := done - names.keys():
            raise UsageError(f"`out` {out}: has scores of {len(strange):,} images that are not among the given ones, "
                             f"such as {min(strange)}; choose another folder, or give these too")
        missing = [path for path in names if path not in done]
        if not missing:
            return len(done), 0
        with connected(cpus) as ray, progress_bar(console) as progress:
            parts = [pyarrow.table({PATH: missing[start:start + TASK_IMAGES]})
                     for start in range(0, len(missing), TASK_IMAGES)]
            files = ray.put({str(path.relative_to(version)): path.read_bytes()
                             for path in version.rglob("*") if path.is_file()})
            gpus = 0 if by_openvino(version) else min(1, ray.cluster_resources().get("GPU", 0))
            actors = ray.data.ActorPoolStrategy(min_size=1, max_size=len(parts), max_tasks_in_flight_per_actor=2)
            results = ray.data.from_arrow(parts).map_batches(
                decoded, batch_size=DECODED, fn_kwargs={"wanted": metadata.preprocessing}, num_cpus=cpus).map_batches(
                Scorer, batch_size=DECODED, compute=actors, num_cpus=cpus, num_gpus=gpus,
                fn_constructor_args=(files, name, cpus))
            task = progress.add_task("images", total=len(names), completed=len(done), note="")
            scored, errors = len(done), 0
            for rows in results.iter_batches(batch_size=FILE_ROWS, batch_format="pyarrow"):
                scores.write(rows)
                scored, errors = scored + len(rows), errors + len(rows) - rows[ERROR].null_count
                progress.update(task, completed=scored, note=f"{errors:,} errors")
    return scored, errors
