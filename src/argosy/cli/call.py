"""One run of a command: the options that all commands share, the way to the server, and how it ends."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli import homes
from argosy.cli.output import Output

if TYPE_CHECKING:
    from argosy.cli.credentials import Credentials
    from argosy.client import Argosy, Cloud
    from argosy.client.models import Instance

_PANEL = "Options of every command"
_SHARED: dict[str, Any] = {
    "os_cloud": Annotated[
        str | None,
        typer.Option(
            "--os-cloud",
            metavar="NAME",
            help="A cloud of clouds.yaml, instead of the home's own. (OS_CLOUD)",
            rich_help_panel=_PANEL,
        ),
    ],
    "home": Annotated[
        Path | None,
        typer.Option(
            "--home",
            metavar="DIR",
            help="Where Argosy lives on this machine. (ARGOSY_HOME)",
            rich_help_panel=_PANEL,
        ),
    ],
    "as_json": Annotated[bool, typer.Option("--json", help="JSON for programs.", rich_help_panel=_PANEL)],
    "quiet": Annotated[
        bool,
        typer.Option("--quiet", "-q", help="Only the ids or names, and no progress.", rich_help_panel=_PANEL),
    ],
}
_DEFAULTS: dict[str, Any] = {"os_cloud": None, "home": None, "as_json": False, "quiet": False}


@dataclass
class Call:
    """What a command is given first. `administers` says that it wants an administrator, when it may choose."""

    out: Output
    home: Path
    home_was_named: bool = False
    cloud_name: str | None = None
    administers: bool = False

    @property
    def named_home(self) -> str:
        """What has to be said behind a command for it to mean the same home again."""
        return f" --home {self.home}" if self.home_was_named else ""

    @cached_property
    def argosy(self) -> Argosy:
        """Raises NotConfigured."""
        with _without_the_command_of_httpx():
            from argosy.client import Argosy
        return Argosy(self.cloud)

    @cached_property
    def cloud(self) -> Cloud:
        """--os-cloud, else the home named by --home, else OS_CLOUD, OS_AUTH_URL, and last the default home."""
        from argosy.client import clouds
        from argosy.client.errors import NotConfigured

        own = self.home / "clouds.yaml"
        wanted = self.cloud_name or (None if self.home_was_named else os.environ.get("OS_CLOUD"))
        if wanted:
            # A home that was named has the word: its clouds are called the same in every home.
            usual = clouds.files()
            return clouds.named(wanted, [own, *usual] if self.home_was_named else [*usual, own])
        environment = None if self.home_was_named else clouds.from_environment()
        if environment is not None:
            return environment
        if homes.has_keystone(self.home):
            raise NotConfigured(
                f"Keystone knows the users of the Argosy in {self.home}: name a cloud of it with --os-cloud or OS_CLOUD."
            )
        if homes.is_missing(own):
            raise NotConfigured(
                f"There is no Argosy in {self.home}: start one with `argosy up`, or name another with --home, "
                "--os-cloud or OS_CLOUD."
            )
        return clouds.named("argosy-admin" if self.administers else "argosy", [own])

    @property
    def is_local(self) -> bool:
        """Whether the server is the one of the home on this machine."""
        file = self.cloud.file
        return file is not None and file.absolute() == (self.home / "clouds.yaml").absolute()

    @property
    def images(self) -> Path | None:
        """Where the software of the datastores is, when the server is here."""
        return homes.images(self.home) if self.is_local else None

    def has_tls(self, instance: Instance) -> bool:
        """Whether its server has TLS: the software it runs from tells."""
        if self.images is not None:
            tls = homes.has_tls(self.images / f"{instance.datastore}-{instance.version}")
            if tls is not None:
                return tls
        mine = (instance.datastore, instance.version)
        images = self.argosy.images.all()
        return all(each.has_tls for each in images if (each.datastore, each.version) == mine)

    @property
    def database_ca(self) -> str | None:
        """A file with the certificate that databases are known by, when the server is here."""
        file = self.home / "database-ca.crt"
        return str(file) if self.is_local and file.exists() else None

    @cached_property
    def credentials(self) -> Credentials:
        """Passwords that were generated here: in the home for its own server, else in the user's settings."""
        from argosy.cli.credentials import Credentials

        if self.is_local:
            return Credentials(self.home / "credentials.json")
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        return Credentials(settings / "argosy" / "credentials.json")


def command(
    app: typer.Typer,
    name: str,
    *,
    examples: tuple[str, ...] = (),
    panel: str | None = None,
    administers: bool = False,
) -> Callable[[Callable[..., int | None]], Callable[..., int | None]]:
    """Make a function a command. Its first parameter is the Call, the others are its own options and arguments.

    Each command takes the shared options itself, so they may stand at its end, where people write them. A
    ClientError becomes its sentence on stderr and its exit code.
    """

    def register(function: Callable[..., int | None]) -> Callable[..., int | None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        shared = [
            inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=_DEFAULTS[key], annotation=kind)
            for key, kind in _SHARED.items()
        ]

        @functools.wraps(function)
        def run(**given: Any) -> None:
            asked = {key: given.pop(key) for key in _SHARED}
            out = Output(as_json=asked["as_json"], quiet=asked["quiet"])
            home = asked["home"]
            call = Call(
                out,
                (home or homes.default_home()).absolute(),
                home_was_named=home is not None,
                cloud_name=asked["os_cloud"],
                administers=administers,
            )
            raise typer.Exit(_run(call, functools.partial(function, call, **given)))

        parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own] + shared
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # what Typer reads
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        del run.__wrapped__
        epilog = (
            "\n\n".join(["[bold]Examples[/bold]", *(f"  {each}" for each in examples)]) if examples else None
        )
        app.command(name, epilog=epilog, rich_help_panel=panel)(run)
        return function

    return register


def _run(call: Call, function: Callable[[], int | None]) -> int:
    from argosy.client.errors import ClientError, Forbidden

    try:
        return function() or 0
    except ClientError as error:
        from argosy.cli import exits

        hint = None
        if isinstance(error, Forbidden) and call.administers:
            hint = "This is for administrators: try --os-cloud argosy-admin."
        call.out.failure(error.sentence, error.code, hint)
        return exits.code_of(error)
    finally:
        if "argosy" in vars(call):
            call.argosy.close()


class _without_the_command_of_httpx:  # noqa: N801 - reads as a clause
    """Import httpx without its own command line, which loads as much again as all the rest of it."""

    def __enter__(self) -> None:
        import sys

        # A module that is None in sys.modules cannot be imported, and httpx does without this one.
        self._hidden = "httpx._main" not in sys.modules
        if self._hidden:
            sys.modules["httpx._main"] = None  # type: ignore[assignment] # as documented for sys.modules

    def __exit__(self, *_: object) -> None:
        import sys

        if self._hidden:
            sys.modules.pop("httpx._main", None)
