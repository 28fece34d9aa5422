"""Backups as users make them: through the API of a live server, of instances with something in them."""

from __future__ import annotations

from typing import Any

from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until

SECRET, LATER = "Ann-secret-77", "Ann-later-88"
_KEYS = {"valkey", "redis"}


def made(
    argosy: Server, demo: Client, name: str, datastore: str, version: str | None = None, **more: Any
) -> dict[str, Any]:
    """An instance with a user ann, who may use the database shop where there are any."""
    if version is not None:
        more["datastore"] = {"type": datastore, "version": version}
    user: dict[str, Any] = {"name": "ann", "password": SECRET}
    if datastore not in _KEYS:
        more["databases"] = [{"name": "shop"}]
        user["databases"] = [{"name": "shop"}]
    return argosy.create(demo, name, datastore, users=[user], **more)


class Shop:
    """What ann keeps in an instance: numbers, and how to look which are there."""

    def __init__(self, argosy: Server, instance: dict[str, Any], password: str = SECRET) -> None:
        database = None if instance["datastore"]["type"] in _KEYS else "shop"
        self._session = connected(argosy, instance, "ann", password, database)

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self._session.write(str(number), "there")

    def numbers(self) -> list[int]:
        return sorted(int(number) for number in self._session.read())

    def close(self) -> None:
        self._session.close()


def back_up(demo: Client, instance_id: str, name: str = "nightly", **more: Any) -> dict[str, Any]:
    """Make a backup and wait for it."""
    answer = demo.post("/backups", json={"backup": {"name": name, "instance": instance_id, **more}})
    assert answer.status_code == 202, answer.text
    return wait_until_done(demo, answer.json()["backup"]["id"])


def wait_until_done(demo: Client, backup_id: str) -> dict[str, Any]:
    def done() -> dict[str, Any] | None:
        shown: dict[str, Any] = demo.get(f"/backups/{backup_id}").json()["backup"]
        return shown if shown["status"] in {"COMPLETED", "FAILED"} else None

    found: dict[str, Any] = wait_until(f"backup {backup_id} is done", done, 120, every_s=0.05)
    return found


def delete_backup(demo: Client, backup_id: str) -> None:
    answer = demo.delete(f"/backups/{backup_id}?cascade=true")
    assert answer.status_code == 202, answer.text
    wait_until("it is gone", lambda: demo.get(f"/backups/{backup_id}").status_code == 404)


def restored(
    argosy: Server, demo: Client, name: str, backup_id: str, users: str = "current", **more: Any
) -> dict[str, Any]:
    """A new instance of a backup, as its instance was."""
    point = {"backupRef": backup_id, "users": users}
    answer = demo.post("/instances", json={"instance": {"name": name, "restorePoint": point, **more}})
    assert answer.status_code == 200, answer.text
    return argosy.wait_until_healthy(demo, answer.json()["instance"]["id"])


def restore_in_place(argosy: Server, demo: Client, instance_id: str, **asked: Any) -> dict[str, Any]:
    """Restore and wait; returns the operation."""
    answer = demo.post(f"/instances/{instance_id}/action", json={"restore": asked})
    assert answer.status_code == 202, answer.text

    def ended() -> dict[str, Any] | None:
        listed = demo.get(f"/operations?instance_id={instance_id}&kind=instance.restore").json()["operations"]
        return listed[0] if listed[0]["state"] in {"succeeded", "failed"} else None

    operation: dict[str, Any] = wait_until("the restore ends", ended, 120)
    argosy.wait_until_healthy(demo, instance_id)
    return operation
