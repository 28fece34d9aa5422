"""/backup_strategies: in which container backups are kept, by instance or for the whole project."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.backups import check_container
from argosy.api.v1.bodies import Body, Name, Reference
from argosy.domain.backup import Strategy
from argosy.domain.errors import Forbidden
from argosy.metadata.backup_strategies import PROJECT

router = resource("backups")


class NewStrategy(Body, extra="forbid"):
    swift_container: Name
    instance_id: Reference | None = None


class NewStrategyBody(Body):
    backup_strategy: NewStrategy


@router.get(
    "/backup_strategies",
    response_model=shapes.BackupStrategies,
    responses=faults(400),
    openapi_extra=shapes.OF_AN_INSTANCE_OR_PROJECT,
)
def list_strategies(call: Asked) -> dict[str, Any]:
    """The project's own has no instance."""
    call.allow("backup_strategy:index")
    project_id = _project(call)
    with call.read() as tx:
        found = tx.backup_strategies.of(project_id, call.asks("instance_id"))
    return {"backup_strategies": [_view(call, one) for one in found]}


@router.post(
    "/backup_strategies",
    status_code=202,
    response_model=shapes.ShownBackupStrategy,
    responses=faults(400, 404, 415),
)
def set_strategy(call: Asked, body: NewStrategyBody) -> dict[str, Any]:
    """Make a strategy, or replace it; without an instance it is the project's."""
    call.allow("backup_strategy:create")
    asked = body.backup_strategy
    check_container(asked.swift_container, "backup_strategy.swift_container")
    with call.write() as tx:
        strategy = Strategy(call.project_id, PROJECT, asked.swift_container)
        if asked.instance_id is not None:
            check_instance_id(asked.instance_id)
            instance = tx.instances.get(asked.instance_id)
            strategy = Strategy(instance.project_id, instance.id, asked.swift_container)
        tx.backup_strategies.set(strategy)
    return {"backup_strategy": _view(call, strategy)}


@router.delete(
    "/backup_strategies",
    status_code=202,
    responses=faults(400),
    openapi_extra=shapes.OF_AN_INSTANCE_OR_PROJECT,
)
def delete_strategy(call: Asked) -> None:
    """Without an instance the project's. One that is not there is no error."""
    call.allow("backup_strategy:delete")
    project_id = _project(call)
    with call.write() as tx:
        tx.backup_strategies.delete(project_id, call.asks("instance_id") or PROJECT)


def _project(call: Call) -> str:
    """Raises Forbidden for another project's, unless an administrator asks."""
    asked = call.asks("project_id") or call.project_id
    if asked != call.project_id and not call.caller.is_admin:
        raise Forbidden("Only an administrator may name another project.")
    return asked


def _view(call: Call, strategy: Strategy) -> dict[str, Any]:
    return {
        "project_id": strategy.project_id,
        "instance_id": strategy.instance_id,
        "backend": call.parts.backups.kind,
        "swift_container": strategy.container,
    }
