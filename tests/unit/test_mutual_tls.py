"""Who may speak to whom: the control plane and its guests, over real sockets; every stranger is turned away."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from argosy.files import write_file
from argosy.rpc.certificates import Authority
from argosy.rpc.server import PEER, TlsServer
from argosy.rpc.tls import client_context, server_context

ADDRESS = "127.77.222.77"


async def whoami(scope: Any, receive: Any, send: Any) -> None:
    """An application that tells callers their names."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": str(scope["extensions"][PEER]).encode()})


class Identity:
    """Files of a certificate, and the authority its holder trusts."""

    def __init__(self, directory: Path, trusts: Authority, issuer: Authority, **asked: Any) -> None:
        issued = issuer.issue(**{"common_name": "guest:1", **asked})
        directory.mkdir()
        self.ca = trusts.path
        self.certificate = directory / "own.crt"
        self.key = directory / "own.key"
        write_file(self.certificate, issued.certificate, 0o644)
        write_file(self.key, issued.key, 0o600)

    def as_client(self) -> ssl.SSLContext:
        return client_context(self.ca, self.certificate, self.key)

    def as_server(self) -> ssl.SSLContext:
        return server_context(self.ca, self.certificate, self.key)


@pytest.fixture
def ours(tmp_path: Path) -> Authority:
    return Authority.open(tmp_path / "ours", "control")


@pytest.fixture
def theirs(tmp_path: Path) -> Authority:
    """Another installation's authority, of the same name."""
    return Authority.open(tmp_path / "theirs", "control")


@pytest.fixture
def guest(tmp_path: Path, ours: Authority) -> Identity:
    return Identity(tmp_path / "guest", ours, ours, addresses=[ADDRESS], client=True, server=True)


@pytest.fixture
def control_plane(tmp_path: Path, ours: Authority) -> Identity:
    return Identity(tmp_path / "control-plane", ours, ours, common_name="control-plane", client=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def serving(context: ssl.SSLContext) -> Iterator[int]:
    port = free_port()
    server = TlsServer(whoami, ADDRESS, port, context)
    server.start()
    try:
        yield port
    finally:
        server.stop()


@pytest.fixture
def port(guest: Identity) -> Iterator[int]:
    """Where the guest listens."""
    yield from serving(guest.as_server())


def ask(port: int, context: ssl.SSLContext, times: int = 1) -> list[str]:
    with closing(http.client.HTTPSConnection(ADDRESS, port, timeout=10, context=context)) as connection:
        answers = []
        for _ in range(times):
            connection.request("GET", "/")
            answers.append(connection.getresponse().read().decode())
        return answers


def test_the_application_is_told_the_callers_verified_name(port: int, control_plane: Identity) -> None:
    assert ask(port, control_plane.as_client(), times=2) == ["control-plane", "control-plane"]


def test_callers_on_connections_of_their_own_keep_their_names(
    port: int, control_plane: Identity, guest: Identity
) -> None:
    contexts = {"control-plane": control_plane.as_client(), "guest:1": guest.as_client()}
    heard: list[tuple[str, str]] = []

    def call(name: str) -> None:
        heard.extend((name, answer) for answer in ask(port, contexts[name], times=5))

    callers = [threading.Thread(target=call, args=(name,)) for name in [*contexts] * 4]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(heard) == 40
    assert all(name == answer for name, answer in heard)


def test_a_server_turns_away_a_client_of_another_authority(
    port: int, tmp_path: Path, ours: Authority, theirs: Authority
) -> None:
    stranger = Identity(tmp_path / "x", ours, theirs, common_name="control-plane", client=True)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, stranger.as_client())


def test_a_server_turns_away_a_client_whose_certificate_has_expired(
    port: int, tmp_path: Path, ours: Authority
) -> None:
    late = Identity(tmp_path / "x", ours, ours, common_name="control-plane", client=True, days=-1)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, late.as_client())


def test_a_server_turns_away_a_client_whose_certificate_is_for_servers(
    port: int, tmp_path: Path, ours: Authority
) -> None:
    database = Identity(tmp_path / "x", ours, ours, common_name="control-plane", server=True)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, database.as_client())


