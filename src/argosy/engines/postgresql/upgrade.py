"""To another major version, by pg_upgrade with hard links: between a copy of the data and what is made of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines import staging, upgrades
from argosy.engines.base import Engine, Upgrades
from argosy.engines.host import Host
from argosy.engines.postgresql import configuration, template
from argosy.engines.postgresql.programs import Programs, under_a_name
from argosy.engines.postgresql.session import ADMIN, Sessions, run
from argosy.engines.process import ServerProcess

_PATIENCE_S = 6 * 3600.0
# Types whose values are numbers of rows in the server's own tables, which another version numbers anew (manual,
# pg_upgrade, Notes).
_REGISTERED = (
    "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper", "regoperator", "regproc", "regprocedure",
)  # fmt: skip
# Of 15.20: an option of every column, at which a release without the same fix fails.
_ATTRIBUTE_VERSION = "pg_attver"


_SORTED_ELSEWHERE = """
SELECT n.nspname, c.relname
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'i' AND EXISTS (
  SELECT FROM unnest(i.indcollation::oid[]) AS used (id) JOIN pg_collation k ON k.oid = used.id,
    pg_database d
  WHERE d.datname = current_database() AND (
    k.collprovider = 'i'
    OR k.collprovider = 'c' AND k.collcollate NOT IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8')
    OR k.collprovider = 'd' AND (
      d.datlocprovider = 'i'
      OR d.datlocprovider = 'c' AND d.datcollate NOT IN ('C', 'POSIX', 'C.UTF-8', 'C.utf8'))))
