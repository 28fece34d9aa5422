"""Archived log is taken away once no backup needs it, and no sooner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from argosy.domain.backup import Backup, BackupStatus
from argosy.domain.instance import Flavor, Instance
from argosy.domain.log_archive import KEPT_WITHOUT_BACKUP, LogArchive, Segment
from argosy.metadata import migrations
from argosy.metadata.store import Store
from argosy.metadata.tables import log_archives, log_segments
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.directory import DirectoryStore
from argosy.taskmanager.log_keeping import take_away_of, take_away_what_nobody_needs

NOW = datetime.now(UTC)
LONG_AGO = NOW - KEPT_WITHOUT_BACKUP - timedelta(hours=1)
PREFIX = "i/log-a/"


class Scene:
    """An archive of six segments, ten positions each, begun two days ago."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(f"sqlite:///{directory / 'argosy.db'}")
        migrations.migrate(self.store.engine, self.store.url)
        self.objects = DirectoryBackups(DirectoryStore(directory / "backups"), "https://c", b"key")
        self.objects.check("c")
        self.objects.put("c", f"{PREFIX}key.json", b"{}")
        archive = LogArchive(
            "a", "p", "i", "postgresql", "17", "directory", "c", PREFIX, NOW - timedelta(days=2)
        )
        with self.store.write() as tx:
            tx.flavors.publish([Flavor("1", "small", 512, 1)])
            tx.instances.add(Instance("i", "p", "db", "postgresql", "17", "1", 1, NOW, NOW))
            tx.log_archives.add(archive)
            for number in range(6):
                segment = Segment(f"s{number}", number * 10, number * 10 + 10, 5)
                tx.log_archives.take("a", segment)
                self.objects.put("c", f"{PREFIX}{segment.name}/manifest.json", b"{}")

    def backup(self, name: str, log_from: int | None, status: BackupStatus = BackupStatus.COMPLETED) -> None:
        backup = Backup(
            name, "p", name, "i", "postgresql", "17", status, "directory", "c", f"i/{name}/", NOW, NOW
        )
        facts = {} if log_from is None else {"log_from": log_from, "consistent_at": NOW.isoformat()}
        with self.store.write() as tx:
            tx.backups.add(replace(backup, facts=facts))

    def age(self, **columns: datetime) -> None:
        with self.store.write() as tx:
            tx.connection.execute(sa.update(log_archives).values(**columns))

    def left(self) -> list[str]:
        """What the store has, which is what the database knows."""
        take_away_what_nobody_needs(self.store, self.objects)
        held = [one.name.removeprefix(PREFIX).split("/")[0] for one in self.objects.objects("c", PREFIX)]
        with self.store.read() as tx:
            known = [one.name for one in tx.log_archives.segments("a")]
        assert [one for one in held if one != "key.json"] == known
        return known


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.store.close()


ALL = ["s0", "s1", "s2", "s3", "s4", "s5"]


def test_it_is_kept_from_the_oldest_backup_on(scene: Scene) -> None:
    scene.backup("b1", 25)
    scene.backup("b2", 45)
    assert scene.left() == ["s2", "s3", "s4", "s5"]
    with scene.store.write() as tx:
        tx.backups.forget("b1")
    assert scene.left() == ["s4", "s5"]
    with scene.store.read() as tx:
        (stretch,) = tx.log_archives.stretches(["a"])
        assert (stretch.starts, stretch.ends) == (40, 60)


def test_it_is_all_kept_while_a_backup_is_made_that_may_need_it(scene: Scene) -> None:
    scene.backup("b1", 45)
    scene.backup("b2", None, BackupStatus.BUILDING)
    assert scene.left() == ALL


def test_without_a_backup_it_is_kept_for_a_day(scene: Scene) -> None:
    assert scene.left() == ALL
    with scene.store.write() as tx:
        old = sa.update(log_segments).where(log_segments.c.ends <= 40)
        tx.connection.execute(old.values(archived_at=LONG_AGO))
    assert scene.left() == ["s4", "s5"]


def test_an_archive_that_has_ended_goes_with_its_last_backup(scene: Scene) -> None:
    scene.backup("b1", 5)
    with scene.store.write() as tx:
        tx.log_archives.end("a", "Switched off.")
        tx.backups.change("b1", created_at=NOW - timedelta(days=1, hours=12))
    scene.age(ended_at=LONG_AGO)
    assert scene.left() == ALL
    with scene.store.write() as tx:
        tx.backups.forget("b1")
    assert scene.left() == []
    assert list(scene.objects.objects("c", PREFIX)) == []
    with scene.store.read() as tx:
        assert tx.log_archives.find("a") is None


def test_one_that_has_just_ended_is_kept_a_while(scene: Scene) -> None:
    with scene.store.write() as tx:
        tx.log_archives.end("a", "Switched off.")
    assert scene.left() == ALL


def test_that_of_a_deleted_instance_goes_with_its_last_backup(scene: Scene) -> None:
    scene.backup("b1", 5)
    with scene.store.write() as tx:
        tx.log_archives.end("a", "The instance was deleted.")
        tx.backups.change("b1", created_at=NOW - timedelta(days=1, hours=12))
        tx.instances.forget("i")
    assert scene.left() == ALL
    with scene.store.write() as tx:
        tx.backups.forget("b1")
    take_away_of(scene.store, scene.objects, "another")
    assert list(scene.objects.objects("c", PREFIX)) != []
    take_away_of(scene.store, scene.objects, "i")
    assert list(scene.objects.objects("c", PREFIX)) == []
