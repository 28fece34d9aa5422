"""`argosy admin instances`, `show`, `stop`, `reboot` and so on: instances of all projects, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import Timeout, Wait

if TYPE_CHECKING:
    from argosy.client.models import ManagedInstance, ProcessFigures

Name = Annotated[str, typer.Argument(metavar="NAME", help="An instance of any project: its name or id.")]


def add_to(group: typer.Typer) -> None:
    for name, function, example in (
        ("instances", instances, "argosy admin instances --project shop"),
        ("show", show, "argosy admin show shop"),
        ("stop", stop, "argosy admin stop shop"),
        ("reboot", reboot, "argosy admin reboot shop"),
        ("rebuild", rebuild, "argosy admin rebuild shop"),
        ("renew-agent", renew_agent, "argosy admin renew-agent shop"),
        ("rotate", rotate, "argosy admin rotate shop"),
        ("reset", reset, "argosy admin reset shop"),
        ("root-history", root_history, "argosy admin root-history shop"),
        ("diagnostics", diagnostics, "argosy admin diagnostics shop"),
        ("hwinfo", hwinfo, "argosy admin hwinfo shop"),
        ("ping", ping, "argosy admin ping shop"),
    ):
        command(group, name, administers=True, examples=(example,))(function)


def instances(
    call: Call,
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="Of this project only.")
    ] = None,
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that are gone.")] = False,
) -> int:
    """The instances of all projects."""
    from argosy.cli.output import ago

    project_id = None if project is None else call.argosy.accounts.project_id(project)
    there = call.argosy.managed_instances.all(project_id, deleted=deleted)
    names = {} if call.out.as_json or call.out.quiet else projects(call)
    call.out.table(
        there,
        {
            "Project": lambda each: names.get(each.project_id, each.project_id),
            "Name": lambda each: each.name,
            "Datastore": lambda each: f"{each.datastore} {each.version}",
            "Status": lambda each: each.state,
            "Address": lambda each: each.address,
            "Changed": lambda each: ago(each.updated),
            "Id": lambda each: each.id,
        },
        name=lambda each: str(each.id),
        optional=("Changed", "Address", "Datastore"),
        nothing="No instances in any project." if project is None else f"No instances in {project}.",
    )
    return 0


def show(call: Call, name: Name) -> int:
    """An instance of any project: whose it is, how it is, what holds it, why it failed."""
    from argosy.cli.output import ago

    instance = call.argosy.managed_instances.find(name)
    names = {} if call.out.as_json or call.out.quiet else projects(call)
    fields: dict[str, Any] = {
        "Name": instance.name,
        "Id": instance.id,
        "Project": names.get(instance.project_id or "", instance.project_id),
        "Status": f"{instance.state}: {instance.meaning}",
        "Datastore": f"{instance.datastore} {instance.version} ({instance.version_number})",
        "Flavor": instance.flavor_id,
        "Volume": f"{instance.volume_gb} GB",
        "Address": instance.address,
        "Platform": instance.platform,
        "Created": ago(instance.created),
        "Held by": instance.task,
        "Root enabled by": instance.root_enabled_by,
    }
    if instance.fault is not None:
        fields["Fault"] = f"{instance.fault.message} ({ago(instance.fault.created)})"
        fields["Details"] = instance.fault.details
    call.out.fields(instance, fields, name=instance.id)
    return 0


def stop(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Stop an instance's database server. Starting, restarting or rebooting it brings it back."""
    instance = call.argosy.managed_instances.find(name)
    call.argosy.managed_instances.act(instance.id, "stop")
    return tell(call, instance, "Stopping", "is stopped", wait=wait, timeout_s=timeout)


