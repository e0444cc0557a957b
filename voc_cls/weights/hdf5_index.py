"""What is where in a file of Keras', found in a process of its own:  python -m voc_cls.weights.hdf5_index FILE

The HDF5 library reads past the end of its memory, or fills it, where a file is damaged on purpose or by chance. So it
only looks at the structure, here; the values are then read without it (keras_file.py).
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from voc_cls.errors import WeightsError
from voc_cls.weights.keras_archive import Window, layer_names, weights_member

VARIABLE = re.compile(r"(?:.*_)?(?P<name>W|b|kernel|bias|gamma|beta|moving_mean|moving_variance|running_mean|"
                      r"running_std)(?:_\d+)?(?::\d+)?")
"""The last part of a name: kernel, kernel:0, block1_conv1_W_1:0 (Keras 1)."""
TODAY = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
"""What Keras 1 called them; its running_std was the variance."""
NUMBERED = {"conv2d": ("kernel", "bias"), "dense": ("kernel", "bias"),
            "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance")}
"""Class of a layer → its variables, which Keras 3 numbers from 0."""
MOST_MEMORY = 2**31
"""Bytes; the structure of a real file takes a few million."""
NOT_READ = (OSError, KeyError, ValueError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError)
"""What h5py raises for damaged bytes."""


def main() -> None:
    """Prints {"format": …, "tensors": {name: [shape, dtype, offset]}} or {"error": …}; offsets in the whole file."""
    import h5py  # noqa: F401  before its memory is limited

    with contextlib.suppress(ImportError, ValueError, OSError):  # not on every system
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    try:
        found = index(Path(sys.argv[1]))
    except WeightsError as error:
        found = {"error": str(error)}
    print(json.dumps(found))


def index(path: Path) -> dict[str, Any]:
    """The structure of a file; WeightsError where it is damaged, or of another library."""
    names = layer_names(path)
    with _opened(path) as (file, start):
        weights = _inside(file, "model_weights") if "model_weights" in file else file
        if "layer_names" in weights.attrs or "layer_names0" in weights.attrs:
            kind, places = "Keras .h5", _by_layer(path, weights)
        else:
            kind, places = f"Keras 3 {'.weights.h5' if names is None else '.keras'}", _by_class(path, file, names or {})
        if not places:
            raise WeightsError(f"{path} holds no layers of Keras', or none with weights: save them with Keras")
        return {"format": kind, "tensors": {name: _described(path, _inside(file, place), start)
                                            for name, place in places.items()}}


def _by_layer(path: Path, weights: Any) -> dict[str, str]:
    """Name → place of the dataset where each layer has a group, and an attribute that lists its variables."""
    found: dict[str, str] = {}
    for layer in _listed(weights, "layer_names"):
        group = _inside(weights, layer)
        listed = _listed(group, "weight_names")
        scopes = {name.rpartition("/")[0] for name in listed}
        for name in listed:
            scope, _, last = name.rpartition("/")
            match = VARIABLE.fullmatch(last)
            variable = TODAY.get(match["name"], match["name"]) if match else last
            owner = scope.rpartition("/")[2] if len(scopes) > 1 else layer  # several: a network within the network
            _add(path, found, f"{owner}/{variable}", f"{group.name}/{name}")
    return found


def _by_class(path: Path, file: Any, names: dict[str, str]) -> dict[str, str]:
    """Name → place of the dataset where layers are called conv2d, conv2d_1 …; `names` has theirs, by place."""
    import h5py

    found: dict[str, str] = {}
    groups: list[Any] = []
    file.visititems(lambda name, thing: groups.append(thing) if isinstance(thing, h5py.Group)
                    and name.endswith("/vars") and not name.startswith("optimizer/") else None)
    for group in groups:
        layer = group.name.strip("/").removesuffix("/vars")
        variables = NUMBERED.get(re.sub(r"_\d+$", "", layer.rpartition("/")[2]), ())
        if not variables or not len(group):
            continue
        name = group.attrs.get("name", names.get(layer))
        if not isinstance(name, str):
            raise WeightsError(f"{path} says nothing of its layers' names ({layer}), as early versions of Keras 3 "
                               "wrote it: save the model as .keras and take that")
        for number in group:
            variable = variables[int(number)] if number.isdecimal() and int(number) < len(variables) else number
            _add(path, found, f"{name}/{variable}", f"{group.name}/{number}")
    return found


def _add(path: Path, found: dict[str, str], name: str, place: str) -> None:
    if name in found:
        raise WeightsError(f"{path} has two tensors called {name[:80]}, so that it is not clear which one is meant: "
                           "save one network alone")
    found[name] = place


def _listed(group: Any, attribute: str) -> list[str]:
    """A list of names, which Keras cuts in pieces called NAME0, NAME1 … where it is long."""
    pieces = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
    return [name.decode() if isinstance(name, bytes) else str(name) for piece in pieces for name in piece]


def _inside(group: Any, path: str) -> Any:
    """What is at `path` below a group, if no link on the way leads elsewhere."""
    import h5py

    for part in path.strip("/").split("/"):
        if not isinstance(group, h5py.Group):
            raise ValueError(f"{path[:80]} is not there")
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path[:80]} is a link to another place or file, which is not followed")
        group = group[part]
    return group


def _described(path: Path, dataset: Any, start: int) -> tuple[tuple[int, ...], str, int]:
    """(shape, NumPy's text for the dtype, offset) of a dataset whose values lie in this very file."""
    import h5py

    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{dataset.name} is no dataset")
    if dataset.external or dataset.is_virtual:
        raise WeightsError(f"{path}: {dataset.name} has its values in another file, which is not opened: save the "
                           "weights again in one file")
    offset = dataset.id.get_offset() if dataset.size else 0
    if offset is None:
        raise WeightsError(f"{path}: the values of {dataset.name} are compressed or not there, as Keras does not write "
                           "them: load and save the weights with Keras")
    if dataset.dtype.kind == "V" and dataset.dtype.itemsize == 2 and dataset.attrs.get("dtype") == "bfloat16":
        return dataset.shape, "bfloat16", start + offset
    if dataset.dtype.kind not in "fiub":
        raise ValueError(f"{dataset.name} holds {dataset.dtype}, no numbers")
    return dataset.shape, dataset.dtype.str, start + offset


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, int]]:
    """(the opened HDF5 file, where it starts); what damaged bytes raise becomes a sentence."""
    import h5py

    try:
        with weights_member(path) as source, h5py.File(source, "r") as file:
            yield file, source.start if isinstance(source, Window) else file.userblock_size
    except NOT_READ as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].strip(".'\"")[:160]
        raise WeightsError(f"{path} cannot be read as a file of Keras' ({reason}): it is damaged, cut short or of "
                           "another library; fetch it again, or save it with Keras") from error


if __name__ == "__main__":
    main()
