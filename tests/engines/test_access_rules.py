"""Clients are held off by where they come from, and by whether they use TLS; those who are in are shown out."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest

from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.errors import Unsupported
from argosy.engines import choices
from argosy.engines.base import Databases, Guarded, Users
from tests.support.engines import Guest, Refused, Session

HERE = "127.0.0.1"  # where clients of this machine come from unless they choose
NEIGHBOUR = "127.88.0.1"
ANNA = UserId("anna")


def choose(guest: Guest, *cidrs: str, require_tls: bool = False) -> None:
    chosen = replace(choices.read(guest.host), allowed_cidrs=cidrs, require_tls=require_tls)
    choices.write(guest.host, chosen)


def guard(guest: Guest, *cidrs: str, require_tls: bool = False) -> None:
    engine = guest.engine
    assert isinstance(engine, Guarded)
    engine.check_guard(cidrs, require_tls=require_tls)
    choose(guest, *cidrs, require_tls=require_tls)
    engine.guard()


def populate(guest: Guest) -> None:
    engine = guest.engine
    names: tuple[str, ...] = ()
    if isinstance(engine, Databases):
        engine.create_databases([Database("shop")])
        names = ("shop",)
    assert isinstance(engine, Users)
    engine.create_users([NewUser(ANNA, "secret", names)])


def anna(guest: Guest, *, plainly: bool = False) -> Session:
    database = "shop" if isinstance(guest.engine, Databases) else None
    connect = guest.adapter.connect_plainly if plainly else guest.adapter.connect
    return connect(guest.host, "anna", "secret", database)


def is_heard(guest: Guest, source: str) -> bool:
    """Whether a client at that address is asked for its password; of those not heard, none is."""
    try:
        with socket.create_connection(
            (guest.host.address, guest.host.port), timeout=0.3, source_address=(source, 0)
        ) as client:
            if guest.datastore.engine == "postgresql":
                words = b"user\0anna\0database\0shop\0\0"
                client.settimeout(10)
                client.sendall(struct.pack("!II", len(words) + 8, 196608) + words)
                return client.recv(1) == b"R"
            return True
    except TimeoutError:
        return False


def is_ended(session: Session) -> bool:
    try:
        session.read()
    except Refused:
        return True
    return False


def test_only_clients_of_the_allowed_networks_get_in(guest: Guest) -> None:
    populate(guest)
    guard(guest, "127.88.0.0/16", "10.0.0.0/8")
    assert not is_heard(guest, HERE)
    assert is_heard(guest, NEIGHBOUR)
    assert not is_heard(guest, "127.89.0.1")
    guard(guest, "127.0.0.1")
    assert not is_heard(guest, NEIGHBOUR)
    with anna(guest) as session:
        session.write("from here", "yes")
    guard(guest)
    assert is_heard(guest, NEIGHBOUR)
    assert is_heard(guest, HERE)


def test_those_who_are_in_are_shown_out_when_their_network_is_not_allowed_any_more(guest: Guest) -> None:
    populate(guest)
    with anna(guest) as session, anna(guest) as other:
        session.write("before", "yes")
        guard(guest, "127.0.0.0/24")
        assert session.read() == {"before": "yes"}
        guard(guest, "127.88.0.0/16")
        assert is_ended(session)
        assert is_ended(other)


def test_one_who_has_connected_and_not_logged_in_is_shown_out_too(guest: Guest) -> None:
    populate(guest)
    with socket.create_connection((guest.host.address, guest.host.port), timeout=10) as waiting:
        guest.wait_until(lambda: is_heard(guest, HERE), "the server hears others")
        guard(guest, "127.88.0.0/16")
        while waiting.recv(4096):  # what the server says first, then that it has hung up
            pass


def test_a_server_that_starts_lets_nobody_else_in_from_its_first_moment(guest: Guest) -> None:
    populate(guest)
    guard(guest, "127.88.0.0/16")
    for _ in range(2):
        guest.engine.stop()
        engine = guest.new_agent()
        engine.start()
        assert not is_heard(guest, HERE)
        assert is_heard(guest, NEIGHBOUR)
    guard(guest)
    with anna(guest) as session:
        session.write("open again", "yes")


def test_a_new_agent_changes_the_rules_of_a_server_it_did_not_start(guest: Guest) -> None:
    populate(guest)
    guest.new_agent()
    guard(guest, "127.88.0.0/16")
    assert not is_heard(guest, HERE)
    guest.new_agent()
    guard(guest, HERE)
    assert is_heard(guest, HERE)


def test_rules_chosen_before_the_first_start_hold_from_it(place: Guest) -> None:
    place.engine.initialise()
    choose(place, "127.88.0.0/16")
    place.engine.start()
    assert not is_heard(place, HERE)
    populate(place)
    assert is_heard(place, NEIGHBOUR)


def test_the_most_networks_there_may_be_are_held_to(guest: Guest) -> None:
    populate(guest)
    guard(guest, *(f"10.{number}.0.0/16" for number in range(99)), "127.88.0.0/16")
    assert is_heard(guest, NEIGHBOUR)
    assert not is_heard(guest, HERE)


def test_tls_that_is_required_is(guest: Guest) -> None:
    populate(guest)
    guard(guest, require_tls=True)
    with anna(guest) as session:
        assert session.encrypted
    with pytest.raises(Refused):
        anna(guest, plainly=True)
    guest.engine.stop()
    guest.engine.start()
    with pytest.raises(Refused):
        anna(guest, plainly=True)
    guard(guest)
    with anna(guest) as session:
        assert session.encrypted


def test_sessions_without_tls_end_when_it_becomes_required(guest: Guest) -> None:
    populate(guest)
    try:
        session = anna(guest, plainly=True)
    except Refused:
        pytest.skip("this server lets nobody in without TLS")
    with session:
        guard(guest, require_tls=True)
        assert is_ended(session)


def test_a_server_without_certificates_refuses_to_require_tls(place_without_tls: Guest) -> None:
    place_without_tls.engine.initialise()
    place_without_tls.engine.start()
    with pytest.raises(Unsupported, match="TLS"):
        guard(place_without_tls, require_tls=True)


def test_show_says_how_clients_are_held_off(guest: Guest) -> None:
    engine = guest.engine
    assert isinstance(engine, Guarded)
    assert engine.guarded()[0] == "any address"
    guard(guest, "127.88.0.0/16", HERE, require_tls=True)
    networks, tls = engine.guarded()
    assert networks.endswith(", 2 networks")
    assert tls.startswith("required")
