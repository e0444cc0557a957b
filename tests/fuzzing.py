"""Inputs that no honest client sends, made from real ones by mutation; the same seed makes the same inputs.

Not hypothesis or atheris: what is tried here is a whole server in another process, so there is no coverage to be guided
by, and a fault is reported with its seed and its bytes instead of being shrunk.
"""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from PIL import Image
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

INTEGERS = (0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, -2**31, 2**32 - 1,
            2**53, 2**63 - 1, -2**63, 2**64 - 1)
TEXTS = ("", "tiny", "stable", "10", "serving_default", "predict_images", "predict_tensors", "preprocess", "classify",
         "image_bytes", "images", "inputs", "examples", "image/encoded", "probabilities", "signature_def",
         "tensorflow/serving/classify", "tensorflow/serving/regress", "tensorflow", "voc_cls.v1.Classifier", "..",
         "../../etc/passwd", "/", ".", "a\0b", "a\nb\r\nc: d", "%s%n{0}", "\u202e\ufeff", "🖼" * 40, "'\"<&=;,",
         "x" * 99, "x" * 20_000, "\n\0" * 5_000, "é" * 9_000)
FLOATS = (0.0, -0.0, 0.5, 1.0, -1.0, 1e-45, 3.4e38, float("nan"), float("inf"), float("-inf"))
SIGNATURES = {"serving_default": "image_bytes", "predict_images": "images", "predict_tensors": "inputs",
              "preprocess": "image_bytes", "classify": "examples"}
MAGIC = (b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\xff\xd8\xff\xc0\x00\x11\x08", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"BM",
         b"GIF89a", b"GIF87a", b"RIFF\0\0\0\0WEBPVP8 ", b"II*\0", b"%PDF-1.7", b"<svg ", b"PK\x03\x04")
DEEPEST = 4
"""Levels of messages within messages."""


def real_pictures() -> list[bytes]:
    """Small files of every kind that the decoders know, from different encoders' branches."""
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels)
    frames = [picture.rotate(90 * turn) for turn in range(3)]

    def saved(one: Image.Image, kind: str, **options: Any) -> bytes:
        file = io.BytesIO()
        one.save(file, kind, **options)
        return file.getvalue()

    return [saved(picture, "JPEG"), saved(picture, "JPEG", progressive=True), saved(picture.convert("L"), "JPEG"),
            saved(picture.convert("CMYK"), "JPEG"), saved(picture, "JPEG", subsampling=2, restart_marker_blocks=1),
            saved(picture, "PNG"), saved(picture.convert("P"), "PNG"), saved(picture.convert("RGBA"), "PNG"),
            saved(picture.convert("1"), "PNG"), saved(Image.fromarray(pixels[..., 0].astype(np.uint16) << 8), "PNG"),
            saved(picture, "BMP"), saved(picture.convert("L"), "BMP"), saved(picture.convert("RGBA"), "BMP"),
            saved(picture, "GIF"), saved(frames[0], "GIF", save_all=True, append_images=frames[1:])]


