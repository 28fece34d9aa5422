"""Backups of every engine: whole or not at all, restored elsewhere as they were, with users as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pytest

from argosy import marks
from argosy.domain.databases import Database, NewUser, UserChange, UserId
from argosy.domain.errors import EngineError
from argosy.engines.backups import CONSISTENT_AT, FINGERPRINT, BackUps, Checks, KeepsAccounts, Stored
from argosy.engines.base import Databases, Engine, Users
from tests.support.engines import Guest, Refused

ANN = UserId("ann")
SHOP = "shop"
SECRET, LATER = "Ann-secret-77", "Ann-later-88"


class _BackedUp(BackUps, Checks, KeepsAccounts, Users, Engine, Protocol):
    """What every engine of the catalog is."""


def engine_of(guest: Guest) -> _BackedUp:
    engine = guest.engine
    assert isinstance(engine, BackUps)
    assert isinstance(engine, Checks)
    assert isinstance(engine, KeepsAccounts)
    assert isinstance(engine, Users)
    return engine


def database_of(guest: Guest) -> str | None:
    return SHOP if isinstance(guest.engine, Databases) else None


def open_shop(guest: Guest) -> _BackedUp:
    if isinstance(guest.engine, Databases):
        guest.engine.create_databases([Database(SHOP)])
    engine = engine_of(guest)
    database = database_of(guest)
    engine.create_users([NewUser(ANN, SECRET, (database,) if database else ())])
    return engine


def write(guest: Guest, *keys: str, secret: str = SECRET) -> None:
    with guest.connect("ann", secret, database_of(guest)) as session:
        for key in keys:
            session.write(key, "value")


def keys(guest: Guest, secret: str = SECRET) -> set[str]:
    with guest.connect("ann", secret, database_of(guest)) as session:
        return set(session.read())


def backed_up(engine: _BackedUp) -> Stored:
    parts: list[bytes] = []
    facts = engine.back_up(parts.append, None, silent)
    return Stored(facts, lambda: iter(parts))


def silent(_: str) -> None:
    pass


def test_a_backup_is_restored_elsewhere_whole_and_with_the_users_of_now(
    guest: Guest, second_place: Guest
) -> None:
    engine = open_shop(guest)
    write(guest, "one", "two")
    full = backed_up(engine)
    write(guest, "too late")
    assert {CONSISTENT_AT, FINGERPRINT} <= set(full.facts)
    engine.update_user(ANN, UserChange(password=LATER))
    accounts = engine.dump_accounts()
    assert LATER not in accounts

    restored = engine_of(second_place)
    volume = second_place.host.data.parent
    before = sorted(volume.iterdir())

    def cut() -> Iterator[bytes]:
        parts = b"".join(full.read())
        yield parts[: len(parts) // 2]
        raise EngineError("chunk 2 is missing")

    with pytest.raises(EngineError, match="chunk 2 is missing"):
        restored.restore([Stored(full.facts, cut)], None, silent)
    assert sorted(volume.iterdir()) == before, "something is left of a restore that failed"

    restored.restore([full], None, silent)
    restored.start()
    assert keys(second_place) == {"one", "two"}
    assert restored.check(full.facts[FINGERPRINT], silent) == []
    assert restored.load_accounts(accounts) == []
    with pytest.raises(Refused):
        second_place.connect("ann", SECRET, database_of(second_place))
    assert keys(second_place, LATER) == {"one", "two"}
    if isinstance(restored, Databases):  # others count keys, and all this is in one
        write(second_place, "three", secret=LATER)
        assert restored.check(full.facts[FINGERPRINT], silent) != []


def test_nothing_is_left_of_a_backup_that_could_not_be_stored(guest: Guest) -> None:
    engine = open_shop(guest)
    write(guest, "one")
    before = sorted(guest.host.data.parent.iterdir())

    def refuse(part: bytes) -> None:
        raise EngineError("the store is full")

    with pytest.raises(EngineError, match="the store is full"):
        engine.back_up(refuse, None, silent)
    assert not marks.marked({marks.INSTANCE: guest.host.instance_id, marks.ROLE: "backup"})
    assert sorted(guest.host.data.parent.iterdir()) == before
    write(guest, "two")
    assert b"".join(backed_up(engine).read())
