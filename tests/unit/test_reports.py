"""How a guest's reports get through: over one connection, and over the next when the conductor has gone and come."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy.agent.reporter import Reporter
from argosy.rpc.certificates import Authority
from argosy.rpc.reports import ConductorClient, GuestReport
from argosy.rpc.server import TlsServer
from argosy.rpc.tls import client_context, server_context
from tests.support.server import own_network

PORT = 8778
REPORT = GuestReport(instance_id="1", number=1, service="healthy")


class Conductor:
    """Takes reports, and remembers from which port each came."""

    def __init__(self, address: str, identity: tuple[Path, Path, Path], port: int = PORT) -> None:
        self.status = 204
        self.address = address
        self.port = port
        self.callers: list[int] = []
        self._identity = identity
        self.start()

    def start(self) -> None:
        # uvicorn takes a method for an application of ASGI's old kind.
        async def application(scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
            await self._answer(scope, receive, send)

        self.server = TlsServer(application, self.address, self.port, server_context(*self._identity))
        self.server.start()

    async def _answer(self, scope: Any, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        while (await receive()).get("more_body"):
            pass
        self.callers.append(scope["client"][1])
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b"" if self.status == 204 else b"no"})


@pytest.fixture
def address() -> Iterator[str]:
    with own_network() as network:
        yield str(network[78])


@pytest.fixture
def identity(address: str, tmp_path: Path) -> tuple[Path, Path, Path]:
    authority = Authority.open(tmp_path, "control")
    issued = authority.issue(common_name="guest:1", addresses=[address], client=True, server=True)
    own = tmp_path / "own.pem"
    own.write_text(issued.key + issued.certificate)
    return authority.path, own, own


@pytest.fixture
def conductor(address: str, identity: tuple[Path, Path, Path]) -> Iterator[Conductor]:
    conductor = Conductor(address, identity)
    yield conductor
    conductor.server.stop()


@pytest.fixture
def client(address: str, identity: tuple[Path, Path, Path]) -> Iterator[ConductorClient]:
    client = ConductorClient(f"https://{address}:{PORT}", client_context(*identity))
    yield client
    client.close()


def test_reports_share_a_connection(conductor: Conductor, client: ConductorClient) -> None:
    for _ in range(3):
        client.send(REPORT)
    assert len(conductor.callers) == 3
    assert len(set(conductor.callers)) == 1


def test_a_report_gets_through_to_a_conductor_started_anew(
    conductor: Conductor, client: ConductorClient
) -> None:
    client.send(REPORT)
    conductor.server.stop()
    conductor.start()
    client.send(REPORT)
    assert len(set(conductor.callers)) == 2


def test_a_conductor_that_is_gone_or_refuses_is_an_error(
    conductor: Conductor, client: ConductorClient
) -> None:
    conductor.status = 403
    with pytest.raises(ConnectionError, match="answered 403: no"):
        client.send(REPORT)
    conductor.server.stop()
    with pytest.raises(ConnectionError):
        client.send(REPORT)
    conductor.status = 204
    conductor.start()
    client.send(REPORT)


def test_of_several_conductors_the_next_is_told_and_stays(
    address: str, identity: tuple[Path, Path, Path]
) -> None:
    first, second = Conductor(address, identity), Conductor(address, identity, PORT + 1)
    told = ", ".join(f"https://{address}:{one.port}" for one in (first, second))
    client = ConductorClient(told, client_context(*identity))
    try:
        client.send(REPORT)
        first.server.stop()
        client.send(REPORT)
        first.start()
        client.send(REPORT)
        assert (len(first.callers), len(second.callers)) == (1, 2)
        # One whose database is away says so, and the other may have it.
        second.status = 503
        client.send(REPORT)
        assert len(first.callers) == 2
    finally:
        client.close()
        first.server.stop()
        second.server.stop()


def test_when_no_conductor_answers_it_is_an_error(address: str, identity: tuple[Path, Path, Path]) -> None:
    client = ConductorClient(
        f"https://{address}:{PORT},https://{address}:{PORT + 1}", client_context(*identity)
    )
    with pytest.raises(ConnectionError):
        client.send(REPORT)
    client.close()


class Kept(ConductorClient):
    """Keeps what it is to send."""

    def __init__(self) -> None:
        self.sent: list[GuestReport] = []

    def send(self, report: GuestReport) -> None:
        self.sent.append(report)


def test_what_happened_is_told_with_what_came_of_it_and_once() -> None:
    """Whoever sees the one looks for the other at once."""
    kept = Kept()

    def describe() -> GuestReport:
        if not kept.sent:
            reporter.record("server.crashed", "in the middle of a heartbeat")
        return REPORT

    reporter = Reporter(kept, describe)
    reporter.now()
    reporter.now()
    assert [[event.kind for event in report.events] for report in kept.sent] == [["server.crashed"], []]