class Fuzzer:
    """An endless source of bad inputs."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._pictures = real_pictures()

    def mutated(self, content: bytes) -> bytes:
        """`content` with one to four wounds."""
        for _ in range(self.random.choice((1, 1, 1, 2, 4))):
            content = self.random.choice(WOUNDS)(self.random, content)
        return content

    def picture(self) -> bytes:
        """What a decoder should refuse, or take without harm."""
        content = self.random.choice(self._pictures)
        kind = self.random.randrange(8)
        if kind < 3:
            return self.mutated(content)
        if kind < 5:
            return self._lying(content)
        if kind == 5:
            return self.mutated(self._lying(content))
        if kind == 6:
            return content + self.random.choice((b"", self.random.choice(self._pictures)))
        return self.random.choice(MAGIC) + self.random.randbytes(self.random.randrange(2_000))

    def _lying(self, content: bytes) -> bytes:
        """A header that claims another size, or other depths and offsets; a PNG's checksum is made to fit the lie."""
        damaged = bytearray(content)
        width, height = self._size(), self._size()
        if content.startswith(b"\xff\xd8"):
            frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
            struct.pack_into(">HH", damaged, frame + 5, height & 0xFFFF, width & 0xFFFF)
        elif content.startswith(b"\x89PNG"):
            struct.pack_into(">II", damaged, 16, width & 0xFFFFFFFF, height & 0xFFFFFFFF)
            if self.random.random() < 0.5:
                damaged[24:29] = self.random.randbytes(5)  # depth, colour type, compression, filter, interlace
            struct.pack_into(">I", damaged, 29, zlib.crc32(damaged[12:29]))
        elif content.startswith(b"BM"):
            struct.pack_into("<II", damaged, 18, width & 0xFFFFFFFF, height & 0xFFFFFFFF)
            if self.random.random() < 0.5:
                struct.pack_into("<I", damaged, 10, self._size() & 0xFFFFFFFF)  # where the pixels begin
            if self.random.random() < 0.5:
                struct.pack_into("<H", damaged, 28, self.random.choice((0, 1, 4, 8, 16, 24, 32, 64, 65535)))
        else:
            at = self.random.choice((6, max(6, content.find(b"\x2c\0\0\0\0") + 5)))
            struct.pack_into("<HH", damaged, at, width & 0xFFFF, height & 0xFFFF)
        return bytes(damaged)

    def _size(self) -> int:
        return self.random.choice((0, 1, 31, 33, 1_000, 1_414, 30_000, 65_535, 2**31 - 1, 2**31, 2**32 - 1, 24, -24))

    def message(self, kind: Any, real: Any) -> bytes:
        """A message of the class `kind`, sometimes no message at all. `real` is one that a client could send."""
        way = self.random.randrange(4)
        if way == 0:
            return self.mutated(real.SerializeToString())
        message = kind()
        if way == 1:
            message.CopyFrom(real)
        self.fill(message)
        content: bytes = message.SerializeToString()
        return self.mutated(content) if way == 3 else content

    def fill(self, message: Any, depth: int = 0) -> None:
        """Gives fields values of the right type and of no sense."""
        for field in message.DESCRIPTOR.fields:
            if self.random.random() < (0.5 if depth < 2 else 0.75):
                continue
            if field.message_type is not None and field.message_type.GetOptions().map_entry:
                self._fill_map(getattr(message, field.name), field.message_type.fields_by_name, depth)
            elif field.is_repeated:
                for _ in range(self.random.choice((0, 1, 1, 2, 5))):
                    if field.message_type is None:
                        getattr(message, field.name).append(self._value(field))
                    elif depth < DEEPEST:
                        self.fill(getattr(message, field.name).add(), depth + 1)
            elif field.message_type is None:
                setattr(message, field.name, self._value(field))
            elif depth < DEEPEST:
                getattr(message, field.name).SetInParent()
                self.fill(getattr(message, field.name), depth + 1)

    def _fill_map(self, entries: Any, fields: Any, depth: int) -> None:
        for _ in range(self.random.choice((0, 1, 1, 2))):
            key = self._value(fields["key"])
            if fields["value"].message_type is None:
                entries[key] = self._value(fields["value"])
            elif depth < DEEPEST:
                self.fill(entries[key], depth + 1)

    def _value(self, field: FieldDescriptor) -> Any:
        kind = field.cpp_type
        if kind == FieldDescriptor.CPPTYPE_STRING:
            return self.picture() if field.type == FieldDescriptor.TYPE_BYTES else self.text()
        if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
            return self.random.choice(FLOATS)
        if kind == FieldDescriptor.CPPTYPE_BOOL:
            return self.random.random() < 0.5
        if kind == FieldDescriptor.CPPTYPE_ENUM:
            return self.random.choice((*(value.number for value in field.enum_type.values), 0))
        signed = kind in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
        bits = 64 if kind in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64) else 32
        low, high = (-2**(bits - 1), 2**(bits - 1) - 1) if signed else (0, 2**bits - 1)
        return self.random.choice([number for number in INTEGERS if low <= number <= high])

    def text(self) -> str:
        """A name that is none, or one in the wrong place."""
        return self.random.choice(TEXTS)

    def predict_request(self) -> bytes:
        """A Predict call that names a signature and its input, with a tensor that may be anything."""
        signature, name = self.random.choice(list(SIGNATURES.items()))
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = signature
        if self.random.random() < 0.1:
            request.output_filter.append(self.text())
        request.inputs[name].CopyFrom(self._tensor(signature))
        if self.random.random() < 0.05:
            request.inputs[self.text()].CopyFrom(self._tensor(signature))
        return bytes(request.SerializeToString())

    def _tensor(self, signature: str) -> tensor_pb2.TensorProto:
        """A tensor of the right type in most cases, whose shape and content often do not belong together."""
        right = {"predict_images": types_pb2.DT_UINT8, "predict_tensors": types_pb2.DT_FLOAT}
        dtype = right.get(signature, types_pb2.DT_STRING)
        tensor = tensor_pb2.TensorProto(dtype=dtype if self.random.random() < 0.9 else self.random.randrange(1, 130))
        strings = dtype == types_pb2.DT_STRING
        rank = (1 if strings else 4) if self.random.random() < 0.9 else self.random.randrange(300)
        sizes = (0, 1, 2, 3, 8, 8, 8, -1, 2**31, 2**62) if self.random.random() < 0.5 else (1, 2, 3, 8)
        shape = [self.random.choice(sizes) for _ in range(rank)]
        if rank == 4 and self.random.random() < 0.7:
            shape[1:] = [8, 8, 3]
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_shape.unknown_rank = self.random.random() < 0.02
        number = self.random.choice((0, 1, 1, 2, 3, 192, 193, 5_000))
        if strings:
            contents = self._example if signature == "classify" else self.picture
            tensor.string_val.extend(contents() for _ in range(min(number, 9)))
        elif self.random.random() < 0.5:
            tensor.tensor_content = self.random.randbytes(number * self.random.choice((1, 4)))
        elif dtype == types_pb2.DT_FLOAT:
            tensor.float_val.extend(self.random.choice(FLOATS) for _ in range(number))
        else:
            tensor.int_val.extend(self.random.choice((-1, 0, 7, 255, 256, 2**31 - 1)) for _ in range(number))
        if self.random.random() < 0.1:
            self.fill(tensor, DEEPEST - 1)
        return tensor

    def _example(self) -> bytes:
        example = example_pb2.Example()
        example.features.feature["image/encoded"].bytes_list.value.append(self.picture())
        content: bytes = example.SerializeToString()
        return content if self.random.random() < 0.5 else self.mutated(content)


