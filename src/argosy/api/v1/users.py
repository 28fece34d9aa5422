"""/instances/{id}/users, and which databases each may use."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body, DatabaseName, Name, UserBody
from argosy.domain.databases import (
    ANY_HOST,
    UserId,
    check_access,
    check_password,
    check_user_id,
    check_users,
)
from argosy.domain.datastore import Datastore
from argosy.domain.errors import AccessNotFound, Invalid, UserNotFound
from argosy.domain.instance import Instance
from argosy.rpc import messages

router = resource("users")

_USERS = "/instances/{instance_id}/users"
_USER = _USERS + "/{user:path}"


class UsersBody(Body):
    """`users`; openstacksdk sends one instead of a list."""

    users: list[UserBody] | UserBody


class UserChanges(Body):
    name: Name | None = None
    host: Name | None = None
    password: Name | None = Field(default=None, repr=False)


class ChangesBody(Body):
    user: UserChanges


class NewPassword(Body):
    name: Name
    password: Name = Field(repr=False)
    host: Name | None = None


class NewPasswordsBody(Body):
    users: list[NewPassword]


class AccessBody(Body):
    databases: list[DatabaseName]


@router.get(
    _USERS,
    response_model=shapes.Users,
    responses=faults(400, 404, 422, 503),
    openapi_extra=shapes.PAGED,
)
def list_users(call: Asked, instance_id: str) -> dict[str, Any]:
    """Users by name and host, up to 20 a page, without root and the server's own."""
    call.allow("instance:extension:user:index")
    call.limit()
    instance, _ = call.serving(instance_id, "users")
    listed = call.guest(instance, messages.ListUsers()).users
    return call.page("users", listed, lambda one: f"{one.name}@{one.host}", _view)


@router.post(_USERS, status_code=202, responses=faults(400, 404, 415, 422, 501, 503))
def create_users(call: Asked, instance_id: str, body: UsersBody) -> None:
    """Make users, all or none, with access to databases that are there."""
    call.allow("instance:extension:user:create")
    asked = body.users if isinstance(body.users, list) else [body.users]
    instance, datastore = call.serving(instance_id, "users")
    users = [user.to_domain() for user in asked]
    check_users(datastore, users)
    wanted = tuple(
        messages.NewUser(
            name=user.id.name, host=user.id.host, password=user.password, databases=user.databases
        )
        for user in users
    )
    if wanted:
        call.guest(instance, messages.CreateUsers(users=wanted))


@router.put(_USERS, status_code=202, responses=faults(400, 404, 415, 422, 503))
def change_passwords(call: Asked, instance_id: str, body: NewPasswordsBody) -> None:
    """New passwords for several users, all or none."""
    call.allow("instance:extension:user:update_all")
    instance, datastore = call.serving(instance_id, "users")
    changes = []
    for asked in body.users:
        user = UserId(asked.name, asked.host or ANY_HOST)
        _check_may_be(datastore, user)
        check_password(datastore, asked.password)
        changes.append(messages.NewPassword(user=_named(user), password=asked.password))
    if changes:
        call.guest(instance, messages.ChangePasswords(changes=tuple(changes)))


@router.get(_USER + "/databases", response_model=shapes.Databases, responses=faults(400, 404, 422, 503))
def list_access(call: Asked, instance_id: str, user: str) -> dict[str, Any]:
    """The databases a user may use."""
    call.allow("instance:extension:user_access:index")
    instance, datastore = call.serving(instance_id, "users")
    found = _get(call, instance, datastore, user)
    return {"databases": [{"name": name} for name in found.databases]}


@router.put(_USER + "/databases", status_code=202, responses=faults(400, 404, 415, 422, 503))
def grant_access(call: Asked, instance_id: str, user: str, body: AccessBody) -> None:
    """Let a user into more databases; access it has already stays."""
    call.allow("instance:extension:user_access:update")
    instance, datastore = call.serving(instance_id, "access")
    known = _parse(datastore, user)
    names = tuple(database.name for database in body.databases)
    check_access(datastore, names)
    call.guest(instance, messages.GrantAccess(user=_named(known), databases=names))


