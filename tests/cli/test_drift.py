"""`argosy admin drift`: where the cloud and the metadata differ."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from argosy.domain.drift import Finding
from argosy.metadata.store import Store
from tests.support.command_line import CommandLine
from tests.support.server import Server


@pytest.fixture
def found(server: Server, argosy: CommandLine, cache: str) -> Iterator[None]:
    """As looks at a cloud leave it: one open difference of an instance, one over of none."""
    (mine,) = [one for one in argosy("admin", "instances", "--json").json if one["name"] == cache]
    open_still = Finding("server-missing", "server s", "The server was deleted in the cloud.", mine["id"])
    orphan = Finding("orphan-port", "port p", "It is of no instance.", carries="nobody")
    store = Store(server.settings.database_url)
    with store.write() as tx:
        tx.findings.note([open_still, orphan], (), datetime.now(UTC))
        tx.findings.note([open_still], (), datetime.now(UTC))
    yield
    with store.write() as tx:
        tx.connection.exec_driver_sql("DELETE FROM findings")
    store.close()


def test_an_administrator_sees_what_differs(argosy: CommandLine, cache: str, found: None) -> None:
    shown = argosy("admin", "drift").out
    assert "server-missing" in shown
    assert cache in shown
    assert "orphan-port" not in shown
    assert [one["kind"] for one in argosy("admin", "drift", "--json").json] == ["server-missing"]
    everything = argosy("admin", "drift", "--all", "--json").json
    assert {one["kind"]: one["gone"] is not None for one in everything} == {
        "server-missing": False,
        "orphan-port": True,
    }
    assert len(argosy("admin", "drift", "--all", "--instance", cache, "--json").json) == 1
    argosy("admin", "drift", "--instance", "nobody", code=3)


def test_a_look_is_taken_before_the_list_is_shown(server: Server, argosy: CommandLine) -> None:
    store = Store(server.settings.database_url)
    with store.write() as tx:
        tx.findings.note(
            [Finding("orphan-port", "port p", "It is of no instance.", carries="nobody")],
            (),
            datetime.now(UTC),
        )
    store.close()
    assert "orphan-port" in argosy("admin", "drift").out
    # This machine is all there is: it has no ports, and what was open is over.
    assert "The cloud has what it should have." in argosy("admin", "drift", "look").err
    assert [one["repaired"] for one in argosy("admin", "drift", "--all", "--json").json] == [False]
