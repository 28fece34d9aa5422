"""`argosy configuration`: groups of parameters' values that instances follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Timeout, Wait

if TYPE_CHECKING:
    from argosy.client.models import Configuration, Follower, Trial

Group = Annotated[str, typer.Argument(metavar="GROUP", help="The name of a configuration group, or its id.")]
Settings = Annotated[
    list[str], typer.Argument(metavar="NAME=VALUE...", help="Parameters, see `argosy parameters list`.")
]
Parameters = Annotated[list[str], typer.Argument(metavar="NAME...", help="Parameters that the group sets.")]
Instances = Annotated[list[str], typer.Argument(metavar="INSTANCE...", help="Names or ids of instances.")]
Note = Annotated[str, typer.Option("--note", metavar="TEXT", help="What it is for, in the group's history.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would happen, and which values need a restart.")
]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Groups of parameters' values that any number of instances follow.", no_args_is_help=True
    )
    app.add_typer(group, name="configuration", rich_help_panel=PANEL)
    command(
        group,
        "create",
        examples=(
            "argosy configuration create big max_connections=200 work_mem=8MB --datastore postgresql",
            "argosy configuration create big max_connections=200 --datastore mariadb --version 10.11 --dry-run",
        ),
    )(create)
    command(group, "list", examples=("argosy configuration list",))(list_)
    command(group, "show", examples=("argosy configuration show big",))(show)
    command(
        group,
        "set",
        examples=(
            'argosy configuration set big work_mem=16MB --note "for the reports"',
            "argosy configuration set big max_connections=300 --dry-run",
        ),
    )(set_)
    command(group, "unset", examples=("argosy configuration unset big work_mem",))(unset)
    command(group, "delete", examples=("argosy configuration delete big",))(delete)
    command(group, "attach", examples=("argosy configuration attach big shop crm",))(attach)
    command(group, "detach", examples=("argosy configuration detach shop",))(detach)
    command(group, "instances", examples=("argosy configuration instances big",))(instances)
    command(group, "history", examples=("argosy configuration history big",))(history)
    command(group, "diff", examples=("argosy configuration diff big", "argosy configuration diff big 1 4"))(
        diff
    )
    command(group, "rollback", examples=("argosy configuration rollback big 3",))(rollback)


def create(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    settings: Settings,
    datastore: Annotated[
        str | None,
        typer.Option("--datastore", metavar="NAME", help="What it is for.", show_default="postgresql"),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", show_default="the datastore's own")
    ] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT")] = None,
    note: Note = "",
    dry_run: DryRun = False,
) -> int:
    """Make a group for one version of a datastore. Values that cannot be are refused, each by name."""
    groups, values = call.argosy.configurations, _values(settings)
    if dry_run:
        return _tell_trial(call, groups.try_to_create(name, values, datastore=datastore, version=version))
    made = groups.create(
        name, values, datastore=datastore, version=version, description=description, note=note
    )
    call.out.result(
        made,
        f"{name} is made for {made.datastore} {made.version}: see `argosy configuration attach`.",
        name=made.id,
    )
    return 0


def list_(call: Call) -> int:
    """The project's configuration groups."""
    from argosy.cli.output import ago

    call.out.table(
        call.argosy.configurations.all(),
        {
            "Name": lambda each: each.name,
            "For": lambda each: f"{each.datastore} {each.version}",
            "Description": lambda each: each.description,
            "Changed": lambda each: ago(each.updated),
            "Id": lambda each: each.id,
        },
        name=lambda each: str(each.id),
        optional=("Id", "Changed", "Description"),
        nothing="No configuration groups yet. Make one: argosy configuration create NAME PARAMETER=VALUE",
    )
    return 0


def show(call: Call, group: Group) -> int:
    """A group with its values; those that look like secrets are masked."""
    from argosy.cli.output import ago

    found = call.argosy.configurations.find(group)
    fields: dict[str, Any] = {
        "Name": found.name,
        "Id": found.id,
        "For": f"{found.datastore} {found.version}",
        "Description": found.description,
        "Revision": found.revision,
        "Instances": found.instances,
        "Changed": ago(found.updated),
        **{f"  {name}": value for name, value in found.values.items()},
    }
    call.out.fields(found, fields, name=found.id)
    return 0


