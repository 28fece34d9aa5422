"""`argosy create`, `list`, `show`, `delete`, `restart`, `rename`."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli import passwords
from argosy.cli.call import Call, command

if TYPE_CHECKING:
    from argosy.client.models import Flavor, Instance

PANEL = "Instances"
_WITHOUT_DATABASES = ("valkey", "redis")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of an instance, or its id.")]


class TlsMode(StrEnum):
    ALLOWED = "allowed"
    REQUIRED = "required"


class WhichUsers(StrEnum):
    CURRENT = "current"
    BACKUP = "backup"


Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done, showing how far it is.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help="Wait no longer than this; ends with exit code 7 while it goes on.",
        show_default=False,
    ),
]

ToTime = Annotated[
    str | None,
    typer.Option(
        "--to-time",
        metavar="TIME",
        help="Restore to this moment, UTC unless it says otherwise; see `argosy log-archive show` for which can be had.",
    ),
]
ToLsn = Annotated[
    str | None,
    typer.Option("--to-lsn", metavar="LSN", help="Restore to this place in PostgreSQL's log."),
]
ToGtid = Annotated[
    str | None,
    typer.Option("--to-gtid", metavar="GTID", help="Restore to and with this transaction of MariaDB's log."),
]


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "create",
        panel=PANEL,
        examples=(
            "argosy create shop --datastore postgresql --database shop --user ann",
            "argosy create cache --datastore valkey --version 8 --flavor tiny --user app --no-wait",
            "argosy create shop --database shop --backup daily",
            "argosy create shop-copy --from-backup before-release --volume 5",
            "argosy create shop-before --from-instance shop --to-time '2026-11-28 12:30:00'",
            "argosy create shop --database shop --user ann --from-dump shop.dump",
            "argosy create crm --datastore mariadb --volume 5 --database crm --user bob --password-file - < secret",
        ),
    )(create)
    command(
        app,
        "list",
        panel=PANEL,
        examples=("argosy list", "argosy list --tag stage=test -q", "argosy list --deleted"),
    )(list_)
    command(
        app,
        "show",
        panel=PANEL,
        examples=("argosy show shop", "argosy show shop --json", "argosy show shop --deleted"),
    )(show)
    command(
        app,
        "resize",
        panel=PANEL,
        examples=(
            "argosy resize shop --flavor medium",
            "argosy resize shop --volume 10",
            "argosy resize shop --volume-autogrow 50",
            "argosy resize shop --volume-autogrow off",
        ),
    )(resize)
    command(app, "restart", panel=PANEL, examples=("argosy restart shop",))(restart)
    command(app, "rename", panel=PANEL, examples=("argosy rename shop store",))(rename)
    command(app, "delete", panel=PANEL, examples=("argosy delete shop", "argosy delete shop cache --yes"))(
        delete
    )


def create(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    datastore: Annotated[
        str | None,
        typer.Option(
            "--datastore",
            metavar="NAME",
            help="See `argosy datastores`.",
            show_default="postgresql, or the backup's",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="V", show_default="the datastore's own")
    ] = None,
    flavor: Annotated[
        str | None,
        typer.Option(
            "--flavor",
            metavar="NAME",
            help="Its size, see `argosy flavors`.",
            show_default="small, or that of the instance that was backed up",
        ),
    ] = None,
    volume: Annotated[
        int | None,
        typer.Option(
            "--volume",
            metavar="GB",
            min=1,
            help="Room for its data.",
            show_default="1, or that of the instance that was backed up",
        ),
    ] = None,
    volume_autogrow: Annotated[
        int | None,
        typer.Option(
            "--volume-autogrow",
            metavar="LIMIT",
            min=1,
            help="Have the volume grow by itself when it gets full, up to this many GB.",
        ),
    ] = None,
    database: Annotated[
        list[str] | None,
        typer.Option("--database", metavar="NAME", help="A database to make in it; repeatable."),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option(
            "--user",
            metavar="NAME",
            help="A user to make, with access to those databases; repeatable. Its password is generated and "
            "shown unless you give one.",
        ),
    ] = None,
    password_file: passwords.FileOption = None,
    ask_password: passwords.AskOption = False,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", help="To find it by; repeatable."),
    ] = None,
    protected: Annotated[
        bool, typer.Option("--protected", help="Keep it from being deleted until `argosy unprotect`.")
    ] = False,
    configuration: Annotated[
        str | None,
        typer.Option("--configuration", metavar="GROUP", help="A configuration group for it to follow."),
    ] = None,
    no_configuration: Annotated[
        bool,
        typer.Option(
            "--no-configuration",
            help="With --from-backup: follow no configuration group, whatever that instance did.",
        ),
    ] = False,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="NETWORK", help="Let clients in from here alone; repeatable."),
    ] = None,
    tls: Annotated[
        TlsMode | None, typer.Option("--tls", help="Whether clients must use TLS.", show_default="allowed")
    ] = None,
    backup: Annotated[
        str | None,
        typer.Option(
            "--backup",
            metavar="WHEN",
            help="Have it backed up by itself: hourly, daily, weekly, monthly, or a cron expression in UTC; see "
            "`argosy backup schedule`.",
        ),
    ] = None,
    from_backup: Annotated[
        str | None,
        typer.Option(
            "--from-backup",
            metavar="BACKUP",
            help="Begin with what this backup has, and be what its instance was wherever nothing else is said.",
        ),
    ] = None,
    from_instance: Annotated[
        str | None,
        typer.Option(
            "--from-instance",
            metavar="NAME",
            help="Begin with what this instance has by its backups and archived log: the latest, or --to-time, --to-lsn "
            "or --to-gtid. It may be one that was deleted.",
        ),
    ] = None,
    to_time: ToTime = None,
    to_lsn: ToLsn = None,
    to_gtid: ToGtid = None,
    with_users: Annotated[
        WhichUsers,
        typer.Option(
            "--with-users",
            help="With --from-backup or --from-instance: users, passwords and grants as they are now on the instance that was backed up, "
            "or as they are in the backup.",
        ),
    ] = WhichUsers.CURRENT,
    from_dump: Annotated[
        str | None,
        typer.Option(
            "--from-dump",
            metavar="FILE",
            help="Load a dump into its (first) database when it is made; see `argosy import`.",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            "--network",
            metavar="ID",
            help="On OpenStack: the network its clients are on.",
            show_default="the installation's",
        ),
    ] = None,
    zone: Annotated[
        str | None, typer.Option("--zone", metavar="NAME", help="On OpenStack: the availability zone.")
    ] = None,
    public: Annotated[
        bool,
        typer.Option("--public", help="On OpenStack: give it an address that is reached from outside too."),
    ] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Make a database server, ready with databases and users, or with all that a backup has."""
    from argosy.cli import dumps, life, progress
    from argosy.cli.credentials import ANY_HOST, key_of

    databases, users = database or [], user or []
    if from_dump is not None:
        dumps.check_readable(from_dump, wait=wait)
    given = passwords.chosen(users, password_file, ask=ask_password)
    secrets = dict(zip(users, given or [passwords.generated() for _ in users], strict=True))
    point, source_id = _restore_point(call, from_backup, from_instance, log_point(to_time, to_lsn, to_gtid))
    if point is None:
        flavor, volume = flavor or "small", volume or 1
    elif volume_autogrow is not None and volume is None:
        raise typer.BadParameter("--volume-autogrow needs --volume beside --from-backup and --from-instance.")
    size = None if flavor is None else call.argosy.flavors.find(flavor)
    group = None if configuration is None else call.argosy.configurations.find(configuration)
    made = call.argosy.instances.create(
        name,
        flavor=None if size is None else size.id,
        volume_gb=volume,
        autogrow_limit_gb=volume_autogrow,
        datastore=datastore,
        version=version,
        databases=databases,
        users=[
            {"name": each, "password": secret, "databases": [{"name": one} for one in databases]}
            for each, secret in secrets.items()
        ],
        tags=life.pairs(tag or []),
        protected=protected,
        configuration=None if group is None else group.id,
        follows_none=no_configuration,
        allowed_cidrs=allow or [],
        tls=tls and tls.value,
        backup_schedule=backup,
        restore_point=None if point is None else {**point, "users": with_users.value},
        is_public=public,
        network=network,
        availability_zone=zone,
    )
    if source_id is not None:
        size = size or _sizes(call).get(made.flavor_id)
        if with_users is WhichUsers.CURRENT:
            # Its users are those of that instance, passwords too.
            call.credentials.keep(made.id, call.credentials.of(source_id))
    if given is None:
        call.credentials.keep(made.id, {key_of(each): secret for each, secret in secrets.items()})
    if wait:
        try:
            progress.follow(call, made, "Making", timeout)
        except KeyboardInterrupt:
            call.out.note(f"\n{name} is still being made: see `argosy show {name}`.")
            raise
        made = call.argosy.instances.get(made.id)
    if from_dump is not None:
        dumps.load_file(call, made, from_dump, next(iter(databases), None))
    shown = [
        {"name": each, "host": ANY_HOST, "password": None if given else secret}
        for each, secret in secrets.items()
    ]
    _tell_made(call, made, size, databases, shown, waited=wait)
    return 0


