"""Boot an instance's server anew: its agent, and with it the database server or not."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import InstanceRequest, RebootInstance, RenewAgent
from argosy.taskmanager.steps import guest, instances, servers
from argosy.taskmanager.workflow import workflow


@workflow(RebootInstance, "booting the agent anew", "restarting the database server")
def reboot_instance(asked: RebootInstance) -> Iterator[None]:
    """For one that hangs: whatever its agent and its database server are doing, they end and begin anew.

    One that was stopped runs afterwards. If the database server does not come up, the fault says why and its
    guest goes on trying.
    """
    yield
    address = _boot_agent(asked)
    yield
    guest.restart(asked, address)


@workflow(RenewAgent, "booting the agent anew")
def renew_agent(asked: RenewAgent) -> Iterator[None]:
    """Have the agent run this release's code; the database server goes on meanwhile."""
    yield
    guest.wait_until_it_answers(asked, _boot_agent(asked))


def _boot_agent(asked: InstanceRequest) -> str:
    address = instances.server_of(asked.instance_id)
    servers.replace(asked.instance_id, address)
    return address
