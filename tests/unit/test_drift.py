"""What is made of the differences that a look at the cloud finds: told once, repaired when nothing else goes on, and over."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from argosy.domain.drift import Finding, NotedFinding
from argosy.domain.errors import Failed, Unavailable
from argosy.domain.guest import Told
from argosy.domain.instance import Flavor, Instance
from argosy.domain.operations import (
    CreateBackup,
    CreateInstance,
    DeleteInstance,
    InstanceRequest,
    RebuildInstance,
)
from argosy.domain.status import Report, Service
from argosy.metadata.migrations import migrate
from argosy.metadata.store import Store
from argosy.platforms.base import Expectation, Platform
from argosy.taskmanager.parts import Retention
from argosy.taskmanager.retention import forget_what_is_old
from argosy.taskmanager.steps import drift

GONE = Finding("server-missing", "server s", "The server was deleted in the cloud.", "i")


class StandIn:
    """A platform of which the test says what a look at it finds, and what happens during the look."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.repairable: set[str] = set()
        self.expected: dict[str, Expectation] = {}
        self.meanwhile: Callable[[], None] = lambda: None

    def survey(self, expected: Sequence[Expectation], may_repair: Callable[[Finding], bool]) -> list[Finding]:
        self.expected = {one.instance_id: one for one in expected}
        self.meanwhile()
        return [replace(one, repaired=one.kind in self.repairable and may_repair(one)) for one in self.found]


class Home:
    """A metadata database with an instance `i`, on a machine."""

    def __init__(self, directory: Path) -> None:
        url = f"sqlite:///{directory / 'argosy.db'}"
        self.store = Store(url)
        migrate(self.store.engine, url)
        self.cloud = StandIn()
        with self.store.write() as tx:
            tx.flavors.publish([Flavor("1", "small", 512, 1)])
        self.add("i")

    def add(self, instance_id: str) -> None:
        now = datetime.now(UTC)
        told = Told(
            instance_id, "v", "valkey", "8", "8", "10.0.0.5", ("10.0.0.5",), 6379, "10.0.1.5", 400, 1, "vol"
        )
        with self.store.write() as tx:
            tx.instances.add(Instance(instance_id, "p", "db", "valkey", "8", "1", 4, now, now))
            tx.instances.set_address(instance_id, told.rpc_address)
            tx.instances.report(instance_id, Report(Service.HEALTHY, 1, now))
            tx.guests.tell(told)

    def begin(self, kind: type[InstanceRequest] = RebuildInstance, **more: str) -> str:
        operation_id = str(uuid.uuid4())
        with self.store.write() as tx:
            request = kind(operation_id=operation_id, instance_id="i", **more)
            tx.operations.begin(tx.instances.get("i"), request, requested_by="ann")
        return operation_id

    def end(self, operation_id: str) -> None:
        with self.store.write() as tx:
            tx.operations.succeed(operation_id)

    def look(self, *found: Finding) -> None:
        self.cloud.found = list(found)
        drift.look(self.store, cast("Platform", self.cloud))

    def noted(self, *, gone: bool = False) -> list[NotedFinding]:
        with self.store.read() as tx:
            return tx.findings.page(100, gone=gone)[0]

    def events(self) -> list[tuple[str, str]]:
        """Oldest first."""
        with self.store.read() as tx:
            told = tx.events.page(100, instance_id="i")[0]
        return [(one.kind, one.message) for one in reversed(told) if one.kind.startswith("drift.")]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.store.close()


def test_a_difference_is_told_once_and_again_when_it_is_over(home: Home) -> None:
    home.look(GONE)
    home.look(GONE)
    (noted,) = home.noted()
    assert (noted.kind, noted.instance_name, noted.project_id) == ("server-missing", "db", "p")
    assert noted.seen_at > noted.found_at
    assert home.events() == [("drift.found", GONE.message)]
    home.look()
    assert home.noted() == []
    assert home.events()[1:] == [("drift.gone", f"It is so no longer: {GONE.message}")]
    (over,) = home.noted(gone=True)
    assert (over.id, over.repaired) == (noted.id, False)
    home.look(GONE)
    assert len(home.noted(gone=True)) == 2


def test_what_is_repaired_is_told_once_as_that(home: Home) -> None:
    detached = Finding("volume-detached", "volume v", "The volume had been detached.", "i")
    home.cloud.repairable = {"volume-detached"}
    home.look(detached)
    home.look()
    assert home.noted() == []
    (noted,) = home.noted(gone=True)
    assert noted.repaired
    assert home.events() == [("drift.repaired", "The volume had been detached.")]


def test_what_can_be_repaired_only_later_is_found_first_and_repaired_then(home: Home) -> None:
    port = Finding("port-missing", "port p", "The address is taken.", "i")
    home.look(port)
    home.cloud.repairable = {"port-missing"}
    home.look(replace(port, message="It was made anew."))
    assert [kind for kind, _ in home.events()] == ["drift.found", "drift.repaired"]
    (noted,) = home.noted(gone=True)
    assert (noted.repaired, noted.message) == (True, "It was made anew.")


