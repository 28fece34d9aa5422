"""The archive format: what comes back is what went in, and whatever was done to it is found out."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from argosy.domain.errors import BackupUnusable
from argosy.storage import archive, keys
from argosy.storage.archive import CHUNK_BYTES, Reader, Writer
from argosy.storage.base import ObjectNotFound
from argosy.storage.keys import KeyRing

KEY = bytes(range(32))
Held = dict[str, bytes]


class Memory:
    def __init__(self) -> None:
        self.held: Held = {}

    def put(self, name: str, content: bytes) -> None:
        self.held[name] = content

    def get(self, name: str) -> bytes:
        try:
            return self.held[name]
        except KeyError:
            raise ObjectNotFound(name=name) from None


STREAM = os.urandom(CHUNK_BYTES) + b"abc" * CHUNK_BYTES + b"the end"


def written(archive_id: str = "a") -> Memory:
    objects = Memory()
    writer = Writer(objects, archive_id, KEY)
    for start in range(0, len(STREAM), 1_000_003):
        writer.write(STREAM[start : start + 1_000_003])
    writer.finish({"position": "0/1"})
    return objects


def read(objects: Memory, archive_id: str = "a", key: bytes = KEY) -> bytes:
    return b"".join(Reader(objects, archive_id, key).read())


def test_what_is_read_is_what_was_written() -> None:
    objects = written()
    manifest = Reader(objects, "a", KEY).manifest
    assert read(objects) == STREAM
    assert (manifest.data_bytes, dict(manifest.facts)) == (len(STREAM), {"position": "0/1"})
    assert manifest.size_bytes == sum(
        len(content) for name, content in objects.held.items() if name.startswith("chunk-")
    )
    assert len(manifest.chunks) == 5


@pytest.mark.parametrize("stream", [b"", b"x", b"y" * CHUNK_BYTES])
def test_streams_at_the_edges(stream: bytes) -> None:
    objects = Memory()
    writer = Writer(objects, "a", KEY)
    writer.write(stream)
    assert writer.finish({}).data_bytes == len(stream)
    assert read(objects) == stream


@settings(max_examples=25)
@given(cuts=strategies.lists(strategies.integers(0, 1000), max_size=40), chunk=strategies.integers(1, 300))
def test_how_a_stream_is_cut_makes_no_difference(cuts: list[int], chunk: int) -> None:
    stream = os.urandom(1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "CHUNK_BYTES", chunk)
        objects = Memory()
        edges = [0, *sorted(cuts), len(stream)]
        with Writer(objects, "a", KEY) as writer:
            for start, end in itertools.pairwise(edges):
                writer.write(stream[start:end])
            manifest = writer.finish({})
    assert len(manifest.chunks) == -(-len(stream) // chunk)
    assert read(objects) == stream


class Slow(Memory):
    """Lets nothing through until told, and counts how much wants to go through at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.waiting = threading.Semaphore(0)

    def put(self, name: str, content: bytes) -> None:
        self.waiting.release()
        assert self.open.wait(30)
        super().put(name, content)


def test_no_more_than_a_few_chunks_are_held_while_the_store_is_slow() -> None:
    objects = Slow()
    taken = []

    def write() -> None:
        with Writer(objects, "a", KEY) as writer:
            for number in range(6):
                writer.write(bytes(CHUNK_BYTES))
                taken.append(number)
            writer.finish({})

    thread = threading.Thread(target=write)
    thread.start()
    for _ in range(archive.AT_ONCE):
        assert objects.waiting.acquire(timeout=30)
    assert len(taken) <= archive.AT_ONCE
    assert not objects.waiting.acquire(timeout=0.1)
    objects.open.set()
    thread.join()
    assert read(objects) == bytes(6 * CHUNK_BYTES)


def test_a_writer_that_is_left_by_an_error_has_nothing_on_its_way() -> None:
    objects = Slow()

    def write() -> None:
        with Writer(objects, "a", KEY) as writer:
            for _ in range(archive.AT_ONCE):
                writer.write(bytes(CHUNK_BYTES))
            raise InterruptedError

    left = threading.Event()

    def run() -> None:
        with pytest.raises(InterruptedError):
            write()
        left.set()

    thread = threading.Thread(target=run)
    thread.start()
    assert objects.waiting.acquire(timeout=30)
    assert not left.wait(0.1)
    objects.open.set()
    thread.join()
    assert "manifest.json" not in objects.held


def test_a_limit_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("argosy.storage.archive.time.monotonic", lambda: now[0])
    monkeypatch.setattr("argosy.storage.archive.time.sleep", lambda seconds: now.append(now.pop() + seconds))
    with Writer(Memory(), "a", KEY, limit_mb_s=80) as writer:
        writer.write(bytes(3 * CHUNK_BYTES))
        writer.finish({})
    assert now[0] - 1000 >= 2 * CHUNK_BYTES / (80 * 2**20)


