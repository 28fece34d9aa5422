"""Server groups: Nova keeps the servers of one apart, on hosts of their own as far as the policy asks."""

from __future__ import annotations

import threading
from typing import Any

from openstack.connection import Connection

from argosy.platforms.openstack.cloud import Cloud, Service
from argosy.platforms.openstack.names import Names


class ServerGroups:
    """A group has nothing but a name; it is made with its first server and goes with its last."""

    def __init__(self, cloud: Cloud, names: Names, policy: str) -> None:
        """`policy` is anti-affinity, or soft-anti-affinity where a server may boot though there is no host of its own."""
        self._cloud = cloud
        self._names = names
        self._policy = policy
        # One that is still empty is not taken for one whose last server went.
        self.being_filled = threading.RLock()

    def ensure(self, cloud: Connection, spread: str) -> str:
        """Its id."""
        found = self._named(cloud, spread)
        if not found:
            cloud.compute.create_server_group(name=self._names.group(spread), policy=self._policy)
            found = self._named(cloud, spread)
        for other in found[1:]:
            if not other.member_ids:
                cloud.compute.delete_server_group(other, ignore_missing=True)
        return str(found[0].id)

    def _named(self, cloud: Connection, spread: str) -> list[Any]:
        """They do not tell their age: of two that were made at once the fuller one counts, or whichever all agree on."""
        found = [one for one in cloud.compute.server_groups() if one.name == self._names.group(spread)]
        return sorted(found, key=lambda one: (-len(one.member_ids or ()), one.id))

    def remove_empty(self) -> None:
        """Remove those that no server is in any more."""
        with self.being_filled:
            self._cloud.ask(Service.NOVA, self._remove_empty)

    def _remove_empty(self, cloud: Connection) -> None:
        for group in list(cloud.compute.server_groups()):
            if group.name.startswith(self._names.groups) and not group.member_ids:
                cloud.compute.delete_server_group(group, ignore_missing=True)
