"""The simulated cloud answers as the real one does: the same calls of both, status by status and field by field.

What differs on purpose is named in `KNOWN`. Calls that boot a machine are left to the platforms' contract.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from openstack.exceptions import NotFoundException

from tests.support.cloud import SimulatedCloud
from tests.support.machines import Cloud
from tests.support.server import wait_until

NOWHERE = "b3f1c0de-0000-4000-8000-000000000000"
NOVA, CINDER = "2.93", "3.70"
# Fields that only the real one shows: of extensions that it has and nothing of ours looks at.
KNOWN = {
    "provider:network_type",
    "provider:physical_network",
    "provider:segmentation_id",
    "standard_attr_id",
    "OS-EXT-SRV-ATTR:kernel_id",
    "OS-EXT-SRV-ATTR:ramdisk_id",
    "volumes_standard",
    "gigabytes_standard",
    "snapshots_standard",
    "maxTotalFloatingIps",
    "maxSecurityGroups",
    "maxSecurityGroupRules",
    "totalFloatingIpsUsed",
    "totalSecurityGroupsUsed",
    "maxImageMeta",
    "maxPersonality",
    "maxPersonalitySize",
}


class Tried:
    """One cloud, what was answered there by the name of the call, and what there is to take away."""

    def __init__(self, sdk: Any, network: str) -> None:
        self.sdk = sdk
        self.name = f"probe-{secrets.token_hex(4)}"
        self.answers: dict[str, tuple[int, Any]] = {}
        self._ending: list[Callable[[], Any]] = []
        self.network = next(iter(sdk.network.networks(name=network))).id

    def note(self, name: str, answer: Any) -> Any:
        """What was answered, as JSON; what it is made of is kept."""
        body = None
        with suppress(ValueError):
            body = answer.json()
        self.answers[name] = (answer.status_code, shape(body))
        return body

    def later(self, undo: Callable[[], Any]) -> None:
        self._ending.append(undo)

    def end(self) -> None:
        while self._ending:
            with suppress(NotFoundException):
                self._ending.pop()()


def shape(value: Any) -> Any:
    """Names and kinds; nothing for what is null, which may be anything."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items() if name not in KNOWN}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return None if value is None else type(value).__name__


def differences(here: Any, there: Any, place: str = "") -> list[str]:
    if here is None or there is None or here == there or [] in (here, there):
        return []
    if isinstance(here, dict) and isinstance(there, dict):
        found = [f"{place}.{name} is simulated alone" for name in here.keys() - there.keys()]
        found += [f"{place}.{name} is real alone" for name in there.keys() - here.keys()]
        for name in here.keys() & there.keys():
            found += differences(here[name], there[name], f"{place}.{name}")
        return found
    if isinstance(here, list) and isinstance(there, list):
        return differences(here[0], there[0], f"{place}[]")
    return [f"{place}: simulated {here}, real {there}"]


