"""/instances: list, create, show, update, delete."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StrictBool, StrictInt, StrictStr

from argosy import catalog
from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.extensions import backup_schedules, log_archives
from argosy.api.route import faults, resource
from argosy.api.v1 import access, restoring, shapes, views
from argosy.api.v1.bodies import (
    AccessBody,
    Body,
    DatabaseBody,
    DatastoreBody,
    Name,
    Reference,
    SizeGb,
    TlsBody,
    UserBody,
)
from argosy.api.v1.configurations import attach, detach, give_time, group_for
from argosy.api.v1.datastores import find_datastore
from argosy.api.v1.resizing import check_volume_size
from argosy.api.v1.restoring import RestorePoint, Source, former_group
from argosy.api.v1.upgrading import upgrade
from argosy.domain.backup import check_fits
from argosy.domain.databases import check_databases, check_users
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import Failed, InstanceNotFound, Invalid, NotFound, Unsupported
from argosy.domain.instance import (
    TAGS_MAX,
    Flavor,
    Instance,
    check_flavor_holds,
    check_name,
    check_tag_key,
    check_tags,
)
from argosy.domain.operations import CreateInstance, DeleteInstance
from argosy.domain.upgrades import can_follow, is_release
from argosy.metadata.store import Transaction

router = resource("instances")

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_LATER = {
    "replica_of": "Detaching a replica",
    "slave_of": "Detaching a replica",
}


class VolumeBody(Body):
    size: SizeGb
    type: StrictStr | None = None
    # Ours.
    autogrow_limit: SizeGb | None = None


class VolumeChange(Body, extra="forbid"):
    """Of a volume only this is changed here; `{"resize": …}` makes it larger."""

    autogrow_limit: SizeGb | None


class NicBody(Body, extra="forbid"):
    """The network it is to be on; a platform without networks has no use for it."""

    net_id: StrictStr | None = Field(default=None, alias="net-id")
    network_id: StrictStr | None = None
    subnet_id: StrictStr | None = None
    ip_address: StrictStr | None = None
    port_id: StrictStr | None = Field(default=None, alias="port-id")
    v4_fixed_ip: StrictStr | None = Field(default=None, alias="v4-fixed-ip")


def _id_of(value: Any) -> Any:
    """The id, for openstacksdk sends a flavor as an id or as the object it listed."""
    return value.get("id") or value.get("str_id") if isinstance(value, dict) else value


def _none_as_empty(value: Any) -> Any:
    return [] if value is None else value


class ModuleBody(Body):
    id: Name


class NewInstance(Body):
    """Trove's create; what the platform has no use for (networks and zones on local) is left aside."""

    name: StrictStr
    flavor_ref: Reference | None = Field(default=None, alias="flavorRef")
    flavor: Annotated[Reference | None, BeforeValidator(_id_of)] = None
    volume: VolumeBody | None = None
    databases: Annotated[list[DatabaseBody], BeforeValidator(_none_as_empty)] = Field(default_factory=list)
    users: Annotated[list[UserBody], BeforeValidator(_none_as_empty)] = Field(default_factory=list)
    datastore: DatastoreBody | None = None
    nics: Annotated[list[NicBody], BeforeValidator(_none_as_empty)] = Field(
        default_factory=list, max_length=1
    )
    availability_zone: Name | None = None
    region_name: Name | None = None
    locality: Literal["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"] | None = None
    access: AccessBody | None = None
    configuration: Reference | None = None
    restore_point: RestorePoint | None = Field(default=None, alias="restorePoint")
    replica_of: Reference | None = None
    slave_of: Reference | None = None
    replica_count: Annotated[StrictInt, Field(ge=1, le=3)] | None = None
    modules: Annotated[list[ModuleBody], BeforeValidator(_none_as_empty)] = Field(default_factory=list)
    # Ours.
    tags: dict[StrictStr, StrictStr] = Field(default_factory=dict)
    protected: StrictBool = False
    tls: TlsBody | None = None
    backup_schedule: backup_schedules.Schedule | None = None


class CreateBody(Body):
    instance: NewInstance


