"""Databases as logical dumps: out of an instance and into one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from argosy.client.session import Session


@dataclass(frozen=True)
class Loaded:
    """`size` of the dump in bytes; `remarks` say what of it was left out."""

    size: int
    remarks: list[str]

    @classmethod
    def read(cls, answer: dict[str, Any]) -> Loaded:
        return cls(answer["import"]["size"], answer["import"]["remarks"])


@dataclass(frozen=True)
class Exported:
    """An object of the project: `size` in bytes, `etag` its MD5."""

    container: str
    name: str
    size: int
    etag: str


class Dumps:
    def __init__(self, session: Session) -> None:
        self._session = session

    def export(
        self, instance_id: str, *, database: str | None = None, table: str | None = None
    ) -> Iterator[bytes]:
        """The dump, in parts. Raises Refused before the first, and Unreachable when it is cut off."""
        return self._session.download(f"/instances/{instance_id}/export", database=database, table=table)

    def export_to(
        self,
        instance_id: str,
        container: str,
        name: str,
        *,
        database: str | None = None,
        table: str | None = None,
    ) -> Exported:
        """Into an object of the project, which is there when this returns."""
        body = {"database": database, "table": table, "object": {"container": container, "name": name}}
        answer = self._session.post(f"/instances/{instance_id}/export", {"export": body}, patient=True)
        return Exported(**answer["export"])

    def load(self, instance_id: str, parts: Iterable[bytes], *, database: str | None = None) -> Loaded:
        """Load a dump into a database that is there."""
        path = f"/instances/{instance_id}/import"
        return Loaded.read(self._session.upload(path, parts, database=database))

    def load_from(
        self, instance_id: str, container: str, name: str, *, database: str | None = None
    ) -> Loaded:
        """The same, from an object of the project."""
        body = {"database": database, "object": {"container": container, "name": name}}
        path = f"/instances/{instance_id}/import"
        return Loaded.read(self._session.post(path, {"import": body}, patient=True))
