"""An agent whose machine cannot run its database server: it says why, to whoever asks and to the conductor.

An operation on such an instance fails at once with the reason, instead of waiting for an agent that does not come.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argosy.agent.calls import Handler, application, renew
from argosy.agent.jobs import Jobs, failed
from argosy.agent.reporter import Reporter
from argosy.domain.errors import ArgosyError
from argosy.domain.guest import RELEASE, GuestConfig
from argosy.domain.status import Service
from argosy.rpc import messages
from argosy.rpc.reports import ConductorClient, GuestReport
from argosy.rpc.server import TlsServer
from argosy.rpc.tls import client_context, server_context

if TYPE_CHECKING:
    from argosy.agent.machine import Machine

_LOOK_AGAIN_S = 5.0


def serve_trouble(
    config: GuestConfig, error: ArgosyError, machine: Machine, is_well: Callable[[], bool]
) -> bool:
    """Answer every call with the error. True when `is_well` came true, False on SIGTERM and for a life anew."""
    identity = (Path(config.rpc_ca), Path(config.rpc_certificate), Path(config.rpc_key))

    def describe() -> GuestReport:
        return GuestReport(
            instance_id=config.instance_id,
            number=0,
            service=Service.CRASHED.value,
            release=RELEASE,
            agent=machine.agent,
        )

    reporter = Reporter(ConductorClient(config.conductor_url, client_context(*identity)), describe)
    reporter.record("guest.unusable", error.sentence)
    server = TlsServer(
        application(_methods(error, machine), None),
        config.rpc_address,
        config.rpc_port,
        server_context(*identity),
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    machine.serves(ended.set)
    threading.Thread(target=reporter.run, name="reporter", daemon=True).start()
    well = False
    while not well and not ended.wait(_LOOK_AGAIN_S):
        well = is_well()
    reporter.end()
    server.stop()
    return well


def _methods(error: ArgosyError, machine: Machine) -> dict[str, Handler]:
    jobs = Jobs()

    def refuse(_call: Any) -> Any:
        raise error

    def fail(_call: Any) -> messages.JobState:
        return failed(error)

    known = [
        kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, messages.Call)
    ]
    methods: dict[str, Handler] = {
        kind.method: (kind, fail if issubclass(kind, messages.Job) else refuse)
        for kind in known
        if hasattr(kind, "method")
    }
    methods[messages.Renew.method] = (messages.Renew, lambda call: renew(jobs, machine, call))
    return methods
