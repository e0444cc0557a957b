"""HTTP requests that no honest client sends: paths, headers, framing and JSON, as the bytes on the wire."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import dataclass
from typing import Any

from tests.fuzzing import FLOATS, INTEGERS, SIGNATURES, TEXTS, Fuzzer

ACTIONS = (":predict", ":classify", ":regress", "", "/metadata")
INFER = "/infer"
PATHS = ("/v2", "/v2/", "/v2/models/tiny", "/v2/models/tiny/ready", "/v2/models/%ff/config", "/v2/repository/index",
         "/v2/repository/models/../load", "/openapi.json", "/healthz", "/metrics", "/", "*", "//", "/v1", "/v1/models",
         "/v1/models/",
         "/v1/models/tiny/versions/x:predict", "/v1/models/tiny/versions/99999999999999999999",
         "/v1/models/tiny/labels/%0d%0aSet-Cookie:a", "/..%2f..%2fetc", "/v1/models/%00:predict",
         "/v1/models/%ff%fe:predict", "/v1/models/tiny%20:predict", "/v1/models/tiny:Predict",
         "/v1/models/" + "x" * 7_000, "/" + "a/" * 2_000, "http://elsewhere/healthz", "/healthz?" + "a=b&" * 900)
METHODS = (*("GET",) * 9, "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "CONNECT", "PRI", "get", "G\tT",
           "X" * 300)
VERSIONS = ("HTTP/1.0", "HTTP/9.9", "HTTP/2", "", "RTSP/1.0")
HEADERS = ("Accept: application/openmetrics-text", "Accept-Encoding: br;q=nan", "Authorization: Bearer \xff",
           "Cookie: a=b", "Content-Type: multipart/form-data; boundary=", "Content-Type: \0",
           "Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: gzip, gzip", "Expect: 100-continue",
           "Expect: 200-maybe", "Expect: \udcff", "Range: bytes=5-1", "Upgrade: websocket", "Upgrade: h2c",
           "X-Request-Id: a b\x7f", "X-Request-Id: " + "é" * 2_000, "X-Request-Id: " + "x" * 9_000,
           "traceparent: 00-zz-zz-01", "X: " + "y" * 70_000, ": no name", "no colon", " folded: line", "Host: a",
           "Host:", "Content-Length: 0", "Content-Length: -1", "Content-Length: 1e3",
           "Content-Length: 99999999999999999999", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x",
           "\r\nGET /metrics HTTP/1.1")
NASTY_JSON = (b"", b"{", b"null", b"[]", b"{}", b'"', b"[" * 100_000, b'{"a":' * 50_000, b"\xef\xbb\xbf{}",
              b'{"instances": NaN}', b'{"instances": [1e999]}', b'{"instances": [' + b"9" * 20_000 + b"]}",
              b'{"instances": [1], "instances": [1]}',
              b'{"signature_name": "\\ud800", "instances": [{"\\udfff": 1}]}', b'{"instances": [{"b64": "\\u0000"}]}',
              b'{"instances": [{"b64": "===="}]}', b"\xff\xfe{\0}\0", b'{"instances": [-0, 1E400, -1e-400]}',
              b'{"inputs": {"images": [[[[]]]]}}', b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}")


@dataclass(frozen=True)
class Request:
    """Bytes to send to the HTTP port."""

    content: bytes
    whole: bool
    """Whether the server can know that nothing more comes, so that it owes an answer."""


def request(fuzzer: Fuzzer) -> Request:
    """One request, with most of it in order, so that the rest of it is reached."""
    choose: Any = fuzzer.random.choice
    method = "POST" if fuzzer.random.random() < 0.8 else choose(METHODS)
    action, body = _body(fuzzer) if method == "POST" or fuzzer.random.random() < 0.2 else ("", b"")
    path = _path(fuzzer, action)
    headers = ["Host: a", "Connection: close"]
    if action == INFER and fuzzer.random.random() < 0.5:
        length, raw = len(body), fuzzer.picture()
        body += choose((raw, len(raw).to_bytes(4, "little") + raw))
        headers.append(f"Inference-Header-Content-Length: {choose((length, length, length, *INTEGERS))}")
    if fuzzer.random.random() < 0.1:
        headers.append("Content-Encoding: gzip")
        body = gzip.compress(body, 1) if fuzzer.random.random() < 0.5 else fuzzer.mutated(gzip.compress(body, 1))
    whole = fuzzer.random.random() < 0.95
    if fuzzer.random.random() < 0.1:
        headers.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
        body = body if whole else fuzzer.mutated(body)
    else:
        headers.append(f"Content-Length: {len(body) if whole else choose(INTEGERS)}")
    if fuzzer.random.random() < 0.15:
        headers[1:1] = [choose(HEADERS)]
        whole = False
    version = "HTTP/1.1" if fuzzer.random.random() < 0.95 else choose(VERSIONS)
    whole = whole and version == "HTTP/1.1" and method not in ("CONNECT", "PRI")
    head = f"{method} {path} {version}\r\n" + "\r\n".join(headers) + "\r\n\r\n"
    content = head.encode("utf-8", "surrogatepass") + body
    if fuzzer.random.random() < 0.05:
        return Request(fuzzer.mutated(content), whole=False)
    return Request(content, whole)


def _path(fuzzer: Fuzzer, action: str) -> str:
    if fuzzer.random.random() < 0.15:
        return fuzzer.random.choice(PATHS)
    if action == INFER:
        version = fuzzer.random.choice(("", "", "/versions/10", "/versions/-1", "/versions/stable"))
        return f"/v2/models/tiny{version}{INFER}"
    version = fuzzer.random.choice(("",) * 12 + ("/versions/10", "/versions/9", "/labels/stable", "/versions/-1"))
    return f"/v1/models/tiny{version}{action if fuzzer.random.random() < 0.9 else fuzzer.random.choice(ACTIONS)}"


def _body(fuzzer: Fuzzer) -> tuple[str, bytes]:
    """What the body is about, and the body."""
    kind = fuzzer.random.randrange(5)
    if kind == 0:
        return fuzzer.random.choice(ACTIONS), fuzzer.random.choice(NASTY_JSON)
    content: Any = _call(fuzzer)
    action = ":classify" if "examples" in content else INFER if "id" in content else ":predict"
    if kind < 4:
        for _ in range(fuzzer.random.choice((0, 1, 1, 3))):
            content = _altered(fuzzer, content)
    body = json.dumps(content, ensure_ascii=fuzzer.random.random() < 0.5).encode("utf-8", "surrogatepass")
    return action, fuzzer.mutated(body) if kind == 4 else body


def _call(fuzzer: Fuzzer) -> dict[str, Any]:
    """What an honest client would send, but for the pictures."""
    signature, name = fuzzer.random.choice(list(SIGNATURES.items()))
    rows = fuzzer.random.choice((1, 1, 2, 5))
    if signature == "predict_images":
        values: list[Any] = [[[[7, 8, 9]] * 3] * 4] * rows
    elif signature == "predict_tensors":
        values = [[[[0.5, -1.0, 1e3]] * 8] * 8] * rows
    else:
        values = [{"b64": base64.b64encode(fuzzer.picture()).decode()} for _ in range(rows)]
    way = fuzzer.random.randrange(5)
    if way == 4:
        datatype = {"images": "UINT8", "inputs": "FP32"}.get(name, "BYTES")
        shape = [rows, *([4, 3, 3] if name == "images" else [8, 8, 3] if name == "inputs" else [])]
        data: dict[str, Any] = {"data": values} if fuzzer.random.random() < 0.7 else {
            "parameters": {"binary_data_size": fuzzer.random.choice((2, 10, 600, *INTEGERS))}}
        return {"id": "a", "inputs": [{"name": name, "datatype": datatype, "shape": shape, **data}],
                "outputs": [{"name": "logits", "parameters": {"classification": 3, "binary_data": True}}]}
    if way == 0:
        return {"examples": [{"image/encoded": value} for value in values]}
    if way == 1:
        return {"signature_name": signature, "inputs": {name: values}}
    named = [{name: value} for value in values] if way == 2 else values
    return {"signature_name": signature, "instances": named}


def _altered(fuzzer: Fuzzer, value: Any) -> Any:
    """`value` with another one somewhere within it."""
    if isinstance(value, dict) and value and fuzzer.random.random() < 0.85:
        key = fuzzer.random.choice(list(value))
        return {**value, key: _altered(fuzzer, value[key])}
    if isinstance(value, list) and value and fuzzer.random.random() < 0.85:
        at = fuzzer.random.randrange(len(value))
        return [*value[:at], _altered(fuzzer, value[at]), *value[at + 1:]]
    return fuzzer.random.choice((None, True, {}, [], [[]], {"b64": ""}, {"b64": 1}, {"b64": fuzzer.text()},
                                 {fuzzer.text(): value}, [value], [value] * 3, fuzzer.random.choice(TEXTS),
                                 fuzzer.random.choice(INTEGERS), fuzzer.random.choice(FLOATS), 10**400, "\ud800"))
