"""Archiving the write-ahead log: the server copies each finished segment into a spool, which the agent empties.

The copying is never in the server's way: when the spool is full, or the volume has no room for a copy, the segment is
let go, and what is archived has a gap, which shows in the count.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines import staging
from argosy.engines.backups import ArchivesLog, Segment
from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.postgresql import lsn
from argosy.engines.postgresql.session import Connection, Sessions

_MOST_KB = 2**20  # of the spool; on a small volume, a tenth of that
_SCRIPT = """\
# Run by the server for each finished segment of its log: sh archive.sh SPOOL KILOBYTES PATH NAME
# Whatever becomes of the copy, the server goes on: a segment that is missing is a gap, a full volume is an outage.
[ -d "$1" ] || exit 0
[ -e "$1/$4" ] && exit 0
used=$(du -sk "$1" | cut -f1)
[ "${used:-0}" -lt "$2" ] || exit 0
if cp -p "$3" "$1/.$4.new" && mv "$1/.$4.new" "$1/$4"; then exit 0; fi
rm -f "$1/.$4.new"
exit 0
"""


class PostgresLogArchive(ArchivesLog, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    sessions: Sessions
    # Up to where it is known that nothing was committed since, and by which transaction that is told.
    _quiet: tuple[int, int] | None = None

    def keep_log(self, *, on: bool) -> None:
        if not on:
            staging.remove(spool(self.host))
            return
        with self.sessions.open() as session:
            row = session.execute("SHOW archive_mode").fetchone()
        if row is None or row[0] != "on":
            raise EngineError(
                "The server was started by an earlier release and does not hand out its log: restart it once.",
                code="restart-needed",
            )
        self.host.make_directory(spool(self.host))

    def finished_segments(self) -> list[Segment]:
        try:
            names = sorted(
                file.name for file in spool(self.host).iterdir() if lsn.SEGMENT.fullmatch(file.name)
            )
        except FileNotFoundError:
            return []
        return [_segment(spool(self.host) / name) for name in names]

    def segment_file(self, segment: Segment) -> Path:
        return spool(self.host) / segment.name

    def archived(self, segment: Segment) -> None:
        self.segment_file(segment).unlink(missing_ok=True)

    def finish_segment(self) -> None:
        """Only when a transaction was begun since: each segment is 16 MB, however little is in it."""
        with self.sessions.open() as session:
            _, next_transaction, current = _place(session)
            if self._quiet is not None and self._quiet[1] == next_transaction:
                return
            row = session.execute("SELECT pg_switch_wal()::text").fetchone()
            size = _segment_bytes(session)
        ended = lsn.number(str(row[0])) if row else current
        self._quiet = (-(-ended // size) * size, next_transaction)

    def position(self) -> int:
        with self.sessions.open() as session:
            _, next_transaction, current = _place(session)
        quiet = self._quiet
        return quiet[0] if quiet is not None and quiet[1] == next_transaction else current


def spool(host: Host) -> Path:
    """While it is there, the log is archived."""
    return host.data.parent / "log-spool"


def settings(host: Host) -> dict[str, str]:
    """Of the server; the script beside them is written with them."""
    if host.private:
        return {"archive_mode": "off"}
    command = f"sh {host.etc / 'archive.sh'} {spool(host)} {_most_kb(host)} %p %f"
    return {"archive_mode": "on", "archive_command": command}


def write_script(host: Host) -> None:
    host.write_file(host.etc / "archive.sh", _SCRIPT, mode=0o644, as_agent=True)


def _most_kb(host: Host) -> int:
    try:
        volume = os.statvfs(host.data.parent)
    except OSError:
        return _MOST_KB
    return min(_MOST_KB, volume.f_blocks * volume.f_frsize // 10 // 1024)


def _segment(file: Path) -> Segment:
    """The time is of the server's last write to it: what it has acknowledged by then is in it, or in those before it."""
    told = file.stat()
    start = lsn.starts(file.name, told.st_size)
    return Segment(
        file.name,
        start,
        start + told.st_size,
        told.st_size,
        last_at=datetime.fromtimestamp(told.st_mtime, UTC),
    )


def _place(session: Connection) -> tuple[int, int, int]:
    """Timeline, the next transaction's number, and where the log is."""
    row = session.execute(
        "SELECT timeline_id, pg_snapshot_xmax(pg_current_snapshot())::text::bigint, pg_current_wal_lsn()::text"
        " FROM pg_control_checkpoint()"
    ).fetchone()
    if row is None:
        raise EngineError("The server does not tell where its log stands.")
    return int(row[0]), int(row[1]), lsn.number(row[2])


def _segment_bytes(session: Connection) -> int:
    row = session.execute("SELECT bytes_per_wal_segment FROM pg_control_init()").fetchone()
    return int(row[0]) if row else 16 * 2**20
