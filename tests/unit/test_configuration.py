"""What is legal in a configuration group, and how far an instance is with one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from argosy.domain import configuration
from argosy.domain.configuration import MASK, Change, Outcome, Wanted
from argosy.domain.errors import Invalid
from argosy.domain.instance import Instance
from argosy.domain.parameters import Parameter
from argosy.domain.status import Report, Service

NOW = datetime(2026, 1, 2, tzinfo=UTC)
HEALTHY = Report(Service.HEALTHY, 1, NOW)
FOLLOWER = Instance(
    id="i",
    project_id="p",
    name="db",
    datastore="mariadb",
    version="11.8",
    flavor_id="1",
    volume_gb=1,
    created_at=NOW,
    updated_at=NOW,
    address="127.77.0.9",
    report=HEALTHY,
    configuration_id="g",
    configuration_revision=3,
    configuration_newest=3,
)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Outcome.APPLIED),
        ({"report": None}, Outcome.APPLIED),
        ({"report": replace(HEALTHY, restart_required=True)}, Outcome.RESTART_REQUIRED),
        ({"report": replace(HEALTHY, configuration_error="no start")}, Outcome.GIVEN_UP),
        ({"configuration_newest": 4}, Outcome.WAITING),
        ({"configuration_revision": None}, Outcome.WAITING),
        ({"configuration_newest": 4, "configuration_refused": 4}, Outcome.REFUSED),
        ({"configuration_newest": 5, "configuration_refused": 4}, Outcome.WAITING),
        ({"configuration_newest": 4, "operation_kind": "instance.configure"}, Outcome.APPLYING),
        ({"configuration_newest": 4, "operation_kind": "instance.restart"}, Outcome.WAITING),
        # A newer revision is on its way, so what was given up counts no more.
        (
            {"configuration_newest": 4, "report": replace(HEALTHY, configuration_error="no start")},
            Outcome.WAITING,
        ),
    ],
)
def test_how_far_an_instance_is_follows_from_the_facts(facts: dict[str, Any], expected: Outcome) -> None:
    assert configuration.outcome(replace(FOLLOWER, **facts)) is expected


def test_every_outcome_is_told_in_words() -> None:
    assert set(configuration.MEANING) == set(Outcome)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, True),
        ({"report": replace(HEALTHY, service=Service.SHUTDOWN)}, True),
        # The values it fell over may be those that are changed.
        ({"report": replace(HEALTHY, service=Service.CRASHED)}, True),
        ({"report": replace(HEALTHY, service=Service.BLOCKED)}, True),
        ({"report": replace(HEALTHY, service=Service.STARTING)}, False),
        ({"report": replace(HEALTHY, service=Service.NEW)}, False),
        ({"report": replace(HEALTHY, at=NOW - timedelta(seconds=91))}, False),
        ({"report": None}, False),
        ({"operation_id": "o", "operation_kind": "instance.restart"}, False),
        ({"broken": True}, False),
        ({"address": None}, False),
    ],
)
def test_values_are_applied_where_the_guest_speaks_and_nothing_else_goes_on(
    facts: dict[str, Any], expected: bool
) -> None:
    assert replace(FOLLOWER, **facts).can_be_configured_now(NOW) is expected


def test_what_follows_no_group_is_to_have_no_values() -> None:
    assert configuration.wanted(FOLLOWER) == Wanted("g", 3)
    free = replace(FOLLOWER, configuration_id=None, configuration_newest=None)
    assert configuration.wanted(free) == Wanted(None, configuration.NO_GROUP)


def test_changes_are_what_differs_by_name() -> None:
    assert configuration.changes({"b": "1", "a": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1"}) == [
        Change("a", "1", None),
        Change("b", "1", "2"),
        Change("d", None, "1"),
    ]


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("wsrep_sst_auth", True),
        ("masterauth", True),
        ("tls-key-file-pass", True),
        ("primary_conninfo", True),
        ("REQUIREPASS", True),
        ("password_encryption", False),
        ("authentication_timeout", False),
        ("old_passwords", False),
        ("max_connections", False),
        ("maxmemory-policy", False),
    ],
)
def test_a_secret_is_known_by_the_end_of_its_name(name: str, secret: bool) -> None:
    assert configuration.is_secret(name) is secret
    assert configuration.masked(name, "x") == (MASK if secret else "x")
    assert configuration.masked(name, None) is None


def test_a_mask_that_comes_back_stands_for_the_value_behind_it() -> None:
    known = {"wsrep_sst_auth": "sst:secret", "init_connect": "SELECT 1"}
    asked = {"WSREP_SST_AUTH": MASK, "init_connect": MASK, "masterauth": MASK}
    assert configuration.unmasked(asked, known) == {
        "WSREP_SST_AUTH": "sst:secret",
        "init_connect": MASK,
        "masterauth": MASK,
    }


def test_values_are_unset_by_name_whatever_its_case() -> None:
    values = {"maxmemory-policy": "x", "timeout": "1"}
    assert configuration.without(values, ["MAXMEMORY_POLICY"]) == {"timeout": "1"}
    with pytest.raises(Invalid, match="'nothing'"):
        configuration.without(values, ["nothing", "timeout"])


@pytest.mark.parametrize(
    ("kind", "value", "told"),
    [
        ("integer", "100", 100),
        ("integer", "-1", -1),
        ("integer", "16MB", "16MB"),
        ("integer", "9" * 30, "9" * 30),
        ("float", "0.5", 0.5),
        ("float", "10ms", "10ms"),
        ("string", "100", "100"),
        ("boolean", "on", "on"),
    ],
)
def test_a_value_is_told_as_a_number_where_it_is_one(kind: Any, value: str, told: object) -> None:
    parameter = Parameter("p", kind, restart_required=False)
    assert configuration.told(parameter, value) == told
    assert configuration.told(None, value) == value
