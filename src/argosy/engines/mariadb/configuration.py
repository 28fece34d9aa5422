"""The server's settings, in layers (see `engines/layers.py`): every path absolute and the instance's own.

Nothing but this file is read (`--defaults-file`), and it is written anew at every start.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from argosy.engines import choices
from argosy.engines.host import Host
from argosy.engines.layers import Layers
from argosy.engines.mariadb import history

# Variables that the file knows by another name.
_OPTIONS = {"time_zone": "default_time_zone", "tx_isolation": "transaction_isolation"}


def socket(host: Host) -> Path:
    return host.run / "mariadb.sock"


def file(host: Host) -> Path:
    return host.etc / "mariadb.cnf"


def init_file(host: Host) -> Path:
    return host.etc / "init.sql"


def binlogs(host: Host) -> Path:
    """Beside the data directory, on its volume; which one is its history's to say."""
    return host.data.parent / history.of(host.data).log


def temporary(host: Host) -> Path:
    """On the volume: sorting what it holds may take as much room, and /tmp is everybody's."""
    return host.data.parent / "tmp"


def exchange(host: Host) -> Path:
    """All that LOAD DATA, LOAD_FILE and INTO OUTFILE reach, even for root: not our keys and passwords."""
    return host.data.parent / "files"


def share(host: Host) -> Path:
    """Messages and character sets: `share/mysql` up to 10.11, `share/mariadb` since 11."""
    newer = host.bundle / "usr/share/mariadb"
    return newer if newer.is_dir() else host.bundle / "usr/share/mysql"


def plugins(host: Host) -> Path:
    return host.bundle / "usr/lib/mysql/plugin"


def has_audit(host: Host) -> bool:
    return (plugins(host) / "server_audit.so").exists()


def audit_log(host: Host) -> Path:
    return host.logs / "audit.log"


def server_id(host: Host) -> int:
    """A number of this instance's own, the same at every start (replication refuses two servers with one)."""
    return int.from_bytes(hashlib.sha256(host.instance_id.encode()).digest()[:4]) or 1


