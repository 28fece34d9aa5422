"""Putting an instance's data to what a backup has, beside what it has now, with a way back until the last moment.

    <volume>/data            what the instance runs on; not there yet for one that is made of a backup
    <volume>/restore/data    what it will run on, while it is being made
    <volume>/data.replaced   what it ran on, until the restored server serves
    etc/restore.json         the marker: the restored data is whole, and a server has proven itself on it

The restored data is unpacked, brought forward by the log and given its users out of everybody's reach, so whatever
can fail fails before the instance is touched. From the marker on there is one way only, forward: whoever finds it
finishes the exchange (`settle`, `exchange`). Only a server that will not start brings the former data back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from argosy import marks
from argosy.domain.errors import EngineError, OutOfSpace
from argosy.engines import staging
from argosy.engines.backups import BackUps, KeepsAccounts, Log, ProvesByItself, Say, Stored
from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.process import ServerProcess

AREA = "restore"
MARK = {marks.ROLE: AREA}
_EXTRA_BYTES = 64 * 2**20
_MIB = 2**20
_LEAST_MB = 128


class MayRestore(BackUps, Engine, Protocol):
    """An engine that has the capability."""


Kind = TypeVar("Kind", bound=MayRestore)


def is_ready(host: Host, restore_id: str) -> bool:
    """Whether this restore has come so far that the data only waits to be put in place."""
    marker = _read(host)
    return marker is not None and marker["id"] == restore_id


def done(host: Host, restore_id: str) -> dict[str, Any] | None:
    """What there was to tell of this restore, when it is the last that was finished."""
    last = _load(host.etc / "restored.json")
    return None if last is None or last.pop("id") != restore_id else last


def check_room(host: Host, needed_bytes: int) -> None:
    """Raises OutOfSpace with the numbers when the restored data does not fit beside what is there."""
    volume = os.statvfs(host.data.parent)
    free, needed = volume.f_bavail * volume.f_frsize, needed_bytes + _EXTRA_BYTES
    if free < needed:
        raise OutOfSpace(
            f"The volume has {free // _MIB} MB free and the restore needs about {needed // _MIB} MB: "
            "make it larger first."
        )


def prepare(
    engine: MayRestore,
    restore_id: str,
    chain: Sequence[Stored],
    log: Log | None,
    accounts: str | None,
    say: Say,
) -> None:
    """Make the restored data ready. Raises what stood in the way; then nothing is left of it."""
    host = engine.host
    clear(host)
    try:
        staging.make_directory(host, area(host))
        place = _place(host)
        if host.data.exists():
            # The instance's own server has its memory, and goes on meanwhile.
            place = replace(place, memory_mb=max(_LEAST_MB, host.memory_mb // 4))
        staging.lay(place, parameters=True)
        restored = _engine(engine, place)
        say("unpacking the backup")
        facts = restored.restore(chain, log, say)
        remarks = _prove(restored, accounts, say)
        say("writing to disk")
        host.run_program(["sync", "--file-system", host.data.parent], timeout_s=3600, as_agent=True)
        _save(host, _marker_file(host), {"id": restore_id, "facts": dict(facts), "remarks": remarks})
    except BaseException:
        clear(host)
        raise


def exchange(host: Host) -> None:
    """With the server stopped: put the restored data in the place of what was there. Safe to repeat."""
    staged = area(host) / "data"
    if staged.exists():
        if host.data.exists() and not replaced(host).exists():
            host.data.rename(replaced(host))
        staged.rename(host.data)
        staging.sync(host.data.parent)


def give_up(host: Host) -> None:
    """With the server stopped: put back what was there, if anything was."""
    if replaced(host).exists():
        staging.remove(host.data)
        replaced(host).rename(host.data)
        staging.sync(host.data.parent)
    clear(host)


def finish(host: Host) -> dict[str, Any]:
    """The restored server serves: what was before is not needed any more.

    Returns what there is to tell: the engine's `facts`, and `remarks`.
    """
    marker = _read(host)
    if marker is not None:
        # Before the marker goes: a job that is begun again must not restore a second time.
        _save(host, host.etc / "restored.json", marker)
    staging.remove(replaced(host))
    clear(host)
    return {key: value for key, value in (marker or {}).items() if key != "id"}


def settle(host: Host) -> None:
    """In an agent's first moments: finish an exchange that was begun. What was only being made, its job makes anew."""
    if _read(host) is None:
        clear(host)
    elif replaced(host).exists():
        exchange(host)


def clear(host: Host) -> None:
    """Remove the staging area and everything that runs in it."""
    _end_programs(host)
    _marker_file(host).unlink(missing_ok=True)
    staging.remove(area(host))
    staging.clear(host, AREA)


def area(host: Host) -> Path:
    return host.data.parent / AREA


def replaced(host: Host) -> Path:
    return host.data.with_name(f"{host.data.name}.replaced")


def _prove(restored: MayRestore, accounts: str | None, say: Say) -> list[str]:
    if isinstance(restored, ProvesByItself):
        return restored.prove(accounts, say)
    say("proving the restored data with a server of its own")
    remarks: list[str] = []
    try:
        restored.start()
        if accounts is not None and isinstance(restored, KeepsAccounts):
            remarks = restored.load_accounts(accounts)
    except EngineError as error:
        raise EngineError(f"A server does not run on the restored data: {error.sentence}") from error
    finally:
        restored.stop()
        restored.server.kill()
    return remarks


def _place(host: Host) -> Host:
    return staging.beside(host, AREA, "n", data=area(host) / "data")


def _engine(engine: Kind, place: Host) -> Kind:
    """The same kind of engine in the staging area."""
    return type(engine)(place, ServerProcess(place, place.logs / "server.log", role=AREA))  # type: ignore[call-arg]


def _end_programs(host: Host) -> None:
    """Kill whatever an earlier agent left running in the staging area."""
    ServerProcess(_place(host), host.logs / "server.log", role=AREA).kill()


def _marker_file(host: Host) -> Path:
    return host.etc / "restore.json"


def _read(host: Host) -> dict[str, Any] | None:
    return _load(_marker_file(host))


def _load(file: Path) -> dict[str, Any] | None:
    try:
        stored: dict[str, Any] = json.loads(file.read_text())
    except FileNotFoundError:
        return None
    return stored


def _save(host: Host, file: Path, marker: dict[str, Any]) -> None:
    host.write_file(file, json.dumps(marker, indent=1), as_agent=True)
