"""Who is who: users, projects, roles, and the caller of a request.

The built-in accounts have one domain, the default one; Keystone's may have others.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

DOMAIN_ID = "default"
DOMAIN_NAME = "Default"

# What the policy's rules speak of.
BUILT_IN_ROLES = {
    "admin": "May do everything, in every project.",
    "member": "May do everything in the project.",
    "reader": "May look at everything in the project.",
    "service": "For other services; gives no right by itself.",
}


@dataclass(frozen=True)
class AccessRule:
    """What an application credential may ask of a service: a method, and paths.

    In `path`, `*` and `{name}` are one segment of it, and `**` is any rest (Keystone's manual, Application Credentials,
    Access Rules).
    """

    service: str
    method: str
    path: str

    def allows(self, service: str, method: str, path: str) -> bool:
        return (service, method) == (self.service, self.method) and bool(_paths(self.path).fullmatch(path))


@lru_cache(maxsize=1000)
def _paths(pattern: str) -> re.Pattern[str]:
    wild = {"**": ".*", "*": "[^/]+"}
    parts = re.split(r"(\{[^}]*\}|\*\*|\*)", pattern)
    return re.compile(
        "".join(wild.get(part, "[^/]+" if part.startswith("{") else re.escape(part)) for part in parts)
    )


@dataclass(frozen=True)
class Caller:
    """Who makes a request, and for which project; `project_id` is empty for a token without a scope.

    An empty project matches no project of a URL, so an unscoped caller owns nothing. Without `access_rules` (None)
    everything may be asked that the roles allow; with them, nothing that none of them names.
    """

    user_id: str
    user_name: str
    project_id: str
    project_name: str
    roles: frozenset[str]
    is_admin: bool
    user_domain_id: str = DOMAIN_ID
    project_domain_id: str = DOMAIN_ID
    # Not compared: they are about requests, not about who asks, of whom policy remembers what they may.
    access_rules: tuple[AccessRule, ...] | None = field(default=None, compare=False)

    def may_ask(self, service: str, method: str, path: str) -> bool:
        return self.access_rules is None or any(
            rule.allows(service, method, path) for rule in self.access_rules
        )


@dataclass(frozen=True)
class Project:
    id: str
    name: str
    description: str = ""
    enabled: bool = True


@dataclass(frozen=True)
class User:
    """`password_hash` is an argon2id string; None for a user who cannot log in with a password."""

    id: str
    name: str
    password_hash: str | None = field(default=None, repr=False)
    email: str | None = None
    description: str = ""
    default_project_id: str | None = None
    enabled: bool = True


@dataclass(frozen=True)
class Role:
    id: str
    name: str
    description: str = ""


@dataclass(frozen=True, order=True)
class Assignment:
    """A user has a role in a project."""

    user_id: str
    project_id: str
    role_id: str


@dataclass(frozen=True)
class ApplicationCredential:
    """Lets a program act for a user in one project, with some of the user's roles, without the password.

    Only an `unrestricted` one may make or delete application credentials itself.
    """

    id: str
    user_id: str
    project_id: str
    name: str
    secret_hash: str = field(repr=False)
    role_ids: tuple[str, ...]
    description: str = ""
    expires_at: datetime | None = None
    unrestricted: bool = False


@dataclass(frozen=True)
class Token:
    """What is kept of a token: `digest` is the SHA-256 of its text, in hex, and the text itself is nowhere.

    `methods` says how the login was made, as Keystone names it.
    """

    digest: str = field(repr=False)
    user_id: str
    project_id: str | None
    application_credential_id: str | None
    methods: tuple[str, ...]
    audit_id: str
    issued_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Session:
    """A token with those it speaks of, as they are now; the roles are the user's in the project."""

    token: Token
    user: User
    project: Project | None
    roles: tuple[Role, ...]
    credential: ApplicationCredential | None
