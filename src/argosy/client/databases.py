"""Databases, users and root inside an instance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from argosy.client.models import Root, User
from argosy.client.session import Session

ANY_HOST = "%"


class Databases:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, instance_id: str) -> list[str]:
        return [
            shown["name"] for shown in self._session.pages(f"/instances/{instance_id}/databases", "databases")
        ]

    def create(
        self, instance_id: str, name: str, *, character_set: str | None = None, collate: str | None = None
    ) -> None:
        asked = {"name": name, "character_set": character_set, "collate": collate}
        body = {key: value for key, value in asked.items() if value is not None}
        self._session.post(f"/instances/{instance_id}/databases", {"databases": [body]})

    def delete(self, instance_id: str, name: str) -> None:
        self._session.delete(f"/instances/{instance_id}/databases/{quote(name, safe='')}")


class Users:
    """A user is named by `name` and, where the datastore tells users apart by it, `host`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, instance_id: str) -> list[User]:
        return [User.read(shown) for shown in self._session.pages(f"/instances/{instance_id}/users", "users")]

    def get(self, instance_id: str, name: str, host: str = ANY_HOST) -> User:
        return User.read(self._session.get(_path(instance_id, name, host))["user"])

    def create(
        self,
        instance_id: str,
        name: str,
        password: str,
        *,
        host: str | None = None,
        databases: Sequence[str] = (),
    ) -> None:
        asked: dict[str, Any] = {
            "name": name,
            "password": password,
            "databases": [{"name": each} for each in databases],
        }
        if host is not None:
            asked["host"] = host
        self._session.post(f"/instances/{instance_id}/users", {"users": [asked]})

    def delete(self, instance_id: str, name: str, host: str = ANY_HOST) -> None:
        self._session.delete(_path(instance_id, name, host))

    def change(
        self,
        instance_id: str,
        name: str,
        host: str = ANY_HOST,
        *,
        new_name: str | None = None,
        new_host: str | None = None,
        password: str | None = None,
    ) -> None:
        asked = {"name": new_name, "host": new_host, "password": password}
        body = {key: value for key, value in asked.items() if value is not None}
        self._session.put(_path(instance_id, name, host), {"user": body})

    def access(self, instance_id: str, name: str, host: str = ANY_HOST) -> list[str]:
        shown = self._session.get(_path(instance_id, name, host) + "/databases")
        return [each["name"] for each in shown["databases"]]

    def grant(self, instance_id: str, name: str, databases: Sequence[str], host: str = ANY_HOST) -> None:
        body = {"databases": [{"name": each} for each in databases]}
        self._session.put(_path(instance_id, name, host) + "/databases", body)

    def revoke(self, instance_id: str, name: str, database: str, host: str = ANY_HOST) -> None:
        self._session.delete(f"{_path(instance_id, name, host)}/databases/{quote(database, safe='')}")


class RootAccess:
    def __init__(self, session: Session) -> None:
        self._session = session

    def is_enabled(self, instance_id: str) -> bool:
        return bool(self._session.get(f"/instances/{instance_id}/root")["rootEnabled"])

    def enable(self, instance_id: str, password: str | None = None) -> Root:
        """Each call sets a new password, which the server chooses when none is given."""
        body = {} if password is None else {"password": password}
        user = self._session.post(f"/instances/{instance_id}/root", body)["user"]
        return Root(user["name"], user["password"])

    def disable(self, instance_id: str) -> None:
        self._session.delete(f"/instances/{instance_id}/root")


def _path(instance_id: str, name: str, host: str) -> str:
    # The host always stands there: a name may hold an '@' itself, and the last one parts them.
    return f"/instances/{instance_id}/users/{quote(f'{name}@{host}', safe='')}"
