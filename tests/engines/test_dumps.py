"""Logical dumps leave a server and are loaded by another of its kind, with the rights of a database's users alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.errors import DatabaseNotFound, Invalid, NotFound
from argosy.engines.backups import Dumps
from argosy.engines.base import Databases, Users
from tests.support.engines import Guest, Refused, Session

ANN, SECRET = "ann", "Ann-secret-77"
HOSTILE = "odd \"name`s' #1"


@pytest.fixture
def second(second_place: Guest) -> Guest:
    second_place.engine.initialise()
    second_place.engine.start()
    return second_place


def furnish(guest: Guest, *names: str) -> str | None:
    """With databases and a user of them all; the first one's name, None where there are none."""
    engine = guest.engine
    has_databases = isinstance(engine, Databases)
    if isinstance(engine, Databases):
        engine.create_databases([Database(name) for name in names])
    assert isinstance(engine, Users)
    engine.create_users([NewUser(UserId(ANN), SECRET, names if has_databases else ())])
    return names[0] if has_databases else None


def ann(guest: Guest, database: str | None) -> Session:
    return guest.connect(ANN, SECRET, database)


def dumped(guest: Guest, database: str | None = None, table: str | None = None) -> bytes:
    content = bytearray()
    cast("Dumps", guest.engine).dump(content.extend, database, table)
    return bytes(content)


def parts(content: bytes, size: int = 1000) -> Iterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


def load(guest: Guest, content: bytes, database: str | None = None) -> list[str]:
    return cast("Dumps", guest.engine).load_dump(parts(content), database)


def assert_nothing_is_left(guest: Guest) -> None:
    host = guest.host
    assert not [path for name in ("l", "load", "dump") for path in [host.run / name] if path.exists()]
    assert sorted(path.name for path in host.data.parent.iterdir() if path.name == "load") == []


def test_what_one_server_dumps_another_loads(guest: Guest, second: Guest) -> None:
    database = furnish(guest, HOSTILE)
    furnish(second, HOSTILE)
    with ann(guest, database) as session:
        for number in range(300):
            session.write(f"key-{number}", f"value\n\\\0'\"`{number}".replace("\0", ""))
        kept = session.read()
    content = dumped(guest, database)
    assert dumped(guest) != b"", "the only one there is"
    load(second, content, database)
    with ann(second, database) as session:
        assert session.read() == kept
        session.write("later", "too")
    assert_nothing_is_left(guest)
    assert_nothing_is_left(second)
    assert isinstance(second.engine, Users)
    assert [user.id.name for user in second.engine.list_users()] == [ANN]


def test_a_dump_comes_of_a_server_that_users_write_to_and_of_one_database_only(guest: Guest) -> None:
    database = furnish(guest, "shop", "other")
    with ann(guest, database) as session:
        session.write("key", "a-word-of-shop")
    if database is None:
        for asked in (("shop", None), (None, "table")):
            with pytest.raises(Invalid, match="no databases"):
                dumped(guest, *asked)
        return
    with ann(guest, "other") as session:
        session.write("key", "a-word-of-other")
    assert dumped(guest, "shop", "written") != b""
    with pytest.raises(Invalid, match="other, shop"):
        dumped(guest)
    with pytest.raises(DatabaseNotFound):
        dumped(guest, "nowhere")
    with pytest.raises(NotFound, match="nothing"):
        dumped(guest, "shop", "nothing")
    for reserved in ("postgres", "mysql", "information_schema"):
        with pytest.raises(DatabaseNotFound):
            dumped(guest, reserved)
    with pytest.raises(DatabaseNotFound):
        load(guest, b"SELECT 1", "nowhere")


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b\x08\x00compressed", b"PGDMP\x01\x0e\x00nonsense" * 9, b"REDIS0011\xfa\x05nonsense" * 9],
    ids=["empty", "gzip", "archive", "snapshot"],
)
def test_what_is_no_dump_is_refused_with_a_reason(guest: Guest, content: bytes) -> None:
    database = furnish(guest, "shop")
    with pytest.raises(Invalid, match=r"The dump|keys were loaded") as refused:
        load(guest, content, database)
    assert refused.value.code == "bad-dump"
    assert_nothing_is_left(guest)
    with ann(guest, database) as session:
        session.write("key", "value")


def test_a_dump_that_is_cut_off_ends_the_program_and_the_next_one_is_loaded(guest: Guest) -> None:
    database = furnish(guest, "shop")
    with ann(guest, database) as session:
        for number in range(2000):
            session.write(f"key-{number}", f"value-{number}" * 9)
    content = dumped(guest, database)

    def cut() -> Iterator[bytes]:
        yield content[: len(content) // 2]
        raise ConnectionResetError("the client hung up")

    if isinstance(guest.engine, Databases):
        guest.engine.create_databases([Database("copy")])
        database = "copy"
    with pytest.raises(ConnectionResetError):
        cast("Dumps", guest.engine).load_dump(cut(), database)
    assert_nothing_is_left(guest)
    load(guest, content, database)


def test_a_user_who_may_not_cannot_load_what_it_wants_by_a_dump(guest: Guest) -> None:
    """See the tests of each engine for what a dump may try."""
    database = furnish(guest, "shop")
    load(guest, dumped(guest, database), database)
    for user in ("os_db_shop", "os_admin"):
        with pytest.raises(Refused):
            guest.connect(user, "", database)