class Changes(Body, extra="forbid"):
    """The keys of either PUT or PATCH; of those that are not here yet only the names matter."""

    name: StrictStr | None = None
    replica_of: Any = None
    slave_of: Any = None
    configuration: Reference | None = None
    datastore_version: Any = None
    # Ours.
    volume: VolumeChange | None = None
    access: AccessBody = Field(default_factory=AccessBody)


class UpdateBody(Body):
    instance: Changes


@router.get(
    "/instances", response_model=shapes.Instances, responses=faults(400), openapi_extra=shapes.PAGED_INSTANCES
)
def list_instances(call: Asked) -> dict[str, Any]:
    """The project's instances, up to 20 a page, newest first within it.

    `tag` chooses those with a tag. With `deleted=true` those that were deleted, deleted last first.
    """
    call.allow("instance:index")
    return _page(call, detailed=False)


@router.get(
    "/instances/detail",
    response_model=shapes.DetailedInstances,
    responses=faults(400),
    openapi_extra=shapes.PAGED_INSTANCES,
)
def list_instances_in_detail(call: Asked) -> dict[str, Any]:
    """The same with everything that is known of each."""
    call.allow("instance:detail")
    return _page(call, detailed=True)


@router.get(
    "/instances/{instance_id}",
    response_model=shapes.ShownInstance,
    responses=faults(404),
    openapi_extra=shapes.DELETED,
)
def show_instance(call: Asked, instance_id: str) -> dict[str, Any]:
    """An instance, and what is going on with it; with `deleted=true` also one that was deleted."""
    call.allow("instance:show")
    check_instance_id(instance_id)
    with call.read() as tx:
        find = tx.instances.get_or_deleted if call.asks_whether("deleted") else tx.instances.get
        instance = find(instance_id)
        operation = tx.operations.get(instance.operation_id) if instance.operation_id else None
        recovery = log_archives.recovery_of(call, tx, instance)
    view = views.instance_detail(call, instance, call.datastore_of(instance), operation)
    view["argosy"]["recovery"] = recovery
    return {"instance": view}


@router.post(
    "/instances",
    response_model=shapes.ShownInstance,
    responses=faults(400, 404, 409, 413, 415, 422, 501),
    openapi_extra=shapes.IDEMPOTENT,
)
def create_instance(call: Asked, body: CreateBody) -> dict[str, Any]:
    """Begin to make an instance, with first databases and users; 200, not 202, as Trove has it.

    With a `restorePoint` it is made of a backup (`backupRef`), or of a backup and the log after it: of another
    `instance` at a `time`, at a `position`, or at its latest. It is what that one was wherever nothing else is asked.
    With `backup_schedule` it is backed up by itself, from as soon as it serves.

    With an `Idempotency-Key` a repeated request answers the instance that the first one made.
    """
    call.allow("instance:create")
    asked = body.instance
    _refuse_what_is_not_there(asked)
    check_name(asked.name)
    tags = check_tags(asked.tags, "instance.tags")
    source = _source(call, asked)
    datastore, version = _datastore(call, asked.datastore, source)
    begins_as = _begins_as(source, datastore, version)
    databases = [database.to_domain() for database in asked.databases]
    users = [user.to_domain() for user in asked.users]
    check_databases(datastore, databases)
    check_users(datastore, users)
    missing = sorted(
        {name for user in users for name in user.databases} - {database.name for database in databases}
    )
    if missing:
        raise Invalid(
            f"Users are given access to databases that are not in the request: {', '.join(missing)}."
        )
    volume = _volume(call, asked, source)
    key, fingerprint = _idempotency(call, body)
    with call.parts.store.write(call.project_id) as tx:
        made = tx.idempotent_requests.find(key, fingerprint) if key else None
        if made is not None:
            return {"instance": views.instance_detail(call, tx.instances.get(made), datastore)}
        tx.datastore_versions.check_offered(datastore.name, version.name)
        flavor = _flavor(tx, asked, datastore, version, source)
        tx.quotas.take(call.project_id, instances=1, ram=flavor.memory_mb, volumes=volume.size)
        instance = Instance(
            id=str(uuid.uuid4()),
            project_id=call.project_id,
            name=asked.name,
            datastore=datastore.name,
            version=begins_as.name,
            flavor_id=flavor.id,
            volume_gb=volume.size,
            autogrow_limit_gb=volume.autogrow_limit,
            created_at=call.now,
            updated_at=call.now,
            access=access.access_of(asked.access if source is None else source.access(asked.access)),
            require_tls=_requires_tls(asked, source),
            configuration_id=_configuration_id(call, tx, asked, datastore, version, source),
            tags=tags if source is None or "tags" in asked.model_fields_set else source.was("tags") or {},
            protected=asked.protected,
            placement=_placement(asked) or ({} if source is None else source.was("placement") or {}),
        )
        tx.instances.add(instance)
        request = CreateInstance(
            operation_id=str(uuid.uuid4()),
            instance_id=instance.id,
            datastore=datastore.name,
            version=begins_as.name,
            # Values for another version are applied when it runs that: see `sweeps.catch_up`.
            configuration_id=instance.configuration_id if begins_as is version else None,
            upgrade_to=None if begins_as is version else version.name,
            recovery=None if source is None else source.recovery,
            sealed=call.parts.seal.close(
                {
                    "databases": [database.model_dump() for database in asked.databases],
                    "users": [
                        {
                            "name": user.id.name,
                            "host": user.id.host,
                            "password": user.password,
                            "databases": user.databases,
                        }
                        for user in users
                    ],
                }
            ),
        )
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)
        if source is not None:
            restoring.hold(tx, source, request)
        if asked.backup_schedule is not None:
            call.allow("backup_schedule:create")
            backup_schedules.add(call, tx, instance, asked.backup_schedule)
        if key:
            tx.idempotent_requests.remember(key, fingerprint, instance.id)
        instance = tx.instances.get(instance.id)
    return {"instance": views.instance_detail(call, instance, datastore)}


