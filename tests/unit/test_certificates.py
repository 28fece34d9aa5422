"""The control plane's authorities: made once, kept closed, and issuing what was asked and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from argosy.files import write_file
from argosy.rpc.certificates import Authority
from argosy.rpc.tls import common_name


def certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode())


def usages(pem: str) -> set[x509.ObjectIdentifier]:
    return set(certificate(pem).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_an_authority_is_made_once_and_found_again(tmp_path: Path) -> None:
    first = Authority.open(tmp_path, "control")
    assert Authority.open(tmp_path, "control").certificate == first.certificate
    assert Authority.open(tmp_path, "database").certificate != first.certificate
    assert first.path.read_text() == first.certificate


def test_the_key_is_for_its_owner_alone_and_the_certificate_for_all(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        authority = Authority.open(tmp_path, "control")
    finally:
        os.umask(before)
    assert authority.path.stat().st_mode & 0o777 == 0o644
    closed = [file for file in tmp_path.iterdir() if "PRIVATE KEY" in file.read_text()]
    assert closed
    assert {file.stat().st_mode & 0o777 for file in closed} == {0o600}


def test_threads_that_open_at_once_agree_on_one_authority(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        opened = list(threads.map(lambda _: Authority.open(tmp_path, "control"), range(16)))
    assert len({authority.certificate for authority in opened}) == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["control-ca.crt", "control-ca.pem"]


def test_processes_that_open_at_once_agree_on_one_authority(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from argosy.rpc.certificates import Authority;"
        "sys.stdin.read(); print(Authority.open(Path(sys.argv[1]), 'control').certificate)"
    )
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", program, tmp_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
        racer.stdin = None
    assert len({racer.communicate(timeout=60)[0] for racer in racers}) == 1
    assert all(racer.returncode == 0 for racer in racers)


def test_a_half_made_authority_of_a_crash_is_not_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / ".control-ca.pem.0123456789ab").write_text("-----BEGIN PRIVATE KEY-----\n")
    assert "BEGIN CERTIFICATE" in Authority.open(tmp_path, "control").certificate


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        (True, False, {ExtendedKeyUsageOID.CLIENT_AUTH}),
        (False, True, {ExtendedKeyUsageOID.SERVER_AUTH}),
        (True, True, {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}),
    ],
)
def test_a_certificate_is_for_what_was_asked(
    tmp_path: Path, client: bool, server: bool, expected: set[x509.ObjectIdentifier]
) -> None:
    issued = Authority.open(tmp_path, "control").issue(common_name="guest:1", client=client, server=server)
    assert usages(issued.certificate) == expected


def test_a_certificate_for_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="what it is for"):
        Authority.open(tmp_path, "control").issue(common_name="guest:1")


def test_a_certificate_passes_a_strict_verifier(tmp_path: Path) -> None:
    """The verifier of the `cryptography` package holds to RFC 5280 and the CA/Browser Forum's profile."""
    authority = Authority.open(tmp_path, "database")
    issued = authority.issue(
        common_name="db", addresses=["127.77.222.1", "::1"], names=["db.example"], server=True, days=30
    )
    for subject in (x509.IPAddress(ip_address("127.77.222.1")), x509.DNSName("db.example")):
        verifier = (
            PolicyBuilder().store(Store([certificate(authority.certificate)])).build_server_verifier(subject)
        )
        chain = verifier.verify(certificate(issued.certificate), [])
        assert len(chain) == 2


def test_a_certificate_is_valid_a_little_earlier_for_slow_clocks(tmp_path: Path) -> None:
    issued = Authority.open(tmp_path, "control").issue(common_name="guest:1", client=True, days=30)
    made = certificate(issued.certificate)
    now = datetime.now(UTC)
    assert made.not_valid_before_utc < now - timedelta(minutes=4)
    assert now + timedelta(days=29) < made.not_valid_after_utc <= now + timedelta(days=30)


def test_every_certificate_has_a_key_of_its_own_on_the_curve_p_256(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path, "control")
    keys = set()
    for _ in range(2):
        issued = authority.issue(common_name="guest:1", client=True)
        key = load_pem_private_key(issued.key.encode(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert isinstance(key.curve, ec.SECP256R1)
        assert key.public_key() == certificate(issued.certificate).public_key()
        keys.add(key.private_numbers().private_value)
        assert issued.key not in repr(issued)
    assert len(keys) == 2


def test_a_file_is_written_whole_and_closed_from_the_start(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o644)
    write_file(path, "new", 0o600)
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_is_named_by_a_connection_without_a_certificate() -> None:
    assert common_name(None) is None
    assert common_name({}) is None
    assert common_name({"subject": ((("organizationName", "x"),), (("commonName", "guest:1"),))}) == "guest:1"
