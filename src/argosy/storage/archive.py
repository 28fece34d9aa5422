"""The format of archives: one stream of bytes as numbered chunks and a manifest, which docs/backup-format.md tells in full.

    chunk-00000000   12 random bytes, then AES-256-GCM of a zstd frame of the next part of the stream
    chunk-00000001   …
    manifest.json    each chunk's size and SHA-256, and encrypted what the archive is of and the whole stream's; with a MAC

A chunk is bound to its archive and its number, so one that is altered, cut, or put in another's place does not open.
The manifest is written last: without one there is no archive. Its MAC, by a key derived from the data key, keeps chunks
from being left out, and facts from being changed. Writing and reading take the memory of a few chunks, whatever the
size of the stream: a few are packed, or unpacked, and on their way at a time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from argosy.domain.errors import BackupUnusable
from argosy.storage.base import ObjectNotFound

FORMAT = "argosy-archive/1"
MANIFEST = "manifest.json"
CHUNK_BYTES = 8 * 2**20  # of the stream, before compression
LEVEL = 1  # zstd's: engines.md, 0.3: half the time of 3, for a tenth more
AT_ONCE = 2  # chunks that are packed or unpacked, and on their way, at a time: each takes up to 32 MiB
_NONCE = 12
_LARGEST_CHUNK = 2 * CHUNK_BYTES
_MANIFEST_FOR = b"argosy-archive manifest"


class Objects(Protocol):
    """The objects below one prefix of a store. May be used from several threads at once."""

    def put(self, name: str, content: bytes) -> None:
        """Raises Unavailable when the store stays away for too long, StoreFull, Failed."""

    def get(self, name: str) -> bytes:
        """Raises ObjectNotFound, Unavailable, Failed."""


class Below:
    """Objects below a further prefix, such as those of one segment of a log."""

    def __init__(self, objects: Objects, name: str) -> None:
        self._objects = objects
        self._prefix = f"{name}/"

    def put(self, name: str, content: bytes) -> None:
        self._objects.put(self._prefix + name, content)

    def get(self, name: str) -> bytes:
        return self._objects.get(self._prefix + name)


@dataclass(frozen=True, slots=True)
class Chunk:
    """`size_bytes` and `sha256` are of the object."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """`data_bytes` and `sha256` are of the stream; `facts` are its writer's own."""

    id: str
    chunks: tuple[Chunk, ...]
    data_bytes: int
    sha256: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    format: str = FORMAT

    @property
    def size_bytes(self) -> int:
        """What the chunks take in the store."""
        return sum(chunk.size_bytes for chunk in self.chunks)

    def sealed(self, key: bytes) -> bytes:
        """As it lies in the store: without the key it tells only what the store shows anyhow."""
        within = {"data_bytes": self.data_bytes, "sha256": self.sha256, "facts": self.facts}
        text = json.dumps(
            {
                "format": self.format,
                "id": self.id,
                "chunks": [asdict(chunk) for chunk in self.chunks],
                "sealed": base64.b64encode(
                    _encrypt(key, json.dumps(within).encode(), _within(self.id))
                ).decode(),
            }
        )
        return json.dumps({"manifest": text, "mac": _mac(key, text)}).encode()

    @classmethod
    def opened(cls, content: bytes, archive_id: str, key: bytes) -> Manifest:
        """Raises BackupUnusable."""
        try:
            outer = json.loads(content)
            text, mac = str(outer["manifest"]), str(outer["mac"])
        except (ValueError, KeyError, TypeError) as error:
            raise BackupUnusable(f"The manifest of archive {archive_id} is damaged.") from error
        if not hmac.compare_digest(mac, _mac(key, text)):
            raise BackupUnusable(
                f"The manifest of archive {archive_id} does not go with its key: it was changed, or the key is another's."
            )
        stored = json.loads(text)
        if stored["format"] != FORMAT:
            raise BackupUnusable(
                f"Archive {archive_id} has the format {stored['format']!r}, which this release does not read."
            )
        if stored["id"] != archive_id:
            raise BackupUnusable(f"The manifest of archive {archive_id} is that of {stored['id']}.")
        within = json.loads(_decrypt(key, base64.b64decode(stored["sealed"]), _within(archive_id)))
        return cls(archive_id, tuple(Chunk(**one) for one in stored["chunks"]), **within)


Done = TypeVar("Done")


