"""Boot an instance's server anew: its agent, and with it the database server or not."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import RebootInstance, RenewAgent
from argosy.taskmanager.steps import guest, instances, servers
from argosy.taskmanager.workflow import workflow


@workflow(RebootInstance, "booting the agent anew", "restarting the database server")
def reboot_instance(asked: RebootInstance) -> Iterator[None]:
    """For one that hangs: whatever its agent and its database server are doing, they end and begin anew.

    One that was stopped runs afterwards. If the database server does not come up, the fault says why and its
    guest goes on trying.
    """
    yield
    address = instances.server_of(asked.instance_id)
    if servers.machines():
        servers.reboot(asked.instance_id)
        servers.wait_until_settled(asked.instance_id)
    else:
        servers.replace(asked.instance_id, address)
    yield
    guest.restart(asked, address)


@workflow(RenewAgent, "booting the agent anew")
def renew_agent(asked: RenewAgent) -> Iterator[None]:
    """Have the agent run this release's code; the database server goes on meanwhile."""
    yield
    address = instances.server_of(asked.instance_id)
    if servers.machines():
        servers.tell(asked.instance_id)
        guest.renew(asked, address, "code", code=True)
    else:
        servers.replace(asked.instance_id, address)
        guest.wait_until_it_answers(asked, address)
