"""Going further than a backup: its server's binary logs, applied to the restored data up to a target.

MariaDB's own program writes the log's statements down and its client says them to a server that serves nobody else.
Where to stop is found in the files first, by transactions, so nothing of one after the target is applied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines import pipes, restores
from argosy.engines.backups import Log, Say, Segment
from argosy.engines.host import Host
from argosy.engines.mariadb.binlog import BinlogFile, Gtid, State, Transaction
from argosy.engines.mariadb.management import Management
from argosy.engines.mariadb.programs import client_options, program

# The server takes no larger ones.
_PACKET = 2**30


@dataclass
class Reached:
    """How far it came; `at` is None while nothing was applied."""

    state: State
    at: datetime | None = None


class Target:
    """Where to stop. `passed` says whether a transaction is beyond, `met` whether none after one is wanted."""

    def __init__(self, log: Log, starts_at: State, consistent_at: datetime) -> None:
        """Raises Invalid for a target that is no place in this log, EngineError for one the backup is past."""
        self.gtid = None if log.to_position is None else Gtid.parse(log.to_position)
        # The log knows whole seconds: what was begun before this one is applied.
        self.second = None if log.to_time is None else int(log.to_time.timestamp())
        self.met = False
        if log.to_time is not None and log.to_time < consistent_at:
            raise EngineError(
                f"The backup has the state of {_shown(consistent_at)}, which is after {_shown(log.to_time)}: restore an "
                "earlier one."
            )
        if self.gtid is not None and starts_at.includes(self.gtid):
            self.met = str(self.gtid) in starts_at.position.split(",")
            if not self.met:
                raise EngineError(
                    f"The backup is past {self.gtid}, it has the state of {starts_at.position}: restore an earlier one."
                )

    def passed(self, transaction: Transaction, segment: Segment) -> bool:
        """Times are believed that are within the file's: a session can say that it is another time."""
        if self.second is None or transaction.at < self.second:
            return False
        closed = closed_at(segment)
        return closed is None or transaction.at <= closed

    def meet(self, transaction: Transaction) -> bool:
        self.met = self.met or transaction.gtid == self.gtid
        return self.met


def closed_at(segment: Segment) -> int | None:
    """When the server ended that file, seconds since 1970, if it is known."""
    told = segment.facts.get("closed_at")
    return None if told is None else int(told)


def stretch(
    file: BinlogFile, segment: Segment, begins: int, target: Target, reached: Reached
) -> tuple[int, bool]:
    """Up to which offset of a file to apply it, and whether the target is there; `reached` is moved on."""
    end = begins
    for transaction in file.transactions(begins):
        if target.passed(transaction, segment):
            target.met = True
            return end, True
        end = transaction.ends
        reached.state.add(transaction.gtid)
        reached.at = datetime.fromtimestamp(min(transaction.at, closed_at(segment) or transaction.at), UTC)
        if target.meet(transaction):
            return end, True
    return end, False


class Replay:
    """Applies a log to the server of a place of its own."""

    def __init__(self, host: Host, management: Management, place: Path, say: Say) -> None:
        self._host = host
        self._management = management
        self._place = place
        self._say = say

    def apply(self, log: Log, log_from: int, target: Target, reached: Reached) -> None:
        """Raises EngineError when the log has a gap or does not reach the target."""
        segments = _needed(log, log_from)
        with self._management.session() as session:
            session.run("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
            session.run(f"SET GLOBAL max_allowed_packet = {_PACKET}")
        for number, (segment, file) in enumerate(self._fetched(log, segments)):
            if target.met:
                break
            self._say(f"applying the log: {number + 1} of {len(segments)}")
            begins = max(0, log_from - segment.starts)
            ends, there = stretch(BinlogFile(file), segment, begins, target, reached)
            if ends > begins:
                self._run(file, begins, ends)
            if there:
                break
        if target.gtid is not None and not target.met:
            raise EngineError(
                f"The archived log does not reach {target.gtid}: it ends at {reached.state.position or 'nothing'}."
            )

    def _fetched(self, log: Log, segments: list[Segment]) -> Iterator[tuple[Segment, Path]]:
        """Each in a file, the next one on its way meanwhile; a file is gone when the next is asked for."""

        def fetch(segment: Segment) -> Path:
            file = self._place / segment.name
            log.fetch(segment, file)
            os.chown(file, self._host.account.uid, self._host.account.gid, follow_symlinks=False)
            return file

        with ThreadPoolExecutor(1) as ahead:
            waiting = [ahead.submit(fetch, segment) for segment in segments[:1]]
            for number, segment in enumerate(segments):
                file = waiting.pop().result()
                waiting += [ahead.submit(fetch, one) for one in segments[number + 1 : number + 2]]
                try:
                    yield segment, file
                finally:
                    file.unlink()

    def _run(self, file: Path, begins: int, ends: int) -> None:
        # What root did to the agent's account is in the log as well, and mended here.
        with client_options(self._host, self._management) as options:
            written = pipes.printed(
                self._host,
                [
                    program(self._host, "mariadb-binlog"),
                    "--no-defaults",
                    f"--start-position={max(begins, 4)}",
                    f"--stop-position={ends}",
                    file,
                ],
                mark=restores.MARK,
            )
            pipes.feed(
                self._host,
                [
                    program(self._host, "mariadb"),
                    f"--defaults-file={options}",
                    "--binary-mode",
                    f"--max-allowed-packet={_PACKET}",
                ],
                written,
                mark=restores.MARK,
            )


def _needed(log: Log, log_from: int) -> list[Segment]:
    """Those from a place of the count on. Raises EngineError when one is missing."""
    segments = [segment for segment in log.segments if segment.ends > log_from]
    next_one = log_from
    for segment in segments:
        if segment.starts > next_one:
            raise EngineError(
                f"The archived log has a gap before {segment.name}: nothing leads on there from the backup."
            )
        next_one = segment.ends
    return segments


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