def reboot(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Boot the agent of an instance anew and restart its database server: for one that hangs."""
    instance = call.argosy.managed_instances.find(name)
    call.argosy.managed_instances.act(instance.id, "reboot")
    return tell(call, instance, "Rebooting", "was rebooted", wait=wait, timeout_s=timeout)


def rebuild(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Make an instance's agent, certificates and server process anew around its data."""
    instance = call.argosy.managed_instances.find(name)
    call.argosy.managed_instances.rebuild(instance.id)
    return tell(call, instance, "Rebuilding", "was rebuilt", wait=wait, timeout_s=timeout)


def renew_agent(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Have an instance's agent run this release of Argosy. Its database server goes on meanwhile."""
    instance = call.argosy.managed_instances.find(name)
    call.argosy.managed_instances.renew_agent(instance.id)
    return tell(call, instance, "Renewing the agent of", "has a new agent", wait=wait, timeout_s=timeout)


def rotate(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Give the account by which an instance's agent manages its database server another password."""
    instance = call.argosy.managed_instances.find(name)
    call.argosy.managed_instances.act(instance.id, "rotate_password")
    word = "has another management password"
    return tell(call, instance, "Changing the management password of", word, wait=wait, timeout_s=timeout)


def reset(call: Call, name: Name) -> int:
    """End whatever operation holds an instance, as failed. Nothing it did is undone."""
    instance = call.argosy.managed_instances.find(name)
    call.argosy.managed_instances.act(instance.id, "reset-task-status")
    after = call.argosy.managed_instances.get(instance.id)
    held = f" {instance.task} was given up." if instance.task else ""
    call.out.result(after, f"Nothing holds {after.name} now.{held}", name=after.id)
    return 0


def root_history(call: Call, name: Name) -> int:
    """When root was last enabled on an instance, and by whom."""
    instance = call.argosy.managed_instances.find(name)
    history = call.argosy.managed_instances.root_history(instance.id)
    if history.enabled is None:
        call.out.result(history, f"Root was never enabled on {instance.name}.", name="never")
        return 0
    at = f"{history.enabled:%Y-%m-%d %H:%M:%S} UTC"
    sentence = f"Root was last enabled on {instance.name} at {at} by the user {history.user_id}."
    call.out.result(history, sentence, name=at)
    return 0


def diagnostics(call: Call, name: Name) -> int:
    """What the kernel says of an instance's agent and database server."""
    instance = call.argosy.managed_instances.find(name)
    found = call.argosy.managed_instances.diagnostics(instance.id)
    rows: list[tuple[str, ProcessFigures]] = [(f"agent {found.agent_version}", found.agent)]
    if found.server is not None:
        rows.append(("database server", found.server))
    if call.out.as_json:
        from argosy.cli.output import plain

        call.out.json(plain(found))
        return 0
    call.out.table(
        rows,
        {
            "Process": lambda row: row[0],
            "Pid": lambda row: row[1].pid,
            "Threads": lambda row: row[1].threads,
            "Memory": lambda row: _mb(row[1].memory_kb),
            "At most": lambda row: _mb(row[1].memory_at_most_kb),
            "Address space": lambda row: _mb(row[1].address_space_kb),
            "Files": lambda row: row[1].file_slots,
        },
        name=lambda row: str(row[1].pid),
        right=("Pid", "Threads", "Memory", "At most", "Address space", "Files"),
        nothing="",
    )
    if found.server is None:
        call.out.note("No database server runs.")
    return 0


def hwinfo(call: Call, name: Name) -> int:
    """The memory and processors that an instance's guest was given."""
    instance = call.argosy.managed_instances.find(name)
    given = call.argosy.managed_instances.hardware(instance.id)
    cpus = "1 CPU" if given.vcpus == 1 else f"{given.vcpus} CPUs"
    call.out.result(given, f"{instance.name} has {given.memory_mb} MB and {cpus}.", name=instance.id)
    return 0


def ping(call: Call, name: Name) -> int:
    """Whether an instance's agent answers."""
    instance = call.argosy.managed_instances.find(name)
    call.argosy.managed_instances.ping(instance.id)
    call.out.result(
        {"id": instance.id, "answers": True}, f"The agent of {instance.name} answers.", name=instance.id
    )
    return 0


def tell(
    call: Call, instance: ManagedInstance, verb: str, done: str, *, wait: bool, timeout_s: float | None
) -> int:
    """Wait for what was just begun, which may have ended by now, well or not, and say what it came to."""
    from argosy.cli import progress

    if wait:
        progress.watch(call, call.argosy.operations.follow(instance.id, timeout_s), verb, instance.name)
    after = call.argosy.managed_instances.get(instance.id)
    sentence = f"{instance.name} {done}." if wait else f"{verb} {instance.name} goes on by itself."
    call.out.result(after, sentence, name=instance.id)
    return 0


def projects(call: Call) -> dict[str, str]:
    """Names of projects by their ids, as far as Keystone tells an administrator of databases."""
    from argosy.client.errors import Forbidden

    try:
        there = call.argosy.accounts.all("projects")
    except Forbidden:
        return {}
    return {str(each["id"]): str(each["name"]) for each in there}


def _mb(kilobytes: int) -> str:
    return f"{kilobytes / 1024:.1f} MB"
