"""What the cloud has, compared with what it should have: one listing of each service, and what is safe is put right.

Safe is what brings back a thing that was there, where it was, or takes away what holds no data and nothing uses. Servers
and volumes are never taken away, whoever they belong to. docs/drift.md says for each kind what is done, and by whom.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from openstack.connection import Connection

from argosy.domain.drift import Finding
from argosy.domain.errors import ArgosyError, PlatformError, Unavailable
from argosy.platforms.base import Expectation, Placement
from argosy.platforms.openstack.cloud import Cloud, Service
from argosy.platforms.openstack.names import Names
from argosy.platforms.openstack.networks import Held, Networks, addresses_of, let_in
from argosy.platforms.openstack.servers import OpenStackServers
from argosy.platforms.openstack.volumes import OpenStackVolumes

# Another control plane may be making something that we do not know of yet.
UNUSED_FOR = timedelta(hours=1)
_ANYTHING_BUT_STOPPED = {
    "ACTIVE",
    "BUILD",
    "ERROR",
    "HARD_REBOOT",
    "MIGRATING",
    "PASSWORD",
    "REBOOT",
    "REBUILD",
    "RESIZE",
    "REVERT_RESIZE",
    "VERIFY_RESIZE",
}
# States in which Nova attaches volumes and ports.
_ATTACHES = {"ACTIVE", "SHUTOFF"}

May = Callable[[Finding], bool]


@dataclass(frozen=True)
class _Listed:
    servers: list[tuple[str, Any]]
    volumes: list[tuple[str, Any]]
    held: Held


@dataclass(frozen=True)
class _Own:
    """What is of one instance. `server` is the one that has its volume, if any has."""

    expected: Expectation
    placement: Placement
    servers: list[Any]
    server: Any
    volumes: list[Any]
    ports: list[Any]
    groups: list[Any]
    floating: list[Any]

    @property
    def can_be_attached_to(self) -> bool:
        return len(self.servers) == 1 and self.server.task_state is None and self.server.status in _ATTACHES


class Reconciler:
    def __init__(
        self,
        cloud: Cloud,
        names: Names,
        networks: Networks,
        servers: OpenStackServers,
        volumes: OpenStackVolumes,
    ) -> None:
        self._cloud = cloud
        self._names = names
        self._networks = networks
        self._servers = servers
        self._volumes = volumes

    def survey(self, expected: Sequence[Expectation], may: May) -> list[Finding]:
        listed = _Listed(self._servers.all(), self._volumes.all(), self._networks.all())
        found: list[Finding] = []
        for one in expected:
            own = None if one.settles or one.placement is None else _own(one, one.placement, listed)
            if own is not None:
                of_it = list(self._of_instance(own, may))
                ended = not all(one.repaired for one in of_it) and self._has_ended(own)
                found += [one for one in of_it if one.repaired or not ended]
        return found + list(self._of_nobody(listed, {one.instance_id for one in expected}, may))

    def _of_instance(self, own: _Own, may: May) -> Iterator[Finding]:
        instance_id = own.expected.instance_id
        holder = self._holder(own) if own.server is None else None
        if holder is not None and holder.status == "UNKNOWN":
            return  # Nova lists none of a cell that it does not reach, and of one of them tells no more than this
        if holder is not None and holder.name == self._names.server(instance_id):
            words = "The server lost what it is found by in the cloud, its tags"
            yield _repaired(
                Finding("server-unmarked", f"server {holder.id}", f"{words}.", instance_id),
                lambda: self._servers.mark(holder, instance_id),
                f"{words}: they were given back.",
                may,
            )
            return
        yield from self._of_server(own)
        yield from self._of_volume(own, may)
        # Where not even its volume is to be seen this may be another cloud, or project: nothing is made there.
        yield from self._of_network(own, may if own.volumes else lambda _: False)

    # Servers

    def _has_ended(self, own: _Own) -> bool:
        """Whether its server has gone since it was listed: what was listed later lacks it, and the next look tells."""
        if own.server is None:
            return False
        now = self._servers.holder(own.server.id)
        return now is None or _is_ending(now)

    def _holder(self, own: _Own) -> Any:
        """A server that has the volume of an instance, though none is listed as its own."""
        for volume in own.volumes:
            for one in volume.attachments:
                if volume.id == own.expected.volume:
                    return self._servers.holder(one["server_id"])
        return None

    def _of_server(self, own: _Own) -> Iterator[Finding]:
        instance_id, name = own.expected.instance_id, self._names.server(own.expected.instance_id)
        if own.server is None:
            yield Finding(
                "server-missing",
                f"server {name}",
                "The server was deleted in the cloud: an administrator's rebuild makes it anew around your data.",
                instance_id,
            )
            return
        for other in own.servers:
            if other is not own.server:
                yield Finding(
                    "duplicate-server",
                    f"server {other.id}",
                    "There is a second server in the cloud that carries the name of this one: an operator decides.",
                    instance_id,
                )
        if own.server.status == "ERROR" and own.server.task_state is None:
            fault = self._servers.fault(own.server.id).rstrip(".")
            yield Finding(
                "server-error",
                f"server {own.server.id}",
                f"The cloud gave the server up: {fault}. An administrator's rebuild or reboot may bring it back.",
                instance_id,
            )
        elif own.server.status not in _ANYTHING_BUT_STOPPED and own.server.task_state is None:
            yield Finding(
                "server-stopped",
                f"server {own.server.id}",
                f"The server does not run ({own.server.status} in the cloud). It is started again by itself, unless "
                "somebody stopped it there: then an administrator's reboot starts it.",
                instance_id,
            )

    # Volumes

    def _of_volume(self, own: _Own, may: May) -> Iterator[Finding]:
        expected = own.expected
        volume = next((one for one in own.volumes if one.id == expected.volume), None)
        for other in own.volumes:
            if other is not volume:
                yield Finding(
                    "duplicate-volume",
                    f"volume {other.id}",
                    "There is another volume in the cloud that carries the name of this instance's: an operator decides.",
                    expected.instance_id,
                )
        if volume is None or volume.status == "deleting":
            yield Finding(
                "volume-missing",
                f"volume {expected.volume}",
                "The volume was deleted in the cloud, and the data with it: restore a backup into a new instance.",
                expected.instance_id,
            )
            return
        told = Finding("", f"volume {volume.id}", "", expected.instance_id)
        if volume.status.startswith("error"):
            yield replace(
                told,
                kind="volume-error",
                message=f"The volume is in state {volume.status} in the cloud: an operator decides.",
            )
        if volume.size != expected.volume_gb and volume.status != "extending":
            yield replace(
                told,
                kind="volume-size",
                message=f"The volume has {volume.size} GB in the cloud, and should have {expected.volume_gb} GB: a resize "
                f"to {max(volume.size, expected.volume_gb + 1)} GB sets both right.",
            )
        yield from self._of_attachment(own, volume, replace(told, kind="volume-detached"), may)

    def _of_attachment(self, own: _Own, volume: Any, told: Finding, may: May) -> Iterator[Finding]:
        attached_to = {one["server_id"] for one in volume.attachments}
        if own.server is not None and own.server.id in attached_to:
            return
        if attached_to:
            yield replace(
                told,
                message="The volume is attached to another server in the cloud: an operator detaches it there.",
            )
        elif own.can_be_attached_to and volume.status == "available":
            yield _repaired(
                replace(told, message="The volume was detached from the server in the cloud."),
                lambda: self._attach(own, len(own.volumes)),
                "The volume was detached from the server in the cloud: it was attached again, and the server booted.",
                may,
            )

    def _attach(self, own: _Own, volumes: int) -> None:
        instance_id = own.expected.instance_id
        if volumes > 1:
            raise PlatformError("It is not the only volume that carries the name of this instance's.")
        self._volumes.attach(instance_id)
        if own.server.status == "ACTIVE":
            # The file system that was cut off stays dead until it is mounted anew.
            self._servers.reboot(instance_id)

    # Networks

    def _of_network(self, own: _Own, may: May) -> Iterator[Finding]:
        expected = own.expected
        instance_id = expected.instance_id
        agent, database = self._names.agent(instance_id), self._names.database(instance_id)
        groups = {one.name: one for one in own.groups}
        for name, rules in self._networks.wanted(own.placement).items():
            if name not in groups:
                words = "A security group of the server was deleted in the cloud"
                told = Finding("security-group-missing", f"security group {name}", f"{words}.", instance_id)
                yield _repaired(told, lambda: self._keep(own), f"{words}: it was made anew.", may)
            elif let_in(groups[name]) != rules:
                words = "The rules on who may come near the server were changed in the cloud"
                told = Finding("security-group-rules", f"security group {name}", f"{words}.", instance_id)
                yield _repaired(told, lambda: self._keep(own), f"{words}: they were put right.", may)
        both = expected.agent == expected.database
        wanted = (
            [(agent, expected.agent, {agent, database})]
            if both
            else [(agent, expected.agent, {agent}), (database, expected.database, {database})]
        )
        for name, address, held in wanted:
            there = [one for one in own.ports if one.name == name]
            port = next((one for one in there if address in addresses_of(one)), None)
            if port is None:
                yield from self._of_address(own, name, address, there, may)
                continue
            if held <= groups.keys() and set(port.security_group_ids) != {groups[one].id for one in held}:
                words = (
                    "The server's port was taken out of its security groups in the cloud, or put into others"
                )
                told = Finding("port-security-groups", f"port {name}", f"{words}.", instance_id)
                yield _repaired(told, lambda: self._keep(own), f"{words}: that was put right.", may)
            yield from self._of_binding(own, name, port, may)
        yield from self._of_floating(own, agent if both else database, may)

    def _keep(self, own: _Own) -> None:
        self._networks.keep(own.placement, agent=own.expected.agent, database=own.expected.database)

    def _of_address(
        self, own: _Own, name: str, address: str, there: list[Any], may: May
    ) -> Iterator[Finding]:
        if there:
            found = ", ".join(addresses_of(there[0])) or "none"
            yield Finding(
                "port-address",
                f"port {name}",
                f"The server's address {address} was changed in the cloud, to {found}: an operator changes it back.",
                own.expected.instance_id,
            )
            return
        words = f"The port at {address} was deleted in the cloud"
        yield _repaired(
            Finding("port-missing", f"port {name}", f"{words}.", own.expected.instance_id),
            lambda: self._make_port(own, name),
            f"{words}: it was made anew at the same address.",
            may,
        )

    def _make_port(self, own: _Own, name: str) -> None:
        if own.server is not None and not own.can_be_attached_to:
            raise Unavailable("The server is busy in the cloud, or of no use.")
        self._keep(own)
        if own.server is not None:
            self._plug(own, name)

    def _of_binding(self, own: _Own, name: str, port: Any, may: May) -> Iterator[Finding]:
        """A server that is gone leaves its ports unbound, for the next one."""
        if own.server is None or port.device_id == own.server.id or own.server.status in {"BUILD", "ERROR"}:
            return
        words = f"The port at {', '.join(addresses_of(port))} was taken from the server in the cloud"
        told = Finding("port-detached", f"port {name}", f"{words}.", own.expected.instance_id)
        if port.device_id or not own.can_be_attached_to:
            yield told
            return
        yield _repaired(told, lambda: self._plug(own, name), f"{words}: it was attached again.", may)

    def _plug(self, own: _Own, name: str) -> None:
        instance_id = own.expected.instance_id

        def ask(cloud: Connection) -> None:
            (port,) = cloud.network.ports(name=name, description=self._names.description(instance_id))
            if not port.device_id:
                cloud.compute.create_server_interface(own.server.id, port_id=port.id)

        with self._cloud.held(instance_id):
            self._cloud.ask(Service.NOVA, ask)

    def _of_floating(self, own: _Own, name: str, may: May) -> Iterator[Finding]:
        instance_id = own.expected.instance_id
        if not own.placement.public:
            for one in own.floating:
                yield Finding(
                    "floating-ip-astray",
                    f"floating IP {one.floating_ip_address}",
                    f"The public address {one.floating_ip_address} leads to an instance that is not public: to set "
                    "is_public anew takes it away.",
                    instance_id,
                )
            return
        if not self._networks.gives_public:
            return
        if not own.floating:
            yield Finding(
                "floating-ip-missing",
                f"floating IP of port {name}",
                "The public address was released in the cloud: to set is_public anew gives it another one.",
                instance_id,
            )
            return
        port = next((one for one in own.ports if one.name == name), None)
        address = own.floating[0]
        if port is not None and address.port_id != port.id:
            words = f"The public address {address.floating_ip_address} did not lead to the server any more"
            yield _repaired(
                Finding(
                    "floating-ip-astray",
                    f"floating IP {address.floating_ip_address}",
                    f"{words}.",
                    instance_id,
                ),
                lambda: self._networks.point(address, port),
                f"{words}: that was put right.",
                may,
            )

    # What is of no instance

    def _of_nobody(self, listed: _Listed, known: set[str], may: May) -> Iterator[Finding]:
        def orphans(some: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
            return [(carries, one) for carries, one in some if carries not in known]

        servers = [(carries, one) for carries, one in orphans(listed.servers) if not _is_ending(one)]
        for carries, one in servers:
            yield _orphan("server", one.id, carries, "An operator decides: it may be in use.")
        for carries, one in orphans(listed.volumes):
            if one.status != "deleting":
                yield _orphan("volume", one.id, carries, "An operator decides: it may hold data.")
        of_servers = {one.id for _, one in servers}
        for carries, one in orphans(listed.held.floating):
            yield self._removed(
                _orphan("floating-ip", one.floating_ip_address, carries), one, not one.port_id, may
            )
        for carries, one in orphans(listed.held.ports):
            if one.device_id not in of_servers:
                yield self._removed(_orphan("port", one.id, carries), one, not one.device_id, may)
        for carries, one in orphans(listed.held.groups):
            if one.id not in listed.held.used:
                yield self._removed(_orphan("security-group", one.id, carries), one, True, may)

    def _removed(self, told: Finding, one: Any, unused: bool, may: May) -> Finding:
        if not unused:
            return replace(told, message=f"{told.message} It is in use: an operator decides.")
        if datetime.now(UTC) - _time(one.created_at) < UNUSED_FOR:
            return replace(
                told, message=f"{told.message} It is removed when nothing has used it for an hour."
            )
        return _repaired(
            told,
            lambda: self._cloud.ask(Service.NEUTRON, lambda cloud: _remove(cloud, told.kind, one)),
            f"{told.message} It was removed: nothing used it.",
            may,
        )


def _own(expected: Expectation, placement: Placement, listed: _Listed) -> _Own | None:
    """None while its server's end is under way: the next look tells."""

    def mine(some: list[tuple[str, Any]]) -> list[Any]:
        return sorted(
            (one for carries, one in some if carries == expected.instance_id),
            key=lambda one: (one.created_at or "", one.id),
        )

    servers = [one for one in mine(listed.servers) if one.status not in {"DELETED", "SOFT_DELETED"}]
    if any(_is_ending(one) for one in servers):
        return None
    volumes = mine(listed.volumes)
    attached_to = {to["server_id"] for one in volumes if one.id == expected.volume for to in one.attachments}
    servers.sort(key=lambda one: one.id not in attached_to)
    return _Own(
        expected,
        placement,
        servers,
        servers[0] if servers else None,
        volumes,
        mine(listed.held.ports),
        mine(listed.held.groups),
        mine(listed.held.floating),
    )


