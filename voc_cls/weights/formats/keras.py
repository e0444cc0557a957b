"""Keras' files, read under the names `LAYER/kernel`, `LAYER/gamma` and so on, however the file spells them.

    .h5           layers by name, as keras.applications publishes its weights: Keras 1, 2 and 3
    .weights.h5   Keras 3: layers by class and number, their names as attributes
    .keras        a ZIP archive of config.json and such a file

Read by h5py, not by Keras, whose loading builds the layers that a file describes. A .keras file is written by Keras
itself, the other two by h5py, because they may hold a part of a network.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from voc_cls.console import import_tensorflow
from voc_cls.errors import WeightsError
from voc_cls.weights.naming.keras import MODELS, recognise
from voc_cls.weights.tensors import NUMBERS, Array, TensorInfo, WeightFile, damage_reported, numpy_dtype

CONFIG, WEIGHTS = "config.json", "model.weights.h5"
VARIABLE = re.compile(r"(?:.*_)??(?P<name>W|b|pointwise_kernel|kernel|bias|gamma|beta|moving_mean|"
                      r"moving_variance|running_mean|running_std)(?:_\d+)?(?::\d+)?")
"""The last part of a name: kernel, kernel:0, block1_conv1_W_1:0 (Keras 1)."""
KERAS_1 = {"W": "kernel", "b": "bias", "running_mean": "moving_mean", "running_std": "moving_variance"}
"""What Keras 1 called them; its running_std was the variance."""
CLASSES = {"Conv2D": "conv2d", "DepthwiseConv2D": "depthwise_conv2d", "Dense": "dense",
           "BatchNormalization": "batch_normalization"}
"""Class of a layer → its name in Keras 3's files; the second one of a class is conv2d_1."""
ORDER = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
NUMBERED = {"conv2d": ORDER[:2], "depthwise_conv2d": ORDER[:2], "dense": ORDER[:2], "batch_normalization": ORDER[2:]}
"""Such a name → its variables, which Keras 3 numbers from 0."""


def read(path: Path) -> WeightFile:
    """Opens a file of Keras'; WeightsError where it is damaged, or of another library."""
    import h5py

    with damage_reported(f"{path}"):
        archived = zipfile.is_zipfile(path)
        source, names = _unpacked(path) if archived else (path, {})
        file = h5py.File(source, "r")
        weights = _inside(file, "model_weights") if "model_weights" in file else file
        if "layer_names" in weights.attrs or "layer_names0" in weights.attrs:
            kind, places = "Keras .h5", list(_by_name(weights))
        else:
            kind = f"Keras 3 {'.keras' if archived else '.weights.h5'}"
            places = list(_by_class(path, file, names))
        datasets = {name: _dataset(file, place) for name, place in places}
        if not datasets:
            raise WeightsError(f"{path} holds no layers of Keras, or none with weights: save them with Keras")
        if len(datasets) < len(places):
            raise WeightsError(f"{path} has two tensors with one name, so that it is not clear which one is meant: "
                               "save one network alone")
        tensors = {name: TensorInfo(dataset.shape, _dtype(dataset).name) for name, dataset in datasets.items()}

    def read_tensor(name: str) -> Array:
        return np.asarray(datasets[name][()]).view(_dtype(datasets[name]))

    return WeightFile(path, kind, tensors, read_tensor)


def _unpacked(path: Path) -> tuple[io.BytesIO, dict[str, str]]:
    """The HDF5 file in a .keras archive, and place of a layer in it (layers/conv2d_1) → its name by config.json."""
    with zipfile.ZipFile(path) as archive:
        if not {CONFIG, WEIGHTS} <= set(archive.namelist()):
            raise WeightsError(f"{path} is an archive but not one of Keras (which has {CONFIG} and {WEIGHTS}): save "
                               "the model with model.save")
        config = json.loads(archive.read(CONFIG))["config"]
        weights = io.BytesIO(archive.read(WEIGHTS))
    counts: dict[str, int] = {}
    names = {}
    for layer in config.get("layers", []):
        kind = CLASSES.get(layer["class_name"])
        if kind is not None:
            names[f"layers/{_numbered(kind, counts)}"] = str(layer["config"]["name"])
    return weights, names


def _by_name(weights: Any) -> Iterator[tuple[str, str]]:
    """(name, place) of each variable where a layer has a group, and an attribute that lists its variables."""
    for layer in _listed(weights, "layer_names"):
        group = _inside(weights, layer)
        listed = _listed(group, "weight_names")
        scopes = {name.rpartition("/")[0] for name in listed}
        for name in listed:
            scope, _, last = name.rpartition("/")
            match = VARIABLE.fullmatch(last)
            variable = KERAS_1.get(match["name"], match["name"]) if match else last
            owner = scope.rpartition("/")[2] if len(scopes) > 1 else layer  # several: a network within the network
            yield f"{owner}/{variable}", f"{group.name}/{name}"


