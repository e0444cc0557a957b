"""voc-data next: which unlabelled pictures to label next."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from voc_cls.config import Range, check_ranges
from voc_cls.console import import_tensorflow, warn
from voc_cls.files import check_target

if TYPE_CHECKING:
    from voc_cls.evaluation.predictions import Floats, Predictions


@dataclass(frozen=True)
class Next:
    """List the unlabelled pictures to label next, in order, as CSV: file, uncertainty, predicted (separated by |).

    Chosen are pictures whose labels would change the model's head the most, and in
    different ways (BADGE: docs/data-sets.md).

    Examples:
      voc-data next runs/head photos --count 100 > next.csv
      voc-data next models/voc photos --count 100 --label-studio tasks.json
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN|MODEL")]
    """Run folder, the --out of voc-train, or the folder of an exported model, such as models/voc."""
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Files or folders, with subfolders, or .txt lists with a path in each line. Pictures of a run's training split are
    left out; an exported model does not know its own."""
    count: Annotated[int, Range(1)] = 100
    """Number of pictures to choose."""
    seed: Annotated[int, Range(0)] = 0
    """Random seed: the same seed chooses the same pictures."""
    label_studio: Path | None = None
    """Write tasks with the predictions as pre-annotations to this JSON file, and the labelling configuration beside it
    as .xml, to import into Label Studio."""
    json: bool = False
    """Print JSON instead of CSV."""
    cache_dir: Path | None = None
    """Folder for caches. Default: $VOC_CACHE_DIR, otherwise ~/.cache/voc-cls."""

    def run(self) -> None:
        check_ranges(self)
        from voc_cls.cli.predict import picture_files

        tasks = self.label_studio
        check_target("label_studio", tasks)
        files, left_out = picture_files(self.pictures, recursive=True, lists=True)
        warn(left_out)
        import_tensorflow()
        from voc_cls.evaluation.active_learning import candidates, unlabelled
        from voc_cls.pre_annotations import write_tasks
        from voc_cls.training.trained_run import open_run, run_images, run_predictions

        note = partial(print, file=sys.stderr)
        trained = None if any(self.model.glob("**/assets")) else open_run(self.model)
        pool = unlabelled(files, run_images(trained).paths if trained else ())
        note(f"{len(pool):,} of {len(files):,} pictures are neither known to be labelled nor copies of others")
        images = candidates(*(run_predictions(trained, pool, self.cache_dir, note) if trained else
                              self._by_export(tuple(pool.values()))), self.count, self.seed)
        rows: list[dict[str, Any]] = [
            {"file": str(image.file), "uncertainty": round(image.uncertainty, 4),
             "predicted": [scored.label for scored in image.prediction.seen()]} for image in images]
        if self.json:
            print(json.dumps({"next": rows}, indent=2, ensure_ascii=False))
        else:
            csv.writer(sys.stdout, lineterminator="\n").writerows([rows[0].keys(), *(
                (row["file"], row["uncertainty"], "|".join(row["predicted"])) for row in rows)])
        if tasks is not None:
            note(write_tasks(tasks, [(str(image.file), image.prediction) for image in images]))

    def _by_export(self, files: tuple[Path, ...]) -> tuple[Floats, Predictions]:
        """Embeddings [N, D] and predictions of an exported model."""
        import numpy as np

        from voc_cls.data.dataset import Task
        from voc_cls.evaluation.predictions import Predictions
        from voc_cls.loaded_model import LoadedModel

        model = LoadedModel(self.model)
        (task,) = (task for task in Task if task.activation == model.metadata.activation)
        answers = [(answer.embedding, {scored.label: scored.probability for scored in answer.labels})
                   for file in files for answer in model.predict([file], explain=True)]  # without their heat maps
        probabilities = np.array([[scores[label] for label in model.metadata.labels] for _, scores in answers])
        return (np.array([embedding for embedding, _ in answers]),
                Predictions(files, model.metadata.labels, probabilities, task, model.name))
