"""Nova at microversions 2.1 to 2.93: servers that come up, change size and go in the background, and what they use."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

from tests.support.cloud.cinder import Cinder
from tests.support.cloud.config_drive import config_drive
from tests.support.cloud.glance import Glance
from tests.support.cloud.neutron import Neutron
from tests.support.cloud.wire import Body, Call, Caller, Refused, Service, has_tags, new_id, now, page

OLDEST, NEWEST = (2, 1), (2, 93)
NO_VALID_HOST = "No valid host was found. "
_FAULTS = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    406: "computeFault",
    409: "conflictingRequest",
    413: "overLimit",
    429: "overLimit",
}
_QUOTAS = {
    "cores": 100,
    "instances": 50,
    "key_pairs": 100,
    "metadata_items": 128,
    "ram": 102400,
    "server_group_members": 10,
    "server_groups": 10,
}
# What a server may be created with, and since which microversion.
_CREATION = {
    **dict.fromkeys(
        (
            "name",
            "imageRef",
            "flavorRef",
            "networks",
            "metadata",
            "user_data",
            "config_drive",
            "availability_zone",
            "block_device_mapping_v2",
            "security_groups",
            "key_name",
            "min_count",
            "max_count",
            "adminPass",
            "accessIPv4",
            "accessIPv6",
            "OS-DCF:diskConfig",
            "return_reservation_id",
        ),
        (2, 1),
    ),
    "description": (2, 19),
    "tags": (2, 52),
    "trusted_image_certificates": (2, 63),
    "host": (2, 74),
    "hypervisor_hostname": (2, 74),
    "hostname": (2, 90),
}
_REBUILD = {
    **dict.fromkeys(
        ("imageRef", "name", "metadata", "adminPass", "preserve_ephemeral", "accessIPv4"), (2, 1)
    ),
    "description": (2, 19),
    "key_name": (2, 54),
    "user_data": (2, 57),
    "trusted_image_certificates": (2, 63),
    "hostname": (2, 90),
}
_FILTERS = {
    *(
        "tags",
        "tags-any",
        "not-tags",
        "not-tags-any",
        "name",
        "status",
        "vm_state",
        "task_state",
        "uuid",
        "host",
    ),
    *(
        "image",
        "flavor",
        "ip",
        "ip6",
        "project_id",
        "tenant_id",
        "user_id",
        "all_tenants",
        "availability_zone",
    ),
    *(
        "limit",
        "marker",
        "sort_key",
        "sort_dir",
        "changes-since",
        "changes-before",
        "deleted",
        "reservation_id",
    ),
    *(
        "hostname",
        "locked",
        "power_state",
        "key_name",
        "config_drive",
        "launch_index",
        "created_at",
        "description",
    ),
}


@dataclass
class Flavor:
    id: str
    name: str
    memory_mb: int
    vcpus: int
    disk_gb: int


@dataclass
class Attachment:
    volume_id: str
    device: str
    tag: str | None = None
    delete_on_termination: bool = False
    id: str = field(default_factory=new_id)


@dataclass
class Server:
    id: str
    name: str
    caller: Caller
    flavor: Flavor
    image_id: str
    metadata: dict[str, str]
    tags: list[str]
    user_data: str | None
    config_drive: bool
    zone: str
    group_id: str | None
    description: str | None = None
    hostname: str = ""
    ports: list[str] = field(default_factory=list)
    own_ports: list[str] = field(default_factory=list)  # made by Nova, and so gone with the server
    attachments: list[Attachment] = field(default_factory=list)
    host: str | None = None
    vm_state: str = "building"
    task_state: str | None = "scheduling"
    power_state: int = 0
    fault: Body | None = None
    old_flavor: Flavor | None = None
    was_stopped: bool = False
    confirming: bool = False
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    launched_at: str | None = None
    actions: list[Body] = field(default_factory=list)
    number: int = 0

    @property
    def status(self) -> str:
        """As nova.api.openstack.common maps the two states to one word."""
        task = self.task_state or ""
        if self.vm_state in {"active", "stopped", "error"}:
            if task.startswith("rebuild"):
                return "REBUILD"
            if task.startswith("resize"):
                return "RESIZE"
        if self.vm_state == "active" and task.startswith("reboot"):
            return "HARD_REBOOT" if task.endswith("hard") else "REBOOT"
        if self.vm_state == "resized" and task == "resize_reverting":
            return "REVERT_RESIZE"
        words = {"building": "BUILD", "active": "ACTIVE", "stopped": "SHUTOFF", "resized": "VERIFY_RESIZE"}
        return words.get(self.vm_state, "ERROR")


class Hypervisor(Protocol):
    """What servers run on. Calls may take their time: they are made beside the API's thread, one at a time a server."""

    def boot(self, machine: Machine) -> None:
        """Power on; the root is made on the first boot and anew after `forget_root`."""

    def halt(self, server_id: str) -> None:
        """Power off, at once and whatever runs."""

    def forget_root(self, server_id: str) -> None: ...

    def destroy(self, server_id: str) -> None: ...

    def plug(self, server_id: str, volume_id: str) -> None: ...

    def unplug(self, server_id: str, volume_id: str) -> None: ...

    def console(self, server_id: str) -> str: ...

    def create_volume(self, volume_id: str, size_gb: int) -> None: ...

    def extend_volume(self, volume_id: str, size_gb: int) -> None: ...

    def delete_volume(self, volume_id: str) -> None: ...

    def close(self) -> None: ...

    read_image: Callable[[str], bytes]  # given by the cloud: the data of a Glance image


@dataclass(frozen=True)
class Machine:
    """A server as its hypervisor is told of it."""

    server_id: str
    name: str
    flavor: Flavor
    image: Body
    config_drive: Mapping[str, bytes]  # by path, as on the drive
    addresses: tuple[str, ...]
    volumes: tuple[str, ...]


