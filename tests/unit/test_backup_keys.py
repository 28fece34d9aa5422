"""Rotating the key ring: everything stays readable at each moment, and nothing is left behind."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from argosy.domain.backup import Backup, BackupStatus
from argosy.domain.errors import Unavailable
from argosy.domain.log_archive import LogArchive
from argosy.metadata.migrations import migrate
from argosy.metadata.store import Store
from argosy.storage import keys
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.directory import DirectoryStore
from argosy.storage.keys import KeyRing, made_at
from argosy.taskmanager import parts as installed
from argosy.taskmanager.steps import backup_keys

NOW = datetime(2026, 11, 28, tzinfo=UTC)
CONTAINER = "database_backups"


class Away(DirectoryBackups):
    """A store that can be away, and that tells of each key that is put."""

    away = False
    meanwhile: Any = None

    def put(self, container: str, name: str, content: bytes) -> None:
        if self.away:
            raise Unavailable("The store is away.")
        super().put(container, name, content)
        if self.meanwhile:
            self.meanwhile()


class Home:
    def __init__(self, directory: Path) -> None:
        self.store = Store(f"sqlite:///{directory / 'argosy.db'}")
        migrate(self.store.engine, self.store.url)
        self.ring = KeyRing.open(directory / "keys")
        self.backups = Away(DirectoryStore(directory / "store"), "https://127.0.0.1", bytes(32))
        self.backups.check(CONTAINER)
        nothing = cast("Any", None)
        installed.install(
            installed.Parts(
                store=self.store,
                platform=nothing,
                guests=nothing,
                control=nothing,
                database=nothing,
                seal=nothing,
                conductor_url="",
                objects=nothing,
                backups=self.backups,
                keys=self.ring,
            )
        )

    def backup(self, status: BackupStatus = BackupStatus.COMPLETED, **more: Any) -> tuple[str, bytes]:
        """One, and its data key."""
        key, wrapped = self.ring.new()
        made = Backup(
            id=str(uuid.uuid4()),
            project_id="p",
            name="b",
            instance_id="i",
            datastore="valkey",
            version="8",
            status=status,
            store="directory",
            container=CONTAINER,
            prefix="",
            created_at=NOW,
            updated_at=NOW,
            wrapped_key=wrapped,
        )
        made = dataclasses.replace(made, prefix=f"i/{made.id}/", **more)
        with self.store.write() as tx:
            tx.backups.add(made)
        if status is not BackupStatus.FAILED:
            self.backups.put(CONTAINER, made.prefix + "key.json", keys.document(wrapped))
        return made.id, key

    def log(self) -> tuple[str, bytes]:
        key, wrapped = self.ring.new()
        archive_id = str(uuid.uuid4())
        prefix = f"i/log-{archive_id}/"
        with self.store.write() as tx:
            tx.log_archives.add(
                LogArchive(
                    id=archive_id,
                    project_id="p",
                    instance_id="i",
                    datastore="postgresql",
                    version="17",
                    store="directory",
                    container=CONTAINER,
                    prefix=prefix,
                    wrapped_key=wrapped,
                    began_at=NOW,
                )
            )
        self.backups.put(CONTAINER, prefix + "key.json", keys.document(wrapped))
        return archive_id, key

    def wrapped(self, backup_id: str) -> str:
        with self.store.read() as tx:
            return tx.backups.get(backup_id).wrapped_key

    def beside(self, prefix: str) -> str:
        return keys.wrapped_in(self.backups.get(CONTAINER, f"{prefix}key.json"))

    def names(self) -> list[str]:
        return [held.name for held in self.backups.objects(CONTAINER, "i/")]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    before = installed._installed[:]
    made = Home(tmp_path)
    yield made
    made.store.close()
    installed._installed[:] = before


def test_rows_and_what_lies_beside_the_archives_are_wrapped_anew(home: Home) -> None:
    backup, key = home.backup()
    log, log_key = home.log()
    old = home.ring.active
    home.ring.rotate()
    assert backup_keys.rewrap_all() == 0
    home.ring.remove(old)
    assert home.ring.unwrap(home.wrapped(backup)) == key
    assert home.ring.unwrap(home.beside(f"i/{backup}/")) == key
    assert home.ring.unwrap(home.beside(f"i/log-{log}/")) == log_key
    with home.store.read() as tx:
        assert tx.wrapped_keys.uses() == {(home.ring.active, "backup"): 1, (home.ring.active, "log"): 1}


def test_a_store_that_is_away_leaves_everything_readable_and_the_next_sweep_goes_on(home: Home) -> None:
    backup, key = home.backup()
    home.ring.rotate()
    home.backups.away = True
    with pytest.raises(Unavailable):
        backup_keys.rewrap_all()
    assert home.ring.unwrap(home.wrapped(backup)) == key
    assert home.ring.unwrap(home.beside(f"i/{backup}/")) == key
    home.backups.away = False
    backup_keys.sweep()
    assert home.ring.wrapped_by(home.wrapped(backup)) == home.ring.active
    assert home.ring.wrapped_by(home.beside(f"i/{backup}/")) == home.ring.active


def test_what_is_busy_is_left_to_the_next_sweep(home: Home) -> None:
    backup, _ = home.backup(BackupStatus.BUILDING, operation_id="o", operation_kind="backup.create")
    old = home.ring.active
    home.ring.rotate()
    assert backup_keys.rewrap_all() == 0
    assert home.ring.wrapped_by(home.wrapped(backup)) == old
    with home.store.write() as tx:
        tx.backups.change(backup, operation_id=None)
    backup_keys.sweep()
    assert home.ring.wrapped_by(home.wrapped(backup)) == home.ring.active


def test_a_backup_that_is_deleted_meanwhile_leaves_no_key_behind(home: Home) -> None:
    backup, _ = home.backup()
    home.ring.rotate()

    def delete() -> None:
        home.backups.meanwhile = None
        with home.store.write() as tx:
            tx.backups.forget(backup)

    home.backups.meanwhile = delete
    assert backup_keys.rewrap_all() == 0
    assert home.names() == []


def test_a_failed_backup_gets_nothing_in_the_store(home: Home) -> None:
    home.backup(BackupStatus.FAILED, leftovers=True)
    home.ring.rotate()
    assert backup_keys.rewrap_all() == 0
    assert home.names() == []


def test_keys_that_are_lost_are_counted_and_the_others_wrapped(home: Home) -> None:
    lost, _ = home.backup()
    home.ring.remove(home.ring.active)
    home.ring.rotate()
    there, _ = home.backup()
    home.ring.rotate()
    assert backup_keys.rewrap_all() == 1
    assert home.ring.wrapped_by(home.wrapped(there)) == home.ring.active
    assert home.ring.wrapped_by(home.wrapped(lost)) not in home.ring.ids()


def test_a_key_tells_when_it_was_made(home: Home) -> None:
    made = made_at(home.ring.active)
    assert made is not None
    assert abs((datetime.now(UTC) - made).total_seconds()) < 3600
    assert made_at("another") is None
