"""The keys file is read strictly, followed when it changes, and never quoted where it could show a token."""

from __future__ import annotations

import logging
import os
import re
import time
from hashlib import sha256
from pathlib import Path

import pytest

from serving.errors import PermissionDenied, ServeError, Unauthenticated
from serving.security.auth import Authenticator

PHOTO, ADMIN, OLD = "photo-" * 5, "admin-" * 5, "older-" * 5
PEER = "ipv4:10.0.0.7:5000"
PREDICT, RELOAD = ("/tensorflow.serving.PredictionService/Predict",
                   "/tensorflow.serving.ModelService/HandleReloadConfigRequest")
QUICK = 0.05
"""Seconds between two looks at the file."""


def digest(token: str) -> str:
    return sha256(token.encode()).hexdigest()


def entry(name: str, token: str, methods: str = "") -> str:
    return f"  - name: {name}\n    sha256: {digest(token)}\n" + (f"    methods: {methods}\n" if methods else "")


def access(folder: Path, *entries: str) -> Authenticator:
    file = folder / "keys.yaml"
    file.write_text("keys:\n" + "".join(entries))
    return Authenticator(file, QUICK)


def replace(file: Path, content: str) -> None:
    """Writes the file as an editor does, and waits until the next look must find it."""
    new = file.with_suffix(".new")
    new.write_text(content)
    os.replace(new, file)
    time.sleep(3 * QUICK)


def bearer(token: str) -> list[tuple[str, str | bytes]]:
    return [("authorization", f"Bearer {token}")]


def refused(keys: Authenticator, token: str) -> None:
    with pytest.raises(Unauthenticated, match="the key is not known here"):
        keys.client(PREDICT, bearer(token), PEER)


def forbidden(keys: Authenticator, method: str, token: str) -> None:
    with pytest.raises(PermissionDenied):
        keys.client(method, bearer(token), PEER)


@pytest.mark.parametrize(("content", "message"), [
    ("", " does not hold keys: and nothing else"),
    ("[]", " does not hold keys: and nothing else"),
    (f"keys: []\nother: {PHOTO}", " does not hold keys: and nothing else"),
    (f"keys: [{PHOTO}", " is not YAML at line "),
    (f"keys:\n  - name: a\n    token: *{PHOTO}", " is not YAML at line 3: "),
    ("keys: \udcff", " is not YAML"),
    ("keys:", ": keys is not a list"),
    (f"keys: {{photo: {PHOTO}}}", ": keys is not a list"),
    (f"keys: [{PHOTO}]", ": key 1 has no fields"),
    (f"keys: [{{token: {PHOTO}}}]", ": key 1 has no valid name"),
    (f"keys: [{{name: a/b, token: {PHOTO}}}]", ": key 1 has no valid name"),
    (f"keys: [{{name: [a], token: {PHOTO}}}]", ": key 1 has no valid name"),
    (f"keys: [{{name: a, token: {PHOTO}, {OLD}: x}}]", ": key 1, 'a', has a field that is not known: there are name,"),
    ("keys: [{name: a}]", ": key 1, 'a', must have sha256 or token, and not both"),
    (f"keys: [{{name: a, token: {PHOTO}, sha256: {digest(PHOTO)}}}]", ": key 1, 'a', must have sha256 or token, "),
    ("keys: [{name: a, token: short}]", ": key 1, 'a', has a token that is not 16 to 4096 characters"),
    (f"keys: [{{name: a, token: [{PHOTO}]}}]", ": key 1, 'a', has a token that is not 16 to 4096 characters"),
    (f"keys: [{{name: a, token: {PHOTO} {PHOTO}}}]", ": key 1, 'a', has a token that is not 16 to 4096 characters"),
    (f"keys: [{{name: a, sha256: {PHOTO}}}]", ": key 1, 'a', has a sha256 that is not 64 hexadecimal digits"),
    (f"keys: [{{name: a, token: {PHOTO}, methods: []}}]", ": key 1, 'a', has methods that are not a list"),
    (f"keys: [{{name: a, token: {PHOTO}, methods: predict}}]", ": key 1, 'a', has methods that are not a list"),
    (f"keys: [{{name: a, token: {PHOTO}, methods: [predictt]}}]",
     ": key 1, 'a', has among its methods 'predictt' that is neither a group (status, admin, metrics, reflection, "),
    (f"keys: [{{name: a, token: {PHOTO}, methods: [[predict]]}}]", ": key 1, 'a', has among its methods one that is"),
    (f"keys: [{{name: a, token: {PHOTO}}}, {{name: b, sha256: {digest(PHOTO).upper()}}}]",
     ": key 2, 'b', has the token of 'a'"),
])
def test_a_file_that_cannot_be_used_is_named_with_the_key_but_without_its_token(tmp_path: Path, content: str,
                                                                                message: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ServeError) as error:
        Authenticator(file)
    assert str(error.value).startswith(f"`keys_file` {file}{message}")
    assert "\n" not in str(error.value)
    for token in (PHOTO, OLD, "short", digest(PHOTO)):
        assert token not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServeError, match=re.escape(f"`keys_file` {tmp_path} cannot be read (Is a directory)")):
        Authenticator(tmp_path)