def try_network(tried: Tried) -> None:
    neutron, note, name = tried.sdk.network, tried.note, tried.name
    note("networks", neutron.get(f"/networks?id={tried.network}"))
    note("subnets", neutron.get(f"/subnets?network_id={tried.network}"))
    group = note("group", neutron.post("/security-groups", json={"security_group": {"name": name}}))
    group_id = group["security_group"]["id"]
    tried.later(lambda: neutron.delete(f"/security-groups/{group_id}"))
    note("group with tags", neutron.post("/security-groups", json={"security_group": {"tags": ["a"]}}))
    rule = {"security_group_id": group_id, "direction": "ingress", "protocol": "tcp"}
    rule |= {"port_range_min": 5, "port_range_max": 5, "remote_ip_prefix": "10.1.2.3/8"}
    made = note("rule", neutron.post("/security-group-rules", json={"security_group_rule": rule}))
    note("rule again", neutron.post("/security-group-rules", json={"security_group_rule": rule}))
    wrong = {**rule, "remote_ip_prefix": "nonsense"}
    note("rule of nonsense", neutron.post("/security-group-rules", json={"security_group_rule": wrong}))
    note("group shown", neutron.get(f"/security-groups/{group_id}"))
    note("tags", neutron.put(f"/security-groups/{group_id}/tags", json={"tags": ["a=b", "c"]}))
    note("tag that is not there", neutron.get(f"/security-groups/{group_id}/tags/nothing"))
    note("by tags", neutron.get(f"/security-groups?tags=a%3Db,c&name={name}"))
    note("by other tags", neutron.get("/security-groups?tags=a%3Db,nothing"))
    note("by nonsense", neutron.get("/security-groups?nonsense=1"))
    asked = {"network_id": tried.network, "name": name, "security_groups": [group_id], "description": "d"}
    port = note("port", neutron.post("/ports", json={"port": asked}))["port"]
    tried.later(lambda: neutron.delete(f"/ports/{port['id']}"))
    note("port shown", neutron.get(f"/ports/{port['id']}"))
    note("port with fields", neutron.get(f"/ports?name={name}&fields=id&fields=tags"))
    note("by description", neutron.get(f"/ports?description=d&name={name}"))
    taken = [{"ip_address": port["fixed_ips"][0]["ip_address"]}]
    note("address taken", neutron.post("/ports", json={"port": {**asked, "fixed_ips": taken}}))
    foreign = [{"ip_address": "192.0.2.1"}]
    note("foreign address", neutron.post("/ports", json={"port": {**asked, "fixed_ips": foreign}}))
    note("port nowhere", neutron.post("/ports", json={"port": {**asked, "network_id": NOWHERE}}))
    note("unknown attribute", neutron.post("/ports", json={"port": {**asked, "nonsense": 1}}))
    note("port changed", neutron.put(f"/ports/{port['id']}", json={"port": {"security_groups": []}}))
    note("port back", neutron.put(f"/ports/{port['id']}", json={"port": {"security_groups": [group_id]}}))
    note("group in use", neutron.delete(f"/security-groups/{group_id}"))
    note("port gone", neutron.delete(f"/ports/{port['id']}"))
    note("port gone twice", neutron.delete(f"/ports/{port['id']}"))
    rule_id = made["security_group_rule"]["id"]
    note("rule gone", neutron.delete(f"/security-group-rules/{rule_id}"))
    note("group gone", neutron.delete(f"/security-groups/{group_id}"))
    note("group gone twice", neutron.delete(f"/security-groups/{group_id}"))


def try_volumes(tried: Tried) -> None:
    cinder, note, name = tried.sdk.block_storage, tried.note, tried.name
    asked = {"name": name, "size": 1, "metadata": {"a": "b"}}
    volume_id = note("volume", cinder.post("/volumes", json={"volume": asked}, microversion=CINDER))[
        "volume"
    ]["id"]

    def is_gone() -> bool:
        return bool(cinder.get(f"/volumes/{volume_id}").status_code == 404)

    def delete() -> None:
        cinder.delete(f"/volumes/{volume_id}")
        wait_until("the volume is gone", is_gone)

    tried.later(delete)

    def is_available() -> bool:
        return bool(cinder.get(f"/volumes/{volume_id}").json()["volume"]["status"] == "available")

    wait_until("the volume is there", is_available)
    note("volume shown", cinder.get(f"/volumes/{volume_id}"))
    note("volumes by name", cinder.get(f"/volumes/detail?name={name}", microversion=CINDER))
    note("volumes by metadata", cinder.get("/volumes?metadata=%7B%22a%22:%22nothing%22%7D"))
    note("volumes by nonsense", cinder.get("/volumes?nonsense=1"))
    action = f"/volumes/{volume_id}/action"
    note("no larger", cinder.post(action, json={"os-extend": {"new_size": 1}}, microversion=CINDER))
    note("larger", cinder.post(action, json={"os-extend": {"new_size": 2}}, microversion=CINDER))
    wait_until("the volume is larger", is_available)
    note(
        "beyond the quota", cinder.post(action, json={"os-extend": {"new_size": 90_000}}, microversion=CINDER)
    )
    note("volume beyond the quota", cinder.post("/volumes", json={"volume": {"size": 90_000}}))
    note("volume of no type", cinder.post("/volumes", json={"volume": {"size": 1, "volume_type": "gold"}}))
    note("volume of nothing", cinder.post("/volumes", json={"volume": {"size": 0}}))
    note("volume nowhere", cinder.get(f"/volumes/{NOWHERE}"))
    note("types", cinder.get("/types"))
    note("limits of volumes", cinder.get("/limits"))
    note("zones of volumes", cinder.get("/os-availability-zone"))
    note("later than it knows", cinder.get("/volumes", microversion="3.99"))
    note("volume gone", cinder.delete(f"/volumes/{volume_id}"))
    wait_until("the volume is gone", is_gone)
    note("volume gone twice", cinder.delete(f"/volumes/{volume_id}"))