def log_point(to_time: str | None, to_lsn: str | None, to_gtid: str | None) -> dict[str, str]:
    """As the API has it; empty when none was said. Raises typer.BadParameter for more than one."""
    said = {
        "--to-time": ("time", to_time),
        "--to-lsn": ("position", to_lsn),
        "--to-gtid": ("position", to_gtid),
    }
    given = [(option, key, value) for option, (key, value) in said.items() if value is not None]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(option for option, _, _ in given)}: one at a time.")
    return {key: value for _, key, value in given}


def _restore_point(
    call: Call, from_backup: str | None, from_instance: str | None, point: dict[str, str]
) -> tuple[dict[str, str] | None, str | None]:
    """What to begin with, and the id of the instance it is of; None for nothing."""
    from argosy.client.errors import NotFound

    if from_backup is not None and (from_instance is not None or point):
        raise typer.BadParameter("--from-backup goes alone: a moment is of --from-instance.")
    if from_backup is not None:
        backup = call.argosy.backups.find(from_backup)
        return {"backupRef": backup.id}, backup.instance_id
    if from_instance is None:
        if point:
            raise typer.BadParameter("--to-time, --to-lsn and --to-gtid need --from-instance.")
        return None, None
    try:
        source = call.argosy.instances.find(from_instance)
    except NotFound:
        source = call.argosy.instances.find_deleted(from_instance)
    return {"instance": source.id, **point}, source.id


