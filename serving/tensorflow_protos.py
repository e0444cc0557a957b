"""The messages and services of TensorFlow and TensorFlow Serving, without either; see proto/serving/v1.

In a descriptor pool of their own: the default one takes each name once, and a process that imports tensorflow or
tensorflow_serving has theirs there.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass, GetMessageClassesForFiles

FILES = FileDescriptorSet.FromString(Path(__file__).with_suffix(".binpb").read_bytes()).file
"""Made by `make proto`; each after those that it imports."""
POOL = DescriptorPool()
for _file in FILES:
    POOL.Add(_file)
messages: Any = SimpleNamespace(**{message.DESCRIPTOR.name: message for message in GetMessageClassesForFiles(
    [file.name for file in FILES], POOL).values()})
"""The classes of the messages, such as messages.PredictRequest; no two packages have the same name."""


def service_handler(name: str, servicer: Any) -> grpc.GenericRpcHandler:
    """The methods of a service, by its full name, as `servicer` has them; none is a stream."""
    return grpc.method_handlers_generic_handler(name, {
        method.name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method.name), GetMessageClass(method.input_type).FromString,
            GetMessageClass(method.output_type).SerializeToString)
        for method in POOL.FindServiceByName(name).methods})
