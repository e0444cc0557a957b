"""Callers are who their key says, may do what the file gives them, and learn nothing when they are refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.errors import PermissionDenied, StatusError, Unauthenticated
from serving.security.auth import GROUPS, Authenticator, group_of, identity

PHOTO, ADMIN, OLD, UNKNOWN = "photo-" * 5, "admin-" * 5, "older-" * 5, "other-" * 5
PEER = "ipv4:10.0.0.7:5000"
PREDICT, CLASSIFY = "/tensorflow.serving.PredictionService/Predict", "/voc_cls.v1.Classifier/Classify"
STATUS, RELOAD = ("/tensorflow.serving.ModelService/GetModelStatus",
                  "/tensorflow.serving.ModelService/HandleReloadConfigRequest")
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
HTTP_PREDICT, HTTP_STATUS, METRICS = "POST /v1/models/{name}:predict", "GET /v1/models/{name}", "GET /metrics"
HTTP_METADATA = "GET /v1/models/{name}/metadata"
HEALTH = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "GET /healthz", "HEAD /healthz")
PAGE = ("GET /", "HEAD /", "GET /page/page.js")


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def entry(name: str, token: str, methods: str = "") -> str:
    return f"  - name: {name}\n    sha256: {digest(token)}\n" + (f"    methods: {methods}\n" if methods else "")


def access(folder: Path, *entries: str) -> Authenticator:
    file = folder / "keys.yaml"
    file.write_text("keys:\n" + "".join(entries))
    return Authenticator(file)


def bearer(token: str) -> list[tuple[str, str | bytes]]:
    return [("authorization", f"Bearer {token}")]


def may(keys: Authenticator, method: str, token: str) -> bool:
    try:
        keys.client(method, bearer(token), PEER)
    except PermissionDenied:
        return False
    return True


def refused(keys: Authenticator, headers: Iterable[tuple[str, str | bytes]]) -> str:
    with pytest.raises(Unauthenticated) as error:
        keys.client(PREDICT, headers, PEER)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300
    return str(error.value)


def test_without_a_keys_file_everybody_may_do_everything_but_manage_the_models() -> None:
    keys = Authenticator(None)
    with pytest.raises(PermissionDenied, match=r"(?s)`allow_reload`.*`keys_file`"):
        keys.client(RELOAD, (), PEER)
    with pytest.raises(PermissionDenied):
        keys.client(RELOAD, bearer(PHOTO), PEER, "photo app")
    assert Authenticator(None, allow_reload=True).client(RELOAD, (), PEER) == "10.0.0.7"
    assert keys.client(PREDICT, (), PEER, "photo app") == "photo%20app"
    assert identity("ipv6:%5B::1%5D:5") == "::1"


def test_a_key_is_known_by_either_header_and_names_the_caller(tmp_path: Path) -> None:
    keys = access(tmp_path, entry("photo-app", PHOTO), entry("admin", ADMIN))
    assert keys.client(PREDICT, bearer(PHOTO), PEER) == "photo-app"
    assert keys.client(PREDICT, [("Authorization", f"bearer  {PHOTO} ")], PEER, "certificate") == "photo-app"
    assert keys.client(PREDICT, [("X-API-Key", ADMIN)], PEER) == "admin"
    assert keys.client(PREDICT, [("x-api-key", ADMIN.encode()), ("accept", "*/*")], PEER) == "admin"


def test_tokens_in_clear_are_taken_as_they_are_written(tmp_path: Path) -> None:
    for token in ("0012345678901234567890", "1e9999999999999999", "0x0123456789abcdef", "2026-11-22T00:00:00Z"):
        keys = access(tmp_path, f"  - {{name: a, token: {token}}}\n")
        assert keys.client(PREDICT, bearer(token), PEER) == "a"


def test_a_name_may_have_an_old_and_a_new_token(tmp_path: Path) -> None:
    keys = access(tmp_path, entry("photo-app", OLD), entry("photo-app", PHOTO))
    assert {keys.client(PREDICT, bearer(token), PEER) for token in (OLD, PHOTO)} == {"photo-app"}


def test_health_and_the_page_need_no_key_and_say_nothing_about_one(tmp_path: Path) -> None:
    keys = access(tmp_path, entry("photo-app", PHOTO, "[predict]"))
    for method in (*HEALTH, *PAGE):
        assert keys.client(method, (), PEER) == "10.0.0.7"
        assert keys.client(method, bearer(UNKNOWN), PEER) == "10.0.0.7"


@pytest.mark.parametrize(("methods", "allowed"), [
    ("", {PREDICT, CLASSIFY, METADATA, STATUS, METRICS, REFLECTION, HTTP_PREDICT, HTTP_STATUS, HTTP_METADATA}),
    ("['*']", {PREDICT, CLASSIFY, METADATA, STATUS, METRICS, REFLECTION, HTTP_PREDICT, HTTP_STATUS, HTTP_METADATA}),
    ("[predict]", {PREDICT, CLASSIFY, HTTP_PREDICT}),
    ("[status]", {METADATA, STATUS, HTTP_STATUS, HTTP_METADATA}),
    ("[metrics, reflection]", {METRICS, REFLECTION}),
    ("[admin]", {RELOAD}),
    ("['/voc_cls.v1.Classifier/*']", {CLASSIFY}),
    (f"[{PREDICT}, {METRICS}]", {PREDICT, METRICS}),
    ("['/tensorflow.serving.*']", {PREDICT, METADATA, STATUS}),
    ("['GET /v1/*']", {HTTP_STATUS, HTTP_METADATA}),
    (f"[{RELOAD}]", {RELOAD}),
])
def test_a_key_is_good_for_its_methods_on_both_ports_and_no_others(tmp_path: Path, methods: str,
                                                                   allowed: set[str]) -> None:
    keys = access(tmp_path, entry("photo-app", PHOTO, methods))
    every = (PREDICT, CLASSIFY, METADATA, STATUS, RELOAD, METRICS, REFLECTION, HTTP_PREDICT, HTTP_STATUS, HTTP_METADATA)
    assert {method for method in every if may(keys, method, PHOTO)} == allowed


@pytest.mark.parametrize("method", [
    "/tensorflow.serving.ModelService/SomethingNew", "/tensorflow.serving.SessionService/Run",
    "/voc_cls.v1.Other/Call", "POST /v1/reload", "DELETE /v1/models/{name}", "GET /other",
])
def test_a_method_that_no_group_has_is_given_by_name_only(tmp_path: Path, method: str) -> None:
    assert not may(access(tmp_path, entry("photo-app", PHOTO)), method, PHOTO)
    assert may(access(tmp_path, entry("photo-app", PHOTO, f"['{method}']")), method, PHOTO)


@pytest.mark.parametrize(("method", "group"), [
    (PREDICT, "predict"), (METADATA, "status"), (STATUS, "status"), (RELOAD, "admin"), (METRICS, "metrics"),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "reflection"), ("HEAD /metrics", "metrics"),
    ("GET /monitoring/prometheus/metrics", "metrics"),
    ("POST /v1/models/{name}/versions/{version}:classify", "predict"), ("/grpc.health.v1.Healthy/Check", ""),
    ("POST /healthz", ""), ("GET /healthz/../metrics", ""), ("GET /v2/health/live", "health"),
    ("GET /page", ""), ("POST /", ""), ("POST /page/page.js", ""),
    ("GET /v2", "status"), ("GET /v2/models/{name}/ready", "status"), ("POST /v2/repository/index", "status"),
    ("POST /v2/models/{name}/versions/{version}/infer", "predict"), ("GET /openapi.json", "status"),
    ("POST /v2/repository/models/{model_name}/load", "admin"),
    ("/inference.GRPCInferenceService/RepositoryModelUnload", "admin"),
    ("/inference.GRPCInferenceService/ServerReady", "health"),
    ("/inference.GRPCInferenceService/ModelInfer", "predict"),
])
def test_methods_have_groups(method: str, group: str) -> None:
    assert group_of(method) == group


def test_every_method_of_the_services_has_a_group() -> None:
    from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2

    from serving.v2 import open_inference_pb2
    from voc_cls.v1 import classifier_pb2

    for module in (model_service_pb2, prediction_service_pb2, classifier_pb2, open_inference_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                assert group_of(f"/{service.full_name}/{method.name}") in ("predict", "status", "admin", "health")


def test_the_refusal_names_the_method_and_the_key_but_no_token(tmp_path: Path) -> None:
    keys = access(tmp_path, entry("photo-app", PHOTO, "[predict, status]"))
    with pytest.raises(PermissionDenied) as error:
        keys.client(RELOAD, bearer(PHOTO), PEER)
    assert str(error.value).startswith(f"key 'photo-app' may not call {RELOAD}, as it is for predict, status: ask")
    with pytest.raises(PermissionDenied) as error:
        keys.client("/x\nERROR " + "y" * 10000, bearer(PHOTO), PEER)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(("headers", "reason"), [
    ((), "no key: send the header authorization: Bearer TOKEN, or x-api-key: TOKEN"),
    ([("authorization-bin", f"Bearer {PHOTO}".encode()), ("x-api-key-bin", PHOTO.encode())], "no key: "),
    ([("cookie", f"authorization={PHOTO}")], "no key: "),
    (bearer(UNKNOWN), "the key is not known here: "),
    ([("x-api-key", UNKNOWN)], "the key is not known here: "),
    ([("x-api-key", f"Bearer {PHOTO}")], "the token sent is not valid"),
    ([("authorization", PHOTO)], "an authorization that is not Bearer: "),
    ([("authorization", f"Basic {PHOTO}")], "an authorization that is not Bearer: "),
    ([("authorization", f"Bearer\t{PHOTO}")], "an authorization that is not Bearer: "),
    ([("authorization", "Bearer")], "the token sent is not valid"),
    ([("x-api-key", "")], "the token sent is not valid"),
    (bearer(f"{PHOTO}, Bearer {PHOTO}"), "the token sent is not valid"),
    (bearer(f"{PHOTO}\n"), "the token sent is not valid"),
    (bearer(PHOTO + "ä"), "the token sent is not valid"),
    (bearer("\udcff" * 30), "the token sent is not valid"),
    (bearer("а" * 30), "the token sent is not valid"),
    ([("authorization", b"Bearer " + b"\xff" * 30)], "the token sent is not valid"),
    (bearer("x" * 10**6), "the token sent is not valid"),
    (bearer(PHOTO) * 2, "2 keys: send one"),
    ([*bearer(UNKNOWN), *bearer(PHOTO)], "2 keys: send one"),
    ([*bearer(PHOTO), ("x-api-key", ADMIN)], "2 keys: send one"),
    (bearer(PHOTO.upper()), "the key is not known here: "),
    (bearer(PHOTO[:-1]), "the key is not known here: "),
    (bearer(digest(PHOTO)), "the key is not known here: "),
])
def test_whoever_shows_no_good_key_is_refused(tmp_path: Path, headers: list[tuple[str, str | bytes]],
                                              reason: str) -> None:
    message = refused(access(tmp_path, entry("photo-app", PHOTO), entry("admin", ADMIN)), headers)
    assert message.startswith(reason)
    for token in (PHOTO, ADMIN, UNKNOWN):
        assert token.lower() not in message.lower()


def test_all_keys_are_looked_at_whichever_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmac

    looked: list[bytes] = []
    compare = hmac.compare_digest
    keys = access(tmp_path, *(entry(f"key-{number}", f"{PHOTO}{number}") for number in range(50)))
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: looked.append(one) or compare(one, other))
    for number in (0, 25, 49):
        looked.clear()
        assert keys.client(PREDICT, bearer(f"{PHOTO}{number}"), PEER) == f"key-{number}"
        assert len(looked) == 50
    looked.clear()
    refused(keys, bearer(UNKNOWN))
    assert len(looked) == 50


class Answering(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Says by its trailing metadata what Access makes of a real call."""

    def __init__(self, keys: Authenticator) -> None:
        self.keys = keys

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        try:
            client = self.keys.client(PREDICT, context.invocation_metadata(), context.peer())
        except StatusError as refusal:
            await context.abort(refusal.status, str(refusal))
        context.set_trailing_metadata((("client", client),))
        return health_pb2.HealthCheckResponse()