def _tell_made(
    call: Call,
    made: Instance,
    size: Flavor | None,
    databases: list[str],
    users: list[dict[str, str | None]],
    *,
    waited: bool,
) -> None:
    from argosy.cli.output import plain

    if call.out.as_json:
        call.out.json({**plain(made), "databases": databases, "users": users})
        return
    if call.out.quiet:
        print(made.id)
        return
    if not waited:
        call.out.result(None, f"{made.name} is being made: see `argosy show {made.name}`.")
    fields = _fields(call, made, size, next(iter(databases), None), brief=True)
    fields["Databases"] = databases
    for user in users:
        secret = user["password"]
        fields[f"User {user['name']}"] = (
            "with the password you gave"
            if secret is None
            else f"password {secret}  (generated; kept for `connect`)"
        )
    call.out.fields(made, fields, name=made.id)


def list_(
    call: Call,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            "--tag",
            metavar="KEY[=VALUE]",
            help="Those that have this tag; repeated, those that have all of them.",
        ),
    ] = None,
    deleted: Annotated[
        bool, typer.Option("--deleted", help="Those that were deleted a while ago, deleted last first.")
    ] = False,
) -> int:
    """The project's instances, oldest first."""
    from argosy.cli.output import ago

    there = call.argosy.instances.all(tags=tag or (), deleted=deleted)
    if deleted:
        call.out.table(
            there,
            {
                "Name": lambda each: each.name,
                "Datastore": lambda each: f"{each.datastore} {each.version}",
                "Created": lambda each: ago(each.created),
                "Deleted": lambda each: ago(each.deleted),
                "Id": lambda each: each.id,
            },
            name=lambda each: str(each.id),
            nothing="None was deleted, or longer ago than is remembered.",
        )
        return 0
    sizes = {} if call.out.as_json or call.out.quiet or not there else _sizes(call)
    call.out.table(
        there,
        {
            "Name": lambda each: each.name,
            "Datastore": lambda each: f"{each.datastore} {each.version}",
            "Status": lambda each: each.state,
            "Address": _address,
            "Flavor": lambda each: getattr(sizes.get(each.flavor_id), "name", each.flavor_id),
            "Volume": _volume,
            "Created": lambda each: ago(each.created),
            "Id": lambda each: each.id,
        },
        name=lambda each: str(each.id),
        optional=("Id", "Created", "Flavor", "Volume"),
        nothing="No instances yet. Make one: argosy create shop --datastore postgresql --database shop --user ann",
    )
    return 0


def show(
    call: Call,
    name: Name,
    deleted: Annotated[bool, typer.Option("--deleted", help="One that was deleted a while ago.")] = False,
) -> int:
    """Everything about one instance: how it is, where, how big, and how to connect to it."""
    find = call.argosy.instances.find_deleted if deleted else call.argosy.instances.find
    instance = find(name)
    plain = call.out.as_json or call.out.quiet
    database = None if call.out.quiet else _first_database(call, instance)
    size = None if plain else _sizes(call).get(instance.flavor_id)
    if call.out.as_json:
        from argosy.cli.output import plain as as_plain

        call.out.json({**as_plain(instance), "url": _url(call, instance, database)})
        return 0
    call.out.fields(instance, _fields(call, instance, size, database), name=instance.id)
    return 0


