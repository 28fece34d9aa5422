"""What clients get, in Keystone's shapes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from argosy.domain.identity import (
    DOMAIN_ID,
    DOMAIN_NAME,
    ApplicationCredential,
    Assignment,
    Project,
    Role,
    Session,
    User,
)

DOMAIN = {"id": DOMAIN_ID, "name": DOMAIN_NAME}


def date(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def version(url: str) -> dict[str, Any]:
    media = {"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}
    return {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": f"{url}/"}],
        "media-types": [media],
    }


def token(session: Session, catalog: list[dict[str, Any]] | None) -> dict[str, Any]:
    kept, user = session.token, session.user
    shown: dict[str, Any] = {
        "methods": list(kept.methods),
        "issued_at": date(kept.issued_at),
        "expires_at": date(kept.expires_at),
        "audit_ids": [kept.audit_id],
        "user": {"id": user.id, "name": user.name, "domain": DOMAIN, "password_expires_at": None},
    }
    if session.project is not None:
        shown["project"] = {"id": session.project.id, "name": session.project.name, "domain": DOMAIN}
        shown["is_domain"] = False
        shown["roles"] = [{"id": role.id, "name": role.name} for role in session.roles]
        if catalog is not None:
            shown["catalog"] = catalog
    if session.credential is not None:
        restricted = not session.credential.unrestricted
        shown["application_credential"] = {
            "id": session.credential.id,
            "name": session.credential.name,
            "restricted": restricted,
        }
    return {"token": shown}


def old_access(text: str, session: Session, catalog: list[dict[str, Any]]) -> dict[str, Any]:
    """A token as Keystone's v2.0 showed it, one row of URLs a region."""
    kept: dict[str, Any] = {
        "id": text,
        "issued_at": date(session.token.issued_at),
        "expires": session.token.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if session.project is not None:
        kept["tenant"] = {"id": session.project.id, "name": session.project.name, "enabled": True}
    services = []
    for service in catalog:
        urls = {f"{each['interface']}URL": each["url"] for each in service["endpoints"]}
        endpoint = {"id": service["id"], "region": service["endpoints"][0]["region"], **urls}
        services.append({"type": service["type"], "name": service["name"], "endpoints": [endpoint]})
    roles = [{"name": role.name} for role in session.roles]
    user = {"id": session.user.id, "name": session.user.name, "username": session.user.name, "roles": roles}
    return {"access": {"token": kept, "user": user, "serviceCatalog": services}}


def domain(url: str) -> dict[str, Any]:
    return {
        **DOMAIN,
        "description": "The only domain.",
        "enabled": True,
        "tags": [],
        "options": {},
        "links": {"self": f"{url}/domains/{DOMAIN_ID}"},
    }


def project(shown: Project, url: str) -> dict[str, Any]:
    return {
        "id": shown.id,
        "name": shown.name,
        "description": shown.description,
        "enabled": shown.enabled,
        "domain_id": DOMAIN_ID,
        "parent_id": DOMAIN_ID,
        "is_domain": False,
        "tags": [],
        "options": {},
        "links": {"self": f"{url}/projects/{shown.id}"},
    }


def user(shown: User, url: str) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": shown.id,
        "name": shown.name,
        "description": shown.description,
        "enabled": shown.enabled,
        "domain_id": DOMAIN_ID,
        "password_expires_at": None,
        "options": {},
        "links": {"self": f"{url}/users/{shown.id}"},
    }
    if shown.email is not None:
        view["email"] = shown.email
    if shown.default_project_id is not None:
        view["default_project_id"] = shown.default_project_id
    return view


def role(shown: Role, url: str) -> dict[str, Any]:
    return {
        "id": shown.id,
        "name": shown.name,
        "description": shown.description,
        "domain_id": None,
        "options": {},
        "links": {"self": f"{url}/roles/{shown.id}"},
    }


def assignment(
    shown: Assignment, url: str, names: tuple[dict[str, User], dict[str, Project], dict[str, Role]] | None
) -> dict[str, Any]:
    """`names` are users, projects and roles by id, for a list with names."""
    who: dict[str, Any] = {"id": shown.user_id}
    where: dict[str, Any] = {"id": shown.project_id}
    what: dict[str, Any] = {"id": shown.role_id}
    if names is not None:
        users, projects, roles = names
        who |= {"name": users[shown.user_id].name, "domain": DOMAIN}
        where |= {"name": projects[shown.project_id].name, "domain": DOMAIN}
        what |= {"name": roles[shown.role_id].name}
    link = f"{url}/projects/{shown.project_id}/users/{shown.user_id}/roles/{shown.role_id}"
    return {"user": who, "scope": {"project": where}, "role": what, "links": {"assignment": link}}


def credential(
    shown: ApplicationCredential, roles: Sequence[Role], url: str, *, secret: str | None = None
) -> dict[str, Any]:
    """`secret` is shown once, when the credential is made."""
    view: dict[str, Any] = {
        "id": shown.id,
        "name": shown.name,
        "description": shown.description or None,
        "project_id": shown.project_id,
        "user_id": shown.user_id,
        "expires_at": None if shown.expires_at is None else shown.expires_at.strftime("%Y-%m-%dT%H:%M:%S.%f"),
        "unrestricted": shown.unrestricted,
        "roles": [
            {"id": each.id, "name": each.name, "domain_id": None}
            for each in roles
            if each.id in shown.role_ids
        ],
        "access_rules": [],
        "links": {"self": f"{url}/users/{shown.user_id}/application_credentials/{shown.id}"},
    }
    if secret is not None:
        view["secret"] = secret
    return view


def listed(key: str, items: list[dict[str, Any]], url: str) -> dict[str, Any]:
    return {key: items, "links": {"self": url, "next": None, "previous": None}}
