"""The service catalog: where a client finds us. Every client looks the database up by its type, `database`."""

from __future__ import annotations

import uuid
from typing import Any


def catalog(base_url: str, region: str, project_id: str) -> list[dict[str, Any]]:
    """Keystone's `catalog` list; `base_url` has no trailing slash. Nothing to offer without a project."""
    if not project_id:
        return []
    return [
        _service("identity", "keystone", f"{base_url}/identity/v3", region),
        _service("database", "trove", f"{base_url}/v1.0/{project_id}", region),
        _service("object-store", "swift", f"{base_url}/swift/v1/AUTH_{project_id}", region),
    ]


def _service(kind: str, name: str, url: str, region: str) -> dict[str, Any]:
    return {
        "id": _stable_id(kind),
        "type": kind,
        "name": name,
        "endpoints": [
            {
                "id": _stable_id(f"{kind}-{interface}-{region}"),
                "interface": interface,
                "region": region,
                "region_id": region,
                "url": url,
            }
            for interface in ("public", "internal", "admin")
        ],
    }


def _stable_id(name: str) -> str:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"argosy:{name}").hex
