"""The home's clouds.yaml: how `openstack`, `argosy` and every other client of OpenStack log in here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from argosy.files import write_file

CLOUDS = {"argosy": "demo", "argosy-admin": "admin"}


def path(home: Path) -> Path:
    return home / "clouds.yaml"


def write(home: Path, endpoint: str, region: str, passwords: Mapping[str, str]) -> None:
    """Write it with the passwords of the first accounts, readable by its owner alone."""
    clouds = {cloud: _cloud(endpoint, region, user, passwords[user]) for cloud, user in CLOUDS.items()}
    write_file(path(home), yaml.safe_dump({"clouds": clouds}, sort_keys=False), 0o600)


def move(home: Path, endpoint: str, region: str) -> None:
    """Point its clouds to where the API is now; what else is in it stays."""
    try:
        stored = yaml.safe_load(path(home).read_text())
    except FileNotFoundError:
        return
    for cloud in CLOUDS:
        if cloud in stored["clouds"]:
            stored["clouds"][cloud]["auth"]["auth_url"] = _auth_url(endpoint)
            stored["clouds"][cloud]["region_name"] = region
    write_file(path(home), yaml.safe_dump(stored, sort_keys=False), 0o600)


def _cloud(endpoint: str, region: str, user: str, password: str) -> dict[str, Any]:
    return {
        "auth": {
            "auth_url": _auth_url(endpoint),
            "username": user,
            "password": password,
            "project_name": user,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        },
        "region_name": region,
        "identity_api_version": "3",
    }


def _auth_url(endpoint: str) -> str:
    return f"{endpoint}/identity/v3"