def try_servers(tried: Tried) -> None:
    nova, note, name = tried.sdk.compute, tried.note, tried.name
    note("flavors", nova.get("/flavors/detail", microversion=NOVA))
    note("zones", nova.get("/os-availability-zone"))
    note("limits", nova.get("/limits"))
    group = {"server_group": {"name": name, "policy": "anti-affinity"}}
    group_id = note("server group", nova.post("/os-server-groups", json=group, microversion=NOVA))[
        "server_group"
    ]["id"]
    note("server groups", nova.get("/os-server-groups", microversion=NOVA))
    note("server group gone", nova.delete(f"/os-server-groups/{group_id}"))
    note("server group gone twice", nova.delete(f"/os-server-groups/{group_id}"))
    group["server_group"]["policy"] = "nonsense"
    note("group of nonsense", nova.post("/os-server-groups", json=group, microversion=NOVA))
    image = next(iter(tried.sdk.image.images(name="debian-12", status="active"))).id
    server: dict[str, Any] = {"name": name, "imageRef": image, "flavorRef": "1", "networks": "none"}
    wrong: dict[str, dict[str, Any]] = {
        "no such flavor": {"flavorRef": "nonsense"},
        "no such image": {"imageRef": NOWHERE},
        "no such port": {"networks": [{"port": NOWHERE}]},
        "no such zone": {"availability_zone": "mars"},
        "a bad tag": {"tags": ["a/b"]},
        "a long tag": {"tags": ["a" * 61]},
        "what it does not know": {"nonsense": 1},
    }
    for what, changed in wrong.items():
        note(what, nova.post("/servers", json={"server": {**server, **changed}}, microversion=NOVA))
    note(
        "tags too early",
        nova.post("/servers", json={"server": {**server, "tags": ["a"]}}, microversion="2.51"),
    )
    del server["networks"]
    note("no word of networks", nova.post("/servers", json={"server": server}, microversion=NOVA))
    note("server nowhere", nova.get(f"/servers/{NOWHERE}", microversion=NOVA))
    note("server nowhere gone", nova.delete(f"/servers/{NOWHERE}"))
    note("no such action", nova.post(f"/servers/{NOWHERE}/action", json={"nonsense": 1}))
    note("by metadata", nova.get("/servers?metadata=%7B%7D", microversion=NOVA))
    note("servers by nonsense", nova.get("/servers?nonsense=1", microversion=NOVA))
    note("a limit of nonsense", nova.get("/servers?limit=abc", microversion=NOVA))
    note("a marker of nonsense", nova.get("/servers?limit=1&marker=abc", microversion=NOVA))
    note("later than Nova knows", nova.get("/servers", microversion="2.94"))
    _try_a_server_without_a_host(tried, {**server, "networks": "none"})


def _try_a_server_without_a_host(tried: Tried, server: dict[str, Any]) -> None:
    """It has all that a server has but a machine."""
    nova, note = tried.sdk.compute, tried.note
    huge = {"flavor": {"name": tried.name, "ram": 90_000, "vcpus": 1, "disk": 4, "id": tried.name}}
    assert nova.post("/flavors", json=huge).status_code == 200
    tried.later(lambda: nova.delete(f"/flavors/{tried.name}"))
    asked = {**server, "flavorRef": tried.name, "tags": ["a=b"], "metadata": {"a": "b"}, "config_drive": True}
    server_id = note("server", nova.post("/servers", json={"server": asked}, microversion=NOVA))["server"][
        "id"
    ]
    tried.later(lambda: nova.delete(f"/servers/{server_id}"))

    def in_error() -> bool:
        shown = nova.get(f"/servers/{server_id}", microversion=NOVA).json()["server"]
        return bool(shown["status"] == "ERROR")

    wait_until("it is in ERROR", in_error)
    for version in ("2.1", "2.26", "2.47", "2.87", NOVA):
        note(f"server at {version}", nova.get(f"/servers/{server_id}", microversion=version))
    note("servers", nova.get(f"/servers/detail?name={tried.name}", microversion=NOVA))
    note("servers in brief", nova.get("/servers?tags=a%3Db", microversion=NOVA))
    note("tags in ERROR", nova.put(f"/servers/{server_id}/tags", json={"tags": ["c"]}, microversion=NOVA))
    note("metadata of a server", nova.get(f"/servers/{server_id}/metadata"))
    action = f"/servers/{server_id}/action"
    for what, body in {
        "reboot": {"reboot": {"type": "SOFT"}},
        "resize": {"resize": {"flavorRef": "1"}},
        "confirm": {"confirmResize": None},
        "revert": {"revertResize": None},
        "rebuild": {"rebuild": {"imageRef": asked["imageRef"]}},
        "start": {"os-start": None},
    }.items():
        note(f"{what} in ERROR", nova.post(action, json=body))
    note("actions", nova.get(f"/servers/{server_id}/os-instance-actions", microversion=NOVA))
    note("attachments", nova.get(f"/servers/{server_id}/os-volume_attachments", microversion=NOVA))
    note("interfaces", nova.get(f"/servers/{server_id}/os-interface"))
    note("server gone", nova.delete(f"/servers/{server_id}"))


