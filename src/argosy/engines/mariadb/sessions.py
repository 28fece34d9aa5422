"""Ending the sessions of users. MariaDB lets a session go on after its account or its database is gone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from argosy.domain.databases import UserId
from argosy.domain.errors import EngineError
from argosy.engines.mariadb import sql
from argosy.engines.mariadb.management import ADMIN, Refused, Session

_NO_SUCH_THREAD = 1094
_UNKNOWN_TABLE = 1109


@dataclass(frozen=True)
class UserSession:
    """A user's session: the name it logged in with, where from (`localhost` for the socket), what it uses.

    `databases` are its current one and those whose tables its statement or transaction holds.
    """

    number: int
    user: str
    address: str
    databases: frozenset[str]

    def account(self, users: Iterable[UserId]) -> UserId | None:
        """The account it logged in to; the server shows the name and the address only."""
        candidates = [
            user for user in users if user.name == self.user and sql.host_matches(user.host, self.address)
        ]
        return max(candidates, key=lambda user: sql.host_rank(user.host), default=None)


def end(session: Session, which: Callable[[UserSession], bool], *, within_s: float = 10) -> None:
    """End every session that is meant, and wait until none is left.

    Raises EngineError when one will not end; a long statement may take its time to be undone.
    """
    deadline = time.monotonic() + within_s
    while meant := [user_session for user_session in _running(session) if which(user_session)]:
        if time.monotonic() > deadline:
            raise EngineError(
                f"{len(meant)} sessions have not ended after {within_s:.0f} s: try again later."
            )
        for user_session in meant:
            with contextlib.suppress(_Gone):
                _kill(session, user_session.number)
        # The server's own pause instead of ours: it is cut short when the connection dies.
        session.run("DO SLEEP(0.005)")


class _Gone(Exception):
    """The session ended by itself."""


def _kill(session: Session, number: int) -> None:
    try:
        session.run(f"KILL HARD CONNECTION {number}")
    except Refused as error:
        if error.number == _NO_SUCH_THREAD:
            raise _Gone from error
        raise


def _running(session: Session) -> list[UserSession]:
    used: dict[int, set[str]] = {}
    for number, database in _held(session):
        used.setdefault(number, set()).add(database)
    rows = session.run(
        "SELECT ID, USER, HOST, DB FROM information_schema.PROCESSLIST"
        " WHERE ID <> CONNECTION_ID() AND USER NOT IN ('system user', 'event_scheduler', %s)",
        ADMIN,
    )
    return [
        UserSession(
            number=int(str(number)),
            user=str(user),
            address=str(host).rpartition(":")[0] or str(host),
            databases=frozenset(used.get(int(str(number)), set()) | ({str(database)} if database else set())),
        )
        for number, user, host, database in rows
    ]


def _held(session: Session) -> list[tuple[int, str]]:
    """Which session (by number) holds locks on which database or its tables."""
    try:
        rows = session.run("SELECT THREAD_ID, TABLE_SCHEMA FROM information_schema.METADATA_LOCK_INFO")
    except Refused as error:
        if error.number != _UNKNOWN_TABLE:
            raise
        # Root has uninstalled the plugin; the next start loads it again. Until then current databases must do.
        return []
    return [(int(str(number)), str(database)) for number, database in rows]
