"""Instances: list, find, create, change, delete."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from argosy.client.errors import Ambiguous, NotFound
from argosy.client.models import Instance, Upgrade
from argosy.client.session import Session


class Instances:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, *, tags: Sequence[str] = (), deleted: bool = False) -> list[Instance]:
        """All of the project, oldest first, in detail; those with all `tags` (`key=value`, or `key`) when given.

        With `deleted` those that were deleted a while ago, deleted last first.
        """
        asked: dict[str, Any] = {"tag": list(tags)} if tags else {}
        if deleted:
            asked["deleted"] = "true"
        pages = self._session.pages("/instances/detail", "instances", **asked)
        found = [Instance.read(shown) for shown in pages]
        if deleted:
            return found
        return sorted(found, key=lambda each: (each.created is None, each.created, each.name))

    def get(self, instance_id: str) -> Instance:
        return Instance.read(self._session.get(f"/instances/{quote(instance_id, safe='')}")["instance"])

    def get_deleted(self, instance_id: str) -> Instance:
        """Like `get`, and finds what was deleted too."""
        path = f"/instances/{quote(instance_id, safe='')}"
        return Instance.read(self._session.get(path, deleted="true")["instance"])

    def find_deleted(self, name_or_id: str) -> Instance:
        """Of several that had the name, the one deleted last. Raises NotFound."""
        if is_id(name_or_id):
            return self.get_deleted(name_or_id)
        for each in self.all(deleted=True):
            if each.name == name_or_id:
                return each
        raise NotFound(f"No deleted instance had the name {name_or_id!r}.", code="instance-not-found")

    def find(self, name_or_id: str) -> Instance:
        """Raises NotFound, or Ambiguous when several have the name."""
        if is_id(name_or_id):
            try:
                return self.get(name_or_id)
            except NotFound:
                pass
        called = [
            shown["id"]
            for shown in self._session.pages("/instances", "instances")
            if shown["name"] == name_or_id
        ]
        if len(called) > 1:
            raise Ambiguous("instance", name_or_id, called)
        if not called:
            raise NotFound(f"No instance has the name or id {name_or_id!r}.", code="instance-not-found")
        return self.get(called[0])

    def create(
        self,
        name: str,
        *,
        flavor: str | None = None,
        volume_gb: int | None = None,
        autogrow_limit_gb: int | None = None,
        datastore: str | None = None,
        version: str | None = None,
        databases: Sequence[str] = (),
        users: Sequence[Mapping[str, Any]] = (),
        tags: Mapping[str, str] | None = None,
        protected: bool = False,
        configuration: str | None = None,
        follows_none: bool = False,
        is_public: bool = False,
        allowed_cidrs: Sequence[str] = (),
        tls: str | None = None,
        backup_schedule: str | None = None,
        restore_point: Mapping[str, Any] | None = None,
        network: str | None = None,
        availability_zone: str | None = None,
        idempotency_key: str | None = None,
    ) -> Instance:
        """Begin to make one; `flavor` is an id. `users` are as the API has them: name, password, host, databases.

        `configuration` is the id of a configuration group, `backup_schedule` when it is backed up by itself.
        With a `restore_point`, as the API has it, it is made of a backup, and flavor and volume are those of the
        backup's instance unless they are given; without one they must be. So is the configuration group, unless it
        `follows_none`.
        Repeating it with the same key answers what the first one made; without one, each call has its own, so
        that a lost answer never makes two.
        """
        chosen = {key: value for key, value in (("type", datastore), ("version", version)) if value}
        asked: dict[str, Any] = {"name": name}
        if flavor is not None:
            asked["flavorRef"] = flavor
        if volume_gb is not None:
            asked["volume"] = {"size": volume_gb}
        if autogrow_limit_gb is not None:
            asked.setdefault("volume", {})["autogrow_limit"] = autogrow_limit_gb
        if chosen:
            asked["datastore"] = chosen
        if databases:
            asked["databases"] = [{"name": each} for each in databases]
        if users:
            asked["users"] = [dict(each) for each in users]
        if tags:
            asked["tags"] = dict(tags)
        if protected:
            asked["protected"] = True
        if configuration:
            asked["configuration"] = configuration
        elif follows_none:
            asked["configuration"] = None
        if is_public or allowed_cidrs:
            asked["access"] = {"is_public": is_public, "allowed_cidrs": list(allowed_cidrs)}
        if tls:
            asked["tls"] = {"mode": tls}
        if backup_schedule:
            asked["backup_schedule"] = {"cron": backup_schedule}
        if restore_point:
            asked["restorePoint"] = dict(restore_point)
        if network:
            asked["nics"] = [{"net-id": network}]
        if availability_zone:
            asked["availability_zone"] = availability_zone
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return Instance.read(self._session.post("/instances", {"instance": asked}, headers)["instance"])

    def delete(self, instance_id: str) -> None:
        self._session.delete(f"/instances/{instance_id}")

    def rename(self, instance_id: str, name: str) -> None:
        self._session.put(f"/instances/{instance_id}", {"instance": {"name": name}})

    def update_access(
        self, instance_id: str, *, is_public: bool = False, allowed_cidrs: Sequence[str] = ()
    ) -> None:
        """Begin to let clients in from these networks alone, without any from anywhere; what was said before is void."""
        asked = {"is_public": is_public, "allowed_cidrs": list(allowed_cidrs)}
        self._session.put(f"/instances/{instance_id}", {"instance": {"access": asked}})

    def update_tls(self, instance_id: str, mode: str) -> None:
        """Begin to require TLS of clients ("required"), or let them do without ("allowed")."""
        self._session.put(f"/instances/{instance_id}/tls", {"tls": {"mode": mode}})

    def restart(self, instance_id: str) -> None:
        self._session.post(f"/instances/{instance_id}/action", {"restart": {}})

    def restore(self, instance_id: str, **point: Any) -> None:
        """Begin to put it back to what a backup has: `backup` is an id, `users` "current" or "backup"."""
        self._session.post(f"/instances/{instance_id}/action", {"restore": point})

    def resize_flavor(self, instance_id: str, flavor: str) -> None:
        """`flavor` is an id."""
        self._session.post(f"/instances/{instance_id}/action", {"resize": {"flavorRef": flavor}})

    def resize_volume(self, instance_id: str, size_gb: int) -> None:
        self._session.post(f"/instances/{instance_id}/action", {"resize": {"volume": {"size": size_gb}}})

    def limit_growth(self, instance_id: str, limit_gb: int | None) -> None:
        """Have its volume grow by itself, up to that; None: not by itself."""
        change = {"volume": {"autogrow_limit": limit_gb}}
        self._session.put(f"/instances/{instance_id}", {"instance": change})

    def stop(self, instance_id: str) -> None:
        """The database server, which stays stopped until it is started or restarted."""
        self._session.post(f"/instances/{instance_id}/action", {"stop": {}})

    def start(self, instance_id: str) -> None:
        self._session.post(f"/instances/{instance_id}/action", {"start": {}})

    def upgrades(self, instance_id: str) -> list[Upgrade]:
        """The versions it can be moved to."""
        return [
            Upgrade.read(one) for one in self._session.get(f"/instances/{instance_id}/upgrades")["upgrades"]
        ]

    def upgrade(self, instance_id: str, version: str) -> None:
        """Begin to move it to a version, by name or id."""
        self._session.patch(f"/instances/{instance_id}", {"instance": {"datastore_version": version}})

    def rehearse_upgrade(self, instance_id: str, version: str) -> str:
        """Begin to try that on a copy of its data. Returns the operation's id."""
        asked = {"rehearsal": {"datastore_version": version}}
        answer = self._session.post(f"/instances/{instance_id}/upgrade-rehearsals", asked)
        return str(answer["rehearsal"]["operation_id"])

    def protect(self, instance_id: str, *, protected: bool = True) -> None:
        """From being deleted, by anybody."""
        self._session.put(f"/instances/{instance_id}/protection", {"protected": protected})

    def change_tags(self, instance_id: str, tags: Mapping[str, str | None]) -> dict[str, str]:
        """Set these besides those there are; None takes one away. Returns all there are then."""
        changed = self._session.patch(f"/instances/{instance_id}/tags", {"tags": dict(tags)})
        return dict(changed["tags"])


def is_id(text: str) -> bool:
    """Whether it is written as ids of instances are."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
