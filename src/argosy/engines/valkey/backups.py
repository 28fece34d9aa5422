"""Backups: a snapshot in the server's own format (RDB), and after it the lines of the ACL file with its users.

Whoever has the archive without us takes the first `rdb_bytes` of it, as its manifest tells, for a dump.rdb. A restore makes
it the base of an append-only file: a server that appends to one reads nothing else, and would come up empty.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from argosy.domain.errors import EngineError, Invalid
from argosy.engines.backups import (
    CONSISTENT_AT,
    FINGERPRINT,
    BackUps,
    Facts,
    KeepsAccounts,
    Log,
    ProvesByItself,
    Say,
    Stored,
    Write,
)
from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.valkey import configuration
from argosy.engines.valkey.accounts import ADMIN, Accounts, read_dump
from argosy.engines.valkey.checks import ValkeyChecks
from argosy.engines.valkey.client import Client, Refused
from argosy.engines.valkey.keyspace import Keys, keys_in
from argosy.engines.valkey.parameters import ValkeyParameters
from argosy.engines.valkey.rdb import HEAD, read_head
from argosy.engines.valkey.snapshot import Snapshot, snapshot

DIRECTORY, MANIFEST = "appendonlydir", "appendonly.aof.manifest"
BASE, INCREMENT = "appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof"
ACL_FILE, SOCKET = "users.acl", "server.sock"
RDB_BYTES, FORMAT, MEMORY = "rdb_bytes", "format", "used_memory_bytes"
_ACCOUNTS_LIMIT = 64 * 2**20
_MIB = 2**20
_SAY_EVERY = 64 * _MIB
_MORE_CLIENTS = 32


class ValkeyBackups(ValkeyChecks, ValkeyParameters, BackUps, KeepsAccounts, ProvesByItself, Engine):
    """A mixin of the whole engine, which brings all else."""

    increments: str | None = (
        "Valkey and Redis can only be backed up in full: leave the parent out, and `incremental` at 0."
    )
    host: Host
    client: Client
    _accounts: Accounts

    def back_up(self, write: Write, parent: Facts | None, say: Say) -> Facts:
        if parent is not None:
            raise Invalid(str(self.increments), code="parent-unusable")
        accounts = self._accounts.dump()
        # Counts are of the snapshot's moment when nothing was changed around it; the first database's always are.
        before, used = self._changes(), int(self.client.info("memory")["used_memory"])
        say("waiting for the server's snapshot")
        with self.snapshot() as taken:
            after, keys = self._changes(), keys_in(self.client)
            known = keys if before == after else None
            size, head = 0, b""
            with contextlib.closing(taken.read()) as parts:
                for part in parts:
                    head += part[: HEAD - len(head)]
                    write(part)
                    if size // _SAY_EVERY != (size + len(part)) // _SAY_EVERY:
                        say(f"reading the server's snapshot: {(size + len(part)) // _MIB} MB")
                    size += len(part)
        told = read_head(head)
        if told is None:
            raise EngineError("What the database server sent is no snapshot.")
        write(accounts.encode())
        if told.database is not None:
            known = {**(known or {}), str(told.database): Keys(told.keys, told.expiring)}
        return {
            CONSISTENT_AT: taken.taken_at.isoformat(),
            FINGERPRINT: {"keys": {name: [one.all, one.expiring] for name, one in (known or {}).items()}},
            RDB_BYTES: size,
            FORMAT: told.format,
            MEMORY: used,
            "server_version": self.server_version(),
        }

    def restore(self, chain: Sequence[Stored], log: Log | None, say: Say) -> Facts:
        if len(chain) != 1 or log is not None:
            raise EngineError(
                "A backup of Valkey or Redis is restored by itself, without others and without a log."
            )
        (stored,) = chain
        self._check_memory(stored.facts)
        whole = self.host.data.with_name(f".{self.host.data.name}.new")
        shutil.rmtree(whole, ignore_errors=True)
        try:
            self.host.make_directory(whole)
            files = self.host.make_directory(whole / DIRECTORY)
            say("unpacking the snapshot")
            accounts = self._unpack(stored, files / BASE)
            lay_manifest(self.host, files, base=True)
            read_dump(accounts)
            self.host.write_file(whole / ACL_FILE, accounts)
            whole.rename(self.host.data)
        except BaseException:
            shutil.rmtree(whole, ignore_errors=True)
            raise
        return {"reached_at": stored.facts[CONSISTENT_AT]}

    def prove(self, accounts: str | None, say: Say) -> list[str]:
        """What the checker has read to its end, key by key, a server loads; that it does is seen when it starts."""
        say("checking the restored data")
        wrong = self.damage()
        if wrong:
            raise EngineError(" ".join(wrong))
        if accounts is not None:
            read_dump(accounts)
            self.host.write_file(self.host.data / ACL_FILE, accounts)
        return []

    def dump_accounts(self) -> str:
        return self._accounts.dump()

    def load_accounts(self, dump: str) -> list[str]:
        """There are no databases to be let into, so nothing is left out."""
        self._accounts.load(dump)
        return []

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Of the running server, also when its users have taken every connection."""
        password = (self.host.etc / f"{ADMIN}.password").read_text()
        version, volume = self.server_version(), self.host.data.parent
        with contextlib.ExitStack() as stack:

            def take() -> Snapshot:
                return stack.enter_context(snapshot(self.host.run / SOCKET, ADMIN, password, version, volume))

            try:
                taken = take()
            except Refused as refusal:
                if "max number of clients" not in refusal.reply:
                    raise
                most = int(self.client.call("CONFIG", "GET", "maxclients")[1])
                self.client.call("CONFIG", "SET", "maxclients", str(most + _MORE_CLIENTS))
                try:
                    taken = take()
                finally:
                    self.client.call("CONFIG", "SET", "maxclients", str(most))
            yield taken

    def _changes(self) -> str:
        """The server's count of changes; what expires does not count."""
        return self.client.info("persistence")["rdb_changes_since_last_save"]

    def _check_memory(self, facts: Facts) -> None:
        settings = self.layers().settable
        most = configuration.bytes_of(settings["maxmemory"])
        used = int(facts[MEMORY])
        if settings["maxmemory-policy"] == "noeviction" and 0 < most < used:
            raise EngineError(
                f"The backup holds {used / _MIB:.0f} MB in memory and the server may hold {most / _MIB:.0f} MB: choose "
                "a larger flavor.",
                code="does-not-fit",
            )

    def _unpack(self, stored: Stored, base: Path) -> str:
        """The snapshot into a file; returns the accounts."""
        left = int(stored.facts[RDB_BYTES])
        accounts = b""
        with os.fdopen(os.open(base, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            os.fchown(file.fileno(), self.host.account.uid, self.host.account.gid)
            for part in stored.read():
                file.write(part[:left])
                accounts += part[left:]
                left -= min(left, len(part))
                if len(accounts) > _ACCOUNTS_LIMIT:
                    break
        if left > 0 or len(accounts) > _ACCOUNTS_LIMIT:
            raise EngineError("The backup does not have the snapshot that its manifest tells of.")
        return accounts.decode(errors="replace")


def lay_manifest(host: Host, directory: Path, *, base: bool) -> None:
    """What makes files of a directory an append-only file, with an increment that is still empty."""
    host.write_file(directory / INCREMENT, "")
    lines = [f"file {BASE} seq 1 type b\n"] if base else []
    host.write_file(directory / MANIFEST, "".join([*lines, f"file {INCREMENT} seq 1 type i\n"]))
