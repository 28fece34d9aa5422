"""Who may connect from where, and whether under TLS.

The server has no rules for where clients come from, so a filter is put on its socket (`engines/gate.py`). It makes
that socket itself: where there are networks to hold to it starts without a port, which is opened here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from argosy.domain.errors import EngineError, Unsupported
from argosy.engines import choices, gate
from argosy.engines.base import Guarded, ShowsCertificate
from argosy.engines.host import Host
from argosy.engines.valkey.configuration import can_tls, find_program
from argosy.engines.valkey.parameters import ValkeyParameters

_PAUSES_S = (0.1, 0.2, 0.4, *(0.8,) * 5)  # the longer the busier the machine is


class ValkeyGuard(ValkeyParameters, Guarded, ShowsCertificate):
    """One port speaks either TLS or nothing else: where the build has TLS, nobody is let in without it."""

    host: Host

    def check_guard(self, allowed_cidrs: Sequence[str], *, require_tls: bool) -> None:
        if require_tls and not self.serves_tls:
            raise Unsupported("TLS cannot be required: this build of the server has none.")
        if allowed_cidrs:
            gate.check()

    def guard(self) -> None:
        server = self.server.pid
        if server is None:
            return
        networks = gate.networks_of(choices.read(self.host).allowed_cidrs)
        gate.hear_only(server, networks)
        gate.cut_off(server, self.host.address, self.host.port, networks)

    def show_certificate(self) -> None:
        if self.host.tls is not None and self.serves_tls:
            # The server reads files anew that it is told of again.
            self.client.call("CONFIG", "SET", "tls-cert-file", str(self.host.tls.certificate))

    def guarded(self) -> tuple[str, str]:
        chosen = choices.read(self.host)
        networks = gate.described(chosen.allowed_cidrs, "a filter in the kernel on the server's socket")
        return (
            networks,
            "required: its port speaks TLS alone" if self.serves_tls else "none: this build has no TLS",
        )

    @property
    def serves_tls(self) -> bool:
        return self.host.tls is not None and can_tls(find_program(self.host.bundle))

    def open_port(self) -> None:
        """Of a server that was started without one, for clients of the chosen networks alone.

        Commands that are sent together are run together, so the server has paused all clients before it hears
        the first; who comes before the filter is there is cut off before the pause ends.
        """
        networks = gate.networks_of(choices.read(self.host).allowed_cidrs)
        port = "tls-port" if self.serves_tls else "port"
        server = self.server.pid
        if not networks or server is None or self.client.call("CONFIG", "GET", port)[1] != "0":
            return
        for pause_s in _PAUSES_S:
            opened = time.monotonic()
            self.client.pipeline(
                [
                    ("CONFIG", "SET", port, str(self.host.port)),
                    ("CLIENT", "PAUSE", str(int(pause_s * 1000)), "ALL"),
                ]
            )
            gate.hear_only(server, networks)
            gate.cut_off(server, self.host.address, self.host.port, networks)
            if time.monotonic() - opened < pause_s:
                return
            self.client.call("CONFIG", "SET", port, "0")
        raise EngineError(
            f"This machine is too busy to guard the server's port within {_PAUSES_S[-1]:.1f} s: try again."
        )
