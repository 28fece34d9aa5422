"""Who may connect from where, and whether under TLS.

MariaDB has no rules for where clients come from but the host in each account, which no administrator of the
server needs to heed. So a filter is put on its socket (`engines/gate.py`): on a running server's from outside,
and for a server that starts on a socket made for it before. Both its sockets are handed over then, the Unix
socket too, for it opens none of its own when it is given any (manual, Systemd, Socket Activation).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from argosy.domain.errors import Unsupported
from argosy.engines import choices, gate
from argosy.engines.base import Guarded, ShowsCertificate
from argosy.engines.host import Host
from argosy.engines.mariadb import configuration, sessions
from argosy.engines.mariadb.parameters import MariaDbParameters

_SOCKET = "localhost"  # where sessions of the Unix socket come from


class MariaDbGuard(MariaDbParameters, Guarded, ShowsCertificate):
    host: Host

    def check_guard(self, allowed_cidrs: Sequence[str], *, require_tls: bool) -> None:
        if require_tls and self.host.tls is None:
            raise Unsupported("TLS cannot be required: this server has no certificate.")
        if allowed_cidrs:
            gate.check()

    def guard(self) -> None:
        self.host.write_file(configuration.file(self.host), configuration.text(self.layers()))
        server = self.server.pid
        if server is None:
            return
        chosen = choices.read(self.host)
        networks = gate.networks_of(chosen.allowed_cidrs)
        gate.hear_only(server, networks)
        gate.cut_off(server, self.host.address, self.host.port, networks)
        with self.management.session() as session:
            ((required,),) = session.run("SELECT @@GLOBAL.require_secure_transport")
            session.run(f"SET GLOBAL require_secure_transport = {'ON' if chosen.require_tls else 'OFF'}")
            # The server does not tell which sessions are under TLS, so when it becomes required all begin again.
            everyone = chosen.require_tls and not required
            sessions.end(
                session,
                lambda user: (
                    user.address != _SOCKET and (everyone or not gate.is_let_in(user.address, networks))
                ),
            )

    def show_certificate(self) -> None:
        with self.management.session() as session:
            session.run("FLUSH LOCAL SSL")

    def guarded(self) -> tuple[str, str]:
        chosen = choices.read(self.host)
        networks = gate.described(chosen.allowed_cidrs, "a filter in the kernel on the server's socket")
        if self.host.tls is None:
            return networks, "none: this server has no certificate"
        return networks, "required" if chosen.require_tls else "allowed"

    @contextmanager
    def doors(self) -> Iterator[tuple[socket.socket, socket.socket] | None]:
        """The sockets to start a server with; None when anybody may come, for then it makes its own."""
        networks = gate.networks_of(choices.read(self.host).allowed_cidrs)
        if not networks:
            yield None
            return
        with ExitStack() as ours:
            unix = ours.enter_context(socket.socket(socket.AF_UNIX))
            path = configuration.socket(self.host)
            unix.bind(str(path))
            os.chown(path, self.host.account.uid, self.host.account.gid)
            unix.listen()
            yield ours.enter_context(gate.listen(self.host.address, self.host.port, networks)), unix
