"""`argosy admin`: users, projects, roles, and what is everybody's, for administrators."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from argosy.cli import admin_database, admin_instances, backup_keys, drift, overrides, passwords, versions
from argosy.cli.call import Call, command

PANEL = "Administration"
Named = Annotated[str, typer.Argument(metavar="NAME", help="A name, or an id.")]
Role = Annotated[str, typer.Option("--role", metavar="NAME", help="admin, member or reader.")]
Project = Annotated[str, typer.Option("--project", metavar="NAME", help="The project it is for.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Users, projects, roles, instances of all projects, versions. Taken as the home's administrator unless "
        "a cloud is named.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="admin", rich_help_panel=PANEL)
    for what in ("users", "projects", "roles"):
        one = typer.Typer(help=f"List, make and delete {what}.", no_args_is_help=True)
        group.add_typer(one, name=what)
        command(one, "list", administers=True, examples=(f"argosy admin {what} list",))(_list_of(what))
        command(one, "delete", administers=True, examples=(f"argosy admin {what} delete NAME",))(
            _delete_of(what)
        )
        if what != "users":
            command(one, "create", administers=True, examples=(f"argosy admin {what} create NAME",))(
                _create_of(what)
            )
        else:
            command(
                one,
                "create",
                administers=True,
                examples=("argosy admin users create ann --project shop --role member",),
            )(create_user)
            command(
                one,
                "set-password",
                administers=True,
                examples=("argosy admin users set-password ann --ask-password",),
            )(set_password)
        if what == "roles":
            command(
                one,
                "grant",
                administers=True,
                examples=("argosy admin roles grant ann --project shop --role member",),
            )(grant)
            command(
                one,
                "revoke",
                administers=True,
                examples=("argosy admin roles revoke ann --project shop --role member",),
            )(revoke)
            command(one, "assignments", administers=True, examples=("argosy admin roles assignments",))(
                assignments
            )
    admin_instances.add_to(group)
    admin_database.add_to(group)
    versions.add_to(group)
    overrides.add_to(group)
    backup_keys.add_to(group)
    drift.add_to(group)


def _list_of(what: str) -> Any:
    def list_(call: Call) -> int:
        columns = {
            "Name": lambda each: each["name"],
            "Description": lambda each: each.get("description"),
            "Enabled": lambda each: "" if "enabled" not in each else "yes" if each["enabled"] else "no",
            "Id": lambda each: each["id"],
        }
        if what == "roles":
            del columns["Enabled"]
        call.argosy.accounts.check_ours()
        there = [_account(each) for each in call.argosy.accounts.all(what)]
        call.out.table(there, columns, name=lambda each: str(each["name"]), nothing=f"No {what}.")
        return 0

    list_.__doc__ = f"All {what}."
    return list_


def _create_of(what: str) -> Any:
    one = what.removesuffix("s")

    def create(
        call: Call, name: Named, description: Annotated[str | None, typer.Option(metavar="TEXT")] = None
    ) -> int:
        made = call.argosy.accounts.create(what, name, description=description)
        call.out.result(_account(made), f"There is a {one} {made['name']} now.", name=made["id"])
        return 0

    create.__doc__ = f"Make a {one}."
    return create


def _delete_of(what: str) -> Any:
    one = what.removesuffix("s")

    def delete(call: Call, name: Named) -> int:
        call.argosy.accounts.delete(what, name)
        call.out.result({"name": name, "deleted": True}, f"The {one} {name} is deleted.", name=name)
        return 0

    delete.__doc__ = f"Delete a {one}."
    return delete


def create_user(
    call: Call,
    name: Named,
    project: Annotated[
        str | None, typer.Option(metavar="NAME", help="A project to give it a role in.")
    ] = None,
    role: Role = "member",
    description: Annotated[str | None, typer.Option(metavar="TEXT")] = None,
    password_file: passwords.FileOption = None,
    ask_password: passwords.AskOption = False,
) -> int:
    """Make a user of Argosy. Its password is generated and shown unless you give one."""
    accounts = call.argosy.accounts
    accounts.check_ours()
    own = None if project is None else accounts.find("projects", project)
    given = passwords.chosen([name], password_file, ask=ask_password)
    secret = given[0] if given else passwords.generated()
    made = accounts.create(
        "users", name, password=secret, description=description, default_project_id=own["id"] if own else None
    )
    sentence = f"There is a user {name} now."
    if own is not None:
        accounts.grant(made["id"], own["id"], role)
        sentence = f"There is a user {name} now, {role} of {own['name']}."
    _tell(call, _account(made), sentence, None if given else secret)
    return 0


def set_password(
    call: Call,
    name: Named,
    password_file: passwords.FileOption = None,
    ask_password: passwords.AskOption = False,
) -> int:
    """Give a user a new password, generated and shown unless you give one."""
    given = passwords.chosen([name], password_file, ask=ask_password)
    secret = given[0] if given else passwords.generated()
    call.argosy.accounts.set_password(name, secret)
    _tell(call, {"name": name}, f"The user {name} has a new password.", None if given else secret)
    return 0


def grant(call: Call, user: Named, project: Project, role: Role = "member") -> int:
    """Give a user a role in a project."""
    call.argosy.accounts.grant(user, project, role)
    call.out.result(
        {"user": user, "project": project, "role": role}, f"{user} is {role} of {project} now.", name=user
    )
    return 0


def revoke(call: Call, user: Named, project: Project, role: Role = "member") -> int:
    """Take a role in a project from a user."""
    call.argosy.accounts.revoke(user, project, role)
    call.out.result(
        {"user": user, "project": project, "role": role},
        f"{user} is no {role} of {project} any more.",
        name=user,
    )
    return 0


def assignments(call: Call) -> int:
    """Who has which role where."""
    call.argosy.accounts.check_ours()
    call.out.table(
        call.argosy.accounts.assignments(),
        {
            "User": lambda each: each.user,
            "Project": lambda each: each.project,
            "Role": lambda each: each.role,
        },
        name=lambda each: f"{each.user} {each.project} {each.role}",
        nothing="No roles are given.",
    )
    return 0


def _tell(call: Call, shown: dict[str, Any], sentence: str, secret: str | None) -> None:
    if secret is not None and call.out.quiet and not call.out.as_json:
        print(secret)
        return
    if secret is not None:
        sentence += f"\nPassword: {secret}  (generated; shown this once)"
    call.out.result({**shown, "password": secret}, sentence)


def _account(shown: dict[str, Any]) -> dict[str, Any]:
    """The keys that the command line promises."""
    return {key: shown[key] for key in ("id", "name", "description", "enabled") if key in shown}