def test_a_server_turns_away_a_client_that_signed_its_certificate_with_a_guests(
    port: int, tmp_path: Path, ours: Authority, guest: Identity
) -> None:
    """A guest's certificate is no authority's, whatever its holder signs with it."""
    forged = tmp_path / "forged"
    forged.mkdir()
    for words in (
        ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=control-plane",
         "-keyout", "key", "-out", "request"],
        ["x509", "-req", "-in", "request", "-CA", str(guest.certificate), "-CAkey", str(guest.key),
         "-CAcreateserial", "-days", "1", "-out", "leaf"],
    ):  # fmt: skip
        subprocess.run(["openssl", *words], cwd=forged, check=True, capture_output=True)
    (forged / "chain").write_text((forged / "leaf").read_text() + guest.certificate.read_text())
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, client_context(ours.path, forged / "chain", forged / "key"))


def test_a_server_turns_away_a_client_without_a_certificate(port: int, ours: Authority) -> None:
    context = ssl.create_default_context(cafile=ours.path)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, context)


def test_a_server_turns_away_older_tls(port: int, control_plane: Identity) -> None:
    context = ssl.create_default_context(cafile=control_plane.ca)
    context.load_cert_chain(control_plane.certificate, control_plane.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        ask(port, context)


def test_a_server_turns_away_plain_http_and_goes_on_serving(port: int, control_plane: Identity) -> None:
    with closing(http.client.HTTPConnection(ADDRESS, port, timeout=10)) as connection:
        connection.request("GET", "/")
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            connection.getresponse()
    assert ask(port, control_plane.as_client()) == ["control-plane"]


@pytest.mark.parametrize(
    ("fault", "asked"),
    [
        ("another address's", {"addresses": ["127.77.222.78"], "server": True}),
        ("no address's", {"server": True}),
        ("an expired", {"addresses": [ADDRESS], "server": True, "days": -1}),
        ("a client's", {"addresses": [ADDRESS], "client": True}),
    ],
)
def test_a_client_turns_away_a_server_with_a_wrong_certificate(
    tmp_path: Path, ours: Authority, control_plane: Identity, fault: str, asked: dict[str, Any]
) -> None:
    impostor = Identity(tmp_path / "impostor", ours, ours, **asked)
    for port in serving(impostor.as_server()):
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, control_plane.as_client())


def test_a_client_turns_away_a_server_of_another_authority(
    tmp_path: Path, ours: Authority, theirs: Authority, control_plane: Identity
) -> None:
    impostor = Identity(tmp_path / "impostor", ours, theirs, addresses=[ADDRESS], server=True)
    for port in serving(impostor.as_server()):
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(port, control_plane.as_client())


def test_a_client_turns_away_a_server_without_tls(control_plane: Identity) -> None:
    with socket.create_server((ADDRESS, 0)) as listener:
        answering = threading.Thread(target=_answer_in_the_clear, args=(listener,))
        answering.start()
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(listener.getsockname()[1], control_plane.as_client())
        answering.join()


def _answer_in_the_clear(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def test_a_taken_port_is_said_so(port: int, guest: Identity) -> None:
    second = TlsServer(whoami, ADDRESS, port, guest.as_server())
    with pytest.raises(OSError, match=str(port)):
        second.start()


def test_a_stopped_server_listens_no_more_and_another_may(guest: Identity, control_plane: Identity) -> None:
    port = free_port()
    for _ in range(2):
        server = TlsServer(whoami, ADDRESS, port, guest.as_server())
        server.start()
        assert ask(port, control_plane.as_client()) == ["control-plane"]
        server.stop()
        with pytest.raises(ConnectionRefusedError):
            ask(port, control_plane.as_client())


def test_an_agent_pays_for_no_heavy_library() -> None:
    program = (
        "import sys, argosy.rpc.server, argosy.rpc.tls;"
        "print(sorted({'fastapi', 'cryptography', 'sqlalchemy', 'pydantic', 'starlette'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
