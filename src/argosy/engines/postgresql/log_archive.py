"""Archiving the write-ahead log: the server copies each finished segment into a spool, which the agent empties.

The copying is never in the server's way: when the spool is full, or the volume has no room for a copy, the segment is
let go, and what is archived has a gap, which shows in the count. See decision 21.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines import staging
from argosy.engines.backups import ArchivesLog, Segment
from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.postgresql import history, lsn, reserve
from argosy.engines.postgresql.session import Connection, Sessions

_MOST_KB = 2**20  # of the spool; on a small volume, a tenth of that
_SPARED_KB = 96 * 2**10  # of the volume: for the server's own next segments, and its reserve
_LEAST_SEGMENT = 2**20
SCRIPT = """\
# Run by the server for each finished segment of its log: sh archive.sh SPOOL MOST_KB SPARED_KB PATH NAME
# Whatever becomes of the copy, the server goes on: a segment that is missing is a gap, a full volume is an outage.
spool=$1 most=$2 spared=$3 path=$4 name=$5
case $name in *[!0-9A-F]*) exit 0 ;; esac
[ -d "$spool" ] || exit 0
if [ -e "$spool/$name" ]; then
    cmp -s "$path" "$spool/$name" && exit 0
    rm -f "$spool/$name"
fi
used=$(du -sk "$spool" | cut -f1)
free=$(df -k --output=avail "$spool" | tail -n 1)
[ "${used:-0}" -lt "$most" ] && [ "${free:-0}" -gt "$spared" ] || exit 0
new=$spool/.$name.new
cp -p "$path" "$new" && sync "$new" && mv "$new" "$spool/$name" && exit 0
rm -f "$new"
exit 0
"""


@dataclass(frozen=True)
class _Place:
    """Where the log is, and which transactions had ended by then: with the same snapshot, none has since."""

    snapshot: str
    written: int
    segment_bytes: int


class PostgresLogArchive(ArchivesLog, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    sessions: Sessions
    # All that was committed by this snapshot is before this end of a segment.
    _quiet: tuple[int, str] | None = None

    def keep_log(self, *, on: bool) -> None:
        if not on:
            _put_away(self.host)
            return
        with self.sessions.open() as session:
            row = session.execute("SHOW archive_mode").fetchone()
        if row is None or row[0] != "on":
            raise EngineError(
                "The server was started by an earlier release and does not hand out its log: restart it once.",
                code="restart-needed",
            )
        _open_spool(self.host)

    def finished_segments(self) -> list[Segment]:
        try:
            files = sorted(file for file in spool(self.host).iterdir() if lsn.SEGMENT.fullmatch(file.name))
        except FileNotFoundError:
            return []
        return [segment for file in files if (segment := segment_of(file)) is not None]

    def segment_file(self, segment: Segment) -> Path:
        return spool(self.host) / segment.name

    def archived(self, segment: Segment) -> None:
        self.segment_file(segment).unlink(missing_ok=True)

    def finish_segment(self) -> None:
        """Only when a transaction has ended since: each segment is 16 MB, however little is in it."""
        with self.sessions.open() as session:
            place = _place(session)
            if self._quiet is not None and self._quiet[1] == place.snapshot:
                return
            row = session.execute("SELECT pg_switch_wal()::text").fetchone()
        ended = lsn.number(str(row[0])) if row else place.written
        self._quiet = lsn.segment_end(ended, place.segment_bytes), place.snapshot

    def position(self) -> int:
        with self.sessions.open() as session:
            place = _place(session)
        quiet = self._quiet
        return quiet[0] if quiet is not None and quiet[1] == place.snapshot else place.written


def spool(host: Host) -> Path:
    """While it is there, the log is archived."""
    return host.data.parent / "log-spool"


def settings(host: Host) -> dict[str, str]:
    """Of the server; the script beside them is written with them."""
    if host.private:
        return {"archive_mode": "off"}
    command = f"sh {host.etc / 'archive.sh'} {spool(host)} {_most_kb(host)} {_SPARED_KB} %p %f"
    return {"archive_mode": "on", "archive_command": command}


def write_script(host: Host) -> None:
    host.write_file(host.etc / "archive.sh", SCRIPT, mode=0o644, as_agent=True)


def let_go(host: Host) -> bool:
    """Throw away what waits when the server needs the room for its own log; True when that was so."""
    free = reserve.free_bytes(host)
    if free is None or free >= reserve.LEAST_FREE_BYTES or not _waits(host):
        return False
    _put_away(host)
    staging.make_directory(host, spool(host))
    return True


def starting(host: Host) -> None:
    """Before a start: what waits of another history than the data's must not be archived with it."""
    if spool(host).exists() and not host.private:
        _open_spool(host)
        let_go(host)


def _open_spool(host: Host) -> None:
    note, mine = host.etc / "log-history", history.name(host.data)
    if spool(host).is_dir() and note.exists() and note.read_text() == mine:
        return
    _put_away(host)
    staging.make_directory(host, spool(host))
    host.write_file(note, mine, as_agent=True)


def _put_away(host: Host) -> None:
    """The spool, under another name first: else what the server copies there meanwhile would keep the directory."""
    gone = spool(host).with_name(".log-spool.gone")
    staging.remove(gone)
    with suppress(FileNotFoundError):
        spool(host).rename(gone)
    staging.remove(gone)


def _waits(host: Host) -> bool:
    try:
        return any(spool(host).iterdir())
    except FileNotFoundError:
        return False


def _most_kb(host: Host) -> int:
    try:
        volume = os.statvfs(host.data.parent)
    except OSError:
        return _MOST_KB
    return min(_MOST_KB, volume.f_blocks * volume.f_frsize // 10 // 1024)


def segment_of(file: Path) -> Segment | None:
    """None for what is none: the spool is the server's, and root's.

    The time is of the server's last write to it: what it has acknowledged by then is in it, or in those before it.
    """
    try:
        told = file.lstat()
    except FileNotFoundError:
        return None
    size = told.st_size
    if not stat.S_ISREG(told.st_mode) or size < _LEAST_SEGMENT or size & (size - 1):
        return None
    start = lsn.starts(file.name, size)
    return Segment(file.name, start, start + size, size, last_at=datetime.fromtimestamp(told.st_mtime, UTC))


def _place(session: Connection) -> _Place:
    """The snapshot is taken before the log's place is asked: what it says has ended is before that.

    The place is that of insertion, since a session may have been told of a commit that is not written yet
    (`synchronous_commit`).
    """
    row = session.execute(
        "SELECT pg_current_snapshot()::text, pg_current_wal_insert_lsn()::text, bytes_per_wal_segment"
        " FROM pg_control_init()"
    ).fetchone()
    if row is None:
        raise EngineError("The server does not tell where its log stands.")
    segment_bytes = int(row[2])
    return _Place(str(row[0]), lsn.without_header(lsn.number(row[1]), segment_bytes), segment_bytes)