def buffer_pool_mb(memory_mb: int) -> int:
    """What the pages of data get. About 100 MiB go to the program, its connections and their sorting."""
    return max(16, (memory_mb - 100) * 13 // 20)


def layers(host: Host) -> Layers:
    """As they are chosen now."""
    chosen = choices.read(host)
    return Layers(
        flavor=defaults(host.memory_mb, host.vcpus),
        logs=logs(chosen.logs),
        group=chosen.parameters,
        owned=owned(host),
    )


def for_size(memory_mb: int, vcpus: int) -> dict[str, str]:  # noqa: ARG001 - as other engines' have it
    """Settings that follow from the flavor."""
    small = memory_mb < 1024
    return {
        # One more for the agent's own connection.
        "max_connections": str(max(20, memory_mb // 5) + 1),
        "thread_cache_size": "4" if small else "32",
        "table_open_cache": "400" if small else "2000",
        "table_definition_cache": "400" if small else "1000",
        "aria_pagecache_buffer_size": "8M" if small else "64M",
        "innodb_buffer_pool_size": f"{buffer_pool_mb(memory_mb)}M",
        "innodb_log_file_size": f"{min(512, max(32, memory_mb // 8))}M",
        "innodb_log_buffer_size": "2M" if small else "16M",
    }


def defaults(memory_mb: int, vcpus: int) -> dict[str, str]:
    """What Argosy sets for an instance of this size, unless its owner wants it otherwise."""
    return {
        **for_size(memory_mb, vcpus),
        "character_set_server": "utf8mb4",
        # A load balancer that only opens the port and leaves must not get its clients banned.
        "max_connect_errors": "4294967295",
        "key_buffer_size": "1M",
        "performance_schema": "OFF",
        # Else only administrators could make triggers and functions; the log has rows, so none can be unsafe for it.
        "log_bin_trust_function_creators": "ON",
        "innodb_buffer_pool_dump_at_shutdown": "OFF",
        "innodb_buffer_pool_load_at_startup": "OFF",
        # The temporary file grows by one step at every start, by 64 MB if not told otherwise.
        "innodb_autoextend_increment": "4",
        "max_binlog_size": "64M",
        "binlog_expire_logs_seconds": "86400",
    }


def logs(switched_on: Sequence[str]) -> dict[str, str]:
    """Settings of the logs that are switched on."""
    settings: dict[str, str] = {}
    if "general" in switched_on:
        settings["general_log"] = "ON"
    if "slow_query" in switched_on:
        settings |= {"slow_query_log": "ON", "long_query_time": "1"}
    if "audit" in switched_on:
        # Who connects, and who changes tables and rights; all else is what the general log is for.
        settings |= {"server_audit_logging": "ON", "server_audit_events": "CONNECT,QUERY_DDL,QUERY_DCL"}
    return settings


def owned(host: Host) -> dict[str, str]:
    """Settings no user can change."""
    settings: dict[str, object] = {
        "basedir": host.bundle / "usr",
        "lc_messages_dir": share(host),
        "character_sets_dir": share(host) / "charsets",
        "plugin_dir": plugins(host),
        # Tells which session holds which database's tables: see sessions.py.
        # The audit log can be switched on at any time only where its plugin is loaded.
        "plugin_load_add": "metadata_lock_info;server_audit" if has_audit(host) else "metadata_lock_info",
        "datadir": host.data,
        "socket": socket(host),
        "pid_file": host.run / "mariadb.pid",
        "tmpdir": temporary(host),
        "secure_file_priv": exchange(host),
        "init_file": init_file(host),
        "log_output": "FILE",
        "general_log_file": host.logs / "general.log",
        "slow_query_log_file": host.logs / "slow.log",
        "bind_address": host.address,
        "port": host.port,
        "skip_name_resolve": "ON",
        "require_secure_transport": "ON" if choices.read(host).require_tls else "OFF",
        "server_id": server_id(host),
        "lower_case_table_names": 0,
        "symbolic_links": "OFF",
        # We send hashes, which a password plugin that root installs cannot look into and would have refused.
        "strict_password_validation": "OFF",
        "innodb_temp_data_file_path": "ibtmp1:1M:autoextend",
        "innodb_flush_log_at_trx_commit": 1,
        "log_bin": binlogs(host) / "mysql-bin",
        "log_bin_index": binlogs(host) / "mysql-bin.index",
        "relay_log": binlogs(host) / "relay-bin",
        "relay_log_index": binlogs(host) / "relay-bin.index",
        "sync_binlog": 1,
        "binlog_format": "ROW",
        "gtid_strict_mode": "ON",
        "log_slave_updates": "ON",
    }
    if host.private:
        # The binary log is others' to read, and goes on where the server before left it.
        settings = {name: value for name, value in settings.items() if not name.startswith("log_bin")}
        settings |= {"skip_networking": "ON", "log_slave_updates": "OFF"}
    if has_audit(host):
        settings |= {
            "server_audit_file_path": audit_log(host),
            "server_audit_output_type": "file",
            # The agent rotates it, as all logs.
            "server_audit_file_rotations": 0,
            "server_audit_excl_users": "os_admin",
        }
    if host.tls is None:
        # Without it 11.4 and later make themselves a key and certificate at every start, which takes a second.
        settings["skip_ssl"] = "ON"
    else:
        settings |= {
            "ssl_cert": host.tls.certificate,
            "ssl_key": host.tls.key,
            "ssl_ca": host.tls.ca,
            "tls_version": "TLSv1.2,TLSv1.3",
        }
    return {name: str(value) for name, value in settings.items()}


def text(all_layers: Layers) -> str:
    """The whole file."""
    settings = {**all_layers.settable, **all_layers.owned}
    return "[mariadbd]\n" + "".join(
        f"{_option(name)} = {_quoted(value)}\n" for name, value in settings.items()
    )


def _option(name: str) -> str:
    """A plugin's are loose: without the plugin the server would not start over them."""
    return f"loose_{name}" if name.startswith("server_audit_") else _OPTIONS.get(name, name)


def _quoted(value: str) -> str:
    """In double quotes where it must be: else `#` begins a comment and blanks at the ends are dropped.

    A backslash escapes what follows it, in quotes or not (manual, Configuring MariaDB with Option Files).
    """
    escaped = value.replace("\\", "\\\\")
    return escaped if re.fullmatch(r"[\w./:,%+=@*-]*", value) else f'"{escaped}"'
