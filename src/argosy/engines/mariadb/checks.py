"""Whether the data is whole: the server's own checks of every table, and rows counted against what a backup had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from argosy.domain.errors import EngineNotReady
from argosy.engines.backups import Checks, Facts, Say
from argosy.engines.host import Host
from argosy.engines.mariadb import fingerprints, sql
from argosy.engines.mariadb.management import Management, Session

_PATIENCE_S = 6 * 3600.0
_COUNT_S = 600.0
# Of what CHECK TABLE answers (manual): notes are no faults, such as that a kind of table cannot be checked.
_FINE = frozenset({"note", "info"})


class MariaDbChecks(Checks):
    host: Host
    management: Management

    def fingerprint(self) -> Facts:
        with closing(self._session()) as session:
            fingerprints.take_snapshot(session)
            return fingerprints.take(session)

    def check(self, fingerprint: Facts | None, say: Say) -> list[str]:
        # Not the session that all else waits for: this may take long.
        with closing(self._session()) as session:
            found = list(_unsound(session, say))
            return found + list(_different(session, fingerprint or fingerprints.NOTHING, say))

    def _session(self) -> Session:
        return Session(self.host, self.management.password(), _PATIENCE_S)


def _unsound(session: Session, say: Say) -> Iterator[str]:
    rows = session.run(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE IN ('BASE TABLE', 'SEQUENCE')"
        " AND TABLE_SCHEMA NOT IN ('information_schema', 'performance_schema') ORDER BY TABLE_SCHEMA, TABLE_NAME"
    )
    for number, (database, table) in enumerate(rows):
        say(f"checking table {number + 1} of {len(rows)}")
        name = f"{sql.identifier(str(database))}.{sql.identifier(str(table))}"
        try:
            told = session.run(f"CHECK TABLE {name}")
        except EngineNotReady:
            yield f"The server ended while it checked table {database}.{table}: see its error log."
            return
        for _, _, kind, text in told:
            if str(kind).lower() not in _FINE and str(text) != "OK":
                yield f"Table {database}.{table}: {kind}: {text}"


def _different(session: Session, fingerprint: Facts, say: Say) -> Iterator[str]:
    for database, tables in fingerprint["tables"].items():
        for table, rows in tables.items():
            say(f"counting rows of {database}.{table}")
            there = fingerprints.count(session, database, table, _COUNT_S)
            if there is None:
                yield f"Table {database}.{table} is missing, or its rows cannot be counted; it had {rows}."
            elif there != rows:
                yield f"Table {database}.{table} has {there} rows; it had {rows}."
