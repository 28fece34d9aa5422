"""The first accounts of a new home."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from argosy.domain.identity import BUILT_IN_ROLES, Role
from argosy.identity.directory import Directory

# User, project of the same name, role.
_ACCOUNTS = (("demo", "member"), ("admin", "admin"))


def ensure_bootstrap(directory: Directory, keep: Callable[[Mapping[str, str]], None]) -> bool:
    """Make user and project `demo` and `admin`, unless somebody has the role `admin` already; False if so.

    `keep` is given the new passwords by user name, and must have stored them when it returns: it is called before
    the accounts exist, so a crash at any point costs nothing but another start. Where no administrator is left,
    for whatever reason, both accounts are made good again with new passwords. For one process at a time.
    """
    roles = _ensure_roles(directory)
    if directory.assignments(role_id=roles["admin"].id):
        return False
    passwords = {name: secrets.token_hex(12) for name, _ in _ACCOUNTS}
    keep(passwords)
    # The administrator's grant comes last: it says that all before it was done.
    for name, role in _ACCOUNTS:
        project = next((each for each in directory.projects() if each.name == name), None)
        project = project or directory.create_project(name)
        user = next((each for each in directory.users() if each.name == name), None)
        if user is None:
            user = directory.create_user(name, password=passwords[name], default_project_id=project.id)
        else:
            directory.change_user(user.id, password=passwords[name], enabled=True)
        directory.grant(user.id, project.id, roles[role].id)
    return True


def _ensure_roles(directory: Directory) -> dict[str, Role]:
    there = {role.name: role for role in directory.roles()}
    for name, description in BUILT_IN_ROLES.items():
        if name not in there:
            there[name] = directory.create_role(name, description=description)
    return there
