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

import psycopg

from argosy.domain.errors import ArgosyError, EngineError
from argosy.engines import staging
from argosy.engines.backups import Facts, Log, Say, Segment
from argosy.engines.host import Host
from argosy.engines.postgresql import configuration
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import conninfo
from argosy.engines.process import ServerProcess

_AHEAD = 3  # segments fetched before they are asked for
_PATIENCE_S = 24 * 3600.0
_POLL_S = 0.02
# The server's words when no transaction in the log came after the target (source: xlogrecovery.c).
_TOO_SHORT = "recovery ended before configured recovery target was reached"


def replay(host: Host, programs: Programs, server: ServerProcess, log: Log, say: Say) -> Facts:
    """Run a private server on `host.data` until it has come so far, and stop it.

    Raises EngineError when the log does not lead there; the data is of no use then.
    """
    target = _target(log)
    try:
        return _recover(host, programs, server, log, target, say)
    except _TooShort:
        if log.to_time is None:
            raise EngineError(
                f"The archived log ends before {log.to_position}: nothing after that can be restored to."
            ) from None
        # Nothing was committed between the end of the log and that time: the end it is.
        return _recover(host, programs, server, log, {}, say)


class _TooShort(Exception):
    """The log has nothing beyond the target."""


def _target(log: Log) -> dict[str, str]:
    if log.to_position is not None:
        return {"recovery_target_lsn": log.to_position}
    if log.to_time is not None:
        moment = log.to_time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
        return {"recovery_target_time": moment}
    return {}


def _recover(
    host: Host, programs: Programs, server: ServerProcess, log: Log, target: Mapping[str, str], say: Say
) -> Facts:
    layers = configuration.layers(host, programs)
    place = host.data.with_name("log")
    with _supplied(host, log, place) as supply:
        settings = {
            **layers.settable,
            **layers.owned,
            "restore_command": _command(place),
            "recovery_target_timeline": "current",
            "recovery_target_action": "promote",
            "archive_mode": "off",
            # Restored to a smaller size it could not serve while it replays, and need not.
            "hot_standby": "off",
            **target,
        }
        host.write_file(host.data / "recovery.signal", "")
        configuration.write(host, layers)
        began = server.log.stat().st_size if server.log.exists() else 0
        try:
            server.start([programs.postgres, "-D", host.data, *configuration.arguments(settings)])
            return _wait(host, server, supply, log, began, say)
        finally:
            server.stop(signal.SIGINT, 600)
            server.kill()


def _wait(host: Host, server: ServerProcess, supply: _Supply, log: Log, began: int, say: Say) -> Facts:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if supply.failure is not None:
            raise supply.failure
        if server.pid is None:
            said = server.log.read_bytes()[began:].decode(errors="replace")
            if _TOO_SHORT in said:
                raise _TooShort
            raise EngineError(f"The log could not be replayed: {server.log_tail(5)}")
        say(f"replaying the log, {supply.given} of {len(log.segments)} segments")
        with suppress(psycopg.Error):
            with psycopg.connect(conninfo(host), autocommit=True) as session:
                row: Any = session.execute(
                    "SELECT pg_is_in_recovery(), pg_last_xact_replay_timestamp(), pg_current_wal_lsn()::text"
                ).fetchone()
            if row is not None and not row[0]:
                last: datetime | None = row[1]
                return {
                    "reached_at": (log.to_time or last or datetime.now(UTC)).isoformat(),
                    "last_transaction_at": None if last is None else last.isoformat(),
                    "reached_position": log.to_position or row[2],
                }
        time.sleep(_POLL_S)
    raise EngineError("The log was not replayed in a day.")


def _command(place: Path) -> str:
    """What the server runs for a file of the log (%f) that it wants at %p: ask, and wait for that or for a refusal."""
    return (
        f"touch {place}/want.%f; while [ ! -e {place}/%f ]; do [ -e {place}/none.%f ] && exit 1; sleep 0.02; done; "
        f"mv {place}/%f %p"
    )


@contextmanager
def _supplied(host: Host, log: Log, place: Path) -> Iterator[_Supply]:
    staging.remove(place)
    host.make_directory(place)
    supply = _Supply(log, place, host)
    supply.start()
    try:
        yield supply
    finally:
        supply.end()
        staging.remove(place)


class _Supply(threading.Thread):
    """Gives the server the segments it asks for, and fetches the next ones meanwhile."""

    def __init__(self, log: Log, place: Path, host: Host) -> None:
        super().__init__(name="log supply", daemon=True)
        self._order = list(log.segments)
        self._at = {segment.name: number for number, segment in enumerate(self._order)}
        self._fetch = log.fetch
        self._place = place
        self._host = host
        self._fetched: set[int] = set()
        self._ended = threading.Event()
        self.failure: ArgosyError | None = None
        self.given = 0

    def run(self) -> None:
        try:
            ahead: list[int] = []
            while not self._ended.is_set():
                wanted = [file for file in self._place.iterdir() if file.name.startswith("want.")]
                for file in wanted:
                    name = file.name.removeprefix("want.")
                    file.unlink()
                    ahead = self._answer(name)
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
        """Returns those that will be asked for next."""
        number = self._at.get(name)
        if number is None:
            (self._place / f"none.{name}").touch()
            return []
        if not (self._place / name).exists():
            self._fetched.discard(number)  # the server took it, and wants it again
        self._give(number)
        self.given = max(self.given, number + 1)
        return list(range(number + 1, min(number + 1 + _AHEAD, len(self._order))))

    def _give(self, number: int) -> None:
        if number in self._fetched:
            return
        segment: Segment = self._order[number]
        file = self._place / f".{segment.name}"
        self._fetch(segment, file)
        os.chown(file, self._host.account.uid, self._host.account.gid)
        file.rename(self._place / segment.name)
        self._fetched.add(number)
