"""voc_cls.client and voc-predict: encrypted, shown a certificate, with a token or an API key - against real files.

Certificates are made by the command openssl.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.commands import command
from tests.integration.serving.both_clients import KINDS, connect
from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.secured import TOKEN, Files, flags_of, make_certificates
from voc_cls.client import CallError, Client
from voc_cls.errors import ClientError

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl makes the certificates")
OTHER = "a-token-that-nobody-knows-at-all"
Connect = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def secured(files: Files, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that is encrypted, wants to see a certificate, and a token."""
    starter = Start(tmp_path_factory.mktemp("secured"))
    yield starter(model, *flags_of(files)).wait_until_ready()
    starter.end_all()


@pytest.fixture(params=KINDS)
def to(request: pytest.FixtureRequest) -> Connect:
    """Connects with either client."""
    return connect(request.param)


def shown(files: Files) -> dict[str, Any]:
    """What the server wants to see."""
    return {"tls": files.ca, "client_cert": files.cert, "client_key": files.key}


def test_every_method_works_over_tls_with_a_certificate_and_a_token(to: Connect, secured: Server, files: Files) -> None:
    asked: list[int] = []

    def rotating() -> str:
        asked.append(1)
        return TOKEN

    for key in ({"token": TOKEN}, {"api_key": TOKEN}, {"token": rotating}):
        with to(secured.address, **shown(files), **key) as client:
            assert client.classify([jpeg(0)], top_k=1)[0].model == "tiny"
            assert len(list(client.classify_stream([jpeg(0), jpeg(1)]))) == 2
            assert client.model().version == 10
    assert len(asked) == 3  # once a call


def test_who_has_no_good_key_is_told_what_is_missing(to: Connect, secured: Server, files: Files) -> None:
    for key, said in (({}, "no key"), ({"token": OTHER}, "not known")):
        told = rf"requires authentication \(.*{said}.*give a `token` or an `api_key`"
        with to(secured.address, **shown(files), **key) as client:
            with pytest.raises(CallError, match=told) as error:
                client.classify([jpeg(0)])
            assert error.value.code is grpc.StatusCode.UNAUTHENTICATED
            assert OTHER not in str(error.value)
            with pytest.raises(CallError, match=said):
                list(client.classify_stream([jpeg(0)]))


def test_who_does_not_trust_the_server_or_is_not_trusted_is_told_so(to: Connect, secured: Server, files: Files) -> None:
    for options, told in (({**shown(files), "tls": True}, f"^no trusted connection to {secured.address}"),
                          ({"tls": files.ca}, "give `client_cert` and `client_key` if the server requires")):
        with to(secured.address, token=TOKEN, **options) as client, pytest.raises(CallError, match=told):
            client.classify([jpeg(0)])


def test_who_asks_a_tls_server_without_encryption_is_told_of_it(to: Connect, secured: Server) -> None:
    with to(secured.address) as client, pytest.raises(CallError, match="or use `tls` if the server requires it"):
        client.classify([jpeg(0)])


def test_a_token_goes_over_plain_text_with_a_warning_unless_it_stays_here_or_is_meant_to(
        model: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text(f"keys:\n  - name: app\n    token: {TOKEN}\n")
    server = start(model, "--keys-file", tmp_path / "keys.yaml").wait_until_ready()
    for key in ({"token": TOKEN}, {"api_key": TOKEN}, {"token": lambda: TOKEN}):
        with Client(server.address, **key) as client:  # 127.0.0.1: nobody is on the way
            assert client.model().model == "tiny"
            assert len(list(client.classify_stream([jpeg(0)]))) == 1
    with pytest.warns(UserWarning, match=r"the token is sent to box\.example:8500 unencrypted.*plain_text_keys=True"):
        Client("box.example:8500", token=TOKEN).close()
    Client("box.example:8500", token=TOKEN, plain_text_keys=True).close()
    with pytest.raises(ClientError, match="give one of them"):
        Client(server.address, token=TOKEN, api_key=TOKEN)


def test_voc_predict_shows_its_certificate_and_takes_its_token_from_the_environment(secured: Server, files: Files,
                                                                                   tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(jpeg(0))
    flags = (picture, "--server", secured.address, "--ca", files.ca, "--client-cert", files.cert, "--client-key",
             files.key, "--top-k", 1)
    for variable in ("VOC_TOKEN", "VOC_API_KEY"):
        asked = command("voc-predict", *flags, **{variable: f"{TOKEN}\n"})  # as $(cat file) does not give it
        assert (asked.returncode, asked.stderr, len(asked.stdout.splitlines())) == (0, "", 1)
    asked = command("voc-predict", *flags, "--token", OTHER, VOC_TOKEN=TOKEN)
    assert asked.returncode == 1
    assert "requires authentication" in asked.stderr
    assert OTHER not in asked.stderr
    assert command("voc-predict", *flags, "--api-key", TOKEN, VOC_TOKEN=OTHER).returncode == 0


def test_voc_predict_notes_a_token_that_everybody_could_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    asked = command("voc-predict", tmp_path / "a.jpg", "--server", "box.invalid:1", "--wait", 0, VOC_TOKEN=TOKEN)
    assert asked.returncode == 1
    assert asked.stderr.startswith("voc-predict: note: the token is sent to box.invalid:1 unencrypted")
    assert "no server answers at box.invalid:1" in asked.stderr
    assert TOKEN not in asked.stderr
