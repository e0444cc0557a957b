"""Both ports speak TLS with what the files hold now, and with the last good when they hold nothing that works.

Certificates are made by the command openssl, the servers are a real gRPC server and a real aiohttp site.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.config.config import SecurityConfig
from serving.errors import ServeError
from serving.security.sanitize import printable
from serving.security.tls import Certificates, grpc_certificate_name, http_certificate_name

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl makes the certificates")

QUICK = 0.05
"""Seconds between two looks at the files."""
P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
REFUSED = "refused"


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates; one folder each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.cert, self.key = folder, folder / "ca.pem", folder / "ca.key"
        openssl("req", "-x509", *P256, "-days", "30", "-keyout", self.key, "-out", self.cert,
                "-subj", f"/CN={folder.name}")

    def sign(self, name: str, subject: str = "", names: str = "DNS:localhost,IP:127.0.0.1", days: int = 10,
             kind: tuple[str, ...] = P256) -> Pair:
        pair, request, extensions = (Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key"),
                                     self.folder / f"{name}.csr", self.folder / f"{name}.ext")
        extensions.write_text(f"subjectAltName={names}\n")
        openssl("req", "-utf8", *kind, "-keyout", pair.key, "-out", request, "-subj", subject or f"/CN={name}")
        openssl("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self.key, "-CAcreateserial", "-days",
                str(days), "-extfile", extensions, "-out", pair.cert)
        return pair


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that everybody trusts."""
    return Authority(tmp_path_factory.mktemp("ours") / "ours")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One that nobody asked."""
    return Authority(tmp_path_factory.mktemp("foreign") / "foreign")


@pytest.fixture(scope="module")
def first(ours: Authority) -> Pair:
    return ours.sign("first")


@pytest.fixture(scope="module")
def second(ours: Authority) -> Pair:
    return ours.sign("second", kind=("-newkey", "rsa:2048", "-nodes"))


@pytest.fixture
def files(tmp_path: Path, first: Pair) -> SecurityConfig:
    """The flags of a server, whose files may be overwritten."""
    config = SecurityConfig(tls_cert=tmp_path / "server.pem", tls_key=tmp_path / "server.key")
    put(config, first)
    return config


@pytest.fixture
def mutual(files: SecurityConfig, tmp_path: Path, ours: Authority) -> SecurityConfig:
    """The same with `client_ca`."""
    shutil.copyfile(ours.cert, tmp_path / "clients.pem")
    return SecurityConfig(tls_cert=files.tls_cert, tls_key=files.tls_key, client_ca=tmp_path / "clients.pem")


def put(config: SecurityConfig, pair: Pair) -> None:
    assert config.tls_cert is not None
    assert config.tls_key is not None
    shutil.copyfile(pair.cert, config.tls_cert)
    shutil.copyfile(pair.key, config.tls_key)


async def settle() -> None:
    """Until the next look must find what has changed."""
    await asyncio.sleep(4 * QUICK)


class Naming(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Says in its trailing metadata who calls."""

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: ARG002
        name = grpc_certificate_name(context.auth_context())
        context.set_trailing_metadata((("name", printable(name or "nobody")),))
        return health_pb2.HealthCheckResponse()


async def naming(request: web.Request) -> web.Response:
    return web.Response(text=printable(http_certificate_name(request.transport) or "nobody"))


