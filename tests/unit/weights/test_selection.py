"""Files of common trainers: the weights are found under their key and behind their prefix."""

from __future__ import annotations

import argparse
import collections
import datetime
import enum
import logging
import pathlib
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.torch_files import Storage, Tensor, save
from voc_cls.errors import WeightsError
from voc_cls.weights.formats import arrays
from voc_cls.weights.load import load_weights_file

VALUES = Storage("0", np.arange(6, dtype=np.float32))
EMA = Storage("1", np.arange(6, 12, dtype=np.float32))
RESNET = ("conv1.weight", "bn1.running_mean", "bn1.num_batches_tracked", "layer3.5.conv3.weight", "fc.bias")
VGG = ("features.0.weight", "features.28.weight", "classifier.0.bias")
SLIM = {"resnet_v1_50/conv1/weights", "resnet_v1_50/conv1/BatchNorm/moving_mean", "resnet_v1_50/logits/biases",
        "resnet_v1_50/block3/unit_6/bottleneck_v1/conv3/weights"}


def tensor(values: Storage = VALUES) -> Tensor:
    return Tensor(values, 0, (6,), (1,))


def state_dict(names: tuple[str, ...] = RESNET, prefix: str = "", values: Storage = VALUES) -> dict[str, Any]:
    return OrderedDict((f"{prefix}{name}", tensor(values)) for name in names)


def saved(path: Path, content: object) -> Path:
    return save(path, content, [VALUES, EMA])


