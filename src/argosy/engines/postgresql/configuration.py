"""The server's settings, in layers (see `engines/layers.py`), and who may connect how.

What is *owned* keeps the server reachable and true to its guarantees; it is given on the command line, which
ALTER SYSTEM does not override. So are the few that could exhaust the server's memory (`PINNED`), which a
configuration group may set and root may not. All else is in a file outside the data directory. An administrator
may overrule it by ALTER SYSTEM, but for what is in the group: whenever that is applied, and at every start, the
group's value takes the place of his.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from argosy.engines import choices
from argosy.engines.gate import networks_of
from argosy.engines.host import Host
from argosy.engines.layers import Layers
from argosy.engines.postgresql import log_archive, reserve
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import ADMIN

RESERVED_CONNECTIONS = 5  # for the agent, whatever users do

# Given on the command line, out of ALTER SYSTEM's reach; a group may set them.
PINNED = frozenset(
    {"max_connections", "shared_buffers", "wal_level", "max_wal_senders", "max_replication_slots"}
)

_LOADERS = "local all all scram-sha-256"


def layers(host: Host, programs: Programs) -> Layers:
    """As they are chosen now."""
    chosen = choices.read(host)
    return Layers(
        flavor=defaults(host),
        logs=logs(chosen.logs),
        group=chosen.parameters,
        owned=owned(host, programs),
    )


def logs(switched_on: Sequence[str]) -> dict[str, str]:
    """Settings of the logs that are switched on."""
    settings: dict[str, str] = {}
    if "general" in switched_on:
        settings["log_statement"] = "all"
    if "slow_query" in switched_on:
        settings["log_min_duration_statement"] = "1000"
    return settings


def owned(host: Host, programs: Programs) -> dict[str, str]:
    """Settings no user can change."""
    settings = {
        "config_file": str(host.etc / "postgresql.conf"),
        "hba_file": str(host.etc / "pg_hba.conf"),
        "ident_file": str(host.etc / "pg_ident.conf"),
        "data_directory": str(host.data),
        "cluster_name": host.instance_id,
        # The way in.
        "listen_addresses": "" if host.private else host.address,
        "port": str(host.port),
        "unix_socket_directories": f'"{host.run}"',
        "unix_socket_permissions": "0700",
        "unix_socket_group": "",
        "superuser_reserved_connections": str(RESERVED_CONNECTIONS),
        "authentication_timeout": "60s",
        "ssl": "off",
        "shared_preload_libraries": "pg_stat_statements"
        if programs.has_library("pg_stat_statements")
        else "",
        "session_preload_libraries": "",
        "local_preload_libraries": "",
        "huge_pages": "off",
        # Its guarantees.
        "fsync": "on",
        "full_page_writes": "on",
        "hot_standby": "on",
        **log_archive.settings(host),
        # What the agent reads.
        "log_destination": "stderr",
        "logging_collector": "off",
        "lc_messages": "C",
    }
    if host.tls is not None and programs.has_tls():
        settings |= {
            "ssl": "on",
            "ssl_cert_file": str(host.tls.certificate),
            "ssl_key_file": str(host.tls.key),
            "ssl_ca_file": str(host.tls.ca),
            "ssl_crl_file": "",
            "ssl_crl_dir": "",
            "ssl_min_protocol_version": "TLSv1.2",
            "ssl_passphrase_command": "",
        }
    return settings


# The one setting that follows from the volume's size, and takes effect as the server runs.
OF_THE_VOLUME = "max_slot_wal_keep_size"


def for_size(memory_mb: int, vcpus: int) -> dict[str, str]:
    """Settings that follow from the flavor."""
    return {
        "max_connections": str(max(25, min(memory_mb // 5, 1000))),
        "shared_buffers": f"{max(16, memory_mb // 4)}MB",
        "effective_cache_size": f"{memory_mb * 3 // 4}MB",
        "work_mem": f"{max(1024, memory_mb * 1024 // 200)}kB",
        "maintenance_work_mem": f"{max(16, memory_mb // 16)}MB",
        "max_worker_processes": str(max(4, vcpus * 2)),
        "max_parallel_workers": str(max(2, vcpus)),
    }


def defaults(host: Host) -> dict[str, str]:
    """What Argosy sets for an instance of this size, unless its owner wants it otherwise."""
    settings = {
        **for_size(host.memory_mb, host.vcpus),
        "wal_level": "replica",
        "max_wal_senders": "10",
        "max_replication_slots": "10",
        "max_wal_size": "1GB",
        "min_wal_size": "80MB",
        OF_THE_VOLUME: f"{_log_kept_mb(host)}MB",
        "wal_compression": "on",
        "autovacuum_max_workers": "2",
        "jit": "off",  # the bundles carry no LLVM
        "password_encryption": "scram-sha-256",
        "recovery_init_sync_method": "syncfs",
        "track_io_timing": "on",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "TimeZone": "UTC",
        "log_timezone": "UTC",
    }
    if int(host.version) >= 17:
        settings["summarize_wal"] = "on"  # what has changed since a backup, for increments
    if int(host.version) >= 18 and host.memory_mb < 1024:
        settings["io_method"] = "sync"  # its three worker processes cost more memory than they save time
    return settings


def _log_kept_mb(host: Host) -> int:
    """What slots may keep of the log: never so much that the volume gets full of it."""
    try:
        volume = os.statvfs(host.data.parent)
    except OSError:
        return 2048
    return max(64, min(2048, volume.f_blocks * volume.f_frsize // 10 // 2**20))


def command_line(all_layers: Layers) -> dict[str, str]:
    """What is out of ALTER SYSTEM's reach."""
    pinned = {name: value for name, value in all_layers.settable.items() if name in PINNED}
    return {**pinned, **all_layers.owned}


