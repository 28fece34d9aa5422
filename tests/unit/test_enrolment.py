"""Machines' guests come by an identity once, and are told what they are."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from argosy.conductor.app import application
from argosy.domain.guest import Told
from argosy.metadata import migrations
from argosy.metadata.store import Store
from argosy.rpc import enrolment, peers
from argosy.rpc.certificates import Authority
from argosy.rpc.server import PEER
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.directory import DirectoryStore

TOLD = Told(
    instance_id="11111111-1111-4111-8111-111111111111",
    engine="postgresql",
    datastore="postgresql",
    version="17",
    series="17",
    address="10.1.0.5",
    addresses=("10.1.0.5", "203.0.113.9"),
    port=5432,
    rpc_address="10.2.0.5",
    memory_mb=800,
    vcpus=1,
    volume="5b1f",
)


class Conductor:
    """As a guest with one certificate or another meets it."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(f"sqlite:///{directory / 'argosy.db'}")
        migrations.migrate(self.store.engine, self.store.url)
        authorities = [Authority.open(directory, name) for name in ("control", "database")]
        backups = DirectoryBackups(DirectoryStore(directory / "backups"), "https://conductor", b"key")
        self._app = application(self.store, backups, *authorities)

    def ask(
        self, peer: str, method: str, path: str, body: enrolment.Enrol | dict[str, Any] | None = None
    ) -> httpx.Response:
        async def as_peer(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[PEER] = peer
            await self._app(scope, receive, send)

        async def request() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(as_peer), base_url="https://conductor"
            ) as client:
                json = body.model_dump() if isinstance(body, enrolment.Enrol) else body
                return await client.request(method, path, json=json)

        return asyncio.run(request())

    def enrol(self, peer: str, keys: enrolment.Enrol) -> httpx.Response:
        return self.ask(peer, "POST", enrolment.ENROL, keys)


@pytest.fixture
def conductor(tmp_path: Path) -> Iterator[Conductor]:
    conductor = Conductor(tmp_path)
    with conductor.store.write() as tx:
        tx.guests.tell(TOLD)
    yield conductor
    conductor.store.close()


def test_a_guest_enrols_with_its_bootstrap_identity_and_is_told_what_it_is(conductor: Conductor) -> None:
    answer = conductor.enrol(peers.bootstrap(TOLD.instance_id, 1), keys())
    assert answer.status_code == 200
    enrolled = enrolment.Enrolled.model_validate_json(answer.content)
    assert Told.of(enrolled.told) == TOLD
    own = x509.load_pem_x509_certificate(enrolled.rpc_certificate.encode())
    assert own.subject.rfc4514_string() == f"CN=guest:{TOLD.instance_id}"
    assert names(own) == [TOLD.rpc_address]
    shown = x509.load_pem_x509_certificate(enrolled.tls_certificate.encode())
    assert names(shown) == list(TOLD.addresses)
    assert Told.of(conductor.ask(peers.guest(TOLD.instance_id), "GET", enrolment.TOLD).json()) == TOLD


def test_a_bootstrap_identity_is_spent_on_the_first_key(conductor: Conductor) -> None:
    first, stranger = keys(), keys()
    bootstrap = peers.bootstrap(TOLD.instance_id, 1)
    assert conductor.enrol(bootstrap, first).status_code == 200
    assert conductor.enrol(bootstrap, stranger).status_code == 403
    # One that was killed before it had stored the answer asks again.
    assert conductor.enrol(bootstrap, first).status_code == 200


def test_a_machine_made_anew_enrols_anew_and_its_former_identity_is_void(conductor: Conductor) -> None:
    assert conductor.enrol(peers.bootstrap(TOLD.instance_id, 1), keys()).status_code == 200
    with conductor.store.write() as tx:
        assert tx.guests.renew(TOLD.instance_id) == 2
    assert conductor.enrol(peers.bootstrap(TOLD.instance_id, 1), keys()).status_code == 403
    answer = conductor.enrol(peers.bootstrap(TOLD.instance_id, 2), keys())
    assert enrolment.Enrolled.model_validate_json(answer.content).told["identity"] == 2


def test_a_guest_renews_its_certificates_with_its_own(conductor: Conductor) -> None:
    with conductor.store.write() as tx:
        tx.guests.tell(replace(TOLD, addresses=("10.1.0.5",)))
    answer = conductor.enrol(peers.guest(TOLD.instance_id), keys())
    shown = enrolment.Enrolled.model_validate_json(answer.content).tls_certificate
    assert names(x509.load_pem_x509_certificate(shown.encode())) == ["10.1.0.5"]


@pytest.mark.parametrize(
    "peer",
    ["control-plane", "guest:22222222-2222-4222-8222-222222222222", "bootstrap:", "bootstrap:x:y", "user:1"],
)
def test_nobody_else_enrols(conductor: Conductor, peer: str) -> None:
    assert conductor.enrol(peer, keys()).status_code == 403


def test_a_bootstrap_identity_is_good_for_nothing_else(conductor: Conductor) -> None:
    bootstrap = peers.bootstrap(TOLD.instance_id, 1)
    assert conductor.ask(bootstrap, "GET", enrolment.TOLD).status_code == 403
    report = {"instance_id": TOLD.instance_id, "number": 1, "service": "healthy"}
    assert conductor.ask(bootstrap, "POST", "/v1/reports", report).status_code == 403


@pytest.mark.parametrize("request_", ["", "nonsense", "-----BEGIN CERTIFICATE REQUEST-----\n-----END"])
def test_what_is_no_signing_request_is_refused_and_spends_nothing(
    conductor: Conductor, request_: str
) -> None:
    bootstrap = peers.bootstrap(TOLD.instance_id, 1)
    refused = conductor.enrol(bootstrap, enrolment.Enrol(rpc_request=request_, tls_request=request_))
    assert (refused.status_code, "signing request" in refused.text) == (400, True)
    assert conductor.enrol(bootstrap, keys()).status_code == 200


def keys() -> enrolment.Enrol:
    return enrolment.Enrol(rpc_request=_request(), tls_request=_request())


def names(certificate: x509.Certificate) -> list[str]:
    extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return [str(address) for address in extension.value.get_values_for_type(x509.IPAddress)]


def _request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()
