"""Moving an instance's data to another version, with a way back until the last moment.

Nothing is ever converted in place. The data is copied into a staging area on the same volume, the copy is
converted, and a server of the new version proves itself on it out of everybody's reach: the configuration
group's values, the accounts and the databases included. Only then is the copy *ready*, which a marker says.

    <volume>/data            what the instance runs on
    <volume>/upgrade/data    what the newer version will run on, while it is being made
    <volume>/data.previous   what the older version ran on, until the newer one serves
    etc/upgrade.json         the marker: from which software to which, and how far

From there the data follows the software that the agent is told to run (`settle`): the newer finds the marker
and puts the copy in place, the older puts back what was. The older data goes when the newer server serves
(`served`); before that no client has ever reached it, so going back loses nothing. See decision 15.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, TypeVar

from argosy import marks
from argosy.domain.errors import EngineError, Invalid, OutOfSpace
from argosy.engines import choices, staging
from argosy.engines.base import Configurable, Databases, Engine, Upgrades, Users
from argosy.engines.host import Host
from argosy.engines.process import ServerProcess
from argosy.engines.staging import Software

AREA = "upgrade"
REHEARSAL = "rehearsal"
REHEARSAL_MARK = {marks.ROLE: REHEARSAL}
SERVED = "served"
# Beyond a copy of the data: the newer version's own catalogue and its log.
_EXTRA_BYTES = 160 * 2**20
_MIB = 2**20

Say = Callable[[str], None]


class State(StrEnum):
    READY = "ready"  # the copy is whole, and a server of the newer version has run on it
    ABANDONED = "abandoned"  # the newer version must not run any more: it is going back


@dataclass(frozen=True)
class Marker:
    """`old` and `new` are the bundles, which tell two releases of one version apart."""

    old: str
    new: str
    state: State


class MayUpgrade(Upgrades, Engine, Protocol):
    """An engine that has the capability."""


Kind = TypeVar("Kind", bound=MayUpgrade)


def area(host: Host) -> Path:
    return host.data.parent / AREA


def previous(host: Host) -> Path:
    return host.data.with_name(f"{host.data.name}.previous")


def needs_conversion(host: Host, to: Software) -> bool:
    """Releases of one version run on the same files; between versions a copy is converted."""
    return host.version != to.version


def check(engine: MayUpgrade, to: Software, *, rehearsal: bool = False) -> None:
    """What can be known while the server serves. Raises Invalid or OutOfSpace, naming all that stands in the way."""
    newer = _engine(engine, _staged(engine.host, to))
    ours, theirs = _number(engine.program_version()), _number(newer.program_version())
    if theirs < ours:
        raise Invalid(
            f"The software of {to.version} is release {_dotted(theirs)}, and the instance runs {_dotted(ours)}: "
            "an older release may not read its data. Have the newer software pulled first."
        )
    if not needs_conversion(engine.host, to):
        return
    obstacles = engine.find_obstacles(newer.host, rehearsal=rehearsal)
    if obstacles:
        raise Invalid(
            " ".join(["The upgrade cannot be done as things are.", *obstacles]), code="not-upgradable"
        )
    check_room(engine)


def check_room(engine: Engine) -> None:
    """Raises OutOfSpace with the numbers when a copy does not fit on the volume."""
    volume = os.statvfs(engine.host.data)
    free = volume.f_bavail * volume.f_frsize
    needed = engine.used_bytes() + _EXTRA_BYTES
    if free < needed:
        raise OutOfSpace(
            f"The volume has {free // _MIB} MB free, and an upgrade needs {needed // _MIB} MB: a copy of the data and "
            f"{_EXTRA_BYTES // _MIB} MB. Resize the volume first."
        )


def prepare(engine: MayUpgrade, to: Software, say: Say) -> None:
    """With the server stopped: make the copy ready. Raises what stood in the way; then nothing is left of it."""
    host = engine.host
    clear(host)
    try:
        _build(engine, to, say)
        say("writing to disk")
        host.run_program(["sync", "--file-system", host.data.parent], timeout_s=3600, as_agent=True)
        _write(host, Marker(str(host.bundle), str(to.bundle), State.READY))
    except BaseException:
        clear(host)
        raise


def rehearse(engine: MayUpgrade, to: Software, say: Say) -> str:
    """The same on a copy that is made while the server serves, and thrown away. Returns what was found."""
    began = time.monotonic()
    clear(engine.host)
    try:
        took = _build(engine, to, say)
    finally:
        clear(engine.host)
    steps = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in took.items())
    return (
        f"The upgrade from {engine.host.version} to {to.version} worked on a copy of the data in "
        f"{time.monotonic() - began:.1f} s ({steps}), and every database and user was there afterwards."
    )


def settle(host: Host) -> None:
    """In an agent's first moments: have the data follow the software it runs. Safe to repeat after a crash.

    What is not of this software then is not started on: see `check_data`.
    """
    marker = _read(host)
    _end_rehearsal(host)
    if marker is None:
        # Either an unfinished copy, or what the newer version does not need any more.
        if host.data.exists():
            staging.remove(area(host))
            staging.remove(previous(host))
    elif str(host.bundle) == marker.new and marker.state is State.READY:
        _swap(host)
    elif str(host.bundle) == marker.old:
        _swap_back(host)
        _note_version(host)
        _marker_file(host).unlink(missing_ok=True)


def abandon(host: Host) -> None:
    """The newer version must not run any more, as it does not come up. Raises Invalid once it has served."""
    marker = _read(host)
    if marker is not None and marker.new == str(host.bundle):
        _write(host, replace(marker, state=State.ABANDONED))
    elif _ran(host) == host.version:
        raise Invalid("The newer version has served: its data is the instance's now.", code=SERVED)


def copy_files(host: Host, target: Path, *, timeout_s: float) -> None:
    """Copy the data directory's files as they lie there. Raises EngineError, as when one is gone meanwhile."""
    host.run_program(
        ["cp", "-a", "--reflink=auto", "--sparse=always", host.data, target],
        timeout_s=timeout_s,
        environment=REHEARSAL_MARK,
    )