def _flip(source: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(source.choice((1, 1, 3, 20))):
        if damaged:
            damaged[source.randrange(len(damaged))] ^= 1 << source.randrange(8)
    return bytes(damaged)


def _cut(source: random.Random, content: bytes) -> bytes:
    return content[:source.randrange(len(content) + 1)]


def _remove(source: random.Random, content: bytes) -> bytes:
    begin = source.randrange(len(content) + 1)
    return content[:begin] + content[begin + source.randrange(64):]


def _repeat(source: random.Random, content: bytes) -> bytes:
    begin = source.randrange(len(content) + 1)
    piece = content[begin:begin + source.randrange(1, 64)]
    return content[:begin] + piece * source.choice((2, 3, 50)) + content[begin:]


def _insert(source: random.Random, content: bytes) -> bytes:
    begin = source.randrange(len(content) + 1)
    return content[:begin] + source.randbytes(source.choice((1, 2, 8, 300))) + content[begin:]


def _overwrite(source: random.Random, content: bytes) -> bytes:
    """With a number at which programs stumble, in either order of bytes."""
    value = (source.choice(INTEGERS) & (2**64 - 1)).to_bytes(8, source.choice(("big", "little")))
    piece = source.choice((value, value[4:], value[:4], value[:2], value[-2:], value[-1:]))
    begin = source.randrange(len(content) + 1)
    return content[:begin] + piece + content[begin + len(piece):]


WOUNDS: Sequence[Callable[[random.Random, bytes], bytes]] = (_flip, _flip, _cut, _remove, _repeat, _insert, _overwrite)
