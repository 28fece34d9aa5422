"""`argosy root`: the most powerful account that an instance's owner may have."""

from __future__ import annotations

import typer

from argosy.cli import passwords
from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="The root account of an instance.", no_args_is_help=True)
    app.add_typer(group, name="root", rich_help_panel=PANEL)
    command(group, "enable", examples=("argosy root enable shop",))(enable)
    command(group, "disable", examples=("argosy root disable shop",))(disable)
    command(group, "show", examples=("argosy root show shop",))(show)


def enable(
    call: Call,
    name: Name,
    password_file: passwords.FileOption = None,
    ask_password: passwords.AskOption = False,
) -> int:
    """Open the root account, with a new password each time: a generated one unless you give one."""
    instance = call.argosy.instances.find(name)
    given = passwords.chosen(["root"], password_file, ask=ask_password)
    root = call.argosy.root.enable(instance.id, given[0] if given else None)
    if given:
        call.credentials.forget(instance.id, root.name)
    else:
        call.credentials.keep(instance.id, {root.name: root.password})
    shown = None if given else root.password
    if shown is not None and call.out.quiet and not call.out.as_json:
        print(shown)
        return 0
    sentence = f"Root of {instance.name} is enabled as {root.name}."
    if shown is not None:
        sentence += f"\nPassword: {shown}  (generated; kept for `argosy connect -u {root.name}`)"
    call.out.result({"enabled": True, "name": root.name, "password": shown}, sentence)
    return 0


def disable(call: Call, name: Name) -> int:
    """Close the root account."""
    instance = call.argosy.instances.find(name)
    call.argosy.root.disable(instance.id)
    for each in ("root", "default"):
        call.credentials.forget(instance.id, each)
    call.out.result({"enabled": False}, f"Root of {instance.name} is disabled.")
    return 0


def show(call: Call, name: Name) -> int:
    """Whether root was ever enabled, and not disabled since."""
    instance = call.argosy.instances.find(name)
    enabled = call.argosy.root.is_enabled(instance.id)
    word = "enabled" if enabled else "disabled"
    call.out.result({"enabled": enabled}, f"Root of {instance.name} is {word}.", name=word)
    return 0