@pytest.mark.parametrize("prefix", [
    "module.", "model.", "backbone.", "_orig_mod.", "net.", "encoder.", "_orig_mod.module.", "model.backbone.",
    "module._orig_mod.", "any.thing.at.all."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_common_prefix_is_found_and_told(tmp_path: Path, prefix: str, suffix: str):
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        saved(path, state_dict(prefix=prefix))
    else:
        arrays.write_safetensors(path, {f"{prefix}{name}": VALUES.values for name in RESNET})
    weights = load_weights_file(path)
    assert (weights.net, set(weights.tensors)) == ("resnet_v1_50", SLIM)
    assert weights.notes[0] == f"{path.name}: took the weights, without the prefix {prefix} of their names"
    assert set(weights.unnamed) == {"bn1.num_batches_tracked"}


def test_names_without_a_prefix_cause_no_note_on_one(tmp_path: Path):
    weights = load_weights_file(saved(tmp_path / "w.pth", state_dict()))
    assert set(weights.tensors) == SLIM
    assert all("prefix" not in note for note in weights.notes)


@pytest.mark.parametrize("infix", ["features.module.", "model.features.module.", "_orig_mod.features._orig_mod."])
def test_wrappers_within_the_network_are_taken_off_too(tmp_path: Path, infix: str):
    start = infix.partition("features.")[0]
    names = {f"{infix}{name.removeprefix('features.')}" if name.startswith("features.") else f"{start}{name}": tensor()
             for name in VGG}
    weights = load_weights_file(saved(tmp_path / "w.pth", names))
    assert set(weights.tensors) == {"vgg_16/conv1/conv1_1/weights", "vgg_16/conv5/conv5_3/weights", "vgg_16/fc6/biases"}


@pytest.mark.parametrize(("content", "key"), [
    ({"state_dict": state_dict(prefix="model."), "epoch": 1}, "state_dict"),
    ({"net": state_dict(), "optimizer": {"state": {0: {"exp_avg": tensor()}}, "param_groups": [{"lr": 0.1}]}}, "net"),
    ({"model_ema": state_dict(prefix="module.")}, "model_ema"),
    ({"state_dict_ema": state_dict(), "optimizer": {}}, "state_dict_ema"),
    ({"checkpoint": {"model": {"weights": state_dict()}}}, "checkpoint.model.weights"),
])
def test_the_weights_are_found_in_nested_dictionaries_and_the_key_is_told(tmp_path: Path, content: object, key: str):
    weights = load_weights_file(saved(tmp_path / "w.pth", content))
    assert set(weights.tensors) == SLIM
    assert f"took the weights under the key {key}" in weights.notes[0]


@pytest.mark.parametrize("averaged", ["model_ema", "state_dict_ema", "ema", "swa_model"])
def test_of_a_network_and_its_average_the_network_is_taken_unless_the_entry_says_otherwise(tmp_path: Path,
                                                                                          averaged: str):
    path = saved(tmp_path / "w.pth", {averaged: state_dict(prefix="module.", values=EMA), "state_dict": state_dict()})
    plain, average = load_weights_file(path), load_weights_file(path, entry=averaged)
    assert plain.read("resnet_v1_50/conv1/weights").tolist() == VALUES.values.tolist()
    assert f"the file also has {averaged}.module: choose with `weights_entry`" in plain.notes[0]
    assert average.read("resnet_v1_50/conv1/weights").tolist() == EMA.values.tolist()
    assert f"under the key {averaged}, without the prefix module." in average.notes[0]


def test_an_average_beside_the_weights_in_one_state_dict_is_an_entry_too(tmp_path: Path):
    both = {**state_dict(prefix="model."), **state_dict(prefix="ema_model.", values=EMA)}
    path = saved(tmp_path / "last.ckpt", {"state_dict": both, "pytorch-lightning_version": "2.5.0"})
    assert load_weights_file(path).read("resnet_v1_50/logits/biases")[0] == 0
    assert load_weights_file(path, entry="ema_model").read("resnet_v1_50/logits/biases")[0] == 6


def test_where_the_choice_is_not_clear_the_entries_are_listed(tmp_path: Path):
    path = saved(tmp_path / "w.pth", {"student": state_dict(prefix="module.backbone."), "teacher": state_dict()})
    with pytest.raises(WeightsError, match=r"several networks: student\.module\.backbone, teacher; choose"):
        load_weights_file(path)
    assert set(load_weights_file(path, entry="teacher").tensors) == SLIM
    with pytest.raises(WeightsError, match=r"under `weights_entry` ema; it has student\.module\.backbone, teacher"):
        load_weights_file(path, entry="ema")


def test_a_network_that_is_not_known_keeps_its_names_below_its_key(tmp_path: Path):
    path = saved(tmp_path / "w.pth", {"state_dict": {"module.stem.kernel": tensor()}, "step": 3})
    assert list(load_weights_file(path).tensors) == ["stem.kernel"]
    path = saved(tmp_path / "w.pth", {"generator": {"stem": tensor()}, "critic": {"stem": tensor()}})
    with pytest.raises(WeightsError, match="critic, generator"):
        load_weights_file(path)


def test_a_head_beside_the_backbone_is_kept_and_shown(tmp_path: Path):
    content = {**state_dict(prefix="backbone."), "fc.bias": tensor(EMA), "projector.weight": tensor()}
    weights = load_weights_file(saved(tmp_path / "w.pth", content))
    assert set(weights.tensors) == SLIM
    assert weights.read("resnet_v1_50/logits/biases").tolist() == VALUES.values.tolist()
    assert set(weights.unnamed) == {"bn1.num_batches_tracked", "fc.bias beside backbone.", "projector.weight"}


class Monitor(enum.Enum):
    LOSS = "loss"


class HyperParameters(dict[str, Any]):
    """As Lightning's AttributeDict: a dictionary of a class that is not there when the file is read."""


class Slots:
    __slots__ = ("value",)

    class Within:
        def method(self) -> None:
            """Is pickled by getattr."""

    def __init__(self) -> None:
        self.value = 3


def test_settings_of_a_training_beside_the_weights_are_no_obstacle_and_no_class_of_theirs_is_made(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settings = [argparse.Namespace(lr=0.1, arch="resnet50"), pathlib.PurePosixPath("/data"), {1, 2}, Monitor.LOSS,
                collections.defaultdict(list, a=[1]), collections.Counter("aab"), np.float64(0.5), np.arange(3),
                datetime.datetime(2026, 1, 1), HyperParameters(lr=0.1), Slots(), slice(1, 2), 1j,
                Slots.Within(), Slots.Within.method, logging.getLogger("trainer"), re.compile("a+")]
    callbacks = {HyperParameters: {"best": 1}, Monitor.LOSS: 2}
    path = saved(tmp_path / "w.ckpt", {"hyper_parameters": settings, "callbacks": callbacks, "args": settings[0],
                                       "state_dict": HyperParameters(state_dict(prefix="model."))})
    monkeypatch.setattr(HyperParameters, "__setitem__", lambda *_: pytest.fail("an object of the file was made"))
    assert set(load_weights_file(path).tensors) == SLIM


class Layer:
    """As a torch.nn.Module keeps what it has."""

    def __init__(self, parameters: Mapping[str, Tensor], **layers: Layer) -> None:
        self._parameters, self._buffers, self._modules = OrderedDict(parameters), OrderedDict[str, Any](), layers
        self.training = True


def test_a_whole_model_that_was_saved_gives_its_weights(tmp_path: Path):
    unit = Layer({}, conv3=Layer({"weight": tensor()}))
    model = Layer({}, conv1=Layer({"weight": tensor()}), layer3=Layer({}, **{"5": unit}))
    expected = {"resnet_v1_50/conv1/weights", "resnet_v1_50/block3/unit_6/bottleneck_v1/conv3/weights"}
    assert set(load_weights_file(saved(tmp_path / "w.pth", model)).tensors) == expected
    assert set(load_weights_file(saved(tmp_path / "w.pth", {"model": model, "epoch": 3})).tensors) == expected


def test_names_of_transformers_resnets_are_read_with_and_without_their_head(tmp_path: Path):
    layer = "encoder.stages.2.layers.5"
    names = ("embedder.embedder.convolution.weight", "embedder.embedder.normalization.running_var",
             f"{layer}.layer.2.convolution.weight", "encoder.stages.0.layers.0.shortcut.convolution.weight",
             "encoder.stages.3.layers.1.layer.0.normalization.bias")
    expected = {"resnet_v1_50/conv1/weights", "resnet_v1_50/conv1/BatchNorm/moving_variance",
                "resnet_v1_50/block3/unit_6/bottleneck_v1/conv3/weights",
                "resnet_v1_50/block1/unit_1/bottleneck_v1/shortcut/weights",
                "resnet_v1_50/block4/unit_2/bottleneck_v1/conv1/BatchNorm/beta"}
    assert set(load_weights_file(saved(tmp_path / "w.pth", state_dict(names))).tensors) == expected
    with_head = (*(f"resnet.{name}" for name in names), "classifier.1.bias")
    for prefix in ("", "model."):
        weights = load_weights_file(saved(tmp_path / "w.pth", state_dict(with_head, prefix)))
        assert set(weights.tensors) == expected | {"resnet_v1_50/logits/biases"}
        assert weights.normalisation == "torch"
        assert "v1.5" in weights.notes[-1]


def test_the_dense_layers_of_timms_vgg_are_convolutions(tmp_path: Path):
    values = Storage("0", np.arange(2 * 3 * 7 * 7, dtype=np.float32))
    state = {"features.28.weight": Tensor(values, 0, (2, 3, 1, 1), (3, 1, 1, 1)),
             "pre_logits.fc1.weight": Tensor(values, 0, (2, 3, 7, 7), (147, 49, 7, 1)),
             "pre_logits.fc2.weight": Tensor(values, 0, (4, 2, 1, 1), (2, 1, 1, 1)),
             "head.fc.weight": Tensor(values, 0, (5, 4), (4, 1))}
    weights = load_weights_file(save(tmp_path / "w.pth", state, [values]))
    assert weights.shapes == {"vgg_16/conv5/conv5_3/weights": (1, 1, 3, 2), "vgg_16/fc6/weights": (7, 7, 3, 2),
                              "vgg_16/fc7/weights": (1, 1, 2, 4), "vgg_16/fc8/weights": (1, 1, 4, 5)}
    assert weights.read("vgg_16/fc6/weights")[1, 2, 0, 1] == 147 + 1 * 7 + 2


@pytest.mark.parametrize("order", [("", "module."), ("module.", "")])
def test_of_the_same_names_with_and_without_a_wrapper_the_bare_ones_are_taken_and_the_others_told(
        tmp_path: Path, order: tuple[str, str]):
    values = {"": VALUES, "module.": EMA}
    path = saved(tmp_path / "w.pth", OrderedDict(
        item for prefix in order for item in state_dict(prefix=prefix, values=values[prefix]).items()))
    weights = load_weights_file(path)
    np.testing.assert_array_equal(weights.read("resnet_v1_50/logits/biases"), VALUES.values)
    assert "the file also has module: choose with `weights_entry`" in weights.notes[0]
    assert "without the prefix" not in weights.notes[0]
    wrapped = load_weights_file(path, entry="module")
    np.testing.assert_array_equal(wrapped.read("resnet_v1_50/logits/biases"), EMA.values)
