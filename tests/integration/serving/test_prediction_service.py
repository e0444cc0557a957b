"""An ordinary TensorFlow Serving client works unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.integration.serving.conftest import Server, picture
from tests.integration.serving.tiny_model import LABELS, SIZE


@pytest.fixture
def stub(server: Server) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(server.channel())


def request(signature: str = "", model: str = "tiny", version: int | None = None,
            **inputs: Any) -> predict_pb2.PredictRequest:
    """As the tutorials of TensorFlow Serving make one."""
    made = predict_pb2.PredictRequest()
    made.model_spec.name = model
    made.model_spec.signature_name = signature
    if version is not None:
        made.model_spec.version.value = version
    for name, value in inputs.items():
        made.inputs[name].CopyFrom(value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value))
    return made


def refused(call: Any, message: Any) -> tuple[grpc.StatusCode, str]:
    """Status and message of a call that must fail."""
    with pytest.raises(grpc.RpcError) as error:
        call(message, timeout=20)
    return error.value.code(), error.value.details()


def example(content: bytes) -> bytes:
    features = {"image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[content]))}
    return bytes(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())


@pytest.mark.parametrize("signature", ["serving_default", "predict_images", "predict_tensors", "preprocess",
                                       "classify"])
def test_every_signature_answers_as_the_saved_model_does(stub: Any, saved_model: Any, pictures: list[bytes],
                                                         signature: str) -> None:
    name, value = {
        "serving_default": ("image_bytes", pictures),
        "predict_images": ("images", np.stack([picture(seed, 31, 33) for seed in range(3)])),
        "predict_tensors": ("inputs", np.random.default_rng(0).normal(0, 50, (3, SIZE, SIZE, 3)).astype(np.float32)),
        "preprocess": ("image_bytes", pictures),
        "classify": ("inputs", [example(content) for content in pictures]),
    }[signature]
    given: dict[str, Any] = {name: value}
    expected = saved_model.signatures[signature](**{name: tf.constant(value)})
    outputs = stub.Predict(request(signature, **given), timeout=20).outputs
    assert set(outputs) == set(expected)
    for output, tensor in expected.items():
        answer = tf.make_ndarray(outputs[output])
        if tensor.dtype == tf.string:
            np.testing.assert_array_equal(answer, tensor.numpy())
        else:
            assert answer.dtype == tensor.dtype.as_numpy_dtype
            np.testing.assert_allclose(answer, tensor.numpy(), rtol=1e-5, atol=1e-6)


def test_serving_default_is_the_signature_of_a_call_that_names_none(stub: Any, pictures: list[bytes]) -> None:
    answer = stub.Predict(request(image_bytes=pictures), timeout=20)
    assert (answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name) == \
        ("tiny", 10, "serving_default")
    assert len(answer.outputs["probabilities"].float_val) == 5 * len(LABELS)  # where clients without TensorFlow look


def test_the_output_filter_is_honoured(stub: Any) -> None:
    asked = request("predict_tensors", inputs=np.zeros((1, SIZE, SIZE, 3), np.float32))
    asked.output_filter.append("logits")
    assert list(stub.Predict(asked, timeout=20).outputs) == ["logits"]
    asked.output_filter.append("depth")
    assert refused(stub.Predict, asked) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "output_filter has depth, but signature 'predict_tensors' gives probabilities, logits")


@pytest.mark.parametrize(("asked", "message"), [
    ({"model": "resnet"}, "no model 'resnet'; this server has 'tiny'"),
    ({"version": 9}, "model 'tiny' has no version 9; this server has 10"),
    ({"signature": "detect"}, "model 'tiny' has no signature 'detect'; it has classify, predict_images, "
                              "predict_tensors, preprocess, serving_default"),
])
def test_what_the_server_does_not_have_is_not_found_and_what_it_has_is_named(
        stub: Any, pictures: list[bytes], asked: dict[str, Any], message: str) -> None:
    assert refused(stub.Predict, request(image_bytes=pictures, **asked)) == (grpc.StatusCode.NOT_FOUND, message)


def endless(height: int = 10**7) -> tensor_pb2.TensorProto:
    """A few bytes that claim to be many: one value, to be repeated."""
    tensor = tf.make_tensor_proto(np.zeros((1, 1, 1, 3), np.uint8))
    tensor.ClearField("tensor_content")
    tensor.int_val.append(0)
    tensor.tensor_shape.dim[1].size = height
    return tensor


def too_short() -> tensor_pb2.TensorProto:
    tensor = tf.make_tensor_proto(np.zeros((2, SIZE, SIZE, 3), np.float32))
    tensor.tensor_content = tensor.tensor_content[:100]
    return tensor


@pytest.mark.parametrize(("signature", "inputs", "message"), [
    ("serving_default", {"images": [b"x"]},
     "signature 'serving_default' takes one input, 'image_bytes'; the call has 'images'"),
    ("serving_default", {}, "signature 'serving_default' takes one input, 'image_bytes'; the call has none"),
    ("serving_default", {"image_bytes": b"x"}, "must be string [N] with N at least 1, found string []"),
    ("serving_default", {"image_bytes": np.array([], dtype=object)}, "found string [0]"),
    ("serving_default", {"image_bytes": [1.5]}, "must be string [N] with N at least 1, found float32 [1]"),
    ("predict_images", {"images": np.zeros((1, 8, 8, 3), np.float32)},
     "input 'images' of signature 'predict_images' must be uint8 [N, height, width, 3] with N at least 1, found "
     "float32 [1, 8, 8, 3]"),
    ("predict_images", {"images": np.zeros((1, 0, 8, 3), np.uint8)}, "found uint8 [1, 0, 8, 3]"),
    ("predict_tensors", {"inputs": np.zeros((1, 224, 224, 3), np.float32)},
     "must be float32 [N, 8, 8, 3] with N at least 1, found float32 [1, 224, 224, 3]"),
    ("predict_images", {"images": endless()}, "input 'images' would fill 30000000 bytes, more than the 4194304"),
    ("predict_images", {"images": endless(10**6)},
     "input 'images' states a shape of 3000000 bytes and comes with 25: send all of its elements"),
    ("predict_tensors", {"inputs": too_short()}, "input 'inputs' is not a tensor of the shape it states"),
    ("classify", {"examples": [b"\xff"]}, "examples[0] is not a serialized tf.Example"),
    ("classify", {"examples": [b""]}, "examples[0] must have one bytes value as 'image/encoded', found 0"),
])
def test_an_input_that_does_not_fit_is_named_with_what_was_found_and_expected(
        stub: Any, signature: str, inputs: dict[str, Any], message: str) -> None:
    code, details = refused(stub.Predict, request(signature, **inputs))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert message in details


def test_a_broken_picture_is_named_by_its_index(stub: Any, pictures: list[bytes]) -> None:
    assert refused(stub.Predict, request(image_bytes=[*pictures[:2], b"no picture"])) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "image_bytes[2] is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: 10 bytes that start with 'no pictu'")
    code, details = refused(stub.Predict, request("classify", examples=[example(pictures[0]), example(b"")]))
    assert (code, details) == (grpc.StatusCode.INVALID_ARGUMENT,
                               "examples[1] is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: empty")


def test_the_metadata_are_the_signatures_of_the_saved_model(stub: Any, model: Path) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = "tiny"
    answer = stub.GetModelMetadata(asked, timeout=20)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("tiny", 10)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    written = saved_model_pb2.SavedModel.FromString((model / "10" / "saved_model.pb").read_bytes())
    assert dict(signatures.signature_def) == dict(written.meta_graphs[0].signature_def)
    assert signatures.signature_def["serving_default"].method_name == "tensorflow/serving/predict"


def test_metadata_of_another_kind_are_refused(stub: Any) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["weights"])
    asked.model_spec.name = "tiny"
    assert refused(stub.GetModelMetadata, asked) == (
        grpc.StatusCode.INVALID_ARGUMENT, "metadata_field weights is unknown; this server knows 'signature_def'")


def test_metadata_of_no_field_are_refused(stub: Any) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    assert refused(stub.GetModelMetadata, asked) == (
        grpc.StatusCode.INVALID_ARGUMENT, "metadata_field is empty; this server knows 'signature_def'")


def classification(contents: list[bytes], signature: str = "", model: str = "tiny",
                   context: bytes | None = None) -> classification_pb2.ClassificationRequest:
    """tf.Examples of pictures; one that is empty has no features at all."""
    made = classification_pb2.ClassificationRequest()
    made.model_spec.name, made.model_spec.signature_name = model, signature
    made.input.CopyFrom(input_of(contents, context))
    return made


def input_of(contents: list[bytes], context: bytes | None = None) -> input_pb2.Input:
    made = input_pb2.Input()
    examples = [tf.train.Example.FromString(example(content) if content else b"") for content in contents]
    if context is None:
        made.example_list.examples.extend(examples)
    else:
        made.example_list_with_context.examples.extend(examples)
        made.example_list_with_context.context.MergeFromString(example(context))
    return made


def scores_of(saved_model: Any, contents: list[bytes]) -> Any:
    return saved_model.signatures["classify"](inputs=tf.constant(list(map(example, contents))))["scores"].numpy()


def check(result: classification_pb2.ClassificationResult, expected: Any) -> None:
    """Every label in the order of the model's, each with its score."""
    assert [[one.label for one in row.classes] for row in result.classifications] == [list(LABELS)] * len(expected)
    np.testing.assert_allclose([[one.score for one in row.classes] for row in result.classifications], expected,
                               rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("signature", ["", "classify"])
def test_classify_answers_every_label_of_every_example(stub: Any, saved_model: Any, pictures: list[bytes],
                                                       signature: str) -> None:
    answer = stub.Classify(classification(pictures, signature), timeout=20)
    check(answer.result, scores_of(saved_model, pictures))
    assert (answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name) == \
        ("tiny", 10, "classify")


def test_what_an_example_lacks_is_taken_from_the_context(stub: Any, saved_model: Any, pictures: list[bytes]) -> None:
    answer = stub.Classify(classification([pictures[0], b"", pictures[2]], context=pictures[1]), timeout=20)
    check(answer.result, scores_of(saved_model, pictures[:3]))


@pytest.mark.parametrize(("asked", "code", "message"), [
    (classification([]), grpc.StatusCode.INVALID_ARGUMENT, "examples is empty: send at least one"),
    (classification([b"x", b""]), grpc.StatusCode.INVALID_ARGUMENT,
     "examples[1] must have one bytes value as 'image/encoded', found 0"),
    (classification([b"x"]), grpc.StatusCode.INVALID_ARGUMENT,
     "examples[0] is not a JPEG, PNG, BMP, GIF, WebP or TIFF picture: 1 bytes that start with 'x'"),
    (classification([b"x"], "serving_default"), grpc.StatusCode.INVALID_ARGUMENT,
     "signature 'serving_default' is not for Classify: name 'classify' or none, or call Predict"),
    (classification([b"x"], "detect"), grpc.StatusCode.NOT_FOUND, "model 'tiny' has no signature 'detect'; it has "
     "classify, predict_images, predict_tensors, preprocess, serving_default"),
    (classification([b"x"], model="resnet"), grpc.StatusCode.NOT_FOUND, "no model 'resnet'; this server has 'tiny'"),
])
def test_an_impossible_classification_says_why(stub: Any, asked: Any, code: grpc.StatusCode, message: str) -> None:
    assert refused(stub.Classify, asked) == (code, message)


def task(method: str = "classify", signature: str = "classify", model: str = "tiny") -> inference_pb2.InferenceTask:
    made = inference_pb2.InferenceTask(method_name=f"tensorflow/serving/{method}")
    made.model_spec.name, made.model_spec.signature_name = model, signature
    return made


def test_multi_inference_answers_a_classification(stub: Any, saved_model: Any, pictures: list[bytes]) -> None:
    asked = inference_pb2.MultiInferenceRequest(tasks=[task()], input=input_of(pictures))
    (result,) = stub.MultiInference(asked, timeout=20).results
    check(result.classification_result, scores_of(saved_model, pictures))
    assert (result.model_spec.name, result.model_spec.version.value, result.model_spec.signature_name) == \
        ("tiny", 10, "classify")


@pytest.mark.parametrize(("tasks", "code", "message"), [
    ([], grpc.StatusCode.INVALID_ARGUMENT,
     "tasks is empty: send one with the method_name 'tensorflow/serving/classify'"),
    ([task(), task("regress")], grpc.StatusCode.UNIMPLEMENTED, "this model classifies and has no regression signature: "
     "ask for the scores of its labels with Classify or Predict"),
    ([task("predict")], grpc.StatusCode.UNIMPLEMENTED,
     "tasks[0].method_name is 'tensorflow/serving/predict': this server knows 'tensorflow/serving/classify'"),
    ([task(), task(model="resnet")], grpc.StatusCode.INVALID_ARGUMENT,
     "tasks[1] has another model or version than tasks[0]: all tasks of a call must be for the same"),
    ([task(), task(signature="")], grpc.StatusCode.INVALID_ARGUMENT,
     "tasks[1] has the signature 'classify' again: once is enough"),
    ([task(signature="preprocess")], grpc.StatusCode.INVALID_ARGUMENT, "signature 'preprocess' is not for Classify: "
     "name 'classify' or none, or call Predict"),
])
def test_impossible_tasks_say_why(stub: Any, pictures: list[bytes], tasks: list[Any], code: grpc.StatusCode,
                                  message: str) -> None:
    asked = inference_pb2.MultiInferenceRequest(tasks=tasks, input=input_of(pictures[:1]))
    assert refused(stub.MultiInference, asked) == (code, message)


def test_regress_is_refused_with_what_the_model_is_and_what_to_call(stub: Any) -> None:
    asked = regression_pb2.RegressionRequest()
    asked.model_spec.name = "tiny"
    assert refused(stub.Regress, asked) == (
        grpc.StatusCode.UNIMPLEMENTED, "this model classifies and has no regression signature: ask for the scores of "
        "its labels with Classify or Predict")


def test_a_name_of_a_megabyte_does_not_come_back_whole(stub: Any, pictures: list[bytes]) -> None:
    """The message travels in the trailing metadata, of which clients take 8 KB."""
    for asked in (request("s" * 10**6, image_bytes=pictures[:1]), request("", **{"i" * 10**6: pictures[:1]})):
        code, details = refused(stub.Predict, asked)
        assert code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
        assert len(details) < 500
