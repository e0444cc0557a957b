"""JSON of the REST API becomes arrays and pictures, or a sentence that says which value is wrong; and back."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import numpy as np
import pytest

from serving.errors import InvalidArgument
from serving.rest.json import (
    MOST_VALUES,
    PayloadTooLarge,
    parse,
    read_bytes,
    read_images,
    read_predict_input,
    read_signature_name,
    to_lists,
    unzip,
    write_classifications,
    write_outputs,
)

SIZE = 2
IMAGE = [[[0, 127, 255], [1, 2, 3]], [[4, 5, 6], [7, 8, 9]]]


def b64(content: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(content).decode()}


def predict_input(content: dict[str, Any], name: str) -> tuple[Any, str]:
    signature, array, form = read_predict_input({**content, "signature_name": name}, "voc", SIZE)
    assert signature == name
    return array, form


def refusal(work: Any, *arguments: Any) -> str:
    with pytest.raises(InvalidArgument) as error:
        work(*arguments)
    return str(error.value)


@pytest.mark.parametrize("content", [
    {"instances": [b64(b"one"), b64(b"two\xff\x00")]},
    {"instances": [{"image_bytes": b64(b"one")}, {"image_bytes": b64(b"two\xff\x00")}]},
    {"inputs": [b64(b"one"), b64(b"two\xff\x00")]},
    {"inputs": {"image_bytes": [b64(b"one"), b64(b"two\xff\x00")]}},
])
def test_bytes_come_in_rows_or_columns_bare_or_by_name(content: dict[str, Any]) -> None:
    array, form = predict_input(content, "serving_default")
    assert array.tolist() == [b"one", b"two\xff\x00"]
    assert array.dtype == object
    assert {form} == set(content)


@pytest.mark.parametrize("content", [
    {"instances": [b64(b"one")]}, {"instances": [{"image_bytes": b64(b"one")}]},
    {"inputs": b64(b"one")}, {"inputs": [b64(b"one")]},
    {"inputs": {"image_bytes": b64(b"one")}}, {"inputs": {"image_bytes": [b64(b"one")]}},
])
def test_a_single_picture_may_come_in_every_form_of_tensorflow_serving(content: dict[str, Any]) -> None:
    """The forms of its api_rest.md, and what its json_tensor.cc takes beside them: a column of one value."""
    array, form = predict_input(content, "serving_default")
    assert array.tolist() == [b"one"]
    assert {form} == set(content)


@pytest.mark.parametrize("content", [
    {"instances": [IMAGE, IMAGE]}, {"instances": [{"images": IMAGE}, {"images": IMAGE}]},
    {"inputs": [IMAGE, IMAGE]}, {"inputs": {"images": [IMAGE, IMAGE]}}])
def test_nested_lists_become_uint8_images(content: dict[str, Any]) -> None:
    array, _ = predict_input(content, "predict_images")
    assert array.dtype == np.uint8
    np.testing.assert_array_equal(array, [IMAGE, IMAGE])


def test_numbers_become_the_nearest_float32() -> None:
    given = np.random.default_rng(0).normal(0, 50, (3, SIZE, SIZE, 3)).astype(np.float32)
    whole = np.arange(12).reshape(1, SIZE, SIZE, 3)
    for values in (given, whole):
        body = json.dumps({"instances": values.tolist()}).encode()
        array, _ = predict_input(parse(body), "predict_tensors")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("serving_default", {},
     "either \"instances\" (one value for each picture) or \"inputs\" (one tensor for all), found neither"),
    ("serving_default", {"instances": [b64(b"x")], "inputs": [b64(b"x")]}, "found both"),
    ("serving_default", {"instances": []},
     "\"instances\" must be a list with one value for each picture, found an empty"),
    ("serving_default", {"instances": "x"}, "found a string"),
    ("serving_default", {"instances": ["/9j/4AAQ"]},
     "instances[0] is a plain string: send the base64 of the bytes, as {\"b64\": \"…\"}"),
    ("serving_default", {"instances": [b64(b"x"), 3]}, "instances[1] must be {\"b64\": \"…\"}, found a number"),
    ("serving_default", {"instances": [b64(b"x"), {"b64": 3}]},
     "instances[1] must be {\"b64\": \"…\"}, found {\"b64\": a number}"),
    ("serving_default", {"inputs": {"b64": 5}}, "inputs must be {\"b64\": \"…\"}, found {\"b64\": a number}"),
    ("serving_default", {"inputs": {"image_bytes": {"b64": None}}}, "found {\"b64\": null}"),
    ("serving_default", {"inputs": {"image_bytes": [{"b64": ["x"]}]}},
     "inputs[0] must be {\"b64\": \"…\"}, found {\"b64\": a list}"),
    ("serving_default", {"inputs": [[b64(b"x")]]}, "inputs[0] must be {\"b64\": \"…\"}, found a list"),
    ("serving_default", {"inputs": "/9j/4AAQ"}, "inputs is a plain string: send the base64 of the bytes"),
    ("serving_default", {"inputs": 5}, "inputs must be {\"b64\": \"…\"}, found a number"),
    ("serving_default", {"inputs": {}}, "inputs must have the one input 'image_bytes', found none"),
    ("serving_default", {"instances": b64(b"x")}, "\"instances\" must be a list with one value for each picture, found "
                                                  "an object"),
    ("serving_default", {"instances": [b64(b"x"), {"b64": "a*b="}]}, "instances[1] is not base64"),
    ("serving_default", {"instances": [{"b64": "YWJj*"}]}, "instances[0] is not base64"),
    ("serving_default", {"instances": [{"b64": "YQ==YQ=="}]}, "instances[0] is not base64"),
    ("serving_default", {"instances": [{"b64": "data:image/jpeg,YWJj"}]}, "instances[0] is not base64"),
    ("serving_default", {"instances": [{"b64": "ü"}]}, "instances[0] is not base64: it has other characters"),
    ("serving_default", {"instances": [{"images": b64(b"x")}]},
     "instances[0] must have the one input 'image_bytes', found 'images'"),
    ("serving_default", {"instances": [{"image_bytes": b64(b"x"), "more": 1}]}, "found 'image_bytes', 'more'"),
    ("serving_default", {"instances": [b64(b"x"), {"image_bytes": b64(b"x")}]}, "instances[1] is an object by name"),
    ("serving_default", {"instances": [{"image_bytes": b64(b"x")}, b64(b"x")]}, "instances[1] is no object by name"),
    ("serving_default", {"inputs": {"image_bytes": []}},
     "must be string [N] with N at least 1, found string [0]"),
    ("predict_images", {"instances": [IMAGE[0]]}, "instances must be lists nested 4 deep, found a number at depth 3"),
    ("predict_images", {"instances": [[IMAGE]]}, "nested 4 deep, found a list"),
    ("predict_images", {"instances": [IMAGE, IMAGE[:1]]},
     "instances has lists of 1 and of 2 elements at depth 1: they must be of one length"),
    ("predict_images", {"inputs": [[[[1, 2, 256]]]]}, "inputs has 256, but uint8 is from 0 to 255"),
    ("predict_images", {"inputs": [[[[1, -2, 6]]]]}, "inputs has -2, but uint8 is from 0 to 255"),
    ("predict_images", {"inputs": [[[[1, 10**400, 6]]]]}, "inputs has inf, but uint8 is from 0 to 255"),
    ("predict_images", {"inputs": [[[[1, 2.5, 6]]]]},
     "whole numbers from 0 to 255, nested 4 deep, found the number 2.5"),
    ("predict_images", {"inputs": [[[[1, True, 6]]]]}, "nested 4 deep, found true"),
    ("predict_images", {"inputs": [[[[1, None, 6]]]]}, "nested 4 deep, found null"),
    ("predict_images", {"inputs": [[[[1, "2", 6]]]]}, "nested 4 deep, found a string"),
    ("predict_images", {"inputs": [[[[1, 2]]]]},
     "uint8 [N, height, width, 3] with N at least 1, found uint8 [1, 1, 1, 2]"),
    ("predict_images", {"inputs": [[]]}, "found uint8 [1, 0, 0, 0]"),
    ("predict_tensors", {"inputs": [IMAGE, IMAGE, IMAGE[:0]]}, "lists of 0 and of 2 elements at depth 1"),
    ("predict_tensors", {"inputs": [[[[1, 2, 1e39]] * 2] * 2]}, "inputs has 1e+39, but float32 is from -3.4"),
    ("predict_tensors", {"inputs": [[[[1, 2, -1e999]] * 2] * 2]}, "inputs has -inf, but float32 is from -3.4"),
    ("predict_tensors", {"inputs": [[[[1, 2, 3]]]]}, "must be float32 [N, 2, 2, 3] with N at least 1, found float32 "
                                                     "[1, 1, 1, 3]"),
])
def test_a_wrong_value_is_named_with_what_was_found_and_expected(name: str, content: dict[str, Any],
                                                                message: str) -> None:
    assert message in refusal(predict_input, content, name)


@pytest.mark.parametrize(("body", "message"), [
    (b"", "the body is not JSON: Expecting value: line 1 column 1"),
    (b"{\"instances\": [1,]}", "the body is not JSON"),
    (b"{\"instances\": [1]} {}", "the body is not JSON: Extra data"),
    (b"{\"instances\": \"a\nb\"}", "the body is not JSON: Invalid control character"),
    (b"\xff{}", "the body is not JSON: byte 0 is not UTF-8"),
    (b"{\"inputs\": \"\\ud800\"}", "the body has half of a surrogate pair"),
    (b"{\"\\uDFFF\": 1}", "the body has half of a surrogate pair"),
    (b"[1]", "the body must be a JSON object, found a list"),
    (b"null", "the body must be a JSON object, found null"),
    (b"{\"instances\": [NaN]}", "the body has NaN, which is not a number in JSON"),
    (b"{\"instances\": [-Infinity]}", "the body has -Infinity"),
    (b"{\"inputs\": 1, \"inputs\": 2}", "an object with the same key twice"),
    (b"{\"inputs\": " + b"[" * 100_000 + b"]" * 100_000 + b"}", "the body is nested too deeply"),
    (b"{\"inputs\": " + b"{\"a\":" * 100_000 + b"1" + b"}" * 100_001, "the body is nested too deeply"),
    (b"{\"inputs\": " + b"9" * 5000 + b"}", "the body has a number that cannot be read"),
    (b"{\"inputs\": [" + b"0," * MOST_VALUES + b"0]}", f"the body has more than {MOST_VALUES} values"),
], ids=lambda value: value[:30] if isinstance(value, bytes) else "")
def test_what_is_not_strict_json_is_refused(body: bytes, message: str) -> None:
    assert message in refusal(parse, body)


def test_base64_may_have_line_ends_and_lack_its_padding() -> None:
    content = bytes(range(256))
    lines = base64.encodebytes(content).decode()
    assert read_bytes({"b64": lines}, "x") == content
    assert read_bytes({"b64": lines.replace("\n", "").rstrip("=")}, "x") == content
    assert read_bytes({"b64": ""}, "x") == b""


def test_base64_may_be_url_safe_and_have_the_prefix_of_a_data_url() -> None:
    content = bytes(range(256))
    for encoded in (base64.b64encode(content).decode(), base64.urlsafe_b64encode(content).decode()):
        for text in (encoded, encoded.rstrip("="), f"{encoded[:100]}\r\n{encoded[100:]}"):
            for prefix in ("", "data:image/jpeg;base64,", "DATA:image/png;name=a.png;base64,", "data:;base64,"):
                assert read_bytes({"b64": prefix + text}, "x") == content


def test_whole_pixels_may_be_written_with_a_decimal_point() -> None:
    array, _ = predict_input({"instances": [[[[5.0, 255.0, 0]]]]}, "predict_images")
    assert array.dtype == np.uint8
    assert array.tolist() == [[[[5, 255, 0]]]]
    assert "found the number 5.000001" in refusal(
        predict_input, {"instances": [[[[5.0, 5.000001, 0]]]]}, "predict_images")


def test_a_signature_name_is_a_string() -> None:
    assert read_signature_name({}) == ""
    assert read_signature_name({"signature_name": "classify"}) == "classify"
    assert refusal(read_signature_name, {"signature_name": 3}) == "\"signature_name\" must be a string, found a number"


def test_examples_have_the_picture_themselves_or_in_the_context() -> None:
    one, two = {"image/encoded": b64(b"one")}, {"image/encoded": [b64(b"two")], "caption": "sea"}
    assert read_images({"examples": [one, two]}) == [b"one", b"two"]
    assert read_images({"examples": [one, {}], "context": two}) == [b"one", b"two"]


@pytest.mark.parametrize(("content", "message"), [
    ({}, "the body must have a list \"examples\", such as [{\"image/encoded\": {\"b64\": \"…\"}}], found none"),
    ({"examples": []}, "found an empty one"),
    ({"examples": {}}, "found an object"),
    ({"examples": [b"x".decode()]}, "examples[0] must be an object of features, found a string"),
    ({"examples": [{"image": b64(b"x")}]}, "examples[0] must have one bytes value as 'image/encoded', found 0"),
    ({"examples": [{"image/encoded": [b64(b"x")] * 2}]}, "examples[0] must have one bytes value as 'image/encoded', "
                                                         "found 2"),
    ({"examples": [{"image/encoded": "x"}]}, "examples[0]['image/encoded'] is a plain string"),
    ({"examples": [{"image/encoded": b64(b"x")}], "context": []},
     "\"context\" must be an object of features, found a list"),
])
def test_an_example_without_a_picture_is_named_by_its_index(content: dict[str, Any], message: str) -> None:
    assert message in refusal(read_images, content)


def hard_floats() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Every exponent that float32 has, and its neighbours in size."""
    bits = np.random.default_rng(0).integers(0, 2**32, 60_000, dtype=np.uint32)
    values = np.concatenate([bits.view(np.float32), np.float32([0, -0.0, 0.1, 1, 16777217, 1e-45, 3.4028235e38])])
    return values[np.isfinite(values)]


