"""Archives of instances' logs: switched on and off, and how far they are."""

from __future__ import annotations

from argosy.client.models import LogArchive
from argosy.client.session import Session


class LogArchives:
    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, instance_id: str) -> LogArchive:
        return LogArchive.read(self._session.get(f"/instances/{instance_id}/log_archive")["log_archive"])

    def switch(self, instance_id: str, mode: str) -> None:
        """`on`, `off`, or `auto`: while the instance is backed up by schedule."""
        self._session.put(f"/instances/{instance_id}/log_archive", {"log_archive": {"mode": mode}})
