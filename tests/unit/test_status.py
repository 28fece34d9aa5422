"""The status of an instance: every row of the table, and what holds for all rows."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from argosy.domain import operations, status
from argosy.domain.status import MEANING, SILENT_AFTER, WHILE, Report, Service, Shown, shown

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def reported(service: Service, *, ago: timedelta = timedelta(), restart_required: bool = False) -> Report:
    return Report(service=service, number=1, at=NOW - ago, restart_required=restart_required)


@pytest.mark.parametrize(
    ("operation", "report", "broken", "expected"),
    [
        ("instance.create", None, False, ("BUILD", "")),
        ("instance.create", reported(Service.STARTING), False, ("BUILD", "")),
        ("instance.restart", reported(Service.HEALTHY), False, ("REBOOT", "")),
        ("instance.delete", reported(Service.HEALTHY), False, ("SHUTDOWN", "")),
        ("instance.delete", None, True, ("SHUTDOWN", "")),
        (None, None, True, ("ERROR", "ERROR")),
        (None, reported(Service.HEALTHY), True, ("ERROR", "ERROR")),
        (None, reported(Service.HEALTHY), False, ("ACTIVE", "HEALTHY")),
        (None, reported(Service.STARTING), False, ("ACTIVE", "RESTARTING")),
        (None, reported(Service.BLOCKED), False, ("ACTIVE", "BLOCKED")),
        (None, reported(Service.SHUTDOWN), False, ("ACTIVE", "SHUTDOWN")),
        (None, reported(Service.CRASHED), False, ("ACTIVE", "SHUTDOWN")),
        (None, reported(Service.UNKNOWN), False, ("ACTIVE", "ERROR")),
        (None, reported(Service.NEW), False, ("ACTIVE", "NEW")),
        (None, None, False, ("ACTIVE", "ERROR")),
        (None, reported(Service.HEALTHY, ago=SILENT_AFTER), False, ("ACTIVE", "HEALTHY")),
        (None, reported(Service.HEALTHY, ago=SILENT_AFTER * 1.01), False, ("ACTIVE", "ERROR")),
        (None, reported(Service.HEALTHY, restart_required=True), False, ("RESTART_REQUIRED", "")),
        (None, reported(Service.SHUTDOWN, restart_required=True), False, ("ACTIVE", "SHUTDOWN")),
    ],
)
def test_an_instance_shows(
    operation: str | None, report: Report | None, broken: bool, expected: tuple[str, str]
) -> None:
    assert shown(operation, report, NOW, broken=broken) == Shown(*expected)


def test_statuses_are_of_operations_that_hold_an_instance() -> None:
    """The others leave it ACTIVE, with an operating status of nothing (contract 3.1)."""
    kinds = {request.kind for request in operations.InstanceRequest.__subclasses__()}
    assert set(WHILE) <= kinds


def test_every_status_has_a_sentence() -> None:
    reports = [
        None,
        *(reported(service) for service in Service),
        reported(Service.HEALTHY, restart_required=True),
    ]
    for operation, report, broken in product([None, *WHILE], reports, [False, True]):
        seen = shown(operation, report, NOW, broken=broken)
        assert seen.meaning, seen
    assert len(set(MEANING.values())) == len(MEANING)


def test_every_service_is_shown_as_something() -> None:
    assert set(status.OPERATING) == set(Service)
