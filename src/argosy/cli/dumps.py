"""`argosy export` and `argosy import`: databases as logical dumps."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name

if TYPE_CHECKING:
    from argosy.client.dumps import Loaded
    from argosy.client.models import Instance

_PART = 2**20
_STANDARD = "-"

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        "-d",
        metavar="NAME",
        help="Which one; needed where there is not just one.",
        show_default=False,
    ),
]


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "export",
        panel=PANEL,
        examples=(
            "argosy export shop -o shop.dump",
            "argosy export shop -d orders -t items > items.dump",
            "argosy export shop -d orders --to-store dumps/orders",
        ),
    )(export)
    command(
        app,
        "import",
        panel=PANEL,
        examples=(
            "argosy import shop shop.dump -d orders",
            "gunzip -c old.sql.gz | argosy import crm -",
            "argosy import shop -d orders --from-store dumps/orders",
        ),
    )(import_)


def export(
    call: Call,
    name: Name,
    database: Database = None,
    table: Annotated[
        str | None, typer.Option("--table", "-t", metavar="NAME", help="One table of it.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to.", show_default="the standard output"),
    ] = None,
    to_store: Annotated[
        str | None,
        typer.Option(
            "--to-store", metavar="CONTAINER/NAME", help="To an object of the project.", show_default=False
        ),
    ] = None,
) -> int:
    """Write a database, or a table of it, as a dump that other servers of its kind can read.

    PostgreSQL's are for pg_restore, MariaDB's are SQL, Valkey's and Redis's are snapshots (RDB). Users are not in them.
    """
    from argosy.client.errors import ClientError

    instance = call.argosy.instances.find(name)
    dumps = call.argosy.dumps
    if to_store is not None:
        container, stored_name = _place(to_store)
        made = dumps.export_to(instance.id, container, stored_name, database=database, table=table)
        call.out.result(made, f"Exported to {to_store}: {_size(made.size)}.", name=to_store)
        return 0
    if output is None and sys.stdout.isatty():
        raise ClientError("A dump is not for a terminal: choose a file with -o, or send it on with > or |.")
    parts = dumps.export(instance.id, database=database, table=table)
    if output is None:
        return _to_standard_output(parts)
    size = _to_file(parts, output)
    call.out.result(
        {"file": str(output), "size": size}, f"Exported to {output}: {_size(size)}.", name=str(output)
    )
    return 0


def import_(
    call: Call,
    name: Name,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", help="The dump; - or nothing is the standard input.", show_default=False
        ),
    ] = None,
    database: Database = None,
    from_store: Annotated[
        str | None,
        typer.Option(
            "--from-store",
            metavar="CONTAINER/NAME",
            help="From an object of the project.",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Load a dump into a database that is there, wherever it was made.

    It needs pg_dump's custom format (-Fc), SQL as mariadb-dump or mysqldump writes it, or a snapshot (RDB).
    """
    from argosy.client.errors import ClientError

    if from_store is not None and file is not None:
        raise ClientError("A dump comes from a file or from the store: leave one of them out.")
    instance = call.argosy.instances.find(name)
    if from_store is not None:
        container, stored_name = _place(from_store)
        loaded = call.argosy.dumps.load_from(instance.id, container, stored_name, database=database)
    else:
        with _opened(file) as source:
            loaded = call.argosy.dumps.load(instance.id, _parts(source), database=database)
    tell_loaded(call, instance, loaded)
    return 0


def check_readable(file: str, *, wait: bool) -> None:
    """Before there is anything to load it into. Raises ClientError."""
    from argosy.client.errors import ClientError

    if not wait:
        raise ClientError("--from-dump waits until the instance is made: leave --no-wait out.")
    if file != _STANDARD:
        _opened(file).close()


def load_file(call: Call, instance: Instance, file: str, database: str | None) -> None:
    """Into an instance that was only just made."""
    with _opened(file) as source:
        loaded = call.argosy.dumps.load(instance.id, _parts(source), database=database)
    for remark in loaded.remarks:
        call.out.note(remark)


def tell_loaded(call: Call, instance: Instance, loaded: Loaded) -> None:
    for remark in loaded.remarks:
        call.out.note(remark)
    call.out.result(loaded, f"Loaded {_size(loaded.size)} into {instance.name}.", name=instance.name)


def _to_standard_output(parts: Iterator[bytes]) -> int:
    try:
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Whoever read has enough, as `head` does; nor is there anybody to flush for.
        sys.stdout = None  # what Python looks at when it ends
        return 1
    return 0


def _to_file(parts: Iterator[bytes], file: Path) -> int:
    """Under its name when it is whole, and not before; returns its size."""
    from argosy.client.errors import ClientError

    unfinished = file.with_name(f".{file.name}.part")
    try:
        with unfinished.open("wb") as target:
            for part in parts:
                target.write(part)
            size = target.tell()
        unfinished.replace(file)
    except OSError as error:
        raise ClientError(f"{file} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
    return size


def _opened(file: str | None) -> IO[bytes]:
    from argosy.client.errors import ClientError

    if file is None or file == _STANDARD:
        if sys.stdin.isatty():
            raise ClientError("A dump does not come from a terminal: name a file, or send it with < or |.")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise ClientError(f"{file} cannot be read: {error.strerror}.") from error


def _parts(source: IO[bytes]) -> Iterator[bytes]:
    while part := source.read(_PART):
        yield part


def _place(text: str) -> tuple[str, str]:
    from argosy.client.errors import ClientError

    container, slash, name = text.partition("/")
    if not container or not slash or not name:
        raise ClientError(f"{text!r} names no object: it needs CONTAINER/NAME.")
    return container, name


def _size(size: int) -> str:
    return f"{size / 2**20:.1f} MB" if size >= 2**20 else f"{size} bytes"
