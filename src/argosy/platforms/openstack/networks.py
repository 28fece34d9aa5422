"""What Neutron holds of an instance: ports, who may come near them, and an address that the world sees.

An agent is called by a port on the management network, a database by one on its tenant's. Where the two networks are the
same one port serves both. Each has a security group of its own that lets in nothing but what it is for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import ConflictException
from openstack.network.v2.security_group_rule import SecurityGroupRule

from argosy.domain.errors import PlatformError
from argosy.domain.guest import RPC_PORT
from argosy.platforms.base import Address, Addresses, Placement
from argosy.platforms.openstack.cloud import Cloud, Remembered, Service, foremost, sole
from argosy.platforms.openstack.names import Names

_ANYWHERE = ("0.0.0.0/0", "::/0")


@dataclass(frozen=True)
class Network:
    id: str
    name: str
    cidrs: tuple[str, ...]
    project_id: str


@dataclass(frozen=True)
class Ports:
    """Of one instance, by id; both the same where one serves both."""

    agent: str
    database: str

    @property
    def in_order(self) -> list[str]:
        """As the server gets them: what the tenant sees is its first interface."""
        return list(dict.fromkeys((self.database, self.agent)))


@dataclass(frozen=True)
class Held:
    """What there is of this installation, with whose each is; `used` are the groups that any port is in, by id."""

    ports: list[tuple[str, Any]]
    groups: list[tuple[str, Any]]
    floating: list[tuple[str, Any]]
    used: frozenset[str]


class Networks:
    """`management` and `network` are given by id or name; `control` are the CIDRs that agents are called from."""

    def __init__(
        self,
        cloud: Cloud,
        names: Names,
        *,
        management: str,
        network: str | None = None,
        control: Sequence[IPv4Network | IPv6Network] = (),
        floating: str | None = None,
        shared: Sequence[str] | None = None,
    ) -> None:
        """`shared` are those that any user may name besides his project's own; None where projects are not the cloud's."""
        self._cloud = cloud
        self._names = names
        self._management = management
        self._network = network
        self._control = [str(one) for one in control]
        self._floating = floating
        self._shared = shared
        self._known: dict[str, Remembered[Network]] = {}

    def reserve(self, placement: Placement) -> tuple[Ports, Addresses]:
        """Make what is missing of ports and groups, and set right what is there. The same addresses on a second call."""
        with self._cloud.held(placement.instance_id):
            return self._cloud.ask(Service.NEUTRON, lambda cloud: self._reserve(cloud, placement))

    def keep(self, placement: Placement, *, agent: str, database: str) -> Ports:
        """Make what is missing of ports and groups, and set right what is there, at the addresses it had.

        Raises PlatformError when another has taken one of them.
        """
        with self._cloud.held(placement.instance_id):
            return self._cloud.ask(
                Service.NEUTRON, lambda cloud: self._keep(cloud, placement, agent, database)
            )

    def point(self, floating_ip: Any, port: Any) -> None:
        """Have a public address lead to a port."""
        self._cloud.ask(
            Service.NEUTRON,
            lambda cloud: cloud.network.update_ip(
                floating_ip, port_id=port.id, fixed_ip_address=_addresses(port)[0]
            ),
        )

    def address(self, instance_id: str) -> str | None:
        """Where the agent is called; None when there is no port."""
        found = self._cloud.ask(
            Service.NEUTRON, lambda cloud: self._ports(cloud, instance_id, self._names.agent(instance_id))
        )
        port = foremost(found, keep=_is_used)
        return None if port is None else _addresses(port)[0]

    def delete(self, instance_id: str) -> None:
        """What is bound to a server cannot be removed yet: Unavailable, to be asked again."""
        with self._cloud.held(instance_id):
            self._cloud.ask(Service.NEUTRON, lambda cloud: self._delete(cloud, instance_id))

    def instance_ids(self) -> set[str]:
        """Of which there is anything."""
        held = self.all()
        return {instance_id for instance_id, _ in (*held.ports, *held.groups, *held.floating)}

    def all(self) -> Held:
        return self._cloud.ask(Service.NEUTRON, self._all)

    def _all(self, cloud: Connection) -> Held:
        ports = list(cloud.network.ports(project_id=cloud.current_project_id))
        groups = cloud.network.security_groups(project_id=cloud.current_project_id)
        return Held(
            self._owned(ports),
            self._owned(groups),
            self._owned(self._all_floating(cloud)),
            frozenset(group for port in ports for group in port.security_group_ids),
        )

    def _owned(self, some: Iterable[Any]) -> list[tuple[str, Any]]:
        return [(instance_id, one) for one in some if (instance_id := self.owner(one)) is not None]

    def owner(self, one: Any) -> str | None:
        return self._names.instance(tags=one.tags, description=one.description or "")

    def find_network(self, name: str) -> Network:
        """By id or name. Raises PlatformError when there is none, or more than one."""
        known = self._known.setdefault(name, Remembered(lambda: self._look_up(name), for_s=300))
        return known.get()

    def _look_up(self, name: str) -> Network:
        found = self._cloud.ask(Service.NEUTRON, lambda cloud: self._networks(cloud, name))
        if not found:
            raise _no_network(name)
        if len(found) > 1:
            raise PlatformError(
                f"Cloud {self._cloud.name} has {len(found)} networks named {name}: give the id of one."
            )
        return found[0]

    @staticmethod
    def _networks(cloud: Connection, name: str) -> list[Network]:
        found = list(cloud.network.networks(id=name)) or list(cloud.network.networks(name=name))
        return [
            Network(
                one.id,
                one.name,
                tuple(subnet.cidr for subnet in cloud.network.subnets(network_id=one.id)),
                str(one.project_id),
            )
            for one in found
        ]

    def _check_may_use(self, network: Network, placement: Placement) -> None:
        """Our account may put ports on networks of others, so whose network a user names is looked at here."""
        if placement.network is None or self._shared is None or network.project_id == placement.project:
            return
        default = self._network or self._management
        if network.id not in {self.find_network(one).id for one in (default, *self._shared)}:
            raise _no_network(placement.network)

    def _reserve(self, cloud: Connection, placement: Placement) -> tuple[Ports, Addresses]:
        instance_id = placement.instance_id
        management = self.find_network(self._management)
        agent_group, database_group = (
            self._group(cloud, instance_id, name, rules) for name, rules in self.wanted(placement).items()
        )
        agent = sole(
            self._ports(cloud, instance_id, self._names.agent(instance_id)),
            cloud.network.delete_port,
            keep=_is_used,
        )
        tenant = self.find_network(placement.network or self._network or self._management)
        # What there is says whether one port is both: the settings may have changed since.
        both = tenant.id == management.id if agent is None else database_group in agent.security_group_ids
        if agent is None:
            self._check_may_use(tenant, placement)
            agent = self._make_port(
                cloud,
                instance_id,
                self._names.agent(instance_id),
                management,
                [agent_group, database_group] if both else [agent_group],
                self._fixed(placement) if both else [],
            )
        agent = self._put_right(
            cloud, agent, instance_id, [agent_group, database_group] if both else [agent_group]
        )
        database = agent
        if not both:
            database = sole(
                self._ports(cloud, instance_id, self._names.database(instance_id)),
                cloud.network.delete_port,
                keep=_is_used,
            )
            if database is None:
                self._check_may_use(tenant, placement)
                database = self._make_port(
                    cloud,
                    instance_id,
                    self._names.database(instance_id),
                    tenant,
                    [database_group],
                    self._fixed(placement),
                )
            database = self._put_right(cloud, database, instance_id, [database_group])
        shown = [Address(one, self.find_network(database.network_id).name) for one in _addresses(database)]
        public = self._floating_ip(cloud, instance_id, database, wanted=placement.public)
        if public is not None:
            shown.append(Address(public, self.find_network(self._floating or "").name, public=True))
        return (
            Ports(agent.id, database.id),
            Addresses(agent=_addresses(agent)[0], database=_addresses(database)[0], shown=tuple(shown)),
        )

    def wanted(self, placement: Placement) -> dict[str, set[tuple[int, str]]]:
        """What the security groups of an instance let in, by their names: ports and CIDRs."""
        control = self._control or self.find_network(self._management).cidrs
        return {
            self._names.agent(placement.instance_id): _rules(RPC_PORT, control),
            self._names.database(placement.instance_id): _rules(
                placement.port, placement.networks or _ANYWHERE
            ),
        }

    @property
    def gives_public(self) -> bool:
        """Whether there are public addresses to be had."""
        return self._floating is not None

    def _keep(self, cloud: Connection, placement: Placement, agent: str, database: str) -> Ports:
        instance_id, both = placement.instance_id, agent == database
        groups = {
            name: self._group(cloud, instance_id, name, rules)
            for name, rules in self.wanted(placement).items()
        }
        ports: dict[str, str] = {}
        for name, address, network in (
            (self._names.agent(instance_id), agent, self._management),
            (self._names.database(instance_id), database, placement.network or self._network),
        ):
            if both and ports:
                break
            held = list(groups.values()) if both else [groups[name]]
            port = sole(self._ports(cloud, instance_id, name), cloud.network.delete_port, keep=_is_used)
            if port is None:
                there = self.find_network(network or self._management)
                port = self._make_port(cloud, instance_id, name, there, held, [{"ip_address": address}])
            ports[name] = self._put_right(cloud, port, instance_id, held).id
        made = list(ports.values())
        return Ports(made[0], made[-1])

    @staticmethod
    def _fixed(placement: Placement) -> list[dict[str, str]]:
        asked = {"subnet_id": placement.subnet, "ip_address": placement.ip_address}
        given = {key: value for key, value in asked.items() if value is not None}
        return [given] if given else []

    def _ports(self, cloud: Connection, instance_id: str, name: str) -> list[Any]:
        """By the description, which a port has from its first moment on."""
        return list(
            cloud.network.ports(
                project_id=cloud.current_project_id,
                name=name,
                description=self._names.description(instance_id),
            )
        )

    def _make_port(
        self,
        cloud: Connection,
        instance_id: str,
        name: str,
        network: Network,
        groups: list[str],
        fixed: list[dict[str, str]],
    ) -> Any:
        cloud.network.create_port(
            name=name,
            description=self._names.description(instance_id),
            network_id=network.id,
            security_groups=groups,
            **({"fixed_ips": fixed} if fixed else {}),
        )
        # Another process may have made one at the same moment.
        return sole(self._ports(cloud, instance_id, name), cloud.network.delete_port, keep=_is_used)

    def _put_right(self, cloud: Connection, port: Any, instance_id: str, groups: list[str]) -> Any:
        self._tag(cloud, port, instance_id)
        if set(port.security_group_ids) != set(groups):
            return cloud.network.update_port(port, security_groups=groups)
        return port

    def _group(self, cloud: Connection, instance_id: str, name: str, wanted: set[tuple[int, str]]) -> str:
        """The id of a security group that lets TCP in to these ports from these networks, and nothing else."""
        found = self._groups(cloud, instance_id, name)
        if not found:
            cloud.network.create_security_group(name=name, description=self._names.description(instance_id))
            found = self._groups(cloud, instance_id, name)
        group = sole(found, lambda one: _remove_group(cloud, one))
        self._tag(cloud, group, instance_id)
        rules = list(cloud.network.security_group_rules(security_group_id=group.id, direction="ingress"))
        for missing in wanted - {_what(rule) for rule in rules}:
            _let_in(cloud, group.id, *missing)
        # Last, so that nobody who may come is cut off meanwhile.
        for rule in rules:
            if _what(rule) not in wanted:
                cloud.network.delete_security_group_rule(rule)
        return str(group.id)

    def _groups(self, cloud: Connection, instance_id: str, name: str) -> list[Any]:
        return list(
            cloud.network.security_groups(
                project_id=cloud.current_project_id,
                name=name,
                description=self._names.description(instance_id),
            )
        )

    def _floating_ip(self, cloud: Connection, instance_id: str, port: Any, *, wanted: bool) -> str | None:
        if self._floating is None:
            return None
        found = self._floating_of(cloud, instance_id)
        if not wanted:
            for one in found:
                cloud.network.delete_ip(one)
            return None
        if not found:
            cloud.network.create_ip(
                floating_network_id=self.find_network(self._floating).id,
                port_id=port.id,
                fixed_ip_address=_addresses(port)[0],
                description=self._names.description(instance_id),
            )
            found = self._floating_of(cloud, instance_id)
        address = sole(found, cloud.network.delete_ip)
        self._tag(cloud, address, instance_id)
        if address.port_id != port.id:
            cloud.network.update_ip(address, port_id=port.id, fixed_ip_address=_addresses(port)[0])
        return str(address.floating_ip_address)

    def _floating_of(self, cloud: Connection, instance_id: str) -> list[Any]:
        return [one for one in self._all_floating(cloud) if self.owner(one) == instance_id]

    @staticmethod
    def _all_floating(cloud: Connection) -> list[Any]:
        """None in a cloud without routers, whose Neutron does not know the word."""
        if cloud.network.find_extension("router") is None:
            return []
        return list(cloud.network.ips(project_id=cloud.current_project_id))

    def _tag(self, cloud: Connection, one: Any, instance_id: str) -> None:
        missing = set(self._names.tags(instance_id)) - set(one.tags or ())
        if missing:
            cloud.network.set_tags(one, sorted(set(one.tags or ()) | missing))

    def _delete(self, cloud: Connection, instance_id: str) -> None:
        for address in self._floating_of(cloud, instance_id):
            cloud.network.delete_ip(address)
        for port in cloud.network.ports(project_id=cloud.current_project_id):
            if self.owner(port) == instance_id:
                cloud.network.delete_port(port)
        for group in cloud.network.security_groups(project_id=cloud.current_project_id):
            if self.owner(group) == instance_id:
                cloud.network.delete_security_group(group)


def _no_network(name: str) -> PlatformError:
    return PlatformError(
        f"Network {name} cannot be found, or is not for this project, or not shared with the one that Argosy uses."
    )


def _is_used(port: Any) -> bool:
    return bool(port.device_id)


def _addresses(port: Any) -> list[str]:
    """IPv4 first, as it is what engines listen on where there is a choice."""
    found = [str(one["ip_address"]) for one in port.fixed_ips]
    if not found:
        raise PlatformError(f"Port {port.id} has no address: its network has no subnet.")
    return sorted(found, key=lambda one: ip_address(one).version)


def addresses_of(port: Any) -> list[str]:
    return [str(one["ip_address"]) for one in port.fixed_ips]


def let_in(group: Any) -> set[tuple[int, str] | None]:
    """What a security group lets in, by the rules that were listed with it; None is anything but a rule of ours."""
    rules = (SecurityGroupRule.existing(**one) for one in group.security_group_rules)
    return {_what(rule) for rule in rules if rule.direction == "ingress"}


def _rules(port: int, networks: Iterable[str]) -> set[tuple[int, str]]:
    return {(port, str(ip_network(one, strict=False))) for one in networks}


def _what(rule: Any) -> tuple[int, str] | None:
    """What a rule of ours lets in; None for any other."""
    if rule.protocol != "tcp" or rule.port_range_min != rule.port_range_max or rule.remote_group_id:
        return None
    anywhere = _ANYWHERE[rule.ether_type == "IPv6"]
    return int(rule.port_range_min or 0), str(rule.remote_ip_prefix or anywhere)


def _let_in(cloud: Connection, group_id: str, port: int, network: str) -> None:
    try:
        cloud.network.create_security_group_rule(
            security_group_id=group_id,
            direction="ingress",
            ether_type=f"IPv{ip_network(network).version}",
            protocol="tcp",
            port_range_min=port,
            port_range_max=port,
            remote_ip_prefix=network,
        )
    except ConflictException as error:
        # It is there already: by another process, or by a request whose answer was lost.
        if "already exists" not in str(error.details):
            raise


def _remove_group(cloud: Connection, group: Any) -> None:
    try:
        cloud.network.delete_security_group(group)
    except ConflictException:
        return  # a port that is there twice has it: both go with the instance at the latest
