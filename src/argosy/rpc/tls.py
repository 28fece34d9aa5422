"""TLS contexts: version 1.3, a certificate from our own authority on both sides."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any


def server_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """For a server that takes only clients with a certificate of this authority for client use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _own(context, ca, certificate, key)


def client_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """For a client that takes only servers with a certificate of this authority for the address it calls."""
    return _own(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ca, certificate, key)


def common_name(certificate: dict[str, Any] | None) -> str | None:
    """Whose a verified certificate is, from what `SSLObject.getpeercert()` gives."""
    for attributes in (certificate or {}).get("subject", ()):
        for key, value in attributes:
            if key == "commonName":
                return str(value)
    return None


def _own(context: ssl.SSLContext, ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context