Pairs = list[tuple[str, Any]]


async def over_grpc(keys: Authenticator, calls: list[Pairs]) -> list[str]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Answering(keys), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    found = []
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for metadata in calls:
            call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), metadata=metadata)
            trailing = await call.trailing_metadata()
            found.append(str(dict(trailing).get("client") or (await call.code()).name))
    await server.stop(None)
    return found


async def over_http(keys: Authenticator, calls: list[Pairs]) -> list[str]:
    async def answer(request: web.Request) -> web.Response:
        try:
            return web.Response(text=keys.client(HTTP_PREDICT, request.headers.items(), request.remote or ""))
        except StatusError as refusal:
            return web.Response(text=refusal.status.name, status=refusal.http)

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found = []
    async with aiohttp.ClientSession() as session:
        for headers in calls:
            async with session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/", headers=headers) as response:
                found.append(await response.text())
    await runner.cleanup()
    return found


@pytest.mark.parametrize("port", [over_grpc, over_http])
def test_real_calls_over_both_ports_are_told_apart_alike(tmp_path: Path, port: Any) -> None:
    calls: list[Pairs] = [
        [],
        [("authorization", f"Bearer {PHOTO}")],
        [("x-api-key", ADMIN)],
        [("authorization", f"Bearer {UNKNOWN}")],
        [("authorization", f"Bearer {PHOTO}"), ("authorization", f"Bearer {UNKNOWN}")],
        [("authorization", f"Bearer {PHOTO}"), ("x-api-key", ADMIN)],
        [("authorization", f"Bearer {'x' * 5000}")],
    ]
    keys = access(tmp_path, entry("photo-app", PHOTO), entry("admin", ADMIN))
    assert asyncio.run(port(keys, calls)) == ["UNAUTHENTICATED", "photo-app", "admin", *["UNAUTHENTICATED"] * 4]
    assert asyncio.run(port(Authenticator(None), calls[:1])) == ["127.0.0.1"]


def test_bytes_in_metadata_are_no_key(tmp_path: Path) -> None:
    keys = access(tmp_path, entry("photo-app", PHOTO))
    assert asyncio.run(over_grpc(keys, [[("authorization-bin", f"Bearer {PHOTO}".encode())]])) == ["UNAUTHENTICATED"]


def test_groups_are_those_that_the_documentation_names() -> None:
    document = (Path(__file__).parents[3] / "docs/security.md").read_text()
    for group in GROUPS:
        assert f"`{group}`" in document