def arguments(settings: Mapping[str, str]) -> list[str]:
    """Settings as arguments of `postgres`."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def text(settings: Mapping[str, str]) -> str:
    """Settings as a file of the server's."""
    return "".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items())


def write(host: Host, all_layers: Layers) -> None:
    """Write the files the server reads; they are the agent's, the server could not change them."""
    settings = dict(all_layers.settable)
    if reserve.is_given_away(host):
        settings["default_transaction_read_only"] = "on"
    for name, content in (
        ("postgresql.conf", text(settings)),
        ("pg_ident.conf", _names()),
    ):
        host.write_file(host.etc / name, content, mode=0o644, as_agent=True)
    write_access_rules(host)
    log_archive.write_script(host)


def take_back(host: Host, names: Iterable[str]) -> None:
    """Before a start: drop from ALTER SYSTEM's file what the group sets.

    The file is the server's, and its account could have put a link there: it is not followed.
    """
    file = host.data / "postgresql.auto.conf"
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return
    with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape") as opened:
        lines = opened.read().splitlines(keepends=True)
    ours = {name.lower() for name in names}
    kept = [line for line in lines if line.partition("=")[0].strip().lower() not in ours]
    if kept != lines:
        host.write_file(file, "".join(kept))


def refused_settings(data: Path) -> Path:
    """Where ALTER SYSTEM's settings are kept when the server would not start with them."""
    return data / "postgresql.auto.conf.refused"


def write_access_rules(host: Host) -> None:
    host.write_file(host.etc / "pg_hba.conf", _access_rules(host), mode=0o644, as_agent=True)


def lets_loaders_in(host: Host) -> bool:
    """Whether the rules are of a release that lets them."""
    return _LOADERS in (host.etc / "pg_hba.conf").read_text().splitlines()


def _access_rules(host: Host) -> str:
    """The administrator comes by the Unix socket alone and proves to be the agent; users come by TCP.

    The directory of the socket is shut to them. Programs that load a dump for them come by it with a password.

    Unless their owner requires it TLS is what clients get by default, not what they must use: `prefer` is
    libpq's own default.
    """
    chosen = choices.read(host)
    everywhere = "::/0" if ":" in host.address else "0.0.0.0/0"
    kind = "hostssl" if chosen.require_tls else "host"
    networks = networks_of(chosen.allowed_cidrs) or (everywhere,)
    return (
        f"local all {ADMIN} peer map=agent\n"
        f"local replication {ADMIN} peer map=agent\n"
        f"{_LOADERS}\n"
        f"host all {ADMIN} {everywhere} reject\n"
        + "".join(f"{kind} all all {network} scram-sha-256\n" for network in networks)
    )


def _names() -> str:
    """Which account of the system is the administrator: the agent's."""
    return f'agent "{pwd.getpwuid(os.geteuid()).pw_name}" {ADMIN}\n'


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
