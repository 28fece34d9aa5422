"""Backups: make, find, delete; and in which container they are kept."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from argosy.client.errors import Ambiguous, NotFound, OperationFailed, TimedOut
from argosy.client.instances import is_id
from argosy.client.models import Backup, BackupStrategy
from argosy.client.session import Session

_PATH = "/backups"
_PAGE = 200
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Backups:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(
        self, instance_id: str | None = None, *, datastore: str | None = None, all_projects: bool = False
    ) -> list[Backup]:
        """The project's, or those of one instance, which may be gone; changed last first.

        `all_projects` is for administrators.
        """
        asked: dict[str, Any] = {"instance_id": instance_id, "datastore": datastore, "limit": _PAGE}
        if all_projects:
            asked["all_projects"] = "true"
        return [Backup.read(shown) for shown in self._session.pages(_PATH, "backups", **asked)]

    def get(self, backup_id: str) -> Backup:
        return Backup.read(self._session.get(f"{_PATH}/{quote(backup_id, safe='')}")["backup"])

    def find(self, name_or_id: str) -> Backup:
        """Raises NotFound, or Ambiguous when several have the name."""
        if is_id(name_or_id):
            try:
                return self.get(name_or_id)
            except NotFound:
                pass
        called = [each for each in self.all() if each.name == name_or_id]
        if len(called) > 1:
            raise Ambiguous("backup", name_or_id, [each.id for each in called])
        if not called:
            raise NotFound(f"No backup has the name or id {name_or_id!r}.", code="backup-not-found")
        return called[0]

    def create(
        self,
        instance_id: str,
        name: str,
        *,
        incremental: bool = False,
        parent_id: str | None = None,
        description: str | None = None,
        container: str | None = None,
    ) -> Backup:
        """Begin to make one. An incremental one is built on the parent, or on the newest there is."""
        asked: dict[str, Any] = {"instance": instance_id, "name": name, "incremental": int(incremental)}
        more = {"parent_id": parent_id, "description": description, "swift_container": container}
        asked |= {key: value for key, value in more.items() if value is not None}
        return Backup.read(self._session.post(_PATH, {"backup": asked})["backup"])

    def register(self, name: str, location: str, *, description: str | None = None) -> Backup:
        """Take over a backup that lies in the store and was made elsewhere; `location` is as that one's says it."""
        asked: dict[str, Any] = {"name": name, "restore_from": {"remote_location": location}}
        if description is not None:
            asked["description"] = description
        return Backup.read(self._session.post(_PATH, {"backup": asked})["backup"])

    def delete(self, backup_id: str, *, cascade: bool = False) -> None:
        """Begin to; one that others build on is refused without `cascade`, which takes them away too."""
        self._session.delete(f"{_PATH}/{backup_id}" + ("?cascade=true" if cascade else ""))

    def verify(self, backup_id: str) -> str:
        """Begin to restore it into a server that is thrown away, and to check it. Returns the operation's id."""
        answer = self._session.post(f"{_PATH}/{backup_id}/verify", {})
        return str(answer["verification"]["operation_id"])

    def wait_until_gone(self, backup_id: str, timeout_s: float | None = None) -> None:
        """After `delete`. Raises OperationFailed with its reason, or TimedOut while it still goes on."""
        began, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                found = self.get(backup_id)
            except NotFound:
                return
            if found.status == "DELETE_FAILED":
                raise OperationFailed(found.error or "It could not be deleted.", code="backup-not-deleted")
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise TimedOut(f"Not deleted after {timeout_s:.0f} s, and going on.")
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)


class BackupStrategies:
    """In which container of the store backups are kept: an instance's, else the project's, else the installation's."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[BackupStrategy]:
        shown = self._session.get("/backup_strategies")["backup_strategies"]
        return [BackupStrategy.read(each) for each in shown]

    def set(self, container: str, instance_id: str | None = None) -> BackupStrategy:
        """Without an instance, the project's."""
        asked = {"swift_container": container} | ({"instance_id": instance_id} if instance_id else {})
        answer = self._session.post("/backup_strategies", {"backup_strategy": asked})
        return BackupStrategy.read(answer["backup_strategy"])

    def delete(self, instance_id: str | None = None) -> None:
        """Without an instance, the project's."""
        self._session.delete("/backup_strategies" + (f"?instance_id={instance_id}" if instance_id else ""))