def check_data(host: Host) -> None:
    """Before a start: raises EngineError unless the data is of this version, as far as is known."""
    ran = _ran(host)
    if ran is not None and ran != host.version and not _is_swapped(host):
        raise EngineError(
            f"The data was last used by version {ran} and was not upgraded to {host.version}: it is left alone."
        )


def served(host: Host) -> None:
    """The server is up: its data is the instance's, and what was before is not needed any more."""
    _note_version(host)
    marker = _read(host)
    if marker is None:
        return
    # The older one may serve again, when whoever upgraded was stopped half way: then the copy is out of date.
    if str(host.bundle) == marker.old or (str(host.bundle) == marker.new and marker.state is State.READY):
        _marker_file(host).unlink(missing_ok=True)
        staging.remove(area(host))
        staging.remove(previous(host))


def clear(host: Host) -> None:
    """Remove a staging area and everything that runs in it."""
    _end_rehearsal(host)
    _marker_file(host).unlink(missing_ok=True)
    staging.remove(area(host))
    staging.remove(previous(host))
    staging.remove(host.run / "client")
    staging.clear(host, AREA)


def _build(engine: MayUpgrade, to: Software, say: Say) -> dict[str, float]:
    """The copy, converted and proven; how long each part took, in seconds."""
    took: dict[str, float] = {}
    host = engine.host
    running = engine.server.pid is not None
    before = inventory(engine) if running else _remembered(host)
    room = staging.make_directory(host, area(host))

    def timed(what: str, doing: str, act: Callable[[], None]) -> None:
        say(doing)
        began = time.monotonic()
        act()
        took[what] = time.monotonic() - began

    newer = _engine(engine, _staged(host, to))
    staging.lay(newer.host, parameters=True)
    copy = room / "copy"
    timed("copying", "copying the data", lambda: engine.copy_data(copy))
    timed("converting", f"converting the copy to {to.version}", lambda: newer.convert(engine, copy))
    try:
        timed("proving", f"proving the copy with a server of {to.version}", lambda: _prove(newer))
        after = inventory(newer)
    finally:
        newer.stop()
        newer.server.kill()
    if before is not None and before != after and not (running and inventory(engine) != before):
        raise EngineError(
            f"After the upgrade the copy does not have what it had before: {_difference(before, after)}."
        )
    return took


def _prove(newer: MayUpgrade) -> None:
    try:
        newer.start()
    except EngineError as error:
        if choices.read(newer.host).parameters:
            raise EngineError(
                f"The newer version does not start with the configuration group's values: {error.sentence}"
            ) from error
        raise
    if isinstance(newer, Configurable):
        # Some start all the same, and leave out what they do not know any more.
        known = {one.name.lower() for one in newer.effective_parameters()}
        lost = [name for name in choices.read(newer.host).parameters if name.lower() not in known]
        if lost:
            raise EngineError(
                f"The newer version does not have the configuration group's values of {', '.join(sorted(lost))}: take "
                "them out of the group first, or detach it."
            )
    newer.finish_conversion()


