"""What the API asks of whoever knows its callers: the built-in accounts, or Keystone."""

from __future__ import annotations

from typing import Protocol

from argosy.domain.identity import Caller


class Callers(Protocol):
    """Safe to share between threads. Raises Unavailable when it cannot be told who somebody is."""

    def known_caller(self, token: str, service_token: str | None = None) -> Caller | None:
        """Like `caller_of` when it was asked a moment ago, else None: never waits, so an event loop may ask."""

    def caller_of(self, token: str, service_token: str | None = None) -> Caller:
        """Who holds this token. Raises Unauthorized when it is unknown, expired or revoked.

        `service_token` is that of another service which asks for the user, in the middle of something long.
        """

    def authenticate_basic(self, authorization: str, source: str) -> Caller:
        """The caller of an `Authorization: Basic` header. Raises Unauthorized."""

    def check_project(self, project_id: str) -> None:
        """Raises NotFound when there is no such project."""

    def log_in_at(self, base_url: str) -> str:
        """Where one gets a token, without a trailing slash; `base_url` is how the API was addressed."""
