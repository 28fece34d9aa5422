"""Logs, a file each: the server opens them by its own settings, but for the error log, which is what it prints."""

from __future__ import annotations

from collections.abc import Sequence

from argosy.domain.logs import ERROR
from argosy.engines.logs import LayeredLogs, Log
from argosy.engines.mariadb import configuration


class MariaDbLogs(LayeredLogs):
    """What the agent's own sessions do is in none of them: see `management.py`. The audit log tells that they connect."""

    def files(self) -> Sequence[Log]:
        logs = [
            Log("general", self.host.logs / "general.log", "general_log"),
            Log("slow_query", self.host.logs / "slow.log", "slow_query_log"),
            Log(ERROR, self.server.log),
        ]
        if configuration.has_audit(self.host):
            logs.insert(2, Log("audit", configuration.audit_log(self.host), "server_audit_logging"))
        return logs
