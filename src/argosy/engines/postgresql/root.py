"""The account of a user who wants to be administrator himself."""

from __future__ import annotations

from argosy.engines.base import RootAccess
from argosy.engines.postgresql.access import end_sessions
from argosy.engines.postgresql.session import ROOT, Connection, Sessions, run
from argosy.engines.postgresql.users import verifier


class PostgresRoot(RootAccess):
    """A superuser of its own. What it does to the agent's account is undone at the next start."""

    root_name = ROOT
    sessions: Sessions

    def enable_root(self, password: str) -> None:
        with self.sessions.open() as session:
            verb = "CREATE ROLE" if _oid(session) is None else "ALTER ROLE"
            secret = verifier(session, ROOT, password)
            if verb == "CREATE ROLE":
                run(session, "CREATE ROLE {} LOGIN SUPERUSER PASSWORD {password}", ROOT, password=secret)
            else:
                run(
                    session,
                    "ALTER ROLE {} LOGIN SUPERUSER CONNECTION LIMIT -1 VALID UNTIL 'infinity'"
                    " PASSWORD {password}",
                    ROOT,
                    password=secret,
                )

    def disable_root(self) -> None:
        with self.sessions.open() as session:
            oid = _oid(session)
            if oid is not None:
                run(session, "ALTER ROLE {} NOLOGIN NOSUPERUSER PASSWORD NULL", ROOT)
                end_sessions(session, oid)


def _oid(session: Connection) -> int | None:
    row = session.execute("SELECT oid FROM pg_roles WHERE rolname = %s", (ROOT,)).fetchone()
    return None if row is None else int(row[0])