def test_an_empty_list_lets_nobody_in_but_health(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("keys: []\n")
    keys = Authenticator(file)
    refused(keys, PHOTO)
    assert keys.client("GET /healthz", (), PEER) == "10.0.0.7"


def test_a_changed_file_counts_from_the_next_look(tmp_path: Path) -> None:
    keys = access(tmp_path, entry("photo-app", PHOTO), entry("old", OLD))
    replace(tmp_path / "keys.yaml", "keys:\n" + entry("photo-app", PHOTO, "[metrics]")
            + entry("admin", ADMIN, "[admin]"))
    assert keys.client(RELOAD, bearer(ADMIN), PEER) == "admin"
    refused(keys, OLD)
    forbidden(keys, PREDICT, PHOTO)
    replace(tmp_path / "keys.yaml", "keys: []")
    refused(keys, ADMIN)


def test_a_file_changed_in_place_with_its_time_kept_is_read_too(tmp_path: Path) -> None:
    keys = access(tmp_path, entry("photo-app", OLD))
    file = tmp_path / "keys.yaml"
    before = file.stat()
    file.write_text("keys:\n" + entry("photo-app", PHOTO))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    time.sleep(3 * QUICK)
    assert keys.client(PREDICT, bearer(PHOTO), PEER) == "photo-app"
    refused(keys, OLD)


def test_a_link_that_is_moved_to_another_file_counts(tmp_path: Path) -> None:
    for folder, token in (("one", OLD), ("two", PHOTO)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "keys.yaml").write_text("keys:\n" + entry("photo-app", token))
    (tmp_path / "data").symlink_to("one")  # as Kubernetes mounts a secret
    (tmp_path / "keys.yaml").symlink_to("data/keys.yaml")
    keys = Authenticator(tmp_path / "keys.yaml", QUICK)
    assert keys.client(PREDICT, bearer(OLD), PEER) == "photo-app"
    (tmp_path / "new").symlink_to("two")
    os.replace(tmp_path / "new", tmp_path / "data")
    time.sleep(3 * QUICK)
    assert keys.client(PREDICT, bearer(PHOTO), PEER) == "photo-app"


def test_a_broken_new_file_keeps_the_old_keys_and_is_logged_once(tmp_path: Path,
                                                                 caplog: pytest.LogCaptureFixture) -> None:
    keys = access(tmp_path, entry("photo-app", PHOTO))
    file = tmp_path / "keys.yaml"
    with caplog.at_level(logging.INFO):
        for broken in ("", "keys: [", f"keys: [{{name: a, token: {PHOTO}, {OLD}: x}}]"):
            caplog.clear()
            for _ in range(3):
                replace(file, broken)
                assert keys.client(PREDICT, bearer(PHOTO), PEER) == "photo-app"
            assert [record.levelname for record in caplog.records] == ["ERROR"]
            assert "the keys read before stay in use" in caplog.text
            assert PHOTO not in caplog.text
        caplog.clear()
        file.unlink()
        for _ in range(4):
            time.sleep(2 * QUICK)
            assert keys.client(PREDICT, bearer(PHOTO), PEER) == "photo-app"
        assert caplog.text.count("cannot be read (No such file or directory)") == 1
        replace(file, "keys:\n" + entry("admin", ADMIN))
        assert keys.client(PREDICT, bearer(ADMIN), PEER) == "admin"
        assert "1 keys read again" in caplog.text


def test_a_file_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("keys:\n" + entry("photo-app", PHOTO, "[metrics]"))
    keys = Authenticator(file, 0.5)
    time.sleep(0.6)
    file.write_text("keys:\n" + entry("photo-app", PHOTO))  # its line of methods is still to come
    forbidden(keys, PREDICT, PHOTO)


def test_the_file_is_not_looked_at_for_every_call(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text("keys:\n" + entry("photo-app", PHOTO))
    keys = Authenticator(file, 3600)
    replace(file, "keys: []")
    for _ in range(10):
        assert keys.client(PREDICT, bearer(PHOTO), PEER) == "photo-app"


@pytest.mark.parametrize(("field", "mode", "warned"), [
    (f"token: {PHOTO}", 0o644, 1), (f"token: {PHOTO}", 0o600, 0), (f"sha256: {digest(PHOTO)}", 0o644, 0)])
def test_clear_tokens_that_everybody_can_read_are_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture,
                                                                 field: str, mode: int, warned: int) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(f"keys:\n  - name: a\n    {field}\n")
    file.chmod(mode)
    keys = Authenticator(file, QUICK)
    file.write_text(f"keys:\n  - name: b\n    {field}\n")
    time.sleep(3 * QUICK)
    assert keys.client(PREDICT, bearer(PHOTO), PEER) == "b"
    assert caplog.text.count("every user of this machine can read it") == warned
