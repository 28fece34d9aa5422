"""The agent's program: `python -m argosy.agent --config guest.json`."""

from __future__ import annotations

import argparse
import ctypes
import importlib
import logging
import pkgutil
import signal
import ssl
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from argosy import engines, marks
from argosy.agent.calls import Calls, application
from argosy.agent.dumps import DumpRoutes
from argosy.agent.log import set_up
from argosy.agent.log_archiver import PATIENCE_S, LogArchiver
from argosy.agent.logs import LogFiles
from argosy.agent.reporter import Reporter
from argosy.agent.supervisor import Supervisor
from argosy.agent.transfer import Transfers
from argosy.agent.volume import VolumeWatch, usage
from argosy.domain.errors import ArgosyError
from argosy.domain.guest import RELEASE, GuestConfig
from argosy.engines import engine_for, restores, upgrades
from argosy.engines.base import Configurable, Engine, ShowsCertificate
from argosy.engines.host import Account, Host, TlsFiles
from argosy.rpc import agent_code
from argosy.rpc.reports import ConductorClient, GuestReport
from argosy.rpc.server import TlsServer
from argosy.rpc.tls import client_context, server_context

if TYPE_CHECKING:
    from argosy.agent.machine import Machine

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8


def host_of(config: GuestConfig) -> Host:
    tls = TlsFiles(Path(config.tls_certificate), Path(config.tls_key), Path(config.tls_ca))
    return Host(
        instance_id=config.instance_id,
        version=config.version,
        bundle=Path(config.bundle),
        template=Path(config.template),
        data=Path(config.volume) / "data",
        etc=Path(config.etc),
        run=Path(config.run),
        logs=Path(config.logs),
        address=config.address,
        port=config.port,
        memory_mb=config.memory_mb,
        vcpus=config.vcpus,
        tls=tls,
        account=Account(config.uid, config.gid),
        unit=config.unit,
    )


def describe(
    config: GuestConfig, engine: Engine, supervisor: Supervisor, archiver: LogArchiver, agent: str
) -> GuestReport:
    """A report as of now, by the agent of that digest; what the server cannot tell is left out."""
    report = GuestReport(
        instance_id=config.instance_id,
        number=0,
        service=supervisor.service.value,
        release=RELEASE,
        agent=agent,
        log=archiver.status(),
    )
    with suppress(OSError):
        of_volume = usage(Path(config.volume))
        report.volume_used_bytes, report.volume_size_bytes = of_volume.used, of_volume.size
    try:
        if isinstance(engine, Configurable):
            report.restart_required = bool(engine.pending_restart())
            report.configuration_error = engine.refused
        report.server_version = engine.server_version()
    except (ArgosyError, OSError) as error:
        log.debug("server tells nothing", extra={"error": str(error)})
    return report


def preload() -> None:
    """Import what agents import as they go, for the nursery."""
    for package in pkgutil.iter_modules(engines.__path__):
        if package.ispkg:
            importlib.import_module(f"{engines.__name__}.{package.name}")
    importlib.import_module("argosy.storage.archive")
    # uvicorn and asyncio import the rest of themselves when they are used.
    TlsServer(None, "", 0, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    "".encode("idna")
    agent_code.digest()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="argosy-agent", description="The guest agent of one database server."
    )
    parser.add_argument("--config", type=Path, required=True, help="the guest.json written by the platform")
    parser.add_argument("--hold", type=Path, help="a file to hold; one agent can, a second one ends")
    asked = parser.parse_args(arguments)
    set_up()
    if asked.hold and not marks.hold(asked.hold):
        sys.exit(f"Another agent holds {asked.hold}.")
    serve(GuestConfig.read(asked.config))


def _share_one_heap() -> None:
    """Have all threads take memory from one place (mallopt(3), M_ARENA_MAX).

    Each would keep what its largest chunk of a backup took, for as long as it lives: twice as much together.
    """
    with suppress(AttributeError, OSError):  # another C library than glibc has no such thing
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def serve(config: GuestConfig, machine: Machine | None = None) -> None:
    """Run until SIGTERM, or until the machine is to have another agent; the database server goes on."""
    _share_one_heap()
    identity = (Path(config.rpc_ca), Path(config.rpc_certificate), Path(config.rpc_key))
    host = host_of(config)
    host.make_directory(host.run)
    host.make_directory(host.logs, 0o750)
    upgrades.settle(host)
    restores.settle(host)
    engine = engine_for(config.engine, host)
    logs = LogFiles(engine)
    conductor = ConductorClient(config.conductor_url, client_context(*identity))
    code = agent_code.digest() if machine is None else machine.agent
    reporter = Reporter(conductor, lambda: describe(config, engine, supervisor, archiver, code))
    watch = VolumeWatch(host.data.parent, record=reporter.record, soon=reporter.soon)
    supervisor = Supervisor(
        engine,
        host.etc / "wanted",
        changed=reporter.soon,
        record=reporter.record,
        besides=watch.look,
    )
    transfers = Transfers(config.conductor_url, client_context(*identity), config.instance_id)
    archiver = LogArchiver(
        engine,
        # What does not work is told soon, and tried again by the archiver itself.
        Transfers(config.conductor_url, client_context(*identity), config.instance_id, patience_s=PATIENCE_S),
        ConductorClient(config.conductor_url, client_context(*identity)),
        record=reporter.record,
        soon=reporter.soon,
    )
    calls = Calls(engine, supervisor, reporter, logs, transfers, archiver, machine)
    server = TlsServer(
        application(calls.methods, DumpRoutes(engine)),
        config.rpc_address or config.address,
        config.rpc_port,
        server_context(*identity),
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    # Before anybody is told, who would take a server that an earlier agent left running for one not made yet.
    supervisor.check()
    server.start()
    log.info("agent serves", extra={"instance_id": config.instance_id, "address": config.address})
    if machine is not None:
        machine.serves(ended.set)
        _show_certificate(machine, engine)
    for loop in (supervisor.run, reporter.run, logs.run, archiver.run):
        threading.Thread(target=loop, name=loop.__qualname__, daemon=True).start()
    ended.wait()
    archiver.end()
    logs.end()
    supervisor.end()
    reporter.end()
    server.stop()


def _show_certificate(machine: Machine, engine: Engine) -> None:
    """Have a server that runs already take the certificate that its machine was given since."""
    if not machine.guest.certificate_is_new:
        return
    try:
        if engine.server.pid is not None and isinstance(engine, ShowsCertificate):
            engine.show_certificate()
    except ArgosyError as error:
        log.warning("the server goes on with its former certificate", extra={"error": error.sentence})
    else:
        machine.guest.certificate_is_shown()


if __name__ == "__main__":
    main()
