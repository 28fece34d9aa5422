"""Servers that the tests of a worker share: one with the API alone, one whole with two databases."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from argosy.domain.instance import Flavor, Instance
from argosy.domain.status import Report, Service
from argosy.metadata.store import Store
from tests.support import metadata
from tests.support.server import Client, Server, running

FLAVORS = [Flavor("1", "db.tiny", 256, 1), Flavor("2", "db.small", 512, 1), Flavor("tiny-64", "tiny", 64, 1)]


@dataclass
class Api:
    """The API without the rest, its database at hand: what a task manager or a guest would write, a test writes."""

    server: Server
    store: Store
    demo: Client
    admin: Client

    def silent_mariadb(self, name: str) -> str:
        """A healthy instance of demo's, by its row; nobody answers at its address."""
        now = datetime.now(UTC)
        instance = Instance(
            id=str(uuid.uuid4()),
            project_id=self.demo.project_id,
            name=name,
            datastore="mariadb",
            version="11.8",
            flavor_id="1",
            volume_gb=1,
            created_at=now,
            updated_at=now,
            access={"is_public": False},
        )
        with self.store.write() as tx:
            tx.instances.add(instance)
            tx.instances.set_address(instance.id, str(self.server.network[99]))
            tx.instances.report(instance.id, Report(Service.HEALTHY, 1, now))
        return instance.id


@pytest.fixture(scope="package")
def api() -> Iterator[Api]:
    with metadata.chosen() as more, running("api", **more) as server:
        store = Store(more.get("ARGOSY_METADATA_URL") or server.settings.database_url)
        try:
            with store.write() as tx:
                tx.flavors.publish(FLAVORS)
            yield Api(server, store, server.client("demo"), server.client("admin"))
        finally:
            store.close()


@dataclass
class Live:
    """A whole server with a PostgreSQL and a MariaDB instance of demo's, as they were shown when healthy."""

    server: Server
    demo: Client
    admin: Client
    instances: dict[str, dict[str, Any]]


@pytest.fixture(scope="package")
def live() -> Iterator[Live]:
    with metadata.chosen() as more, running(**more) as server:
        demo = server.client("demo")
        instances = {
            "postgresql": server.create(demo, "pg", "postgresql"),
            "mariadb": server.create(demo, "maria", "mariadb"),
        }
        yield Live(server, demo, server.client("admin"), instances)
