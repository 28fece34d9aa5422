"""/instances/{id}/root: an administrator's account on the database server."""

from __future__ import annotations

import secrets
import string
from typing import Any

from pydantic import Field

from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body, Name
from argosy.domain.databases import check_password
from argosy.domain.datastore import Datastore
from argosy.domain.errors import ArgosyError, Kind, NotFound, Unsupported
from argosy.domain.instance import Instance
from argosy.rpc import messages

router = resource("root")

PASSWORD_LENGTH = 36


class RootBody(Body):
    password: Name | None = Field(default=None, repr=False)


@router.get(
    "/instances/{instance_id}/root",
    response_model=shapes.RootEnabled,
    responses=faults(404, 422, 501),
)
def show_root(call: Asked, instance_id: str) -> dict[str, Any]:
    """Whether root is enabled."""
    call.allow("instance:extension:root:index")
    instance, _ = _with_root(call, instance_id)
    return {"rootEnabled": instance.root_enabled}


@router.post(
    "/instances/{instance_id}/root",
    response_model=shapes.Root,
    responses=faults(400, 404, 415, 422, 501, 503),
)
def enable_root(call: Asked, instance_id: str, body: RootBody | None = None) -> dict[str, Any]:
    """Enable root with a password, the given one or a new one; again, and it gets a new password."""
    call.allow("instance:extension:root:create")
    instance, datastore = _with_root(call, instance_id)
    password = body.password if body is not None else None
    if password is None:
        password = _generated()
    else:
        check_password(datastore, password)
    # Written down before it is done: should we die in between, root can still be disabled.
    with call.write() as tx:
        tx.instances.enable_root(instance.id, by=call.caller.user_id)
    try:
        name = call.guest(instance, messages.EnableRoot(password=password)).name
    except ArgosyError as error:
        # A guest that did not answer may have done it all the same.
        if not instance.root_enabled and error.kind is not Kind.UNAVAILABLE:
            with call.write() as tx:
                tx.instances.disable_root(instance.id)
        raise
    _note(call, instance, "root.enabled", "Root was enabled, or given a new password.")
    return {"user": {"name": name, "password": password}}


@router.delete("/instances/{instance_id}/root", status_code=204, responses=faults(404, 422, 501, 503))
def disable_root(call: Asked, instance_id: str) -> None:
    """Disable root and end its sessions."""
    call.allow("instance:extension:root:delete")
    instance, _ = _with_root(call, instance_id)
    if not instance.root_enabled:
        raise NotFound(f"Root is not enabled on instance {instance.id}.", code="root-not-enabled")
    call.guest(instance, messages.DisableRoot())
    with call.write() as tx:
        tx.instances.disable_root(instance.id)
    _note(call, instance, "root.disabled", "Root was disabled.")


def _with_root(call: Call, instance_id: str) -> tuple[Instance, Datastore]:
    instance = call.instance(instance_id)
    datastore = call.datastore_of(instance)
    if "root" not in datastore.capabilities:
        raise Unsupported(f"{datastore.title} has no root account that could be enabled.")
    instance.check_serves(call.now)
    return instance, datastore


def _generated() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(PASSWORD_LENGTH))


def _note(call: Call, instance: Instance, kind: str, message: str) -> None:
    with call.write() as tx:
        tx.events.add(instance.project_id, instance.id, kind, message, call.caller.user_name)
