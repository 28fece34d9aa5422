"""The agent's program: `python -m argosy.agent --config guest.json`."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path

from argosy.agent.calls import Calls, application
from argosy.agent.log import set_up
from argosy.agent.reporter import Reporter
from argosy.agent.supervisor import Supervisor
from argosy.domain.errors import ArgosyError
from argosy.domain.guest import GuestConfig
from argosy.engines import engine_for
from argosy.engines.base import Engine
from argosy.engines.host import Account, Host, TlsFiles
from argosy.rpc.reports import ConductorClient, GuestReport
from argosy.rpc.server import TlsServer
from argosy.rpc.tls import client_context, server_context

log = logging.getLogger(__name__)


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
    )


def describe(config: GuestConfig, engine: Engine, supervisor: Supervisor) -> GuestReport:
    """A report as of now; what the server cannot tell is left out."""
    report = GuestReport(instance_id=config.instance_id, number=0, service=supervisor.service.value)
    try:
        report.volume_used_bytes = engine.used_bytes()
        report.server_version = engine.server_version()
    except (ArgosyError, OSError) as error:
        log.debug("server tells nothing", extra={"error": str(error)})
    return report


def main() -> None:
    arguments = argparse.ArgumentParser(
        prog="argosy-agent", description="The guest agent of one database server."
    )
    arguments.add_argument(
        "--config", type=Path, required=True, help="the guest.json written by the platform"
    )
    config = GuestConfig.read(arguments.parse_args().config)
    set_up()
    serve(config)


def serve(config: GuestConfig) -> None:
    """Run until SIGTERM; the database server goes on."""
    identity = (Path(config.rpc_ca), Path(config.rpc_certificate), Path(config.rpc_key))
    host = host_of(config)
    host.make_directory(host.run)
    host.make_directory(host.logs, 0o750)
    engine = engine_for(config.engine, host)
    conductor = ConductorClient(config.conductor_url, client_context(*identity))
    reporter = Reporter(conductor, lambda: describe(config, engine, supervisor))
    supervisor = Supervisor(engine, host.etc / "wanted", changed=reporter.soon, record=reporter.record)
    server = TlsServer(
        application(Calls(engine, supervisor, reporter)),
        config.address,
        config.rpc_port,
        server_context(*identity),
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    log.info("agent serves", extra={"instance_id": config.instance_id, "address": config.address})
    for loop in (supervisor.run, reporter.run):
        threading.Thread(target=loop, name=loop.__qualname__, daemon=True).start()
    ended.wait()
    supervisor.end()
    reporter.end()
    server.stop()


if __name__ == "__main__":
    main()
