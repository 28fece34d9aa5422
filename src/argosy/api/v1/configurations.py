"""/configurations: groups of parameters' values, and the instances that follow them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Annotated, Any

from pydantic import Field, StrictStr, StringConstraints

from argosy import catalog
from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.api.v1.bodies import Body, DatastoreBody, Name
from argosy.api.v1.datastores import find_datastore
from argosy.domain import configuration
from argosy.domain.configuration import Configuration, Outcome, masked
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import ConfigurationNotFound, InstanceBusy, Invalid
from argosy.domain.instance import Instance, check_name
from argosy.domain.operations import ApplyConfiguration
from argosy.domain.parameters import Parameter, ParametersRefused, check_values
from argosy.metadata.configurations import LONGEST_NOTE, Author
from argosy.metadata.store import Transaction

router = resource("configuration groups")

_ONE = "/configurations/{configuration_id}"
_AT_ONCE = 200  # instances read at once
_MOMENT_S, _LOOK_EVERY_S, _WAITED_FOR = 3.0, 0.03, 20
_UNTOUCHED = {Outcome.APPLIED, Outcome.RESTART_REQUIRED, Outcome.APPLYING}

Note = Annotated[StrictStr, StringConstraints(max_length=LONGEST_NOTE)]


class NewGroup(Body):
    name: StrictStr
    values: dict[str, Any]
    description: Name | None = None
    datastore: DatastoreBody | None = None
    note: Note = ""


class NewGroupBody(Body):
    configuration: NewGroup


class ReplacedGroup(Body):
    """`values` are all that is left; `note` says in the history what it was for."""

    values: dict[str, Any] = Field(default_factory=dict)
    name: StrictStr | None = None
    description: Name | None = None
    note: Note = ""


class ReplacedGroupBody(Body):
    configuration: ReplacedGroup


class ChangedGroup(Body):
    """`values` are laid over those that are there; `unset` names those that go."""

    values: dict[str, Any] = Field(default_factory=dict)
    unset: Annotated[list[Name], Field(max_length=configuration.MOST_VALUES)] = Field(default_factory=list)
    note: Note = ""


class ChangedGroupBody(Body):
    configuration: ChangedGroup


@router.get(
    "/configurations",
    response_model=shapes.Configurations,
    responses=faults(400),
    openapi_extra=shapes.PAGED,
)
def list_configurations(call: Asked) -> dict[str, Any]:
    """The project's configuration groups, up to 20 a page; for an administrator those of all projects."""
    call.allow("configuration:index")
    limit = call.limit()
    with call.read() as tx:
        found, more = tx.configurations.page(limit, call.marker)
    answer: dict[str, Any] = {"configurations": [_summary(group) for group in found]}
    if more:
        answer["links"] = call.next_link(found[-1].id)
    return answer


@router.post(
    "/configurations", response_model=shapes.ShownConfiguration, responses=faults(400, 404, 413, 415, 422)
)
def create_configuration(call: Asked, body: NewGroupBody) -> dict[str, Any]:
    """Make a group for one version of a datastore; each value that cannot be is named (422). 200, as Trove has it."""
    call.allow("configuration:create")
    asked = body.configuration
    check_name(asked.name, "configuration.name")
    configuration.check_amount(asked.values)
    datastore, version = version_for(call, asked.datastore)
    with call.parts.store.write(call.project_id) as tx:
        group = Configuration(
            id=str(uuid.uuid4()),
            project_id=call.project_id,
            name=asked.name,
            description=asked.description,
            datastore=datastore.name,
            version=version.name,
            values=checked(tx, datastore.name, version.name, asked.values),
            revision=1,
            created_at=call.now,
            updated_at=call.now,
        )
        tx.configurations.add(group, Author(call.caller.user_name, asked.note))
        tell(call, tx, group, "created", "made")
        return {"configuration": detail(tx, group)}


@router.get(_ONE, response_model=shapes.ShownConfiguration, responses=faults(404))
def show_configuration(call: Asked, configuration_id: str) -> dict[str, Any]:
    """A group with its values, of which those that look like secrets are masked."""
    call.allow("configuration:show")
    with call.read() as tx:
        return {"configuration": detail(tx, find(tx, configuration_id))}


@router.get(
    _ONE + "/instances",
    response_model=shapes.Followers,
    responses=faults(400, 404),
    openapi_extra=shapes.PAGED,
)
def list_followers(call: Asked, configuration_id: str) -> dict[str, Any]:
    """The instances that follow a group, up to 20 a page, and how far each is with its newest revision."""
    call.allow("configuration:instances")
    limit = call.limit()
    with call.read() as tx:
        group = find(tx, configuration_id)
        found, more = tx.instances.following(group.id, limit, call.marker)
    answer: dict[str, Any] = {
        "instances": [
            {"id": one.id, "name": one.name, "argosy": views.outcome_view(one)}
            for one in sorted(found, key=lambda one: one.created_at, reverse=True)
        ]
    }
    if more:
        answer["links"] = call.next_link(found[-1].id)
    return answer


