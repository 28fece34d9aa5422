"""Valkey's and Redis's parameters that are Argosy's to set, and why."""

from __future__ import annotations

OWNED = {
    "Argosy keeps the instance's files where it finds them": (
        "dir dbfilename appendfilename appenddirname aclfile pidfile unixsocket* cluster-config-file include"
        " req-res-logfile"
    ),
    "it is the way in, for clients and for Argosy": (
        "bind bind-source-addr port tcp-mptcp protected-mode requirepass masterauth masteruser primaryauth"
        " primaryuser rdma-* mptcp acl-pubsub-default socket-mark-id"
    ),
    "the agent's own connections would be cut off as well": "maxmemory-clients client-output-buffer-limit",
    "Argosy issues the certificates and decides on TLS": "tls-*",
    "it would load code into the server, or open what must stay shut": (
        "loadmodule rename-command enable-debug-command enable-module-command enable-protected-configs"
        " sanitize-dump-payload"
    ),
    "what was acknowledged must not be lost": (
        "appendonly aof-* save rdb-del-sync-files no-appendfsync-on-rewrite shutdown-on-* shutdown-timeout"
    ),
    "Argosy decides who follows whom": (
        "replicaof slaveof replica-announce-* slave-announce-* replica-announced replica-priority"
        " slave-priority replica-read-only slave-read-only repl-diskless-sync repl-diskless-load"
        " replica-ignore-disk-write-errors repl-disable-tcp-nodelay"
    ),
    "clusters are not made by hand": "cluster-* slot-migration-* import-mode",
    "Argosy reads the log, and keeps it": "logfile loglevel syslog-* log-format log-timestamp-format crash-*",
    "the server is a process of Argosy's": (
        "daemonize supervised set-proc-title proc-title-template always-show-logo oom-score-adj*"
        " *cpulist watchdog-period disable-thp ignore-warnings debug-context use-exit-on-panic propagation-error-behavior hash-seed"
    ),
}