def _is_ending(server: Any) -> bool:
    return server.task_state in {"deleting", "soft-deleting"} or server.status == "DELETED"


def _orphan(kind: str, resource: str, carries: str, message: str = "") -> Finding:
    what = kind.replace("-", " ").replace("ip", "IP")
    words = f"A {what} of ours in the cloud belongs to instance {carries}, which there is not. {message}"
    return Finding(f"orphan-{kind}", f"{what} {resource}", words.strip(), carries=carries)


def _remove(cloud: Connection, kind: str, one: Any) -> None:
    """Looked at again first: it may have found a use."""
    network = cloud.network
    if kind == "orphan-port":
        if any(not there.device_id for there in network.ports(id=one.id)):
            network.delete_port(one)
    elif kind == "orphan-floating-ip":
        if any(not there.port_id for there in network.ips(id=one.id)):
            network.delete_ip(one)
    else:
        # Neutron keeps one that a port is in.
        network.delete_security_group(one)


def _repaired(told: Finding, repair: Callable[[], object], done: str, may: May) -> Finding:
    """What is left of a finding: repaired, or as it was with the reason."""
    if not may(told):
        return told
    try:
        repair()
    except ArgosyError as error:
        return replace(told, message=f"{told.message} It could not be put right: {error.sentence}")
    return replace(told, message=done, repaired=True)


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)
