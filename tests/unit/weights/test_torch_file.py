"""PyTorch's .pth, both kinds, without PyTorch: files as torch.save makes them, and files that want more."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from voc_cls.errors import WeightsError
from voc_cls.weights.tensors import Outgoing, TensorInfo
from voc_cls.weights.torch_file import open_torch
from voc_cls.weights.torch_pickle import CLASSES
from voc_cls.weights.torch_writer import write_torch


@dataclass(frozen=True)
class Storage:
    key: str
    values: np.ndarray[Any, Any]
    claimed: int | None = None


@dataclass(frozen=True)
class Tensor:
    """Pickled as PyTorch pickles a tensor."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (self.storage, self.offset, self.shape, self.strides, False, OrderedDict())


@dataclass(frozen=True)
class Parameter:
    data: Tensor

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_parameter, (self.data, True, OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, thing: object) -> object:
        if not isinstance(thing, Storage):
            return None
        kind = getattr(sys.modules["torch"], CLASSES[thing.values.dtype.name])
        claimed = len(thing.values) if thing.claimed is None else thing.claimed
        return ("storage", kind, thing.key, "cpu", claimed, *([None] if self.legacy else []))

    legacy = False


class LegacyPickler(Pickler):
    legacy = True


@pytest.fixture(autouse=True)
def torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules with the names that are in PyTorch's pickles, for the pickler alone to find."""
    torch, inner = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in CLASSES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        setattr(inner, name, type(name, (), {"__module__": "torch._utils"}))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", inner)


def saved(path: Path, state: object, storages: list[Storage], **members: bytes) -> Path:
    """As torch.save has done since 1.6."""
    stream = BytesIO()
    Pickler(stream, 2).dump(state)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", stream.getvalue())
        archive.writestr("net/byteorder", members.get("byteorder", b"little"))
        for storage in storages:
            archive.writestr(f"net/data/{storage.key}", storage.values.tobytes())
        archive.writestr("net/version", b"3\n")
    return path


def saved_before(path: Path, state: object, storages: list[Storage], version: int = 1001) -> Path:
    """As torch.save did before 1.6."""
    with path.open("wb") as stream:
        pickle.dump(0x1950A86A20F9469CFC6C, stream, 2)
        pickle.dump(version, stream, 2)
        pickle.dump({"protocol_version": version, "little_endian": True, "type_sizes": {"int": 4}}, stream, 2)
        LegacyPickler(stream, 2).dump(state)
        pickle.dump([storage.key for storage in storages], stream, 2)
        for storage in storages:
            stream.write(struct.pack("<q", len(storage.values)) + storage.values.tobytes())
    return path


Save = Callable[[Path, object, list[Storage]], Path]
KINDS = pytest.mark.parametrize("save", [saved, saved_before])
NUMBERS = Storage("0", np.arange(12, dtype=np.float32))
HALVES = Storage("1", np.arange(4).astype(ml_dtypes.bfloat16))
STATE = OrderedDict(conv=Tensor(NUMBERS, 0, (3, 4), (4, 1)), turned=Tensor(NUMBERS, 0, (4, 3), (1, 4)),
                    every_other=Tensor(NUMBERS, 3, (3,), (2,)), half=Parameter(Tensor(HALVES, 0, (2, 2), (2, 1))),
                    epoch=3)


@KINDS
def test_views_of_shared_storages_are_read_at_their_offsets_and_strides(tmp_path: Path, save: Save):
    file = open_torch(save(tmp_path / "w.pth", STATE, [NUMBERS, HALVES]))
    assert file.tensors == {"conv": TensorInfo((3, 4), "float32"), "every_other": TensorInfo((3,), "float32"),
                            "half": TensorInfo((2, 2), "bfloat16"), "turned": TensorInfo((4, 3), "float32")}
    assert np.array_equal(file.read("conv"), np.arange(12).reshape(3, 4))
    assert np.array_equal(file.read("turned"), np.arange(12).reshape(3, 4).T)
    assert file.read("every_other").tolist() == [3, 5, 7]
    assert file.read("half").astype(float).tolist() == [[0, 1], [2, 3]]