"""
_OTHER_RELEASE = """
SELECT n.nspname, k.collname FROM pg_collation k JOIN pg_namespace n ON n.oid = k.collnamespace
WHERE k.collversion <> pg_collation_actual_version(k.oid) AND k.collprovider <> 'd'
"""


class PostgresUpgrades(Upgrades, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    server: ServerProcess
    sessions: Sessions
    programs: Programs

    def program_version(self) -> str:
        return self.host.run_program([self.programs.postgres, "--version"]).split()[2]

    def find_obstacles(self, to: Host, *, rehearsal: bool) -> list[str]:
        found = []
        with self.sessions.open() as session:
            prepared = session.execute("SELECT gid, database FROM pg_prepared_xacts").fetchall()
            slots = session.execute(
                "SELECT slot_name FROM pg_replication_slots WHERE slot_type = 'logical'"
            ).fetchall()
        if prepared and not rehearsal:
            named = ", ".join(f"{gid!r} in {database}" for gid, database in prepared[:5])
            found.append(
                f"Transactions are prepared and not ended: {named}. Commit them or roll them back first."
            )
        if slots:
            found.append(
                f"There are logical replication slots: {', '.join(slot for (slot,) in slots[:5])}. Drop them first."
            )
        for database in self._databases():
            found += self._obstacles_in(database, Programs(to.bundle, to.version))
        return found

    def copy_data(self, target: Path) -> None:
        if self.server.pid is None:
            upgrades.copy_files(self.host, target, timeout_s=_PATIENCE_S)
            return
        # As the agent, whom alone the server lets in; what it makes is handed to the server's account after.
        self.host.run_program(
            [self.programs.postgres.with_name("pg_basebackup"), "-D", target, "-h", self.host.run, "-p",
             str(self.host.port), "-U", ADMIN, "-X", "stream", "-c", "fast", "--no-sync", "--no-manifest"],
            timeout_s=_PATIENCE_S,
            as_agent=True,
            environment=upgrades.REHEARSAL_MARK,
        )  # fmt: skip
        # From the leaves up: nobody else may change what is not handed over yet.
        for directory, names, files in os.walk(target, topdown=False):
            for name in [*names, *files]:
                os.lchown(Path(directory, name), self.host.account.uid, self.host.account.gid)
        os.lchown(target, self.host.account.uid, self.host.account.gid)

    def prepare_to_stop(self) -> None:
        with self.sessions.open() as session:
            # So that little is left to write while nobody is served.
            session.execute("CHECKPOINT")

    def convert(self, older: PostgresUpgrades, copy: Path) -> None:
        source = upgrades.older(older, copy)
        self._settle_copy(source)
        template.clone(self.host)
        work = staging.make_directory(self.host, copy.with_name("work"))
        command: list[str | Path] = [
            *under_a_name(self.host.account), self.programs.postgres.with_name("pg_upgrade"), "--link",
            "-b", source.programs.postgres.parent, "-B", self.programs.postgres.parent,
            "-d", copy, "-D", self.host.data, "-U", ADMIN, "-s", self.host.run,
            "-p", str(self.host.port), "-P", str(self.host.port + 1),
            "-o", f"-c config_file={_settings(source)}", "-O", f"-c config_file={_settings(self)}",
        ]  # fmt: skip
        try:
            self.host.run_program(
                command, timeout_s=_PATIENCE_S, environment=upgrades.REHEARSAL_MARK, directory=work
            )
        except EngineError as error:
            raise EngineError(f"{error.sentence}\n{_last_words(self.host.data)}".strip()) from error
        altered = copy / "postgresql.auto.conf"
        if altered.is_file() and not altered.is_symlink():
            self.host.write_file(self.host.data / altered.name, altered.read_text(errors="surrogateescape"))
        shutil.rmtree(self.host.data / "pg_upgrade_output.d", ignore_errors=True)
        shutil.rmtree(copy, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)

    def finish_conversion(self) -> None:
        """Extensions, to what came with the new version; and indexes, to the order its libraries sort in.

        ICU and libc have a release in each bundle, whose orders may differ; C and C.UTF-8 never do.
        """
        for database in self._databases():
            with self.sessions.open(database) as session:
                for schema, index in session.execute(_SORTED_ELSEWHERE).fetchall():
                    run(session, "REINDEX INDEX {}.{}", str(schema), str(index))
                for schema, name in session.execute(_OTHER_RELEASE).fetchall():
                    run(session, "ALTER COLLATION {}.{} REFRESH VERSION", str(schema), str(name))
                run(session, "ALTER DATABASE {} REFRESH COLLATION VERSION", database)
                for (name,) in session.execute(
                    "SELECT name FROM pg_available_extensions"
                    " WHERE installed_version IS NOT NULL AND installed_version <> default_version"
                ).fetchall():
                    run(session, "ALTER EXTENSION {} UPDATE", str(name))

    def after_upgrade(self) -> None:
        """The planner's statistics, of which the converted tables have none before version 18."""
        vacuumdb = self.programs.postgres.with_name("vacuumdb")
        options = ["--missing-stats-only"] if int(self.host.version) >= 18 else []
        self.host.run_program(
            [vacuumdb, "-h", self.host.run, "-p", str(self.host.port), "-U", ADMIN, "--all",
             "--analyze-in-stages", "--quiet", *options],
            timeout_s=_PATIENCE_S,
            as_agent=True,
        )  # fmt: skip

    def _settle_copy(self, source: PostgresUpgrades) -> None:
        """Let the older server make the copy whole, and take away what the newer one could not read."""
        source.start()
        try:
            if not self.programs.says(_ATTRIBUTE_VERSION):
                for database in source._databases():
                    with source.sessions.open(database) as session:
                        session.execute(
                            "UPDATE pg_attribute SET attoptions = NULL WHERE attoptions::text LIKE %s",
                            (f"%{_ATTRIBUTE_VERSION}%",),
                        )
        finally:
            source.stop()
            source.server.kill()

    def _obstacles_in(self, database: str, newer: Programs) -> list[str]:
        found = []
        with self.sessions.open(database) as session:
            columns = session.execute(
                "SELECT format('%%I.%%I.%%I', n.nspname, c.relname, a.attname), t.typname FROM pg_attribute a"
                " JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace"
                " JOIN pg_type t ON t.oid = a.atttypid"
                " WHERE c.relkind IN ('r', 'm', 'i') AND NOT a.attisdropped AND t.typname = ANY (%s)"
                " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_%%temp\\_%%'",
                (list(_REGISTERED),),
            ).fetchall()
            extensions = [
                str(name)
                for (name,) in session.execute(
                    "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1"
                ).fetchall()
            ]
        if columns:
            named = ", ".join(f"{column} ({kind})" for column, kind in columns[:5])
            found.append(
                f"Database {database!r} has columns of types that cannot be moved: {named}. Change their type to text."
            )
        missing = [name for name in extensions if not newer.has_extension(name)]
        if missing:
            found.append(
                f"Database {database!r} has extensions that did not come with the newer version: {', '.join(missing)}. "
                "Drop them first."
            )
        return found

    def _databases(self) -> list[str]:
        with self.sessions.open() as session:
            rows = session.execute(
                "SELECT datname FROM pg_database WHERE datallowconn AND datname <> 'template0' ORDER BY 1"
            ).fetchall()
        return [str(name) for (name,) in rows]


def _settings(engine: PostgresUpgrades) -> Path:
    """A file of all settings for pg_upgrade's own starts, at which it comes by a socket nobody else reaches."""
    host = engine.host
    layers = configuration.layers(host, engine.programs)
    own = {name: value for name, value in layers.owned.items() if name != "config_file"}
    access = host.write_file(host.etc / "pg_upgrade_hba.conf", "local all all trust\n", mode=0o644)
    own |= {"hba_file": str(access), "max_wal_senders": "10"}
    text = configuration.text({**layers.settable, **own})
    return host.write_file(host.etc / "pg_upgrade.conf", text, mode=0o644)


def _last_words(data: Path) -> str:
    """What pg_upgrade left in files for whoever looks after a failure."""
    words = []
    for file in sorted((data / "pg_upgrade_output.d").rglob("*")):
        if file.suffix == ".txt" and file.is_file():
            words.append(file.read_text(errors="replace").strip()[-500:])
        elif file.suffix == ".log" and file.is_file():
            lines = file.read_text(errors="replace").splitlines()
            words += [line for line in lines if "ERROR" in line or "FATAL" in line or "error:" in line][-3:]
    return "\n".join(words)[-1500:]