@router.put("/instances/{instance_id}", status_code=202, responses=faults(400, 404, 413, 415, 422, 501))
@router.patch("/instances/{instance_id}", status_code=202, responses=faults(400, 404, 413, 415, 422, 501))
def update_instance(call: Asked, instance_id: str, body: UpdateBody) -> None:
    """Rename, and one other change.

    That is who may connect (`access`), the configuration group (null or an empty object detaches it), the version to
    move to by its name or id (`datastore_version`), or up to which size the volume grows by itself
    (`{"volume": {"autogrow_limit": 50}}`, null for not at all). Detaching replicas is refused until there are any.
    """
    call.allow("instance:update")
    check_instance_id(instance_id)
    asked = body.instance.model_fields_set
    if len(asked - {"name"}) > 1:
        raise Invalid(
            f"Validation error: instance: one change besides the name at a time, not {' and '.join(sorted(asked))}."
        )
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        if "name" in asked:
            tx.instances.rename(instance.id, check_name(body.instance.name))
        later = [_LATER[name] for name in asked & _LATER.keys()]
        if later:
            raise Unsupported(f"{later[0]} is not supported yet.")
        if "access" in asked:
            access.update_access(call, tx, instance, body.instance.access)
        elif body.instance.configuration is not None:
            attach(call, tx, instance, body.instance.configuration)
        elif "datastore_version" in asked:
            upgrade(call, tx, instance, body.instance.datastore_version)
        elif "configuration" in asked or not asked:
            detach(call, tx, instance)
        if body.instance.volume is not None:
            _set_autogrow_limit(call, tx, instance, body.instance.volume.autogrow_limit)
    if "configuration" in asked or not asked:
        give_time(call, [instance_id])


