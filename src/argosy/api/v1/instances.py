"""/instances: list, create, show, update, delete."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime
from ipaddress import IPv4Network
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import AfterValidator, Field, StrictBool, StrictStr

from argosy import catalog
from argosy.api.call import Asked, Call
from argosy.api.v1 import views
from argosy.api.v1.bodies import Body, DatabaseBody, Reference, SizeGb, UserBody
from argosy.domain.databases import check_databases, check_users
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import Invalid, NotFound, OverLimit, Unsupported
from argosy.domain.instance import Instance, check_flavor_holds, check_name
from argosy.domain.operations import CreateInstance, DeleteInstance
from argosy.metadata.store import Transaction

router = APIRouter(tags=["instances"])


class VolumeBody(Body):
    size: SizeGb
    type: StrictStr | None = None


class DatastoreBody(Body):
    type: StrictStr | None = None
    version: StrictStr | None = None
    version_number: StrictStr | None = None


def _cidr(value: str) -> str:
    IPv4Network(value, strict=False)
    return value


class AccessBody(Body, extra="forbid"):
    is_public: StrictBool = False
    allowed_cidrs: list[Annotated[StrictStr, AfterValidator(_cidr)]] = Field(default_factory=list)


class NewInstance(Body):
    """Trove's create; what the platform has no use for (networks, zones) is taken and left aside."""

    name: StrictStr
    flavor_ref: Reference | None = Field(default=None, alias="flavorRef")
    flavor: Any = None  # openstacksdk's word for flavorRef
    volume: VolumeBody | None = None
    databases: list[DatabaseBody] = Field(default_factory=list)
    users: list[UserBody] = Field(default_factory=list)
    datastore: DatastoreBody = DatastoreBody()
    access: AccessBody | None = None
    configuration: Any = None
    restore_point: Any = Field(default=None, alias="restorePoint")
    replica_of: Any = None
    slave_of: Any = None
    replica_count: Any = None
    modules: list[Any] = Field(default_factory=list)


class CreateBody(Body):
    instance: NewInstance


class UpdateBody(Body):
    instance: dict[str, Any]


@router.get("/instances")
def list_instances(call: Asked) -> dict[str, Any]:
    """The project's instances, up to 20 a page, newest first within it."""
    call.allow("instance:index")
    return _page(call, detailed=False)


@router.get("/instances/detail")
def list_instances_in_detail(call: Asked) -> dict[str, Any]:
    call.allow("instance:detail")
    return _page(call, detailed=True)


@router.get("/instances/{instance_id}")
def show_instance(call: Asked, instance_id: str) -> dict[str, Any]:
    call.allow("instance:show")
    with call.read() as tx:
        instance = tx.instances.get(instance_id)
        operation = tx.operations.get(instance.operation_id) if instance.operation_id else None
    return {"instance": views.instance_detail(call, instance, call.datastore_of(instance), operation)}


