"""How much a project may have, and how often it may ask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from argosy.client.models import Quota, Rate
from argosy.client.session import Session


class Quotas:
    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, project_id: str | None = None) -> list[Quota]:
        """Of another project for administrators; None is the own one."""
        return [Quota.read(shown) for shown in self._session.get(self._path(project_id))["quotas"]]

    def set(self, project_id: str | None, limits: Mapping[str, int]) -> None:
        """By resource; -1 is unlimited. For administrators."""
        self._session.put(self._path(project_id), {"quotas": dict(limits)})

    def rates(self) -> list[Rate]:
        """None where the rate of requests is not limited."""
        return [Rate.read(shown) for shown in self._session.get("/limits")["limits"][1:]]

    def _path(self, project_id: str | None) -> str:
        own: Any = self._session.token["project"]["id"]
        return f"/mgmt/quotas/{quote(project_id or own, safe='')}"
