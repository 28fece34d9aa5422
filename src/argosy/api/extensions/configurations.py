"""What configuration groups have beyond Trove: their history, differences, the way back, and trying without doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictInt

from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import configurations as groups
from argosy.api.v1 import shapes, views
from argosy.api.v1.bodies import Body, Name
from argosy.api.v1.configurations import ChangedGroup, NewGroupBody, Note, find
from argosy.domain import configuration
from argosy.domain.configuration import NO_GROUP, Configuration, Revision
from argosy.domain.errors import Invalid
from argosy.domain.instance import Instance, check_name
from argosy.domain.parameters import Parameter, ParametersRefused
from argosy.metadata.configurations import Author
from argosy.metadata.store import Transaction

router = resource("configuration groups")

_ONE = "/configurations/{configuration_id}"
_BIGGEST = 2**31 - 1
_FROM_TO: dict[str, Any] = {
    "parameters": [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": description,
            "schema": {"type": "integer", "minimum": least},
        }
        for name, description, least in (
            ("from", "A revision; 0 is before the first. The one before `to` unless given.", 0),
            ("to", "A revision; the newest unless given.", 1),
        )
    ]
}

Number = Annotated[StrictInt, Field(ge=1, le=_BIGGEST)]


class Rollback(Body):
    revision: Number
    note: Note | None = None


class RollbackBody(Body):
    rollback: Rollback


class TriedGroup(ChangedGroup):
    """As for a PATCH; with `replace` as for a PUT, with `revision` as for a rollback.

    `instance` is one that would be attached with it.
    """

    replace: StrictBool = False
    revision: Number | None = None
    instance: Name | None = None


class TriedGroupBody(Body):
    configuration: TriedGroup


@router.get(
    _ONE + "/revisions",
    response_model=shapes.Revisions,
    responses=faults(400, 404),
    openapi_extra=shapes.PAGED,
)
def list_revisions(call: Asked, configuration_id: str) -> dict[str, Any]:
    """What the group's values were, newest first, up to 20 a page: when, by whom, what for."""
    call.allow("configuration:history")
    limit, before = call.limit(), call.offset() if call.marker else None
    with call.read() as tx:
        group = find(tx, configuration_id)
        known = tx.parameters.of(group.datastore, group.version)
        found, more = tx.configurations.history(group.id, limit, before=before)
    answer: dict[str, Any] = {"revisions": [_view(known, revision) for revision in found]}
    if more:
        answer["links"] = call.next_link(str(found[-1].number))
    return answer


@router.get(_ONE + "/revisions/{revision}", response_model=shapes.ShownRevision, responses=faults(404))
def show_revision(call: Asked, configuration_id: str, revision: str) -> dict[str, Any]:
    """One of them."""
    call.allow("configuration:history")
    with call.read() as tx:
        group = find(tx, configuration_id)
        # What is no number is no revision either.
        number = (
            int(revision) if revision.isascii() and revision.isdigit() and len(revision) < 10 else NO_GROUP
        )
        found = tx.configurations.revision(group.id, number)
        return {"revision": _view(tx.parameters.of(group.datastore, group.version), found)}


@router.get(
    _ONE + "/diff", response_model=shapes.ShownDiff, responses=faults(400, 404), openapi_extra=_FROM_TO
)
def compare_revisions(call: Asked, configuration_id: str) -> dict[str, Any]:
    """What differs between two revisions."""
    call.allow("configuration:history")
    with call.read() as tx:
        group = find(tx, configuration_id)
        new = _asked(call, "to", least=1) or group.revision
        asked = _asked(call, "from", least=0)
        old = new - 1 if asked is None else asked
        known = _by_name(tx, group)
        changes = configuration.changes(_values(tx, group, old), _values(tx, group, new))
    return {
        "diff": {
            "old": old,
            "new": new,
            "changes": [groups.change_view(known, change) for change in changes],
        }
    }


@router.post(
    _ONE + "/rollback", response_model=shapes.ShownConfiguration, responses=faults(400, 404, 415, 422)
)
def roll_back(call: Asked, configuration_id: str, body: RollbackBody) -> dict[str, Any]:
    """Give the group the values of an earlier revision, as a new one, and apply them."""
    call.allow("configuration:rollback")
    number = body.rollback.revision
    note = body.rollback.note
    author = Author(call.caller.user_name, f"back to revision {number}" if note is None else note)
    with call.write() as tx:
        group = find(tx, configuration_id, hold=True)
        values = _checked(tx, group, tx.configurations.revision(group.id, number).values)
        return {"configuration": groups.detail(tx, groups.revise(call, tx, group, values, author))}


