"""`argosy access` and `argosy ca`: who may connect, and whom to trust."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name, Timeout, TlsMode, Wait


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "access",
        panel=PANEL,
        examples=(
            "argosy access shop",
            "argosy access shop --allow 10.0.0.0/8 --allow 192.168.1.17",
            "argosy access shop --allow-all --tls required",
        ),
    )(access)
    command(
        app,
        "ca",
        panel=PANEL,
        examples=("argosy ca > argosy-ca.crt", "argosy ca --output argosy-ca.crt"),
    )(ca)


def access(
    call: Call,
    name: Name,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow",
            metavar="NETWORK",
            help="An address or network clients may come from; repeatable. No others may.",
        ),
    ] = None,
    allow_all: Annotated[bool, typer.Option("--allow-all", help="Clients may come from anywhere.")] = False,
    public: Annotated[
        bool | None,
        typer.Option("--public/--no-public", help="Whether to have a public address, where there are any."),
    ] = None,
    tls: Annotated[TlsMode | None, typer.Option("--tls", help="Whether clients must use TLS.")] = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Show or change who may connect. Sessions that may not be any more end at once."""
    from argosy.cli import progress

    if allow and allow_all:
        raise typer.BadParameter("Use --allow or --allow-all, not both.")
    instances = call.argosy.instances
    instance = instances.find(name)
    changed = False
    if allow or allow_all or public is not None:
        instances.update_access(
            instance.id,
            is_public=instance.is_public if public is None else public,
            allowed_cidrs=allow or ([] if allow_all else instance.allowed_cidrs),
        )
        changed = True
    if changed and (wait or tls is not None):
        # The next change is refused while this one is under way.
        progress.follow(call, instance, "Changing who may connect to", timeout)
    if tls is not None:
        instances.update_tls(instance.id, tls.value)
        if wait:
            progress.follow(call, instance, "Changing TLS of", timeout)
    instance = instances.get(instance.id)
    fields: dict[str, Any] = {
        "Name": instance.name,
        "Allowed from": list(instance.allowed_cidrs) or "anywhere",
        "Public": "asked for" if instance.is_public else "no",
        **{f"Access, {what}": how for what, how in instance.access.items()},
    }
    call.out.fields(instance, fields, name=instance.id)
    return 0


def ca(
    call: Call,
    output: Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write it here.")] = None,
) -> int:
    """The certificate, as PEM, that all database servers are known by: for sslrootcert, --ssl-ca, --cacert."""
    pem = call.argosy.certificate_authority()
    if output is not None:
        output.write_text(pem)
        call.out.result({"file": str(output)}, f"Written to {output}.", name=str(output))
    elif call.out.as_json:
        call.out.json({"pem": pem})
    else:
        print(pem, end="" if pem.endswith("\n") else "\n")
    return 0