@dataclass
class Nova(Service):
    path: str = "/compute"
    neutron: Neutron = field(kw_only=True)
    cinder: Cinder = field(kw_only=True)
    glance: Glance = field(kw_only=True)
    hypervisor: Hypervisor | None = None
    later: Callable[[Coroutine[Any, Any, None]], None] = lambda _: None
    pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
    hosts: dict[str, int] = field(default_factory=lambda: {f"compute-{one}": 32768 for one in (1, 2, 3)})
    zones: tuple[str, ...] = ("nova",)
    flavors: dict[str, Flavor] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    groups: dict[str, Body] = field(default_factory=dict)
    quotas: dict[str, dict[str, int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)  # of the next servers that do not come up
    _number: int = 0

    def __post_init__(self) -> None:
        v2 = "/v2.1"
        self.serve("GET /", self.versions, open_to_all=True)
        self.serve(f"GET {v2}", self.version, open_to_all=True)
        self.serve(f"GET {v2}/", self.version, open_to_all=True)
        self.serve(f"GET {v2}/flavors", self.list_flavors)
        self.serve(f"GET {v2}/flavors/detail", self.list_flavors)
        self.serve(f"POST {v2}/flavors", self.create_flavor)
        self.serve(f"DELETE {v2}/flavors/{{id}}", self.delete_flavor)
        self.serve(f"GET {v2}/flavors/{{id}}", self.show_flavor)
        self.serve(f"GET {v2}/flavors/{{id}}/os-extra_specs", self.show_extra_specs)
        self.serve(f"GET {v2}/os-availability-zone", self.list_zones)
        self.serve(f"GET {v2}/os-availability-zone/detail", self.list_zones)
        self.serve(f"GET {v2}/limits", self.show_limits)
        self.serve(f"GET {v2}/os-quota-sets/{{project}}", self.show_quotas)
        self.serve(f"GET {v2}/os-quota-sets/{{project}}/detail", self.show_quotas)
        self.serve(f"PUT {v2}/os-quota-sets/{{project}}", self.set_quotas)
        self.serve(f"DELETE {v2}/os-quota-sets/{{project}}", self.reset_quotas)
        self.serve(f"GET {v2}/os-server-groups", self.list_groups)
        self.serve(f"POST {v2}/os-server-groups", self.create_group)
        self.serve(f"GET {v2}/os-server-groups/{{id}}", self.show_group)
        self.serve(f"DELETE {v2}/os-server-groups/{{id}}", self.delete_group)
        self.serve(f"GET {v2}/servers", self.list_servers)
        self.serve(f"GET {v2}/servers/detail", self.list_servers)
        self.serve(f"POST {v2}/servers", self.create)
        one = f"{v2}/servers/{{id}}"
        self.serve(f"GET {one}", self.show)
        self.serve(f"PUT {one}", self.rename)
        self.serve(f"DELETE {one}", self.delete)
        self.serve(f"POST {one}/action", self.act)
        self.serve(f"GET {one}/os-instance-actions", self.list_actions)
        self.serve(f"GET {one}/os-instance-actions/{{request}}", self.show_action)
        self.serve(f"GET {one}/ips", self.show_addresses)
        self.serve(f"GET {one}/metadata", self.show_metadata)
        self.serve(f"POST {one}/metadata", self.add_metadata)
        self.serve(f"PUT {one}/metadata", self.set_metadata)
        self.serve(f"DELETE {one}/metadata/{{key}}", self.remove_metadata)
        self.serve(f"GET {one}/tags", self.show_tags)
        self.serve(f"PUT {one}/tags", self.set_tags)
        self.serve(f"DELETE {one}/tags", self.remove_tags)
        self.serve(f"GET {one}/tags/{{tag}}", self.has_tag)
        self.serve(f"PUT {one}/tags/{{tag}}", self.add_tag)
        self.serve(f"DELETE {one}/tags/{{tag}}", self.remove_tag)
        self.serve(f"GET {one}/os-interface", self.list_interfaces)
        self.serve(f"POST {one}/os-interface", self.add_interface)
        self.serve(f"DELETE {one}/os-interface/{{port}}", self.remove_interface)
        self.serve(f"GET {one}/os-volume_attachments", self.list_attachments)
        self.serve(f"POST {one}/os-volume_attachments", self.attach)
        self.serve(f"GET {one}/os-volume_attachments/{{volume}}", self.show_attachment)
        self.serve(f"DELETE {one}/os-volume_attachments/{{volume}}", self.detach)

    # The wire

    def refusal(self, refused: Refused) -> Response:
        name = _FAULTS.get(refused.status, "computeFault")
        error = {name: {"code": refused.status, "message": refused.message}}
        return JSONResponse(error, refused.status, refused.headers)

    def finish(self, call: Call, answer: Response) -> Response:
        try:
            spoken = "{}.{}".format(*self.microversion(call))
        except Refused as refused:
            return self.refusal(refused)
        answer.headers["OpenStack-API-Version"] = f"compute {spoken}"
        answer.headers["X-OpenStack-Nova-API-Version"] = spoken
        answer.headers["Vary"] = "OpenStack-API-Version, X-OpenStack-Nova-API-Version"
        answer.headers["X-Compute-Request-Id"] = f"req-{new_id()}"
        return answer

    def microversion(self, call: Call) -> tuple[int, int]:
        given = call.request.headers.get("openstack-api-version", "")
        words = given.split()
        version = words[1] if len(words) == 2 and words[0] == "compute" else ""
        version = version or call.request.headers.get("x-openstack-nova-api-version", "2.1")
        if version == "latest":
            return NEWEST
        major, _, minor = version.partition(".")
        asked = int(major), int(minor)
        if not OLDEST <= asked <= NEWEST:
            raise Refused(
                406, f"Version {version} is not supported by the API. Minimum is 2.1 and maximum is 2.93."
            )
        return asked

    def _links(self, call: Call, kind: str, id_: str) -> list[Body]:
        return [
            {"rel": "self", "href": f"{call.base}{self.path}/v2.1/{kind}/{id_}"},
            {"rel": "bookmark", "href": f"{call.base}{self.path}/{kind}/{id_}"},
        ]

    def _version(self, call: Call, name: str, newest: str, oldest: str) -> Body:
        status = "CURRENT" if newest else "SUPPORTED"
        links = [{"rel": "self", "href": f"{call.base}{self.path}/{name.removesuffix('.0')}/"}]
        updated = "2013-07-23T11:33:21Z" if newest else "2011-01-21T11:33:21Z"
        named = {"id": name, "status": status, "version": newest, "min_version": oldest}
        return {**named, "updated": updated, "links": links}

    def versions(self, call: Call) -> Response:
        both = [self._version(call, "v2.0", "", ""), self._version(call, "v2.1", "2.93", "2.1")]
        return JSONResponse({"versions": both})

    def version(self, call: Call) -> Response:
        media = [{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}]
        return JSONResponse({"version": {**self._version(call, "v2.1", "2.93", "2.1"), "media-types": media}})

    # Flavors, zones, quotas

    def add_flavor(self, id_: str, name: str, memory_mb: int, vcpus: int, disk_gb: int) -> None:
        self.flavors[id_] = Flavor(id_, name, memory_mb, vcpus, disk_gb)

    def _flavor(self, flavor: Flavor, call: Call, *, brief: bool = False) -> Body:
        links = self._links(call, "flavors", flavor.id)
        if brief:
            named = {"id": flavor.id, "name": flavor.name, "links": links}
            return named | ({"description": None} if self.microversion(call) >= (2, 55) else {})
        shown: Body = {
            "id": flavor.id,
            "name": flavor.name,
            "ram": flavor.memory_mb,
            "disk": flavor.disk_gb,
            "swap": 0 if self.microversion(call) >= (2, 75) else "",
            "OS-FLV-EXT-DATA:ephemeral": 0,
            "OS-FLV-DISABLED:disabled": False,
            "vcpus": flavor.vcpus,
            "os-flavor-access:is_public": True,
            "rxtx_factor": 1.0,
            "links": links,
        }
        if self.microversion(call) >= (2, 55):
            shown["description"] = None
        if self.microversion(call) >= (2, 61):
            shown["extra_specs"] = {}
        return shown

    def list_flavors(self, call: Call) -> Response:
        brief = not call.request.url.path.endswith("/detail")
        shown, rest = page([self._flavor(one, call, brief=brief) for one in self.flavors.values()], call)
        answer: Body = {"flavors": shown}
        if rest:
            answer["flavors_links"] = [{"rel": "next", "href": f"{call.base}{call.request.url.path}?{rest}"}]
        return JSONResponse(answer)

    def show_flavor(self, call: Call) -> Response:
        flavor = self.flavors.get(call.part("id"))
        if flavor is None:
            raise Refused(404, f"Flavor {call.part('id')} could not be found.")
        return JSONResponse({"flavor": self._flavor(flavor, call)})

    def create_flavor(self, call: Call) -> Response:
        self._admin_only(call, "os_compute_api:os-flavor-manage:create")
        asked = call.body["flavor"]
        id_ = str(asked.get("id") or new_id())
        self.add_flavor(id_, asked["name"], asked["ram"], asked["vcpus"], asked["disk"])
        return JSONResponse({"flavor": self._flavor(self.flavors[id_], call)})

    def delete_flavor(self, call: Call) -> Response:
        self._admin_only(call, "os_compute_api:os-flavor-manage:delete")
        if self.flavors.pop(call.part("id"), None) is None:
            raise Refused(404, f"Flavor {call.part('id')} could not be found.")
        return Response(status_code=202)

    def show_extra_specs(self, call: Call) -> Response:
        return JSONResponse({"extra_specs": {}})

    def list_zones(self, call: Call) -> Response:
        zones = [{"zoneName": one, "zoneState": {"available": True}, "hosts": None} for one in self.zones]
        return JSONResponse({"availabilityZoneInfo": zones})

    def limits(self, project_id: str) -> dict[str, int]:
        return {**_QUOTAS, **self.quotas.get(project_id, {})}

    def used(self, project_id: str) -> dict[str, int]:
        own = [one for one in self.servers.values() if one.caller.project_id == project_id]
        return {
            "instances": len(own),
            "cores": sum(one.flavor.vcpus for one in own),
            "ram": sum(one.flavor.memory_mb for one in own),
            "server_groups": sum(one["project_id"] == project_id for one in self.groups.values()),
        }

    def _reserve(self, project_id: str, **wanted: int) -> None:
        limits, used = self.limits(project_id), self.used(project_id)
        over = [name for name, count in wanted.items() if 0 <= limits[name] < used[name] + count]
        if over:
            names = ", ".join(over)
            asked = ", ".join(str(wanted[name]) for name in over)
            have = ", ".join(str(used[name]) for name in over)
            allowed = ", ".join(str(limits[name]) for name in over)
            raise Refused(
                403,
                f"Quota exceeded for {names}: Requested {asked}, but already used {have} of {allowed} {names}",
            )

    def show_limits(self, call: Call) -> Response:
        limits, used = self.limits(call.caller.project_id), self.used(call.caller.project_id)
        absolute = {
            "maxTotalInstances": limits["instances"],
            "maxTotalCores": limits["cores"],
            "maxTotalRAMSize": limits["ram"],
            "maxServerMeta": 128,
            "maxTotalKeypairs": 100,
            "maxServerGroups": limits["server_groups"],
            "maxServerGroupMembers": limits["server_group_members"],
            "totalRAMUsed": used["ram"],
            "totalCoresUsed": used["cores"],
            "totalInstancesUsed": used["instances"],
            "totalServerGroupsUsed": used["server_groups"],
        }
        return JSONResponse({"limits": {"rate": [], "absolute": absolute}})

    def show_quotas(self, call: Call) -> Response:
        project_id = call.part("project")
        limits, used = self.limits(project_id), self.used(project_id)
        shown: Body = dict(limits)
        if call.request.url.path.endswith("/detail"):
            shown = {
                name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0}
                for name, limit in limits.items()
            }
        return JSONResponse({"quota_set": {"id": project_id, **shown}})

    def set_quotas(self, call: Call) -> Response:
        self._admin_only(call, "os_compute_api:os-quota-sets:update")
        own = self.quotas.setdefault(call.part("project"), {})
        own.update({name: value for name, value in call.body["quota_set"].items() if name != "force"})
        return JSONResponse({"quota_set": self.limits(call.part("project"))})

    def reset_quotas(self, call: Call) -> Response:
        self._admin_only(call, "os_compute_api:os-quota-sets:delete")
        self.quotas.pop(call.part("project"), None)
        return Response(status_code=202)

    def _admin_only(self, call: Call, rule: str) -> None:
        if not call.caller.is_admin:
            raise Refused(403, f"Policy doesn't allow {rule} to be performed.")

    # Server groups

    def _group(self, group: Body, call: Call) -> Body:
        shown = {name: group[name] for name in ("id", "name")}
        if self.microversion(call) >= (2, 64):
            shown |= {"policy": group["policy"], "rules": group["rules"]}
        else:
            shown |= {"policies": [group["policy"]], "metadata": {}}
        members = [one.id for one in self.servers.values() if one.group_id == group["id"]]
        shown["members"] = members
        if self.microversion(call) >= (2, 13):
            shown |= {"project_id": group["project_id"], "user_id": group["user_id"]}
        return shown

    def _own_group(self, call: Call) -> Body:
        group = self.groups.get(call.part("id"))
        if group is None or (group["project_id"] != call.caller.project_id and not call.caller.is_admin):
            raise Refused(404, f"Instance group {call.part('id')} could not be found.")
        return group

    def list_groups(self, call: Call) -> Response:
        everyone = call.caller.is_admin and "all_projects" in call.request.query_params
        found = [
            one for one in self.groups.values() if everyone or one["project_id"] == call.caller.project_id
        ]
        limit, offset = int(call.query("limit") or 1000), int(call.query("offset") or 0)
        shown = [self._group(one, call) for one in found[offset : offset + limit]]
        return JSONResponse({"server_groups": shown})

    def create_group(self, call: Call) -> Response:
        asked = call.body["server_group"]
        policy = asked.get("policy") or (asked.get("policies") or [""])[0]
        allowed = ["anti-affinity", "affinity", "soft-anti-affinity", "soft-affinity"]
        if policy not in allowed:
            sentence = f"Invalid input for field/attribute policy. Value: {policy}. '{policy}' is not one of {allowed}"
            raise Refused(400, sentence)
        project_id = call.caller.project_id
        if 0 <= self.limits(project_id)["server_groups"] <= self.used(project_id)["server_groups"]:
            raise Refused(403, "Quota exceeded, too many server groups.")
        group = {
            "id": new_id(),
            "name": asked["name"],
            "policy": policy,
            "rules": asked.get("rules", {}),
            "project_id": project_id,
            "user_id": call.caller.user_id,
        }
        self.groups[str(group["id"])] = group
        return JSONResponse({"server_group": self._group(group, call)})

    def show_group(self, call: Call) -> Response:
        return JSONResponse({"server_group": self._group(self._own_group(call), call)})

    def delete_group(self, call: Call) -> Response:
        del self.groups[self._own_group(call)["id"]]
        return Response(status_code=204)

    # Servers, seen

    def _own(self, call: Call) -> Server:
        server = self.servers.get(call.part("id"))
        if server is None or (
            server.caller.project_id != call.caller.project_id and not call.caller.is_admin
        ):
            raise Refused(404, f"Instance {call.part('id')} could not be found.")
        return server

    def addresses(self, server: Server) -> dict[str, list[Body]]:
        shown: dict[str, list[Body]] = {}
        for port in self.neutron.ports_of(server.id):
            name = self.neutron.stored["network"][port["network_id"]]["name"]
            floating = [
                one for one in self.neutron.stored["floatingip"].values() if one["port_id"] == port["id"]
            ]
            mac = port["mac_address"]
            for kind, address in [
                *(("fixed", ip["ip_address"]) for ip in port["fixed_ips"]),
                *(("floating", one["floating_ip_address"]) for one in floating),
            ]:
                shown.setdefault(name, []).append(
                    {"version": 4, "addr": address, "OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": mac}
                )
        return shown

    def _brief(self, server: Server, call: Call) -> Body:
        return {"id": server.id, "name": server.name, "links": self._links(call, "servers", server.id)}

    def _server(self, server: Server, call: Call, *, listed: bool = False) -> Body:
        version = self.microversion(call)
        flavor: Body = {
            "vcpus": server.flavor.vcpus,
            "ram": server.flavor.memory_mb,
            "disk": server.flavor.disk_gb,
            "ephemeral": 0,
            "swap": 0,
            "original_name": server.flavor.name,
            "extra_specs": {},
        }
        if version < (2, 47):
            flavor = {"id": server.flavor.id, "links": self._links(call, "flavors", server.flavor.id)[1:]}
        attached = [
            {"id": one.volume_id}
            | ({"delete_on_termination": one.delete_on_termination} if version >= (2, 3) else {})
            for one in server.attachments
        ]
        shown: Body = {
            **self._brief(server, call),
            "status": server.status,
            "tenant_id": server.caller.project_id,
            "user_id": server.caller.user_id,
            "metadata": server.metadata,
            "hostId": f"{hash(server.host) & (2**224 - 1):056x}" if server.host else "",
            "image": {"id": server.image_id, "links": self._links(call, "images", server.image_id)[1:]},
            "flavor": flavor,
            "created": server.created_at,
            "updated": server.updated_at,
            "addresses": self.addresses(server),
            "accessIPv4": "",
            "accessIPv6": "",
            "OS-DCF:diskConfig": "MANUAL",
            "OS-EXT-AZ:availability_zone": server.zone if server.host else "",
            "config_drive": "True" if server.config_drive else "",
            "key_name": None,
            "OS-SRV-USG:launched_at": server.launched_at,
            "OS-SRV-USG:terminated_at": None,
            "OS-EXT-STS:task_state": server.task_state,
            "OS-EXT-STS:vm_state": server.vm_state,
            "OS-EXT-STS:power_state": server.power_state,
            "os-extended-volumes:volumes_attached": attached,
        }
        if server.status in {"ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE"}:
            shown["progress"] = 0
        # It is remembered when a resize comes to nothing, too, and shown when the server is in ERROR alone. Lists leave it
        # out: whether they have it depends on which of its databases Nova's API looks into, and that is not all of them.
        if server.fault is not None and server.status == "ERROR" and not listed:
            shown["fault"] = server.fault
            if call.caller.is_admin:
                shown["fault"] = {**server.fault, "details": "Traceback (most recent call last):\n"}
        if server.host:
            groups = [
                {"name": self.neutron.stored["security_group"][one]["name"]}
                for port in self.neutron.ports_of(server.id)
                for one in port["security_groups"]
                if one in self.neutron.stored["security_group"]
            ]
            if groups:
                shown["security_groups"] = groups
        if call.caller.is_admin:
            shown |= {
                "OS-EXT-SRV-ATTR:host": server.host,
                "OS-EXT-SRV-ATTR:instance_name": f"instance-{server.number:08x}",
                "OS-EXT-SRV-ATTR:hypervisor_hostname": server.host,
            }
            if version >= (2, 3):
                shown |= {
                    "OS-EXT-SRV-ATTR:hostname": server.hostname,
                    "OS-EXT-SRV-ATTR:reservation_id": f"r-{server.id[:8]}",
                    "OS-EXT-SRV-ATTR:launch_index": 0,
                    "OS-EXT-SRV-ATTR:root_device_name": "/dev/vda" if server.host else None,
                    "OS-EXT-SRV-ATTR:user_data": server.user_data,
                }
            if version >= (2, 16):
                shown["host_status"] = "UP" if server.host else ""
        if version >= (2, 9):
            shown["locked"] = False
        if version >= (2, 19):
            shown["description"] = server.description
        if version >= (2, 26):
            shown["tags"] = sorted(server.tags)
        if version >= (2, 63):
            shown["trusted_image_certificates"] = None
        if version >= (2, 71) and not listed:
            shown["server_groups"] = [server.group_id] if server.group_id else []
        if version >= (2, 73):
            shown["locked_reason"] = None
        return shown

    def show(self, call: Call) -> Response:
        return JSONResponse({"server": self._server(self._own(call), call)})

    def list_servers(self, call: Call) -> Response:
        version = self.microversion(call)
        names = {name for name, _ in call.pairs}
        if "metadata" in names:
            raise Refused(400, "Invalid filter field: metadata.")
        unknown = sorted(names - _FILTERS)
        if unknown and version >= (2, 75):
            raise Refused(400, f"'{unknown[0]}' does not match any of the regexes: '^_'")
        if not re.fullmatch("[0-9]*", call.query("limit")):
            wrong = call.query("limit")
            sentence = f"Invalid input for query parameters limit. Value: {wrong}. '{wrong}' does not match '^[0-9]*$'"
            raise Refused(400, sentence)
        everyone = call.caller.is_admin and call.query("all_tenants", "0").lower() in {"1", "true"}
        found = [
            one
            for one in reversed(self.servers.values())
            if (everyone or one.caller.project_id == call.caller.project_id) and self._matches(one, call)
        ]
        detail = call.request.url.path.endswith("/detail")
        shown, rest = page(
            [self._server(one, call, listed=True) if detail else self._brief(one, call) for one in found],
            call,
        )
        answer: Body = {"servers": shown}
        if rest:
            answer["servers_links"] = [{"rel": "next", "href": f"{call.base}{call.request.url.path}?{rest}"}]
        return JSONResponse(answer)

    def _matches(self, server: Server, call: Call) -> bool:
        if self.microversion(call) >= (2, 26) and not has_tags(server.tags, call):
            return False
        wanted = {name: value for name, value in call.pairs if name != "all_tenants"}
        if "name" in wanted and not re.search(wanted["name"], server.name):
            return False
        if "ip" in wanted and not any(
            re.search(wanted["ip"], one["addr"]) for some in self.addresses(server).values() for one in some
        ):
            return False
        exact = {
            "status": server.status,
            "vm_state": server.vm_state,
            "uuid": server.id,
            "host": server.host,
            "image": server.image_id,
            "flavor": server.flavor.id,
            "availability_zone": server.zone,
        }
        return all(
            str(value).lower() == wanted[name].lower() for name, value in exact.items() if name in wanted
        )

    def show_addresses(self, call: Call) -> Response:
        return JSONResponse({"addresses": self.addresses(self._own(call))})

    def list_actions(self, call: Call) -> Response:
        actions = self._own(call).actions
        shown = [{name: value for name, value in one.items() if name != "events"} for one in actions]
        return JSONResponse({"instanceActions": shown[::-1]})

    def show_action(self, call: Call) -> Response:
        server, wanted = self._own(call), call.part("request")
        found = [one for one in server.actions if one["request_id"] == wanted]
        if not found:
            raise Refused(404, f"Action for request_id {wanted} on instance {server.id} not found")
        events = [dict(one) for one in found[0]["events"]]
        for event in events:
            if not call.caller.is_admin or self.microversion(call) < (2, 84):
                event.pop("details", None)
        return JSONResponse({"instanceAction": {**found[0], "events": events}})

    # Servers, made

    def create(self, call: Call) -> Response:
        asked: Body = call.body["server"]
        version = self.microversion(call)
        self._check_names(asked, _CREATION, "server", version)
        if version >= (2, 37) and "networks" not in asked:
            sentence = (
                f"Invalid input for field/attribute server. Value: {asked}. 'networks' is a required property"
            )
            raise Refused(400, sentence)
        self._check_tags(asked.get("tags", []))
        flavor = self.flavors.get(str(asked["flavorRef"]))
        if flavor is None:
            raise Refused(400, f"Flavor {asked['flavorRef']} could not be found.")
        image = self._image(asked.get("imageRef", ""), call.caller, flavor)
        zone = asked.get("availability_zone") or ""
        if zone and zone not in self.zones:
            raise Refused(400, "The requested availability zone is not available")
        hints = call.body.get("os:scheduler_hints") or call.body.get("OS-SCH-HNT:scheduler_hints") or {}
        group_id = hints.get("group")
        if group_id and group_id not in self.groups:
            raise Refused(400, f"Instance group {group_id} could not be found.")
        if len(asked.get("user_data") or "") > 65535:
            raise Refused(400, "Invalid input for field/attribute user_data. It is too long")
        self._reserve(call.caller.project_id, instances=1, cores=flavor.vcpus, ram=flavor.memory_mb)
        self._number += 1
        server = Server(
            id=new_id(),
            name=asked["name"],
            caller=call.caller,
            flavor=flavor,
            image_id=image["id"],
            metadata=dict(asked.get("metadata", {})),
            tags=list(asked.get("tags", [])),
            user_data=asked.get("user_data"),
            config_drive=bool(asked.get("config_drive")),
            zone=zone or self.zones[0],
            group_id=group_id,
            description=asked.get("description"),
            hostname=asked.get("hostname") or re.sub("[^a-z0-9-]+", "-", asked["name"].lower())[:63],
            number=self._number,
        )
        networks = self._networks(asked, call)
        volumes = self._block_devices(asked, call)
        server.ports = [one for one in networks if one]
        for volume_id, bdm in volumes:
            self._record(server, volume_id, bdm)
        self.servers[server.id] = server
        self._note(server, "create", call.caller)
        wanted = [] if asked.get("networks") == "none" else asked.get("networks") or []
        own = [one["uuid"] for one in wanted if isinstance(one, dict) and "uuid" in one]
        if asked.get("networks") == "auto":
            own = [self._only_network(call.caller)]
        self.later(self._build(server, own))
        answer = {
            "id": server.id,
            "links": self._links(call, "servers", server.id),
            "OS-DCF:diskConfig": "MANUAL",
            "security_groups": [{"name": "default"}],
            "adminPass": secrets.token_urlsafe(9),
        }
        location = {"Location": self._links(call, "servers", server.id)[0]["href"]}
        return JSONResponse({"server": answer}, 202, location)

    def _check_names(
        self, asked: Body, allowed: Mapping[str, tuple[int, int]], what: str, version: tuple[int, int]
    ) -> None:
        wrong = [name for name in asked if allowed.get(name, (99, 0)) > version]
        if wrong:
            sentence = f"Invalid input for field/attribute {what}. Value: {asked}. "
            raise Refused(
                400, f"{sentence}Additional properties are not allowed ('{wrong[0]}' was unexpected)"
            )

    def _check_tags(self, tags: list[str]) -> None:
        for place, tag in enumerate(tags):
            said = f"Invalid input for field/attribute {place}. Value: {tag}. '{tag}'"
            if not re.fullmatch("[^,/]*", tag):
                raise Refused(400, f"{said} does not match '^[^,/]*$'")
            if len(tag) > 60:
                raise Refused(400, f"{said} is too long")
        if len(tags) > 50:
            raise Refused(400, "Invalid input for field/attribute tags. It is too long")

    def _image(self, id_: str, caller: Caller, flavor: Flavor) -> Body:
        image = self.glance.find(id_, caller)
        if image is None:
            raise Refused(400, "Can not find requested image")
        if image["status"] != "active":
            raise Refused(400, f"Image {id_} is not active.")
        if image["min_disk"] > flavor.disk_gb > 0:
            sentence = (
                "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is "
            )
            sizes = f"{flavor.disk_gb << 30} bytes, minimum size is {image['min_disk'] << 30} bytes."
            raise Refused(400, sentence + sizes)
        if image["min_ram"] > flavor.memory_mb:
            raise Refused(400, "Flavor's memory is too small for requested image.")
        return image

    def _only_network(self, caller: Caller) -> str:
        own = [
            one["id"]
            for one in self.neutron._owned("network", caller)
            if not one["router:external"] and (one["shared"] or one["project_id"] == caller.project_id)
        ]
        if len(own) != 1:
            raise Refused(409, "Multiple possible networks found, use a Network ID to be more specific.")
        return str(own[0])

    def _networks(self, asked: Body, call: Call) -> list[str]:
        """Ports that were named; checks the networks that were."""
        wanted = asked.get("networks")
        if not isinstance(wanted, list):
            return []
        ports = []
        for one in wanted:
            if "port" in one:
                port = self.neutron.stored["port"].get(one["port"])
                if port is None:
                    raise Refused(400, f"Port id {one['port']} could not be found.")
                if port["device_id"]:
                    raise Refused(409, f"Port {port['id']} is still in use.")
                ports.append(str(port["id"]))
            elif one.get("uuid") not in self.neutron.stored["network"]:
                raise Refused(400, f"Network {one.get('uuid')} could not be found.")
        return ports

    def _block_devices(self, asked: Body, call: Call) -> list[tuple[str, Body]]:
        volumes = []
        for one in asked.get("block_device_mapping_v2") or []:
            if one.get("source_type") != "volume":
                continue
            volume = self.cinder.find(one["uuid"], call.caller)
            if volume is None:
                raise Refused(400, f"Volume {one['uuid']} could not be found.")
            if volume["status"] != "available":
                raise Refused(
                    400,
                    f"Invalid volume: Invalid input received: Invalid volume: Volume {volume['id']} status must be "
                    f"available or downloading to reserve, but the current status is {volume['status']}. (HTTP 400) "
                    f"(Request-ID: req-{new_id()})",
                )
            volumes.append((str(volume["id"]), one))
        return volumes

    def _record(self, server: Server, volume_id: str, asked: Body) -> Attachment:
        letter = "bcdefghijklmnop"[len(server.attachments)]
        made = Attachment(
            volume_id, f"/dev/vd{letter}", asked.get("tag"), bool(asked.get("delete_on_termination"))
        )
        server.attachments.append(made)
        self.cinder.reserve(volume_id)
        return made

    def _note(self, server: Server, action: str, caller: Caller | None) -> None:
        """Nobody's is what Nova asks of itself."""
        server.actions.append(
            {
                "action": action,
                "instance_uuid": server.id,
                "request_id": f"req-{new_id()}",
                "user_id": None if caller is None else caller.user_id,
                "project_id": None if caller is None else caller.project_id,
                "start_time": now("fractions"),
                "updated_at": now("fractions"),
                "message": None,
                "events": [],
            }
        )

    def power_off(self, server: Server) -> None:
        """As when a guest shuts down, or its hypervisor dies: Nova sees it and stops the server in its own books."""
        self._note(server, "stop", None)
        server.vm_state, server.task_state, server.power_state = "stopped", None, 4

    def fail(self, server: Server, message: str, code: int = 500) -> None:
        server.vm_state, server.task_state = "error", None
        self._note_failure(server, message, code)

    def _note_failure(self, server: Server, message: str, code: int = 500) -> None:
        server.fault = {"code": code, "created": now(), "message": message}
        server.updated_at = now()
        if server.actions:
            moment = now("fractions")
            event = {
                "event": "conductor_work",
                "start_time": moment,
                "finish_time": moment,
                "result": "Error",
            }
            event |= {"traceback": "", "details": message, "host": "simulated", "hostId": ""}
            server.actions[-1] |= {"message": "Error", "updated_at": moment}
            server.actions[-1]["events"].append(event)

    async def _work(self, function: Callable[..., None], *arguments: Any) -> None:
        """Something of the hypervisor's, which may take its time."""
        if self.hypervisor is not None:
            await asyncio.to_thread(function, *arguments)

    def _place(self, server: Server) -> str | None:
        """A host with room for it that the server's group does not forbid."""
        group = self.groups.get(server.group_id or "", {})
        others = {
            one.host for one in self.servers.values() if server.group_id and one.group_id == server.group_id
        } - {None}
        soft = group.get("policy") == "soft-anti-affinity"
        hosts = sorted(self.hosts.items(), key=lambda one: soft and one[0] in others)
        for host, memory_mb in hosts:
            used = sum(one.flavor.memory_mb for one in self.servers.values() if one.host == host)
            if used + server.flavor.memory_mb > memory_mb:
                continue
            if group.get("policy") == "anti-affinity" and host in others:
                continue
            if group.get("policy") == "affinity" and others and host not in others:
                continue
            return host
        return None

    async def _build(self, server: Server, own_networks: list[str]) -> None:
        await self.pause()
        if server.id not in self.servers or server.task_state == "deleting":
            return
        if self.faults:
            self.fail(server, self.faults.pop(0))
            return
        server.host = self._place(server)
        if server.host is None:
            # Volumes stay reserved until the server is deleted, as with the real one.
            self.fail(server, NO_VALID_HOST)
            return
        server.task_state = "networking"
        for network_id in own_networks:
            port = self.neutron.make_port({"network_id": network_id}, server.caller)
            server.ports.append(port["id"])
            server.own_ports.append(port["id"])
        for port_id in server.ports:
            if port_id in self.neutron.stored["port"]:
                self.neutron.bind(port_id, server.id, server.zone)
        server.task_state = "block_device_mapping"
        for one in server.attachments:
            self.cinder.attach(one.volume_id, server.id, server.host, one.device)
        await self.pause()
        if self._interrupted(server, "spawning"):
            return
        await self._power_on(server)
        if self._interrupted(server, "spawning"):
            return
        self._up(server)

    def _interrupted(self, server: Server, task: str) -> bool:
        """Whether it was deleted meanwhile; the deletion takes the rest away."""
        if server.id not in self.servers or server.task_state == "deleting":
            return True
        server.task_state = task
        return False

    def _up(self, server: Server) -> None:
        server.vm_state, server.task_state, server.power_state = "active", None, 1
        server.launched_at = now("fractions")
        server.updated_at = now()

    async def _power_on(self, server: Server) -> None:
        if self.hypervisor is not None:
            await self._work(self.hypervisor.boot, self.machine(server))

    async def _power_off(self, server: Server) -> None:
        if self.hypervisor is not None:
            await self._work(self.hypervisor.halt, server.id)

    def machine(self, server: Server) -> Machine:
        ports = self.neutron.ports_of(server.id)
        ports.sort(key=lambda one: server.ports.index(one["id"]) if one["id"] in server.ports else 99)
        return Machine(
            server_id=server.id,
            name=server.name,
            flavor=server.flavor,
            image=self.glance.images.get(server.image_id, {}),
            config_drive=config_drive(server, ports, self.neutron) if server.config_drive else {},
            addresses=tuple(ip["ip_address"] for port in ports for ip in port["fixed_ips"]),
            volumes=tuple(one.volume_id for one in server.attachments),
        )

    def rename(self, call: Call) -> Response:
        server = self._own(call)
        asked = call.body["server"]
        server.name = asked.get("name", server.name)
        server.description = asked.get("description", server.description)
        return JSONResponse({"server": self._server(server, call)})

    # Servers, gone

    def delete(self, call: Call) -> Response:
        server = self._own(call)
        if server.task_state != "deleting":
            self._note(server, "delete", call.caller)
            server.task_state = "deleting"
            self.later(self._remove(server))
        return Response(status_code=204)

    async def _remove(self, server: Server) -> None:
        await self.pause()
        await self.take_away(server)

    async def take_away(self, server: Server) -> None:
        server.task_state = "deleting"
        if self.hypervisor is not None:
            await self._work(self.hypervisor.destroy, server.id)
        for port_id in server.ports:
            if port_id in server.own_ports:
                self.neutron.remove("port", port_id)
            else:
                self.neutron.unbind(port_id)
        for one in server.attachments:
            self.cinder.release(one.volume_id)
            if one.delete_on_termination:
                self.cinder.discard(one.volume_id)
        self.servers.pop(server.id, None)

    # Actions

    def _require(self, server: Server, action: str, *states: str, message: str = "") -> None:
        if server.task_state is not None:
            said = f"Cannot '{action}' instance {server.id} while it is in task_state {server.task_state}"
            raise Refused(409, said)
        if server.vm_state not in states:
            said = f"Cannot '{action}' instance {server.id} while it is in vm_state {server.vm_state}"
            raise Refused(409, message or said)

    def act(self, call: Call) -> Response:
        name = next(iter(call.body), "")
        known: dict[str, Callable[[Server, Body, Call], Response]] = {
            "reboot": self._reboot,
            "rebuild": self._rebuild,
            "resize": self._resize,
            "confirmResize": self._confirm,
            "revertResize": self._revert,
            "os-start": self._start,
            "os-stop": self._stop,
            "os-getConsoleOutput": self._console,
            "os-resetState": self._reset_state,
            "forceDelete": self._force_delete,
        }
        if name not in known:
            raise Refused(400, f"There is no such action: {name}")
        return known[name](self._own(call), call.body[name] or {}, call)

    def _begin(
        self, server: Server, action: str, task: str, call: Call, work: Coroutine[Any, Any, None]
    ) -> None:
        self._note(server, action, call.caller)
        server.task_state = task
        server.fault = None
        server.updated_at = now()
        self.later(work)

    def _reboot(self, server: Server, asked: Body, call: Call) -> Response:
        hard = asked.get("type") == "HARD"
        self._require(server, "reboot", "active", *(["stopped", "error"] if hard else []))
        task = "rebooting_hard" if hard else "rebooting"
        self._begin(server, "reboot", task, call, self._restart(server))
        return Response(status_code=202)

    async def _restart(self, server: Server) -> None:
        await self.pause()
        await self._power_off(server)
        await self._power_on(server)
        if server.task_state != "deleting":
            self._up(server)

    def _stop(self, server: Server, asked: Body, call: Call) -> Response:
        self._require(server, "stop", "active", "error")
        self._begin(server, "stop", "powering-off", call, self._shut_off(server))
        return Response(status_code=202)

    async def _shut_off(self, server: Server) -> None:
        await self.pause()
        await self._power_off(server)
        if server.task_state != "deleting":
            server.vm_state, server.task_state, server.power_state = "stopped", None, 4

    def _start(self, server: Server, asked: Body, call: Call) -> Response:
        self._require(server, "start", "stopped")
        self._begin(server, "start", "powering-on", call, self._switch_on(server))
        return Response(status_code=202)

    async def _switch_on(self, server: Server) -> None:
        await self.pause()
        await self._power_on(server)
        if server.task_state != "deleting":
            self._up(server)

    def _resize(self, server: Server, asked: Body, call: Call) -> Response:
        flavor = self.flavors.get(str(asked.get("flavorRef")))
        if flavor is None:
            raise Refused(400, f"Flavor {asked.get('flavorRef')} could not be found.")
        self._require(server, "resize", "active", "stopped")
        if flavor.id == server.flavor.id:
            raise Refused(400, "When resizing, instances must change flavor!")
        more = {
            "cores": max(0, flavor.vcpus - server.flavor.vcpus),
            "ram": max(0, flavor.memory_mb - server.flavor.memory_mb),
        }
        self._reserve(server.caller.project_id, **more)
        self._begin(server, "resize", "resize_prep", call, self._migrate(server, flavor))
        return Response(status_code=202)

    async def _migrate(self, server: Server, flavor: Flavor) -> None:
        server.was_stopped = server.vm_state == "stopped"
        await self.pause()
        if self.faults or flavor.memory_mb > max(self.hosts.values()):
            # It goes back to what it was, and the fault tells what happened.
            message = self.faults.pop(0) if self.faults else NO_VALID_HOST
            server.task_state = None
            self._note_failure(server, message)
            return
        if self._interrupted(server, "resize_migrating"):
            return
        await self._power_off(server)
        server.old_flavor, server.flavor = server.flavor, flavor
        if self._interrupted(server, "resize_finish"):
            return
        await self.pause()
        if not server.was_stopped:
            await self._power_on(server)
        if self._interrupted(server, ""):
            return
        server.vm_state, server.task_state = "resized", None
        server.power_state = 4 if server.was_stopped else 1
        server.updated_at = server.launched_at = now()

    def _confirm(self, server: Server, asked: Body, call: Call) -> Response:
        self._require(server, "confirmResize", "resized")
        if server.confirming:
            raise Refused(400, "Instance has not been resized.")
        server.confirming = True
        # The answer comes before the old half is cleaned up, and the state does not show that work.
        self._note(server, "confirmResize", call.caller)
        self.later(self._settle(server))
        return Response(status_code=204)

    async def _settle(self, server: Server) -> None:
        await self.pause()
        server.confirming = False
        if server.vm_state == "resized" and server.task_state is None:
            server.old_flavor = None
            server.vm_state = "stopped" if server.was_stopped else "active"
            server.updated_at = now()

    def _revert(self, server: Server, asked: Body, call: Call) -> Response:
        self._require(server, "revertResize", "resized")
        self._begin(server, "revertResize", "resize_reverting", call, self._go_back(server))
        return Response(status_code=202)

    async def _go_back(self, server: Server) -> None:
        await self.pause()
        await self._power_off(server)
        server.flavor, server.old_flavor = server.old_flavor or server.flavor, None
        if not server.was_stopped:
            await self._power_on(server)
        if server.task_state != "deleting":
            self._up(server)
            if server.was_stopped:
                server.vm_state, server.power_state = "stopped", 4

    def _rebuild(self, server: Server, asked: Body, call: Call) -> Response:
        self._check_names(asked, _REBUILD, "rebuild", self.microversion(call))
        never = f"Instance {server.id} is in an invalid state for 'rebuild'"
        if server.launched_at is None:
            raise Refused(409, never)
        self._require(server, "rebuild", "active", "stopped", "error")
        image = self._image(asked["imageRef"], call.caller, server.flavor)
        server.image_id = image["id"]
        server.name = asked.get("name", server.name)
        if "metadata" in asked:
            server.metadata = dict(asked["metadata"])
        if "user_data" in asked:
            server.user_data = asked["user_data"]
        if "description" in asked:
            server.description = asked["description"]
        server.was_stopped = server.vm_state == "stopped"
        self._begin(server, "rebuild", "rebuilding", call, self._anew(server))
        shown = {**self._server(server, call), "adminPass": secrets.token_urlsafe(9)}
        if self.microversion(call) >= (2, 57):
            shown["user_data"] = server.user_data
        location = {"Location": self._links(call, "servers", server.id)[0]["href"]}
        return JSONResponse({"server": shown}, 202, location)

    async def _anew(self, server: Server) -> None:
        await self.pause()
        await self._power_off(server)
        if self.hypervisor is not None:
            await self._work(self.hypervisor.forget_root, server.id)
        if self.faults:
            self.fail(server, self.faults.pop(0))
            return
        if self._interrupted(server, "rebuild_spawning"):
            return
        await self._power_on(server)
        if server.task_state == "deleting":
            return
        self._up(server)
        if server.was_stopped:
            # The real one shows a rebuilt server ACTIVE for a moment before it stops it again.
            server.task_state = "powering-off"
            await self._shut_off(server)

    def _console(self, server: Server, asked: Body, call: Call) -> Response:
        output = "" if self.hypervisor is None else self.hypervisor.console(server.id)
        lines = output.splitlines(keepends=True)[-int(asked.get("length") or 1000) :]
        return JSONResponse({"output": "".join(lines)})

    def _force_delete(self, server: Server, asked: Body, call: Call) -> Response:
        return self.delete(call)

    def _reset_state(self, server: Server, asked: Body, call: Call) -> Response:
        self._admin_only(call, "os_compute_api:os-admin-actions:reset_state")
        server.vm_state, server.task_state = asked["state"], None
        return Response(status_code=202)

    # Metadata and tags

    def show_metadata(self, call: Call) -> Response:
        return JSONResponse({"metadata": self._own(call).metadata})

    def add_metadata(self, call: Call) -> Response:
        server = self._own(call)
        server.metadata.update(call.body["metadata"])
        return JSONResponse({"metadata": server.metadata})

    def set_metadata(self, call: Call) -> Response:
        server = self._own(call)
        server.metadata = dict(call.body["metadata"])
        return JSONResponse({"metadata": server.metadata})

    def remove_metadata(self, call: Call) -> Response:
        if self._own(call).metadata.pop(call.part("key"), None) is None:
            raise Refused(404, "Metadata item was not found")
        return Response(status_code=204)

    def _taggable(self, call: Call) -> Server:
        server = self._own(call)
        if server.vm_state not in {"active", "stopped"}:
            said = f"Cannot 'update tags' instance {server.id} while it is in vm_state {server.vm_state}"
            raise Refused(409, said)
        return server

    def show_tags(self, call: Call) -> Response:
        return JSONResponse({"tags": sorted(self._own(call).tags)})

    def set_tags(self, call: Call) -> Response:
        tags = list(dict.fromkeys(call.body["tags"]))
        self._check_tags(tags)
        self._taggable(call).tags = tags
        return JSONResponse({"tags": tags})

    def remove_tags(self, call: Call) -> Response:
        self._taggable(call).tags = []
        return Response(status_code=204)

    def has_tag(self, call: Call) -> Response:
        server = self._own(call)
        if call.part("tag") not in server.tags:
            raise Refused(404, f"Server {server.id} has no tag '{call.part('tag')}'")
        return Response(status_code=204)

    def add_tag(self, call: Call) -> Response:
        server = self._taggable(call)
        self._check_tags([call.part("tag")])
        if call.part("tag") in server.tags:
            return Response(status_code=204)
        server.tags.append(call.part("tag"))
        return Response(status_code=201)

    def remove_tag(self, call: Call) -> Response:
        self.has_tag(call)
        self._taggable(call).tags.remove(call.part("tag"))
        return Response(status_code=204)

    # Ports and volumes of a server

    def _interface(self, port: Body) -> Body:
        return {
            "net_id": port["network_id"],
            "port_id": port["id"],
            "mac_addr": port["mac_address"],
            "port_state": port["status"],
            "fixed_ips": port["fixed_ips"],
        }

    def list_interfaces(self, call: Call) -> Response:
        ports = self.neutron.ports_of(self._own(call).id)
        return JSONResponse({"interfaceAttachments": [self._interface(one) for one in ports]})

    def add_interface(self, call: Call) -> Response:
        server = self._own(call)
        self._require(server, "attach_interface", "active", "stopped")
        asked = call.body["interfaceAttachment"]
        if "port_id" in asked:
            self._networks({"networks": [{"port": asked["port_id"]}]}, call)
            port_id = asked["port_id"]
        else:
            port_id = self.neutron.make_port({"network_id": asked["net_id"]}, server.caller)["id"]
            server.own_ports.append(port_id)
        server.ports.append(port_id)
        self.neutron.bind(port_id, server.id, server.zone)
        return JSONResponse({"interfaceAttachment": self._interface(self.neutron.stored["port"][port_id])})

    def remove_interface(self, call: Call) -> Response:
        server = self._own(call)
        port_id = call.part("port")
        if port_id not in server.ports:
            raise Refused(404, f"Port id {port_id} could not be found.")
        server.ports.remove(port_id)
        if port_id in server.own_ports:
            self.neutron.remove("port", port_id)
        else:
            self.neutron.unbind(port_id)
        return Response(status_code=202)

    def _attachment(self, server: Server, one: Attachment, call: Call, *, made: bool = False) -> Body:
        version = self.microversion(call)
        shown: Body = {"volumeId": one.volume_id, "serverId": server.id, "device": one.device}
        if made or version < (2, 89):
            shown["id"] = one.volume_id
        if version >= (2, 70):
            shown["tag"] = one.tag
        if version >= (2, 79):
            shown["delete_on_termination"] = one.delete_on_termination
        if version >= (2, 89) and not made:
            shown |= {"attachment_id": one.id, "bdm_uuid": one.id}
        return shown

    def _attached(self, server: Server, volume_id: str) -> Attachment:
        found = [one for one in server.attachments if one.volume_id == volume_id]
        if not found:
            raise Refused(404, f"Instance {server.id} is not attached to volume {volume_id}")
        return found[0]

    def list_attachments(self, call: Call) -> Response:
        server = self._own(call)
        shown = [self._attachment(server, one, call) for one in server.attachments]
        return JSONResponse({"volumeAttachments": shown})

    def show_attachment(self, call: Call) -> Response:
        server = self._own(call)
        one = self._attached(server, call.part("volume"))
        return JSONResponse({"volumeAttachment": self._attachment(server, one, call)})

    def attach(self, call: Call) -> Response:
        server = self._own(call)
        asked = call.body["volumeAttachment"]
        volume = self.cinder.find(asked["volumeId"], call.caller)
        if volume is None:
            raise Refused(404, f"Volume {asked['volumeId']} could not be found.")
        self._require(server, "attach_volume", "active", "stopped", "resized")
        if volume["attachments"]:
            ids = ", ".join(one["server_id"] for one in volume["attachments"])
            raise Refused(
                400, f"Invalid volume: volume {volume['id']} is already attached to instances: {ids}"
            )
        if volume["status"] != "available":
            said = f"Invalid volume: volume '{volume['id']}' status must be 'available'. Currently in '{volume['status']}'"
            raise Refused(400, said)
        made = self._record(server, volume["id"], asked)
        self._note(server, "attach_volume", call.caller)
        self.later(self._plug(server, made))
        return JSONResponse({"volumeAttachment": self._attachment(server, made, call, made=True)})

    async def _plug(self, server: Server, one: Attachment) -> None:
        await self.pause()
        self.cinder.attach(one.volume_id, server.id, server.host or "", one.device)
        if self.hypervisor is not None:
            await self._work(self.hypervisor.plug, server.id, one.volume_id)

    def detach(self, call: Call) -> Response:
        server = self._own(call)
        one = self._attached(server, call.part("volume"))
        self._require(server, "detach_volume", "active", "stopped", "resized")
        self._note(server, "detach_volume", call.caller)
        self.cinder.volumes[one.volume_id]["status"] = "detaching"
        self.later(self._unplug(server, one))
        return Response(status_code=202)

    async def _unplug(self, server: Server, one: Attachment) -> None:
        await self.pause()
        if self.hypervisor is not None:
            await self._work(self.hypervisor.unplug, server.id, one.volume_id)
        if one in server.attachments:
            server.attachments.remove(one)
        self.cinder.release(one.volume_id)
