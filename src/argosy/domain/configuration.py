"""A configuration group: values of parameters, kept in revisions, that any number of instances follow."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from argosy.domain.errors import Invalid
from argosy.domain.instance import Instance
from argosy.domain.operations import ApplyConfiguration
from argosy.domain.parameters import Parameter

MOST_VALUES = 1000
MASK = "***"
# What follows no group is to have none of its values: that is revision 0 of every group.
NO_GROUP = 0

# By the last word of its name: password_encryption is no secret.
_SECRET = re.compile(r"(password|passwd|passphrase|pass|secret|token|auth|conninfo)$", re.IGNORECASE)


@dataclass(frozen=True)
class Configuration:
    """A group as it is now: `values` by the server's own names, as its configuration file has them."""

    id: str
    project_id: str
    name: str
    description: str | None
    datastore: str
    version: str
    values: dict[str, str]
    revision: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Revision:
    """What the values were once: since when, by whom (a user's name), and what they said it was for."""

    number: int
    values: dict[str, str]
    at: datetime
    by: str
    note: str


@dataclass(frozen=True)
class Change:
    """A parameter of which the value differs; None where it is not set."""

    name: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class Wanted:
    """What an instance is to run with: a revision of a group; without a group, NO_GROUP."""

    group_id: str | None
    revision: int


class Outcome(StrEnum):
    """How far an instance is with the newest revision of its group."""

    APPLIED = "applied"
    RESTART_REQUIRED = "restart-required"  # it has taken the values, some wait for its restart
    APPLYING = "applying"
    WAITING = "waiting"  # it was busy or down: it is caught up by itself
    REFUSED = "refused"  # the server refused a value and goes on with those from before
    GIVEN_UP = "given-up"  # the server did not start with the values and runs with those from before


MEANING = {
    Outcome.APPLIED: "runs with the newest values",
    Outcome.RESTART_REQUIRED: "has the newest values; some of them wait for a restart",
    Outcome.APPLYING: "the newest values are being applied",
    Outcome.WAITING: "the newest values are applied as soon as it is free and answers",
    Outcome.REFUSED: "the server refused the newest values and goes on with those from before: change the group",
    Outcome.GIVEN_UP: "the server does not start with these values and runs with those from before: change the group",
}


def wanted(instance: Instance) -> Wanted:
    return Wanted(instance.configuration_id, instance.configuration_newest or NO_GROUP)


def outcome(instance: Instance) -> Outcome:
    """Of an instance that follows a group."""
    if instance.operation_kind == ApplyConfiguration.kind:
        return Outcome.APPLYING
    if instance.configuration_revision != instance.configuration_newest:
        refused = instance.configuration_refused == instance.configuration_newest
        return Outcome.REFUSED if refused else Outcome.WAITING
    report = instance.report
    if report is not None and report.configuration_error is not None:
        return Outcome.GIVEN_UP
    waits = report is not None and report.restart_required
    return Outcome.RESTART_REQUIRED if waits else Outcome.APPLIED


def error_of(instance: Instance) -> str | None:
    """Why it does not run with the newest values, in the server's words."""
    if outcome(instance) is Outcome.GIVEN_UP and instance.report is not None:
        return instance.report.configuration_error
    return instance.configuration_error


def changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[Change]:
    """By name; nothing for what stays as it is."""
    names = sorted({*old, *new})
    return [Change(name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def is_secret(name: str) -> bool:
    """Whether a parameter's value looks like one to keep to oneself."""
    return bool(_SECRET.search(name))


def masked(name: str, value: str | None) -> str | None:
    """A value as it is shown."""
    return MASK if value is not None and is_secret(name) else value


def unmasked(asked: Mapping[str, Any], known: Mapping[str, str]) -> dict[str, Any]:
    """What was asked, with the values behind masks: who sends back what was shown changes nothing."""
    by_key = {name.lower(): value for name, value in known.items() if is_secret(name)}
    return {
        name: by_key.get(name.lower(), value) if value == MASK else value for name, value in asked.items()
    }


def without(values: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The values without some; names are looked up with case ignored. Raises Invalid for one that is not set."""
    by_key = {_key(name): name for name in values}
    unknown = sorted({name for name in names if _key(name) not in by_key})
    if unknown:
        told = ", ".join(repr(name[:64]) for name in unknown[:10])
        raise Invalid(f"Validation error: configuration.unset: the group does not set {told}.")
    gone = {by_key[_key(name)] for name in names}
    return {name: value for name, value in values.items() if name not in gone}


def check_amount(values: Mapping[str, Any]) -> None:
    """Raises Invalid when there are more than any server has parameters."""
    if len(values) > MOST_VALUES:
        raise Invalid(
            f"Validation error: configuration.values: it may have {MOST_VALUES} parameters, it has {len(values)}."
        )


def told(parameter: Parameter | None, value: str) -> str | int | float:
    """A value for JSON: a number where the parameter is one and it is written plainly."""
    if parameter is not None and parameter.type == "integer" and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if (
        parameter is not None
        and parameter.type == "float"
        and re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", value)
    ):
        return float(value)
    return value


def _key(name: str) -> str:
    return name.lower().replace("-", "_")
