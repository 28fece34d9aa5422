"""Keeping the accounts: projects, users, roles, who has which, and application credentials.

Who may do so is the caller's business. Whatever changes, `Identity` forgets what it remembered.
"""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from argosy.domain.errors import Forbidden, Invalid, NotFound
from argosy.domain.identity import (
    BUILT_IN_ROLES,
    ApplicationCredential,
    Assignment,
    Caller,
    Project,
    Role,
    User,
)
from argosy.identity.service import Identity
from argosy.identity.store import AccountStore

Found = TypeVar("Found")
_ID = re.compile("[0-9a-f]{32}")


class Directory:
    """Methods that take an id raise NotFound when there is nothing of that id, and NameTaken for a taken name."""

    def __init__(self, store: AccountStore, identity: Identity) -> None:
        self._store = store
        self.identity = identity

    # Projects

    def project(self, project_id: str) -> Project:
        return _found("project", project_id, self._store.project)

    def projects(self) -> list[Project]:
        return self._store.projects()

    def projects_of(self, user_id: str) -> list[Project]:
        """The enabled projects in which the user has a role."""
        return [project for project in self._store.projects_of(user_id) if project.enabled]

    def create_project(self, name: str, *, description: str = "", enabled: bool = True) -> Project:
        project = Project(id=_new_id(), name=name, description=description, enabled=enabled)
        self._store.add_project(project)
        return project

    def change_project(self, project_id: str, **changes: Any) -> Project:
        """`changes` are fields of Project. Disabling it ends the sessions in it."""
        project = replace(self.project(project_id), **changes)
        self._store.change_project(project)
        self.identity.accounts_changed()
        return project

    def delete_project(self, project_id: str) -> None:
        self.project(project_id)
        self._store.delete_project(project_id)
        self.identity.accounts_changed()

    # Users

    def user(self, user_id: str) -> User:
        return _found("user", user_id, self._store.user)

    def users(self) -> list[User]:
        return self._store.users()

    def create_user(
        self,
        name: str,
        *,
        password: str | None = None,
        email: str | None = None,
        description: str = "",
        default_project_id: str | None = None,
        enabled: bool = True,
    ) -> User:
        self._check_default_project(default_project_id)
        user = User(
            id=_new_id(),
            name=name,
            password_hash=None if password is None else self.identity.passwords.hash(password),
            email=email,
            description=description,
            default_project_id=default_project_id,
            enabled=enabled,
        )
        self._store.add_user(user)
        return user

    def change_user(self, user_id: str, *, password: str | None = None, **changes: Any) -> User:
        """`changes` are fields of User. A new password, or disabling the user, ends the user's sessions."""
        self._check_default_project(changes.get("default_project_id"))
        user = replace(self.user(user_id), **changes)
        if password is not None:
            user = replace(user, password_hash=self.identity.passwords.hash(password))
        self._store.change_user(user, end_sessions=password is not None or not user.enabled)
        self.identity.accounts_changed()
        return user

    def change_own_password(self, user_id: str, *, original: str, password: str, source: str) -> None:
        """Raises Unauthorized when `original` is not the user's password, or there is no such user."""
        self.identity.check_password(user_id, original, source)
        self.change_user(user_id, password=password)

    def delete_user(self, user_id: str) -> None:
        self.user(user_id)
        self._store.delete_user(user_id)
        self.identity.accounts_changed()

    # Roles

    def role(self, role_id: str) -> Role:
        return _found("role", role_id, self._store.role)

    def roles(self) -> list[Role]:
        return self._store.roles()

    def create_role(self, name: str, *, description: str = "") -> Role:
        role = Role(id=_new_id(), name=name, description=description)
        self._store.add_role(role)
        return role

    def change_role(self, role_id: str, **changes: Any) -> Role:
        """`changes` are fields of Role. Raises Forbidden for a new name for a role the policy speaks of."""
        before = self.role(role_id)
        role = replace(before, **changes)
        if role.name != before.name:
            _check_not_built_in(before)
        self._store.change_role(role)
        self.identity.accounts_changed()
        return role

    def delete_role(self, role_id: str) -> None:
        """Raises Forbidden for a role the policy speaks of."""
        _check_not_built_in(self.role(role_id))
        self._store.delete_role(role_id)
        self.identity.accounts_changed()

    def assignments(
        self, *, user_id: str | None = None, project_id: str | None = None, role_id: str | None = None
    ) -> list[Assignment]:
        return self._store.assignments(user_id=user_id, project_id=project_id, role_id=role_id)

    def roles_of(self, user_id: str, project_id: str) -> list[Role]:
        self.user(user_id)
        self.project(project_id)
        return self._store.roles_of(user_id, project_id)

    def grant(self, user_id: str, project_id: str, role_id: str) -> None:
        """Granting twice is granting once; sessions under way have the role as well."""
        assignment = self._assignment(user_id, project_id, role_id)
        self._store.grant(assignment)
        self.identity.accounts_changed()

    def has_role(self, user_id: str, project_id: str, role_id: str) -> bool:
        assignment = self._assignment(user_id, project_id, role_id)
        return bool(
            self._store.assignments(user_id=user_id, project_id=project_id, role_id=assignment.role_id)
        )

    def withdraw(self, user_id: str, project_id: str, role_id: str) -> None:
        """Ends the user's sessions in the project. Raises NotFound when the user does not have the role there."""
        found = self._store.withdraw(self._assignment(user_id, project_id, role_id))
        self.identity.accounts_changed()
        if not found:
            raise NotFound(f"User {user_id} does not have role {role_id} in project {project_id}.")

    # Application credentials

    def credential(self, user_id: str, credential_id: str) -> ApplicationCredential:
        credential = _found("application credential", credential_id, self._store.credential)
        if credential.user_id != user_id:
            raise _not_found("application credential", credential_id)
        return credential

    def credentials_of(self, user_id: str) -> list[ApplicationCredential]:
        return self._store.credentials_of(user_id)

    def create_credential(
        self,
        caller: Caller,
        name: str,
        *,
        roles: Sequence[tuple[str | None, str | None]] = (),
        secret: str | None = None,
        description: str = "",
        expires_at: datetime | None = None,
        unrestricted: bool = False,
    ) -> tuple[ApplicationCredential, str]:
        """A credential for the caller in the caller's project, and its secret, which is told this once.

        `roles` are pairs of id and name, either of them None; without any, all the caller has. Raises Forbidden
        for a role the caller does not have.
        """
        if not caller.project_id:
            raise Forbidden("An application credential belongs to a project: log in to one first.")
        if expires_at is not None and expires_at <= datetime.now(UTC):
            raise Invalid("expires_at must be in the future.")
        held = [
            role
            for role in self._store.roles_of(caller.user_id, caller.project_id)
            if role.name in caller.roles
        ]
        for role_id, role_name in roles:
            if not any(role_id in {None, role.id} and role_name in {None, role.name} for role in held):
                raise Forbidden(
                    f"You do not have role {role_name or role_id} in project {caller.project_name}."
                )
        asked = [
            role
            for role in held
            if not roles or any(role.id == role_id or role.name == name for role_id, name in roles)
        ]
        secret = secret or secrets.token_hex(32)
        credential = ApplicationCredential(
            id=_new_id(),
            user_id=caller.user_id,
            project_id=caller.project_id,
            name=name,
            secret_hash=self.identity.passwords.hash(secret),
            role_ids=tuple(role.id for role in asked),
            description=description,
            expires_at=expires_at,
            unrestricted=unrestricted,
        )
        self._store.add_credential(credential)
        return credential, secret

    def delete_credential(self, user_id: str, credential_id: str) -> None:
        """Ends the sessions it opened."""
        self.credential(user_id, credential_id)
        self._store.delete_credential(credential_id)
        self.identity.accounts_changed()

    def _check_default_project(self, project_id: str | None) -> None:
        if project_id is not None:
            try:
                self.project(project_id)
            except NotFound as error:
                raise Invalid(f"default_project_id: {error.sentence}") from error

    def _assignment(self, user_id: str, project_id: str, role_id: str) -> Assignment:
        return Assignment(self.user(user_id).id, self.project(project_id).id, self.role(role_id).id)


def _check_not_built_in(role: Role) -> None:
    if role.name in BUILT_IN_ROLES:
        raise Forbidden(
            f"Role {role.name!r} is built in, and the policy speaks of it: it keeps its name and stays."
        )


def _new_id() -> str:
    return uuid.uuid4().hex


def _found(what: str, record_id: str, look_up: Callable[[str], Found | None]) -> Found:
    # Clients ask by name first and expect to be told that there is no such id; and what is no id, such as text
    # with a NUL, PostgreSQL would refuse.
    record = look_up(record_id) if _ID.fullmatch(record_id) else None
    if record is None:
        raise _not_found(what, record_id)
    return record


def _not_found(what: str, record_id: str) -> NotFound:
    return NotFound(f"There is no {what} {record_id[:64]!r}.")
