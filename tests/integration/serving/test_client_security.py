"""voc_cls.client and voc-predict with TLS, a client certificate, and a token or an API key.

Certificates are made by the command openssl.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.commands import command_in_process
from tests.integration.serving.both_clients import Connect
from tests.integration.serving.conftest import Server, Start, jpeg
from tests.integration.serving.scripted_server import Scripted, serving
from tests.integration.serving.secured import TOKEN, Files, flags_of
from voc_cls.client import CallError, Client

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="the command openssl makes the certificates")
OTHER = "a-token-that-nobody-knows-at-all"


@pytest.fixture(scope="module")
def secured(certificates: Files, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with TLS that requires a client certificate, and a token."""
    starter = Start(tmp_path_factory.mktemp("secured"))
    yield starter(model, *flags_of(certificates)).wait_until_ready()
    starter.end_all()


def tls_options(certificates: Files) -> dict[str, Any]:
    """What the server requires, but for the key."""
    return {"tls": certificates.ca, "client_cert": certificates.cert, "client_key": certificates.key}


def test_every_method_works_over_tls_with_a_certificate_and_a_token(to: Connect, secured: Server,
                                                                    certificates: Files) -> None:
    asked: list[int] = []

    def rotating() -> str:
        asked.append(1)
        return TOKEN

    for key in ({"token": TOKEN}, {"api_key": TOKEN}, {"token": rotating}):
        with to(secured.address, **tls_options(certificates), **key) as client:
            assert client.classify([jpeg(0)], top_k=1)[0].model == "tiny"
            assert len(list(client.classify_stream([jpeg(0), jpeg(1)]))) == 2
            assert client.model().version == 10
    assert len(asked) == 3  # once a call


def test_a_missing_or_unknown_key_is_reported(to: Connect, secured: Server, certificates: Files) -> None:
    for key, said in (({}, "no key"), ({"token": OTHER}, "not known")):
        told = rf"requires authentication \(.*{said}.*give a `token` or an `api_key`"
        with to(secured.address, **tls_options(certificates), **key) as client:
            with pytest.raises(CallError, match=told) as error:
                client.classify([jpeg(0)])
            assert error.value.code is grpc.StatusCode.UNAUTHENTICATED
            assert OTHER not in str(error.value)
            with pytest.raises(CallError, match=said):
                list(client.classify_stream([jpeg(0)]))


def test_a_certificate_that_one_side_rejects_is_reported(to: Connect, secured: Server, certificates: Files) -> None:
    for options, told in (({**tls_options(certificates), "tls": True}, f"^no trusted connection to {secured.address}"),
                          ({"tls": certificates.ca}, "give `client_cert` and `client_key` if the server requires")):
        with to(secured.address, token=TOKEN, **options) as client, pytest.raises(CallError, match=told):
            client.classify([jpeg(0)])


def test_a_call_without_encryption_to_a_tls_server_is_reported(to: Connect, secured: Server) -> None:
    with to(secured.address) as client, pytest.raises(CallError, match="or use `tls` if the server requires it"):
        client.classify([jpeg(0)])


def test_a_key_goes_over_plain_text_with_a_warning_unless_it_stays_on_this_machine(to: Connect) -> None:
    servicer = Scripted()
    with serving(servicer) as address:
        for key, header in (({"token": TOKEN}, ("authorization", f"Bearer {TOKEN}")),
                            ({"api_key": TOKEN}, ("x-api-key", TOKEN)),
                            ({"token": lambda: TOKEN}, ("authorization", f"Bearer {TOKEN}"))):
            with to(address, **key) as client:  # no warning on 127.0.0.1
                client.model()
                assert header in servicer.metadata.items()
                servicer.metadata = {}
                assert len(list(client.classify_stream([jpeg(0)]))) == 1
                assert header in servicer.metadata.items()
    with pytest.warns(UserWarning, match=r"the token is sent to box\.example:8500 unencrypted.*plain_text_keys=True"):
        Client("box.example:8500", token=TOKEN).close()


def test_voc_predict_shows_its_certificate_and_takes_its_token_from_the_environment(
        secured: Server, certificates: Files, tmp_path: Path) -> None:
    picture = tmp_path / "a.jpg"
    picture.write_bytes(jpeg(0))
    flags = (picture, "--server", secured.address, "--ca", certificates.ca, "--client-cert", certificates.cert,
             "--client-key", certificates.key, "--top-k", 1)
    for variable in ("VOC_TOKEN", "VOC_API_KEY"):
        asked = command_in_process("voc-predict", *flags, **{variable: f"{TOKEN}\n"})  # as $(cat file) does not give it
        assert (asked.returncode, asked.stderr, len(asked.stdout.splitlines())) == (0, "", 1)
    asked = command_in_process("voc-predict", *flags, "--token", OTHER, VOC_TOKEN=TOKEN)
    assert asked.returncode == 1
    assert "requires authentication" in asked.stderr
    assert OTHER not in asked.stderr
    assert command_in_process("voc-predict", *flags, "--api-key", TOKEN, VOC_TOKEN=OTHER).returncode == 0


def test_voc_predict_notes_a_token_that_is_sent_unencrypted(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(0))
    asked = command_in_process("voc-predict", tmp_path / "a.jpg", "--server", "box.invalid:1", "--wait", 0,
                               VOC_TOKEN=TOKEN)
    assert asked.returncode == 1
    assert asked.stderr.startswith("voc-predict: note: the token is sent to box.invalid:1 unencrypted")
    assert "no server answers at box.invalid:1" in asked.stderr
    assert TOKEN not in asked.stderr