def set_(
    call: Call,
    group: Group,
    settings: Settings,
    replace: Annotated[
        bool, typer.Option("--replace", help="These values are all that is left; others go.")
    ] = False,
    note: Note = "",
    dry_run: DryRun = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Change values of a group, at once in every instance that follows it."""
    found, values = call.argosy.configurations.find(group), _values(settings)
    if dry_run:
        return _tell_trial(
            call, call.argosy.configurations.try_to_change(found.id, values=values, replace=replace)
        )
    if replace:
        call.argosy.configurations.replace(found.id, values, note=note)
    else:
        call.argosy.configurations.change(found.id, values, note=note)
    return _tell_outcome(call, found, wait=wait, timeout_s=timeout)


def unset(
    call: Call,
    group: Group,
    parameters: Parameters,
    note: Note = "",
    dry_run: DryRun = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Take values out of a group; its instances go back to what they would have without."""
    found = call.argosy.configurations.find(group)
    if dry_run:
        return _tell_trial(call, call.argosy.configurations.try_to_change(found.id, unset=parameters))
    call.argosy.configurations.change(found.id, {}, unset=parameters, note=note)
    return _tell_outcome(call, found, wait=wait, timeout_s=timeout)


def delete(call: Call, group: Group) -> int:
    """Delete a group that no instance follows."""
    found = call.argosy.configurations.find(group)
    call.argosy.configurations.delete(found.id)
    call.out.result({"id": found.id, "name": found.name}, f"{found.name} is deleted.", name=found.id)
    return 0


def attach(
    call: Call,
    group: Group,
    names: Instances,
    dry_run: DryRun = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Have instances follow a group. What needs no restart holds at once."""
    found = call.argosy.configurations.find(group)
    chosen = [call.argosy.instances.find(each) for each in dict.fromkeys(names)]
    if dry_run:
        trials = [call.argosy.configurations.try_to_change(found.id, instance=each.id) for each in chosen]
        return _tell_instances(call, trials)
    for each in chosen:
        call.argosy.configurations.attach(found.id, each.id)
    return _tell_outcome(call, found, wait=wait, timeout_s=timeout, only={each.id for each in chosen})


def detach(call: Call, names: Instances, wait: Wait = True, timeout: Timeout = None) -> int:
    """Have instances follow no group any more: they go back to what they would have without."""
    from argosy.cli import progress

    chosen = [call.argosy.instances.find(each) for each in dict.fromkeys(names)]
    for each in chosen:
        call.argosy.configurations.attach(None, each.id)
    for each in chosen:
        if wait and each.configuration is not None:
            progress.follow(call, each, "Detaching", timeout)
    now = [call.argosy.instances.get(each.id) for each in chosen]
    if call.out.as_json:
        from argosy.cli.output import plain

        call.out.json([plain(each) for each in now])
        return 0
    for each in now:
        restart = "" if each.status != "RESTART_REQUIRED" else f" Restart it: argosy restart {each.name}"
        call.out.result(None, f"{each.name} follows no configuration group.{restart}", name=each.id)
    return 0


def instances(call: Call, group: Group) -> int:
    """The instances that follow a group, and how far each is with its newest values."""
    found = call.argosy.configurations.find(group)
    _tell_followers(call, found, call.argosy.configurations.followers(found.id))
    return 0


def history(call: Call, group: Group) -> int:
    """What was changed in a group: when, by whom, what for."""
    from argosy.cli.output import ago

    found = call.argosy.configurations.find(group)
    call.out.table(
        call.argosy.configurations.history(found.id),
        {
            "Revision": lambda each: each.number,
            "When": lambda each: ago(each.at),
            "By": lambda each: each.by,
            "Note": lambda each: each.note,
            "Values": lambda each: " ".join(f"{name}={value}" for name, value in each.values.items()),
        },
        name=lambda each: str(each.number),
        right=("Revision",),
        optional=("Values",),
        nothing="It has no history.",
    )
    return 0


def diff(
    call: Call,
    group: Group,
    old: Annotated[
        int | None,
        typer.Argument(
            metavar="[FROM]", min=0, help="A revision; the one before TO unless given.", show_default=False
        ),
    ] = None,
    new: Annotated[
        int | None,
        typer.Argument(
            metavar="[TO]", min=1, help="A revision; the newest unless given.", show_default=False
        ),
    ] = None,
) -> int:
    """What differs between two revisions of a group."""
    found = call.argosy.configurations.find(group)
    _tell_changes(call, call.argosy.configurations.diff(found.id, old, new))
    return 0


def rollback(
    call: Call,
    group: Group,
    revision: Annotated[
        int, typer.Argument(metavar="REVISION", min=1, help="See `argosy configuration history`.")
    ],
    note: Note = "",
    dry_run: DryRun = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Give a group the values of an earlier revision, at once in every instance that follows it."""
    found = call.argosy.configurations.find(group)
    if dry_run:
        return _tell_trial(call, call.argosy.configurations.try_to_change(found.id, revision=revision))
    call.argosy.configurations.roll_back(found.id, revision, note)
    return _tell_outcome(call, found, wait=wait, timeout_s=timeout)


def _values(settings: list[str]) -> dict[str, str]:
    """Of NAME=VALUE pairs. The server knows which of them are numbers."""
    values = {}
    for each in settings:
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{each!r} is not NAME=VALUE.", param_hint="NAME=VALUE")
        values[name] = value
    return values


def _tell_outcome(
    call: Call,
    group: Configuration,
    *,
    wait: bool,
    timeout_s: float | None,
    only: set[str] | None = None,
) -> int:
    """The group as it is now, and what came of it in each instance; 1 when one of them would not have it."""
    groups = call.argosy.configurations
    followers = groups.settled(group.id, timeout_s) if wait else groups.followers(group.id)
    mine = [each for each in followers if only is None or each.id in only]
    group = groups.get(group.id)
    if call.out.as_json:
        from argosy.cli.output import plain

        call.out.json({**plain(group), "followers": [plain(each) for each in mine]})
    elif call.out.quiet:
        print(group.id)
    else:
        call.out.note(f"{group.name} is at revision {group.revision}.")
        if mine:
            _tell_followers(call, group, mine)
    return 1 if any(each.failed for each in mine) else 0


def _tell_followers(call: Call, group: Configuration, followers: list[Follower]) -> None:
    call.out.table(
        followers,
        {
            "Instance": lambda each: each.name,
            "State": lambda each: each.state,
            "Revision": lambda each: each.revision,
            "": lambda each: each.error or each.meaning,
        },
        name=lambda each: str(each.id),
        right=("Revision",),
        nothing=f"No instance follows {group.name}. Attach one: argosy configuration attach {group.name} INSTANCE",
    )


def _tell_changes(call: Call, changes: Any) -> None:
    call.out.table(
        list(changes),
        {
            "Parameter": lambda each: each.name,
            "From": lambda each: "" if each.old is None else each.old,
            "To": lambda each: "" if each.new is None else each.new,
            "": lambda each: "needs a restart" if each.restart_required else "",
        },
        name=lambda each: str(each.name),
        nothing="Nothing differs.",
    )


def _tell_trial(call: Call, trial: Trial) -> int:
    """2 when it would be refused."""
    if call.out.as_json:
        from argosy.cli.output import plain

        call.out.json(plain(trial))
    elif not trial.valid:
        for each in trial.errors:
            call.out.failure(each, "parameters-refused")
    else:
        _tell_changes(call, trial.changes)
        if trial.instances:
            _tell_instances(call, [trial])
    return 0 if trial.valid else 2


def _tell_instances(call: Call, trials: list[Trial]) -> int:
    words = {
        "now": "at once",
        "restart": "at once, and some values at its restart",
        "later": "when it is free and answers",
        "nothing": "nothing changes",
    }
    call.out.table(
        [each for trial in trials for each in trial.instances],
        {
            "Instance": lambda each: each.name,
            "When": lambda each: words[each.when],
            "At once": lambda each: each.at_once,
            "At a restart": lambda each: each.after_restart,
        },
        name=lambda each: str(each.id),
        nothing="No instance follows it.",
    )
    return 0
