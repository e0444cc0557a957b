"""A status becomes one sentence with the server, what it said, and what to do; and asking again has an end."""

from __future__ import annotations

import time

import grpc
import pytest

from voc_cls.client.failures import Patience, Teller

S = grpc.StatusCode
TOO_LARGE = "Received message larger than max (70000000 vs. 67108864)"


@pytest.mark.parametrize(("code", "details", "encrypted", "told"), [
    (S.UNAVAILABLE, "refused", False, "no server answers at box:1 (refused): start one with voc-serve, or correct the "
                                      "address, or ask for TLS if the server wants it"),
    (S.UNAVAILABLE, "Socket closed", True, "no server answers at box:1 (Socket closed): start one with voc-serve, or "
                                           "correct the address, or show a client certificate if the server wants one"),
    (S.UNAVAILABLE, "Ssl handshake failed", True, "no trusted connection to box:1 (Ssl handshake failed): the server "
     "does not speak TLS, or one side does not accept the other's certificate; check the CA file and the client's "
     "certificate"),
    (S.UNAVAILABLE, "model 'voc' is not ready yet", False,
     "the server at box:1 refused the call with UNAVAILABLE: model 'voc' is not ready yet"),
    (S.DEADLINE_EXCEEDED, "", False, "the server at box:1 did not answer within 2.5 s: it is overloaded or not there; "
                                     "try later, with fewer pictures or a longer timeout"),
    (S.RESOURCE_EXHAUSTED, f"SERVER: {TOO_LARGE}", False, "the server at box:1 takes no messages of this size (SERVER: "
     f"{TOO_LARGE}; this client sends up to 64 MiB): send fewer or smaller pictures, or raise its --max-message-mb"),
    (S.RESOURCE_EXHAUSTED, f"CLIENT: {TOO_LARGE}", False, "the message is larger than this client's 64 MiB (CLIENT: "
                                                          f"{TOO_LARGE}): send fewer or smaller pictures, or raise "
                                                          "max_message_mb"),
    (S.RESOURCE_EXHAUSTED, "too many", False, "the server at box:1 refused the call with RESOURCE_EXHAUSTED: too many"),
    (S.UNIMPLEMENTED, "unknown method", False, "the server at box:1 has no voc_cls.v1.Classifier of this age (unknown "
                                               "method): it is not voc-serve, or an older one"),
    (S.UNAUTHENTICATED, "no key", False, "the server at box:1 wants to know who asks (no key): give a token or an API "
                                         "key of its --keys-file"),
    (S.INTERNAL, "oops", False, "the server at box:1 failed (oops): its log has this call under the request id r7"),
])
def test_every_status_has_its_sentence(code: S, details: str, encrypted: bool, told: str) -> None:
    error = Teller("box:1", 2.5, 64 * 2**20, encrypted).error(code, details, "r7")
    assert (str(error), error.code, error.request_id) == (told, code, "r7")


def test_patience_is_for_servers_that_are_not_ready_and_tells_once_that_it_begins() -> None:
    told: list[int] = []
    patience = Patience(0.2, lambda: told.append(1))
    assert patience.pause(S.NOT_FOUND) is None
    assert told == []
    assert patience.pause(S.UNAVAILABLE) == patience.pause(S.UNAVAILABLE) == 0.5
    assert told == [1]
    time.sleep(0.21)
    assert patience.pause(S.UNAVAILABLE) is None
    patience.renew()
    assert patience.pause(S.UNAVAILABLE) == 0.5
    assert told == [1, 1]
