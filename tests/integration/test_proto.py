"""What is generated is what proto/ says; clients and servers of different ages understand each other, and
TensorFlow Serving's clients ours.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tests.commands import BIN
from voc_cls.v1 import classifier_pb2, classifier_pb2_grpc

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "tests/data/classifier_0_2_0.proto"
"""The proto file as version 0.2.0 had it."""
PROTOS = ("voc_cls/v1/classifier", "serving/v2/open_inference")
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")
DESCRIPTORS = "serving/tensorflow_protos.binpb"
TENSORFLOW = ("tensorflow_serving.apis.prediction_service_pb2", "tensorflow_serving.apis.model_service_pb2",
              "tensorflow.core.protobuf.saved_model_pb2")
"""Modules with all messages of TensorFlow that proto/serving/v1 has, too."""
BOTH = """
import importlib, sys
import serving.grpc.services
from serving.tensorflow_protos import messages
for name in sys.argv[1:]:
    importlib.import_module(name)
from tensorflow_serving.apis import predict_pb2
theirs = predict_pb2.PredictRequest(model_spec={"name": "voc", "version": {"value": 3}}, client_id=b"unknown here")
theirs.inputs["x"].half_val.append(1)  # unknown here, too
ours = messages.PredictRequest.FromString(theirs.SerializeToString())
assert (ours.model_spec.name, ours.model_spec.version.value) == ("voc", 3)
assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == theirs
"""


def test_the_generated_code_is_that_of_the_proto_files(tmp_path: Path) -> None:
    tools = f"grpcio-tools=={classifier_pb2_grpc.GRPC_GENERATED_VERSION}"  # as make proto
    installed = subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                                "--no-deps", "--target", tmp_path / "tools", tools],
                               capture_output=True, text=True, check=False)
    if installed.returncode:
        pytest.skip(f"pip cannot get {tools}: {installed.stderr.splitlines()[-1]}")
    out = tmp_path / "out"
    out.mkdir()
    for arguments in (
            (f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}",
             *(f"proto/{proto}.proto" for proto in PROTOS)),
            ("--include_imports", f"--descriptor_set_out={out / 'tensorflow.binpb'}",
             *(f"proto/serving/v1/{path.name}" for path in sorted(ROOT.glob("proto/serving/v1/*.proto"))))):
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-Iproto", *arguments], cwd=ROOT, check=True,
                       env={**os.environ, "PYTHONPATH": str(tmp_path / "tools")})
    assert (out / "tensorflow.binpb").read_bytes() == (ROOT / DESCRIPTORS).read_bytes()
    generated = sorted(proto + ending for proto in PROTOS for ending in GENERATED)
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*_pb2*")) == generated
    for name in generated:
        assert (out / name).read_text() == (ROOT / name).read_text(), name


def buf(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    if not (BIN / "buf").exists():
        pytest.skip("buf is not installed: pip install buf-bin")
    return subprocess.run([str(BIN / "buf"), *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          check=False)


def as_repository(proto: str, folder: Path) -> Path:
    """A folder with buf.yaml and a proto file where this repository has them."""
    (folder / "proto/voc_cls/v1").mkdir(parents=True)
    (folder / "proto/voc_cls/v1/classifier.proto").write_text(proto)
    shutil.copy(ROOT / "buf.yaml", folder)
    return folder


def test_the_proto_file_is_in_good_style() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_that_was_released_has_changed(tmp_path: Path) -> None:
    released = as_repository(RELEASED.read_text(), tmp_path / "released")
    done = buf("breaking", "--against", released)
    assert done.returncode == 0, done.stdout + done.stderr
    today = (ROOT / "proto/voc_cls/v1/classifier.proto").read_text()
    changed = as_repository(today.replace("uint32 top_k = 4;", "int32 top_k = 4;"), tmp_path / "changed")
    done = buf("breaking", "--against", released, cwd=changed)
    assert 'Field "4" with name "top_k" on message "ClassifyRequest" changed type' in done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The messages of 0.2.0, beside those of today: `released("ClassifyRequest")` is a class."""
    compiled = tmp_path_factory.mktemp("released") / "classifier.binpb"
    done = buf("build", RELEASED, "-o", compiled)
    assert done.returncode == 0, done.stderr
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled.read_bytes()).file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"voc_cls.v1.{name}"))


def test_a_request_of_an_old_client_means_the_same_to_a_new_server(released: Any) -> None:
    old = released("ClassifyRequest")(model="voc", version=3, top_k=5,
                                      pictures=[released("Picture")(content=b"one"), released("Picture")(content=b"2")])
    new = classifier_pb2.ClassifyRequest.FromString(old.SerializeToString())
    assert (new.model, new.version, new.top_k, [picture.content for picture in new.pictures]) == (
        "voc", 3, 5, [b"one", b"2"])
    assert new.WhichOneof("selection") is None
    assert new.version_label == ""
    bare = classifier_pb2.ClassifyRequest.FromString(released("ClassifyRequest")().SerializeToString())
    assert not bare.HasField("version")
    assert not bare.exported_thresholds