def test_numbers_read_back_are_the_same_float32_in_few_digits() -> None:
    given = hard_floats()
    texts = json.dumps(to_lists(given))[1:-1].split(", ")
    back = np.array(to_lists(given), dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(back.view(np.uint32), given.view(np.uint32))
    assert write_outputs({"p": np.float32([0.1, 1, 0])}, "inputs") == b'{"outputs":[0.1,1.0,0.0]}\n'
    digits = [text.partition("e")[0].replace(".", "").strip("-0") for text in texts]
    assert max(map(len, digits)) <= 9


def test_what_is_not_finite_is_written_as_tensorflow_serving_does() -> None:
    written = write_outputs({"p": np.float32([np.nan, np.inf, -np.inf, 1])}, "inputs")
    assert written == b'{"outputs":[NaN,Infinity,-Infinity,1.0]}\n'


def test_one_output_comes_bare_and_several_by_name() -> None:
    scores = np.float32([[0.5, 0.25], [1, 0]])
    assert json.loads(write_outputs({"p": scores}, "instances")) == {"predictions": scores.tolist()}
    assert json.loads(write_outputs({"p": scores}, "inputs")) == {"outputs": scores.tolist()}
    both = {"p": scores, "q": scores[:, :1] * 2}
    assert json.loads(write_outputs(both, "instances")) == {
        "predictions": [{"p": [0.5, 0.25], "q": [1.0]}, {"p": [1.0, 0.0], "q": [2.0]}]}
    assert json.loads(write_outputs(both, "inputs")) == {"outputs": {"p": scores.tolist(), "q": [[1.0], [2.0]]}}


def test_strings_come_as_text() -> None:
    names = np.array([["Käse".encode(), b"\"b\""]], dtype=object)
    assert json.loads(write_outputs({"names": names}, "inputs")) == {"outputs": [["Käse", "\"b\""]]}


def test_tensors_of_every_rank_keep_their_shape() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    assert json.loads(write_outputs({"inputs": array}, "inputs")) == {"outputs": array.tolist()}
    assert json.loads(write_outputs({"one": array[:, 0, 0, 0]}, "inputs")) == {"outputs": [0.0, 12.0]}


def test_classifications_are_pairs_of_label_and_score_in_the_order_of_the_labels() -> None:
    assert json.loads(write_classifications(("cat", "dog"), np.float32([[0.1, 0.9], [0.75, 0]]))) == {
        "results": [[["cat", 0.1], ["dog", 0.9]], [["cat", 0.75], ["dog", 0.0]]]}


def test_gzip_is_unpacked_up_to_a_limit() -> None:
    content = b"{\"a\": 1}" * 1000
    assert unzip(gzip.compress(content), len(content)) == content
    with pytest.raises(PayloadTooLarge, match=f"larger than the {len(content) - 1} bytes"):
        unzip(gzip.compress(content), len(content) - 1)


def test_a_bomb_is_refused_before_it_takes_the_memory() -> None:
    import tracemalloc

    bomb = gzip.compress(bytes(200_000_000), 1)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLarge):
            unzip(bomb, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("body", "message"), [
    (b"{}", "the body is not packed as Content-Encoding says"),
    (gzip.compress(b"{}" * 50, mtime=0)[:-9], "the packed body ends too early"),
    (gzip.compress(b"{}", mtime=0) + b"x", "the packed body has more bytes after its end"),
])
def test_damaged_gzip_is_refused(body: bytes, message: str) -> None:
    assert message in refusal(unzip, body, 1000)
