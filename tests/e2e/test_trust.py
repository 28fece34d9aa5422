"""Control plane and guests believe nobody but each other, and a guest speaks for itself alone."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from argosy.domain.errors import GuestUnreachable
from argosy.domain.guest import RPC_PORT
from argosy.domain.status import Service
from argosy.rpc import peers
from argosy.rpc.certificates import Authority
from argosy.rpc.client import Guests
from argosy.rpc.messages import ListUsers
from argosy.rpc.reports import ConductorClient, GuestReport
from argosy.rpc.tls import client_context
from tests.support.server import Client, Server

Identity = tuple[Path, Path, Path]  # authority, certificate, key


@pytest.fixture
def issued(argosy: Server, tmp_path: Path) -> Callable[..., Identity]:
    """Makes identities, by the real authority of the server under test or by another."""

    def issue(name: str, *, authority: Path | None = None, days: float = 1, client: bool = True) -> Identity:
        secrets = argosy.home / "secrets"
        maker = Authority.open(authority or secrets, "control")
        made = maker.issue(common_name=name, client=client, server=not client, days=days)
        files = tmp_path / "issued.crt", tmp_path / "issued.key"
        for file, text in zip(files, (made.certificate, made.key), strict=True):
            file.write_text(text)
        return secrets / "control-ca.crt", *files

    return issue


def refused_by_guest(instance: dict[str, Any], context: ssl.SSLContext) -> str:
    guests = Guests(context)
    try:
        guests.call(instance["ip"][0], ListUsers())
    except Exception as error:  # noqa: BLE001 - how it is refused is what is asked
        return f"{type(error).__name__}: {error}"
    finally:
        guests.close()
    return ""


def test_a_guest_hears_its_control_plane(issued: Callable[..., Identity], valkey: dict[str, Any]) -> None:
    assert refused_by_guest(valkey, client_context(*issued(peers.CONTROL_PLANE))) == ""


@pytest.mark.parametrize("name", ["guest:another", "control-plane2", ""])
def test_a_guest_hears_no_other_name_of_the_same_authority(
    issued: Callable[..., Identity], valkey: dict[str, Any], name: str
) -> None:
    assert "403" in refused_by_guest(valkey, client_context(*issued(name or "x")))


def test_a_guest_hears_no_foreign_expired_or_missing_certificate(
    issued: Callable[..., Identity], valkey: dict[str, Any], tmp_path: Path
) -> None:
    unreachable = GuestUnreachable.__name__
    foreign = issued(peers.CONTROL_PLANE, authority=tmp_path / "foreign")
    assert refused_by_guest(valkey, client_context(*foreign)).startswith(unreachable)
    expired = issued(peers.CONTROL_PLANE, days=-1)
    assert refused_by_guest(valkey, client_context(*expired)).startswith(unreachable)
    wrong_use = issued(peers.CONTROL_PLANE, client=False)
    assert refused_by_guest(valkey, client_context(*wrong_use)).startswith(unreachable)
    without = ssl.create_default_context(cafile=str(foreign[0]))
    assert refused_by_guest(valkey, without).startswith(unreachable)


def test_the_control_plane_calls_no_guest_of_a_foreign_authority(
    argosy: Server, issued: Callable[..., Identity], valkey: dict[str, Any], tmp_path: Path
) -> None:
    _, certificate, key = issued(peers.CONTROL_PLANE)
    foreign = Authority.open(tmp_path / "other", "control")
    context = client_context(foreign.path, certificate, key)
    assert refused_by_guest(valkey, context).startswith(GuestUnreachable.__name__)
    assert valkey["argosy"]["port"] != RPC_PORT


def report(argosy: Server, identity: Identity, instance_id: str) -> None:
    host, port = argosy.settings.conductor_listen
    conductor = ConductorClient(f"https://{host}:{port}", client_context(*identity))
    conductor.send(GuestReport(instance_id=instance_id, number=2**62, service=Service.SHUTDOWN.value))


def test_a_guest_reports_for_no_other_instance(
    argosy: Server, demo: Client, issued: Callable[..., Identity], valkey: dict[str, Any]
) -> None:
    for name in ("guest:00000000-0000-4000-8000-000000000000", peers.CONTROL_PLANE, valkey["id"]):
        with pytest.raises(ConnectionError, match="403"):
            report(argosy, issued(name), valkey["id"])
    shown = demo.get(f"/instances/{valkey['id']}").json()["instance"]
    assert shown["operating_status"] == "HEALTHY"


def test_the_conductor_takes_no_foreign_expired_or_missing_certificate(
    argosy: Server, issued: Callable[..., Identity], valkey: dict[str, Any], tmp_path: Path
) -> None:
    name = peers.guest(valkey["id"])
    for identity in (
        issued(name, authority=tmp_path / "foreign"),
        issued(name, days=-1),
        issued(name, client=False),
    ):
        with pytest.raises(OSError, match=r"(?i)ssl|tls|reset|closed|alert"):
            report(argosy, identity, valkey["id"])
    # The certificate a database shows its users is of another authority, and worth nothing here.
    shown = argosy.home / "instances" / valkey["id"] / "etc" / "tls"
    ca = argosy.home / "secrets" / "control-ca.crt"
    with pytest.raises(OSError, match=r"(?i)ssl|tls|reset|closed|alert"):
        report(argosy, (ca, shown / "server.crt", shown / "server.key"), valkey["id"])
