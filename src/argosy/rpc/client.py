"""Calling a guest's agent from the control plane."""

from __future__ import annotations

import ssl
from typing import cast

import httpx

from argosy.domain.errors import BY_KIND, Failed, GuestOutdated, GuestUnreachable, Kind
from argosy.domain.guest import RPC_PORT
from argosy.rpc.messages import PATH, Call, ErrorReply, Job, JobState, Phase, Reply


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

    def run(self, address: str, job: Job) -> JobState:
        """Start or continue a job and wait a little for its end; never raises for a silent guest."""
        try:
            return self.call(address, job, timeout_s=job.wait_s + self._timeout_s)
        except GuestUnreachable as error:
            return JobState(phase=Phase.UNREACHABLE, doing=error.sentence)

    def close(self) -> None:
        self._http.close()
