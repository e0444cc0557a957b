"""A status becomes one sentence with the server, its details, and what to do; and repeating a call has an end."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import pytest

from voc_cls.client.errors import CallError, Retries

S = grpc.StatusCode
TOO_LARGE = "Received message larger than max (70000000 vs. 67108864)"


def retries_of(encrypted: bool, wait: float, on_wait: Callable[[], object] = lambda: None) -> Retries:
    return Retries("box:1", 2.5, 64 * 2**20, encrypted, "r7", wait, on_wait)


@pytest.mark.parametrize(("code", "details", "encrypted", "message"), [
    (S.UNAVAILABLE, "refused", False, "no server answers at box:1 (refused): start one with voc-serve, correct the "
                                      "address, or use `tls` if the server requires it"),
    (S.UNAVAILABLE, "Socket closed", True, "no server answers at box:1 (Socket closed): start one with voc-serve, "
     "correct the address, or give `client_cert` and `client_key` if the server requires a client certificate"),
    (S.UNAVAILABLE, "Ssl handshake failed", True, "no trusted connection to box:1 (Ssl handshake failed): the server "
     "does not use TLS, or one side rejects the other's certificate; check the CA file and the client certificate"),
    (S.DEADLINE_EXCEEDED, "", False, "the server at box:1 did not answer within 2.5 s: it is overloaded or "
                                     "unreachable; retry later, with fewer pictures or a longer `timeout`"),
    (S.RESOURCE_EXHAUSTED, f"SERVER: {TOO_LARGE}", False, "the server at box:1 rejects messages of this size (SERVER: "
     f"{TOO_LARGE}; this client sends up to 64 MiB): send fewer or smaller pictures, or raise the server's "
     "`max_message_mb`"),
    (S.RESOURCE_EXHAUSTED, f"CLIENT: {TOO_LARGE}", False, "the message is larger than this client's 64 MiB (CLIENT: "
     f"{TOO_LARGE}): send fewer or smaller pictures, or raise `max_message_mb`"),
    (S.RESOURCE_EXHAUSTED, "too many", False, "the server at box:1 refused the call with RESOURCE_EXHAUSTED: too many"),
    (S.UNIMPLEMENTED, "unknown method", False, "the server at box:1 does not have this method of voc_cls.v1.Classifier "
                                               "(unknown method): it is not voc-serve, or an older one"),
    (S.UNAUTHENTICATED, "no key", False, "the server at box:1 requires authentication (no key): give a `token` or an "
                                         "`api_key` from its keys file"),
    (S.INTERNAL, "oops", False, "the server at box:1 failed (oops): its log has this call under the request id r7"),
])
def test_every_status_has_its_sentence(code: S, details: str, encrypted: bool, message: str) -> None:
    error = retries_of(encrypted, 0).error(code, details)
    assert (str(error), error.code, error.request_id) == (message, code, "r7")


@pytest.mark.parametrize("details", ["model 'voc' is not ready yet", "the replica that had this call has ended"])
def test_a_server_that_answers_that_it_cannot_is_not_said_to_be_missing(details: str) -> None:
    error = retries_of(False, 0).error(S.UNAVAILABLE, details, answered=True)
    assert str(error) == f"the server at box:1 refused the call with UNAVAILABLE: {details}"


def test_a_call_is_repeated_while_the_server_is_not_ready_and_the_waiting_is_reported_once() -> None:
    reports: list[int] = []
    retries = retries_of(False, 0.2, lambda: reports.append(1))
    with pytest.raises(CallError, match="NOT_FOUND"):
        retries.pause(S.NOT_FOUND, "no")
    assert reports == []
    assert retries.pause(S.UNAVAILABLE, "no") == retries.pause(S.UNAVAILABLE, "no") == 0.5
    assert reports == [1]
    time.sleep(0.21)
    with pytest.raises(CallError, match="no server answers at box:1"):
        retries.pause(S.UNAVAILABLE, "no")
    retries.restart()
    assert retries.pause(S.UNAVAILABLE, "no") == 0.5
    assert reports == [1, 1]
