"""TLS for both ports; new connections get the certificate that the files hold at that moment.

gRPC asks for the certificate before each handshake. OpenSSL, under aiohttp, asks for a context when a handshake begins
(the callback meant for server names), so the context in use is never changed.
"""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from serving.errors import ServeError
from serving.security.watched_files import LOOK_EVERY, WatchedFiles

log = logging.getLogger(__name__)

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those that gRPC offers on its port: forward secrecy, and no CBC. TLS 1.3 has no others."""
NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, which Python does not name."""
MISMATCHES = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")
"""OpenSSL's reasons when key and certificate do not belong together."""


@dataclass(frozen=True)
class Identity:
    """The server's certificate and key, and whom it trusts, as read from the files at one moment; PEM."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    context: ssl.SSLContext = field(compare=False, repr=False)
    expires: float | None = field(compare=False)
    """Unix time; None if it is not known."""


class Certificates:
    """The files, read again when they change; unusable ones are logged once, and the last good ones stay in use.

    May be used from any thread, as gRPC does.
    """

    def __init__(self, tls_cert: Path, tls_key: Path, client_ca: Path | None, look_every: float = LOOK_EVERY) -> None:
        """Reads the files, which are those of SecurityConfig; ServeError if they cannot be used.

        `look_every`: seconds between two looks at them.
        """
        self._certificate, self._key, self._client_ca = tls_cert, tls_key, client_ca
        paths = [path for path in (tls_cert, tls_key, client_ca) if path is not None]
        self._files = WatchedFiles(paths, self._read, "the certificate read before stays in use", look_every)
        self._grpc_identity = self._files.content
        """What gRPC was given last."""

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For add_secure_port; the server must be the only one made from these certificates."""
        return grpc.dynamic_ssl_server_credentials(_configuration(self._grpc_identity), self._next_for_grpc,
                                                   require_client_authentication=self._client_ca is not None)

    def http_context(self) -> ssl.SSLContext:
        context = _context(self._certificate, self._key, self._client_ca)
        context.sni_callback = self._on_handshake
        return context

    def refresh(self, now: bool = False) -> None:
        """Reads the files again if they have changed; looks at most once a second or `now`, and never raises."""
        if self._files.refresh(now):
            log.info("`tls_cert` %s read again; it expires on %s", self._certificate, _day(self._files.content.expires))

    def _next_for_grpc(self) -> Any:
        """Called by gRPC before every handshake: a configuration, or None for no change."""
        self.refresh()
        identity = self._files.content
        if self._grpc_identity is identity:
            return None
        self._grpc_identity = identity
        return _configuration(identity)

    def _on_handshake(self, connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:  # noqa: ARG002
        """Called by OpenSSL at the beginning of every handshake, whether the client names a server or not."""
        self.refresh()
        connection.context = self._files.content.context

    def _read(self) -> Identity:
        certificate = _pem(self._certificate, "tls_cert", b"CERTIFICATE-----", "a certificate")
        key = _pem(self._key, "tls_key", b"PRIVATE KEY-----", "a private key")
        if b"ENCRYPTED" in key:
            raise ServeError(f"`tls_key` {self._key} is encrypted, and a server cannot ask for its password: decrypt "
                             "it with openssl pkey, and let only this user read it")
        authority = (None if self._client_ca is None
                     else _pem(self._client_ca, "client_ca", b"CERTIFICATE-----", "a certificate"))
        context = _context(self._certificate, self._key, self._client_ca)
        identity = Identity(certificate, key, authority, context, _expires(self._certificate, self._key))
        if identity.expires is not None and identity.expires < time.time():
            log.warning("`tls_cert` %s has expired on %s, so clients will refuse it: renew it, and it is read again",
                        self._certificate, _day(identity.expires))
        return identity


def grpc_certificate_name(auth_context: dict[str, Any]) -> str | None:
    """The name in a gRPC caller's certificate, from context.auth_context(); None without one."""
    for field_name in ("x509_common_name", "x509_subject_alternative_name"):
        for value in auth_context.get(field_name, ()):
            if value:
                return bytes(value).decode("utf-8", "backslashreplace")
    return None


def http_certificate_name(transport: Any) -> str | None:
    """The name in an HTTP caller's certificate, from aiohttp's request.transport: the same as over gRPC."""
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not certificate:
        return None
    names = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    names += [value for _, value in certificate.get("subjectAltName", ())]
    return next((name for name in names if name), None)


def _configuration(identity: Identity) -> Any:
    return grpc.ssl_server_certificate_configuration([(identity.key, identity.certificate)], identity.client_ca)


def _context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # without it OpenSSL asks on the terminal
    except ssl.SSLError as error:
        if error.reason in MISMATCHES:
            raise ServeError(f"`tls_key` {key} is not the key of `tls_cert` {certificate}: pass the pair that was made "
                             "together, the server's own certificate first in its file") from None
        raise ServeError(f"`tls_cert` {certificate} and `tls_key` {key} cannot be used ({_reason(error)}): make "
                         "both again, RSA of 2048 bits or more or ECDSA P-256") from None
    except OSError as error:
        raise ServeError(f"`tls_cert` {certificate} or `tls_key` {key} cannot be read ({error.strerror})") from None
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        # A resumed session would not be checked against a `client_ca` that has changed since.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        try:
            context.load_verify_locations(client_ca)
        except OSError as error:  # SSLError is one
            raise ServeError(f"`client_ca` {client_ca} cannot be used ({_reason(error)}): pass the certificates, PEM, "
                             "of those who sign clients'") from None
    return context


def _expires(certificate: Path, key: Path) -> float | None:
    """When a certificate expires, by a handshake in memory, as Python's ssl decodes only the peer's certificate."""
    server_in, client_in = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_context.check_hostname = False
    client_context.load_verify_locations(certificate)
    client_context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    client = client_context.wrap_bio(client_in, server_in)
    server = _context(certificate, key, None).wrap_bio(server_in, client_in, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as error:
            log.warning("`tls_cert` %s may not satisfy clients (%s)", certificate, _reason(error))
            return None
    peer: Any = client.getpeercert()
    return ssl.cert_time_to_seconds(peer["notAfter"])


def _pem(path: Path, name: str, marker: bytes, what: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ServeError(f"`{name}` {path} cannot be read ({error.strerror}): pass a file with {what}, PEM, that this "
                         "user may read") from None
    if marker not in content:
        raise ServeError(f"`{name}` {path} holds no {what.removeprefix('a ')} in PEM form: pass a file that has a line "
                         "-----BEGIN … of it")
    return content


def _reason(error: OSError) -> str:
    """OpenSSL's reason in words, such as EE_KEY_TOO_SMALL → ee key too small."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    reason = getattr(error, "reason", None)
    if reason is None and isinstance(error, ssl.SSLError):
        return "not whole, or not PEM"  # OpenSSL says no more than "PEM lib"
    return str(reason or error.strerror).replace("_", " ").lower()


def _day(moment: float | None) -> str:
    return "an unknown day" if moment is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(moment))
