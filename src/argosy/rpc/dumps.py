"""Dumps between the control plane and a guest: POST, with the dump as the answer's body or the request's.

An answer's body is in frames, each after its length in four bytes. The last has no length, and then says in JSON what
went wrong, if anything did: an answer that has begun has no other way to. Of an import under way it is asked by GET,
with the `id` that it was given.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from argosy.domain.errors import BY_KIND, ArgosyError, GuestUnreachable, Kind
from argosy.rpc.messages import PATH, ErrorReply

EXPORT, IMPORT = f"{PATH}dumps.export", f"{PATH}dumps.import"
_LENGTH = 4


class Loaded(BaseModel):
    """What an import came to: `size_bytes` of the dump, and sentences on what was left out."""

    size_bytes: int
    remarks: list[str] = []


def framed(part: bytes) -> bytes:
    return len(part).to_bytes(_LENGTH, "big") + part


def ended(error: ArgosyError | None) -> bytes:
    """The last frame."""
    return framed(b"") + (b"" if error is None else reply(error))


def reply(error: ArgosyError) -> bytes:
    told = ErrorReply(kind=error.kind.value, code=error.code, sentence=error.sentence)
    return told.model_dump_json().encode()


def error_of(told: bytes) -> ArgosyError:
    stored = ErrorReply.model_validate_json(told)
    return BY_KIND[Kind(stored.kind)](stored.sentence, code=stored.code)


def unframed(received: Iterator[bytes]) -> Iterator[bytes]:
    """The parts. Raises what the guest raised, and GuestUnreachable when the end is missing."""
    held = bytearray()
    ending = False
    for piece in received:
        held += piece
        while not ending and len(held) >= _LENGTH:
            size = int.from_bytes(held[:_LENGTH], "big")
            if len(held) < _LENGTH + size:
                break
            part = bytes(held[_LENGTH : _LENGTH + size])
            del held[: _LENGTH + size]
            ending = size == 0
            if part:
                yield part
    if not ending:
        raise GuestUnreachable("The guest broke off in the middle of the dump: try again.")
    if held:
        raise error_of(bytes(held))