@router.put(_ONE, status_code=202, responses=faults(400, 404, 413, 415, 422))
def replace_configuration(call: Asked, configuration_id: str, body: ReplacedGroupBody) -> None:
    """Replace all values, and apply them to every instance that follows the group."""
    call.allow("configuration:update")
    asked = body.configuration
    configuration.check_amount(asked.values)
    if asked.name is not None:
        check_name(asked.name, "configuration.name")
    with call.write() as tx:
        group = find(tx, configuration_id, hold=True)
        tx.configurations.describe(group.id, name=asked.name, description=asked.description)
        values = replaced(tx, group, asked.values)
        revise(call, tx, group, values, Author(call.caller.user_name, asked.note))
        busy = being_applied(tx, group.id)
    give_time(call, busy)


@router.patch(_ONE, responses=faults(400, 404, 413, 415, 422))
def change_configuration(call: Asked, configuration_id: str, body: ChangedGroupBody) -> None:
    """Set some values and unset others, and apply them to every instance that follows the group.

    200 with an empty body, as Trove has it. Of two changes at once none is lost.
    """
    call.allow("configuration:edit")
    configuration.check_amount(body.configuration.values)
    with call.write() as tx:
        group = find(tx, configuration_id, hold=True)
        values = changed(tx, group, body.configuration)
        revise(call, tx, group, values, Author(call.caller.user_name, body.configuration.note))
        busy = being_applied(tx, group.id)
    give_time(call, busy)


@router.delete(_ONE, status_code=202, responses=faults(400, 404))
def delete_configuration(call: Asked, configuration_id: str) -> None:
    """Delete a group that no instance follows."""
    call.allow("configuration:delete")
    with call.write() as tx:
        group = find(tx, configuration_id, hold=True)
        followers = tx.instances.followers(group.id)
        if followers:
            raise Invalid(
                f"Configuration group {group.id} is in use by {followers} instance(s): detach it from each first.",
                code="configuration-in-use",
            )
        tx.configurations.delete(group.id)
        tell(call, tx, group, "deleted", "deleted")


def group_for(tx: Transaction, configuration_id: str, datastore: str, version: str) -> Configuration:
    """A group that an instance of this version may follow, held. Raises ConfigurationNotFound or Invalid."""
    group = find(tx, configuration_id, hold=True)
    if (group.datastore, group.version) != (datastore, version):
        raise Invalid(
            f"Configuration group {group.id} is for {group.datastore} {group.version}, and the instance is "
            f"{datastore} {version}: make a group for that version."
        )
    return group


def attach(call: Call, tx: Transaction, instance: Instance, configuration_id: str) -> None:
    """Have an instance follow a group from now on. Raises Invalid while it follows one, or is busy."""
    if instance.configuration_id is not None:
        raise _attached(instance)
    group = group_for(tx, configuration_id, instance.datastore, instance.version)
    if group.project_id != instance.project_id:
        raise ConfigurationNotFound(configuration_id=group.id)
    instance.check_can_be_configured(call.now)
    _follow(call, tx, instance, group)


def detach(call: Call, tx: Transaction, instance: Instance) -> None:
    """Have an instance follow no group any more; one that follows none stays as it is. Raises Invalid while it is busy."""
    if instance.configuration_id is None:
        return
    instance.check_can_be_configured(call.now)
    _follow(call, tx, instance, None)


def _attached(instance: Instance) -> Invalid:
    return Invalid(
        f"Instance {instance.id} has a configuration group attached: detach it first.",
        code="configuration-attached",
    )


def _follow(call: Call, tx: Transaction, instance: Instance, group: Configuration | None) -> None:
    if not tx.instances.follow(instance.id, None if group is None else group.id):
        # Of two requests at once the other came first.
        raise _attached(instance)
    if group is not None:
        what, message = "attached", f"Follows configuration group {group.name}."
    else:
        what, message = (
            "detaching",
            f"Is to follow configuration group {instance.configuration_name} no more.",
        )
    tx.events.add(instance.project_id, instance.id, f"configuration.{what}", message, call.caller.user_name)
    if instance.operation_id is None:
        _apply(call, tx, instance, group)


def _apply(call: Call, tx: Transaction, instance: Instance, group: Configuration | None) -> None:
    """Begin to apply what the instance is to follow; one that another request has just claimed is caught up later."""
    request = ApplyConfiguration(
        operation_id=str(uuid.uuid4()),
        instance_id=instance.id,
        configuration_id=None if group is None else group.id,
    )
    try:
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)
    except InstanceBusy:
        return


def find(tx: Transaction, configuration_id: str, *, hold: bool = False) -> Configuration:
    """Raises ConfigurationNotFound, also for what cannot be an id, so that clients go on to look for a name."""
    try:
        uuid.UUID(configuration_id)
    except ValueError as error:
        raise ConfigurationNotFound(configuration_id=configuration_id[:255]) from error
    return tx.configurations.get(configuration_id.lower(), hold=hold)


