"""A real PostgreSQL server as the metadata database of a test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserId
from argosy.engines.base import Databases, Users
from tests.support.engines import Guest

PASSWORD = "metadata-secret-77"

# `sqlite`, or `postgresql`: on which metadata database the tests of the API run.
CHOSEN = os.environ.get("ARGOSY_TEST_METADATA", "sqlite")


@dataclass(frozen=True)
class MetadataDatabase:
    """`url` has the password, `url_without_password` has not."""

    guest: Guest

    @property
    def url(self) -> str:
        return self._url(f"argosy:{PASSWORD}")

    @property
    def url_without_password(self) -> str:
        return self._url("argosy")

    @property
    def address(self) -> str:
        return f"{self.guest.host.address}:{self.guest.host.port}"

    def _url(self, user: str) -> str:
        return f"postgresql+psycopg://{user}@{self.address}/argosy"


@contextmanager
def postgresql() -> Iterator[MetadataDatabase]:
    datastore = datastores()["postgresql"]
    with Guest(datastore, datastore.version(datastore.default_version), None) as guest:
        guest.engine.initialise()
        guest.engine.start()
        assert isinstance(guest.engine, Databases)
        assert isinstance(guest.engine, Users)
        guest.engine.create_databases([Database("argosy")])
        guest.engine.create_users([NewUser(UserId("argosy"), PASSWORD, ("argosy",))])
        yield MetadataDatabase(guest)


@contextmanager
def chosen() -> Iterator[dict[str, str]]:
    """Settings of a server, by their names in the environment, for the database that was chosen for this run."""
    if CHOSEN == "sqlite":
        yield {}
        return
    with postgresql() as database:
        yield {"ARGOSY_METADATA_URL": database.url}
