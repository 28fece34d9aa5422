"""`argosy users`: the users inside an instance, and what they may reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli import passwords
from argosy.cli.call import Call, command
from argosy.cli.credentials import ANY_HOST, key_of
from argosy.cli.instances import PANEL, Name

if TYPE_CHECKING:
    from argosy.client.models import Instance, User

UserName = Annotated[str, typer.Argument(metavar="USER", help="The name of a user.")]
Host = Annotated[
    str, typer.Option("--host", metavar="HOST", help="From where the user comes (MariaDB); % is anywhere.")
]
Databases = Annotated[list[str], typer.Argument(metavar="DATABASE...", help="Names of databases.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="The users inside an instance, and what they may reach.", no_args_is_help=True)
    app.add_typer(group, name="users", rich_help_panel=PANEL)
    command(group, "list", examples=("argosy users list shop",))(list_)
    command(
        group,
        "create",
        examples=(
            "argosy users create shop bob --database shop",
            "argosy users create crm eve --host 10.0.0.% --ask-password",
        ),
    )(create)
    command(group, "show", examples=("argosy users show shop bob",))(show)
    command(group, "delete", examples=("argosy users delete shop bob",))(delete)
    command(
        group,
        "password",
        examples=(
            "argosy users password shop bob",
            "argosy users password shop bob --password-file - < secret",
        ),
    )(password)
    command(group, "rename", examples=("argosy users rename shop bob robert",))(rename)
    command(group, "grant", examples=("argosy users grant shop bob orders archive",))(grant)
    command(group, "revoke", examples=("argosy users revoke shop bob archive",))(revoke)
    command(group, "access", examples=("argosy users access shop bob",))(access)


def list_(call: Call, name: Name) -> int:
    """The users of an instance."""
    instance = call.argosy.instances.find(name)
    call.out.table(
        call.argosy.users.all(instance.id),
        {
            "Name": lambda each: each.name,
            "Host": lambda each: each.host,
            "Databases": lambda each: each.databases,
        },
        name=lambda each: key_of(each.name, each.host),
        nothing=f"{instance.name} has no users. Make one: argosy users create {instance.name} NAME",
    )
    return 0


def create(
    call: Call,
    name: Name,
    user: UserName,
    database: Annotated[
        list[str] | None,
        typer.Option("--database", metavar="NAME", help="A database it may use; repeatable."),
    ] = None,
    host: Host = ANY_HOST,
    password_file: passwords.FileOption = None,
    ask_password: passwords.AskOption = False,
) -> int:
    """Make a user. Its password is generated and shown unless you give one."""
    instance = call.argosy.instances.find(name)
    given = passwords.chosen([user], password_file, ask=ask_password)
    secret = given[0] if given else passwords.generated()
    call.argosy.users.create(
        instance.id, user, secret, host=None if host == ANY_HOST else host, databases=database or []
    )
    _keep(call, instance, key_of(user, host), secret, generated=given is None)
    _tell(
        call, f"User {key_of(user, host)} is in {instance.name} now.", user, host, None if given else secret
    )
    return 0


def show(call: Call, name: Name, user: UserName, host: Host = ANY_HOST) -> int:
    """One user, with the databases it may use."""
    instance = call.argosy.instances.find(name)
    shown = call.argosy.users.get(instance.id, user, host)
    call.out.fields(shown, _fields(shown), name=key_of(shown.name, shown.host))
    return 0


def delete(call: Call, name: Name, user: UserName, host: Host = ANY_HOST) -> int:
    """Delete a user."""
    instance = call.argosy.instances.find(name)
    call.argosy.users.delete(instance.id, user, host)
    call.credentials.forget(instance.id, key_of(user, host))
    call.out.result(
        {"name": user, "host": host}, f"User {key_of(user, host)} of {instance.name} is deleted.", name=user
    )
    return 0


def password(
    call: Call,
    name: Name,
    user: UserName,
    host: Host = ANY_HOST,
    password_file: passwords.FileOption = None,
    ask_password: passwords.AskOption = False,
) -> int:
    """Give a user a new password, generated and shown unless you give one."""
    instance = call.argosy.instances.find(name)
    given = passwords.chosen([user], password_file, ask=ask_password)
    secret = given[0] if given else passwords.generated()
    call.argosy.users.change(instance.id, user, host, password=secret)
    _keep(call, instance, key_of(user, host), secret, generated=given is None)
    _tell(call, f"User {key_of(user, host)} has a new password.", user, host, None if given else secret)
    return 0


def rename(
    call: Call,
    name: Name,
    user: UserName,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME")],
    host: Host = ANY_HOST,
    new_host: Annotated[str | None, typer.Option(metavar="HOST", help="Another host as well.")] = None,
) -> int:
    """Give a user another name, and another host if asked. Password and access stay."""
    instance = call.argosy.instances.find(name)
    call.argosy.users.change(instance.id, user, host, new_name=new_name, new_host=new_host)
    renamed = key_of(new_name, new_host or host)
    call.credentials.move(instance.id, key_of(user, host), renamed)
    call.out.result(
        {"name": new_name, "host": new_host or host},
        f"{key_of(user, host)} is called {renamed} now.",
        name=renamed,
    )
    return 0


def grant(call: Call, name: Name, user: UserName, databases: Databases, host: Host = ANY_HOST) -> int:
    """Let a user use more databases."""
    instance = call.argosy.instances.find(name)
    call.argosy.users.grant(instance.id, user, databases, host)
    return _tell_access(call, instance, user, host)


def revoke(call: Call, name: Name, user: UserName, databases: Databases, host: Host = ANY_HOST) -> int:
    """Take databases away from a user."""
    instance = call.argosy.instances.find(name)
    for each in databases:
        call.argosy.users.revoke(instance.id, user, each, host)
    return _tell_access(call, instance, user, host)


def access(call: Call, name: Name, user: UserName, host: Host = ANY_HOST) -> int:
    """The databases that a user may use."""
    instance = call.argosy.instances.find(name)
    there = [{"name": each} for each in call.argosy.users.access(instance.id, user, host)]
    call.out.table(
        there,
        {"Database": lambda each: each["name"]},
        name=lambda each: str(each["name"]),
        nothing=f"{key_of(user, host)} may use no database.",
    )
    return 0


def _tell_access(call: Call, instance: Instance, user: str, host: str) -> int:
    may = call.argosy.users.access(instance.id, user, host)
    sentence = f"{key_of(user, host)} may use {', '.join(may) or 'no database'}."
    call.out.result({"name": user, "host": host, "databases": may}, sentence, name=user)
    return 0


def _keep(call: Call, instance: Instance, key: str, secret: str, *, generated: bool) -> None:
    if generated:
        call.credentials.keep(instance.id, {key: secret})
    else:
        call.credentials.forget(instance.id, key)


def _tell(call: Call, sentence: str, user: str, host: str, secret: str | None) -> None:
    if secret is not None and call.out.quiet and not call.out.as_json:
        # A script that asked for a password to be generated wants it.
        print(secret)
        return
    if secret is not None:
        sentence += f"\nPassword: {secret}  (generated; kept for `argosy connect`)"
    call.out.result({"name": user, "host": host, "password": secret}, sentence, name=None)


def _fields(shown: User) -> dict[str, Any]:
    return {"Name": shown.name, "Host": shown.host, "Databases": shown.databases}
