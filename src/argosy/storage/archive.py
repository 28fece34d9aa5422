"""The format of archives: one stream of bytes as numbered chunks and a manifest, which docs/backup-format.md tells in full.

    chunk-00000000   12 random bytes, then AES-256-GCM of a zstd frame of the next part of the stream
    chunk-00000001   …
    manifest.json    what the archive is of, each chunk's size and SHA-256, the whole stream's, and a MAC

A chunk is bound to its archive and its number, so one that is altered, cut, or put in another's place does not open.
The manifest is written last: without one there is no archive. Its MAC, by a key derived from the data key, keeps chunks
from being left out, and facts from being changed. Writing and reading take the memory of a few chunks, whatever the
size of the stream.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from argosy.domain.errors import BackupUnusable
from argosy.storage.base import ObjectNotFound

FORMAT = "argosy-archive/1"
MANIFEST = "manifest.json"
CHUNK_BYTES = 8 * 2**20  # of the stream, before compression
LEVEL = 1  # zstd's: engines.md, 0.3: half the time of 3, for a tenth more
_NONCE = 12
_LARGEST_CHUNK = 2 * CHUNK_BYTES
_MANIFEST_FOR = b"argosy-archive manifest"


class Objects(Protocol):
    """The objects below one prefix of a store."""

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


@dataclass(frozen=True)
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
        text = json.dumps(asdict(self), sort_keys=True)
        return json.dumps({"manifest": text, "mac": _mac(key, text)}).encode()

    @classmethod
    def opened(cls, content: bytes, archive_id: str, key: bytes) -> Manifest:
        """Raises BackupUnusable."""
        try:
            sealed = json.loads(content)
            text, mac = str(sealed["manifest"]), str(sealed["mac"])
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
        return cls(**{**stored, "chunks": tuple(Chunk(**one) for one in stored["chunks"])})


class Writer:
    """Writes one archive. `limit_mb_s` bounds how much of the stream is taken in a second, in MiB."""

    def __init__(
        self, objects: Objects, archive_id: str, key: bytes, *, limit_mb_s: float | None = None
    ) -> None:
        self._objects = objects
        self._id = archive_id
        self._key = key
        self._cipher = AESGCM(key)
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
        self._limit = None if limit_mb_s is None else limit_mb_s * 2**20
        self._began = time.monotonic()
        self._part = bytearray()
        self._chunks: list[Chunk] = []
        self._whole = hashlib.sha256()
        self._data_bytes = 0

    def write(self, part: bytes) -> None:
        """The next bytes of the stream, of any number. Waits for the store."""
        view = memoryview(part)
        while view:
            taken = view[: CHUNK_BYTES - len(self._part)]
            self._part += taken
            view = view[len(taken) :]
            if len(self._part) == CHUNK_BYTES:
                self._put_chunk()

    def finish(self, facts: Mapping[str, Any]) -> Manifest:
        """The stream has ended: from here on there is an archive."""
        if self._part:
            self._put_chunk()
        manifest = Manifest(
            self._id, tuple(self._chunks), self._data_bytes, self._whole.hexdigest(), dict(facts)
        )
        self._objects.put(MANIFEST, manifest.sealed(self._key))
        return manifest

    def _put_chunk(self) -> None:
        plain = bytes(self._part)
        self._part.clear()
        self._whole.update(plain)
        self._data_bytes += len(plain)
        number = len(self._chunks)
        # A nonce of its own each time: a job that is begun again writes other bytes under the same number.
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, self._compressor.compress(plain), _binding(self._id, number))
        content = nonce + sealed
        self._objects.put(chunk_name(number), content)
        self._chunks.append(Chunk(len(content), hashlib.sha256(content).hexdigest()))
        self._pause()

    def _pause(self) -> None:
        if self._limit is not None:
            ahead = self._data_bytes / self._limit - (time.monotonic() - self._began)
            if ahead > 0:
                time.sleep(ahead)


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
        manifest, cipher = self.manifest, AESGCM(self._key)
        decompressor = zstandard.ZstdDecompressor()
        whole, size = hashlib.sha256(), 0
        for number, chunk in enumerate(manifest.chunks):
            plain = self._open_chunk(cipher, decompressor, number, chunk)
            whole.update(plain)
            size += len(plain)
            yield plain
        if size != manifest.data_bytes or whole.hexdigest() != manifest.sha256:
            raise BackupUnusable(f"The chunks of archive {self._id} together are not what was backed up.")

    def _open_chunk(
        self, cipher: AESGCM, decompressor: zstandard.ZstdDecompressor, number: int, chunk: Chunk
    ) -> bytes:
        name = chunk_name(number)
        content = self._get(name)
        if len(content) != chunk.size_bytes:
            raise self._damaged(name, f"it has {len(content)} bytes and the manifest says {chunk.size_bytes}")
        if hashlib.sha256(content).hexdigest() != chunk.sha256:
            raise self._damaged(name, "its SHA-256 is another than the manifest says")
        try:
            packed = cipher.decrypt(content[:_NONCE], content[_NONCE:], _binding(self._id, number))
            return decompressor.decompress(packed, max_output_size=_LARGEST_CHUNK)
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


def _mac(key: bytes, text: str) -> str:
    derived = hmac.digest(key, _MANIFEST_FOR, "sha256")
    return hmac.digest(derived, text.encode(), "sha256").hex()
