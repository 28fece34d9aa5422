"""Where the cloud and the metadata differ, for administrators."""

from __future__ import annotations

from typing import Any

from argosy.client.models import Finding, Operation
from argosy.client.session import Session

_DRIFT = "/mgmt/drift"


class Drift:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, instance_id: str | None = None, *, gone: bool = False) -> list[Finding]:
        """Found last first; with `gone` those too that are over."""
        asked: dict[str, Any] = {"limit": 100}
        if instance_id is not None:
            asked["instance_id"] = instance_id
        if gone:
            asked["all"] = "true"
        return [Finding.read(shown) for shown in self._session.pages(_DRIFT, "findings", **asked)]

    def look(self) -> Operation:
        """Have the cloud looked at now."""
        return Operation.read(self._session.post(f"{_DRIFT}/look", {})["operation"])