@router.delete(_USER + "/databases/{database:path}", status_code=202, responses=faults(400, 404, 422, 503))
def revoke_access(call: Asked, instance_id: str, user: str, database: str) -> None:
    """Take a user's access to a database away; effective at once."""
    call.allow("instance:extension:user_access:delete")
    instance, datastore = call.serving(instance_id, "access")
    known = _parse(datastore, user)
    try:
        check_access(datastore, [database])
    except Invalid as error:
        raise AccessNotFound(name=str(known), database=database[:255]) from error
    call.guest(instance, messages.RevokeAccess(user=_named(known), database=database))


# The paths below take slashes in a name, so they stand behind those that go on after it.


@router.get(_USER, response_model=shapes.ShownUser, responses=faults(400, 404, 422, 503))
def show_user(call: Asked, instance_id: str, user: str) -> dict[str, Any]:
    """A user, as `name` or `name@host`, with the databases it may use."""
    call.allow("instance:extension:user:show")
    instance, datastore = call.serving(instance_id, "users")
    return {"user": _view(_get(call, instance, datastore, user))}


@router.put(_USER, status_code=202, responses=faults(400, 404, 415, 422, 503))
def update_user(call: Asked, instance_id: str, user: str, body: ChangesBody) -> None:
    """Change a user's name, host or password, together or not at all."""
    call.allow("instance:extension:user:update")
    asked = body.user
    if asked.name is None and asked.host is None and asked.password is None:
        raise Invalid("Validation error: user: at least one of name, host and password must be given.")
    instance, datastore = call.serving(instance_id, "users")
    known = _parse(datastore, user)
    check_user_id(datastore, UserId(asked.name or known.name, asked.host or known.host))
    if asked.password is not None:
        check_password(datastore, asked.password)
    call.guest(
        instance,
        messages.UpdateUser(user=_named(known), name=asked.name, host=asked.host, password=asked.password),
    )


@router.post(_USER, status_code=202, responses=faults(400, 404, 415, 422, 501, 503))
def create_named_user(call: Asked, instance_id: str, user: str, body: UsersBody) -> None:  # noqa: ARG001 - its name is in the body
    """Make a user as openstacksdk does, which names it in the body too."""
    create_users(call, instance_id, body)


@router.delete(_USER, status_code=202, responses=faults(400, 404, 422, 503))
def delete_user(call: Asked, instance_id: str, user: str) -> None:
    """Delete a user and end its sessions; what it owned stays."""
    call.allow("instance:extension:user:delete")
    instance, datastore = call.serving(instance_id, "users")
    call.guest(instance, messages.DeleteUser(user=_named(_parse(datastore, user))))


def _parse(datastore: Datastore, segment: str) -> UserId:
    """The user a path names. Raises Invalid for a reserved name, UserNotFound for what can be none."""
    user = UserId.parse(segment)
    _check_may_be(datastore, user)
    return user


def _check_may_be(datastore: Datastore, user: UserId) -> None:
    names = datastore.user_names
    if names is not None and names.is_reserved(user.name):
        raise Invalid(f"User name {user.name!r} is reserved.")
    try:
        check_user_id(datastore, user)
    except Invalid as error:
        raise UserNotFound(name=user.name[:255], host=user.host[:255]) from error


def _get(call: Call, instance: Instance, datastore: Datastore, segment: str) -> messages.User:
    return call.guest(instance, messages.GetUser(user=_named(_parse(datastore, segment))))


def _named(user: UserId) -> messages.UserId:
    return messages.UserId(name=user.name, host=user.host)


def _view(user: messages.User) -> dict[str, Any]:
    return {
        "name": user.name,
        "host": user.host,
        "databases": [{"name": name} for name in user.databases],
    }
