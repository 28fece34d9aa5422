"""One whole Argosy per test process, for tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.server import Client, Server, running


@pytest.fixture(scope="package")
def argosy() -> Iterator[Server]:
    # Whose log is archived waits for no more than this.
    with running(ARGOSY_BACKUPS__ARCHIVE_LOG_EVERY_S="1") as server:
        yield server


@pytest.fixture(scope="package")
def demo(argosy: Server) -> Client:
    return argosy.client("demo")


@pytest.fixture(scope="module")
def valkey(argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    """The quickest of all instances."""
    instance = argosy.create(demo, "quick", "valkey", users=[{"name": "ann", "password": "Ann-secret-77"}])
    yield instance
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])
