"""The directory that backups are in, and how guests get at it: with a grant, a signature, and no other way."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from argosy.conductor.app import application
from argosy.domain.errors import Forbidden, Unavailable
from argosy.metadata import migrations
from argosy.metadata.store import Store
from argosy.rpc import peers
from argosy.rpc.server import PEER
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.backups import BackupStore, Method
from argosy.storage.base import StoreFull
from argosy.storage.directory import DirectoryStore

CONTAINER = "database_backups"
MINE, OTHERS = "i1/b1/", "i2/b1/"
NAME = MINE + "chunk-00000000"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'argosy.db'}")
    migrations.migrate(store.engine, store.url)
    with store.write() as tx:
        tx.grants.give("i1", CONTAINER, MINE, "PUT", None)
        tx.grants.give("i1", CONTAINER, MINE, "GET", None)
        tx.grants.give("i2", CONTAINER, OTHERS, "PUT", None)
    yield store
    store.close()


@pytest.fixture
def backups(tmp_path: Path) -> DirectoryBackups:
    made = DirectoryBackups(DirectoryStore(tmp_path / "backups"), "https://conductor", b"key")
    made.check(CONTAINER)
    return made


class Guest:
    """Speaks to the conductor with the certificate of an instance, or with any that is named."""

    def __init__(self, store: Store, backups: BackupStore, peer: str) -> None:
        app = application(store, backups)

        async def as_peer(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[PEER] = peer
            await app(scope, receive, send)

        self._transport = httpx.ASGITransport(as_peer)

    def ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        async def request() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="https://conductor") as client:
                return await client.request(method, url, **more)

        return asyncio.run(request())

    def urls(self, method: str, *names: str, instance: str = "i1") -> httpx.Response:
        wanted = {"instance_id": instance, "container": CONTAINER, "method": method, "names": list(names)}
        return self.ask("POST", "/v1/urls", json=wanted)

    def url(self, method: str, name: str = NAME) -> str:
        answer = self.urls(method, name)
        assert answer.status_code == 200, answer.text
        assert answer.json()["by_conductor"]
        (url,) = answer.json()["urls"]
        return str(url)


@pytest.fixture
def guest(store: Store, backups: DirectoryBackups) -> Guest:
    return Guest(store, backups, peers.guest("i1"))


def signed(backups: DirectoryBackups, method: Method, name: str = NAME, *, minutes: float = 5) -> str:
    until = datetime.now(UTC) + timedelta(minutes=minutes)
    return backups.sign(method, CONTAINER, name, prefix=MINE, until=until)


def files(tmp_path: Path) -> list[Path]:
    return [file for file in (tmp_path / "backups" / "files").rglob("*") if file.is_file()]


def test_what_a_guest_writes_by_its_url_it_reads_by_its_url(guest: Guest, backups: DirectoryBackups) -> None:
    content = os.urandom(3 * 2**20)
    assert guest.ask("PUT", guest.url("PUT"), content=content).status_code == 201
    assert guest.ask("GET", guest.url("GET")).content == content
    assert b"".join(backups.read(CONTAINER, NAME)) == content
    assert guest.ask("GET", guest.url("GET", MINE + "manifest.json")).status_code == 404


def test_an_empty_object_is_one(guest: Guest) -> None:
    assert guest.ask("PUT", guest.url("PUT"), content=b"").status_code == 201
    answer = guest.ask("GET", guest.url("GET"))
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("name", [MINE + "a b", MINE + "ü%2F", MINE + "a?b=c#d", MINE + "//"])
def test_odd_names_stay_below_their_prefix(guest: Guest, backups: DirectoryBackups, name: str) -> None:
    assert guest.ask("PUT", guest.url("PUT", name), content=b"x").status_code == 201
    assert [held.name for held in backups.objects(CONTAINER, MINE)] == [name]
    assert list(backups.objects(CONTAINER, OTHERS)) == []


@pytest.mark.parametrize(
    ("method", "name", "instance"),
    [
        ("PUT", OTHERS + "chunk-00000000", "i1"),
        ("PUT", "i1/b10/chunk-00000000", "i1"),
        ("PUT", "i1/b1", "i1"),
        ("GET", OTHERS + "chunk-00000000", "i1"),
        ("PUT", OTHERS + "chunk-00000000", "i2"),  # with the certificate of i1
    ],
)
def test_nothing_is_signed_that_was_not_granted(guest: Guest, method: str, name: str, instance: str) -> None:
    assert guest.urls(method, NAME, name, instance=instance).status_code == 403


@pytest.mark.parametrize(
    "names", [[], [""], [NAME] * 65, [MINE + "\ud800"], [MINE + "a\0b"], [MINE + "x" * 1025]]
)
def test_what_cannot_be_asked_is_refused_and_no_error_of_ours(guest: Guest, names: list[str]) -> None:
    wanted = {"instance_id": "i1", "container": CONTAINER, "method": "PUT", "names": names}
    headers = {"Content-Type": "application/json"}
    answer = guest.ask("POST", "/v1/urls", content=json.dumps(wanted).encode(), headers=headers)
    assert answer.status_code in {400, 422}


def changed(url: str, **query: str) -> str:
    return str(httpx.URL(url).copy_merge_params(query))


def test_a_url_is_good_for_its_method_its_prefix_and_its_time(
    guest: Guest, backups: DirectoryBackups
) -> None:
    url = signed(backups, "PUT")
    parts = urlsplit(url)
    no_longer = [
        ("GET", url),
        ("PUT", url.replace("/i1/b1/", "/i2/b1/")),
        ("PUT", url.replace(CONTAINER, "other")),
        ("PUT", changed(url, prefix="i1/")),
        ("PUT", changed(url, prefix="")),
        ("PUT", changed(url, expires="99999999999")),
        ("PUT", changed(url, expires="soon")),
        ("PUT", changed(url, signature="ü")),
        ("PUT", f"{parts.scheme}://{parts.netloc}{parts.path}"),
        ("PUT", signed(backups, "PUT", minutes=-1)),
        (
            "PUT",
            DirectoryBackups.sign(
                _with_key(backups, b"other"), "PUT", CONTAINER, NAME, prefix=MINE, until=_soon()
            ),
        ),
    ]
    assert [guest.ask(method, one, content=b"x").status_code for method, one in no_longer] == [403] * 11
    assert guest.ask("PUT", signed(backups, "PUT", MINE + "other"), content=b"x").status_code == 201
    assert guest.ask("PUT", url, content=b"x").status_code == 201


def _soon() -> datetime:
    return datetime.now(UTC) + timedelta(minutes=1)


def _with_key(backups: DirectoryBackups, key: bytes) -> DirectoryBackups:
    return DirectoryBackups(backups._store, "https://conductor", key)


def test_a_url_ends_with_its_grant(store: Store, guest: Guest, tmp_path: Path) -> None:
    url = guest.url("PUT")
    with store.write() as tx:
        tx.grants.take("i1")
    assert guest.ask("PUT", url, content=b"x").status_code == 403
    assert files(tmp_path) == []


@pytest.mark.parametrize("peer", [peers.guest("i2"), peers.CONTROL_PLANE, "", "guest:"])
def test_a_url_that_got_lost_is_nothing_to_another(
    store: Store, backups: DirectoryBackups, guest: Guest, peer: str
) -> None:
    url = guest.url("PUT")
    assert Guest(store, backups, peer).ask("PUT", url, content=b"x").status_code == 403


def test_no_url_is_signed_for_what_lies_elsewhere(backups: DirectoryBackups) -> None:
    with pytest.raises(Forbidden):
        backups.sign("PUT", CONTAINER, OTHERS + "x", prefix=MINE, until=_soon())


def test_an_upload_that_is_cut_off_leaves_nothing(guest: Guest, tmp_path: Path) -> None:
    answer = guest.ask("PUT", guest.url("PUT"), content=b"half", headers={"Content-Length": "8"})
    assert answer.status_code == 400
    assert guest.ask("GET", guest.url("GET")).status_code == 404
    assert files(tmp_path) == []


def test_an_upload_of_a_conductor_that_died_is_taken_away_in_time(
    backups: DirectoryBackups, tmp_path: Path
) -> None:
    backups.put(CONTAINER, NAME, b"whole")
    writing = backups._store.writing("backups", CONTAINER, NAME)
    writing.__enter__().write(b"half")
    (left,) = [file for file in files(tmp_path) if file.read_bytes() == b"half"]
    backups.tidy(CONTAINER)
    assert left.exists(), "it may still be going on"
    long_ago = datetime.now(UTC).timestamp() - 2 * 24 * 3600
    for file in files(tmp_path):
        os.utime(file, (long_ago, long_ago))
    backups.tidy(CONTAINER)
    assert not left.exists()
    assert backups.get(CONTAINER, NAME) == b"whole"


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 507, "no room left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 507, "no room left"),
        (OSError(errno.EIO, "Input/output error"), 503, "Input/output error"),
        (OSError(errno.EROFS, "Read-only file system"), 503, "Read-only"),
        (sqlite3.OperationalError("database or disk is full"), 507, "no room left"),
        (sqlite3.OperationalError("database is locked"), 503, "locked"),
    ],
)
def test_what_the_disk_says_is_told(
    guest: Guest,
    backups: DirectoryBackups,
    monkeypatch: pytest.MonkeyPatch,
    error: Any,
    status: int,
    said: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    url = guest.url("PUT")
    monkeypatch.setattr(DirectoryStore, "new_file", fail)
    answer = guest.ask("PUT", url, content=b"x")
    assert (answer.status_code, said in answer.text) == (status, True)
    with pytest.raises(StoreFull if status == 507 else Unavailable, match=said):
        backups.put(CONTAINER, NAME, b"x")


def test_a_store_that_cannot_sign_is_no_refusal_of_the_guest(
    store: Store, backups: DirectoryBackups, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign(*_: object, **__: object) -> str:
        raise Forbidden("Keystone refuses us.")

    monkeypatch.setattr(DirectoryBackups, "sign", sign)
    answer = guest.urls("PUT", NAME)
    assert (answer.status_code, answer.text) == (503, "Keystone refuses us.")
