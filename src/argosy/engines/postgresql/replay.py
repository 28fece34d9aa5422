"""Bringing restored data forward by archived log, to a time, a position or the log's end (manual, 26.3)."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from argosy.domain.errors import ArgosyError, EngineError, OutOfSpace
from argosy.engines import staging
from argosy.engines.backups import CONSISTENT_AT, LOG_FROM, POSITION, Facts, Log, Say, Segment
from argosy.engines.host import Host
from argosy.engines.postgresql import configuration, lsn
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import Sessions
from argosy.engines.process import ServerProcess

_AHEAD = 3  # segments fetched before they are asked for
_PATIENCE_S = 24 * 3600.0
_POLL_S = 0.02
# The server's words when nothing in the log came after the target (source: xlogrecovery.c).
_TOO_SHORT = "recovery ended before configured recovery target was reached"
_NO_ROOM = "No space left on device"
# Those of the settings that may have been altered by root, and would change what is recovered to or run programs.
_NEUTRAL = (
    "recovery_target",
    "recovery_target_name",
    "recovery_target_xid",
    "recovery_target_time",
    "recovery_target_lsn",
    "recovery_end_command",
    "archive_cleanup_command",
    "primary_conninfo",
    "primary_slot_name",
)


class Target:
    """What of a log to apply to a backup: `segments` follow each other from where the backup ends."""

    def __init__(self, log: Log, facts: Facts) -> None:
        """Raises Invalid for a position that is none; EngineError when the log does not lead there from the backup."""
        self.log = log
        self.position = None if log.to_position is None else lsn.number(log.to_position)
        self.consistent_at = datetime.fromisoformat(facts[CONSISTENT_AT])
        self._check_backup(facts)
        log_from = int(facts[LOG_FROM])
        self.segments = [segment for segment in log.segments if segment.ends > log_from]
        self.ends = self._checked_end(log_from)
        if self.position is not None and self.position > self.ends:
            raise EngineError(
                f"The archived log does not reach {log.to_position}: it ends at {lsn.text(self.ends)}."
            )

    def settings(self) -> dict[str, str]:
        if self.log.to_position is not None:
            # A position is the end of what is wanted: the record that begins there is not.
            return {"recovery_target_lsn": self.log.to_position, "recovery_target_inclusive": "off"}
        if self.log.to_time is not None:
            moment = self.log.to_time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
            return {"recovery_target_time": moment, "recovery_target_inclusive": "on"}
        return {}

    def _check_backup(self, facts: Facts) -> None:
        """Raises EngineError for a target that the backup is past."""
        to_time = self.log.to_time
        if to_time is not None and to_time < self.consistent_at:
            raise EngineError(
                f"The backup has the state of {_shown(self.consistent_at)}, which is after {_shown(to_time)}: restore an "
                "earlier one."
            )
        if self.position is not None and self.position < lsn.number(facts[POSITION]):
            raise EngineError(
                f"The backup is past {self.log.to_position}, it has the state of {facts[POSITION]}: restore an earlier one."
            )

    def _checked_end(self, log_from: int) -> int:
        """How far the log leads. Raises EngineError for a gap before the target, or before an end that is asked for."""
        end = log_from
        for segment in self.segments:
            if self.position is not None and self.position <= end:
                break
            if segment.starts > end:
                raise EngineError(
                    f"The archived log has a gap before {segment.name}: nothing leads on there from the backup."
                )
            end = segment.ends
        return end


def replay(host: Host, programs: Programs, server: ServerProcess, target: Target, say: Say) -> Facts:
    """Run a private server on `host.data` until it has come so far, and stop it.

    Raises EngineError with what stood in the way; the data is of no use then.
    """
    settings = target.settings()
    try:
        reached = _recover(host, programs, server, target, settings, say)
    except _TooShort:
        # Nothing was committed between the end of the log and the target: the end it is.
        settings = {}
        reached = _recover(host, programs, server, target, settings, say)
    if "recovery_target_time" in settings and target.log.to_time is not None:
        reached["reached_at"] = target.log.to_time.astimezone(UTC).isoformat()
    return reached


class _TooShort(Exception):
    """The log has nothing beyond the target."""


class _DiedAtOnce(EngineError):
    """The server did not come to ask for log."""


def _recover(
    host: Host,
    programs: Programs,
    server: ServerProcess,
    target: Target,
    settings: Mapping[str, str],
    say: Say,
) -> dict[str, Any]:
    altered = host.data / "postgresql.auto.conf"
    try:
        return _run(host, programs, server, target, settings, say)
    except _DiedAtOnce as error:
        # Root may have altered settings so that the server does not start with them: see PostgresEngine.start.
        aside = altered.with_name("postgresql.auto.conf.aside")
        if not altered.exists():
            raise
        altered.rename(aside)
        try:
            return _run(host, programs, server, target, settings, say)
        except _DiedAtOnce:
            raise error from None
        finally:
            aside.rename(altered)


def _run(
    host: Host,
    programs: Programs,
    server: ServerProcess,
    target: Target,
    settings: Mapping[str, str],
    say: Say,
) -> dict[str, Any]:
    layers = configuration.layers(host, programs)
    with _supplied(host, target) as supply:
        arguments = {
            **layers.settable,
            **layers.owned,
            # Before the target: the server takes even an empty one of another kind for a second (xlogrecovery.c).
            **{name: "" for name in _NEUTRAL if name not in settings},
            "restore_command": supply.command,
            "recovery_target_timeline": "current",
            "recovery_target_action": "promote",
            "archive_mode": "off",
            # Restored to a smaller size it could not serve while it replays, and need not.
            "hot_standby": "off",
            # Whoever asked for this writes all of it to disk afterwards.
            "fsync": "off",
            **settings,
        }
        host.run_program(["touch", host.data / "recovery.signal"])
        configuration.write(host, layers)
        began = server.log.stat().st_size if server.log.exists() else 0
        try:
            server.start([programs.postgres, "-D", host.data, *configuration.arguments(arguments)])
            _wait(host, server, supply, began, say)
            return _reached(host, target)
        finally:
            server.stop(signal.SIGINT, 600)
            server.kill()


def _wait(host: Host, server: ServerProcess, supply: _Supply, began: int, say: Say) -> None:
    """Until it has recovered and takes writes."""
    deadline = time.monotonic() + _PATIENCE_S
    while status(host.data) != "ready":
        if supply.failure is not None:
            raise supply.failure
        if server.pid is None:
            raise _why(server, supply, began)
        if time.monotonic() > deadline:
            raise EngineError("The log was not replayed in a day.")
        say(f"replaying the log, {supply.given} of {supply.all} segments")
        time.sleep(_POLL_S)


def _why(server: ServerProcess, supply: _Supply, began: int) -> Exception:
    with server.log.open("rb") as log:
        log.seek(max(began, server.log.stat().st_size - 2**16))
        said = log.read().decode(errors="replace")
    if _TOO_SHORT in said:
        return _TooShort()
    if _NO_ROOM in said:
        return OutOfSpace("The volume has no room for what the log brings: make it larger (argosy resize).")
    kind = EngineError if supply.asked else _DiedAtOnce
    return kind(f"The log could not be replayed: {server.log_tail(5)}")


def status(data: Path) -> str:
    """What a server's own lock file says of it (miscadmin.h, LOCK_FILE_LINE_PM_STATUS: the eighth line), if anything."""
    try:
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[7].strip() if len(lines) >= 8 else ""