def try_images(tried: Tried) -> None:
    glance, note, name = tried.sdk.image, tried.note, tried.name
    asked = {"name": name, "disk_format": "raw", "container_format": "bare", "tags": ["a", name], "own": "x"}
    image_id = note("image", glance.post("/images", json=asked))["id"]
    tried.later(lambda: glance.delete(f"/images/{image_id}"))
    place = f"/images/{image_id}"
    octets = {"Content-Type": "application/octet-stream"}
    note("uploaded", glance.put(f"{place}/file", data=b"hello", headers=octets))
    note("uploaded twice", glance.put(f"{place}/file", data=b"hello", headers=octets))
    note("image shown", glance.get(place))
    note("images by tags", glance.get(f"/images?tag=a&tag={name}"))
    note("images by name", glance.get(f"/images?name={name}&status=active&limit=1"))
    patch = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    changes = [{"op": "replace", "path": "/own", "value": "y"}]
    note("changed", glance.patch(place, json=changes, headers=patch))
    changes[0]["path"] = "/nothing"
    note("changed what is not there", glance.patch(place, json=changes, headers=patch))
    changes[0]["path"] = "/size"
    note("changed what cannot be", glance.patch(place, json=changes, headers=patch))
    note("image gone", glance.delete(place))
    note("image gone twice", glance.delete(place))


def try_identity(tried: Tried) -> None:
    keystone, note = tried.sdk.identity, tried.note
    token = {"X-Subject-Token": tried.sdk.auth_token}
    shown = note("token", keystone.get("/auth/tokens", headers=token))
    assert {"compute", "network", "image", "identity"} <= {one["type"] for one in shown["token"]["catalog"]}
    note("token of nonsense", keystone.get("/auth/tokens", headers={"X-Subject-Token": "nonsense"}))
    asked = {"application_credential": {"name": tried.name, "roles": [{"name": "member"}]}}
    place = f"/users/{shown['token']['user']['id']}/application_credentials"
    made = note("credential", keystone.post(place, json=asked))["application_credential"]
    note("credentials", keystone.get(place))
    note("credential gone", keystone.delete(f"{place}/{made['id']}"))
    note("credential gone twice", keystone.delete(f"{place}/{made['id']}"))
    asked["application_credential"] |= {
        "expires_at": "2038-01-01T00:00:00.000000Z",
        "access_rules": [{"service": "database", "method": "GET", "path": "/v1.0/*/instances"}],
    }
    made = note("credential with rules", keystone.post(place, json=asked))["application_credential"]
    tried.later(lambda: keystone.delete(f"{place}/{made['id']}"))
    named = {"id": made["id"], "secret": made["secret"]}
    by = {"methods": ["application_credential"], "application_credential": named}
    answer = keystone.post("/auth/tokens", json={"auth": {"identity": by}}, authenticated=False)
    note("token of a credential", answer)
    ruled = {"X-Subject-Token": answer.headers["X-Subject-Token"]}
    note("rules that nobody holds to", keystone.get("/auth/tokens?nocatalog", headers=ruled))
    ruled["OpenStack-Identity-Access-Rules"] = "1"
    note("rules", keystone.get("/auth/tokens?nocatalog", headers=ruled))
    named["secret"] = "wrong"
    note("wrong secret", keystone.post("/auth/tokens", json={"auth": {"identity": by}}))


