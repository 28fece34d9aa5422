"""A running server shows another certificate when it is given one, and those who are in stay in."""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

import pytest

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.datastore import Datastore
from argosy.engines.base import Databases, ShowsCertificate, Users
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest

ONE_OF_EACH = ("postgresql", "mariadb", "valkey")


@pytest.mark.parametrize("datastore", [datastores()[name] for name in ONE_OF_EACH], ids=ONE_OF_EACH)
def test_a_running_server_takes_another_certificate(datastore: Datastore, authority: TestAuthority) -> None:
    with Guest(datastore, datastore.version(datastore.default_version), authority) as guest:
        engine, tls = guest.engine, guest.host.tls
        engine.initialise()
        engine.start()
        assert isinstance(engine, Users)
        assert isinstance(engine, ShowsCertificate)
        assert tls is not None
        if isinstance(engine, Databases):
            engine.create_databases([Database("shop")])
        database = "shop" if isinstance(engine, Databases) else None
        engine.create_users([NewUser(UserId("ann"), "secret", (database,) if database else ())])
        session = guest.connect("ann", "secret", database)
        server, before = engine.server.pid, shown_by(guest)

        issued = authority.issue(guest.host.address)
        guest.host.write_file(tls.key, issued.key)
        guest.host.write_file(tls.certificate, issued.certificate)
        engine.show_certificate()
        guest.wait_until(lambda: shown_by(guest) != before, "it shows the other certificate")
        assert shown_by(guest) == ssl.PEM_cert_to_DER_cert(Path(tls.certificate).read_text())
        session.write("still", "there")
        session.close()
        assert engine.server.pid == server


def shown_by(guest: Guest) -> bytes | None:
    """In the way that each asks for TLS: PostgreSQL's SSLRequest, MariaDB's short handshake answer, or at once."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((guest.host.address, guest.host.port), timeout=10) as connection:
        if guest.datastore.engine == "postgresql":
            connection.sendall(struct.pack("!II", 8, 80877103))
            assert connection.recv(1) == b"S"
        elif guest.datastore.engine == "mariadb":
            connection.recv(4096)
            # CLIENT_PROTOCOL_41 | CLIENT_SSL | CLIENT_SECURE_CONNECTION, a packet's size, a character set
            asked = struct.pack("<IIB23x", 0x200 | 0x800 | 0x8000, 2**24, 33)
            connection.sendall(struct.pack("<I", len(asked) | 1 << 24) + asked)
        with context.wrap_socket(connection) as secured:
            return secured.getpeercert(binary_form=True)