@router.delete("/instances/{instance_id}", status_code=202, responses=faults(404, 422))
def delete_instance(call: Asked, instance_id: str) -> None:
    """Begin to delete; the instance shows SHUTDOWN and then is not found. One being made is left alone (422).

    One that is protected is refused (403), also to administrators.

    An operation under way is given up for it, as deletion is allowed in any other state (contract 2.1).
    """
    call.allow("instance:delete")
    held_by, kind = _held_by(call, instance_id)
    if kind == DeleteInstance.kind:
        return
    if held_by is not None and kind != CreateInstance.kind:
        # Before our own transaction: the queue writes to the same database through a connection of its own.
        call.parts.store.queue.cancel(held_by)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        if held_by is not None and instance.operation_id == held_by and kind != CreateInstance.kind:
            reason = Failed(f"Given up: {call.caller.user_name} deletes the instance.", code="deleted")
            tx.operations.fail(held_by, reason)
            instance = tx.instances.get(instance_id)
        instance.check_can_delete(call.now)
        request = DeleteInstance(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def _set_autogrow_limit(call: Call, tx: Transaction, instance: Instance, limit_gb: int | None) -> None:
    if limit_gb is not None:
        check_volume_size(call, limit_gb)
        instance.check_autogrow_limit(limit_gb)
    tx.instances.set_autogrow_limit(instance.id, limit_gb)


def _held_by(call: Call, instance_id: str) -> tuple[str | None, str | None]:
    instance = call.instance(instance_id)
    instance.check_not_protected()
    return instance.operation_id, instance.operation_kind


def _page(call: Call, *, detailed: bool) -> dict[str, Any]:
    limit, tags = call.limit(), _tags_asked(call)
    deleted = call.asks_whether("deleted") is True
    with call.read_project() as tx:
        if deleted:
            try:
                page, more = tx.instances.page_of_deleted(limit, call.marker, tags)
            except InstanceNotFound as error:
                raise Invalid(
                    "Validation error: marker must be the id of an instance that was deleted."
                ) from error
        else:
            page, more = tx.instances.page(limit, call.marker, tags)
    view = views.instance_detail if detailed else views.instance_summary
    newest_first = page if deleted else sorted(page, key=lambda one: one.created_at, reverse=True)
    answer: dict[str, Any] = {"instances": [view(call, one, call.datastore_of(one)) for one in newest_first]}
    if more:
        answer["links"] = call.next_link(page[-1].id)
    return answer


def _tags_asked(call: Call) -> dict[str, str | None]:
    """Each `tag` of the query, `key=value`, or `key` for any value. Raises Invalid."""
    asked = list(dict.fromkeys(call.asks_all("tag")))
    if len(asked) > TAGS_MAX:
        raise Invalid(f"Validation error: tag may be given {TAGS_MAX} times at most.")
    tags: dict[str, str | None] = {}
    for one in asked:
        key, equals, value = one.partition("=")
        if check_tag_key(key, "tag") in tags:
            raise Invalid(f"Validation error: tag: an instance has one value of {key!r}: name it once.")
        tags[key] = value if equals else None
    return tags


def _refuse_what_is_not_there(asked: NewInstance) -> None:
    if asked.replica_of or asked.slave_of:
        raise Unsupported("Replicas are not supported yet.")
    if asked.replica_count not in (None, 1):
        raise Invalid("Validation error: instance.replica_count: it needs replica_of.")
    if asked.modules:
        raise Unsupported("Modules are not supported.")


def _placement(asked: NewInstance) -> dict[str, str]:
    """Where it is to be, as platforms.base.Placement has it. Ports of a client's own are left aside: Argosy makes its own."""
    nic = asked.nics[0] if asked.nics else NicBody()
    wanted = {
        "network": nic.net_id or nic.network_id,
        "subnet": nic.subnet_id,
        "ip_address": nic.ip_address or nic.v4_fixed_ip,
        "availability_zone": asked.availability_zone,
    }
    return {name: value for name, value in wanted.items() if value}


def _source(call: Call, asked: NewInstance) -> Source | None:
    if asked.restore_point is None:
        return None
    with call.read() as tx:
        return restoring.source(call, tx, asked.restore_point)


def _volume(call: Call, asked: NewInstance, source: Source | None) -> VolumeBody:
    volume = asked.volume
    if volume is None and source is not None and source.backup.volume_gb is not None:
        limit_gb = source.was("autogrow_limit_gb")
        volume = VolumeBody(size=source.backup.volume_gb, autogrow_limit=limit_gb)
    elif volume is not None and source is not None and "autogrow_limit" not in volume.model_fields_set:
        limit_gb = source.was("autogrow_limit_gb")
        if limit_gb is not None and limit_gb >= volume.size:
            volume = volume.model_copy(update={"autogrow_limit": limit_gb})
    if volume is None:
        raise Invalid("Validation error: instance.volume: the size of the volume must be given.")
    check_volume_size(call, volume.size)
    if source is not None:
        check_fits(source.chain, volume.size)
    limit_gb = volume.autogrow_limit
    if limit_gb is not None:
        check_volume_size(call, limit_gb)
        if limit_gb < volume.size:
            raise Invalid(
                f"Validation error: instance.volume.autogrow_limit: it must be {volume.size} GB or more, the "
                "volume's size."
            )
    return volume


def _requires_tls(asked: NewInstance, source: Source | None) -> bool:
    if asked.tls is None:
        return source is not None and bool(source.was("require_tls"))
    return asked.tls.mode == "required"


def _idempotency(call: Call, body: CreateBody) -> tuple[str | None, str]:
    """The request's key, if any, and what tells its body from another. Raises Invalid."""
    key = call.request.headers.get("idempotency-key")
    if key is None:
        return None, ""
    if not _KEY.fullmatch(key):
        raise Invalid("Validation error: Idempotency-Key must be 1 to 255 visible ASCII characters.")
    asked = json.dumps(body.model_dump(mode="json"), sort_keys=True)
    return key, hashlib.sha256(asked.encode()).hexdigest()


def _datastore(call: Call, named: DatastoreBody | None, source: Source | None) -> tuple[Datastore, Version]:
    """By name or id; a missing type or version is the default one, or the backup's."""
    asked = named or DatastoreBody()
    were = (call.parts.default_datastore, "") if source is None else source.runs
    datastore = find_datastore(asked.type or were[0])
    was = were[1] if datastore.name == were[0] else ""
    wanted = asked.version or was or datastore.default_version
    for version in datastore.versions:
        if wanted in (version.name, version.id):
            if not version.active:
                raise Invalid(f"Version {wanted} of {datastore.name} is not offered any more.")
            return datastore, version
    offered = ", ".join(version.name for version in datastore.versions if version.active)
    if not wanted:
        raise Invalid(f"Datastore {datastore.name} has no default version: name one of {offered}.")
    raise Invalid(f"Datastore {datastore.name} has no version {wanted[:255]!r}: choose one of {offered}.")


def _begins_as(source: Source | None, datastore: Datastore, version: Version) -> Version:
    """The version that a backup's data is restored to first, when it is to become another one's. Raises Invalid."""
    if source is None or (datastore.name, version.name) == source.runs:
        return version
    try:
        was = catalog.version(*source.runs)
    except KeyError:
        was = (datastore, version)
    if datastore.name != was[0].name or not (
        is_release(was, (datastore, version)) or can_follow(was, (datastore, version))
    ):
        source.backup.check_restores_to(datastore.name, version.name)
    return version if is_release(was, (datastore, version)) else was[1]


def _configuration_id(
    call: Call,
    tx: Transaction,
    asked: NewInstance,
    datastore: Datastore,
    version: Version,
    source: Source | None,
) -> str | None:
    if asked.configuration is None:
        if source is None or "configuration" in asked.model_fields_set:
            return None
        # A group is of one version: an instance that becomes a newer one follows none.
        same = (datastore.name, version.name) == source.runs
        return former_group(call, tx, source) if same else None
    return group_for(tx, asked.configuration, datastore.name, version.name).id


def _flavor(
    tx: Transaction, asked: NewInstance, datastore: Datastore, version: Version, source: Source | None
) -> Flavor:
    reference = asked.flavor_ref or asked.flavor or (str(source.was("flavor_id") or "") if source else "")
    if not reference:
        raise Invalid("Validation error: instance.flavorRef: the flavor must be given.")
    try:
        flavor = tx.flavors.get(reference)
    except NotFound as error:
        raise Invalid(error.sentence, code="flavor-not-found") from error
    check_flavor_holds(flavor, f"{datastore.name} {version.name}", version.min_memory_mb)
    return flavor
