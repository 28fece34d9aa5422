"""Getting back into a server whose administrator was locked out by a user's root.

A superuser can rename, weaken or delete the agent's account and the database it connects to. Started in
single-user mode the server asks for no account at all: whoever runs it is the bootstrap superuser, whose
id is 10 whatever its name (PostgreSQL manual, `postgres`, Options for Single-User Mode).
"""

from __future__ import annotations

from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines.host import Host
from argosy.engines.postgresql.configuration import arguments
from argosy.engines.postgresql.programs import Programs, under_a_name
from argosy.engines.postgresql.session import MAINTENANCE, TEMPLATES

# Each in one line to the server. The catalog is written to directly, since ALTER ROLE refuses to rename the
# session's own user; a statement with nothing to do says so and is passed over.
_STATEMENTS = (
    "UPDATE pg_catalog.pg_authid SET rolname = 'impostor_' || oid WHERE rolname = 'os_admin' AND oid <> 10",
    (
        "INSERT INTO pg_catalog.pg_authid (oid, rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb,"
        " rolcanlogin, rolreplication, rolbypassrls, rolconnlimit)"
        " SELECT 10, 'os_admin', true, true, true, true, true, true, true, -1"
        " WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_authid WHERE oid = 10)"
    ),
    (
        "UPDATE pg_catalog.pg_authid SET rolname = 'os_admin', rolsuper = true, rolinherit = true,"
        " rolcreaterole = true, rolcreatedb = true, rolcanlogin = true, rolreplication = true,"
        " rolbypassrls = true, rolconnlimit = -1, rolpassword = NULL, rolvaliduntil = NULL WHERE oid = 10"
    ),
    "DELETE FROM pg_catalog.pg_db_role_setting WHERE setrole = 10",
    "CREATE DATABASE postgres TEMPLATE template0",
    "REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC",
    "UPDATE pg_catalog.pg_database SET datallowconn = true, datconnlimit = -1 WHERE datname = 'postgres'",
)


def restore_administrator(host: Host, programs: Programs, settings: dict[str, str]) -> None:
    """Make the agent's account and database on a stopped server what they were; harmless when they are.

    Raises EngineError when no database is left to start in.
    """
    failure: EngineError | None = None
    for database in (MAINTENANCE, *TEMPLATES):
        server: list[str | Path] = [programs.postgres, "--single", "-D", host.data]
        command = [*under_a_name(host.account), *server, *arguments(settings), database]
        try:
            host.run_program(command, stdin="\n".join(_STATEMENTS) + "\n", timeout_s=300)
        except EngineError as error:
            failure = failure or error
        else:
            return
    raise EngineError(f"The agent's account cannot be restored: {failure}")
