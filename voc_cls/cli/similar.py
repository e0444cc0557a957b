"""voc-data similar: the pictures that a model finds most similar to one."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from voc_cls.cli.predict import PredictConfig, Server, picture_files, predictions_of
from voc_cls.config import Range, check_ranges
from voc_cls.console import import_tensorflow
from voc_cls.errors import DataError, UsageError
from voc_cls.files import check_target
from voc_cls.prediction import Prediction, ScoredLabel


@dataclass(frozen=True)
class Similar:
    """List the pictures that are most similar to one, as a model sees them.

    Similarity is the cosine between embeddings, what enters the classifier of the
    network: 1 for the same picture. The model is a run, an exported model (--model
    models/voc) or that of a server. With --run and no folder the pictures that the
    run has trained on are searched; of a run of --trainable head, their features
    are in the cache already.

    Examples:
      voc-data similar a.jpg --run runs/head
      voc-data similar a.jpg archive/ --model models/voc --sheet similar.png
      voc-data similar a.jpg archive/ --server 127.0.0.1:8500
    """

    picture: Annotated[Path, tyro.conf.Positional]
    """The picture to compare with."""
    folders: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders to search, with their subfolders."""
    run_folder: Annotated[Path | None, tyro.conf.arg(name="run")] = None
    """Run folder: the --out of voc-train."""
    top: Annotated[int, Range(1, 200)] = 10
    """Number of pictures."""
    sheet: Path | None = None
    """Draw the picture and those that are similar into this PNG file."""
    json: bool = False
    """Print JSON."""
    cache_dir: Path | None = None
    """Folder for caches. Default: $VOC_CACHE_DIR, otherwise ~/.cache/voc-cls."""
    server: Server = field(default_factory=Server)

    def run(self) -> None:
        check_ranges(self)
        check_target("sheet", self.sheet, ".png")
        files, embeddings = self._of_folders() if self.folders else self._of_run()
        similarities = embeddings[1:] @ embeddings[0]
        found = [(files[row], float(similarities[row])) for row in (-similarities).argsort(kind="stable")[:self.top]]
        if self.json:
            print(json.dumps([{"file": str(file), "similarity": value} for file, value in found], indent=2))
        else:
            print(*(f"{value:.4f}  {file}" for file, value in found), sep="\n")
        if self.sheet is not None:
            from voc_cls.evaluation.contact_sheet import draw_sheet

            draw_sheet(self.sheet, [self.picture, *(file for file, _ in found)], [
                Prediction((ScoredLabel("similarity", value),), f"similar to {self.picture.name}")
                for value in (1.0, *(value for _, value in found))])
            print(f"{self.sheet}: {len(found)} pictures drawn", file=sys.stderr)

    def _of_folders(self) -> tuple[list[Path], Any]:
        """The files searched, and embeddings [1 + N, D] of the picture and of them; failures are reported on stderr."""
        import numpy as np

        files, _ = picture_files(self.folders, recursive=True)
        config = PredictConfig((self.picture, *files), run=self.run_folder, top_k=1, server=self.server)
        predictions = list(predictions_of(config, [config.pictures], explain=True))
        if predictions[0].error is not None:
            raise DataError(predictions[0].error)
        print(*(f"{prediction.error}\n" for prediction in predictions if prediction.error), sep="", end="",
              file=sys.stderr)
        return ([file for file, prediction in zip(files, predictions[1:], strict=True) if not prediction.error],
                np.stack([prediction.embedding for prediction in predictions if prediction.embedding is not None]))

    def _of_run(self) -> tuple[Sequence[Path], Any]:
        """The same of the run's own pictures."""
        if self.run_folder is None:
            raise UsageError(f"{self.picture}: no folder to search; name one after the picture, or a run by `run`")
        import numpy as np

        import_tensorflow()
        from voc_cls.training.trained_run import open_run, run_features, run_images

        trained = open_run(self.run_folder)
        dataset = run_images(trained)
        features = run_features(trained, dataset, self.cache_dir, lambda line: print(line, file=sys.stderr))
        embedding: Any = trained.explain([self.picture])[0].embedding
        found = features / np.linalg.norm(features, axis=1, keepdims=True)
        return dataset.paths, np.concatenate([embedding[None], found])