class Served:
    """A server on two ports, and clients of it."""

    def __init__(self, roots: Path, grpc_port: int, http_port: int) -> None:
        self.roots, self.ports = roots, {"grpc": grpc_port, "http": http_port}

    def channel(self, client: Pair | None = None) -> grpc.aio.Channel:
        credentials = grpc.ssl_channel_credentials(self.roots.read_bytes(), client and client.key.read_bytes(),
                                                   client and client.cert.read_bytes())
        apart = [("grpc.use_local_subchannel_pool", 1)]  # or a new channel would use an old one's connection
        return grpc.aio.secure_channel(f"localhost:{self.ports['grpc']}", credentials, options=apart)

    async def call(self, channel: grpc.aio.Channel) -> str:
        """What the server says over gRPC."""
        call = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return REFUSED if error.code() is grpc.StatusCode.UNAVAILABLE else error.code().name
        return str(dict(await call.trailing_metadata())["name"])

    def trust(self, client: Pair | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.roots))
        if client is not None:
            context.load_cert_chain(client.cert, client.key)
        return context

    async def names(self, client: Pair | None = None) -> tuple[str, str]:
        """Who the caller is to new connections, over gRPC and over HTTP; REFUSED where they are not let in."""
        async with self.channel(client) as channel:
            over_grpc = await self.call(channel)
        try:
            async with aiohttp.ClientSession() as session, session.get(
                    f"https://localhost:{self.ports['http']}/healthz", ssl=self.trust(client)) as response:
                over_http = await response.text()
        except (aiohttp.ClientError, ssl.SSLError, ConnectionError):
            over_http = REFUSED
        return over_grpc, over_http

    async def shown(self, context: ssl.SSLContext | None = None) -> dict[str, str]:
        """The common name that each port shows to a new connection."""
        found = {}
        for kind, port in self.ports.items():
            trust = context or self.trust()
            trust.set_alpn_protocols(["h2"] if kind == "grpc" else ["http/1.1"])
            _, writer = await asyncio.open_connection("localhost", port, ssl=trust)
            certificate = writer.get_extra_info("peercert")
            found[kind] = next(value for part in certificate["subject"] for _, value in part)
            writer.transport.abort()  # close() would wait for the other side's good-bye
        return found


@contextlib.asynccontextmanager
async def serving(certificates: Certificates, roots: Path) -> AsyncIterator[Served]:
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(Naming(), server)
    port = server.add_secure_port("localhost:0", certificates.grpc_credentials())
    await server.start()
    application = web.Application()
    application.router.add_get("/healthz", naming)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0, ssl_context=certificates.http_context()).start()
    try:
        yield Served(roots, port, runner.addresses[0][1])
    finally:
        await server.stop(None)
        await runner.cleanup()


def run(config: SecurityConfig, roots: Path, scenario: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    async def all_of_it() -> None:
        assert config.tls_cert is not None
        assert config.tls_key is not None
        certificates = Certificates(config.tls_cert, config.tls_key, config.client_ca, QUICK)
        async with serving(certificates, roots) as served:
            await scenario(served)

    asyncio.run(all_of_it())


def test_both_ports_answer_who_trusts_them(files: SecurityConfig, ours: Authority, foreign: Authority) -> None:
    async def scenario(served: Served) -> None:
        assert await served.names() == ("nobody", "nobody")
        assert await served.shown() == {"grpc": "first", "http": "first"}
        served.roots = foreign.cert
        assert await served.names() == (REFUSED, REFUSED)

    run(files, ours.cert, scenario)


def test_new_connections_get_a_new_certificate_and_open_ones_go_on(files: SecurityConfig, ours: Authority, second: Pair,
                                                                   first: Pair) -> None:
    async def scenario(served: Served) -> None:
        url = f"https://localhost:{served.ports['http']}/healthz"
        async with served.channel() as channel, aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=served.trust(), limit=1)) as session:
            assert await served.call(channel) == "nobody"
            async with session.get(url) as response:
                await response.text()
            for pair, name in ((second, "second"), (first, "first"), (second, "second")):
                put(files, pair)
                await settle()
                assert await served.shown() == {"grpc": name, "http": name}
                assert await served.names() == ("nobody", "nobody")
                assert await served.call(channel) == "nobody"
                async with session.get(url) as response:
                    assert await response.text() == "nobody"

    run(files, ours.cert, scenario)


def test_what_cannot_be_used_keeps_the_old_certificate_and_is_logged_once(
        files: SecurityConfig, ours: Authority, first: Pair, second: Pair, caplog: pytest.LogCaptureFixture) -> None:
    assert files.tls_cert is not None
    assert files.tls_key is not None
    cert, key = files.tls_cert, files.tls_key
    breakages: list[tuple[Callable[[], object], str]] = [
        (lambda: shutil.copyfile(second.key, key), "is not the key of"),
        (lambda: cert.write_bytes(second.cert.read_bytes()[:300]), "cannot be used"),
        (lambda: cert.write_bytes(b""), "holds no certificate"),
        (lambda: key.unlink(), "cannot be read (No such file or directory)"),
        (lambda: (key.unlink(), key.mkdir()), "cannot be read (Is a directory)"),
    ]

    async def scenario(served: Served) -> None:
        for breaks, reason in breakages:
            caplog.clear()
            breaks()
            for _ in range(4):
                if key.is_file():
                    key.touch()  # so that the same files are read again
                await settle()
                assert await served.shown() == {"grpc": "first", "http": "first"}
                assert await served.names() == ("nobody", "nobody")
            errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
            assert len(errors) == 1, (reason, errors)
            assert reason in errors[0]
            assert errors[0].endswith("the certificate read before stays in use")
            if key.is_dir():
                key.rmdir()
            put(files, first)
            await settle()
            await served.shown()
        put(files, second)
        await settle()
        assert await served.shown() == {"grpc": "second", "http": "second"}

    run(files, ours.cert, scenario)


