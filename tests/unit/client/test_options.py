"""Options of a client that contradict each other are reported when it is created."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode

from voc_cls.client import Client
from voc_cls.client.client import plain_text_risk
from voc_cls.client.errors import Retries
from voc_cls.errors import ClientError


@pytest.mark.parametrize(("options", "message"), [
    ({"max_message_mb": 0}, "`max_message_mb` 0 must be from 1 to 2047"),
    ({"max_message_mb": 2048}, "`max_message_mb` 2048 must be from 1 to 2047"),
    ({"tls": True, "client_cert": Path("c.pem")},
     "`client_cert` and `client_key` belong together: give both or neither"),
    ({"client_cert": Path("c.pem"), "client_key": Path("c.key")},
     "`client_cert` needs an encrypted connection: give `tls` too"),
    ({"tls": Path("none.pem")}, "the CA file none.pem cannot be read: No such file or directory; give a PEM file"),
    ({"tls": True, "client_cert": Path("none.pem"), "client_key": Path("none.key")},
     "`client_key` none.key cannot be read: No such file or directory; give a PEM file"),
    ({"token": "a", "api_key": "b"}, "`token` and `api_key` exclude each other: give one of them"),
])
def test_contradictions_are_reported(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ClientError) as error:
        Client("box:1", **options)
    assert str(error.value) == message


@pytest.mark.parametrize(("address", "words"), [
    ("http://box:8501", "write box:8501, if that is not the port of its REST API"),
    ("https://box.example/", "write box.example:8500 with `tls`"),
    ("HTTP://127.0.0.1:8501/v1/models/voc:predict", "write 127.0.0.1:8501,"),
    ("grpc://[::1]:8500", "write [::1]:8500"),
    ("grpcs://box:443", "write box:443 with `tls`"),
])
def test_a_url_is_refused_with_what_to_write(address: str, words: str) -> None:
    with pytest.raises(ClientError, match="is a URL, where HOST:PORT of voc-serve's gRPC port is expected") as error:
        Client(address)
    assert words in str(error.value)


def test_targets_of_grpc_are_not_taken_for_urls() -> None:
    for address in ("box:8500", "dns:///box:8500", "ipv4:127.0.0.1:8500", "unix:///run/voc.sock", "http:8500"):
        Client(address).close()


def test_a_proxy_that_may_be_in_the_way_is_named_but_not_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(address: str) -> str:
        return str(Retries(address, 1, 1, False, "id", 0, lambda: None).error(StatusCode.UNAVAILABLE, "refused"))

    assert "proxy" not in unreachable("box:8500")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert "(refused; through the proxy of http_proxy, unless no_proxy names this host)" in unreachable("box:8500")
    assert "proxy" not in unreachable("localhost:8500")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:8500", "[::1]:1", "unix:/run/voc.sock"])
def test_keys_that_stay_on_this_machine_are_no_risk(address: str) -> None:
    assert plain_text_risk(address, "token", None) is None
    assert plain_text_risk("box:1", None, None) is None


def test_keys_that_cross_a_network_unencrypted_cause_a_warning_where_the_client_is_made() -> None:
    with pytest.warns(UserWarning, match="the API key is sent to box:1 unencrypted") as warned:
        Client("box:1", api_key="key").close()
    assert warned[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Client("box:1", api_key="key", plain_text_keys=True).close()
        Client("box:1", api_key="key", tls=True).close()


def test_a_stream_without_room_for_a_picture_is_refused() -> None:
    with Client("box:1") as client, pytest.raises(ClientError, match="`window` 0 is below 1"):
        client.classify_stream([b"x"], window=0)


def test_a_picture_that_cannot_be_sent_is_named_before_any_other_is_sent() -> None:
    with Client("127.0.0.1:1", max_message_mb=1) as client, pytest.raises(ClientError, match="picture 1 has"):
        client.classify([b"x", bytes(2**21)])
