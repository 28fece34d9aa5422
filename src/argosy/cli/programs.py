"""The client programs of each datastore: where they are, and how they are told where to connect.

A password never stands in a program's arguments, which everybody on the machine can read: it goes into a file
of its owner's alone, or where a program takes no file, into its environment, which only its owner can read.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlencode

from argosy.client.errors import ClientError, Invalid
from argosy.client.models import Instance


@dataclass(frozen=True)
class Target:
    """What to connect to. `ca` has the certificate the server is known by; None for a server without TLS."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    database: str | None = None
    ca: Path | None = None


@dataclass(frozen=True)
class Run:
    """A program's arguments and what to add to its environment."""

    arguments: list[str]
    environment: dict[str, str]


Prepare = Callable[[Target, Path, str | None], Run]


@dataclass(frozen=True)
class Program:
    """`places` are globs in an image's bundle, `names` what it is called on a PATH, `package` what has it."""

    scheme: str
    names: tuple[str, ...]
    places: tuple[str, ...]
    package: str
    prepare: Prepare


def of(datastore: str) -> Program:
    """Raises Unsupported for a datastore we know no program of."""
    program = _PROGRAMS.get(datastore)
    if program is None:
        raise ClientError(f"No client program is known for {datastore}.", code="no-client-program")
    return program


def find(instance: Instance, images: Path | None) -> str | None:
    """The program's path: from the image the server itself runs from, else from PATH."""
    program = of(instance.datastore)
    if images is not None:
        bundle = images / f"{instance.datastore}-{instance.version}" / "bundle"
        for place in program.places:
            for path in sorted(bundle.glob(place)):
                if os.access(path, os.X_OK):
                    return str(path)
    return next(filter(None, map(shutil.which, program.names)), None)


def missing(instance: Instance) -> ClientError:
    program = of(instance.datastore)
    return ClientError(
        f"There is no {program.names[0]} here: install it ({program.package} on Debian), or use a client of your "
        f"own at {url(instance, None)}.",
        code="no-client-program",
    )


def url(
    instance: Instance,
    user: str | None,
    *,
    database: str | None = None,
    tls: bool = True,
    ca: str | None = None,
) -> str | None:
    """Where to connect, as the datastore's clients write it, without a password; None while it has no address."""
    if instance.address is None or instance.datastore not in _PROGRAMS:
        return None
    scheme = _PROGRAMS[instance.datastore].scheme
    place = f"{quote(user, safe='')}@" if user else ""
    address = f"{place}{instance.address}:{instance.port}"
    name = quote(database, safe="") if database else ""
    if scheme == "redis":
        return f"{'rediss' if tls else 'redis'}://{address}{'/' + name if name else ''}"
    query = ""
    if scheme == "postgresql" and tls:
        query = "?" + urlencode({"sslmode": "verify-full", **({"sslrootcert": ca} if ca else {})}, safe="/")
    return f"{scheme}://{address}/{name}{query}"


def write(file: Path, content: str) -> Path:
    """A file of its owner's alone."""
    with os.fdopen(
        os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8"
    ) as opened:
        opened.write(content)
    return file


def _psql(target: Target, directory: Path, query: str | None) -> Run:
    secret = target.password.replace("\\", "\\\\").replace(":", "\\:")
    environment = {
        "PGHOST": target.host,
        "PGPORT": str(target.port),
        "PGUSER": target.user,
        "PGDATABASE": target.database or "postgres",
        "PGPASSFILE": str(write(directory / "pgpass", f"*:*:*:*:{secret}\n")),
        "PGSSLMODE": "disable" if target.ca is None else "verify-full",
    }
    if target.ca is not None:
        environment["PGSSLROOTCERT"] = str(target.ca)
    once = [] if query is None else ["--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--command", query]
    return Run(once, environment)


def _mariadb(target: Target, directory: Path, query: str | None) -> Run:
    lines = {
        "user": target.user,
        "password": target.password,
        "host": target.host,
        "port": str(target.port),
        "protocol": "tcp",
    }
    settings = ["[client]", *(f'{key}="{_in_option_file(value)}"' for key, value in lines.items())]
    if target.ca is None:
        settings.append("skip-ssl")
    else:
        settings += [f'ssl-ca="{_in_option_file(str(target.ca))}"', "ssl-verify-server-cert"]
    # Not --defaults-extra-file: the user's own ~/.my.cnf is read after that one, and its password would win.
    arguments = [f"--defaults-file={write(directory / 'client.cnf', chr(10).join(settings) + chr(10))}"]
    if target.database is not None:
        arguments.append(f"--database={target.database}")
    if query is not None:
        arguments += ["--table", f"--execute={query}"]
    return Run(arguments, {})


def _valkey_cli(target: Target, _directory: Path, query: str | None) -> Run:
    arguments = ["-h", target.host, "-p", str(target.port), "--user", target.user]
    if target.ca is not None:
        arguments += ["--tls", "--cacert", str(target.ca)]
    if target.database is not None:
        arguments += ["-n", target.database]
    if query is not None:
        try:
            words = shlex.split(query)
        except ValueError as error:
            raise Invalid(f"The command cannot be taken apart: {error}.") from error
        arguments += ["-e", *words]
    return Run(arguments, {"REDISCLI_AUTH": target.password})


def _in_option_file(value: str) -> str:
    """Within double quotes of an option file (MariaDB manual, Configuring MariaDB with Option Files)."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "".join(escapes.get(each, each) for each in value)


def environment(added: dict[str, str]) -> dict[str, str]:
    """What the program runs in: ours, without our own secrets and without what would lead it elsewhere."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(
            ("OS_", "ARGOSY_", "PGHOST", "PGSERVICE", "PGSSL", "PGPASS", "MYSQL_", "REDISCLI_")
        )
    }
    return {**kept, **added}


_PROGRAMS = {
    "postgresql": Program(
        "postgresql",
        ("psql",),
        ("usr/lib/postgresql/*/bin/psql", "usr/bin/psql"),
        "postgresql-client",
        _psql,
    ),
    "mariadb": Program("mariadb", ("mariadb", "mysql"), ("usr/bin/mariadb",), "mariadb-client", _mariadb),
    "valkey": Program(
        "redis",
        ("valkey-cli", "redis-cli"),
        ("usr/bin/valkey-cli",),
        "valkey-tools",
        _valkey_cli,
    ),
    "redis": Program(
        "redis", ("redis-cli", "valkey-cli"), ("usr/bin/redis-cli",), "redis-tools", _valkey_cli
    ),
}
