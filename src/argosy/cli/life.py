"""`argosy stop`, `start`, `protect`, `unprotect`, `tag`."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name, Timeout, Wait


def add_to(app: typer.Typer) -> None:
    command(app, "stop", panel=PANEL, examples=("argosy stop shop",))(stop)
    command(app, "start", panel=PANEL, examples=("argosy start shop",))(start)
    command(app, "protect", panel=PANEL, examples=("argosy protect shop",))(protect)
    command(app, "unprotect", panel=PANEL, examples=("argosy unprotect shop && argosy delete shop",))(
        unprotect
    )
    command(
        app,
        "tag",
        panel=PANEL,
        examples=("argosy tag shop stage=production team=web", "argosy tag shop --remove team"),
    )(tag)


def stop(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Stop an instance's database server. It stays stopped until it is started; its data stays."""
    from argosy.cli import progress

    instance = call.argosy.instances.find(name)
    call.argosy.instances.stop(instance.id)
    if wait:
        progress.follow(call, instance, "Stopping", timeout)
    instance = call.argosy.instances.get(instance.id)
    word = f"is stopped: argosy start {instance.name}" if wait else "is being stopped."
    call.out.result(instance, f"{instance.name} {word}", name=instance.id)
    return 0


def start(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Start an instance's database server that was stopped."""
    from argosy.cli import progress

    instance = call.argosy.instances.find(name)
    call.argosy.instances.start(instance.id)
    if wait:
        progress.follow(call, instance, "Starting", timeout)
    instance = call.argosy.instances.get(instance.id)
    word = "was started" if wait else "is starting"
    call.out.result(instance, f"{instance.name} {word}.", name=instance.id)
    return 0


def protect(call: Call, name: Name) -> int:
    """Keep an instance from being deleted, by anybody, until it is unprotected."""
    return _protect(call, name, protected=True)


def unprotect(call: Call, name: Name) -> int:
    """Let an instance be deleted again."""
    return _protect(call, name, protected=False)


def _protect(call: Call, name: str, *, protected: bool) -> int:
    instance = call.argosy.instances.find(name)
    call.argosy.instances.protect(instance.id, protected=protected)
    instance = call.argosy.instances.get(instance.id)
    word = "cannot be deleted now" if protected else "can be deleted now"
    call.out.result(instance, f"{instance.name} {word}.", name=instance.id)
    return 0


def tag(
    call: Call,
    name: Name,
    tags: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="To set; others stay.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="KEY", help="To take away; repeatable.")
    ] = None,
) -> int:
    """Set and remove an instance's tags, and show them. `argosy list --tag` finds by them."""
    instance = call.argosy.instances.find(name)
    changes: dict[str, str | None] = {**dict.fromkeys(remove or []), **pairs(tags or [])}
    if changes:
        call.argosy.instances.change_tags(instance.id, changes)
        instance = call.argosy.instances.get(instance.id)
    if call.out.as_json:
        call.out.json(instance.tags)
    elif instance.tags or call.out.quiet:
        for key, value in sorted(instance.tags.items()):
            print(key if call.out.quiet else f"{key}={value}")
    else:
        call.out.note(f"{instance.name} has no tags.")
    return 0


def pairs(tags: list[str]) -> dict[str, str]:
    """`KEY=VALUE` apart. Raises typer.BadParameter."""
    for each in tags:
        if "=" not in each:
            raise typer.BadParameter(f"a tag is KEY=VALUE, {each!r} has no =.")
    return dict(each.split("=", 1) for each in tags)