@KINDS
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_weights_beside_the_state_of_a_training_are_found_and_lose_the_prefix_of_data_parallel(
        tmp_path: Path, save: Save, key: str):
    tensor = Tensor(NUMBERS, 0, (12,), (1,))
    momentum = Storage("9", np.zeros(2, np.float32))
    state = {"epoch": 3, key: {"module.fc.weight": tensor}, "optimizer": {"m": Tensor(momentum, 0, (2,), (1,))}}
    assert list(open_torch(save(tmp_path / "w.pth", state, [NUMBERS, momentum])).tensors) == ["fc.weight"]


class Command:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch run",)


@KINDS
def test_a_pickle_that_wants_to_run_something_is_refused_in_a_sentence_and_does_not(
        tmp_path: Path, save: Save, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    path = save(tmp_path / "w.pth", {"conv": STATE["conv"], "more": Command()}, [NUMBERS])
    with pytest.raises(WeightsError, match=r"w\.pth holds the wish to run posix\.system") as caught:
        open_torch(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@KINDS
@pytest.mark.parametrize("tensor", [
    Tensor(NUMBERS, 1, (12,), (1,)), Tensor(NUMBERS, 0, (3, 4), (5, 1)), Tensor(NUMBERS, 0, (2**40,), (0,)),
    Tensor(NUMBERS, 0, (3,), (-1,)), Tensor(NUMBERS, -1, (3,), (1,)), Tensor(NUMBERS, 0, (3, 4), (1,)),
    Tensor(NUMBERS, 0, (True,), (1,)), Tensor(NUMBERS, 0, (1,) * 40, (1,) * 40)])
def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, save: Save, tensor: Tensor):
    with pytest.raises(WeightsError, match=r"in a storage of 12 numbers|impossible shape"):
        open_torch(save(tmp_path / "w.pth", {"a": tensor}, [NUMBERS]))


@KINDS
def test_a_storage_that_is_missing_or_of_another_length_is_refused(tmp_path: Path, save: Save):
    with pytest.raises(WeightsError, match="missing"):
        open_torch(save(tmp_path / "w.pth", STATE, [NUMBERS]))
    large = Storage("0", NUMBERS.values, claimed=10**12)
    with pytest.raises(WeightsError, match=r"4,000,000,000,000 bytes and has 48|is not what the list"):
        open_torch(save(tmp_path / "w.pth", {"a": Tensor(large, 0, (10**12,), (1,))}, [NUMBERS]))


@KINDS
@pytest.mark.parametrize("state", [{}, {"epoch": 3}, [1, 2], "text", {"a": np.zeros(2)}])
def test_a_file_without_tensors_says_what_to_save(tmp_path: Path, save: Save, state: object):
    with pytest.raises(WeightsError, match=r"no state_dict.*torch\.save\(model\.state_dict\(\)"):
        open_torch(save(tmp_path / "w.pth", state, []))


def test_archives_that_are_not_pytorchs_are_told_apart(tmp_path: Path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    with pytest.raises(WeightsError, match=r"none of torch\.save"):
        open_torch(path)
    with pytest.raises(WeightsError, match="big-endian"):
        open_torch(saved(path, STATE, [NUMBERS, HALVES], byteorder=b"big"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}.")
    with pytest.raises(WeightsError, match="was compressed"):
        open_torch(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"no file of torch\.save"):
        open_torch(path)
    with pytest.raises(WeightsError, match="another version"):
        open_torch(saved_before(path, STATE, [NUMBERS, HALVES], version=999))


@KINDS
def test_cut_and_flipped_files_give_a_sentence_or_tensors_never_another_error(tmp_path: Path, save: Save):
    content = save(tmp_path / "w.pth", STATE, [NUMBERS, HALVES]).read_bytes()
    random, refused = np.random.default_rng(1), 0
    for number in range(150):
        copy = bytearray(content[:random.integers(len(content))] if number % 2 else content)
        for place in random.integers(0, max(1, len(copy)), 2 * (number % 2 == 0)):
            copy[place] ^= int(random.integers(1, 256))
        (tmp_path / "x.pth").write_bytes(copy)
        try:
            file = open_torch(tmp_path / "x.pth")
            for name in file.tensors:
                file.read(name)
        except WeightsError:
            refused += 1
    assert refused > 75


def test_a_flipped_bit_of_a_weight_fails_the_archives_checksum(tmp_path: Path):
    path = saved(tmp_path / "w.pth", STATE, [NUMBERS, HALVES])
    content = bytearray(path.read_bytes())
    content[content.index(NUMBERS.values.tobytes()) + 40] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        open_torch(path).read("every_other")


def outgoing(arrays: dict[str, np.ndarray[Any, Any]]) -> list[Outgoing]:
    return [Outgoing(name, TensorInfo(array.shape, array.dtype.name), lambda array=array: array)
            for name, array in arrays.items()]


def test_what_is_written_comes_back_bit_for_bit_and_is_aligned_as_pytorch_aligns_it(tmp_path: Path):
    random = np.random.default_rng(0)
    arrays = {"kernel": random.standard_normal((2, 3, 4, 5)).astype(np.float32).transpose(3, 2, 0, 1),
              "bfloat": random.standard_normal(5).astype(ml_dtypes.bfloat16), "step": np.array(7, np.int64),
              "empty": np.zeros((0, 3), np.float16)}
    write_torch(tmp_path / "w.pth", outgoing(arrays))
    file = open_torch(tmp_path / "w.pth")
    for name, array in arrays.items():
        assert file.tensors[name] == TensorInfo(array.shape, array.dtype.name)
        assert file.read(name).tobytes() == array.tobytes()
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
    assert (tmp_path / "w.pth").read_bytes().index(arrays["kernel"].tobytes()) % 64 == 0


def test_the_pickle_that_is_written_is_the_one_that_pytorch_writes(tmp_path: Path):
    """torch.load(weights_only=True) reads it: tried by hand with PyTorch 2.13, which no test may depend on."""
    write_torch(tmp_path / "w.pth", outgoing({"fc.weight": np.zeros((2, 3), np.float32)}))
    with zipfile.ZipFile(tmp_path / "w.pth") as archive:
        found = LoadedByName(BytesIO(archive.read("archive/data.pkl"))).load()
    ((name, (rebuild, (storage, *view))),) = found
    assert (name, rebuild) == ("fc.weight", "torch._utils._rebuild_tensor_v2")
    assert storage == ("storage", "torch.FloatStorage", "0", "cpu", 6)
    assert view == [0, (2, 3), (3, 1), False, {}]


class LoadedByName(pickle._Unpickler):  # type: ignore[name-defined, misc]
    """Shows a pickle: calls as (name, arguments), references as they are."""

    def find_class(self, module: str, name: str) -> Any:
        if name == "OrderedDict":
            return Pairs
        return lambda *arguments: (f"{module}.{name}", arguments) if arguments else f"{module}.{name}"

    def persistent_load(self, reference: Any) -> Any:
        return tuple(part() if callable(part) else part for part in reference)


class Pairs(dict[str, Any]):
    def __iter__(self) -> Any:
        return iter(self.items())


def test_a_type_that_pytorch_has_no_storage_for_is_refused_before_anything_is_written(tmp_path: Path):
    with pytest.raises(WeightsError, match="uint16"):
        write_torch(tmp_path / "w.pth", outgoing({"a": np.zeros(2, np.uint16)}))
    assert not list(tmp_path.iterdir())
