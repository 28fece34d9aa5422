"""Configuration groups: make, find, change, apply, compare, roll back, and try without doing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from argosy.client.errors import Ambiguous, NotFound, TimedOut
from argosy.client.instances import is_id
from argosy.client.models import Configuration, Difference, Follower, Revision, Trial
from argosy.client.session import Session

# A busy instance takes its group's values when it is free again: so long is waited for that.
_FREE_WITHIN_S = 20.0


class Configurations:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[Configuration]:
        """Those of the project, for an administrator of all projects; without their values."""
        found = self._session.pages("/configurations", "configurations")
        return sorted((Configuration.read(shown) for shown in found), key=lambda each: each.name)

    def get(self, group_id: str) -> Configuration:
        return Configuration.read(self._session.get(f"/configurations/{group_id}")["configuration"])

    def find(self, name_or_id: str) -> Configuration:
        """Raises NotFound, or Ambiguous when several have the name."""
        if is_id(name_or_id):
            try:
                return self.get(name_or_id)
            except NotFound:
                pass
        called = [each.id for each in self.all() if each.name == name_or_id]
        if len(called) > 1:
            raise Ambiguous("configuration group", name_or_id, called)
        if not called:
            raise NotFound(
                f"No configuration group has the name or id {name_or_id!r}.", code="configuration-not-found"
            )
        return self.get(called[0])

    def create(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        datastore: str | None = None,
        version: str | None = None,
        description: str | None = None,
        note: str = "",
    ) -> Configuration:
        asked = _new(name, values, datastore, version)
        asked |= {key: text for key, text in (("description", description), ("note", note)) if text}
        made = self._session.post("/configurations", {"configuration": asked})
        return Configuration.read(made["configuration"])

    def change(
        self, group_id: str, values: Mapping[str, Any], *, unset: Sequence[str] = (), note: str = ""
    ) -> None:
        """Set some values, take others away, and apply it to the instances that follow the group."""
        asked = {"values": dict(values), "unset": list(unset), "note": note}
        self._session.patch(f"/configurations/{group_id}", {"configuration": asked})

    def replace(self, group_id: str, values: Mapping[str, Any], *, note: str = "") -> None:
        """These values are all that is left."""
        asked = {"values": dict(values), "note": note}
        self._session.put(f"/configurations/{group_id}", {"configuration": asked})

    def roll_back(self, group_id: str, revision: int, note: str | None = None) -> Configuration:
        asked: dict[str, Any] = {"revision": revision}
        if note:
            asked["note"] = note
        done = self._session.post(f"/configurations/{group_id}/rollback", {"rollback": asked})
        return Configuration.read(done["configuration"])

    def delete(self, group_id: str) -> None:
        self._session.delete(f"/configurations/{group_id}")

    def attach(self, group_id: str | None, instance_id: str) -> None:
        """Have an instance follow a group; with None, no group any more."""
        self._session.put(f"/instances/{instance_id}", {"instance": {"configuration": group_id}})

    def followers(self, group_id: str) -> list[Follower]:
        pages = self._session.pages(f"/configurations/{group_id}/instances", "instances")
        return sorted((Follower.read(shown) for shown in pages), key=lambda each: each.name)

    def settled(self, group_id: str, timeout_s: float | None = None) -> list[Follower]:
        """The followers, once nothing is being applied any more; those that stay busy are not waited for long.

        Raises TimedOut.
        """
        began = time.monotonic()
        while True:
            there = self.followers(group_id)
            passed_s = time.monotonic() - began
            applying = any(each.state == "applying" for each in there)
            waiting = any(each.state == "waiting" for each in there) and passed_s < _FREE_WITHIN_S
            if not (applying or waiting):
                return there
            if timeout_s is not None and passed_s > timeout_s:
                raise TimedOut(
                    f"Not applied everywhere after {timeout_s:.0f} s, and going on: "
                    "`argosy configuration instances` tells how it ends."
                )
            time.sleep(0.1)

    def history(self, group_id: str) -> list[Revision]:
        """Newest first."""
        pages = self._session.pages(f"/configurations/{group_id}/revisions", "revisions")
        return [Revision.read(shown) for shown in pages]

    def diff(self, group_id: str, old: int | None = None, new: int | None = None) -> list[Difference]:
        """From one revision to another: unless given, from the one before to the newest."""
        found = self._session.get(f"/configurations/{group_id}/diff", **{"from": old, "to": new})
        return [Difference.read(shown) for shown in found["diff"]["changes"]]

    def try_to_create(
        self,
        name: str,
        values: Mapping[str, Any],
        *,
        datastore: str | None = None,
        version: str | None = None,
    ) -> Trial:
        asked = _new(name, values, datastore, version)
        return Trial.read(self._session.post("/configurations/dry_run", {"configuration": asked})["dry_run"])

    def try_to_change(self, group_id: str, **asked: Any) -> Trial:
        """`values`, `unset`, `replace`, `revision` or `instance`, as the API has them; nothing is changed."""
        body = {"configuration": asked}
        return Trial.read(self._session.post(f"/configurations/{group_id}/dry_run", body)["dry_run"])


def _new(name: str, values: Mapping[str, Any], datastore: str | None, version: str | None) -> dict[str, Any]:
    chosen = {key: value for key, value in (("type", datastore), ("version", version)) if value}
    asked: dict[str, Any] = {"name": name, "values": dict(values)}
    return asked | ({"datastore": chosen} if chosen else {})
