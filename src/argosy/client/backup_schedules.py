"""Schedules of backups: make, find, change, delete."""

from __future__ import annotations

from typing import Any

from argosy.client.errors import Ambiguous, NotFound
from argosy.client.instances import Instances, is_id
from argosy.client.models import BackupSchedule
from argosy.client.session import Session

_PATH = "/backup_schedules"


class BackupSchedules:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, instance_id: str | None = None) -> list[BackupSchedule]:
        """The project's, or those of one instance, by the instance's name."""
        asked = {} if instance_id is None else {"instance_id": instance_id}
        found = self._session.pages(_PATH, "backup_schedules", **asked)
        return sorted(map(BackupSchedule.read, found), key=lambda each: (each.instance_name or "", each.cron))

    def get(self, schedule_id: str) -> BackupSchedule:
        return BackupSchedule.read(self._session.get(f"{_PATH}/{schedule_id}")["backup_schedule"])

    def find(self, name_or_id: str) -> BackupSchedule:
        """By its id, or by the instance whose only schedule it is. Raises NotFound or Ambiguous."""
        if is_id(name_or_id):
            try:
                return self.get(name_or_id)
            except NotFound:
                pass
        instance = Instances(self._session).find(name_or_id)
        found = self.all(instance.id)
        if len(found) > 1:
            raise Ambiguous("backup schedule", name_or_id, [each.id for each in found])
        if not found:
            raise NotFound(
                f"{instance.name} has no backup schedule. Make one: argosy backup schedule create {instance.name}",
                code="backup-schedule-not-found",
            )
        return found[0]

    def create(self, instance_id: str, cron: str = "daily", **more: Any) -> BackupSchedule:
        """`more` is as the API has it: full_every, keep_last, keep_days, verify_every_days; what is None is not said."""
        asked = {"instance_id": instance_id, "cron": cron} | {
            key: value for key, value in more.items() if value is not None
        }
        return BackupSchedule.read(self._session.post(_PATH, {"backup_schedule": asked})["backup_schedule"])

    def change(self, schedule_id: str, **changes: Any) -> BackupSchedule:
        """As the API has them; None ends `keep_last`, `keep_days` and `verify_every_days`."""
        changed = self._session.patch(f"{_PATH}/{schedule_id}", {"backup_schedule": changes})
        return BackupSchedule.read(changed["backup_schedule"])

    def delete(self, schedule_id: str) -> None:
        """Its backups stay."""
        self._session.delete(f"{_PATH}/{schedule_id}")
