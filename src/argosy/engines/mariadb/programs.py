"""MariaDB's own programs, beside the server: they find it by a file of options, since a password has no place in argv."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argosy.engines import staging
from argosy.engines.host import Host
from argosy.engines.mariadb import configuration
from argosy.engines.mariadb.management import ADMIN, Management


def program(host: Host, name: str) -> Path:
    return host.bundle / "usr/bin" / name


@contextmanager
def client_options(host: Host, management: Management, directory: str = "client") -> Iterator[Path]:
    """A file for programs that connect, while they run; `directory` is made for it in `host.run`.

    The server's account may read it and nobody else: what it says that account could set itself. Whatever root did to
    our account is mended first. Raises AccountLost when it cannot be.
    """
    with management.session() as session:
        session.run("SELECT 1")
    with options_of(host, ADMIN, management.password(), directory) as file:
        yield file


@contextmanager
def options_of(host: Host, user: str, password: str, directory: str) -> Iterator[Path]:
    """The same, for a program that connects as somebody else."""
    place = staging.make_directory(host, host.run / directory)
    name = user.replace("\\", r"\\").replace('"', r"\"")
    options = {
        "user": f'"{name}"',
        "password": password,
        "socket": str(configuration.socket(host)),
        # A Unix socket needs none, and 11.8's programs insist on it otherwise.
        "ssl": "0",
    }
    text = "[client]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())
    try:
        yield host.write_file(place / "client.cnf", text)
    finally:
        staging.remove(place)
