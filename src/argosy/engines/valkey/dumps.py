"""Dumps: snapshots (RDB), which every Redis and Valkey reads and its tools write.

A snapshot is loaded beside the server's data, not in its place. A server can only start on one; so a private server
does, and key after key moves from it into the real one, which checks each as it checks what users RESTORE.
"""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path

from argosy.domain.errors import EngineError, Invalid, OutOfSpace
from argosy.engines import staging
from argosy.engines.backups import Dumps, Write
from argosy.engines.dumped import recognise
from argosy.engines.host import Host
from argosy.engines.process import ServerProcess
from argosy.engines.valkey import configuration
from argosy.engines.valkey.accounts import ADMIN
from argosy.engines.valkey.backups import SOCKET, ValkeyBackups
from argosy.engines.valkey.client import Client, Refused
from argosy.engines.valkey.keyspace import keys_in
from argosy.engines.valkey.rdb import HEAD, read_head
from argosy.engines.valkey.snapshot import RESERVE

AREA = "load"
_SNAPSHOT = "dump.rdb"
_MIB = 2**20
_KEYS = 500
_BYTES = 4 * _MIB
_PATIENCE_S = 120
_NO_DATABASES = "This datastore has no databases and no tables: leave `database` and `table` out."


class ValkeyDumps(ValkeyBackups, Dumps):
    """A mixin of the whole engine, which brings all else."""

    @abstractmethod
    def start_reading(self, snapshot: str) -> None: ...

    def dump(self, write: Write, database: str | None, table: str | None) -> None:
        """All there is, without users."""
        if database is not None or table is not None:
            raise Invalid(_NO_DATABASES)
        with self.snapshot() as taken, contextlib.closing(taken.read()) as parts:
            for part in parts:
                write(part)

    def load_dump(self, parts: Iterator[bytes], database: str | None) -> list[str]:
        """Keys that are there already are replaced."""
        if database is not None:
            raise Invalid(_NO_DATABASES)
        parts = recognise(parts, [b"REDIS0", b"VALKEY"], "a snapshot (RDB) of Redis or Valkey")
        place = self._place()
        reader = type(self)(place, ServerProcess(place, place.logs / "server.log", role=AREA))  # type: ignore[call-arg]
        self.end_load()
        try:
            staging.make_directory(self.host, self._area)
            staging.lay(place, parameters=True)
            self.host.make_directory(place.data)
            self._keep(parts, place)
            try:
                reader.start_reading(_SNAPSHOT)
            except EngineError as error:
                raise Invalid(f"The dump cannot be read. {error.sentence}", code="bad-dump") from error
            self._check_room_for(int(reader.client.info("memory")["used_memory"]))
            self._take_all(reader)
        finally:
            reader.client.close()
            reader.server.kill()
            self.end_load()
        return []

    def settle(self) -> None:
        self.end_load()
        super().settle()

    def end_load(self) -> None:
        """Take away what is left of one, also of an earlier agent's."""
        place = self._place()
        ServerProcess(place, self.host.logs / "server.log", role=AREA).kill()
        staging.remove(self._area)
        staging.clear(self.host, AREA)

    @property
    def _area(self) -> Path:
        return self.host.data.parent / AREA

    def _place(self) -> Host:
        return staging.beside(self.host, AREA, "n", data=self._area / "data")

    def _keep(self, parts: Iterator[bytes], place: Host) -> None:
        """The dump in a file of the private server's."""
        head, size = b"", 0
        with os.fdopen(
            os.open(place.data / _SNAPSHOT, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as file:
            os.fchown(file.fileno(), place.account.uid, place.account.gid)
            for part in parts:
                if len(head) < HEAD:
                    head += part[: HEAD - len(head)]
                    told = read_head(head)
                    self._check_room_for(told.used_memory if told is not None else 0)
                volume = os.statvfs(place.data)
                if volume.f_bavail * volume.f_frsize < RESERVE + len(part):
                    raise OutOfSpace(
                        f"The volume has no room for the dump, of which {size // _MIB} MB have come: make it larger."
                    )
                file.write(part)
                size += len(part)

    def _check_room_for(self, used: int) -> None:
        """Raises Invalid when what the dump holds in memory does not fit beside what is there."""
        settings = self.layers().settable
        most = self.host.memory_mb * _MIB * 9 // 10
        if settings["maxmemory-policy"] == "noeviction":
            most = min(most, configuration.bytes_of(settings["maxmemory"]) or most)
        there = int(self.client.info("memory")["used_memory"])
        if there + used > most:
            raise Invalid(
                f"The dump takes {used / _MIB:.0f} MB of memory, and of {most / _MIB:.0f} MB are {there / _MIB:.0f} MB in "
                "use: choose a larger flavor.",
                code="does-not-fit",
            )

    def _take_all(self, reader: ValkeyDumps) -> None:
        """Move everything from the private server here; what has moved is gone there, so nothing is held twice."""
        moved = 0
        with (
            contextlib.closing(_connect(reader.host)) as source,
            contextlib.closing(_connect(self.host)) as target,
        ):
            try:
                if source.call("FUNCTION", "LIST"):
                    target.call("FUNCTION", "RESTORE", source.call("FUNCTION", "DUMP"), "REPLACE")
                for number in sorted(keys_in(reader.client), key=int):
                    for keys in _in_portions(source, number):
                        moved += _take(source, target, number, keys)
            except Refused as refusal:
                raise Invalid(
                    f"{moved} keys were loaded, and then no more. {refusal.sentence}", code="bad-dump"
                ) from refusal


def _connect(host: Host) -> Client:
    password = (host.etc / f"{ADMIN}.password").read_text
    return Client(host.run / SOCKET, ADMIN, password, _PATIENCE_S, text=False)


def _in_portions(source: Client, number: str) -> Iterator[list[bytes]]:
    """Every key of a database, as many at once as are some megabytes."""
    cursor = b"0"
    while True:
        _, (cursor, keys) = source.pipeline([("SELECT", number), ("SCAN", cursor, "COUNT", str(_KEYS))])
        _, *sizes = source.pipeline([("SELECT", number), *(("MEMORY", "USAGE", key) for key in keys)])
        portion: list[bytes] = []
        size = 0
        for key, bytes_of_key in zip(keys, sizes, strict=True):
            portion.append(key)
            size += bytes_of_key or 0
            if size > _BYTES:
                yield portion
                portion, size = [], 0
        if portion:
            yield portion
        if cursor == b"0":
            return


def _take(source: Client, target: Client, number: str, keys: Sequence[bytes]) -> int:
    """Every exchange chooses its database, since connections are made anew when they are lost."""
    select = ("SELECT", number)
    _, *replies = source.pipeline(
        [select, *(("DUMP", key) for key in keys), *(("PEXPIRETIME", key) for key in keys)]
    )
    found = [
        (key, content, str(max(0, expires)))
        for key, content, expires in zip(keys, replies[: len(keys)], replies[len(keys) :], strict=True)
        if content is not None
    ]
    target.pipeline(
        [
            select,
            *(("RESTORE", key, expires, content, "REPLACE", "ABSTTL") for key, content, expires in found),
        ]
    )
    source.pipeline([select, ("UNLINK", *keys)])
    return len(found)
