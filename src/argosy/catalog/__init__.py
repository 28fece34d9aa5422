"""The datastores Argosy knows, as data: one TOML file each, beside this module.

A file says what the datastore is called and can do, which names its engine accepts, what it guarantees,
and for each version where the software comes from. Code that drives it is in `engines/`.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from argosy.domain.datastore import Datastore, DebianSource, NameRule, Version, WheelSource


@cache
def datastores() -> dict[str, Datastore]:
    """Every datastore by name."""
    files = sorted(resources.files(__package__).iterdir(), key=lambda file: file.name)
    read = [tomllib.loads(file.read_text(encoding="utf-8")) for file in files if file.name.endswith(".toml")]
    return {stored["name"]: _datastore(stored) for stored in read}


def _datastore(stored: dict[str, Any]) -> Datastore:
    names = stored.get("names", {})
    return Datastore(
        name=stored["name"],
        title=stored["title"],
        engine=stored["engine"],
        port=stored["port"],
        default_version=stored["default_version"],
        versions=tuple(_version(stored, version) for version in stored["versions"]),
        capabilities=frozenset(stored["capabilities"]),
        database_names=_rule(names.get("database")),
        user_names=_rule(names.get("user")),
        passwords=_rule(names.get("password")),
        user_hosts=stored.get("user_hosts", False),
        root_name=stored.get("root_name", "root"),
        guarantees=tuple(stored.get("guarantees", [])),
    )


def _version(stored: dict[str, Any], version: dict[str, Any]) -> Version:
    sources: list[DebianSource | WheelSource] = []
    for source in version["sources"]:
        if "suite" in source:
            sources.append(
                DebianSource(source["suite"], tuple(source["packages"]), tuple(source.get("skip", [])))
            )
        else:
            sources.append(WheelSource(source["requirement"], source["root"]))
    return Version(
        datastore=stored["name"],
        name=version["name"],
        sources=tuple(sources),
        min_memory_mb=version.get("min_memory_mb", 64),
        active=version.get("active", True),
    )


def _rule(stored: dict[str, Any] | None) -> NameRule | None:
    if stored is None:
        return None
    return NameRule(**{**stored, "reserved": frozenset(stored.get("reserved", []))})