def test_with_a_client_ca_only_its_clients_get_in_and_have_the_same_name_on_both_ports(
        mutual: SecurityConfig, ours: Authority, foreign: Authority) -> None:
    plain = ours.sign("photo-app")
    unnamed = ours.sign("unnamed", "/O=us", "URI:spiffe://us/photo-app,DNS:app.us")
    odd = ours.sign("odd", "/CN=Müller\nstatus=OK")

    async def scenario(served: Served) -> None:
        assert await served.names() == (REFUSED, REFUSED)
        assert await served.names(foreign.sign("photo-app")) == (REFUSED, REFUSED)
        assert await served.names(ours.sign("late", days=-1)) == (REFUSED, REFUSED)
        assert await served.names(plain) == ("photo-app", "photo-app")
        assert await served.names(unnamed) == ("spiffe://us/photo-app",) * 2
        assert await served.names(odd) == ("M%C3%BCller%0Astatus%3DOK",) * 2

    run(mutual, ours.cert, scenario)


def test_another_client_ca_counts_for_new_connections(mutual: SecurityConfig, ours: Authority,
                                                      foreign: Authority) -> None:
    old, new = ours.sign("old-app"), foreign.sign("new-app")

    async def scenario(served: Served) -> None:
        assert await served.names(old) == ("old-app", "old-app")
        assert await served.names(new) == (REFUSED, REFUSED)
        assert mutual.client_ca is not None
        shutil.copyfile(foreign.cert, mutual.client_ca)
        await settle()
        assert await served.names(new) == ("new-app", "new-app")
        assert await served.names(old) == (REFUSED, REFUSED)

    run(mutual, ours.cert, scenario)


def test_a_session_cannot_be_resumed_past_a_change_of_the_client_ca(mutual: SecurityConfig, ours: Authority) -> None:
    client = ours.sign("old-app")

    async def scenario(served: Served) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            trust = served.trust(client)
            trust.minimum_version = trust.maximum_version = version
            assert await asyncio.to_thread(resumes, served.ports["http"], trust) is False

    run(mutual, ours.cert, scenario)


def resumes(port: int, trust: ssl.SSLContext) -> bool:
    """Whether a second connection may go on with the session of the first."""
    session = None
    for _ in range(2):
        with (socket.create_connection(("localhost", port), timeout=10) as plain,
              trust.wrap_socket(plain, server_hostname="localhost", session=session) as connection):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            session = connection.session
            resumed = bool(connection.session_reused)
    return resumed


@pytest.mark.parametrize(("version", "welcome"), [
    (ssl.TLSVersion.TLSv1_1, False), (ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_3, True)])
def test_nothing_older_than_tls_1_2_is_spoken(files: SecurityConfig, ours: Authority, version: ssl.TLSVersion,
                                              welcome: bool) -> None:
    async def scenario(served: Served) -> None:
        for kind in ("grpc", "http"):
            context = served.trust()
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of the version
                context.minimum_version = context.maximum_version = version
            one = Served(served.roots, 0, 0)
            one.ports = {kind: served.ports[kind]}
            if welcome:
                assert await one.shown(context) == {kind: "first"}
            else:
                with pytest.raises((ssl.SSLError, ConnectionResetError), match=r"ALERT_PROTOCOL_VERSION|^$"):
                    await one.shown(context)

    run(files, ours.cert, scenario)


@pytest.mark.parametrize(("ciphers", "welcome"), [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-AES128-SHA256", False), ("ECDHE-ECDSA-AES256-SHA", False),
    ("AES128-SHA", False)])
