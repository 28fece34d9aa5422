"""Backups by mariadb-backup: pages as they are read, made whole by the redo log that is copied along.

Increments have the pages changed since their parent. The server is stopped from committing for a moment at the end,
when the position in its binary log is taken; see decision 22.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from argosy import marks
from argosy.domain.errors import ArgosyError, EngineError, Invalid
from argosy.engines import pipes, restores, staging
from argosy.engines.backups import (
    CONSISTENT_AT,
    FINGERPRINT,
    LOG_FROM,
    POSITION,
    BackUps,
    Facts,
    Log,
    Say,
    Stored,
    Write,
)
from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.mariadb import data_directory, fingerprints, history, log_archive
from argosy.engines.mariadb.binlog import State
from argosy.engines.mariadb.management import Management, Session
from argosy.engines.mariadb.programs import client_options, program
from argosy.engines.mariadb.replay import Reached, Replay, Target
from argosy.engines.mariadb.upgrade import MariaDbUpgrades
from argosy.engines.process import ServerProcess

_AREA = "backup"
_BACKING_UP = {marks.ROLE: _AREA}
_SNAPSHOT_S = 10.0
# Words of mariadb-backup's (extra/mariabackup), from when nothing is committed any more and until it is again.
_LOCKED = "Acquired locks for BACKUP STAGE BLOCK_COMMIT"
_OVERRUN = "Was only able to copy log"
# What it leaves beside the data; 10.11 says xtrabackup_ and later versions mariadb_backup_.
_LEFT = ("backup-my.cnf", "xtrabackup_*", "mariadb_backup_*", "*.qp")


class MariaDbBackUps(MariaDbUpgrades, BackUps, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    management: Management
    increments = None

    def back_up(self, write: Write, parent: Facts | None, say: Say) -> Facts:
        pipes.end(self.host, _BACKING_UP)
        since = [] if parent is None else [f"--incremental-lsn={self._lsn_after(parent)}"]
        watch = _Watch(self.host, self.management)
        with (
            client_options(self.host, self.management, _AREA) as options,
            _unlimited(self.management),
            closing(watch),
        ):
            told = staging.make_directory(self.host, options.parent / "told")
            command: list[str | Path] = [
                program(self.host, "mariadb-backup"),
                f"--defaults-file={options}",
                "--backup",
                *since,
                "--stream=mbstream",
                # Writers wait for its last look at the redo log, which by default comes within a second.
                "--log-copy-interval=50",
                f"--datadir={self.host.data}",
                f"--target-dir={options.parent / 'target'}",
                f"--extra-lsndir={told}",
            ]

            try:
                for part in pipes.printed(self.host, command, mark=_BACKING_UP, hear=watch.hear):
                    write(part)
            except EngineError as error:
                raise _explained(error) from error
            point = _read_point(told)
            say("counting rows")
            log_from = log_archive.place_of(self.host, point.file, point.position)
            return {
                CONSISTENT_AT: watch.locked_at.isoformat(),
                FINGERPRINT: watch.fingerprint(point),
                "history": history.name(self.host),
                "series": self.host.version,
                "server_version": self.server_version(),
                "from_lsn": point.from_lsn,
                "to_lsn": point.to_lsn,
                "binlog": point.file,
                "binlog_position": point.position,
                "gtids": point.gtids,
                **({} if log_from is None else {LOG_FROM: log_from, POSITION: State(point.gtids).place}),
            }

    def restore(self, chain: Sequence[Stored], log: Log | None, say: Say) -> Facts:
        facts = chain[-1].facts
        _check_series(str(facts["series"]), self.host.version)
        reached = Reached(State(str(facts["gtids"])))
        consistent_at = datetime.fromisoformat(facts[CONSISTENT_AT])
        target = None if log is None else Target(log, reached.state, consistent_at)
        with data_directory.beside(self.host, self.host.data) as place:
            data = place / "data"
            for number, stored in enumerate(chain):
                say("unpacking" if len(chain) == 1 else f"unpacking {number + 1} of {len(chain)}")
                self._unpack(stored, data if number == 0 else place / "increment")
                say("applying the log of the backup")
                self._apply(data, place / "increment" if number else None)
            for pattern in _LEFT:
                for file in data.glob(pattern):
                    file.unlink()
            if not data_directory.is_made(data):
                raise EngineError("The backup has no table space of InnoDB's: it is no backup of MariaDB's.")
            if facts["series"] != self.host.version or log is not None:
                with self._served(data) as server:
                    if facts["series"] != self.host.version:
                        say(f"converting the data to {self.host.version}")
                        server.finish_conversion()
                    if log is not None and target is not None:
                        replay = Replay(server.host, server.management, place, say)
                        replay.apply(log, int(facts[LOG_FROM]), target, reached)
            history.begin(self.host, data, str(reached.state))
            data.rename(self.host.data)
        return {
            "reached_at": (reached.at or consistent_at).isoformat(),
            "reached_position": reached.state.position,
        }

    @contextmanager
    def _served(self, data: Path) -> Iterator[Self]:
        """An engine whose server runs on the data, out of everybody's reach, and small: the instance's own may run, too."""
        place = replace(
            staging.beside(self.host, "log", "n", data=data),
            memory_mb=max(128, self.host.memory_mb // 4),
        )
        staging.lay(place, parameters=False)
        server = ServerProcess(place, place.logs / "server.log", role=restores.AREA)
        engine = type(self)(place, server)  # type: ignore[call-arg]
        try:
            engine.start()
            yield engine
            engine.stop()
        finally:
            engine.management.close()
            server.kill()
            staging.clear(self.host, "log")

    def _lsn_after(self, parent: Facts) -> int:
        """Up to where the parent has everything. Raises Invalid unless the running server has gone on from there."""
        if parent.get("history") != history.name(self.host):
            raise _unusable("the instance's data was restored since, or is another instance's")
        if parent.get("series") != self.host.version:
            raise _unusable(f"it was made by version {parent.get('series')}, and this is {self.host.version}")
        with self.management.session() as session:
            ((current,),) = session.run(
                "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_LSN_CURRENT'"
            )
        if int(parent["to_lsn"]) > int(str(current)):
            raise _unusable("it has more of the server's log than the server itself")
        return int(parent["to_lsn"])

    def _unpack(self, stored: Stored, target: Path) -> None:
        self.host.make_directory(target)
        pipes.feed(
            self.host,
            [program(self.host, "mbstream"), "-x", "-C", target],
            stored.read(),
            mark=restores.MARK,
        )

    def _apply(self, data: Path, increment: Path | None) -> None:
        more = [] if increment is None else [f"--incremental-dir={increment}"]
        command: list[str | Path] = [
            program(self.host, "mariadb-backup"),
            "--no-defaults",
            "--prepare",
            f"--use-memory={max(32, min(1024, self.host.memory_mb // 8))}M",
            f"--target-dir={data}",
            *more,
        ]
        for _ in pipes.printed(self.host, command, mark=restores.MARK):
            pass
        if increment is not None:
            staging.remove(increment)


@contextmanager
def _unlimited(management: Management) -> Iterator[None]:
    """While the body runs, new sessions may select whatever they want.

    Else mariadb-backup's, which do not see to that themselves, see nothing and may even die of it, when root or the
    configuration group has limited all sessions.
    """
    names = ("sql_select_limit", "max_join_size", "sql_big_selects")
    now = ", ".join(f"@@GLOBAL.{name}" for name in names)
    with management.session() as session:
        (before,) = session.run(f"SELECT {now}")
        for name in names:
            session.run(f"SET GLOBAL {name} = DEFAULT")
        (usual,) = session.run(f"SELECT {now}")
    try:
        yield
    finally:
        if before != usual:
            with management.session() as session:
                for name, value in zip(names, before, strict=True):
                    session.run(f"SET GLOBAL {name} = {int(str(value))}")


@dataclass(frozen=True)
class _Point:
    """Where a backup stands in the server's logs."""

    from_lsn: int
    to_lsn: int
    file: str
    position: int
    gtids: str


