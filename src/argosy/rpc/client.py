"""Calling a guest's agent from the control plane."""

from __future__ import annotations

import ssl
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import httpx

from argosy.domain.errors import BY_KIND, Failed, GuestOutdated, GuestUnreachable, Kind
from argosy.domain.guest import RPC_PORT
from argosy.rpc import dumps
from argosy.rpc.messages import PATH, Call, ErrorReply, Job, JobState, Phase, Reply

# Between two parts of a dump: a database program may work on a large statement for long.
_STREAM_S = 3600.0
_ASK_EVERY_S = 1.0


class Guests:
    """The guests, called by their addresses over mutual TLS. One per process; safe to share between threads."""

    def __init__(self, context: ssl.SSLContext, *, timeout_s: float = 30) -> None:
        self._timeout_s = timeout_s
        limits = httpx.Limits(max_keepalive_connections=32, keepalive_expiry=10)
        self._http = httpx.Client(verify=context, limits=limits, trust_env=False)

    def call(self, address: str, call: Call[Reply], *, timeout_s: float | None = None) -> Reply:
        """Make a call and return its reply.

        Raises what the guest raised, by kind, code and sentence; GuestUnreachable when it does not answer.
        """
        try:
            answer = self._http.post(
                f"https://{address}:{RPC_PORT}{PATH}{call.method}",
                content=call.model_dump_json(),
                headers={"Content-Type": "application/json"},
                timeout=httpx.Timeout(timeout_s or self._timeout_s, connect=5),
            )
        except httpx.HTTPError as error:
            raise GuestUnreachable(
                f"The guest at {address} does not answer ({type(error).__name__}): try again in a moment."
            ) from error
        if answer.status_code == httpx.codes.OK:
            return cast("Reply", call.reply.model_validate_json(answer.content))
        if answer.status_code == httpx.codes.BAD_REQUEST:
            reply = ErrorReply.model_validate_json(answer.content)
            raise BY_KIND[Kind(reply.kind)](reply.sentence, code=reply.code)
        if answer.status_code == httpx.codes.NOT_FOUND:
            raise GuestOutdated(address=address, method=call.method)
        raise Failed(
            f"The guest at {address} answered {answer.status_code} to {call.method}.", code="guest-error"
        )

    def dump(self, address: str, database: str | None, table: str | None) -> Iterator[bytes]:
        """A guest's database, or a table of it, as a dump, in parts. Raises as `call` does, between parts too."""
        asked = {"database": database, "table": table}
        with self._streaming(address, dumps.EXPORT, asked, None) as answer:
            yield from dumps.unframed(answer.iter_bytes())

    def load_dump(self, address: str, database: str | None, parts: Iterator[bytes]) -> dumps.Loaded:
        """Have a guest load a dump. Raises as `call` does, and what `parts` raises."""
        import_id = str(uuid.uuid4())
        watched = self._watched(address, import_id, parts)
        with self._streaming(
            address, dumps.IMPORT, {"id": import_id, "database": database}, watched
        ) as answer:
            return dumps.Loaded.model_validate_json(answer.read())

    def _watched(self, address: str, import_id: str, parts: Iterator[bytes]) -> Iterator[bytes]:
        """A guest that refuses has no way to say so on a connection on which it is still being sent to."""
        asked_at = time.monotonic()
        for part in parts:
            yield part
            if time.monotonic() - asked_at > _ASK_EVERY_S:
                asked_at = time.monotonic()
                url = f"https://{address}:{RPC_PORT}{dumps.IMPORT}"
                answer = self._http.get(url, params={"id": import_id}, timeout=self._timeout_s)
                if answer.status_code == httpx.codes.BAD_REQUEST:
                    raise dumps.error_of(answer.content)

    @contextmanager
    def _streaming(
        self, address: str, path: str, asked: dict[str, str | None], parts: Iterator[bytes] | None
    ) -> Iterator[httpx.Response]:
        query = {name: value for name, value in asked.items() if value is not None}
        try:
            with self._http.stream(
                "POST",
                f"https://{address}:{RPC_PORT}{path}",
                params=query,
                content=parts,
                timeout=httpx.Timeout(_STREAM_S, connect=5),
            ) as answer:
                if answer.status_code == httpx.codes.BAD_REQUEST:
                    raise dumps.error_of(answer.read())
                if answer.status_code == httpx.codes.NOT_FOUND:
                    raise GuestOutdated(address=address, method=path.removeprefix(PATH))
                if answer.status_code != httpx.codes.OK:
                    raise Failed(f"The guest at {address} answered {answer.status_code}.", code="guest-error")
                yield answer
        except httpx.HTTPError as error:
            raise GuestUnreachable(
                f"The guest at {address} does not answer ({type(error).__name__}): try again in a moment."
            ) from error

    def run(self, address: str, job: Job) -> JobState:
        """Start or continue a job and wait a little for its end; never raises for a silent guest."""
        try:
            return self.call(address, job, timeout_s=job.wait_s + self._timeout_s)
        except GuestUnreachable as error:
            return JobState(phase=Phase.UNREACHABLE, doing=error.sentence)

    def close(self) -> None:
        self._http.close()