def _by_class(path: Path, file: Any, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """(name, place) of each variable where layers are called conv2d, conv2d_1 …; `names` has theirs, by place."""
    places: list[str] = []
    file.visit(lambda place: places.append(place) if place.endswith("/vars") and not place.startswith("optimizer/")
               else None)
    for place in places:
        layer = place.removesuffix("/vars")
        variables = NUMBERED.get(re.sub(r"_\d+$", "", layer.rpartition("/")[2]), ())
        if not variables or not len(file[place]):
            continue
        if variables == NUMBERED["batch_normalization"] and len(file[place]) == len(variables) - 1:
            variables = variables[1:]  # without gamma, as in the Inceptions
        name = file[place].attrs.get("name", names.get(layer))
        if not isinstance(name, str):
            raise WeightsError(f"{path} does not name its layers ({layer}), as early versions of Keras 3 wrote it: "
                               "save the model as .keras and take that")
        for number in file[place]:
            variable = variables[int(number)] if number.isdecimal() and int(number) < len(variables) else number
            yield f"{name}/{variable}", f"{place}/{number}"


def _listed(group: Any, attribute: str) -> list[str]:
    """A list of names, which Keras cuts in pieces called NAME0, NAME1 … where it is long."""
    pieces = [group.attrs[attribute]] if attribute in group.attrs else []
    while f"{attribute}{len(pieces)}" in group.attrs:
        pieces.append(group.attrs[f"{attribute}{len(pieces)}"])
    return [name.decode() if isinstance(name, bytes) else str(name) for piece in pieces for name in piece]


def _inside(group: Any, place: str) -> Any:
    """What is at `place` below a group, if no link on the way leads to another file."""
    import h5py

    for part in place.strip("/").split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{place[:80]} is a link to another place or file, which is not followed")
        group = group[part]
    return group


def _dataset(file: Any, place: str) -> Any:
    """The array at `place`, if its values are in this file."""
    import h5py

    dataset = _inside(file, place)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None or dataset.external or dataset.is_virtual:
        raise ValueError(f"{place[:80]} is not an array, or has its values in another file, which is not opened")
    if _dtype(dataset).name not in NUMBERS:
        raise ValueError(f"{place[:80]} holds {dataset.dtype}, not numbers")
    return dataset


def _dtype(dataset: Any) -> np.dtype[Any]:
    """HDF5 has no bfloat16: Keras writes two bytes of nothing, and an attribute."""
    dtype: np.dtype[Any] = dataset.dtype
    return numpy_dtype("bfloat16") if dtype.str == "|V2" and dataset.attrs.get("dtype") == "bfloat16" else dtype


def write(path: Path, tensors: Mapping[str, Array]) -> None:
    """Writes tensors that are called LAYER/VARIABLE, in the order of the network's layers, as the suffix says."""
    import h5py

    if path.suffix == ".keras":
        _write_model(path, tensors)
        return
    layers: dict[str, list[str]] = {}
    for name in tensors:
        layers.setdefault(name.rpartition("/")[0], []).append(name)
    for names in layers.values():
        names.sort(key=lambda name: ORDER.index(name.rpartition("/")[2]))  # Keras reads them by their number
    with h5py.File(path, "w", libver="earliest") as file:
        if path.name.endswith(".weights.h5"):
            _write_by_class(file, layers, tensors)
        else:
            _write_by_name(file, layers, tensors)


def _write_by_name(file: Any, layers: Mapping[str, list[str]], tensors: Mapping[str, Array]) -> None:
    file.attrs["layer_names"] = [layer.encode() for layer in layers]
    file.attrs["backend"] = b"tensorflow"
    file.attrs["keras_version"] = b"2.0.0"  # of the layout
    for layer, names in layers.items():
        group = file.create_group(layer)
        group.attrs["weight_names"] = [f"{name}:0".encode() for name in names]
        for name in names:
            group[f"{name}:0"] = tensors[name]


def _write_by_class(file: Any, layers: Mapping[str, list[str]], tensors: Mapping[str, Array]) -> None:
    counts: dict[str, int] = {}
    for layer, names in layers.items():
        arrays = {name: tensors[name] for name in names}
        norm = {"gamma", "moving_mean"} & {name.rpartition("/")[2] for name in names}
        kernel = arrays.get(f"{layer}/kernel")
        kind = "batch_normalization" if norm else "conv2d" if kernel is not None and kernel.ndim == 4 else "dense"
        kind = "depthwise_conv2d" if kind == "conv2d" and layer.startswith("conv_dw_") else kind  # MobileNet's
        group = file.create_group(f"layers/{_numbered(kind, counts)}/vars")
        group.attrs["name"] = layer
        for number, array in enumerate(arrays.values()):
            group[str(number)] = array


def _write_model(path: Path, tensors: Mapping[str, Array]) -> None:
    """The network of keras.applications with these weights, saved by Keras."""
    net = recognise(tensors)
    if net not in MODELS:
        raise WeightsError(f"{path.name}: a .keras file holds the network too, and these tensors are not of one that "
                           f"keras.applications has ({', '.join(MODELS.values())}): write .h5")
    import_tensorflow()  # quietly, before Keras does
    import keras

    top = next((name for name in ("predictions/bias", "conv_preds/bias") if name in tensors), None)
    options: dict[str, Any] = {"classes": len(tensors[top]), "input_shape": (224, 224, 3)} if top else {}
    if net.startswith("mobilenet"):
        options["alpha"] = len(tensors["conv_pw_13_bn/beta"]) / 1024
    model = getattr(keras.applications, MODELS[net])(weights=None, include_top=top is not None, **options)
    differing = sorted({variable.path for variable in model.weights} ^ tensors.keys())
    if differing:
        raise WeightsError(f"{path.name}: a .keras file holds the whole {MODELS[net]}, and {len(differing)} tensors "
                           f"are missing or too many here, such as {differing[0]}: write .h5")
    for variable in model.weights:
        array = tensors[variable.path]
        if array.shape != tuple(variable.shape):
            raise WeightsError(f"{path.name}: {variable.path} is {list(array.shape)}, and Keras' {MODELS[net]} has "
                               f"{list(variable.shape)}: write .h5")
        variable.assign(array)
    model.save(path)


def _numbered(kind: str, counts: dict[str, int]) -> str:
    number = counts[kind] = counts.get(kind, -1) + 1
    return f"{kind}_{number}" if number else kind