@router.post(
    "/configurations/dry_run", response_model=shapes.ShownDryRun, responses=faults(400, 404, 413, 415)
)
def try_to_create(call: Asked, body: NewGroupBody) -> dict[str, Any]:
    """Whether a group could be made like this, and which of its values need a restart. Nothing is made."""
    call.allow("configuration:dry_run")
    asked = body.configuration
    check_name(asked.name, "configuration.name")
    configuration.check_amount(asked.values)
    datastore, version = groups.version_for(call, asked.datastore)
    with call.read() as tx:
        known = {one.name: one for one in tx.parameters.of(datastore.name, version.name)}
        try:
            values = groups.checked(tx, datastore.name, version.name, asked.values)
        except ParametersRefused as refused:
            return _refused(refused)
    return _told(known, {}, values, [])


@router.post(_ONE + "/dry_run", response_model=shapes.ShownDryRun, responses=faults(400, 404, 413, 415))
def try_to_change(call: Asked, configuration_id: str, body: TriedGroupBody) -> dict[str, Any]:
    """What a PATCH, a PUT or a rollback would do to the group and to each instance that follows it. Nothing is done."""
    call.allow("configuration:dry_run")
    asked = body.configuration
    configuration.check_amount(asked.values)
    with call.read() as tx:
        group = find(tx, configuration_id)
        known = _by_name(tx, group)
        instances = _instances(tx, group, asked)
        try:
            values = _tried(tx, group, asked)
        except ParametersRefused as refused:
            return _refused(refused)
        trials = [_trial(call, tx, group, known, one, values) for one in instances]
    return _told(known, group.values, values, trials)


def _instances(tx: Transaction, group: Configuration, asked: TriedGroup) -> list[Instance]:
    if asked.instance is None:
        return list(groups.followers(tx, group.id))
    one = tx.instances.get(asked.instance)
    groups.group_for(tx, group.id, one.datastore, one.version)
    return [one]


def _tried(tx: Transaction, group: Configuration, asked: TriedGroup) -> dict[str, str]:
    if asked.revision is not None:
        return _checked(tx, group, tx.configurations.revision(group.id, asked.revision).values)
    if asked.replace:
        return groups.replaced(tx, group, asked.values)
    return groups.changed(tx, group, asked)


def _trial(
    call: Call,
    tx: Transaction,
    group: Configuration,
    known: Mapping[str, Parameter],
    instance: Instance,
    values: Mapping[str, str],
) -> dict[str, Any]:
    """Against what the instance has, which need not be what the group had last."""
    has = instance.configuration_revision if instance.configuration_id == group.id else None
    names = [change.name for change in configuration.changes(_values(tx, group, has or NO_GROUP), values)]
    static = [name for name in names if name in known and known[name].restart_required]
    if not names:
        when = "nothing"
    elif not instance.can_be_configured_now(call.now):
        when = "later"
    else:
        when = "restart" if static else "now"
    return {
        "id": instance.id,
        "name": instance.name,
        "when": when,
        "at_once": [name for name in names if name not in static],
        "after_restart": static,
    }


def _told(
    known: Mapping[str, Parameter],
    old: Mapping[str, str],
    new: Mapping[str, str],
    trials: list[dict[str, Any]],
) -> dict[str, Any]:
    changes = [groups.change_view(known, change) for change in configuration.changes(old, new)]
    return {"dry_run": {"valid": True, "errors": [], "changes": changes, "instances": trials}}


def _refused(refused: ParametersRefused) -> dict[str, Any]:
    return {"dry_run": {"valid": False, "errors": refused.reasons, "changes": [], "instances": []}}


def _checked(tx: Transaction, group: Configuration, values: Mapping[str, str]) -> dict[str, str]:
    """Values of earlier, which need not be allowed any more."""
    return groups.checked(tx, group.datastore, group.version, values) if values else {}


def _values(tx: Transaction, group: Configuration, revision: int) -> dict[str, str]:
    if revision == NO_GROUP:
        return {}
    return tx.configurations.revision(group.id, revision).values


def _by_name(tx: Transaction, group: Configuration) -> dict[str, Parameter]:
    return {one.name: one for one in tx.parameters.of(group.datastore, group.version)}


def _asked(call: Call, name: str, *, least: int) -> int | None:
    text = call.asks(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < least:
        raise Invalid(f"Validation error: {name} must be the number of a revision, from {least} up.")
    return int(text)


def _view(known: list[Parameter], revision: Revision) -> dict[str, Any]:
    return {
        "revision": revision.number,
        "at": views.date(revision.at),
        "by": revision.by,
        "note": revision.note,
        "values": groups.values_view(known, revision.values),
    }
