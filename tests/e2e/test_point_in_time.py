"""Restored to a moment, an instance has the rows that were acknowledged by then: all of them, and none that came later.

One writer writes row after row, each when the one before it is acknowledged. So besides those rows at most the one
that was on its way at that moment may be there. With ARGOSY_TEST_LONG set ten random moments are tried, otherwise one.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import pytest

from argosy import catalog
from tests.support.backups import back_up, made, restore_in_place
from tests.support.server import Client, Server, wait_until
from tests.support.writer import Place, Writer, ledger, writing

LONG = bool(os.environ.get("ARGOSY_TEST_LONG"))
MOMENTS = 10 if LONG else 1
SECONDS = 40 if LONG else 6
SECRET = "Ann-secret-77"
# The writer tells time by a clock of its own.
CLOCK = time.time() - time.monotonic()


@pytest.fixture(params=["postgresql", "mariadb"])
def instance(request: pytest.FixtureRequest, argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    instance = made(argosy, demo, f"ledger-{request.param}", request.param, flavorRef="1")
    yield instance
    if demo.delete(f"/instances/{instance['id']}").status_code == 202:
        argosy.wait_until_gone(demo, instance["id"])


@pytest.mark.timeout(1200 if LONG else 300)
def test_a_moment_or_a_place_of_the_log_is_restored_to_the_row(
    argosy: Server, demo: Client, instance: dict[str, Any]
) -> None:
    instance_id = instance["id"]
    assert demo.get(f"/instances/{instance_id}").json()["instance"]["argosy"]["recovery"] is None
    if instance["datastore"]["type"] == "mariadb":
        switch_on(demo, instance_id)
    else:
        schedule(demo, instance_id)
    with writing(place(argosy, instance)) as writer:
        backup = back_up(demo, instance_id)
        assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
        begin = time.time()
        time.sleep(SECONDS / 2)
        position, known = mark(argosy, instance, writer)
        time.sleep(SECONDS / 2)
        end = time.time()
    wait_until_restorable(demo, instance_id, end)

    # Another choice for each run, which a failure's message tells.
    chance = random.Random(instance_id)  # noqa: S311 - nothing is kept secret by it
    moments = sorted(chance.uniform(begin + 1, end) for _ in range(MOMENTS))
    for moment in moments:
        with restored_to(argosy, demo, instance, time=shown(moment)) as copy:
            check(argosy, copy, writer, moment)

    operation = restore_in_place(argosy, demo, instance_id, position=position)
    assert operation["state"] == "succeeded", operation["error"]
    with closing(ledger(place(argosy, instance))) as there:
        assert there.read() == known
    assert_another_archive_has_begun(demo, instance_id, instance["datastore"]["type"])
    # What was before the restore can still be restored to: it was a mistake, perhaps.
    with restored_to(argosy, demo, instance, time=shown(moments[-1])) as copy:
        check(argosy, copy, writer, moments[-1])


@pytest.mark.timeout(900)
@pytest.mark.skipif(not LONG, reason="ARGOSY_TEST_LONG is not set")
def test_the_archive_goes_on_whatever_dies(argosy: Server, demo: Client, instance: dict[str, Any]) -> None:
    """Agent, database server and control plane: no row is lost, and there is no gap."""
    instance_id = instance["id"]
    switch_on(demo, instance_id)
    with writing(place(argosy, instance)) as writer:
        backup = back_up(demo, instance_id)
        assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
        for _ in range(3):
            for victim in (argosy.agent_pid, argosy.server_pid):
                pid = wait_until("it runs", partial(victim, instance_id), 60)
                os.kill(pid, signal.SIGKILL)
                writer.goes_on(120)
            argosy.kill("api")
            time.sleep(5)  # the log waits meanwhile
            argosy.start()
            argosy.wait_until_healthy(demo, instance_id)
            writer.goes_on(120)
        end = time.time()
    wait_until_restorable(demo, instance_id, end)
    shown_now = archive(demo, instance_id)
    assert (shown_now["gaps"], shown_now["error"]) == ([], None)
    with restored_to(argosy, demo, instance) as copy, closing(ledger(place(argosy, copy))) as there:
        assert {number for _, number in writer.acknowledged} - there.read() == set()


def place(argosy: Server, instance: dict[str, Any]) -> Place:
    datastore = instance["datastore"]["type"]
    port = catalog.datastores()[datastore].port
    return Place(datastore, instance["ip"][0], port, "ann", argosy.home / "database-ca.crt", SECRET, "shop")


def switch_on(demo: Client, instance_id: str) -> None:
    answer = demo.put(f"/instances/{instance_id}/log_archive", json={"log_archive": {"mode": "on"}})
    assert answer.status_code == 202, answer.text
    wait_until_archiving(demo, instance_id)


def schedule(demo: Client, instance_id: str) -> None:
    """Of backups, none of which is made while the test runs: the log is archived for it."""
    far_off = datetime.now(UTC) + timedelta(days=60)
    asked = {"instance_id": instance_id, "cron": f"0 0 1 {far_off.month} *"}
    answer = demo.post("/backup_schedules", json={"backup_schedule": asked})
    assert answer.status_code == 201, answer.text
    wait_until_archiving(demo, instance_id)


def wait_until_archiving(demo: Client, instance_id: str) -> None:
    def done() -> bool:
        busy = demo.get(f"/instances/{instance_id}").json()["instance"]["argosy"]["operation"]
        return busy is None and archive(demo, instance_id)["archiving"] is True

    wait_until("the log is archived", done)


def archive(demo: Client, instance_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = demo.get(f"/instances/{instance_id}/log_archive").json()["log_archive"]
    return shown


def wait_until_restorable(demo: Client, instance_id: str, moment: float) -> None:
    def reached() -> bool:
        latest = demo.get(f"/instances/{instance_id}").json()["instance"]["argosy"]["recovery"]["latest"]
        return latest is not None and datetime.fromisoformat(latest).replace(tzinfo=UTC).timestamp() > moment

    wait_until("the log is archived that far", reached, 90, every_s=0.2)


def mark(argosy: Server, instance: dict[str, Any], writer: Writer) -> tuple[str, set[int]]:
    """A place of the log while nothing is written, and the rows there are by then."""
    asked = {
        "postgresql": "SELECT pg_current_wal_insert_lsn()::text",
        "mariadb": "SELECT @@global.gtid_binlog_pos",
    }
    with writer.held(), closing(ledger(place(argosy, instance))) as session:
        ((position,),) = cast("Any", session).run(asked[instance["datastore"]["type"]])
        return str(position), {number for _, number in writer.acknowledged}


@contextmanager
def restored_to(
    argosy: Server, demo: Client, instance: dict[str, Any], **point: str
) -> Iterator[dict[str, Any]]:
    asked = {"name": "then", "restorePoint": {"instance": instance["id"], **point}}
    answer = demo.post("/instances", json={"instance": asked})
    assert answer.status_code == 200, answer.text
    copy = argosy.wait_until_healthy(demo, answer.json()["instance"]["id"])
    try:
        yield copy
    finally:
        demo.delete(f"/instances/{copy['id']}")
        argosy.wait_until_gone(demo, copy["id"])


def check(argosy: Server, copy: dict[str, Any], writer: Writer, moment: float) -> None:
    if copy["datastore"]["type"] == "mariadb":
        moment = int(moment)  # its log tells whole seconds
    acknowledged = {number for at, number in writer.acknowledged if at + CLOCK <= moment}
    with closing(ledger(place(argosy, copy))) as there:
        found = there.read()
    assert acknowledged - found == set()
    assert found - acknowledged <= {max(acknowledged, default=0) + 1}


def assert_another_archive_has_begun(demo: Client, instance_id: str, datastore: str) -> None:
    """What comes after a restore in place is another history, which needs a backup of its own."""

    def begun() -> bool:
        shown = archive(demo, instance_id)
        return bool(shown["archiving"] and shown["error"] is None)

    wait_until("another archive has begun", begun, 60, every_s=0.2)
    (window,) = archive(demo, instance_id)["windows"]
    with_time = datetime.fromisoformat(window["latest"]).replace(tzinfo=UTC)
    after = shown((with_time + timedelta(seconds=2)).timestamp())
    answer = demo.post(f"/instances/{instance_id}/action", json={"restore": {"time": after}})
    assert answer.status_code == 400, answer.text
    assert window["latest"] in answer.text or "it can be from" in answer.text


def shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()