def _reached(host: Host, target: Target) -> dict[str, Any]:
    """How far it came: the timeline that began then has the place where it did (manual, 26.3.5)."""
    with Sessions(host).open() as session:
        row = session.execute(
            "SELECT pg_last_xact_replay_timestamp(),"
            " pg_read_file('pg_wal/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) || '.history')"
        ).fetchone()
    if row is None:
        raise EngineError("The server does not tell how far it came.")
    last: datetime = row[0] or target.consistent_at
    switches = [line.split() for line in str(row[1]).splitlines() if line.strip()]
    return {"reached_at": last.astimezone(UTC).isoformat(), "reached_position": switches[-1][1]}


@contextmanager
def _supplied(host: Host, target: Target) -> Iterator[_Supply]:
    supply = _Supply(target, host)
    supply.clear()
    supply.lay()
    supply.start()
    try:
        yield supply
    finally:
        supply.end()
        supply.clear()


class _Supply(threading.Thread):
    """Gives the server the segments it asks for, and fetches the next ones meanwhile.

    They lie in a directory of the agent's, where the server's account can put nothing: what is written there goes
    nowhere else. It asks in a directory of its own.
    """

    def __init__(self, target: Target, host: Host) -> None:
        super().__init__(name="log supply", daemon=True)
        self._order = list(target.segments)
        self._at = {segment.name: number for number, segment in enumerate(self._order)}
        self._fetch = target.log.fetch
        self._shelf = host.etc / "log"
        self._desk = host.run / "log"
        self._host = host
        self._there: set[int] = set()
        self._ended = threading.Event()
        self.failure: ArgosyError | None = None
        self.all = len(self._order)
        self.given = 0
        self.asked = False

    @property
    def command(self) -> str:
        """What the server runs for a file of the log (%f) that it wants at %p: ask, and wait for it or a refusal."""
        shelf, desk = self._shelf, self._desk
        return (
            f"touch {desk}/%f || exit 1; while [ ! -e {shelf}/%f ]; do [ -e {shelf}/none.%f ] && exit 1; "
            f"[ -d {shelf} ] || exit 1; sleep 0.02; done; cp {shelf}/%f %p"
        )

    def lay(self) -> None:
        self._shelf.mkdir(mode=0o755)
        self._shelf.chmod(0o755)
        staging.make_directory(self._host, self._desk)

    def clear(self) -> None:
        for place in (self._shelf, self._desk):
            staging.remove(place)

    def run(self) -> None:
        try:
            ahead: list[int] = []
            while not self._ended.is_set():
                wanted = list(self._desk.iterdir())
                for file in wanted:
                    file.unlink()
                    ahead = self._answer(file.name)
                if not wanted and ahead:
                    self._give(ahead.pop(0))
                elif not wanted:
                    self._ended.wait(_POLL_S)
        except ArgosyError as error:
            self.failure = error
        except OSError as error:
            self.failure = EngineError(f"Archived log cannot be laid down: {error.strerror or error}.")

    def end(self) -> None:
        self._ended.set()
        self.join(60)

    def _answer(self, name: str) -> list[int]:
        """Returns those that will be asked for next. Whoever asks for one has taken those before it."""
        self.asked = True
        number = self._at.get(name)
        if number is None:
            (self._shelf / f"none.{name}").touch(mode=0o644)
            return []
        self._give(number)
        self.given = max(self.given, number + 1)
        for old in [one for one in self._there if one < number]:
            (self._shelf / self._order[old].name).unlink()
            self._there.discard(old)
        return list(range(number + 1, min(number + 1 + _AHEAD, len(self._order))))

    def _give(self, number: int) -> None:
        if number in self._there:
            return
        segment: Segment = self._order[number]
        file = self._shelf / f".{segment.name}"
        self._fetch(segment, file)
        with suppress(PermissionError):
            os.chown(file, self._host.account.uid, self._host.account.gid)
        file.replace(self._shelf / segment.name)
        self._there.add(number)


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
