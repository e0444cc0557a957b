"""What a server needs that is encrypted, wants to see a certificate, and a token; made by the command openssl."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

TOKEN = "a-token-for-the-tests-of-clients"


@dataclass(frozen=True)
class Files:
    """PEM files, and the keys file with TOKEN."""

    ca: Path
    cert: Path
    key: Path
    keys: Path


def make_certificates(folder: Path) -> Files:
    """An authority, and a certificate for 127.0.0.1 that is a server's and a client's in one."""
    found = Files(folder / "ca.pem", folder / "cert.pem", folder / "cert.key", folder / "keys.yaml")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    names = folder / "names"
    names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for arguments in (
            ("req", "-x509", *new, "-days", "9", "-keyout", folder / "ca.key", "-out", found.ca, "-subj", "/CN=tests"),
            ("req", *new, "-keyout", found.key, "-out", folder / "request", "-subj", "/CN=127.0.0.1"),
            ("x509", "-req", "-in", folder / "request", "-CA", found.ca, "-CAkey", folder / "ca.key", "-days", "9",
             "-CAcreateserial", "-extfile", names, "-out", found.cert)):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)
    found.keys.write_text(f"keys:\n  - name: app\n    token: {TOKEN}\n")
    found.keys.chmod(0o600)
    return found


def flags_of(files: Files, *, client_certificates: bool = True) -> tuple[object, ...]:
    """For voc-serve."""
    mutual = ("--client-ca", files.ca) if client_certificates else ()
    return ("--tls-cert", files.cert, "--tls-key", files.key, "--keys-file", files.keys, *mutual)
