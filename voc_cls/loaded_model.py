"""An exported model in this process: image files → predictions, without a server and without the run.

OpenVINO computes a version that has a model.xml, and nothing needs TensorFlow then; TensorFlow computes the others.
Images are decoded as voc-serve decodes them, so the probabilities are the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt

from voc_cls.console import import_tensorflow
from voc_cls.data.files import ADVICE, LOOK, MAX_PIXELS, read_header
from voc_cls.errors import DataError, ExportError, reason
from voc_cls.image_decoder import Inputs, Preprocessing, decode, prepare
from voc_cls.image_header import ImageError, image_work
from voc_cls.model_metadata import EXPLAIN_TENSORS, EXPORT_AGAIN, read_metadata, version_number, versions
from voc_cls.openvino_core import import_openvino, openvino_core
from voc_cls.prediction import Prediction

BATCH_SIZE = 16
"""Images that are in memory, and that the network sees, at once."""

Network = Callable[[Inputs], npt.NDArray[np.float32]]
"""float32 [N, size, size, 3] → probabilities [N, classes]."""
Outputs = Callable[[Inputs], Sequence[npt.NDArray[np.float32]]]
"""The same, several outputs."""
EXPLAINED = ("probabilities", "heat_maps", "embedding")


class LoadedModel:
    """One version of an exported model, ready to predict."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        """folder: a model's, of which the highest version is loaded, or a version's. threads: of OpenVINO; default:
        one for each core. Raises ExportError."""
        version = version_folder(folder)
        self.name, self.version = version.parent.name, int(version.name)
        self.metadata = read_metadata(version)
        """Labels, thresholds, activation, metrics and what else the export says of the model."""
        try:
            self._load = partial(_openvino if by_openvino(version) else _tensorflow, version, threads)
            outputs = self._load("predict_tensors", ("probabilities",))
            self.network: Network = lambda inputs: outputs(inputs)[0]
            """float32 [N, size, size, 3] → probabilities [N, classes]."""
        except ModuleNotFoundError:
            raise
        except Exception as error:  # both raise many kinds for damaged files
            raise ExportError(f"{version}: cannot be loaded ({reason(error)}); export the model again") from error

    @cached_property
    def _explain(self) -> Outputs:
        """float32 [N, size, size, 3] → EXPLAINED; ExportError if the version has none."""
        if not self.metadata.explains:
            raise ExportError(f"version {self.version} of model '{self.name}' {EXPORT_AGAIN}")
        return self._load(EXPLAIN_TENSORS, EXPLAINED)

    def predict(self, images: Sequence[Path | str | bytes], *, top_k: int = 0, raise_errors: bool = True,
                explain: bool = False) -> list[Prediction]:
        """Predictions for image files, in the same order.

        Args:
            images: JPEG, PNG, BMP, GIF, WebP or TIFF files, or their content.
            top_k: How many labels of each image to keep, the most probable ones; 0: all.
            raise_errors: Whether an image that cannot be decoded raises DataError, which names it. False: its
                prediction has an `error`, and the others have their labels.
            explain: Whether labels have heat maps, and predictions embeddings.
        """
        predictions: list[Prediction] = []
        network: Outputs = self._explain if explain else lambda inputs: (self.network(inputs),)
        with ThreadPool() as pool:
            for start in range(0, len(images), BATCH_SIZE):
                batch = images[start:start + BATCH_SIZE]
                decoded = pool.map(lambda image: decoded_file(image, self.metadata.preprocessing), batch)
                errors = [image for image in decoded if isinstance(image, DataError)]
                if errors and raise_errors:
                    raise errors[0]
                inputs = [image for image in decoded if not isinstance(image, DataError)]
                rows = zip(*network(np.stack(inputs)), strict=True) if inputs else iter(())
                predictions += [Prediction((), "", error=str(image)) if isinstance(image, DataError) else
                                self._prediction(top_k, *next(rows)) for image in decoded]
        return predictions

    def _prediction(self, top_k: int, probabilities: Inputs, heat_maps: Inputs | None = None,
                    embedding: Inputs | None = None) -> Prediction:
        prediction = Prediction.from_probabilities(probabilities, self.metadata.labels, self.name,
                                                   self.metadata.activation, top_k, heat_maps)
        return replace(prediction, version=self.version, calibration=self.metadata.calibration, embedding=embedding)


def _load_pyfunc(path: str) -> SimpleNamespace:
    """MLflow loads a registered model by this name. Its `predict` takes a table whose first column has image files or
    their bytes, and returns one of the same rows with the probability of each label, 0 to 1."""
    import pandas as pd

    model = LoadedModel(Path(path))

    def predict(images: pd.DataFrame) -> pd.DataFrame:
        rows = [{scored.label: scored.probability for scored in prediction.labels}
                for prediction in model.predict(list(images.iloc[:, 0]))]
        return pd.DataFrame(rows, images.index, list(model.metadata.labels))

    return SimpleNamespace(predict=predict, get_raw_model=lambda: model)


def decoded_file(image: Path | str | bytes, wanted: Preprocessing) -> Inputs | DataError:
    """float32 [size, size, 3] of an image file or its content, as `wanted`, or why there is none."""
    name = f"an image of {len(image):,} bytes" if isinstance(image, bytes) else str(image)
    try:
        if not isinstance(image, bytes):
            read_header(Path(image))
            image = Path(image).read_bytes()
        return prepare(decode(image_work(image, MAX_PIXELS)), wanted)
    except DataError as error:
        return error
    except OSError as error:
        return DataError(f"{name}: cannot be read ({error.strerror}); {LOOK}")
    except ImageError as error:
        return DataError(f"{name}: is {error}; {ADVICE}")


def version_folder(folder: Path) -> Path:
    """The folder of the highest version; 007 is 7. ExportError if there is none."""
    resolved = folder.resolve()
    if version_number(resolved.name) is not None and (resolved / "assets").is_dir():
        return resolved
    found = versions(resolved)
    if not found:
        raise ExportError(f"{folder}: has no version of a model in it (a folder named by a whole number); name the "
                          "folder that voc-export wrote, such as models/voc")
    return found[max(found)]


def by_openvino(version: Path) -> bool:
    """Whether OpenVINO computes a version here, and not TensorFlow."""
    return (version / "model.xml").exists() and (
        importlib.util.find_spec("openvino") is not None or not (version / "saved_model.pb").exists())


def _openvino(version: Path, threads: int | None, _: str, outputs: Sequence[str]) -> Outputs:
    """In float32, but for the layers that were exported as int8."""
    openvino = import_openvino(whole=True)  # for a later training in this process
    core = openvino_core()
    model = core.read_model(version / "model.xml")
    model = openvino.Model([model.output(name) for name in outputs], model.get_parameters())
    # several processes would pin their threads to the same cores
    limits = {} if threads is None else {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
    network = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", **limits})
    return lambda inputs: network(inputs).to_tuple()


def _tensorflow(version: Path, _: int | None, name: str, outputs: Sequence[str]) -> Outputs:
    tensorflow = import_tensorflow(whole=True)
    signature = tensorflow.saved_model.load(str(version)).signatures[name]

    def compute(inputs: Inputs) -> list[npt.NDArray[np.float32]]:
        values = signature(inputs=tensorflow.constant(inputs))
        return [values[output].numpy() for output in outputs]

    return compute
