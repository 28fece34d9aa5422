"""Change who may connect to an instance."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import UpdateAccess
from argosy.taskmanager.steps import guest, instances, servers
from argosy.taskmanager.workflow import workflow


@workflow(UpdateAccess, "changing who may connect")
def update_access(asked: UpdateAccess) -> Iterator[None]:
    """The guest's rules first, then what `show` says. A guest that cannot goes back to the rules before."""
    yield
    address = instances.server_of(asked.instance_id)
    former = instances.rules_of(asked.instance_id)
    wanted = former.changed(asked)
    guest.update_access(asked, address, wanted, former)
    instances.note_rules(asked.instance_id, wanted)
    if servers.machines() and servers.allow(asked.instance_id):
        # The server's certificate names the addresses that clients come by.
        servers.tell(asked.instance_id)
        guest.renew(asked, address, "addresses")
    guest.note_guard(asked.instance_id, address)
