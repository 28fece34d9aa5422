"""Whether the data is whole: every index and table walked by amcheck, and rows counted again."""

from __future__ import annotations

from typing import Any

from argosy.domain.errors import EngineError
from argosy.engines.backups import Checks, Facts, Say
from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.postgresql import fingerprints
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import ADMIN, MAINTENANCE, Sessions, options

_PATIENCE_S = 24 * 3600.0
_TOLD = 20


class PostgresChecks(Checks, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    sessions: Sessions
    programs: Programs

    def fingerprint(self) -> Facts:
        counted = fingerprints.count(self.sessions)
        return fingerprints.unchanged(counted, counted)

    def check(self, fingerprint: Facts | None, say: Say) -> list[str]:
        say("walking tables and indexes")
        wrong = self._walk()
        if fingerprint is not None:
            say("counting rows")
            wrong += self._compare(fingerprint.get("tables", {}))
        return wrong

    def _walk(self) -> list[str]:
        """By pg_amcheck (manual): it tells what is wrong line by line, and ends with 2 then."""
        program = self.programs.postgres.with_name("pg_amcheck")
        if not program.exists() or not self.programs.has_extension("amcheck"):
            return []
        try:
            self.host.run_program(
                [program, "-h", self.host.run, "-p", str(self.host.port), "-U", ADMIN, "--no-password",
                 "--all", "--install-missing=pg_catalog", "--no-strict-names",
                 "--maintenance-db", MAINTENANCE],
                timeout_s=_PATIENCE_S,
                environment={"PGOPTIONS": f"{options(self.host)} -c statement_timeout=0"},
                as_agent=True,
            )  # fmt: skip
        except EngineError as error:
            return error.sentence.splitlines()[:_TOLD]
        return []

    def _compare(self, tables: dict[str, dict[str, Any]]) -> list[str]:
        wrong = []
        for database, counted in tables.items():
            with self.sessions.open(database) as session:
                for name, rows in counted.items():
                    schema, _, table = name.partition(".")
                    now = fingerprints.count_rows(session, schema, table, _PATIENCE_S / 24)
                    if now != rows:
                        there = "cannot be read" if now is None else f"has {now} rows"
                        wrong.append(f"Table {name} of database {database} {there}, the backup's had {rows}.")
        return wrong