def test_old_ciphers_are_refused_on_both_ports(files: SecurityConfig, ours: Authority, ciphers: str,
                                               welcome: bool) -> None:
    async def scenario(served: Served) -> None:
        for kind in ("grpc", "http"):
            context = served.trust()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
            one = Served(served.roots, 0, 0)
            one.ports = {kind: served.ports[kind]}
            if welcome:
                assert await one.shown(context) == {kind: "first"}
            else:
                with pytest.raises((ssl.SSLError, ConnectionResetError), match=r"HANDSHAKE_FAILURE|^$"):
                    await one.shown(context)

    run(files, ours.cert, scenario)


def message(tls_cert: Path, tls_key: Path, client_ca: Path | None = None) -> str:
    with pytest.raises(ServeError) as error:
        Certificates(tls_cert, tls_key, client_ca)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_cannot_be_used_at_the_start_is_named_with_its_flag(tmp_path: Path, ours: Authority, first: Pair,
                                                                 second: Pair) -> None:
    cert, key, none = first.cert, first.key, tmp_path / "none"
    empty, half = tmp_path / "empty", tmp_path / "half"
    empty.write_bytes(b"")
    half.write_bytes(cert.read_bytes()[:300])
    assert message(tls_cert=none, tls_key=key).startswith(f"`tls_cert` {none} cannot be read (No such file")
    assert message(tls_cert=cert, tls_key=none).startswith(f"`tls_key` {none} cannot be read (No such file")
    assert message(tls_cert=cert, tls_key=key, client_ca=none).startswith(f"`client_ca` {none} cannot be read (No such")
    assert message(tls_cert=key, tls_key=key).startswith(f"`tls_cert` {key} holds no certificate in PEM form")
    assert message(tls_cert=cert, tls_key=cert).startswith(f"`tls_key` {cert} holds no private key in PEM form")
    assert message(tls_cert=cert, tls_key=key, client_ca=key).startswith(f"`client_ca` {key} holds no certificate")
    assert message(tls_cert=cert, tls_key=key, client_ca=half).startswith(f"`client_ca` {half} cannot be used")
    assert message(tls_cert=half, tls_key=key).startswith(f"`tls_cert` {half} and `tls_key` {key} cannot be used")
    mine = ours.sign("mine")
    for other in (mine.key, second.key):  # of the same kind, and of another
        assert f"`tls_key` {other} is not the key of `tls_cert` {cert}: " in message(tls_cert=cert, tls_key=other)
    weak = ours.sign("weak", kind=("-newkey", "rsa:1024", "-nodes"))
    assert "cannot be used (ee key too small)" in message(tls_cert=weak.cert, tls_key=weak.key)


@pytest.mark.parametrize("form", ["pkcs8", "traditional"])
def test_an_encrypted_key_is_refused_without_asking_anybody(tmp_path: Path, first: Pair, form: str) -> None:
    locked = tmp_path / "locked.key"
    openssl(*(("pkey",) if form == "pkcs8" else ("ec",)), "-in", first.key, "-aes128", "-passout", "pass:secret",
            "-out", locked)
    assert message(tls_cert=first.cert, tls_key=locked).startswith(f"`tls_key` {locked} is encrypted")


def test_the_end_of_the_certificate_is_known_and_warned_of_when_past(ours: Authority, foreign: Authority,
                                                                    caplog: pytest.LogCaptureFixture) -> None:
    good = foreign.sign("good", days=7)
    expires = Certificates(good.cert, good.key, None)._files.content.expires
    assert expires == pytest.approx(time.time() + 7 * 86400, abs=300)
    assert not caplog.records
    late = ours.sign("late", days=-1)
    expires = Certificates(late.cert, late.key, None)._files.content.expires
    assert expires == pytest.approx(time.time() - 86400, abs=300)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "has expired on" in caplog.text


def test_callers_without_a_certificate_have_no_name() -> None:
    assert grpc_certificate_name({}) is None
    assert grpc_certificate_name({"transport_security_type": [b"ssl"]}) is None
    assert grpc_certificate_name({"x509_common_name": [b"\xff"]}) == "\\xff"
    assert http_certificate_name(None) is None