@router.post("/instances")
def create_instance(
    call: Asked,
    body: CreateBody,
    idempotency_key: Annotated[str | None, Header(max_length=255, pattern=r"^[\x21-\x7e]+$")] = None,
) -> dict[str, Any]:
    """Begin to make an instance, with first databases and users; 200, not 202, as Trove has it.

    With an `Idempotency-Key` a repeated request answers the instance that the first one made.
    """
    call.allow("instance:create")
    asked = body.instance
    _refuse_what_is_not_there(asked)
    check_name(asked.name)
    datastore, version = _datastore(call, asked.datastore)
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
    if asked.volume is None:
        raise Invalid("Validation error: instance.volume: the size of the volume must be given.")
    if asked.volume.size > call.parts.max_volume_gb:
        raise OverLimit(
            f"volume size {asked.volume.size} GB is above the {call.parts.max_volume_gb} GB allowed."
        )
    fingerprint = hashlib.sha256(
        json.dumps(body.model_dump(mode="json"), sort_keys=True).encode()
    ).hexdigest()
    now = datetime.now(UTC)
    with call.parts.store.write(call.project_id) as tx:
        made = tx.idempotent_requests.find(idempotency_key, fingerprint) if idempotency_key else None
        if made is not None:
            return {"instance": views.instance_detail(call, tx.instances.get(made), datastore)}
        instance = Instance(
            id=str(uuid.uuid4()),
            project_id=call.project_id,
            name=asked.name,
            datastore=datastore.name,
            version=version.name,
            flavor_id=_flavor(tx, asked, datastore, version),
            volume_gb=asked.volume.size,
            created_at=now,
            updated_at=now,
            access=(asked.access or AccessBody()).model_dump(),
        )
        tx.instances.add(instance)
        request = CreateInstance(
            operation_id=str(uuid.uuid4()),
            instance_id=instance.id,
            datastore=datastore.name,
            version=version.name,
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
        if idempotency_key:
            tx.idempotent_requests.remember(idempotency_key, fingerprint, instance.id)
        instance = tx.instances.get(instance.id)
    return {"instance": views.instance_detail(call, instance, datastore)}


@router.put("/instances/{instance_id}", status_code=202)
@router.patch("/instances/{instance_id}", status_code=202)
def update_instance(call: Asked, instance_id: str, body: UpdateBody) -> Response:
    """Rename. The other changes Trove knows are refused by name until they are here."""
    call.allow("instance:update")
    unknown = sorted(
        set(body.instance)
        - {"name", "replica_of", "slave_of", "configuration", "datastore_version", "access"}
    )
    if unknown:
        raise Invalid(f"Validation error: instance: unknown properties {', '.join(unknown)}.")
    later = sorted(set(body.instance) - {"name"})
    if later:
        raise Unsupported(f"Changing {', '.join(later)} of an instance is not supported yet.")
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        if "name" in body.instance:
            tx.instances.rename(instance.id, check_name(body.instance["name"]))
    return Response(status_code=202)


@router.delete("/instances/{instance_id}", status_code=202)
def delete_instance(call: Asked, instance_id: str) -> Response:
    """Begin to delete; the instance shows SHUTDOWN and then is not found."""
    call.allow("instance:delete")
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_delete(datetime.now(UTC))
        request = DeleteInstance(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)
    return Response(status_code=202)


def _page(call: Call, *, detailed: bool) -> dict[str, Any]:
    with call.read_project() as tx:
        page, more = tx.instances.page(call.limit(), call.marker)
    view = views.instance_detail if detailed else views.instance_summary
    newest_first = sorted(page, key=lambda instance: instance.created_at, reverse=True)
    answer: dict[str, Any] = {"instances": [view(call, one, call.datastore_of(one)) for one in newest_first]}
    if more:
        answer["links"] = call.next_link(page[-1].id)
    return answer


def _refuse_what_is_not_there(asked: NewInstance) -> None:
    if asked.replica_of or asked.slave_of:
        raise Unsupported("Replicas are not supported yet.")
    if asked.replica_count not in (None, 1):
        raise Invalid("replica_count needs replica_of.")
    if asked.restore_point:
        raise Unsupported("Restoring a backup is not supported yet.")
    if asked.configuration:
        raise Unsupported("Configuration groups are not supported yet.")
    if asked.modules:
        raise Unsupported("Modules are not supported.")


def _datastore(call: Call, asked: DatastoreBody) -> tuple[Datastore, Version]:
    """By name or id; a missing type or version is the default one."""
    datastore = find_datastore(asked.type or call.parts.default_datastore)
    wanted = asked.version or datastore.default_version
    for version in datastore.versions:
        if wanted in (version.name, version.id):
            if not version.active:
                raise Invalid(f"Version {wanted} of {datastore.name} is not offered any more.")
            return datastore, version
    offered = ", ".join(version.name for version in datastore.versions if version.active)
    raise Invalid(f"Datastore {datastore.name} has no version {wanted!r}: choose one of {offered}.")


def find_datastore(name_or_id: str) -> Datastore:
    """Raises NotFound."""
    for datastore in catalog.datastores().values():
        if name_or_id in (datastore.name, datastore.id):
            return datastore
    raise NotFound(
        f"Datastore {name_or_id!r} cannot be found: choose one of {', '.join(catalog.datastores())}."
    )


def _flavor(tx: Transaction, asked: NewInstance, datastore: Datastore, version: Version) -> str:
    reference = asked.flavor_ref
    if reference is None and asked.flavor is not None:
        given = asked.flavor.get("id") if isinstance(asked.flavor, dict) else asked.flavor
        reference = str(given).rstrip("/").rpartition("/")[2] if given is not None else None
    if reference is None:
        raise Invalid("Validation error: instance.flavorRef: the flavor must be given.")
    try:
        flavor = tx.flavors.get(reference)
    except NotFound as error:
        raise Invalid(error.sentence, code="flavor-not-found") from error
    check_flavor_holds(flavor, f"{datastore.name} {version.name}", version.min_memory_mb)
    return flavor.id
