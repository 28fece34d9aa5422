"""The datastores Argosy knows, as data: one TOML file each, beside this module, and what operators made of them.

A file says what the datastore is called and can do, which names its engine accepts, what it guarantees,
and for each version where the software comes from. Code that drives it is in `engines/`. Versions that
operators make, switch off or choose as default are rows of the metadata database; the process's main
lays them on top once, by `lay_over`, so that nobody who asks for the datastores can forget them.
"""

from __future__ import annotations

import threading
import time
import tomllib
from collections.abc import Callable, Iterable
from functools import cache
from importlib import resources
from typing import Any

from argosy.domain.datastore import Datastore, DebianSource, NameRule, Version, WheelSource
from argosy.domain.versions import Offer, offered


class _Overlay:
    """The datastores with what operators made of them, read again when that is `good_for_s` old."""

    def __init__(self, read: Callable[[], Iterable[Offer]], good_for_s: float) -> None:
        self._read = read
        self._good_for_s = good_for_s
        self._lock = threading.Lock()
        self._known: dict[str, Datastore] | None = None
        self._read_at = 0.0

    def datastores(self) -> dict[str, Datastore]:
        known = self._known
        if known is not None and time.monotonic() - self._read_at < self._good_for_s:
            return known
        # One reads, the others go on with what they have, if they have anything.
        if not self._lock.acquire(blocking=known is None):
            return known or {}
        try:
            if self._known is None or time.monotonic() - self._read_at >= self._good_for_s:
                self._read_at = time.monotonic()
                self._known = offered(files(), self._read())
            return self._known
        finally:
            self._lock.release()

    def forget(self) -> None:
        with self._lock:
            self._known = None


_laid_over: list[_Overlay] = []


def lay_over(read: Callable[[], Iterable[Offer]], good_for_s: float = 1.0) -> None:
    """Have `datastores` tell what operators made of the files, as `read` gives it; for the process's main."""
    _laid_over[:] = [_Overlay(read, good_for_s)]


def changed() -> None:
    """What operators made of it was changed by this process; others notice a moment later."""
    for overlay in _laid_over:
        overlay.forget()


def datastores() -> dict[str, Datastore]:
    """Every datastore by name, with the versions that are there now. One may have no version left."""
    return _laid_over[0].datastores() if _laid_over else files()


def version(datastore: str, name: str) -> tuple[Datastore, Version]:
    """A version and its datastore by their names, also one that another process has only just offered.

    Raises KeyError.
    """
    try:
        found = datastores()[datastore]
        return found, found.version(name)
    except KeyError:
        changed()
        found = datastores()[datastore]
        return found, found.version(name)


@cache
def files() -> dict[str, Datastore]:
    """What the files alone say."""
    there = sorted(resources.files(__package__).iterdir(), key=lambda file: file.name)
    read = [tomllib.loads(file.read_text(encoding="utf-8")) for file in there if file.name.endswith(".toml")]
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
        management_password=stored.get("management_password", True),
        root_name=stored.get("root_name", "root"),
        log_positions=stored.get("log_positions"),
        logs=tuple(stored.get("logs", [])),
        guarantees=tuple(stored.get("guarantees", [])),
        manager=stored["name"],
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
        upgrades_from=tuple(version.get("upgrades_from", ())),
    )


def _rule(stored: dict[str, Any] | None) -> NameRule | None:
    if stored is None:
        return None
    return NameRule(**{**stored, "reserved": frozenset(stored.get("reserved", []))})