class _InTurn(Generic[Done]):
    """Work that a few threads do at once, and whose results are had in the order it was handed over."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="archive")
        self._under_way: deque[Future[Done]] = deque()

    def hand_over(self, work: Callable[[], Done]) -> list[Done]:
        """Waits until there is room; returns the results that made it. Raises what that work raised."""
        done = []
        while len(self._under_way) >= AT_ONCE:
            done.append(self._under_way.popleft().result())
        self._under_way.append(self._threads.submit(work))
        return done

    def rest(self) -> Iterator[Done]:
        while self._under_way:
            yield self._under_way.popleft().result()

    def end(self, *, wait: bool) -> None:
        """Begin nothing more; with `wait`, nothing is going on afterwards either."""
        self._threads.shutdown(wait=wait, cancel_futures=True)


class Writer:
    """Writes one archive. `limit_mb_s` bounds how much of the stream is taken in a second, in MiB.

    A context manager: once it is left, be it by an error, nothing of it is on its way to the store any more, so
    that a second attempt at the same archive is not mixed with the first.
    """

    def __init__(
        self, objects: Objects, archive_id: str, key: bytes, *, limit_mb_s: float | None = None
    ) -> None:
        self._objects = objects
        self._id = archive_id
        self._key = key
        self._bytes_s = None if limit_mb_s is None else limit_mb_s * 2**20
        self._free_at = time.monotonic()
        self._part = bytearray()
        self._handed_over = 0
        self._chunks: list[Chunk] = []
        self._packing: _InTurn[Chunk] = _InTurn()
        self._whole = hashlib.sha256()
        self._data_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._packing.end(wait=True)

    def write(self, part: bytes) -> None:
        """The next bytes of the stream, of any number. Waits for the store, and raises what it raised for earlier ones."""
        view = memoryview(part)
        while view:
            taken = view[: CHUNK_BYTES - len(self._part)]
            self._part += taken
            view = view[len(taken) :]
            if len(self._part) == CHUNK_BYTES:
                self._hand_over()

    def finish(self, facts: Mapping[str, Any]) -> Manifest:
        """The stream has ended: from here on there is an archive."""
        if self._part:
            self._hand_over()
        self._chunks += self._packing.rest()
        self._packing.end(wait=True)
        manifest = Manifest(
            self._id, tuple(self._chunks), self._data_bytes, self._whole.hexdigest(), dict(facts)
        )
        self._objects.put(MANIFEST, manifest.sealed(self._key))
        return manifest

    def _hand_over(self) -> None:
        plain, self._part = self._part, bytearray()
        size_bytes = len(plain)  # whoever packs it empties it
        number, self._handed_over = self._handed_over, self._handed_over + 1
        self._whole.update(plain)
        self._data_bytes += size_bytes
        self._chunks += self._packing.hand_over(partial(self._put_chunk, number, plain))
        self._pace(size_bytes)

    def _put_chunk(self, number: int, plain: bytearray) -> Chunk:
        packed = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress(plain)
        plain.clear()
        content = _encrypt(self._key, packed, _binding(self._id, number))
        del packed
        self._objects.put(chunk_name(number), content)
        return Chunk(len(content), hashlib.sha256(content).hexdigest())

    def _pace(self, size_bytes: int) -> None:
        """What was not taken while the stream or the store was slow is not caught up with."""
        if self._bytes_s is not None:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + size_bytes / self._bytes_s
            time.sleep(self._free_at - now)


class Reader:
    """Reads one archive, checking everything on the way. All its methods raise BackupUnusable, naming what is wrong."""

    def __init__(self, objects: Objects, archive_id: str, key: bytes) -> None:
        self._objects = objects
        self._id = archive_id
        self._key = key
        self._manifest: Manifest | None = None

    @property
    def manifest(self) -> Manifest:
        if self._manifest is None:
            self._manifest = Manifest.opened(self._get(MANIFEST), self._id, self._key)
        return self._manifest

    def read(self) -> Iterator[bytes]:
        """The stream from its beginning. Raises only at its end when the whole is not what the manifest says."""
        manifest = self.manifest
        unpacking: _InTurn[bytes] = _InTurn()
        whole, size = hashlib.sha256(), 0
        try:
            for plain in self._unpacked(unpacking, manifest):
                whole.update(plain)
                size += len(plain)
                yield plain
        finally:
            unpacking.end(wait=False)
        if size != manifest.data_bytes or whole.hexdigest() != manifest.sha256:
            raise BackupUnusable(f"The chunks of archive {self._id} together are not what was backed up.")

    def _unpacked(self, unpacking: _InTurn[bytes], manifest: Manifest) -> Iterator[bytes]:
        for number, chunk in enumerate(manifest.chunks):
            yield from unpacking.hand_over(partial(self._open_chunk, number, chunk))
        yield from unpacking.rest()

    def _open_chunk(self, number: int, chunk: Chunk) -> bytes:
        name = chunk_name(number)
        content = self._get(name)
        if len(content) != chunk.size_bytes:
            raise self._damaged(name, f"it has {len(content)} bytes and the manifest says {chunk.size_bytes}")
        if hashlib.sha256(content).hexdigest() != chunk.sha256:
            raise self._damaged(name, "its SHA-256 is another than the manifest says")
        try:
            packed = _decrypt(self._key, content, _binding(self._id, number))
            return zstandard.ZstdDecompressor().decompress(packed, max_output_size=_LARGEST_CHUNK)
        except InvalidTag as error:
            raise self._damaged(name, "its key does not open it") from error
        except zstandard.ZstdError as error:
            raise self._damaged(name, "it does not unpack") from error

    def _get(self, name: str) -> bytes:
        try:
            return self._objects.get(name)
        except ObjectNotFound as error:
            raise BackupUnusable(f"{name} of archive {self._id} is missing in the store.") from error

    def _damaged(self, name: str, why: str) -> BackupUnusable:
        return BackupUnusable(f"{name} of archive {self._id} is damaged: {why}.")


def chunk_name(number: int) -> str:
    return f"chunk-{number:08}"


def _binding(archive_id: str, number: int) -> bytes:
    return f"{FORMAT} {archive_id} {number}".encode()


def _within(archive_id: str) -> bytes:
    return f"{FORMAT} {archive_id} facts".encode()


def _encrypt(key: bytes, plain: bytes, binding: bytes) -> bytes:
    # A nonce of its own each time: a job that is begun again writes other bytes under the same number.
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, binding)


def _decrypt(key: bytes, sealed: bytes, binding: bytes) -> bytes:
    """Raises InvalidTag."""
    return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], binding)


def _mac(key: bytes, text: str) -> str:
    derived = hmac.digest(key, _MANIFEST_FOR, "sha256")
    return hmac.digest(derived, text.encode(), "sha256").hex()