class _Watch:
    """Listens to mariadb-backup for the moment whose state the backup has, and takes a snapshot then, to count in."""

    def __init__(self, host: Host, management: Management) -> None:
        self._host = host
        self._management = management
        self._session: Session | None = None
        self._snapshot: tuple[object, ...] = ()
        self._locked_at: datetime | None = None

    def hear(self, line: str) -> None:
        if _LOCKED not in line or self._locked_at is not None:
            return
        self._locked_at = datetime.now(UTC)
        # Without a snapshot there is a backup all the same, with less to compare it with.
        try:
            self._session = Session(self._host, self._management.password(), _SNAPSHOT_S)
            self._snapshot = fingerprints.take_snapshot(self._session)
        except ArgosyError:
            self.close()

    @property
    def locked_at(self) -> datetime:
        if self._locked_at is None:
            raise EngineError("mariadb-backup did not say when it had stopped the server from committing.")
        return self._locked_at

    def fingerprint(self, point: _Point) -> Facts:
        """Of exactly the backup's state; without numbers when the snapshot was taken a commit too late."""
        if self._session is None or self._snapshot != (point.file, point.position):
            return fingerprints.NOTHING
        try:
            return fingerprints.take(self._session)
        except ArgosyError:
            return fingerprints.NOTHING

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None


def _read_point(told: Path) -> _Point:
    """From the files it writes for who streams."""
    text = "\n".join(file.read_text() for file in sorted(told.iterdir()))
    _, from_lsn = _found(r"^(from_lsn) = (\d+)$", text)
    _, to_lsn = _found(r"^(to_lsn) = (\d+)$", text)
    file, position, gtids = _found(
        r"^binlog_pos = filename '([^']+)', position '(\d+)'(?:, GTID of the last change '([\d,-]*)')?", text
    )
    return _Point(int(from_lsn), int(to_lsn), file, int(position), gtids or "")


def _found(pattern: str, text: str) -> tuple[Any, ...]:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise EngineError("mariadb-backup did not tell where its backup stands in the server's logs.")
    return match.groups()


def _check_series(made_by: str, ours: str) -> None:
    """Data of an older series is converted. Raises EngineError for a newer one's."""
    if [int(part) for part in made_by.split(".")] > [int(part) for part in ours.split(".")]:
        raise EngineError(f"The backup is of MariaDB {made_by}, which {ours} cannot read.")


def _unusable(reason: str) -> Invalid:
    return Invalid(
        f"The parent backup cannot be built on: {reason}. Make a full backup.", code="parent-unusable"
    )


def _explained(error: EngineError) -> EngineError:
    if _OVERRUN not in error.sentence:
        # It shows its own grants, and what it would be let in by, when they do not suffice.
        return EngineError(re.sub(r"'\*[0-9A-F]{40}'", "'...'", error.sentence))
    return EngineError(
        "While it was backed up, the server wrote more than its redo log holds, so the backup cannot be made whole: the "
        "store, or the limit that was set, is too slow for so many writes. Back up at a quieter time, take the limit "
        "away, or raise innodb_log_file_size in the configuration group."
    )