def test_an_old_server_understands_a_new_client_but_for_what_is_new(released: Any) -> None:
    new = classifier_pb2.ClassifyRequest(model="voc", version=0, top_k=5, threshold=0.5, version_label="stable",
                                         pictures=[classifier_pb2.Picture(content=b"one")])
    old = released("ClassifyRequest").FromString(new.SerializeToString())
    assert (old.model, old.version, old.HasField("version"), old.top_k, [picture.content for picture in old.pictures]) \
        == ("voc", 0, True, 5, [b"one"])
    assert classifier_pb2.ClassifyRequest.FromString(old.SerializeToString()) == new  # passed on unharmed


def test_an_old_client_reads_a_new_answer_and_a_failed_picture_as_one_without_labels(released: Any) -> None:
    new = classifier_pb2.ClassifyResponse(model="voc", version=3, classifications=[
        classifier_pb2.Classification(labels=[classifier_pb2.ScoredLabel(label="cat", probability=0.75)]),
        classifier_pb2.Classification(error=classifier_pb2.Error(code=3, message="no picture", retry_after_ms=1))])
    old = released("ClassifyResponse").FromString(new.SerializeToString())
    assert (old.model, old.version) == ("voc", 3)
    assert [[(scored.label, scored.probability) for scored in classification.labels]
            for classification in old.classifications] == [[("cat", 0.75)], []]


def test_a_new_client_reads_an_old_answer_as_one_without_errors(released: Any) -> None:
    labels = [released("ScoredLabel")(label="cat", probability=0.75)]
    old = released("ClassifyResponse")(model="voc", version=3,
                                       classifications=[released("Classification")(labels=labels)])
    new = classifier_pb2.ClassifyResponse.FromString(old.SerializeToString())
    assert [(scored.label, scored.probability) for scored in new.classifications[0].labels] == [("cat", 0.75)]
    assert not new.classifications[0].HasField("error")


def test_the_path_of_the_old_method_is_that_of_the_new(released: Any) -> None:
    services = [released("ClassifyRequest").DESCRIPTOR.file, classifier_pb2.DESCRIPTOR]
    old, new = (file.services_by_name["Classifier"].methods_by_name["Classify"] for file in services)
    assert (old.full_name, old.client_streaming, old.server_streaming) == (
        new.full_name, new.client_streaming, new.server_streaming)


def test_the_states_of_versions_are_tensorflow_servings() -> None:
    from tensorflow_serving.apis import get_model_status_pb2

    theirs = dict(get_model_status_pb2.ModelVersionStatus.State.items())
    ours = {name.removeprefix("STATE_"): number for name, number in classifier_pb2.ModelVersion.State.items()}
    assert ours.pop("UNSPECIFIED") == theirs.pop("UNKNOWN") == 0
    assert ours == theirs


def fields_of(message: Any) -> dict[int, tuple[Any, ...]]:
    """By number, what a field is called in a program, in JSON and on the wire."""
    written = descriptor_pb2.DescriptorProto()
    message.CopyToProto(written)
    return {field.number: (field.name, field.label, field.type, field.type_name,
                           message.fields_by_number[field.number].json_name,
                           written.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None)
            for field in written.field}


def with_nested(messages: Any) -> Iterator[Any]:
    for message in messages:
        yield message
        yield from with_nested(message.nested_types)


def test_every_message_and_method_of_tensorflow_serving_is_as_tensorflow_serving_has_it() -> None:
    from serving.tensorflow_protos import FILES, POOL

    for module in TENSORFLOW:
        importlib.import_module(module)
    theirs = descriptor_pool.Default()
    ours = [POOL.FindFileByName(file.name) for file in FILES if file.name.startswith("serving/")]
    messages = list(with_nested(message for file in ours for message in file.message_types_by_name.values()))
    assert len(messages) > 50
    for message in messages:
        published = fields_of(theirs.FindMessageTypeByName(message.full_name))
        assert fields_of(message).items() <= published.items(), message.full_name
    for enum in (*(enum for file in ours for enum in file.enum_types_by_name.values()),
                 *(enum for message in messages for enum in message.enum_types)):
        published = theirs.FindEnumTypeByName(enum.full_name).values_by_name
        assert {name: value.number for name, value in enum.values_by_name.items()}.items() <= {
            name: value.number for name, value in published.items()}.items()
    for service in (service for file in ours for service in file.services_by_name.values()):
        methods, published = ([(method.name, method.input_type.full_name, method.output_type.full_name)
                               for method in one.methods]
                              for one in (service, theirs.FindServiceByName(service.full_name)))
        assert methods == published


def test_a_process_that_has_imported_the_server_may_import_tensorflow_too() -> None:
    """The other way round goes as well: so do tests/forked.py's processes."""
    done = subprocess.run([sys.executable, "-c", BOTH, *TENSORFLOW], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