def version_for(call: Call, asked: DatastoreBody | None) -> tuple[Datastore, Version]:
    """As for a new instance, but of those offered no more too. Raises NotFound or Invalid."""
    asked = asked or DatastoreBody()
    datastore = find_datastore(asked.type or call.parts.default_datastore)
    wanted = asked.version or datastore.default_version
    for version in datastore.versions:
        if wanted in (version.name, version.id):
            return datastore, version
    names = ", ".join(version.name for version in datastore.versions)
    raise Invalid(f"Datastore {datastore.name} has no version {wanted[:255]!r}: choose one of {names}.")


def checked(tx: Transaction, datastore: str, version: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Values as they are kept. Raises ParametersRefused, naming each that cannot be."""
    known = tx.parameters.of(datastore, version)
    if not known:
        reason = (
            f"The parameters of {datastore} {version} are not known yet: they are read from a live server when its "
            "software is pulled, which making an instance of it does"
        )
        raise ParametersRefused([reason])
    return check_values(known, values)


def replaced(tx: Transaction, group: Configuration, values: Mapping[str, Any]) -> dict[str, str]:
    if not values:
        return {}
    return checked(tx, group.datastore, group.version, configuration.unmasked(values, group.values))


def changed(tx: Transaction, group: Configuration, asked: ChangedGroup) -> dict[str, str]:
    left = configuration.without(group.values, asked.unset)
    if not asked.values:
        return left
    values = configuration.unmasked(asked.values, group.values)
    return {**left, **checked(tx, group.datastore, group.version, values)}


def revise(
    call: Call, tx: Transaction, group: Configuration, values: Mapping[str, str], author: Author
) -> Configuration:
    """Give a held group other values, and begin to apply them where that can be done now; a sweep does the rest."""
    revised = tx.configurations.revise(group, values, author)
    if revised.revision != group.revision:
        names = ", ".join(change.name for change in configuration.changes(group.values, revised.values))
        tell(call, tx, revised, "changed", f"revision {revised.revision}: {names}")
    for instance in followers(tx, group.id):
        if configuration.outcome(instance) not in _UNTOUCHED and instance.can_be_configured_now(call.now):
            _apply(call, tx, instance, revised)
    return revised


def give_time(call: Call, instance_ids: Sequence[str]) -> None:
    """Wait a moment until the group is applied to these.

    Trove answers when it is, and its clients go on at once: they restart the instance, or look at the value.
    Whoever needs longer is answered all the same, as 202 says.
    """
    deadline = time.monotonic() + _MOMENT_S
    left = list(instance_ids)
    while left and time.monotonic() < deadline:
        time.sleep(_LOOK_EVERY_S)
        with call.read() as tx:
            left = [one for one in left if tx.instances.get(one).operation_kind == ApplyConfiguration.kind]


def being_applied(tx: Transaction, group_id: str) -> list[str]:
    """The first instances to which a group is being applied now."""
    busy = (one.id for one in followers(tx, group_id) if one.operation_kind == ApplyConfiguration.kind)
    return list(islice(busy, _WAITED_FOR))


def followers(tx: Transaction, group_id: str) -> Iterator[Instance]:
    """Every instance that follows a group."""
    after, more = None, True
    while more:
        page, more = tx.instances.following(group_id, _AT_ONCE, after)
        yield from page
        after = page[-1].id if page else None


def tell(call: Call, tx: Transaction, group: Configuration, what: str, message: str) -> None:
    tx.events.add(
        group.project_id,
        None,
        f"configuration.{what}",
        f"Configuration group {group.name}: {message}",
        call.caller.user_name,
    )


def detail(tx: Transaction, group: Configuration) -> dict[str, Any]:
    return {
        **_summary(group),
        "values": values_view(tx.parameters.of(group.datastore, group.version), group.values),
        "instance_count": tx.instances.followers(group.id),
        "datastore_version_number": _version(group).name,
        "revision": group.revision,
    }


def values_view(known: list[Parameter], values: Mapping[str, str]) -> dict[str, Any]:
    """Numbers as numbers, secrets masked."""
    by_name = {parameter.name: parameter for parameter in known}
    return {
        name: configuration.MASK
        if configuration.is_secret(name)
        else configuration.told(by_name.get(name), value)
        for name, value in sorted(values.items())
    }


def change_view(known: Mapping[str, Parameter], change: configuration.Change) -> dict[str, Any]:
    parameter = known.get(change.name)
    return {
        "name": change.name,
        "old": masked(change.name, change.old),
        "new": masked(change.name, change.new),
        "restart_required": parameter is not None and parameter.restart_required,
    }


def _summary(group: Configuration) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "description": group.description,
        "created": views.date(group.created_at),
        "updated": views.date(group.updated_at),
        "datastore_version_id": _version(group).id,
        "datastore_name": group.datastore,
        "datastore_version_name": group.version,
    }


def _version(group: Configuration) -> Version:
    try:
        return catalog.version(group.datastore, group.version)[1]
    except KeyError:
        # Of a catalog that has it no more.
        return Version(datastore=group.datastore, name=group.version, sources=())
