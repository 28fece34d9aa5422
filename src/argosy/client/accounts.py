"""Users, projects and roles, through the Keystone v3 routes beside the API. Most of it is for administrators."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from argosy.client.errors import Ambiguous, KeptByKeystone, NotFound
from argosy.client.session import Session

_ID = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True)
class Assignment:
    """A role that a user has in a project, by their names."""

    user: str
    project: str
    role: str


class Accounts:
    """`what` below is one of users, projects, roles. Changing them raises KeptByKeystone where they are not Argosy's."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def check_ours(self) -> None:
        """Raises KeptByKeystone where a Keystone knows the users: reading there is fine, changing is its own clients'."""
        if not self._are_ours:
            raise KeptByKeystone

    @cached_property
    def _are_ours(self) -> bool:
        # A Keystone may well be reached as /identity/v3 of some host; only Argosy's own is beside its API.
        try:
            self._session.send("GET", f"{self._session.server_url}/identity/v3")
        except NotFound:
            return False
        return True

    def all(self, what: str) -> list[dict[str, Any]]:
        """As Keystone shows them, by name."""
        shown = self._session.send("GET", f"{self._session.identity_url}/{what}")[what]
        return sorted(shown, key=lambda each: str(each["name"]))

    def find(self, what: str, name_or_id: str) -> dict[str, Any]:
        """Raises NotFound, or Ambiguous."""
        there = self.all(what)
        called = [each for each in there if each["id"] == name_or_id]
        called = called or [each for each in there if each["name"] == name_or_id]
        if len(called) > 1:
            raise Ambiguous(what.removesuffix("s"), name_or_id, [each["id"] for each in called])
        if not called:
            raise NotFound(f"No {what.removesuffix('s')} has the name or id {name_or_id!r}.")
        return called[0]

    def project_id(self, name_or_id: str) -> str:
        """Of a project, or of one that is gone: what belongs to it may still be there. Raises NotFound, or Ambiguous."""
        try:
            return str(self.find("projects", name_or_id)["id"])
        except NotFound:
            if _ID.fullmatch(name_or_id):
                return name_or_id
            raise

    def create(self, what: str, name: str, **more: Any) -> dict[str, Any]:
        self.check_ours()
        one = what.removesuffix("s")
        body = {one: {"name": name, **{key: value for key, value in more.items() if value is not None}}}
        made: dict[str, Any] = self._session.send("POST", f"{self._session.identity_url}/{what}", body)[one]
        return made

    def delete(self, what: str, name_or_id: str) -> None:
        self.check_ours()
        found = self.find(what, name_or_id)
        self._session.send("DELETE", f"{self._session.identity_url}/{what}/{found['id']}")

    def set_password(self, user: str, password: str) -> None:
        self.check_ours()
        found = self.find("users", user)
        body = {"user": {"password": password}}
        self._session.send("PATCH", f"{self._session.identity_url}/users/{found['id']}", body)

    def grant(self, user: str, project: str, role: str) -> None:
        """Give a user a role in a project; having it already is fine."""
        self.check_ours()
        self._session.send("PUT", self._assignment(user, project, role))

    def revoke(self, user: str, project: str, role: str) -> None:
        self.check_ours()
        self._session.send("DELETE", self._assignment(user, project, role))

    def assignments(self) -> list[Assignment]:
        """Every role of every user."""
        url = f"{self._session.identity_url}/role_assignments"
        shown = self._session.send("GET", url, query={"include_names": "true"})["role_assignments"]
        found = [
            Assignment(each["user"]["name"], each["scope"]["project"]["name"], each["role"]["name"])
            for each in shown
        ]
        return sorted(found, key=lambda each: (each.user, each.project, each.role))

    def _assignment(self, user: str, project: str, role: str) -> str:
        user_id = self.find("users", user)["id"]
        project_id = self.find("projects", project)["id"]
        role_id = self.find("roles", role)["id"]
        return f"{self._session.identity_url}/projects/{project_id}/users/{user_id}/roles/{role_id}"
