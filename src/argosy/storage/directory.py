"""Objects in a directory: their content in files with names of our own making, everything else in an index.

No name of a user's is ever a file's. A file is written and synced before the index knows it, and removed after
the index has forgotten it, so a crash leaves at most a file that nobody knows, which `expire` finds.
The index is an SQLite database; several processes may use one store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from argosy.domain.errors import Invalid
from argosy.files import keep_database
from argosy.storage import base
from argosy.storage.base import (
    LISTED_AT_ONCE,
    AccountFull,
    Container,
    ContainerNotEmpty,
    ContainerNotFound,
    DigestDiffers,
    Listed,
    ObjectNotFound,
    ObjectStore,
    ObjectTooLarge,
    StoredObject,
    StoreFull,
)

_PART = 256 * 1024
_LOOK_EVERY = 16 * 2**20  # bytes written between two looks at what is free
_LEAST_FREE = 512 * 2**20
_ORPHAN_AFTER_S = 24 * 3600  # no upload takes longer
# Behind every name that begins alike: a name has 1024 bytes, and this character four.
_LAST = "\U0010ffff" * 257

_TABLES = """
CREATE TABLE IF NOT EXISTS containers (
    account TEXT NOT NULL, name TEXT NOT NULL, created REAL NOT NULL, metadata TEXT NOT NULL,
    PRIMARY KEY (account, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objects (
    account TEXT NOT NULL, container TEXT NOT NULL, name TEXT NOT NULL,
    file TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL, content_type TEXT NOT NULL,
    modified REAL NOT NULL, expires REAL, metadata TEXT NOT NULL,
    PRIMARY KEY (account, container, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS objects_expires ON objects (expires) WHERE expires IS NOT NULL;
CREATE INDEX IF NOT EXISTS objects_file ON objects (file);
"""
_COLUMNS = "name, size, digest, content_type, modified, expires, metadata"


class DirectoryStore(ObjectStore):
    """The store in a directory, made when it is not there. `most_bytes` is what one account may hold."""

    def __init__(self, directory: Path, *, most_bytes: int | None = None) -> None:
        self._files = directory / "files"
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        self._most_bytes = most_bytes
        self._threads = threading.local()
        self._index = directory / "index.db"
        keep_database(self._index)
        with self._changing() as index:
            for statement in _TABLES.split(";"):
                index.execute(statement)

    def usage(self, account: str) -> tuple[int, int, int]:
        ((containers,),) = self._all("SELECT count(*) FROM containers WHERE account = ?", account)
        ((objects, size),) = self._all(
            f"SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE account = ? AND {_THERE}",  # noqa: S608 - ours
            account,
            time.time(),
        )
        return int(containers), int(objects), int(size)

    def containers(
        self, account: str, *, prefix: str = "", after: str = "", limit: int = LISTED_AT_ONCE
    ) -> list[Container]:
        rows = self._all(
            "SELECT name, created, metadata FROM containers"
            " WHERE account = ? AND name > ? AND name >= ? AND name <= ? ORDER BY name LIMIT ?",
            account,
            after,
            prefix,
            prefix + _LAST,
            limit,
        )
        return [self._container(account, *row) for row in rows]

    def create_container(
        self, account: str, container: str, metadata: Mapping[str, str | None] | None = None
    ) -> bool:
        base.check_container_name(container)
        with self._changing() as index:
            row = index.execute(
                "SELECT metadata FROM containers WHERE account = ? AND name = ?", (account, container)
            ).fetchone()
            merged = {**(json.loads(row[0]) if row else {}), **(metadata or {})}
            kept = {name: value for name, value in merged.items() if value}
            base.check_metadata(kept)
            if row is None:
                index.execute(
                    "INSERT INTO containers VALUES (?, ?, ?, ?)",
                    (account, container, time.time(), json.dumps(kept)),
                )
            elif metadata:
                index.execute(
                    "UPDATE containers SET metadata = ? WHERE account = ? AND name = ?",
                    (json.dumps(kept), account, container),
                )
        return row is None

    def container(self, account: str, container: str) -> Container:
        rows = self._all(
            "SELECT name, created, metadata FROM containers WHERE account = ? AND name = ?",
            account,
            container,
        )
        if not rows:
            raise ContainerNotFound(container=container)
        return self._container(account, *rows[0])

    def delete_container(self, account: str, container: str) -> None:
        with self._changing() as index:
            there = index.execute(
                f"SELECT 1 FROM objects WHERE account = ? AND container = ? AND {_THERE} LIMIT 1",  # noqa: S608 - ours
                (account, container, time.time()),
            ).fetchone()
            if there:
                raise ContainerNotEmpty(container=container)
            gone = index.execute(
                "DELETE FROM containers WHERE account = ? AND name = ?", (account, container)
            )
            if gone.rowcount == 0:
                raise ContainerNotFound(container=container)

    def objects(
        self,
        account: str,
        container: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        limit: int = LISTED_AT_ONCE,
    ) -> list[Listed]:
        self.container(account, container)
        found: list[Listed] = []
        while len(found) < limit:
            rows = self._all(
                f"SELECT {_COLUMNS} FROM objects WHERE account = ? AND container = ? AND name > ?"  # noqa: S608 - ours
                f" AND name >= ? AND name <= ? AND {_THERE} ORDER BY name LIMIT ?",
                account,
                container,
                after,
                prefix,
                prefix + _LAST,
                time.time(),
                1 if delimiter else limit - len(found),
            )
            if not rows:
                break
            for row in rows:
                stored = _object(row)
                rest = stored.name[len(prefix) :]
                cut = rest.find(delimiter) if delimiter else -1
                if cut < 0:
                    found.append(Listed(stored=stored))
                    after = stored.name
                    continue
                common = prefix + rest[: cut + len(delimiter)]
                # All that have this in common are one line, and looked at no further.
                if common > after:
                    found.append(Listed(common=common))
                after = common + _LAST
        return found

    def stored(self, account: str, container: str, name: str) -> StoredObject:
        return _object(self._row(account, container, name)[1:])

    @contextmanager
    def open(self, account: str, container: str, name: str) -> Iterator[_Content]:
        while True:
            row = self._row(account, container, name)
            try:
                file = (self._files / row[0][:2] / row[0]).open("rb")
            except FileNotFoundError:
                # Replaced between the two; but a file the index goes on to name is lost.
                if self._row(account, container, name)[0] == row[0]:
                    raise
                continue
            break
        with file:
            yield _Content(_object(row[1:]), file)

    @contextmanager
    def writing(
        self,
        account: str,
        container: str,
        name: str,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
        digest: str | None = None,
    ) -> Iterator[_Writing]:
        base.check_object_name(name)
        base.check_metadata(metadata or {})
        self.container(account, container)
        held = self.usage(account)[2] if self._most_bytes is not None else 0
        writing = _Writing(self, held, self._most_bytes, digest)
        try:

            def enter() -> StoredObject:
                return self._enter(
                    writing, account, container, name, content_type, dict(metadata or {}), expires_at
                )

            writing.enter = enter
            yield writing
        finally:
            writing.close()

    def change(
        self,
        account: str,
        container: str,
        name: str,
        *,
        metadata: Mapping[str, str],
        expires_at: datetime | None,
        content_type: str | None = None,
    ) -> None:
        base.check_metadata(metadata)
        with self._changing() as index:
            changed = index.execute(
                "UPDATE objects SET metadata = ?, expires = ?, content_type = coalesce(?, content_type)"  # noqa: S608 - ours
                f" WHERE account = ? AND container = ? AND name = ? AND {_THERE}",
                (
                    json.dumps(dict(metadata)),
                    expires_at.timestamp() if expires_at else None,
                    content_type,
                    account,
                    container,
                    name,
                    time.time(),
                ),
            )
        if changed.rowcount == 0:
            raise ObjectNotFound(name=name)

    def delete(self, account: str, container: str, name: str) -> None:
        with self._changing() as index:
            row = index.execute(
                f"DELETE FROM objects WHERE account = ? AND container = ? AND name = ? AND {_THERE} RETURNING file",  # noqa: S608 - ours
                (account, container, name, time.time()),
            ).fetchone()
        if row is None:
            raise ObjectNotFound(name=name)
        self.drop(row[0])

    def expire(self) -> int:
        with self._changing() as index:
            rows = index.execute(
                "DELETE FROM objects WHERE expires <= ? RETURNING file", (time.time(),)
            ).fetchall()
        for (file,) in rows:
            self.drop(file)
        self._drop_orphans()
        return len(rows)

    def drop(self, file: str) -> None:
        (self._files / file[:2] / file).unlink(missing_ok=True)

    def new_file(self) -> tuple[str, BinaryIO]:
        name = uuid.uuid4().hex
        directory = self._files / name[:2]
        directory.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(directory / name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        return name, os.fdopen(descriptor, "wb", buffering=0)

    def has_room(self) -> bool:
        return shutil.disk_usage(self._files).free >= _LEAST_FREE

    def _enter(
        self,
        writing: _Writing,
        account: str,
        container: str,
        name: str,
        content_type: str,
        metadata: dict[str, str],
        expires_at: datetime | None,
    ) -> StoredObject:
        now = time.time()
        expires = expires_at.timestamp() if expires_at else None
        values = (writing.size, writing.digest, content_type, now, expires, json.dumps(metadata))
        with self._changing() as index:
            if not index.execute(
                "SELECT 1 FROM containers WHERE account = ? AND name = ?", (account, container)
            ).fetchone():
                raise ContainerNotFound(container=container)
            before = index.execute(
                "SELECT file FROM objects WHERE account = ? AND container = ? AND name = ?",
                (account, container, name),
            ).fetchone()
            index.execute(
                "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (account, container, name, writing.file, *values),
            )
        if before:
            self.drop(before[0])
        return _object((name, *values))

    def _row(self, account: str, container: str, name: str) -> Any:
        rows = self._all(
            f"SELECT file, {_COLUMNS} FROM objects WHERE account = ? AND container = ? AND name = ? AND {_THERE}",  # noqa: S608 - ours
            account,
            container,
            name,
            time.time(),
        )
        if not rows:
            raise ObjectNotFound(name=name)
        return rows[0]

    def _container(self, account: str, name: str, created: float, metadata: str) -> Container:
        ((objects, size),) = self._all(
            f"SELECT count(*), coalesce(sum(size), 0) FROM objects WHERE account = ? AND container = ? AND {_THERE}",  # noqa: S608 - ours
            account,
            name,
            time.time(),
        )
        return Container(name, _date(created), int(objects), int(size), json.loads(metadata))

    def _drop_orphans(self) -> None:
        """Files that no object has, of writes that never came to their end."""
        before = time.time() - _ORPHAN_AFTER_S
        for place in self._files.iterdir():
            for file in place.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if file.stat().st_mtime < before and not self._all(
                        "SELECT 1 FROM objects WHERE file = ?", file.name
                    ):
                        file.unlink()

    def _all(self, query: str, *values: Any) -> list[Any]:
        try:
            return self._connection().execute(query, values).fetchall()
        except UnicodeEncodeError as error:
            raise Invalid("Names must be valid UTF-8.") from error

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which nobody else's overlaps."""
        connection = self._connection()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except UnicodeEncodeError as error:
            connection.execute("ROLLBACK")
            raise Invalid("Names must be valid UTF-8.") from error
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        """This thread's own."""
        kept: sqlite3.Connection | None = getattr(self._threads, "connection", None)
        if kept is None:
            kept = sqlite3.connect(self._index, timeout=30, isolation_level=None, check_same_thread=False)
            kept.execute("PRAGMA synchronous = FULL")
            self._threads.connection = kept
        return kept


_THERE = "(expires IS NULL OR expires > ?)"


class _Content:
    def __init__(self, stored: StoredObject, file: BinaryIO) -> None:
        self.stored = stored
        self._file = file

    def read(self, start: int, end: int) -> Iterator[bytes]:
        self._file.seek(start)
        left = end - start
        while left > 0 and (part := self._file.read(min(_PART, left))):
            left -= len(part)
            yield part


class _Writing:
    """A file that is being written; `enter` puts it into the index."""

    def __init__(
        self, store: DirectoryStore, held: int, most_bytes: int | None, expected: str | None
    ) -> None:
        self._store = store
        self._held = held
        self._most_bytes = most_bytes
        self._expected = expected
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._unlooked = _LOOK_EVERY
        self.size = 0
        self.enter: Any = None
        self._entered = False
        self.file, self._open = store.new_file()

    @property
    def digest(self) -> str:
        return self._md5.hexdigest()

    def write(self, part: bytes) -> None:
        self.size += len(part)
        self._unlooked += len(part)
        if self.size > base.OBJECT_MAX:
            raise ObjectTooLarge(most=base.OBJECT_MAX)
        if self._most_bytes is not None and self._held + self.size > self._most_bytes:
            raise AccountFull(most=self._most_bytes)
        if self._unlooked >= _LOOK_EVERY:
            self._unlooked = 0
            if not self._store.has_room():
                raise StoreFull
        self._md5.update(part)
        view = memoryview(part)
        while view:
            view = view[self._open.write(view) :]

    def finish(self) -> StoredObject:
        if self._expected is not None and self._expected.strip('"').lower() != self.digest:
            raise DigestDiffers
        os.fsync(self._open.fileno())
        stored: StoredObject = self.enter()
        self._entered = True
        return stored

    def close(self) -> None:
        self._open.close()
        if not self._entered:
            self._store.drop(self.file)


def _object(row: Any) -> StoredObject:
    name, size, digest, content_type, modified, expires, metadata = row
    return StoredObject(
        name,
        size,
        digest,
        content_type,
        _date(modified),
        None if expires is None else _date(expires),
        json.loads(metadata),
    )


def _date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
