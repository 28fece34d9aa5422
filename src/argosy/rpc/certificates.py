"""The control plane's certificate authorities and what they issue: EC P-256, kept as PEM files.

Two exist: `control`, the trust between control plane and guests, and `database`, whose certificates the
database servers show to users. They are apart so that a key a database's own superuser can read is worth
nothing on the control plane's network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from argosy.domain.errors import Invalid
from argosy.files import write_file, write_once

_CA_DAYS = 3650
_CLOCKS_DIFFER_BY = timedelta(minutes=5)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Signed:
    """A certificate, PEM, and the SHA-256 of its public key, hex."""

    certificate: str
    key_digest: str


class Authority:
    """A certificate authority."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, path: Path) -> None:
        self._certificate = certificate
        self._key = key
        self.path = path  # of its certificate, PEM

    @property
    def certificate(self) -> str:
        return _pem(self._certificate)

    @classmethod
    def open(cls, directory: Path, name: str) -> Authority:
        """The authority `name` of this directory, made on first use; of two processes at once one makes it."""
        path = directory / f"{name}-ca.pem"
        if not path.exists():
            _make_authority(path, name)
        stored = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(stored)
        key = serialization.load_pem_private_key(stored, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError(f"{path} holds no elliptic curve key")
        public = directory / f"{name}-ca.crt"
        if not public.exists() or public.read_text() != _pem(certificate):
            write_file(public, _pem(certificate), 0o644)
        return cls(certificate, key, public)

    def issue(
        self,
        *,
        common_name: str,
        addresses: Sequence[str] = (),
        names: Sequence[str] = (),
        client: bool = False,
        server: bool = False,
        days: float = 3650,
    ) -> Issued:
        """A certificate for a client, a server or both, for these IP addresses and DNS names.

        Valid from five minutes ago, for clocks that differ. `days` may be negative: expired already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), common_name, addresses, names, client, server, days)
        return Issued(certificate, _key_pem(key))

    def sign(
        self,
        request: str,
        *,
        common_name: str,
        addresses: Sequence[str] = (),
        client: bool = False,
        server: bool = False,
        days: float = 3650,
    ) -> Signed:
        """A certificate for the key of a signing request (PEM); what else the request asks for is not looked at.

        Raises Invalid for one that is none, or does not prove that the asker has the key.
        """
        try:
            asked = x509.load_pem_x509_csr(request.encode())
            public = asked.public_key()
            proven = isinstance(public, ec.EllipticCurvePublicKey) and asked.is_signature_valid
        except (ValueError, UnsupportedAlgorithm) as error:
            raise Invalid(f"The certificate signing request cannot be read: {error}.") from error
        if not proven or not isinstance(public, ec.EllipticCurvePublicKey):
            raise Invalid(
                "The certificate signing request must be signed by an elliptic curve key of its own."
            )
        certificate = self._sign(public, common_name, addresses, (), client, server, days)
        spki = public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return Signed(certificate, hashlib.sha256(spki).hexdigest())

    def _sign(
        self,
        public: ec.EllipticCurvePublicKey,
        common_name: str,
        addresses: Sequence[str],
        names: Sequence[str],
        client: bool,
        server: bool,
        days: float,
    ) -> str:
        if not (client or server):
            raise ValueError("a certificate that does not say what it is for is good for everything")
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH] * client + [ExtendedKeyUsageOID.SERVER_AUTH] * server
        builder = _builder(common_name, public, days).issuer_name(self._certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(ca=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        alternatives: list[x509.GeneralName] = [x509.IPAddress(ip_address(address)) for address in addresses]
        alternatives += [x509.DNSName(name) for name in names]
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return _pem(builder.sign(self._key, hashes.SHA256()))


def _make_authority(path: Path, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(f"Argosy {name} CA", key.public_key(), _CA_DAYS)
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Argosy {name} CA")]))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(ca=True), critical=True)
    write_once(path, _key_pem(key) + _pem(builder.sign(key, hashes.SHA256())), 0o600)


def _builder(common_name: str, public: ec.EllipticCurvePublicKey, days: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_DIFFER_BY - timedelta(days=max(0.0, -days)))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
