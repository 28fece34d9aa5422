"""Base backups by pg_basebackup, with the log they need to be consistent in them.

From version 17 increments have the blocks changed since their parent, which the server's own log summaries tell, and
pg_combinebackup makes a whole of a chain. Before, an increment is the log since its parent, replayed at the next start;
a replication slot keeps it, within a bound, so a parent may have become useless. See decision 21.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from argosy import marks
from argosy.domain.errors import EngineError, Invalid
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
from argosy.engines.postgresql import fingerprints, history, lsn, replay
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import ADMIN, Connection, Sessions
from argosy.engines.postgresql.tar import Kept
from argosy.engines.process import ServerProcess

_AREA = "backup"
_BACKING_UP = {marks.ROLE: _AREA}
_MANIFEST = "backup_manifest"
_MANIFESTS_KEPT = 50
_SLOT = "os_backup_chain"
_BLOCKS_SINCE = 17  # the first version with increments of blocks
_LOG_FILE = re.compile(r"(\./)?pg_wal/[0-9A-F]{24}")
# It stands at the manifest's end (manual, 76.1), which may be long.
_RANGE = re.compile(
    rb'"Timeline": (\d+), "Start-LSN": "([0-9A-F]+/[0-9A-F]+)", "End-LSN": "([0-9A-F]+/[0-9A-F]+)"'
)
_END_OF_MANIFEST = 2**16
# What a backup has of the server it was, and a restored one must not have. Its log is in no archive's way: marked as
# archived, it is not handed out again.
_ARRANGE = """\
set -e
cd "$1"
rm -f backup_manifest backup_manifest.old recovery.signal standby.signal postmaster.pid "$2"
printf %s "$3" >"$2"
mkdir -p pg_wal/archive_status
cd pg_wal
for file in *; do
    case $file in *[!0-9A-F]*) ;; *) : >"archive_status/$file.done" ;; esac