def delete(
    call: Call,
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names or ids of instances.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Delete instances and all their data. At a terminal it asks first."""
    from argosy.cli import progress
    from argosy.client.errors import NotFound

    found = [call.argosy.instances.find(each) for each in dict.fromkeys(names)]
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        listed = ", ".join(f"{each.name} ({each.datastore} {each.version})" for each in found)
        typer.confirm(f"Delete {listed} with all data in it?", abort=True)
    for each in found:
        call.argosy.instances.delete(each.id)
    for each in found:
        if wait:
            progress.follow(call, each, "Deleting", timeout)
            _wait_until_gone(call, each, NotFound)
        call.credentials.forget(each.id)
        word = "deleted" if wait else "being deleted"
        if not call.out.as_json:
            call.out.result(None, f"{each.name} is {word}.", name=each.id)
    if call.out.as_json:
        call.out.json([{"id": each.id, "name": each.name, "deleted": wait} for each in found])
    return 0


def resize(
    call: Call,
    name: Name,
    flavor: Annotated[
        str | None, typer.Option("--flavor", metavar="NAME", help="Its new size, see `argosy flavors`.")
    ] = None,
    volume: Annotated[
        int | None,
        typer.Option(
            "--volume", metavar="GB", min=1, help="A larger volume; the database goes on meanwhile."
        ),
    ] = None,
    volume_autogrow: Annotated[
        str | None,
        typer.Option(
            "--volume-autogrow",
            metavar="LIMIT",
            help="Have the volume grow by itself when it gets full, up to this many GB; `off`: not by itself.",
        ),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Give an instance another flavor or a larger volume. No data is lost; `events` tell whether it had to restart."""
    from argosy.cli import progress

    if flavor is None and volume is None and volume_autogrow is None:
        raise typer.BadParameter("say what is to change: --flavor, --volume or --volume-autogrow.")
    if flavor is not None and volume is not None:
        raise typer.BadParameter("--flavor and --volume: one at a time.")
    limit_gb = None if volume_autogrow is None else _limit(volume_autogrow)
    instance = call.argosy.instances.find(name)
    if volume_autogrow is not None:
        call.argosy.instances.limit_growth(instance.id, limit_gb)
    if flavor is not None:
        call.argosy.instances.resize_flavor(instance.id, call.argosy.flavors.find(flavor).id)
    elif volume is not None:
        call.argosy.instances.resize_volume(instance.id, volume)
    begun = flavor is not None or volume is not None
    if begun and wait:
        progress.follow(call, instance, "Resizing", timeout)
    instance = call.argosy.instances.get(instance.id)
    told = []
    if begun:
        size = flavor or f"{volume} GB"
        told.append(f"{instance.name} has {size} now." if wait else f"{instance.name} is being resized.")
    if volume_autogrow is not None:
        told.append(
            f"Its volume grows by itself, up to {limit_gb} GB."
            if limit_gb
            else "Its volume does not grow by itself."
        )
    call.out.result(instance, " ".join(told), name=instance.id)
    return 0


def _limit(text: str) -> int | None:
    """Raises typer.BadParameter."""
    if text.lower() in {"off", "none"}:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"--volume-autogrow: a number of GB or `off`, not {text!r}.")
    return int(text)