def adopted(host: Host) -> None:
    """A server was found running: when it is the newer version's on its own data, it has served."""
    if _is_swapped(host):
        served(host)


def remember(engine: Engine) -> None:
    """Before the server is stopped: what must be there afterwards, and which version the data is of."""
    _note_version(engine.host)
    engine.host.write_file(
        engine.host.etc / "inventory.json", json.dumps(inventory(engine), indent=1), as_agent=True
    )


def _remembered(host: Host) -> dict[str, list[Any]] | None:
    try:
        stored: dict[str, list[Any]] = json.loads((host.etc / "inventory.json").read_text())
    except FileNotFoundError:
        return None
    return stored


def inventory(engine: Engine) -> dict[str, list[Any]]:
    """Which databases and users there are, and who may use what."""
    there: dict[str, list[Any]] = {}
    if isinstance(engine, Databases):
        there["databases"] = [one.name for one in engine.list_databases()]
    if isinstance(engine, Users):
        there["users"] = [[str(user.id), sorted(user.databases)] for user in engine.list_users()]
    return there


def _difference(before: dict[str, list[Any]], after: dict[str, list[Any]]) -> str:
    lost = [f"{kind} {one}" for kind, all_of in before.items() for one in all_of if one not in after[kind]]
    return f"missing {', '.join(lost)}" if lost else "there is more than before"


def _staged(host: Host, to: Software) -> Host:
    return staging.beside(host, AREA, "n", data=area(host) / "data", software=to)


def _engine(engine: Kind, place: Host) -> Kind:
    """The same kind of engine in a place of the staging area."""
    return type(engine)(place, ServerProcess(place, place.logs / "server.log", role=REHEARSAL))  # type: ignore[call-arg]


def older(engine: Kind, copy: Path) -> Kind:
    """The running version's engine on a copy of its data."""
    place = staging.beside(engine.host, AREA, "o", data=copy)
    staging.lay(place, parameters=False)
    return _engine(engine, place)


def _end_rehearsal(host: Host) -> None:
    """Kill whatever an earlier agent left running in the staging area."""
    ServerProcess(
        staging.beside(host, AREA, "n", data=area(host)), host.logs / "server.log", role=REHEARSAL
    ).kill()


def _swap(host: Host) -> None:
    staged = area(host) / "data"
    if staged.exists():
        if not previous(host).exists():
            host.data.rename(previous(host))
        staged.rename(host.data)
        staging.sync(host.data.parent)


def _is_swapped(host: Host) -> bool:
    """Whether what is in place is the copy that was made for this software."""
    marker = _read(host)
    return (
        marker is not None
        and marker.new == str(host.bundle)
        and marker.state is State.READY
        and previous(host).exists()
        and not (area(host) / "data").exists()
    )


def _swap_back(host: Host) -> None:
    if previous(host).exists():
        if host.data.exists():
            staging.remove(area(host))
            staging.make_directory(host, area(host))
            host.data.rename(area(host) / "data")
        previous(host).rename(host.data)
        staging.sync(host.data.parent)
    staging.remove(area(host))


def _marker_file(host: Host) -> Path:
    return host.etc / "upgrade.json"


def _read(host: Host) -> Marker | None:
    try:
        stored = json.loads(_marker_file(host).read_text())
    except FileNotFoundError:
        return None
    return Marker(stored["old"], stored["new"], State(stored["state"]))


def _write(host: Host, marker: Marker) -> None:
    host.write_file(_marker_file(host), json.dumps(asdict(marker), indent=1), as_agent=True)


def _ran(host: Host) -> str | None:
    """The version whose server last served this data; None for instances of a release that did not say."""
    with suppress(FileNotFoundError):
        return (host.etc / "data-version").read_text().strip()
    return None


def _note_version(host: Host) -> None:
    if _ran(host) != host.version:
        host.write_file(host.etc / "data-version", host.version, as_agent=True)


def _number(told: str) -> tuple[int, ...]:
    return tuple(int(part) for part in told.split(".") if part.isdigit())


def _dotted(number: tuple[int, ...]) -> str:
    return ".".join(map(str, number))