def test_a_reader_that_is_given_up_leaves_no_thread() -> None:
    parts = Reader(written(), "a", KEY).read()
    next(parts)
    parts.close()  # type: ignore[attr-defined]  # it is a generator
    for thread in threading.enumerate():
        if thread.name.startswith("archive"):
            thread.join(30)
            assert not thread.is_alive()


def _flip(held: Held) -> None:
    content = bytearray(held["chunk-00000001"])
    content[len(content) // 2] ^= 1
    held["chunk-00000001"] = bytes(content)


def _swap(held: Held) -> None:
    held["chunk-00000000"], held["chunk-00000001"] = held["chunk-00000001"], held["chunk-00000000"]


def _cut(held: Held) -> None:
    held["chunk-00000000"] = held["chunk-00000000"][:-1]


def _lose(held: Held) -> None:
    del held["chunk-00000002"]


def _take_anothers(held: Held) -> None:
    held["chunk-00000004"] = written("b").held["chunk-00000004"]


def _leave_out_the_last(held: Held) -> None:
    sealed = json.loads(held["manifest.json"])
    manifest = json.loads(sealed["manifest"])
    manifest["chunks"].pop()
    sealed["manifest"] = json.dumps(manifest, sort_keys=True)
    held["manifest.json"] = json.dumps(sealed).encode()


def _lose_the_manifest(held: Held) -> None:
    del held["manifest.json"]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_flip, "chunk-00000001 of archive a is damaged: its SHA-256"),
        (_swap, "chunk-00000000 of archive a is damaged"),
        (_cut, "chunk-00000000 of archive a is damaged: it has"),
        (_lose, "chunk-00000002 of archive a is missing"),
        (_take_anothers, "chunk-00000004 of archive a is damaged"),
        (_leave_out_the_last, "it was changed"),
        (_lose_the_manifest, "manifest.json of archive a is missing"),
    ],
)
def test_harm_is_found_and_named(harm: Callable[[Held], None], told: str) -> None:
    objects = written()
    harm(objects.held)
    with pytest.raises(BackupUnusable, match=told):
        read(objects)


def test_a_chunk_with_its_hash_changed_in_the_manifest_too_does_not_open() -> None:
    """Whoever can write the store can do that, but has no key to seal the manifest with."""
    objects = written()
    other = written("b")
    manifest = Reader(objects, "a", KEY).manifest
    forged = archive.Manifest(
        "a", Reader(other, "b", KEY).manifest.chunks, manifest.data_bytes, manifest.sha256
    )
    objects.held = {**other.held, "manifest.json": forged.sealed(KEY)}
    with pytest.raises(BackupUnusable, match="its key does not open it"):
        read(objects)


def test_who_reads_the_store_learns_nothing_of_the_data() -> None:
    objects = Memory()
    with Writer(objects, "a", KEY) as writer:
        writer.write(b"a secret row" * 1000)
        manifest = writer.finish({"fingerprint": {"table patients": 471108154711}})
    everything = b"".join(objects.held.values())
    # Long enough a number that hashes in hex do not have it by chance.
    for told in (b"secret", b"patients", b"471108154711", manifest.sha256.encode()):
        assert told not in everything


def test_chunks_can_be_checked_without_a_key() -> None:
    objects = written()
    listed = json.loads(json.loads(objects.held["manifest.json"])["manifest"])["chunks"]
    for number, chunk in enumerate(listed):
        assert hashlib.sha256(objects.held[f"chunk-{number:08}"]).hexdigest() == chunk["sha256"]


def test_the_wrong_key_and_the_wrong_archive_are_told() -> None:
    with pytest.raises(BackupUnusable, match="the key is another's"):
        read(written(), key=bytes(32))
    with pytest.raises(BackupUnusable, match="is that of b"):
        read(written("b"), "a")


def test_keys_are_wrapped_and_rotated_without_the_data(tmp_path: Path) -> None:
    ring = KeyRing.open(tmp_path / "keys")
    key, wrapped = ring.new()
    assert ring.unwrap(wrapped) == key
    assert key.hex() not in wrapped
    first = ring.active
    ring.rotate()
    assert ring.unwrap(wrapped) == key
    again = ring.rewrap(wrapped)
    assert ring.wrapped_by(again) == ring.active != first
    ring.remove(first)
    assert ring.unwrap(again) == key
    with pytest.raises(BackupUnusable, match="is not in the key ring"):
        ring.unwrap(wrapped)
    assert {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "keys").iterdir()} == {"0o600"}


@pytest.mark.parametrize("wrapped", ["", "nobody:", "../../etc/passwd:AAAA", "20260101T000000.0Z:!"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, wrapped: str) -> None:
    with pytest.raises(BackupUnusable):
        KeyRing.open(tmp_path / "keys").unwrap(wrapped)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": "x", "wrapped": "y"}'])
def test_key_documents(content: bytes) -> None:
    assert keys.wrapped_in(keys.document("a:b")) == "a:b"
    with pytest.raises(BackupUnusable):
        keys.wrapped_in(content)