done
"""


class PostgresBackUps(BackUps, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    server: ServerProcess
    sessions: Sessions
    programs: Programs
    increments = None

    def back_up(self, write: Write, parent: Facts | None, say: Say) -> Facts:
        pipes.end(self.host, _BACKING_UP)
        mine = history.name(self.host.data)
        if parent is not None:
            self._check_parent(parent, mine)
        say("counting rows")
        before = fingerprints.count(self.sessions)
        say("backing up")
        if parent is not None and not self._has_blocks:
            told = self._write_log_since(parent, write)
        else:
            told = self._write_base(parent, write)
        say("counting rows again")
        return {
            **told,
            FINGERPRINT: fingerprints.unchanged(before, fingerprints.count(self.sessions)),
            "history": mine,
            "series": self.host.version,
            "server_version": self.server_version(),
        }

    def restore(self, chain: Sequence[Stored], log: Log | None, say: Say) -> Facts:
        making = self.host.data.with_name(f".{self.host.data.name}.new")
        facts = chain[-1].facts
        target = None if log is None else replay.Target(log, facts)
        if self.host.data.exists():
            raise EngineError(f"{self.host.data} is there already: nothing is restored over it.")
        try:
            staging.make_directory(self.host, making)
            whole = self._unpacked(chain, making, say)
            self._arrange(whole)
            whole.rename(self.host.data)
            staging.remove(making)
            if target is None:
                return {"reached_at": facts[CONSISTENT_AT], "reached_position": facts[POSITION]}
            return replay.replay(self.host, self.programs, self.server, target, say)
        except BaseException:
            staging.remove(making)
            staging.remove(self.host.data)
            raise

    @property
    def _has_blocks(self) -> bool:
        return int(self.host.version) >= _BLOCKS_SINCE

    def _check_parent(self, parent: Facts, mine: str) -> None:
        """Raises Invalid unless the running server has gone on from there."""
        if parent.get("history") != mine:
            raise _unusable("the instance's data was restored since, or is another instance's")
        if parent.get("series") != self.host.version:
            raise _unusable(f"it was made by version {parent.get('series')}, and this is {self.host.version}")

    def _write_base(self, parent: Facts | None, write: Write) -> dict[str, Any]:
        ended_at: list[datetime] = []

        def begins(name: str) -> None:
            # The log comes last, once the backup has ended: the state is of a moment no later than this.
            if not ended_at and _LOG_FILE.fullmatch(name):
                ended_at.append(datetime.now(UTC))

        kept = Kept(_MANIFEST, begins=begins)
        with self._log_kept() as (session, slot), self._parents_manifest(parent) as since:
            command: list[str | Path] = [
                self.programs.postgres.with_name("pg_basebackup"), "-h", self.host.run, "-p", str(self.host.port),
                "-U", ADMIN, "--no-password", "-D", "-", "-F", "tar", "-X", "fetch", "-c", "fast", "--no-sync", *since,
            ]  # fmt: skip
            try:
                # As the agent, whom alone the server lets in.
                for part in pipes.printed(self.host, command, mark=_BACKING_UP, as_agent=True):
                    kept.look(part)
                    write(part)
            except EngineError as error:
                if parent is not None and re.search(r"summar|manifest|incremental", error.sentence):
                    raise _unusable(error.sentence) from error
                raise _explained(error) from error
            manifest = bytes(kept.files.pop(_MANIFEST, b""))
            ranges = _RANGE.findall(manifest[-_END_OF_MANIFEST:])
            if not ranges:
                raise EngineError("pg_basebackup ended without a manifest: the backup is not whole.")
            if not self._has_blocks:
                _keep_log_as(session, slot)
            segment_bytes = _segment_bytes(session)
        timeline, _, end = (word.decode() for word in ranges[-1])
        told: dict[str, Any] = {
            "timeline": int(timeline),
            POSITION: end,
            # The segment in which it ended is in it as a whole.
            LOG_FROM: lsn.segment_end(lsn.number(end), segment_bytes),
            CONSISTENT_AT: (ended_at or [datetime.now(UTC)])[0].isoformat(),
        }
        if self._has_blocks:
            told["manifest"] = self._keep_manifest(manifest)
        return told

    def _write_log_since(self, parent: Facts, write: Write) -> dict[str, Any]:
        """The segments of the log from the parent's end on, as a tar archive."""
        with self.sessions.open() as session:
            # What is committed now is in them; the server begins another segment.
            row = session.execute(
                "SELECT pg_switch_wal()::text, clock_timestamp(), timeline_id FROM pg_control_checkpoint()"
            ).fetchone()
            if row is None:
                raise EngineError("The server does not tell where its log stands.")
            segment_bytes = _segment_bytes(session)
        start, timeline = lsn.number(str(parent[POSITION])), int(row[2])
        end = lsn.without_header(lsn.number(str(row[0])), segment_bytes)
        if timeline != parent["timeline"]:
            raise _unusable("the server's log has taken another way since")
        names = [
            lsn.segment_name(timeline, index, segment_bytes)
            for index in range(start // segment_bytes, -(-end // segment_bytes))
        ]
        # Under the server's account: it could have put links there.
        command: list[str | Path] = [
            "tar",
            "--create",
            "-f",
            "-",
            "-C",
            self.host.data / "pg_wal",
            "--",
            *names,
        ]
        try:
            for part in pipes.printed(self.host, command, mark=_BACKING_UP) if names else [bytes(10240)]:
                write(part)
        except EngineError as error:
            if "Cannot stat" in error.sentence:
                raise _unusable("the server has forgotten a part of its log since then") from error
            raise
        with self.sessions.open() as session:
            _keep_log_from(session, lsn.text(end))
        return {
            "timeline": timeline,
            POSITION: lsn.text(end),
            LOG_FROM: lsn.segment_end(end, segment_bytes),
            CONSISTENT_AT: row[1].astimezone(UTC).isoformat(),
        }

    @contextmanager
    def _log_kept(self) -> Iterator[tuple[Connection, str | None]]:
        """Until the end of this the server forgets nothing of its log, within its own bound (max_slot_wal_keep_size).

        Of no use is a slot to a server whose owner allows none: then a busy one may be too fast for the backup.
        """
        with self.sessions.open() as session:
            slot = f"os_backup_{session.info.backend_pid}"
            try:
                session.execute("SELECT pg_create_physical_replication_slot(%s, true, true)", (slot,))
            except psycopg.Error:
                yield session, None
            else:
                yield session, slot

    def _unpacked(self, chain: Sequence[Stored], making: Path, say: Say) -> Path:
        """A data directory below `making`."""
        whole = making / "0"
        for number, stored in enumerate(chain):
            say("unpacking" if len(chain) == 1 else f"unpacking {number + 1} of {len(chain)}")
            target = whole / "pg_wal"
            if number == 0 or self._has_blocks:
                target = staging.make_directory(self.host, making / str(number))
            unpack: list[str | Path] = ["tar", "--extract", "--no-same-owner", "-p", "-f", "-", "-C", target]
            pipes.feed(self.host, unpack, stored.read(), mark=restores.MARK)
        if len(chain) > 1 and self._has_blocks:
            say("combining the increments")
            return self._combined(making, len(chain))
        return whole

    def _arrange(self, whole: Path) -> None:
        if not (whole / "PG_VERSION").is_file():
            raise EngineError("The backup holds no data directory of PostgreSQL's.")
        command: list[str | Path] = ["sh", "-c", _ARRANGE, "sh", whole, history.FILE, history.new()]
        self.host.run_program(command, environment=restores.MARK)

    def _combined(self, making: Path, length: int) -> Path:
        """A data directory of a chain's parts, which are used up."""
        whole = making / "whole"
        # Hard links are right here: the parts are thrown away.
        how = ["--link"] if int(self.host.version) >= 18 else []
        command: list[str | Path] = [
            self.programs.postgres.with_name("pg_combinebackup"), "--no-sync", *how, "-o", whole,
            *(making / str(number) for number in range(length)),
        ]  # fmt: skip
        for _ in pipes.printed(self.host, command, mark=restores.MARK):
            pass
        for number in range(length):
            staging.remove(making / str(number))
        return whole

    def _keep_manifest(self, content: bytes) -> str:
        """Where an increment on this backup finds it; returns what it is known by."""
        place = _manifests(self.host)
        digest = hashlib.sha256(content).hexdigest()
        target = place / f"{digest}.gz"
        temporary = target.with_suffix(".new")
        temporary.write_bytes(gzip.compress(content, compresslevel=6))
        temporary.replace(target)
        kept = sorted(place.glob("*.gz"), key=lambda file: file.stat().st_mtime)
        for old in kept[:-_MANIFESTS_KEPT]:
            old.unlink(missing_ok=True)
        return digest

    @contextmanager
    def _parents_manifest(self, parent: Facts | None) -> Iterator[list[str]]:
        """What pg_basebackup is told for an increment. Raises Invalid when the manifest is not kept any more."""
        if parent is None:
            yield []
            return
        digest = str(parent.get("manifest", ""))
        packed = _manifests(self.host) / f"{digest}.gz"
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or not packed.is_file():
            raise _unusable("its manifest is not on the server any more")
        unpacked = packed.with_name("parent")
        try:
            unpacked.write_bytes(gzip.decompress(packed.read_bytes()))
            yield [f"--incremental={unpacked}"]
        finally:
            unpacked.unlink(missing_ok=True)


def _manifests(host: Host) -> Path:
    """The agent's: nobody else writes there."""
    place = host.etc / "backup-manifests"
    place.mkdir(mode=0o700, exist_ok=True)
    return place


def _keep_log_as(session: Connection, slot: str | None) -> None:
    """The server keeps for the next increment what this slot keeps, within `max_slot_wal_keep_size`.

    A copy, so that nothing is forgotten in between. Where there is no room for one the next backup is a full one.
    """
    _drop_slot(session)
    if slot is not None:
        with suppress(psycopg.Error):
            session.execute("SELECT pg_copy_physical_replication_slot(%s, %s, false)", (slot, _SLOT))


def _keep_log_from(session: Connection, place: str) -> None:
    """What is before this is needed no more."""
    try:
        session.execute("SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", (_SLOT, place))
    except psycopg.Error:
        # Root dropped it, or the server took it away; what it forgot, the next increment notices.
        _drop_slot(session)
        with suppress(psycopg.Error):
            session.execute("SELECT pg_create_physical_replication_slot(%s, true)", (_SLOT,))


def _drop_slot(session: Connection) -> None:
    session.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (_SLOT,)
    )


def _segment_bytes(session: Connection) -> int:
    row = session.execute("SELECT bytes_per_wal_segment FROM pg_control_init()").fetchone()
    if row is None:
        raise EngineError("The server does not tell how long its log's segments are.")
    return int(row[0])


def _unusable(reason: str) -> Invalid:
    return Invalid(
        f"The parent backup cannot be built on: {reason}. Make a full backup.", code="parent-unusable"
    )


def _explained(error: EngineError) -> EngineError:
    if "tablespace" in error.sentence:
        return EngineError(
            f"A server with tablespaces outside its data directory cannot be backed up: move them. {error.sentence}"
        )
    if "could not find" in error.sentence or "has already been removed" in error.sentence:
        return EngineError(
            f"So much was written meanwhile that the server forgot log that the backup needs: try again. {error.sentence}"
        )
    return error