def try_identities(tried: Tried) -> None:
    """What an administrator does, and who is refused what."""
    keystone, note, name = tried.sdk.identity, tried.note, tried.name

    def make(kind: str, **asked: Any) -> str:
        made = str(note(kind, keystone.post(f"/{kind}s", json={kind: asked}))[kind]["id"])
        tried.later(lambda: keystone.delete(f"/{kind}s/{made}"))
        note(f"{kind} shown", keystone.get(f"/{kind}s/{made}"))
        note(f"{kind} nowhere", keystone.get(f"/{kind}s/{NOWHERE}"))
        return made

    password = secrets.token_urlsafe(12)
    user = make("user", name=name, password=password, domain_id="default")
    project = make("project", name=name, domain_id="default")
    note("user again", keystone.post("/users", json={"user": {"name": name, "domain_id": "default"}}))
    note("users by name", keystone.get(f"/users?name={name}"))
    note("projects by name", keystone.get(f"/projects?name={name}"))
    note("nobody by name", keystone.get("/users?name=nobody-of-this-name"))
    role = note("roles", keystone.get("/roles?name=member"))["roles"][0]["id"]
    region = make("region", id=name)
    service = make("service", type="database", name=name)
    place = {"service_id": service, "region_id": region, "interface": "public"}
    make("endpoint", url="http://127.0.0.1/v1.0/%(project_id)s", **place)

    def log_in(what: str, scope: Any, secret: str = password) -> dict[str, str]:
        by = {"user": {"id": user, "password": secret}}
        auth = {"identity": {"methods": ["password"], "password": by}, "scope": scope}
        answer = keystone.post("/auth/tokens", json={"auth": auth}, authenticated=False)
        note(what, answer)
        return {"X-Auth-Token": answer.headers.get("X-Subject-Token", "")}

    in_project = {"project": {"id": project}}
    log_in("no role yet", in_project)
    log_in("wrong password", in_project, "wrong")
    grant = f"/projects/{project}/users/{user}/roles/{role}"
    note("grant", keystone.put(grant))
    note("grant of nothing", keystone.put(f"/projects/{project}/users/{user}/roles/{NOWHERE}"))
    own = log_in("own project", in_project)
    log_in("nowhere", {"project": {"id": NOWHERE}})
    log_in("a domain without a role", {"domain": {"id": "default"}})
    log_in("the system without a role", {"system": {"all": True}})
    nobodys = log_in("unscoped", "unscoped")
    itself = {"X-Subject-Token": own["X-Auth-Token"]}
    others = {"X-Subject-Token": tried.sdk.auth_token}

    def see(path: str, **headers: str) -> Any:
        return keystone.get(path, headers=headers, authenticated=False)

    shown = note("own token", see("/auth/tokens", **own, **itself))["token"]
    assert {one["name"] for one in shown["roles"]} == {"member", "reader"}
    note("another's token", see("/auth/tokens", **own, **others))
    note("unscoped catalog", see("/auth/catalog", **nobodys))
    note("own catalog", see("/auth/catalog", **own))
    note("own projects", see("/auth/projects", **nobodys))
    for kind in ("users", "projects", "roles", "services", "endpoints"):
        note(f"{kind} by a member", see(f"/{kind}", **own))
    note("self by a member", see(f"/users/{user}", **own))
    note("own project by a member", see(f"/projects/{project}", **own))
    note("a project nowhere by a member", see(f"/projects/{NOWHERE}", **own))
    note(
        "a user made by a member",
        keystone.post("/users", json={"user": {"name": "x"}}, headers=own, authenticated=False),
    )
    note("disabled", keystone.patch(f"/users/{user}", json={"user": {"enabled": False}}))
    note("a disabled user's token", keystone.get("/auth/tokens", headers=itself))
    log_in("a disabled user", in_project)
    note("enabled", keystone.patch(f"/users/{user}", json={"user": {"enabled": True}}))
    own = log_in("enabled again", in_project)
    note("withdrawn", keystone.delete(grant))
    note("withdrawn twice", keystone.delete(grant))
    note("a token of no role", keystone.get("/auth/tokens", headers={"X-Subject-Token": own["X-Auth-Token"]}))


@pytest.fixture(scope="module")
def simulation() -> Iterator[SimulatedCloud]:
    with SimulatedCloud(pace_s=0.02) as cloud:
        cloud.change(
            lambda: cloud.glance.add(
                "debian-12", cloud.keystone.project_id("admin"), b"disk", public=True, min_disk=2
            )
        )
        yield cloud


@pytest.mark.parametrize(
    "these", [try_network, try_volumes, try_servers, try_images, try_identity, try_identities]
)
def test_the_simulated_cloud_answers_as_the_real_one(
    cloud: Cloud, simulation: SimulatedCloud, these: Callable[[Tried], None]
) -> None:
    answers = []
    for sdk, network in ((simulation.connect(), "management"), (cloud.connect(), cloud.management_network)):
        with closing(sdk):
            tried = Tried(sdk, network)
            try:
                these(tried)
            finally:
                tried.end()
            answers.append(tried.answers)
    here, there = answers
    found = [
        f"{name}: simulated {here[name][0]}, real {there[name][0]}"
        for name in here
        if here[name][0] != there[name][0]
    ]
    found += [f"{name}{one}" for name in here for one in differences(here[name][1], there[name][1])]
    assert found == [], "\n".join(found)