def restart(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Restart an instance's database server. Connections end; no data is lost."""
    from argosy.cli import progress

    instance = call.argosy.instances.find(name)
    call.argosy.instances.restart(instance.id)
    if wait:
        progress.follow(call, instance, "Restarting", timeout)
    instance = call.argosy.instances.get(instance.id)
    word = "was restarted" if wait else "is restarting"
    call.out.result(instance, f"{instance.name} {word}.", name=instance.id)
    return 0


def rename(call: Call, name: Name, new_name: Annotated[str, typer.Argument(metavar="NEW_NAME")]) -> int:
    """Give an instance another name. Its address and all else stay."""
    instance = call.argosy.instances.find(name)
    call.argosy.instances.rename(instance.id, new_name)
    renamed = call.argosy.instances.get(instance.id)
    call.out.result(renamed, f"{instance.name} is called {renamed.name} now.", name=instance.id)
    return 0


def _recovery(instance: Instance) -> str | None:
    """Which moments, in words."""
    found = instance.recovery
    if found is None:
        return None
    if found.earliest is None or found.latest is None:
        return "its backups; to a moment once there is one with archived log after it"
    window = f"{found.earliest:%Y-%m-%d %H:%M:%S} to {found.latest:%Y-%m-%d %H:%M:%S} UTC"
    if not found.archiving:
        return f"{window}; the log is not archived any more"
    if found.error is not None:
        return f"{window}; the log cannot be archived now: {found.error}"
    return f"{window}; the log is archived {found.lag_seconds} s behind"


def _wait_until_gone(call: Call, instance: Instance, gone: type[Exception]) -> None:
    """Its operation has ended well, so this says whether the instance went with it."""
    from argosy.client.errors import OperationFailed

    try:
        left = call.argosy.instances.get(instance.id)
    except gone:
        return
    raise OperationFailed(f"{instance.name} is still there, in status {left.state}.")


def _sizes(call: Call) -> dict[str, Flavor]:
    return {each.id: each for each in call.argosy.flavors.all()}


def _fields(
    call: Call, instance: Instance, size: Flavor | None, database: str | None, *, brief: bool = False
) -> dict[str, Any]:
    """For people; `brief` leaves out what is not news of an instance just made."""
    from rich.text import Text

    from argosy.cli.output import ago, cell

    fields: dict[str, Any] = {
        "Name": instance.name,
        "Id": instance.id,
        "Status": Text.assemble(cell(instance.state), f": {instance.meaning}" if instance.meaning else ""),
        "Datastore": f"{instance.datastore} {instance.version}"
        + (f" ({instance.version_number})" if instance.version_number != instance.version else ""),
        "Flavor": instance.flavor_id if size is None else f"{size.name}, {size.memory_mb} MB, {_cpus(size)}",
        "Volume": _volume(instance),
        "Address": _address(instance),
        "Public address": instance.public_address,
    }
    if instance.configuration is not None:
        fields["Configuration"] = f"{instance.configuration.name}, {instance.configuration.state}"
        fields["Not applied"] = instance.configuration.error
    if not brief:
        if instance.created is not None:
            fields["Created"] = f"{ago(instance.created)} ({instance.created:%Y-%m-%d %H:%M:%S} UTC)"
        if instance.deleted is not None:
            fields["Deleted"] = f"{ago(instance.deleted)} ({instance.deleted:%Y-%m-%d %H:%M:%S} UTC)"
        fields["Tags"] = [f"{key}={value}" for key, value in sorted(instance.tags.items())]
        fields["Protected"] = "from deletion" if instance.protected else None
        fields.update({f"Limit, {what}": how for what, how in instance.limits.items()})
        fields["Allowed from"] = list(instance.allowed_cidrs)
        fields.update({f"Access, {what}": how for what, how in instance.access.items()})
        fields["Restorable to"] = _recovery(instance)
    operation = instance.operation
    if operation is not None:
        step = f", step {operation.step} of {operation.steps}" if operation.steps else ""
        fields["Operation"] = f"{operation.kind}{step}: {operation.doing or operation.state}"
    if instance.fault is not None:
        fields["Fault"] = Text(f"{instance.fault.message} ({ago(instance.fault.created)})", style="red")
        fields["Details"] = instance.fault.details
    if instance.serves:
        fields["URL"] = _url(call, instance, database)
        fields["Connect"] = f"argosy connect {instance.name}{call.named_home}"
    return fields


def _url(call: Call, instance: Instance, database: str | None) -> str | None:
    """Ready to paste, but for the password."""
    from argosy.cli import programs
    from argosy.cli.credentials import user_of

    known = next(iter(call.credentials.of(instance.id)), None)
    tls = call.has_tls(instance)
    return programs.url(
        instance, user_of(known)[0] if known else None, database=database, tls=tls, ca=call.database_ca
    )


def _first_database(call: Call, instance: Instance) -> str | None:
    """None also when it has none, knows none or does not tell now: only an address depends on it."""
    from argosy.client import ClientError

    if not instance.serves or instance.datastore in _WITHOUT_DATABASES:
        return None
    try:
        return next(iter(call.argosy.databases.all(instance.id)), None)
    except ClientError:
        return None


def _cpus(size: Flavor) -> str:
    return "1 CPU" if size.vcpus == 1 else f"{size.vcpus} CPUs"


def _address(instance: Instance) -> str:
    if instance.address is None:
        return ""
    return f"{instance.address}:{instance.port}" if instance.port else instance.address


def _volume(instance: Instance) -> str:
    used, limit_gb = instance.volume_used_percent, instance.autogrow_limit_gb
    return (
        f"{instance.volume_gb} GB"
        + (f", {used:.0f}% used" if used is not None else "")
        + (f", grows up to {limit_gb} GB" if limit_gb is not None else "")
    )
