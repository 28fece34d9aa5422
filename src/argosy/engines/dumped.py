"""What dumps of all engines have in common: which database is meant, and what a stream is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from argosy import marks
from argosy.domain.databases import Database
from argosy.domain.errors import DatabaseNotFound, Invalid

# Programs that write and load dumps.
MARK = {marks.ROLE: "dump"}
_HEAD = 16
# What people mistake for the dump they mean, by its first bytes.
_OTHERS = {
    b"\x1f\x8b": "it is compressed with gzip: decompress it first",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd: decompress it first",
    b"\xfd7zXZ": "it is compressed with xz: decompress it first",
    b"BZh": "it is compressed with bzip2: decompress it first",
    b"PK\x03\x04": "it is a zip archive: unpack it first",
    b"PGDMP": "it is an archive of PostgreSQL's pg_dump",
    b"REDIS0": "it is a snapshot of Redis or Valkey",
    b"VALKEY": "it is a snapshot of Valkey",
}


def only_database(there: Sequence[Database], wanted: str | None) -> str:
    """The database that is wanted, or the only one. Raises DatabaseNotFound, Invalid."""
    names = [one.name for one in there]
    if wanted is not None:
        if wanted not in names:
            raise DatabaseNotFound(name=wanted)
        return wanted
    if len(names) != 1:
        some = ", ".join(names[:10])
        raise Invalid(
            f"Say which database: there are {some}." if names else "There is no database: make one first."
        )
    return names[0]


def recognise(parts: Iterator[bytes], magics: Sequence[bytes], what: str) -> Iterator[bytes]:
    """The stream, which must begin with one of `magics`; without any, not like something else. Raises Invalid."""
    head = b""
    for part in parts:
        head += part
        if len(head) >= _HEAD:
            break
    if not head:
        raise Invalid("The dump is empty.", code="bad-dump")
    if head.startswith(tuple(magics)):
        return chain([head], parts)
    other = next((told for first, told in _OTHERS.items() if head.startswith(first)), None)
    if magics or other:
        raise Invalid(f"The dump is not {what}: {other or 'it begins with something else'}.", code="bad-dump")
    return chain([head], parts)
