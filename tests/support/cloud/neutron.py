"""Neutron v2.0: networks with addresses to give away, ports, security groups, routers, floating IPs, tags, quotas."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_network
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.support.cloud.wire import Body, Call, Caller, Refused, Service, has_tags, new_id, now, page

COLLECTIONS = {
    "networks": "network",
    "subnets": "subnet",
    "ports": "port",
    "security-groups": "security_group",
    "security-group-rules": "security_group_rule",
    "routers": "router",
    "floatingips": "floatingip",
}
# What may be given at creation, beside a name, a description and an owner.
WRITABLE = {
    "port": {
        "network_id",
        "fixed_ips",
        "mac_address",
        "admin_state_up",
        "device_id",
        "device_owner",
        "security_groups",
        "port_security_enabled",
        "allowed_address_pairs",
        "extra_dhcp_opts",
        "binding:host_id",
        "binding:profile",
        "binding:vnic_type",
        "tags",  # accepted and not stored, unlike everywhere else, where it is refused
    },
    "security_group": {"stateful"},
    "security_group_rule": {
        "security_group_id",
        "direction",
        "ethertype",
        "protocol",
        "port_range_min",
        "port_range_max",
        "remote_ip_prefix",
        "remote_group_id",
        "remote_address_group_id",
    },
    "floatingip": {"floating_network_id", "port_id", "fixed_ip_address", "floating_ip_address", "subnet_id"},
    "network": {"admin_state_up", "shared", "router:external", "port_security_enabled", "mtu"},
    "subnet": {
        "network_id",
        "ip_version",
        "cidr",
        "gateway_ip",
        "allocation_pools",
        "enable_dhcp",
        "dns_nameservers",
        "host_routes",
    },
    "router": {"admin_state_up", "external_gateway_info"},
}
_MISSING = {
    "network": ("NetworkNotFound", "Network {} could not be found."),
    "subnet": ("SubnetNotFound", "Subnet {} could not be found."),
    "port": ("PortNotFound", "Port {} could not be found."),
    "security_group": ("SecurityGroupNotFound", "Security group {} does not exist"),
    "security_group_rule": ("SecurityGroupRuleNotFound", "Security group rule {} does not exist"),
    "router": ("RouterNotFound", "Router {} could not be found"),
    "floatingip": ("FloatingIPNotFound", "Floating IP {} could not be found"),
}
_QUOTAS = {
    "network": 100,
    "subnet": 100,
    "subnetpool": -1,
    "port": 500,
    "rbac_policy": 10,
    "security_group": 200,
    "security_group_rule": 2000,
}
_LAYER_3 = {"router": 10, "floatingip": 50}
_PAGING = {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}
_TAGS = {"tags", "tags-any", "not-tags", "not-tags-any"}
_EXTENSIONS = (
    "agent",
    "allowed-address-pairs",
    "availability_zone",
    "binding",
    "external-net",
    "filter-validation",
    "pagination",
    "port-security",
    "project-id",
    "provider",
    "quota_details",
    "quotas",
    "security-group",
    "sorting",
    "standard-attr-description",
    "standard-attr-revisions",
    "standard-attr-tag",
    "standard-attr-timestamp",
    "stateful-security-group",
)


def _mac() -> str:
    return "fa:16:3e:" + secrets.token_bytes(3).hex(":")


@dataclass
class Neutron(Service):
    path: str = "/network"
    layer_3: bool = True
    on_change: Callable[[], None] = lambda: None
    stored: dict[str, dict[str, Body]] = field(
        default_factory=lambda: {one: {} for one in COLLECTIONS.values()}
    )
    quotas: dict[str, dict[str, int]] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.serve("GET /", self.versions, open_to_all=True)
        self.serve("GET /v2.0/", self.resources)
        self.serve("GET /v2.0/extensions", self.extensions)
        self.serve("GET /v2.0/extensions/{alias}", self.show_extension)
        self.serve("GET /v2.0/availability_zones", self.zones)
        self.serve("GET /v2.0/quotas/{project}", self.show_quota)
        self.serve("GET /v2.0/quotas/{project}/details", self.quota_details)
        self.serve("GET /v2.0/quotas/{project}/details.json", self.quota_details)
        self.serve("PUT /v2.0/quotas/{project}", self.set_quota)
        self.serve("DELETE /v2.0/quotas/{project}", self.reset_quota)
        self.serve("PUT /v2.0/routers/{id}/add_router_interface", self.add_interface)
        self.serve("PUT /v2.0/routers/{id}/remove_router_interface", self.remove_interface)
        self.serve("GET /v2.0/{collection}", self.listing)
        self.serve("POST /v2.0/{collection}", self.create)
        self.serve("GET /v2.0/{collection}/{id}", self.show)
        self.serve("PUT /v2.0/{collection}/{id}", self.update)
        self.serve("DELETE /v2.0/{collection}/{id}", self.delete)
        self.serve("GET /v2.0/{collection}/{id}/tags", self.show_tags)
        self.serve("PUT /v2.0/{collection}/{id}/tags", self.set_tags)
        self.serve("DELETE /v2.0/{collection}/{id}/tags", self.remove_tags)
        self.serve("GET /v2.0/{collection}/{id}/tags/{tag}", self.has_tag)
        self.serve("PUT /v2.0/{collection}/{id}/tags/{tag}", self.add_tag)
        self.serve("DELETE /v2.0/{collection}/{id}/tags/{tag}", self.remove_tag)

    def finish(self, call: Call, answer: Response) -> Response:
        if call.request.method != "GET":
            self.on_change()
        return answer

    def refusal(self, refused: Refused) -> Response:
        kind = refused.type or ("HTTPNotFound" if refused.status == 404 else "HTTPBadRequest")
        error = {"type": kind, "message": refused.message, "detail": ""}
        return JSONResponse({"NeutronError": error}, refused.status, refused.headers)

    # What the operator made beforehand

    def add_network(
        self,
        name: str,
        cidr: IPv4Network,
        owner: str,
        *,
        shared: bool = False,
        external: bool = False,
        first: int = 1,
        gateway: str | None = None,
    ) -> str:
        """A network with one subnet, whose addresses from the `first` on are given away; its id."""
        hosts = list(cidr.hosts())
        network_id, subnet_id = new_id(), new_id()
        self.stored["network"][network_id] = {
            "id": network_id,
            "name": name,
            "tenant_id": owner,
            "admin_state_up": True,
            "mtu": 1500,
            "status": "ACTIVE",
            "subnets": [subnet_id],
            "shared": shared,
            "availability_zone_hints": [],
            "availability_zones": ["nova"],
            "ipv4_address_scope": None,
            "ipv6_address_scope": None,
            "router:external": external,
            **({"is_default": False} if external else {}),
            "description": "",
            "port_security_enabled": True,
            **self._dated(owner),
        }
        self.stored["subnet"][subnet_id] = {
            "id": subnet_id,
            "name": f"{name}-v4",
            "tenant_id": owner,
            "network_id": network_id,
            "ip_version": 4,
            "subnetpool_id": None,
            "enable_dhcp": True,
            "ipv6_ra_mode": None,
            "ipv6_address_mode": None,
            "gateway_ip": gateway,
            "cidr": str(cidr),
            "allocation_pools": [{"start": str(hosts[first - 1]), "end": str(hosts[-1])}],
            "host_routes": [],
            "dns_nameservers": [],
            "description": "",
            "service_types": [],
            **self._dated(owner),
        }
        return network_id

    def add_router(self, name: str, external_id: str, owner: str, *inside: str) -> str:
        """A router from an external network to networks `inside`; its id."""
        router = self._make_router(
            {"name": name, "external_gateway_info": {"network_id": external_id}},
            Caller("", "", owner, frozenset({"admin"})),
        )
        for network_id in inside:
            self._plug(router, self.stored["network"][network_id]["subnets"][0])
        return str(router["id"])

    def network_id(self, name: str) -> str:
        return str(next(one["id"] for one in self.stored["network"].values() if one["name"] == name))

    # Versions and the like

    def versions(self, call: Call) -> Response:
        links = [{"rel": "self", "href": f"{call.base}{self.path}/v2.0/"}]
        return JSONResponse({"versions": [{"id": "v2.0", "status": "CURRENT", "links": links}]})

    def resources(self, call: Call) -> Response:
        return JSONResponse(
            {
                "resources": [
                    {
                        "name": one[:-1],
                        "collection": one,
                        "links": [{"rel": "self", "href": f"{call.base}{self.path}/v2.0/{one}"}],
                    }
                    for one in ("networks", "subnets", "ports")
                ]
            }
        )

    def _extensions(self) -> dict[str, Body]:
        have = [*_EXTENSIONS, *(["router"] if self.layer_3 else [])]
        plain = {"description": "", "updated": "2015-01-01T10:00:00-00:00", "links": []}
        return {one: {"name": one, "alias": one, **plain} for one in have}

    def extensions(self, call: Call) -> Response:
        return JSONResponse({"extensions": list(self._extensions().values())})

    def show_extension(self, call: Call) -> Response:
        alias = call.part("alias")
        if alias not in self._extensions():
            raise Refused(404, f"Extension with alias {alias} does not exist")
        return JSONResponse({"extension": self._extensions()[alias]})

    def zones(self, call: Call) -> Response:
        kinds = ["network", *(["router"] if self.layer_3 else [])]
        zones = [{"state": "available", "name": "nova", "resource": kind} for kind in kinds]
        return JSONResponse({"availability_zones": zones})

    # Quotas

    def limits(self, project_id: str) -> dict[str, int]:
        return {**_QUOTAS, **(_LAYER_3 if self.layer_3 else {}), **self.quotas.get(project_id, {})}

    def used(self, project_id: str, kind: str) -> int:
        return sum(one["project_id"] == project_id for one in self.stored.get(kind, {}).values())

    def _reserve(self, project_id: str, kind: str, count: int = 1) -> None:
        limit = self.limits(project_id).get(kind, -1)
        if 0 <= limit < self.used(project_id, kind) + count:
            raise Refused(409, f"Quota exceeded for resources: ['{kind}'].", "OverQuota")

    def show_quota(self, call: Call) -> Response:
        return JSONResponse({"quota": self.limits(call.part("project"))})

    def quota_details(self, call: Call) -> Response:
        project_id = call.part("project")
        return JSONResponse(
            {
                "quota": {
                    kind: {"limit": limit, "used": self.used(project_id, kind), "reserved": 0}
                    for kind, limit in self.limits(project_id).items()
                }
            }
        )

    def set_quota(self, call: Call) -> Response:
        self._admin_only(call)
        self.quotas.setdefault(call.part("project"), {}).update(call.body["quota"])
        return self.show_quota(call)

    def reset_quota(self, call: Call) -> Response:
        self._admin_only(call)
        self.quotas.pop(call.part("project"), None)
        return Response(status_code=204)

    def _admin_only(self, call: Call) -> None:
        if not call.caller.is_admin:
            raise Refused(403, "rule:admin_only is disallowed by policy", "PolicyNotAuthorized")

    # Any kind of resource

    def _kind(self, call: Call) -> str:
        kind = COLLECTIONS.get(call.part("collection"))
        if kind is None or (kind in _LAYER_3 and not self.layer_3):
            raise Refused(404, "The resource could not be found.")
        return kind

    def _owned(self, kind: str, caller: Caller) -> list[Body]:
        """An administrator's lists hold what all projects have; whose a network is sees everybody's ports on it."""
        networks = self.stored["network"]
        if caller.project_id:
            self._default_group(caller.project_id)
        return [
            one
            for one in self.stored[kind].values()
            if caller.is_admin
            or one["project_id"] == caller.project_id
            or one.get("shared")
            or one.get("router:external")
            or (kind == "subnet" and networks[one["network_id"]]["shared"])
            or (kind == "port" and networks[one["network_id"]]["project_id"] == caller.project_id)
        ]

    def get(self, kind: str, id_: str, caller: Caller | None = None) -> Body:
        found = self.stored[kind].get(id_)
        if found is None or (caller and found not in self._owned(kind, caller)):
            name, sentence = _MISSING[kind]
            raise Refused(404, sentence.format(id_), name)
        return found

    def listing(self, call: Call) -> Response:
        kind = self._kind(call)
        found = [one for one in self._owned(kind, call.caller) if self._matches(kind, one, call)]
        for key, direction in zip(call.asked("sort_key"), call.asked("sort_dir") or ["asc"], strict=False):
            found.sort(key=lambda one: str(one.get(key) or ""), reverse=direction == "desc")
        marker = call.query("marker")
        if marker and marker not in self.stored[kind]:
            name, sentence = _MISSING[kind]
            raise Refused(404, sentence.format(marker), name)
        shown, rest = page(found, call)
        plural = call.part("collection").replace("-", "_")
        answer: Body = {plural: [self._fields(self._shown(kind, one), call) for one in shown]}
        if rest:
            address = f"{call.base}{self.path}/v2.0/{call.part('collection')}?{rest}"
            answer[f"{plural}_links"] = [{"rel": "next", "href": address}]
        return JSONResponse(answer)

    def _matches(self, kind: str, one: Body, call: Call) -> bool:
        names = {name for name, _ in call.pairs} - _PAGING - _TAGS
        unknown = sorted(names - set(one) - {"tenant_id", "fixed_ips"})
        if unknown:
            raise Refused(400, f"{unknown} is invalid attribute for filtering")
        for name in names:
            wanted = call.asked(name)
            if name == "fixed_ips":
                have = [f"{key}={value}" for ip in one[name] for key, value in ip.items()]
                if not all(value in have for value in wanted):
                    return False
            elif isinstance(one[name], list):
                if not set(wanted) <= {str(value) for value in one[name]}:
                    return False
            elif str(one[name]).lower() not in {value.lower() for value in wanted}:
                return False
        return has_tags(one["tags"], call)

    def _fields(self, shown: Body, call: Call) -> Body:
        wanted = call.asked("fields")
        return {name: value for name, value in shown.items() if name in wanted} if wanted else shown

    def _shown(self, kind: str, one: Any) -> Body:
        shown = dict(one)
        if kind == "security_group_rule":
            del shown["tags"]  # shown with their group's alone
        if kind == "security_group":
            shown["security_group_rules"] = self.rules_of(one["id"])
        if kind == "floatingip" and one["port_id"]:
            port = self.stored["port"][one["port_id"]]
            names = (
                "name",
                "network_id",
                "mac_address",
                "admin_state_up",
                "status",
                "device_id",
                "device_owner",
            )
            shown["port_details"] = {name: port[name] for name in names}
        return shown

    def rules_of(self, group_id: str) -> list[Body]:
        return [
            one for one in self.stored["security_group_rule"].values() if one["security_group_id"] == group_id
        ]

    def show(self, call: Call) -> Response:
        kind = self._kind(call)
        found = self._shown(kind, self.get(kind, call.part("id"), call.caller))
        return JSONResponse({kind: self._fields(found, call)})

    def create(self, call: Call) -> Response:
        kind = self._kind(call)
        plural = call.part("collection").replace("-", "_")
        asked = call.body.get(plural) if isinstance(call.body, dict) else None
        if asked is not None:
            before = {name: dict(have) for name, have in self.stored.items()}
            try:
                made = [self._create(kind, one, call) for one in asked]
            except Refused:
                self.stored = before  # all of a bulk request or nothing
                raise
            return JSONResponse({plural: [self._shown(kind, one) for one in made]}, 201)
        if not isinstance(call.body, dict) or kind not in call.body:
            raise Refused(400, f"Unable to find '{kind}' in request body")
        return JSONResponse({kind: self._shown(kind, self._create(kind, call.body[kind], call))}, 201)

    def _create(self, kind: str, asked: Body, call: Call) -> Body:
        unknown = sorted(set(asked) - WRITABLE[kind] - {"name", "description", "project_id", "tenant_id"})
        if "tags" in unknown:
            raise Refused(400, "Attribute 'tags' not allowed in POST")
        if unknown:
            raise Refused(400, f"Unrecognized attribute(s) '{', '.join(unknown)}'")
        owner = asked.get("project_id") or asked.get("tenant_id") or call.caller.project_id
        if owner != call.caller.project_id and not call.caller.is_admin:
            raise Refused(403, f"rule:create_{kind} is disallowed by policy", "PolicyNotAuthorized")
        caller = Caller(call.caller.token, call.caller.user_id, owner, call.caller.roles)
        self._reserve(owner, kind)
        makers = {
            "port": self.make_port,
            "security_group": self._make_group,
            "security_group_rule": self._make_rule,
            "floatingip": self._make_floating_ip,
            "router": self._make_router,
            "network": self._make_network,
            "subnet": self._make_subnet,
        }
        return makers[kind](asked, caller)

    def update(self, call: Call) -> Response:
        kind = self._kind(call)
        one = self.get(kind, call.part("id"), call.caller)
        asked = dict(call.body[kind])
        if kind == "security_group_rule":
            raise Refused(400, "Cannot update attribute")
        if kind == "port":
            if "fixed_ips" in asked:
                asked["fixed_ips"] = self._addresses(
                    one["network_id"], asked["fixed_ips"], except_for=one["id"]
                )
            for group_id in asked.get("security_groups") or []:
                self.get("security_group", group_id, call.caller)
        if kind == "floatingip":
            self._associate(one, asked.get("port_id"))
            asked.pop("port_id", None)
        unknown = sorted(set(asked) - set(one))
        if unknown:
            raise Refused(400, f"Unrecognized attribute(s) '{', '.join(unknown)}'")
        one.update(asked)
        self._touch(one)
        return JSONResponse({kind: self._shown(kind, one)})

    def delete(self, call: Call) -> Response:
        kind = self._kind(call)
        one = self.get(kind, call.part("id"), call.caller)
        self._check_free(kind, one)
        self.remove(kind, one["id"])
        return Response(status_code=204)

    def _check_free(self, kind: str, one: Body) -> None:
        id_ = one["id"]
        ports = self.stored["port"].values()
        if kind == "security_group":
            if one["name"] == "default":
                raise Refused(
                    409,
                    "Insufficient rights for removing default security group.",
                    "SecurityGroupCannotRemoveDefault",
                )
            if any(id_ in port["security_groups"] for port in ports):
                raise Refused(409, f"Security Group {id_} in use.", "SecurityGroupInUse")
        if kind == "port" and one["device_owner"].startswith("network:router"):
            owner = one["device_owner"]
            raise Refused(
                409,
                f"Port {id_} cannot be deleted directly via the port API: has device owner {owner}.",
                "ServicePortInUse",
            )
        if kind in {"network", "subnet"} and any(
            id_ in (port["network_id"], *(ip["subnet_id"] for ip in port["fixed_ips"])) for port in ports
        ):
            raise Refused(
                409,
                f"Unable to complete operation on {kind} {id_}. There are one or more ports still in use on the {kind}.",
                f"{kind.capitalize()}InUse",
            )

    def remove(self, kind: str, id_: str) -> None:
        """Take it away with what hangs on it, whoever uses it."""
        self.stored[kind].pop(id_, None)
        if kind == "security_group":
            for rule in self.rules_of(id_):
                del self.stored["security_group_rule"][rule["id"]]
        if kind == "port":
            for floating in self.stored["floatingip"].values():
                if floating["port_id"] == id_:
                    self._associate(floating, None)

    def _dated(self, owner: str) -> Body:
        moment = now()
        return {
            "tags": [],
            "created_at": moment,
            "updated_at": moment,
            "revision_number": 1,
            "project_id": owner,
        }

    def _touch(self, one: Body) -> None:
        one["updated_at"] = now()
        one["revision_number"] += 1

    # Tags

    def show_tags(self, call: Call) -> Response:
        return JSONResponse({"tags": sorted(self._tagged(call)["tags"])})

    def _tagged(self, call: Call) -> Body:
        return self.get(self._kind(call), call.part("id"), call.caller)

    def set_tags(self, call: Call) -> Response:
        tags = call.body["tags"]
        for tag in tags:
            if len(tag) > 255:
                raise Refused(
                    400,
                    f"Invalid input for operation: '{tag}' exceeds maximum length of 255.",
                    "InvalidInput",
                )
        one = self._tagged(call)
        one["tags"] = list(dict.fromkeys(tags))
        self._touch(one)
        return JSONResponse({"tags": tags})

    def remove_tags(self, call: Call) -> Response:
        self._tagged(call)["tags"] = []
        return Response(status_code=204)

    def has_tag(self, call: Call) -> Response:
        if call.part("tag") not in self._tagged(call)["tags"]:
            raise Refused(404, f"Tag {call.part('tag')} could not be found.", "TagNotFound")
        return Response(status_code=204)

    def add_tag(self, call: Call) -> Response:
        one = self._tagged(call)
        if call.part("tag") not in one["tags"]:
            one["tags"].append(call.part("tag"))
        return JSONResponse(None, 201)

    def remove_tag(self, call: Call) -> Response:
        self.has_tag(call)
        self._tagged(call)["tags"].remove(call.part("tag"))
        return Response(status_code=204)

    # Networks

    def _make_network(self, asked: Body, caller: Caller) -> Body:
        network_id = self.add_network(asked.get("name", ""), IPv4Network("192.0.2.0/30"), caller.project_id)
        network = self.stored["network"][network_id]
        del self.stored["subnet"][network["subnets"].pop()]
        network.update({key: value for key, value in asked.items() if key in network})
        return network

    def _make_subnet(self, asked: Body, caller: Caller) -> Body:
        network = self.get("network", asked["network_id"], caller)
        made = self.add_network(asked.get("name", ""), IPv4Network(asked["cidr"]), caller.project_id)
        subnet = self.stored["subnet"][self.stored["network"].pop(made)["subnets"][0]]
        subnet.update({key: value for key, value in asked.items() if key in subnet})
        network["subnets"].append(subnet["id"])
        return subnet

    # Ports

    def make_port(self, asked: Body, caller: Caller) -> Body:
        network = self.get("network", asked.get("network_id", ""), caller)
        groups = asked.get("security_groups")
        for group_id in groups or []:
            self.get("security_group", group_id, caller)
        if groups is None:
            groups = [self._default_group(caller.project_id)["id"]]
        port = {
            "id": new_id(),
            "name": asked.get("name", ""),
            "network_id": network["id"],
            "tenant_id": caller.project_id,
            "mac_address": asked.get("mac_address") or _mac(),
            "admin_state_up": asked.get("admin_state_up", True),
            "status": "DOWN",
            "device_id": asked.get("device_id", ""),
            "device_owner": asked.get("device_owner", ""),
            "fixed_ips": self._addresses(network["id"], asked.get("fixed_ips")),
            "allowed_address_pairs": asked.get("allowed_address_pairs", []),
            "extra_dhcp_opts": [],
            "security_groups": groups,
            "description": asked.get("description", ""),
            "binding:vnic_type": "normal",
            "binding:profile": {},
            "binding:host_id": "",
            "binding:vif_type": "unbound",
            "binding:vif_details": {},
            "port_security_enabled": asked.get("port_security_enabled", True),
            **self._dated(caller.project_id),
        }
        self.stored["port"][str(port["id"])] = port
        return port

    def _taken(self, network_id: str, except_for: str = "") -> set[str]:
        taken = {
            str(ip["ip_address"])
            for port in self.stored["port"].values()
            if port["network_id"] == network_id and port["id"] != except_for
            for ip in port["fixed_ips"]
        }
        return taken | {
            str(one["floating_ip_address"])
            for one in self.stored["floatingip"].values()
            if one["floating_network_id"] == network_id
        }

    def _free(self, subnet: Body) -> Iterator[str]:
        """Addresses nobody has, beginning after the one given last: one given back rests before it is given again."""
        taken = self._taken(subnet["network_id"])
        pool = subnet["allocation_pools"][0]
        first, last = int(IPv4Address(pool["start"])), int(IPv4Address(pool["end"]))
        count = last - first + 1
        begin = self._last.get(subnet["id"], first - 1) + 1 - first
        for step in range(count):
            number = first + (begin + step) % count
            if str(IPv4Address(number)) not in taken:
                self._last[subnet["id"]] = number
                yield str(IPv4Address(number))

    def _addresses(self, network_id: str, asked: Iterable[Body] | None, except_for: str = "") -> list[Body]:
        network = self.stored["network"][network_id]
        subnets = [self.stored["subnet"][one] for one in network["subnets"]]
        if asked is None:
            asked = [{"subnet_id": subnets[0]["id"]}] if subnets else []
        given = []
        for one in asked:
            if "ip_address" in one:
                address = one["ip_address"]
                around = [subnet for subnet in subnets if IPv4Address(address) in IPv4Network(subnet["cidr"])]
                if not around:
                    sentence = f"IP address {address} is not a valid IP for any of the subnets on the specified network."
                    raise Refused(400, sentence, "InvalidIpForNetwork")
                subnet = around[0]
                if address in self._taken(network_id, except_for):
                    sentence = f"IP address {address} already allocated in subnet {subnet['id']}"
                    raise Refused(409, sentence, "IpAddressAlreadyAllocated")
            else:
                subnet = self.get("subnet", one["subnet_id"])
                address = next(self._free(subnet), None)
                if address is None:
                    sentence = f"No more IP addresses available on network {network_id}."
                    raise Refused(409, sentence, "IpAddressGenerationFailure")
            given.append({"subnet_id": subnet["id"], "ip_address": address})
        return given

    def bind(self, port_id: str, server_id: str, zone: str) -> None:
        """As Nova does when it boots a server; the port counts as up at once."""
        port = self.stored["port"][port_id]
        port.update({"device_id": server_id, "device_owner": f"compute:{zone}", "status": "ACTIVE"})
        port.update({"binding:host_id": "simulated", "binding:vif_type": "bridge"})
        self._touch(port)

    def unbind(self, port_id: str) -> None:
        port = self.stored["port"].get(port_id)
        if port is not None:
            port.update({"device_id": "", "device_owner": "", "status": "DOWN"})
            port.update({"binding:host_id": "", "binding:vif_type": "unbound"})
            self._touch(port)

    def ports_of(self, server_id: str) -> list[Body]:
        return [port for port in self.stored["port"].values() if port["device_id"] == server_id]

    # Security groups

    def _default_group(self, project_id: str) -> Body:
        groups = self.stored["security_group"].values()
        found = [one for one in groups if one["project_id"] == project_id and one["name"] == "default"]
        if found:
            return found[0]
        owner = Caller("", "", project_id, frozenset())
        return self._store_group({"name": "default", "description": "Default security group"}, owner)

    def _make_group(self, asked: Body, caller: Caller) -> Body:
        self._default_group(caller.project_id)
        if asked.get("name") == "default":
            raise Refused(409, "Default security group already exists.", "SecurityGroupDefaultAlreadyExists")
        return self._store_group(asked, caller)

    def _store_group(self, asked: Body, caller: Caller) -> Body:
        group = {
            "id": new_id(),
            "name": asked.get("name", ""),
            "stateful": asked.get("stateful", True),
            "tenant_id": caller.project_id,
            "description": asked.get("description", ""),
            "shared": False,
            **self._dated(caller.project_id),
        }
        self.stored["security_group"][str(group["id"])] = group
        for ethertype in ("IPv4", "IPv6"):
            out = {"security_group_id": group["id"], "direction": "egress", "ethertype": ethertype}
            self._make_rule({**out, "description": None}, caller)
        return group

    def _make_rule(self, asked: Body, caller: Caller) -> Body:
        group = self.stored["security_group"].get(asked.get("security_group_id", ""))
        if group is None:
            name, sentence = _MISSING["security_group"]
            raise Refused(404, sentence.format(asked.get("security_group_id")), name)
        prefix = asked.get("remote_ip_prefix")
        try:
            normalised = str(ip_network(prefix, strict=False)) if prefix else None
        except ValueError:
            raise Refused(400, f"Invalid CIDR {prefix} given as IP prefix.", "InvalidCIDR") from None
        first, last = asked.get("port_range_min"), asked.get("port_range_max")
        if first is not None and last is not None and first > last:
            sentence = "For TCP/UDP protocols, port_range_min must be <= port_range_max"
            raise Refused(400, sentence, "SecurityGroupInvalidPortRange")
        rule = {
            "id": new_id(),
            "tenant_id": caller.project_id,
            "security_group_id": group["id"],
            "ethertype": asked.get("ethertype", "IPv4"),
            "direction": asked.get("direction"),
            "protocol": asked.get("protocol"),
            "port_range_min": first,
            "port_range_max": last,
            "remote_ip_prefix": prefix,
            "remote_address_group_id": None,
            "normalized_cidr": normalised,
            "remote_group_id": asked.get("remote_group_id"),
            "description": asked.get("description", ""),
            **self._dated(caller.project_id),
            "revision_number": 0,
        }
        same = (
            "direction",
            "ethertype",
            "protocol",
            "port_range_min",
            "port_range_max",
            "remote_ip_prefix",
            "remote_group_id",
        )
        for have in self.rules_of(group["id"]):
            if all(have[name] == rule[name] for name in same):
                sentence = f"Security group rule already exists. Rule id is {have['id']}."
                raise Refused(409, sentence, "SecurityGroupRuleExists")
        self.stored["security_group_rule"][str(rule["id"])] = rule
        self._touch(group)
        return rule

    # Routers and floating IPs

    def _make_router(self, asked: Body, caller: Caller) -> Body:
        gateway = asked.get("external_gateway_info")
        router = {
            "id": new_id(),
            "name": asked.get("name", ""),
            "tenant_id": caller.project_id,
            "admin_state_up": True,
            "status": "ACTIVE",
            "external_gateway_info": None,
            "description": asked.get("description", ""),
            "availability_zones": ["nova"],
            "availability_zone_hints": [],
            "distributed": False,
            "ha": False,
            "flavor_id": None,
            "routes": [],
            **self._dated(caller.project_id),
        }
        if gateway:
            network_id = gateway["network_id"]
            addresses = self._addresses(network_id, None)
            router["external_gateway_info"] = {
                "network_id": network_id,
                "external_fixed_ips": addresses,
                "enable_snat": True,
            }
            owned = {
                "device_id": router["id"],
                "device_owner": "network:router_gateway",
                "security_groups": [],
            }
            self.make_port({"network_id": network_id, "fixed_ips": addresses, **owned}, caller)
        self.stored["router"][str(router["id"])] = router
        return router

    def add_interface(self, call: Call) -> Response:
        router = self.get("router", call.part("id"), call.caller)
        port = self._plug(router, self.get("subnet", call.body["subnet_id"], call.caller)["id"])
        return JSONResponse(
            {
                "id": router["id"],
                "tenant_id": router["tenant_id"],
                "project_id": router["project_id"],
                "port_id": port["id"],
                "network_id": port["network_id"],
                "subnet_id": call.body["subnet_id"],
                "subnet_ids": [call.body["subnet_id"]],
                "tags": [],
            }
        )

    def remove_interface(self, call: Call) -> Response:
        router = self.get("router", call.part("id"), call.caller)
        for port in self.ports_of(router["id"]):
            if port["fixed_ips"][0]["subnet_id"] == call.body["subnet_id"]:
                self.remove("port", port["id"])
        return JSONResponse({"id": router["id"], "subnet_id": call.body["subnet_id"]})

    def _plug(self, router: Body, subnet_id: str) -> Body:
        subnet = self.get("subnet", subnet_id)
        owner = Caller("", "", router["project_id"], frozenset({"admin"}))
        asked = {
            "network_id": subnet["network_id"],
            "fixed_ips": [{"subnet_id": subnet_id}],
            "device_id": router["id"],
            "device_owner": "network:router_interface",
            "security_groups": [],
        }
        return self.make_port(asked, owner)

    def _make_floating_ip(self, asked: Body, caller: Caller) -> Body:
        network = self.get("network", asked["floating_network_id"], caller)
        if not network["router:external"]:
            sentence = f"Bad floatingip request: Network {network['id']} is not a valid external network."
            raise Refused(400, sentence, "BadRequest")
        wanted = asked.get("floating_ip_address")
        address = self._addresses(network["id"], [{"ip_address": wanted}] if wanted else None)[0][
            "ip_address"
        ]
        floating = {
            "id": new_id(),
            "tenant_id": caller.project_id,
            "floating_ip_address": address,
            "floating_network_id": network["id"],
            "router_id": None,
            "port_id": None,
            "fixed_ip_address": None,
            "status": "DOWN",
            "description": asked.get("description", ""),
            "port_details": None,
            **self._dated(caller.project_id),
        }
        self._associate(floating, asked.get("port_id"))
        self.stored["floatingip"][str(floating["id"])] = floating
        return floating

    def _associate(self, floating: Body, port_id: str | None) -> None:
        if port_id is None:
            floating.update({"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN"})
            return
        port = self.get("port", port_id)
        others = [
            one
            for one in self.stored["floatingip"].values()
            if one["port_id"] == port_id and one["id"] != floating["id"]
        ]
        if others:
            sentence = (
                f"Cannot associate floating IP {floating['floating_ip_address']} ({floating['id']}) with port {port_id} "
                f"using fixed IP {port['fixed_ips'][0]['ip_address']}, as that fixed IP already has a floating IP on "
                f"external network {floating['floating_network_id']}."
            )
            raise Refused(409, sentence, "FloatingIPPortAlreadyAssociated")
        subnet_id = port["fixed_ips"][0]["subnet_id"]
        for router in self.stored["router"].values():
            gateway = router["external_gateway_info"] or {}
            inside = [
                one
                for one in self.ports_of(router["id"])
                if one["device_owner"] == "network:router_interface"
                and one["fixed_ips"][0]["subnet_id"] == subnet_id
            ]
            if gateway.get("network_id") == floating["floating_network_id"] and inside:
                fixed = port["fixed_ips"][0]["ip_address"]
                floating.update(
                    {
                        "port_id": port_id,
                        "fixed_ip_address": fixed,
                        "router_id": router["id"],
                        "status": "ACTIVE",
                    }
                )
                return
        sentence = (
            f"External network {floating['floating_network_id']} is not reachable from subnet {subnet_id}.  "
            f"Therefore, cannot associate Port {port_id} with a Floating IP."
        )
        raise Refused(404, sentence, "ExternalGatewayForFloatingIPNotFound")
