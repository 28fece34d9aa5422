"""Base backups by pg_basebackup, with the log they need to be consistent in them.

From version 17 increments have the blocks changed since their parent, which the server's own log summaries tell, and
pg_combinebackup makes a whole of a chain. Before, an increment is the log since its parent, replayed at the next start;
a replication slot keeps it, within a bound, so a parent may have become useless. See decision 21.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

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
from argosy.engines.postgresql.session import ADMIN, Connection, Sessions, conninfo
from argosy.engines.postgresql.tar import Kept
from argosy.engines.process import ServerProcess

_AREA = "backup"
_BACKING_UP = {marks.ROLE: _AREA}
_MANIFEST = "backup_manifest"
_MANIFESTS_KEPT = 50
_SLOT = "os_backup_chain"
_BLOCKS_SINCE = 17  # the first version with increments of blocks
_SEGMENT = re.compile(r"[0-9A-F]{24}")


class PostgresBackUps(BackUps, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    server: ServerProcess
    sessions: Sessions
    programs: Programs
    increments = None

    def back_up(self, write: Write, parent: Facts | None, say: Say) -> Facts:
        pipes.end(self.host, _BACKING_UP)
        with self.sessions.open() as session:
            mine = history.name(session, self.host.data)
        if parent is not None:
            self._check_parent(parent, mine)
        say("counting rows")
        before = fingerprints.count(self.sessions)
        say("backing up")
        if parent is not None and int(self.host.version) < _BLOCKS_SINCE:
            told = self._write_log_since(parent, write)
        else:
            told = self._write_base(parent, write)
        # The state is that of a moment no later than this.
        consistent_at = datetime.now(UTC).isoformat()
        say("counting rows again")
        return {
            **told,
            CONSISTENT_AT: consistent_at,
            FINGERPRINT: fingerprints.unchanged(before, fingerprints.count(self.sessions)),
            "history": mine,
            "series": self.host.version,
            "server_version": self.server_version(),
        }

    def restore(self, chain: Sequence[Stored], log: Log | None, say: Say) -> Facts:
        making = self.host.data.with_name(f".{self.host.data.name}.new")
        staging.remove(making)
        self.host.make_directory(making)
        whole = making / "0"
        for number, stored in enumerate(chain):
            say("unpacking" if len(chain) == 1 else f"unpacking {number + 1} of {len(chain)}")
            blocks = number == 0 or int(self.host.version) >= _BLOCKS_SINCE
            target = making / str(number) if blocks else whole / "pg_wal"
            if blocks:
                self.host.make_directory(target)
            pipes.feed(self.host, _unpack(target), stored.read(), mark=restores.MARK)
        if len(chain) > 1 and int(self.host.version) >= _BLOCKS_SINCE:
            say("combining the increments")
            whole = self._combine(making, len(chain))
        for left in (_MANIFEST, f"{_MANIFEST}.old", "recovery.signal", "standby.signal", "postmaster.pid"):
            staging.remove(whole / left)
        if not (whole / "PG_VERSION").is_file():
            raise EngineError("The backup holds no data directory of PostgreSQL's.")
        history.begin(self.host, whole)
        whole.rename(self.host.data)
        staging.remove(making)
        facts = chain[-1].facts
        if log is None:
            return {"reached_at": facts[CONSISTENT_AT], "reached_position": facts[POSITION]}
        return replay.replay(self.host, self.programs, self.server, log, say)

    def _check_parent(self, parent: Facts, mine: str) -> None:
        """Raises Invalid unless the running server has gone on from there."""
        if parent.get("history") != mine:
            raise _unusable("the instance's data was restored since, or is another instance's")
        if parent.get("series") != self.host.version:
            raise _unusable(f"it was made by version {parent.get('series')}, and this is {self.host.version}")

    def _write_base(self, parent: Facts | None, write: Write) -> dict[str, Any]:
        since = [] if parent is None else [f"--incremental={self._manifest_of(parent)}"]
        kept = Kept(_MANIFEST)
        command: list[str | Path] = [
            self.programs.postgres.with_name("pg_basebackup"), "-h", self.host.run, "-p", str(self.host.port),
            "-U", ADMIN, "--no-password", "-D", "-", "-F", "tar", "-X", "fetch", "-c", "fast", "--no-sync", *since,
        ]  # fmt: skip
        with self._log_kept():
            try:
                # As the agent, whom alone the server lets in.
                for part in pipes.printed(self.host, command, mark=_BACKING_UP, as_agent=True):
                    kept.look(part)
                    write(part)
            except EngineError as error:
                if parent is not None and re.search(r"summar|manifest|incremental", error.sentence):
                    raise _unusable(error.sentence) from error
                raise _explained(error) from error
        try:
            manifest = bytes(kept.files[_MANIFEST])
            ranges = json.loads(manifest)["WAL-Ranges"]
            start = lsn.number(ranges[0]["Start-LSN"])
        except (KeyError, ValueError, IndexError) as error:
            raise EngineError("pg_basebackup ended without a manifest: the backup is not whole.") from error
        told: dict[str, Any] = {
            "timeline": int(ranges[-1]["Timeline"]),
            POSITION: ranges[-1]["End-LSN"],
            LOG_FROM: start,
        }
        if int(self.host.version) >= _BLOCKS_SINCE:
            told["manifest"] = self._keep_manifest(manifest)
        else:
            with self.sessions.open() as session:
                _keep_log_from(session)
        return told

    @contextmanager
    def _log_kept(self) -> Iterator[None]:
        """Until the end of this the server forgets nothing of its log, within its own bound (max_slot_wal_keep_size)."""
        with psycopg.connect(conninfo(self.host), autocommit=True) as session:
            # Of no use is a slot to a server whose owner allows none: then a busy one may be too fast for the backup.
            with suppress(psycopg.Error):
                session.execute(
                    "SELECT pg_create_physical_replication_slot('os_backup_' || pg_backend_pid(), true, true)"
                )
            yield

    def _combine(self, making: Path, length: int) -> Path:
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

    def _write_log_since(self, parent: Facts, write: Write) -> dict[str, Any]:
        """The segments of the log from the parent's end on, as a tar archive."""
        with self.sessions.open() as session:
            # What is committed now is in them; the server begins another segment.
            row = session.execute(
                "SELECT pg_switch_wal()::text, timeline_id, bytes_per_wal_segment"
                " FROM pg_control_checkpoint(), pg_control_init()"
            ).fetchone()
            if row is None:
                raise EngineError("The server does not tell where its log stands.")
            end_lsn, timeline, segment_bytes = str(row[0]), int(row[1]), int(row[2])
        start, end = lsn.number(str(parent[POSITION])), lsn.number(end_lsn)
        if timeline != parent["timeline"]:
            raise _unusable("the server's log has taken another way since")
        names = [
            lsn.segment_name(timeline, number, segment_bytes)
            for number in range(start // segment_bytes, -(-end // segment_bytes))
        ]
        with _Tar(write) as archive:
            for name in names:
                archive.add(self.host.data / "pg_wal" / name)
        with self.sessions.open() as session:
            _keep_log_from(session)
        return {
            "timeline": timeline,
            POSITION: end_lsn,
            LOG_FROM: int(parent[LOG_FROM]),
        }

    def _keep_manifest(self, content: bytes) -> str:
        """Where an increment on this backup finds it; returns what it is known by."""
        place = self.host.etc / "backup-manifests"
        place.mkdir(mode=0o700, exist_ok=True)
        digest = hashlib.sha256(content).hexdigest()
        target = place / f"{digest}.gz"
        temporary = target.with_suffix(".new")
        temporary.write_bytes(gzip.compress(content, compresslevel=6))
        temporary.replace(target)
        kept = sorted(place.glob("*.gz"), key=lambda file: file.stat().st_mtime)
        for old in kept[:-_MANIFESTS_KEPT]:
            old.unlink(missing_ok=True)
        return digest

    def _manifest_of(self, parent: Facts) -> Path:
        """The parent's manifest, unpacked. Raises Invalid when it is not kept any more."""
        digest = str(parent.get("manifest", ""))
        packed = self.host.etc / "backup-manifests" / f"{digest}.gz"
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or not packed.is_file():
            raise _unusable("its manifest is not on the server any more")
        place = self.host.run / "parent-manifest"
        content = gzip.decompress(packed.read_bytes())
        staging.remove(place)
        place.write_bytes(content)
        return place


class _Tar:
    """A tar archive of a few files, written as it is made."""

    def __init__(self, write: Write) -> None:
        self._write = write

    def __enter__(self) -> Self:
        return self

    def add(self, file: Path) -> None:
        try:
            size = file.stat().st_size
            with file.open("rb") as content:
                header = tarfile.TarInfo(file.name)
                header.size, header.mode = size, 0o600
                self._write(header.tobuf(tarfile.USTAR_FORMAT))
                while part := content.read(2**20):
                    self._write(part)
        except FileNotFoundError as error:
            raise _unusable(f"the server has forgotten {file.name}, a part of its log since then") from error
        self._write(b"\0" * (-size % tarfile.BLOCKSIZE))

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._write(b"\0" * tarfile.RECORDSIZE)


def _keep_log_from(session: Connection) -> None:
    """From here on the server keeps its log for the next increment, within `max_slot_wal_keep_size`."""
    session.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (_SLOT,)
    )
    with suppress(psycopg.Error):
        session.execute("SELECT pg_create_physical_replication_slot(%s, true)", (_SLOT,))


def _unpack(target: Path) -> list[str | Path]:
    return ["tar", "--extract", "--no-same-owner", "--preserve-permissions", "-f", "-", "-C", target]


def _unusable(reason: str) -> Invalid:
    return Invalid(
        f"The parent backup cannot be built on: {reason}. Make a full backup.", code="parent-unusable"
    )


def _explained(error: EngineError) -> EngineError:
    if "single tablespace" in error.sentence or "tablespace" in error.sentence:
        return EngineError(
            f"A server with tablespaces outside its data directory cannot be backed up: move them. {error.sentence}"
        )
    if "could not find" in error.sentence or "has already been removed" in error.sentence:
        return EngineError(
            f"So much was written meanwhile that the server forgot log that the backup needs: try again. {error.sentence}"
        )
    return error
