"""PyTorch's .pth, both kinds, without PyTorch: files as torch.save makes them, and files that want more."""

from __future__ import annotations

import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tests.torch_files import Parameter, Storage, Tensor, save_state_dict
from tests.torch_files import save as saved
from tests.torch_files import save_legacy as saved_before
from voc_cls.errors import WeightsError
from voc_cls.weights.formats import torch
from voc_cls.weights.tensors import TensorInfo

Save = Callable[[Path, object, list[Storage]], Path]
KINDS = pytest.mark.parametrize("save", [saved, saved_before])
NUMBERS = Storage("0", np.arange(12, dtype=np.float32))
HALVES = Storage("1", np.arange(4).astype(ml_dtypes.bfloat16))
STATE = OrderedDict(conv=Tensor(NUMBERS, 0, (3, 4), (4, 1)), turned=Tensor(NUMBERS, 0, (4, 3), (1, 4)),
                    every_other=Tensor(NUMBERS, 3, (3,), (2,)), half=Parameter(Tensor(HALVES, 0, (2, 2), (2, 1))),
                    epoch=3)


@KINDS
def test_views_of_shared_storages_are_read_at_their_offsets_and_strides(tmp_path: Path, save: Save):
    file = torch.read(save(tmp_path / "w.pth", STATE, [NUMBERS, HALVES]))
    assert file.tensors == {"conv": TensorInfo((3, 4), "float32"), "every_other": TensorInfo((3,), "float32"),
                            "half": TensorInfo((2, 2), "bfloat16"), "turned": TensorInfo((4, 3), "float32")}
    assert np.array_equal(file.read("conv"), np.arange(12).reshape(3, 4))
    assert np.array_equal(file.read("turned"), np.arange(12).reshape(3, 4).T)
    assert file.read("every_other").tolist() == [3, 5, 7]
    assert file.read("half").astype(float).tolist() == [[0, 1], [2, 3]]


@KINDS
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_tensors_below_keys_are_named_by_them_and_the_numbered_ones_of_an_optimizer_are_left(
        tmp_path: Path, save: Save, key: str):
    tensor = Tensor(NUMBERS, 0, (12,), (1,))
    momentum = Storage("9", np.zeros(2, np.float32))
    state = {"epoch": 3, key: {"module.fc.weight": tensor}, "optimizer": {0: {"m": Tensor(momentum, 0, (2,), (1,))}}}
    file = torch.read(save(tmp_path / "w.pth", state, [NUMBERS, momentum]))
    assert list(file.tensors) == [f"{key} > module.fc.weight"]


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch run",)


@KINDS
def test_a_pickle_that_wants_to_run_something_is_refused_in_a_sentence_and_does_not(
        tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "w.pth", {"conv": STATE["conv"], "more": Command()}, [NUMBERS])
    with pytest.raises(WeightsError, match=r"w\.pth holds the wish to run posix\.system") as caught:
        torch.read(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@KINDS
@pytest.mark.parametrize("tensor", [
    Tensor(NUMBERS, 1, (12,), (1,)), Tensor(NUMBERS, 0, (3, 4), (5, 1)), Tensor(NUMBERS, 0, (2**40,), (0,)),
    Tensor(NUMBERS, 0, (3,), (-1,)), Tensor(NUMBERS, -1, (3,), (1,)), Tensor(NUMBERS, 0, (3, 4), (1,)),
    Tensor(NUMBERS, 0, (True,), (1,))])
def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, save: Save, tensor: Tensor):
    with pytest.raises(WeightsError, match=r"in a storage of 12 numbers|impossible shape"):
        torch.read(save(tmp_path / "w.pth", {"a": tensor}, [NUMBERS]))


@KINDS
def test_a_storage_that_is_missing_or_of_another_length_is_refused(tmp_path: Path, save: Save):
    with pytest.raises(WeightsError, match="missing"):
        torch.read(save(tmp_path / "w.pth", STATE, [NUMBERS]))
    large = Storage("0", NUMBERS.values, claimed=10**12)
    with pytest.raises(WeightsError, match=r"4,000,000,000,000 bytes and has 48"):
        torch.read(save(tmp_path / "w.pth", {"a": Tensor(large, 0, (10**12,), (1,))}, [NUMBERS]))


@KINDS
@pytest.mark.parametrize("state", [{}, {"epoch": 3}, [1, 2], "text", {"a": np.zeros(2)}])
def test_a_file_without_tensors_says_what_to_save(tmp_path: Path, save: Save, state: object):
    with pytest.raises(WeightsError, match=r"no state_dict.*torch\.save\(model\.state_dict\(\)"):
        torch.read(save(tmp_path / "w.pth", state, []))


def test_archives_that_are_not_pytorchs_are_told_apart(tmp_path: Path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(WeightsError, match=r"not one of torch\.save"):
        torch.read(path)
    with pytest.raises(WeightsError, match="big-endian"):
        torch.read(saved(path, STATE, [NUMBERS, HALVES], byteorder=b"big"))
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"not a file of torch\.save"):
        torch.read(path)
    with pytest.raises(WeightsError, match="another version"):
        torch.read(saved_before(path, STATE, [NUMBERS, HALVES], version=999))


@KINDS
@pytest.mark.parametrize("part", [0.05, 0.5, 0.95])
def test_a_file_cut_short_is_one_sentence(tmp_path: Path, save: Save, part: float):
    content = save(tmp_path / "w.pth", STATE, [NUMBERS, HALVES]).read_bytes()
    (tmp_path / "w.pth").write_bytes(content[:int(part * len(content))])
    with pytest.raises(WeightsError, match=r"w\.pth") as caught:
        torch.read(tmp_path / "w.pth")
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_of_a_weight_fails_the_archives_checksum(tmp_path: Path):
    path = saved(tmp_path / "w.pth", STATE, [NUMBERS, HALVES])
    content = bytearray(path.read_bytes())
    content[content.index(NUMBERS.values.tobytes()) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        torch.read(path).read("every_other")


def test_a_state_dict_comes_in_bit_for_bit(tmp_path: Path):
    random = np.random.default_rng(0)
    arrays = {"kernel": random.standard_normal((2, 3, 4, 5), np.float32), "step": np.array(7, np.int64),
              "bfloat": random.standard_normal(5).astype(ml_dtypes.bfloat16), "empty": np.zeros((0, 3), np.float16)}
    file = torch.read(save_state_dict(tmp_path / "w.pth", arrays))
    for name, array in arrays.items():
        assert file.tensors[name] == TensorInfo(array.shape, array.dtype.name)
        assert file.read(name).tobytes() == array.tobytes()
