"""One Argosy for the tests of the command line, with an instance of each kind in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine
from tests.support.server import Server, running


@pytest.fixture(scope="package")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture(scope="package")
def argosy(server: Server) -> CommandLine:
    return CommandLine(server.home)


@pytest.fixture(scope="package")
def without_task_manager() -> Iterator[CommandLine]:
    """Of an Argosy where what is asked for is never done: it waits for a task manager."""
    with running("api", "conductor", "taskmanager") as started:
        # It has told by then which flavors its platform has.
        started.kill("taskmanager")
        yield CommandLine(started.home)


@pytest.fixture(scope="package")
def shop(argosy: CommandLine) -> str:
    """A PostgreSQL instance with a database `shop` and a user `ann`. Tests leave those two alone."""
    argosy("create", "shop", "--datastore", "postgresql", "--database", "shop", "--user", "ann")
    return "shop"


@pytest.fixture(scope="package")
def crm(argosy: CommandLine) -> str:
    """The same of MariaDB, with `crm` and `bob`."""
    argosy("create", "crm", "--datastore", "mariadb", "--database", "crm", "--user", "bob")
    return "crm"


@pytest.fixture(scope="package")
def cache(argosy: CommandLine) -> str:
    """A Valkey instance with a user `app`."""
    argosy("create", "cache", "--datastore", "valkey", "--user", "app")
    return "cache"
