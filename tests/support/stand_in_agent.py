"""What stands in for the guest agent in tests of platforms: listens where an agent does and starts a server.

It starts its server as agents do, by the engines' own `ServerProcess`, and answers `server` with its pid.
"""

from __future__ import annotations

import os
import socketserver
import sys
from collections.abc import Sequence
from pathlib import Path

from argosy import marks
from argosy.domain.guest import GuestConfig
from argosy.engines.host import Account, Host
from argosy.engines.process import ServerProcess

_SERVER = Path(__file__).with_name("stand_in_server.py")


def place_of(config: GuestConfig) -> Host:
    return Host(
        instance_id=config.instance_id,
        version=config.version,
        bundle=Path(config.bundle),
        template=Path(config.template),
        data=Path(config.volume, "data"),
        etc=Path(config.etc),
        run=Path(config.run),
        logs=Path(config.logs),
        address=config.address,
        port=config.port,
        memory_mb=config.memory_mb,
        vcpus=config.vcpus,
        tls=None,
        account=Account(config.uid, config.gid),
    )


def preload() -> None:
    """All is imported above."""


def main(arguments: Sequence[str] | None = None) -> None:
    words = sys.argv if arguments is None else arguments
    config = GuestConfig.read(Path(words[words.index("--config") + 1]))
    if "--hold" in words and not marks.hold(Path(words[words.index("--hold") + 1])):
        sys.exit("another agent runs")
    for key in (config.rpc_ca, config.rpc_certificate, config.rpc_key):
        Path(key).read_text()
    host = place_of(config)
    server = ServerProcess(host, Path(config.logs, "server.log"))

    class Answer(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for _ in self.rfile:
                self.wfile.write(f"{server.pid or 0} {os.getpid()}\n".encode())

    class Listener(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    with Listener((config.address, config.rpc_port), Answer) as listener:
        host.make_directory(host.data)
        server.start(["/usr/bin/python3", _SERVER, config.address, str(config.port), host.data])
        listener.serve_forever()


if __name__ == "__main__":
    main()
