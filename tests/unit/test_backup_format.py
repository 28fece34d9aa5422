"""The page on the format is true: its own scripts read what we write, without us."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from argosy.storage import keys
from argosy.storage.archive import CHUNK_BYTES, Below, Writer
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.directory import DirectoryStore
from argosy.storage.keys import KeyRing
from tests.support import backup_format

STREAM = os.urandom(CHUNK_BYTES) + b"row " * CHUNK_BYTES
FACTS = {"consistent_at": "2026-11-28T14:00:00Z", "rdb_bytes": 5}


class StorePrefix:
    """A prefix of a real store, in which guests' objects are put."""

    def __init__(self, store: DirectoryBackups, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def put(self, name: str, content: bytes) -> None:
        self._store.put("backups", self._prefix + name, content)

    def get(self, name: str) -> bytes:
        return self._store.get("backups", self._prefix + name)


class Installation:
    """A store and a key ring, with the page's scripts beside them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ring = KeyRing.open(directory / "keys")
        self.store = DirectoryBackups(DirectoryStore(directory / "store"), "https://127.0.0.1", bytes(32))
        self.store.check("backups")

    def run(self, script: str, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
        """Where nothing of Argosy can be imported."""
        return backup_format.run(script, self.directory, *arguments)

    def back_up(self, archive_id: str, prefix: str) -> str:
        key, wrapped = self.ring.new()
        objects = StorePrefix(self.store, prefix)
        objects.put("key.json", keys.document(wrapped))
        write(objects, archive_id, key)
        return wrapped

    def fetched(self, prefix: str) -> Path:
        directory = self.directory / "fetched"
        fetched = self.run("fetch.py", self.directory / "store", prefix, directory)
        assert fetched.returncode == 0, fetched.stderr
        return directory

    def extracted(self, directory: Path) -> subprocess.CompletedProcess[bytes]:
        return self.run("extract.py", directory, self.directory / "keys")


def write(objects: StorePrefix | Below, archive_id: str, key: bytes) -> None:
    with Writer(objects, archive_id, key) as writer:
        writer.write(STREAM)
        writer.finish(FACTS)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_the_script_is_as_short_as_promised() -> None:
    script = backup_format.scripts()["extract.py"]
    assert len([line for line in script.splitlines() if line.strip()]) <= 40


def test_the_pages_scripts_read_a_backup(installation: Installation) -> None:
    installation.back_up("another", "i/another/")
    installation.back_up("b", "i/b/")
    extracted = installation.extracted(installation.fetched("i/b/"))
    assert extracted.returncode == 0, extracted.stderr
    assert extracted.stdout == STREAM
    assert json.loads(extracted.stderr) == FACTS


def test_and_one_whose_key_was_rotated(installation: Installation) -> None:
    wrapped = installation.back_up("b", "i/b/")
    old = installation.ring.active
    installation.ring.rotate()
    again = installation.ring.rewrap(wrapped)
    installation.store.put("backups", "i/b/key.json", keys.document(again))
    installation.ring.remove(old)
    assert installation.extracted(installation.fetched("i/b/")).stdout == STREAM


def test_and_a_segment_of_a_log(installation: Installation) -> None:
    key, wrapped = installation.ring.new()
    log = StorePrefix(installation.store, "i/log-a/")
    log.put("key.json", keys.document(wrapped))
    write(Below(log, "000000010000000000000001"), "a/000000010000000000000001", key)
    directory = installation.fetched("i/log-a/")
    assert installation.extracted(directory / "000000010000000000000001").stdout == STREAM


@pytest.mark.parametrize("name", ["chunk-00000001", "manifest.json"])
def test_and_none_that_is_damaged(installation: Installation, name: str) -> None:
    installation.back_up("b", "i/b/")
    directory = installation.fetched("i/b/")
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)
    assert installation.extracted(directory).returncode != 0