def test_what_comes_back_after_three_repairs_in_an_hour_is_left_alone(home: Home) -> None:
    detached = Finding("volume-detached", "volume v", "The volume had been detached.", "i")
    home.cloud.repairable = {"volume-detached"}
    for _ in range(5):
        home.look(detached)
    assert [kind for kind, _ in home.events()] == ["drift.repaired"] * 3 + ["drift.found"]
    assert len(home.noted()) == 1


def test_an_operation_that_begins_or_ends_during_the_look_makes_it_say_nothing(home: Home) -> None:
    home.cloud.repairable = {"server-missing"}
    home.cloud.meanwhile = lambda: home.end(home.begin())
    home.look(GONE)
    running = home.begin()
    home.cloud.meanwhile = lambda: home.end(running)
    home.look(GONE)
    begun: list[str] = []
    home.cloud.meanwhile = lambda: begun.append(home.begin())
    home.look(GONE)
    assert (home.noted(gone=True), home.events()) == ([], [])
    home.end(begun[0])
    home.cloud.meanwhile = lambda: None
    home.look(GONE)
    assert [kind for kind, _ in home.events()] == ["drift.repaired"]


def test_what_is_open_stays_so_until_a_look_without_an_operation_tells(home: Home) -> None:
    home.look(GONE)
    rebuild = home.begin()
    home.look()
    assert home.cloud.expected["i"].settles
    assert len(home.noted()) == 1
    home.end(rebuild)
    home.look()
    assert home.noted() == []


def test_a_backup_of_hours_keeps_nobody_from_looking(home: Home) -> None:
    home.begin(CreateBackup, backup_id="b")
    home.look(GONE)
    assert not home.cloud.expected["i"].settles
    assert len(home.noted()) == 1


def test_an_instance_is_expected_as_its_guest_was_told(home: Home) -> None:
    home.look()
    expected = home.cloud.expected["i"]
    assert (expected.agent, expected.database, expected.volume_gb) == ("10.0.1.5", "10.0.0.5", 4)
    assert expected.placement is not None
    assert (expected.placement.port, expected.placement.public) == (6379, False)


def test_nothing_is_expected_of_what_was_never_made_but_it_is_known(home: Home) -> None:
    operation = home.begin(CreateInstance, datastore="valkey", version="8", sealed="")
    with home.store.write() as tx:
        tx.operations.fail(operation, Failed("no room"))
    home.look(GONE)
    assert home.cloud.expected["i"].settles
    assert home.noted() == []


def test_what_is_of_no_instance_is_told_unless_its_instance_was_begun_or_ended_meanwhile(home: Home) -> None:
    def orphan(carries: str) -> Finding:
        return Finding("orphan-server", f"server of {carries}", "It is of no instance.", carries=carries)

    home.cloud.meanwhile = lambda: home.add("new")
    home.look(orphan("new"), orphan("old"), orphan("i"))
    (noted,) = home.noted()
    assert (noted.resource, noted.instance_id, noted.project_id) == ("server of old", None, None)
    home.cloud.meanwhile = lambda: None
    home.look()
    assert home.noted() == []


def test_a_deleted_instance_leaves_no_open_differences_and_is_told_nothing(home: Home) -> None:
    home.look(GONE)
    operation = home.begin(DeleteInstance)
    with home.store.write() as tx:
        tx.operations.bury(operation)
    home.end(operation)
    home.look()
    assert home.noted() == []
    assert [kind for kind, _ in home.events()] == ["drift.found"]


def test_a_cloud_that_does_not_answer_tells_nothing(home: Home) -> None:
    home.look(GONE)

    def fail() -> None:
        raise Unavailable("Nova does not answer.")

    home.cloud.meanwhile = fail
    with pytest.raises(Unavailable):
        home.look()
    assert len(home.noted()) == 1


def test_differences_of_one_instance_are_listed_by_pages_found_last_first(home: Home) -> None:
    home.add("other")
    others = [Finding("volume-size", f"volume {one}", "It differs.", "other") for one in range(3)]
    home.look(GONE)
    home.look(GONE, *others)
    with home.store.read() as tx:
        first, more = tx.findings.page(2, instance_id="other")
        rest, none = tx.findings.page(2, skip=2, instance_id="other")
        everything, _ = tx.findings.page(10)
    assert (len(first), more, len(rest), none) == (2, True, 1, False)
    assert everything[-1].kind == "server-missing"


def test_what_is_over_is_forgotten_as_late_as_events_are(home: Home) -> None:
    open_still = Finding("volume-size", "volume v", "It differs.", "i")
    home.look(GONE, open_still)
    home.look(open_still)
    kept = Retention()
    forget_what_is_old(home.store, kept, datetime.now(UTC) + kept.events - timedelta(hours=1))
    assert len(home.noted(gone=True)) == 2
    forget_what_is_old(home.store, kept, datetime.now(UTC) + kept.events + timedelta(hours=1))
    assert [one.kind for one in home.noted(gone=True)] == ["volume-size"]
