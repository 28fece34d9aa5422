"""Who may connect from where, and whether under TLS: rules of pg_hba.conf."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from argosy.domain.errors import EngineError, Unsupported
from argosy.engines import choices, gate
from argosy.engines.base import Guarded, ShowsCertificate
from argosy.engines.host import Host
from argosy.engines.postgresql import configuration
from argosy.engines.postgresql.parameters import PostgresParameters
from argosy.engines.postgresql.session import Connection

# Sessions that have logged in, and are as they may be. Those of the Unix socket have no address.
_WELCOME = (
    "SELECT pid, coalesce(host(client_addr), ''), coalesce(ssl, false)"
    " FROM pg_stat_activity LEFT JOIN pg_stat_ssl USING (pid) WHERE backend_type = 'client backend'"
)
# What root has written there past ALTER SYSTEM, and the server cannot make sense of: then it takes no settings at all.
_UNREADABLE = (
    "SELECT FROM pg_file_settings WHERE error IS NOT NULL AND error <> 'setting could not be applied'"
)


class PostgresGuard(PostgresParameters, Guarded, ShowsCertificate):
    """The server asks its rules at every login; those who are in already are shown out."""

    host: Host

    def check_guard(self, allowed_cidrs: Sequence[str], *, require_tls: bool) -> None:  # noqa: ARG002 - any will do
        if require_tls and not self._can_tls:
            raise Unsupported("TLS cannot be required: this build of PostgreSQL has none.")

    def guard(self) -> None:
        configuration.write_access_rules(self.host)
        server = self.server.pid
        if server is None:
            return
        with self.sessions.open() as session:
            wrong = session.execute(
                "SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL"
            ).fetchone()
            if wrong is not None:
                raise EngineError(
                    f"The database server refused line {wrong[0]} of its access rules: {wrong[1]}."
                )
            if session.execute(_UNREADABLE).fetchone() is None:
                self._have_it_read_again(session)
            else:
                # It reads its rules all the same, and does not tell when.
                session.execute("SELECT pg_reload_conf()")
            self._show_out(session, server)

    def show_certificate(self) -> None:
        with self.sessions.open() as session:
            session.execute("SELECT pg_reload_conf()")

    def guarded(self) -> tuple[str, str]:
        chosen = choices.read(self.host)
        networks = gate.described(chosen.allowed_cidrs, "rules of pg_hba.conf")
        if not self._can_tls:
            return networks, "none: this build has no TLS"
        return networks, "required" if chosen.require_tls else "allowed"

    @property
    def _can_tls(self) -> bool:
        return self.host.tls is not None and self.programs.has_tls()

    def _show_out(self, session: Connection, server: int) -> None:
        """End the sessions that the rules would not let in now.

        And those that have come in and not logged in yet, whose process has the rules of before.
        """
        chosen = choices.read(self.host)
        networks = gate.networks_of(chosen.allowed_cidrs)
        backends = _children(server)
        welcome = {
            int(pid)
            for pid, address, encrypted in session.execute(_WELCOME).fetchall()
            if gate.is_let_in(str(address), networks) and (encrypted or not address or not chosen.require_tls)
        }
        for pid in gate.serving([one for one in backends if one not in welcome]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _children(server: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
