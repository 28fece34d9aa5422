"""/instances/{id}/databases."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body, DatabaseBody
from argosy.domain.databases import check_databases
from argosy.domain.errors import DatabaseNotFound, Invalid, Unsupported
from argosy.rpc import messages

router = resource("databases")


class DatabasesBody(Body):
    """`databases`, or openstacksdk's `database` of one."""

    databases: list[DatabaseBody] | None = None
    database: DatabaseBody | None = None


@router.get(
    "/instances/{instance_id}/databases",
    response_model=shapes.Databases,
    responses=faults(400, 404, 422, 503),
    openapi_extra=shapes.PAGED,
)
def list_databases(call: Asked, instance_id: str) -> dict[str, Any]:
    """Databases by name, up to 20 a page, without the server's own."""
    call.allow("instance:extension:database:index")
    call.limit()
    instance, _ = call.serving(instance_id, "databases")
    listed = call.guest(instance, messages.ListDatabases()).databases
    return call.page("databases", listed, lambda one: one.name, lambda one: {"name": one.name})


@router.post(
    "/instances/{instance_id}/databases",
    status_code=202,
    responses=faults(400, 404, 415, 422, 503),
)
def create_databases(call: Asked, instance_id: str, body: DatabasesBody) -> None:
    """Make databases, all or none."""
    call.allow("instance:extension:database:create")
    if body.databases is None and body.database is None:
        raise Invalid("Validation error: databases: it must be given.")
    asked = [*(body.databases or []), *([body.database] if body.database else [])]
    instance, datastore = call.serving(instance_id, "databases")
    check_databases(datastore, [database.to_domain() for database in asked])
    if asked:
        wanted = tuple(messages.Database(**database.model_dump()) for database in asked)
        call.guest(instance, messages.CreateDatabases(databases=wanted))


@router.get("/instances/{instance_id}/databases/{database:path}", responses=faults(404, 501))
def show_database(call: Asked, instance_id: str, database: str) -> None:  # noqa: ARG001 - Trove's path
    """Trove never had it, and neither have we: 501."""
    call.allow("instance:extension:database:show")
    call.instance(instance_id)
    raise Unsupported("A single database is not shown: list them.")


@router.delete(
    "/instances/{instance_id}/databases/{database:path}",
    status_code=202,
    responses=faults(400, 404, 422, 503),
)
def delete_database(call: Asked, instance_id: str, database: str) -> None:
    """Delete a database and what is in it; sessions in it end."""
    call.allow("instance:extension:database:delete")
    instance, datastore = call.serving(instance_id, "databases")
    names = datastore.database_names
    if names is not None and names.is_reserved(database):
        raise Invalid(f"Database {database!r} is the server's own and stays.")
    try:
        if names is not None:
            names.check(database, "database")
    except Invalid as error:
        raise DatabaseNotFound(name=database[:255]) from error
    call.guest(instance, messages.DeleteDatabase(name=database))
