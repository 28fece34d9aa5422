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

    The server's account may read it and nobody else: what it says that account could set itself.
    """
    place = staging.make_directory(host, host.run / directory)
    text = f"[client]\nuser = {ADMIN}\npassword = {management.password()}\nsocket = {configuration.socket(host)}\n"
    try:
        yield host.write_file(place / "client.cnf", text)
    finally:
        staging.remove(place)
