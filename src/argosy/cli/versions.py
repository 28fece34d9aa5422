"""`argosy admin versions`: datastore versions, for administrators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from argosy.cli.call import Call, command

Datastore = Annotated[str, typer.Argument(metavar="DATASTORE")]
Version = Annotated[str, typer.Argument(metavar="VERSION", help="Its name, or its id.")]


def add_to(group: typer.Typer) -> None:
    versions = typer.Typer(help="Datastore versions: which are offered, and new ones.", no_args_is_help=True)
    group.add_typer(versions, name="versions")
    for name, function, examples in (
        ("list", list_, ("argosy admin versions list",)),
        (
            "create",
            create,
            (
                "argosy admin versions create postgresql 17.12 --suite trixie",
                "argosy admin versions create redis 7-new --suite bookworm --inactive",
            ),
        ),
        ("set", set_, ("argosy admin versions set postgresql 15 --inactive",)),
        ("delete", delete, ("argosy admin versions delete postgresql 17.12",)),
    ):
        command(versions, name, administers=True, examples=examples)(function)


def list_(call: Call) -> int:
    """Every version of every datastore, also those that are not offered."""
    call.out.table(
        call.argosy.datastore_versions.all(),
        {
            "Datastore": lambda each: each.datastore,
            "Version": lambda each: each.name,
            "Number": lambda each: "" if each.number == each.name else each.number,
            "Offered": lambda each: (
                "default" if each.default and each.active else "yes" if each.active else "no"
            ),
            "From": lambda each: each.tags,
            "Packages": lambda each: each.packages,
            "Id": lambda each: each.id,
        },
        name=lambda each: str(each.id),
        optional=("Packages", "Number", "Id"),
        nothing="No versions.",
    )
    return 0


def create(
    call: Call,
    datastore: Annotated[
        str, typer.Argument(metavar="DATASTORE", help="An existing one, or a new one with --like.")
    ],
    version: Annotated[str, typer.Argument(metavar="VERSION", help="What to call it.")],
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAME", help="The Debian suite to pull its software from.")
    ],
    like: Annotated[
        str | None,
        typer.Option(
            "--like",
            metavar="DATASTORE",
            help="Which of Argosy's datastores it is.",
            show_default="the datastore itself",
        ),
    ] = None,
    package: Annotated[
        list[str] | None,
        typer.Option(
            "--package",
            metavar="NAME[=VERSION]",
            help="Hold a package to a version; repeatable, all of them.",
        ),
    ] = None,
    number: Annotated[
        str | None, typer.Option("--number", metavar="V", help="The exact version, to be shown.")
    ] = None,
    inactive: Annotated[bool, typer.Option("--inactive", help="Do not offer it yet.")] = False,
    default: Annotated[bool, typer.Option("--default", help="Make it the datastore's default.")] = False,
) -> int:
    """Make a version whose software is pulled anew from Debian, beside those there are.

    It is like the version that comes from the same suite: in this way instances can be had of, and upgraded to,
    the newest minor release, while others stay on what they run.
    """
    made = call.argosy.datastore_versions.create(
        datastore,
        version,
        suite=suite,
        manager=like,
        number=number,
        packages=package or (),
        active=not inactive,
        default=default,
    )
    sentence = (
        f"There is a version {made.name} of {made.datastore} now. Its software is pulled for its first instance, or "
        f"now: argosy images pull {made.datastore} {made.name}"
    )
    call.out.result(made, sentence, name=made.id)
    return 0


def set_(
    call: Call,
    datastore: Datastore,
    version: Version,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Offer it, or do not.", show_default=False)
    ] = None,
    default: Annotated[
        bool | None,
        typer.Option("--default/--no-default", help="The datastore's default, or not.", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Another name.")] = None,
) -> int:
    """Offer a version or not, make it the default, or rename one that was made and is not used."""
    found = call.argosy.datastore_versions.find(datastore, version)
    asked: dict[str, Any] = {"active": active, "default": default, "name": name}
    changes = {key: value for key, value in asked.items() if value is not None}
    call.argosy.datastore_versions.change(found.id, **changes)
    after = call.argosy.datastore_versions.find(datastore, found.id)
    offered = "offered" if after.active else "not offered"
    word = " as the default" if after.active and after.default else ""
    call.out.result(after, f"{after.datastore} {after.name} is {offered}{word}.", name=after.id)
    return 0


def delete(call: Call, datastore: Datastore, version: Version) -> int:
    """Take a version away that nothing uses. Its software stays where it is."""
    found = call.argosy.datastore_versions.find(datastore, version)
    call.argosy.datastore_versions.delete(found.id)
    call.out.result(
        {"id": found.id, "deleted": True}, f"{found.datastore} {found.name} is deleted.", name=found.id
    )
    return 0
