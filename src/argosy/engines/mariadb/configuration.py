"""The server's configuration: every path absolute and the instance's own, sizes from the flavor.

Nothing but this file is read (`--defaults-file`), and it is written anew at every start.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from argosy.engines.host import Host


def socket(host: Host) -> Path:
    return host.run / "mariadb.sock"


def file(host: Host) -> Path:
    return host.etc / "mariadb.cnf"


def init_file(host: Host) -> Path:
    return host.etc / "init.sql"


def binlogs(host: Host) -> Path:
    """Beside the data directory, on its volume: a restore replaces the one and keeps the other."""
    return host.data.parent / "binlog"


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


def server_id(host: Host) -> int:
    """A number of this instance's own, the same at every start (replication refuses two servers with one)."""
    return int.from_bytes(hashlib.sha256(host.instance_id.encode()).digest()[:4]) or 1


def buffer_pool_mb(memory_mb: int) -> int:
    """What the pages of data get. About 100 MiB go to the program, its connections and their sorting."""
    return max(16, (memory_mb - 100) * 13 // 20)


def text(host: Host) -> str:
    """The whole file."""
    memory = host.memory_mb
    small = memory < 1024
    settings: dict[str, object] = {
        "basedir": host.bundle / "usr",
        "lc_messages_dir": share(host),
        "character_sets_dir": share(host) / "charsets",
        "plugin_dir": plugins(host),
        # Tells which session holds which database's tables: see sessions.py.
        "plugin_load_add": "metadata_lock_info",
        "datadir": host.data,
        "socket": socket(host),
        "pid_file": host.run / "mariadb.pid",
        "tmpdir": temporary(host),
        "secure_file_priv": exchange(host),
        "init_file": init_file(host),
        "general_log_file": host.logs / "general.log",
        "slow_query_log_file": host.logs / "slow.log",
        "bind_address": host.address,
        "port": host.port,
        "skip_name_resolve": "ON",
        # A load balancer that only opens the port and leaves must not get its clients banned.
        "max_connect_errors": 4294967295,
        "server_id": server_id(host),
        "character_set_server": "utf8mb4",
        "lower_case_table_names": 0,
        "symbolic_links": "OFF",
        # We send hashes, which a password plugin that root installs cannot look into and would have refused.
        "strict_password_validation": "OFF",
        # One more for the agent's own connection.
        "max_connections": max(20, memory // 5) + 1,
        "thread_cache_size": 4 if small else 32,
        "table_open_cache": 400 if small else 2000,
        "table_definition_cache": 400 if small else 1000,
        "key_buffer_size": "1M",
        "aria_pagecache_buffer_size": "8M" if small else "64M",
        "performance_schema": "OFF",
        "innodb_buffer_pool_size": f"{buffer_pool_mb(memory)}M",
        "innodb_buffer_pool_dump_at_shutdown": "OFF",
        "innodb_buffer_pool_load_at_startup": "OFF",
        "innodb_log_file_size": f"{min(512, max(32, memory // 8))}M",
        "innodb_log_buffer_size": "2M" if small else "16M",
        "innodb_temp_data_file_path": "ibtmp1:1M:autoextend",
        # The temporary file grows by one step at every start, by 64 MB if not told otherwise.
        "innodb_autoextend_increment": 4,
        "innodb_flush_log_at_trx_commit": 1,
        "log_bin": binlogs(host) / "mysql-bin",
        "log_bin_index": binlogs(host) / "mysql-bin.index",
        "relay_log": binlogs(host) / "relay-bin",
        "relay_log_index": binlogs(host) / "relay-bin.index",
        "sync_binlog": 1,
        "binlog_format": "ROW",
        "gtid_strict_mode": "ON",
        "log_slave_updates": "ON",
        "max_binlog_size": "64M",
        "binlog_expire_logs_seconds": 86400,
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
    return "[mariadbd]\n" + "".join(f"{name} = {value}\n" for name, value in settings.items())
