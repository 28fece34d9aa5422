"""`argosy guest`: the agents beside the database servers, and which code they run, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from argosy.cli.admin import PANEL
from argosy.cli.admin_instances import projects, tell
from argosy.cli.call import Call, command
from argosy.cli.instances import Timeout

if TYPE_CHECKING:
    from argosy.client.models import ManagedInstance

_DIGITS = 12  # of a digest, for people


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="The agents beside the database servers.", no_args_is_help=True)
    app.add_typer(group, name="guest", rich_help_panel=PANEL)
    command(group, "list", administers=True, examples=("argosy guest list",))(show)
    command(
        group,
        "upgrade",
        administers=True,
        examples=("argosy guest upgrade shop", "argosy guest upgrade --all"),
    )(upgrade)


def show(call: Call) -> int:
    """The guests of all projects: the release of each one's agent, and the code that it runs."""
    from argosy.cli.output import ago

    there = call.argosy.managed_instances.all()
    names = {} if call.out.as_json or call.out.quiet else projects(call)
    call.out.table(
        there,
        {
            "Project": lambda each: names.get(each.project_id, each.project_id),
            "Name": lambda each: each.name,
            "Status": lambda each: each.state,
            "Release": lambda each: each.agent and each.agent.release,
            "Code": lambda each: each.agent and (each.agent.code or "not told")[:_DIGITS],
            "Current": _standing,
            "Changed": lambda each: ago(each.updated),
        },
        name=lambda each: str(each.id),
        optional=("Changed", "Status"),
        nothing="No guests in any project.",
    )
    return 0


def upgrade(
    call: Call,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Instances of any project: names or ids.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="All whose agent runs other code than the control plane's.")
    ] = False,
    timeout: Timeout = None,
) -> int:
    """Have agents run the control plane's release, one after the other. Their database servers go on meanwhile.

    The first that fails ends it: the others keep the agents they have.
    """
    if bool(names) == every:
        raise typer.BadParameter("Name the instances whose agents to upgrade, or say --all.")
    for instance in _chosen(call, names):
        call.argosy.managed_instances.renew_agent(instance.id)
        tell(call, instance, "Upgrading the agent of", "has a new agent", wait=True, timeout_s=timeout)
    return 0


def _chosen(call: Call, names: list[str] | None) -> list[ManagedInstance]:
    if names:
        return [call.argosy.managed_instances.find(name) for name in names]
    there = call.argosy.managed_instances.all()
    old = [each for each in there if each.agent is not None and not each.agent.is_current]
    if not old:
        call.out.note(f"All {len(there)} guests run the control plane's code.")
    return old


def _standing(instance: ManagedInstance) -> str:
    if instance.agent is None:
        return "not heard of yet"
    return "yes" if instance.agent.is_current else "no"
