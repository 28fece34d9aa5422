"""/mgmt/backup-keys: which keys there are, another one, and none away that is needed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from argosy.domain.backup import Backup, BackupStatus
from argosy.storage.keys import KeyRing
from tests.api.conftest import Api

KEYS = "/mgmt/backup-keys"


@pytest.fixture
def ring(api: Api) -> Iterator[KeyRing]:
    """The server's own, with two keys, of which the older one wraps that of a backup."""
    ring = KeyRing(api.server.home / "secrets" / "backup-keys")
    assert listed(api)
    _, wrapped = ring.new()
    ring.rotate()
    now = datetime.now(UTC)
    backup = Backup(
        id=str(uuid.uuid4()),
        project_id=api.demo.project_id,
        name="b",
        instance_id="i",
        datastore="valkey",
        version="8",
        status=BackupStatus.COMPLETED,
        store="directory",
        container="database_backups",
        prefix="i/b/",
        created_at=now,
        updated_at=now,
        wrapped_key=wrapped,
    )
    with api.store.write() as tx:
        tx.backups.add(backup)
    yield ring
    with api.store.write() as tx:
        tx.backups.forget(backup.id)
        for table in ("operations", "events", "operation_changes"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")
    for key in ring.ids()[:-1]:
        ring.remove(key)


def listed(api: Api) -> list[dict[str, Any]]:
    answer = api.admin.get(KEYS)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["backup_keys"]
    return found


def test_keys_are_listed_without_what_they_are(api: Api, ring: KeyRing) -> None:
    older, newer = listed(api)
    assert (older["id"], older["active"], older["present"], older["backups"]) == (
        ring.ids()[0],
        False,
        True,
        1,
    )
    assert (newer["id"], newer["active"], newer["backups"], newer["log_archives"]) == (
        ring.active,
        True,
        0,
        0,
    )
    for key in ring.ids():
        secret = (api.server.home / "secrets" / "backup-keys" / f"{key}.key").read_text()
        assert secret not in api.admin.get(KEYS).text


def test_a_key_that_is_lost_but_needed_is_told(api: Api, ring: KeyRing) -> None:
    ring.remove(ring.ids()[0])
    lost, _ = listed(api)
    assert (lost["present"], lost["backups"]) == (False, 1)


def test_a_key_that_is_needed_is_not_deleted(api: Api, ring: KeyRing) -> None:
    older, newer = ring.ids()
    for key, told in ((older, "1 backups or log archives"), (newer, "rotate first")):
        refused = api.admin.delete(f"{KEYS}/{key}")
        assert refused.status_code == 409, refused.text
        assert told in refused.text
    assert ring.ids() == [older, newer]
    with api.store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE backups SET wrapped_key = ''")
    assert api.admin.delete(f"{KEYS}/{older}").status_code == 204
    assert ring.ids() == [newer]
    assert api.admin.delete(f"{KEYS}/{older}").status_code == 404
    assert api.admin.delete(f"{KEYS}/..%2Fseal").status_code == 404


def test_rotating_is_an_operation(api: Api, ring: KeyRing) -> None:
    answer = api.admin.post(KEYS)
    assert answer.status_code == 202, answer.text
    assert answer.json()["operation"]["kind"] == "backup_keys.rotate"
    assert len(ring.ids()) == 2  # it is the task manager's to do


def test_it_is_administrators_alone(api: Api, ring: KeyRing) -> None:
    for method, path in (("GET", KEYS), ("POST", KEYS), ("DELETE", f"{KEYS}/{ring.ids()[0]}")):
        assert api.demo.request(method, path).status_code == 401
