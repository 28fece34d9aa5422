"""The server's settings, computed from the host's size, and who may connect how.

Settings come in two kinds. *Ours* keep the server reachable, within its memory and true to its
guarantees; they are given on the command line, which ALTER SYSTEM does not override. *Defaults* are in a
file outside the data directory, and an administrator may change them by ALTER SYSTEM.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from argosy.engines.host import Host
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import ADMIN

RESERVED_CONNECTIONS = 5  # for the agent, whatever users do


def ours(host: Host, programs: Programs) -> dict[str, str]:
    """Settings no user can change."""
    settings = {
        "config_file": str(host.etc / "postgresql.conf"),
        "hba_file": str(host.etc / "pg_hba.conf"),
        "ident_file": str(host.etc / "pg_ident.conf"),
        "data_directory": str(host.data),
        "cluster_name": host.instance_id,
        # The way in.
        "listen_addresses": host.address,
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
        # Its size.
        "max_connections": str(max(25, min(host.memory_mb // 5, 1000))),
        "shared_buffers": f"{max(16, host.memory_mb // 4)}MB",
        "huge_pages": "off",
        # Its guarantees.
        "fsync": "on",
        "full_page_writes": "on",
        "wal_level": "replica",
        "max_wal_senders": "10",
        "max_replication_slots": "10",
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


def defaults(host: Host) -> dict[str, str]:
    """Settings an administrator may change, from the flavor's memory and processors."""
    memory_mb = host.memory_mb
    settings = {
        "effective_cache_size": f"{memory_mb * 3 // 4}MB",
        "work_mem": f"{max(1024, memory_mb * 1024 // 200)}kB",
        "maintenance_work_mem": f"{max(16, memory_mb // 16)}MB",
        "max_wal_size": "1GB",
        "min_wal_size": "80MB",
        "max_slot_wal_keep_size": "2GB",
        "wal_compression": "on",
        "hot_standby": "on",
        "autovacuum_max_workers": "2",
        "max_worker_processes": str(max(4, host.vcpus * 2)),
        "max_parallel_workers": str(max(2, host.vcpus)),
        "jit": "off",  # the bundles carry no LLVM
        "password_encryption": "scram-sha-256",
        "recovery_init_sync_method": "syncfs",
        "track_io_timing": "on",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    if int(host.version) >= 18 and memory_mb < 1024:
        settings["io_method"] = "sync"  # its three worker processes cost more memory than they save time
    return settings


def arguments(settings: Mapping[str, str]) -> list[str]:
    """Settings as arguments of `postgres`."""
    return [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]


def write(host: Host) -> None:
    """Write the files the server reads; they are the agent's, the server could not change them."""
    text = "".join(f"{name} = {_quoted(value)}\n" for name, value in defaults(host).items())
    for name, content in (
        ("postgresql.conf", text),
        ("pg_hba.conf", _access_rules(host)),
        ("pg_ident.conf", _names()),
    ):
        host.write_file(host.etc / name, content, mode=0o644, as_agent=True)


def refused_settings(data: Path) -> Path:
    """Where ALTER SYSTEM's settings are kept when the server would not start with them."""
    return data / "postgresql.auto.conf.refused"


def _access_rules(host: Host) -> str:
    """The administrator comes by the Unix socket alone and proves to be the agent; users come by TCP alone.

    TLS is what clients get by default, not what they must use: `prefer` is libpq's own default.
    """
    network = "::/0" if ":" in host.address else "0.0.0.0/0"
    return (
        f"local all {ADMIN} peer map=agent\n"
        f"local replication {ADMIN} peer map=agent\n"
        f"host all {ADMIN} {network} reject\n"
        f"host all all {network} scram-sha-256\n"
    )


def _names() -> str:
    """Which account of the system is the administrator: the agent's."""
    return f'agent "{pwd.getpwuid(os.geteuid()).pw_name}" {ADMIN}\n'


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
