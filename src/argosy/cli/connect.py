"""`argosy connect`: the datastore's own client program, with the right address and credentials."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Self

import typer

from argosy.cli import passwords, programs
from argosy.cli.call import Call, command
from argosy.cli.credentials import key_of, user_of
from argosy.cli.instances import PANEL, Name
from argosy.client.errors import Busy, ClientError, NotFound
from argosy.client.models import Instance, User

# Where a client of our own stands in for a missing program.
_HAVE_A_SHELL = ("valkey", "redis")
_ROOTS = ("root", "default")


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "connect",
        panel=PANEL,
        examples=(
            "argosy connect shop",
            "argosy connect shop -u bob -d orders",
            "argosy connect shop -c 'select version()'",
            "argosy connect shop < schema.sql",
            "argosy connect shop -- --csv -c 'table orders'",
        ),
    )(connect)


def connect(
    call: Call,
    name: Name,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[-- ARGUMENTS]", help="More for the client program.", show_default=False),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", "-u", metavar="USER", help="As whom, when there is more than one user."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", "-d", metavar="NAME", help="Which database, when the user has several."),
    ] = None,
    query: Annotated[
        str | None, typer.Option("--command", "-c", metavar="QUERY", help="Run this one and end.")
    ] = None,
    password_file: passwords.FileOption = None,
) -> int:
    """Open psql, mariadb or valkey-cli on an instance. With --json, tell what it would be told instead.

    Generated passwords are known here; others are taken from --password-file or ARGOSY_PASSWORD, or asked for.
    The server is known by the certificate of Argosy's authority. Ends with 0 if the program did, else with 1.
    """
    instance = call.argosy.instances.find(name)
    if instance.address is None or instance.port is None or not instance.serves:
        raise Busy(
            f"{instance.name} cannot be connected to: it is {instance.state}. {_why(instance)}".strip()
        )
    known = call.credentials.of(instance.id)
    key, database = _choose(call, instance, known, user, database)
    login = user_of(key)[0]
    tls = call.has_tls(instance)
    if call.out.as_json:
        call.out.json(_facts(call, instance, login, database, tls=tls))
        return 0
    program = programs.find(instance, call.images)
    if program is None and instance.datastore not in _HAVE_A_SHELL:
        raise programs.missing(instance)
    given = passwords.chosen([login], password_file, ask=False)
    secret = given[0] if given else known.get(key)
    if secret is None:
        secret = passwords.asked_once(login)
    if not tls:
        call.out.note(f"{instance.name} has no TLS: its software was built without.")
    with _Foreground() as foreground, tempfile.TemporaryDirectory(prefix="argosy-connect-") as place:
        directory = Path(place)
        ca = programs.write(directory / "ca.crt", call.argosy.certificate_authority()) if tls else None
        target = programs.Target(instance.address, instance.port, login, secret, database, ca)
        if program is None:
            from argosy.cli import valkey_shell

            return valkey_shell.run(target, query)
        run = programs.of(instance.datastore).prepare(target, directory, query)
        return foreground.run(
            [program, *run.arguments, *(arguments or [])], programs.environment(run.environment)
        )


def _choose(
    call: Call, instance: Instance, known: dict[str, str], wanted: str | None, database: str | None
) -> tuple[str, str | None]:
    """The user (`name` or `name@host`) and database to connect with."""
    # Root is no user of the list, and its databases are all.
    if wanted in _ROOTS:
        return wanted, database
    there = {key_of(each.name, each.host): each for each in call.argosy.users.all(instance.id)}
    if wanted is not None:
        found = there.get(wanted) or next((each for each in there.values() if each.name == wanted), None)
        if found is None:
            raise NotFound(f"{instance.name} has no user {wanted!r}: it has {', '.join(there) or 'none'}.")
        return key_of(found.name, found.host), database or _database(found)
    usable = [key for key in there if key in known] or list(there)
    if len(usable) == 1:
        return usable[0], database or _database(there[usable[0]])
    if usable:
        raise ClientError(f"{instance.name} has several users: choose with -u one of {', '.join(usable)}.")
    for root in _ROOTS:
        if root in known:
            return root, database
    raise NotFound(
        f"{instance.name} has no users: make one with `argosy users create {instance.name} NAME`, or "
        f"`argosy root enable {instance.name}`."
    )


def _database(user: User) -> str | None:
    return user.databases[0] if user.databases else None


def _facts(call: Call, instance: Instance, login: str, database: str | None, *, tls: bool) -> dict[str, Any]:
    ca = call.database_ca if tls else None
    return {
        "instance": instance.id,
        "datastore": instance.datastore,
        "host": instance.address,
        "port": instance.port,
        "user": login,
        "database": database,
        "tls": tls,
        "ca": ca,
        "url": programs.url(instance, login, database=database, tls=tls, ca=ca),
    }


class _Foreground:
    """Runs a program at our terminal and outlives it, whatever we are sent: its files must go when it ends."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._starts = False
        self._sent: int | None = None  # while it was starting

    def __enter__(self) -> Self:
        self._before = {
            number: signal.signal(number, self._take) for number in (signal.SIGTERM, signal.SIGHUP)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, arguments: list[str], environment: dict[str, str]) -> int:
        # Ctrl-C reaches the program by itself, from the terminal; for psql it means "stop that query".
        before = signal.signal(signal.SIGINT, lambda *_: None)
        try:
            sys.stdout.flush()
            self._starts = True
            self._child = subprocess.Popen(arguments, env=environment)
            if self._sent is not None:
                self._child.send_signal(self._sent)
            return 0 if self._child.wait() == os.EX_OK else 1
        finally:
            signal.signal(signal.SIGINT, before)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if self._child is None and not self._starts:
            raise SystemExit(128 + number)
        if self._child is None:
            # There may be a process by now, which nobody else would end.
            self._sent = number
        elif self._child.poll() is None:
            self._child.send_signal(number)


def _why(instance: Instance) -> str:
    if instance.fault is not None:
        return instance.fault.message
    return f"{instance.meaning[:1].upper()}{instance.meaning[1:]}." if instance.meaning else ""
