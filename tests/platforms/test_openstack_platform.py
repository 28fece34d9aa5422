"""The openstack driver on a simulated cloud: what it makes there, finds again, sets right and takes away."""

from __future__ import annotations

import base64
import logging
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from argosy.domain.errors import (
    ArgosyError,
    CloudQuotaExceeded,
    ImageUnavailable,
    OutOfSpace,
    PlatformError,
    Unavailable,
)
from argosy.platforms.base import ImagePhase
from tests.support.cloud import SimulatedCloud
from tests.support.openstack_installation import (
    PORT,
    USER_DATA,
    OpenStackInstallation,
    add_image,
    catalogue,
    new_id,
    until,
    version,
)
from tests.support.server import wait_until

LONG = "ARGOSY_TEST_LONG" in os.environ
# What one that is public, apart from others and on two networks has in the cloud.
ONE_INSTANCE = {
    "port": 2,
    "security_group": 2,
    "floatingip": 1,
    "volume": 1,
    "server": 1,
    "server_group": 1,
}


@pytest.fixture
def site(cloud: SimulatedCloud, tmp_path: Path) -> Iterator[OpenStackInstallation]:
    site = OpenStackInstallation(cloud, tmp_path)
    yield site
    site.close()


@pytest.fixture
def two_networks(cloud: SimulatedCloud, tmp_path: Path) -> Iterator[OpenStackInstallation]:
    """Agents on one network, databases on another one that a router joins to the outside."""
    site = OpenStackInstallation(cloud, tmp_path, network=cloud.tenant, floating_network="public")
    yield site
    site.close()


# What the settings name


def test_what_the_cloud_does_not_have_is_told_by_the_name_of_its_setting(
    cloud: SimulatedCloud, tmp_path: Path
) -> None:
    names = ("network", "floating_network", "volume_type", "availability_zone")
    shared = [cloud.tenant, "nonesuch"]
    site = OpenStackInstallation(
        cloud, tmp_path, flavors="zz.*", shared_networks=shared, **dict.fromkeys(names, "nonesuch")
    )
    told = site.platform.doubts()
    settings = (*names, "shared_networks", "flavors")
    assert [one.partition(":")[0] for one in told] == [f"openstack.{one}" for one in settings]
    assert all("nonesuch" in one for one in told[:-1])
    assert "zz.*" in told[-1]
    site.close()


def test_settings_that_name_what_is_there_raise_no_doubt(
    cloud: SimulatedCloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = OpenStackInstallation(cloud, tmp_path, network=cloud.tenant, floating_network="public")
    assert site.platform.doubts() == []
    site.restart(volume_type="nonesuch")
    site.platform.warm_up()
    wait_until("it is in the log", lambda: "cloud simulated has no nonesuch" in caplog.text)
    site.close()


# What a server is made of


def test_a_server_boots_with_its_volume_its_port_and_what_it_is_told(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    server = site.server(instance_id)
    assert base64.b64decode(server.user_data).decode() == USER_DATA
    assert server.config_drive
    assert [one.volume_id for one in server.attachments] == [site.volumes.serial(instance_id)]
    assert not server.attachments[0].delete_on_termination
    assert server.metadata == {"argosy": "argosy", "argosy-instance": instance_id}
    assert set(server.tags) == {"argosy=argosy", f"argosy-instance={instance_id}"}
    assert site.servers.limits(instance_id) == {
        "volume": "Cinder volume, 1 GB",
        "memory": "Nova flavor db.tiny, 512 MB",
        "cpu": "Nova flavor db.tiny, 1 vCPU",
    }


def test_everything_made_carries_the_instance(two_networks: OpenStackInstallation) -> None:
    instance_id = two_networks.build(public=True, spread="set")
    left = two_networks.cloud.left()
    names = {f"argosy-{instance_id}-agent", f"argosy-{instance_id}-database"}
    assert {one["name"] for one in left["port"]} == names
    assert {one["name"] for one in left["security_group"]} == names
    for one in (*left["port"], *left["security_group"], *left["floatingip"]):
        assert set(one["tags"]) == {"argosy=argosy", f"argosy-instance={instance_id}"}
    assert [one["name"] for one in left["volume"]] == [f"argosy-{instance_id}-volume"]
    assert left["volume"][0]["metadata"] == {"argosy": "argosy", "argosy-instance": instance_id}
    assert [one["name"] for one in left["server_group"]] == ["argosy-argosy-set"]


def test_nothing_remains_of_a_deleted_instance(two_networks: OpenStackInstallation) -> None:
    instance_id = two_networks.build(public=True, spread="set")
    two_networks.destroy(instance_id)
    assert two_networks.cloud.left() == {}
    two_networks.destroy(instance_id)
    assert two_networks.servers.find(instance_id) is None


def test_what_belongs_to_others_in_the_project_is_left_alone(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    other = site.another(installation="other")
    assert other.servers.leftovers([]) == []
    assert other.servers.find(instance_id) is None
    other.servers.delete(instance_id)
    other.volumes.delete(instance_id)
    assert site.servers.leftovers([]) == [instance_id]
    assert site.servers.leftovers([instance_id]) == []
    other.wind_down()


def test_one_port_serves_both_where_the_networks_are_one(site: OpenStackInstallation) -> None:
    instance_id = new_id()
    addresses = site.servers.reserve(site.placement(instance_id))
    assert addresses.agent == addresses.database
    assert [(one.address, one.network, one.public) for one in addresses.shown] == [
        (addresses.agent, "management", False)
    ]
    (port,) = site.cloud.left()["port"]
    assert len(port["security_groups"]) == 2


def test_a_database_is_on_the_network_that_was_asked_for(site: OpenStackInstallation) -> None:
    instance_id = new_id()
    asked = site.placement(instance_id, network=site.cloud.tenant)
    addresses = site.servers.reserve(asked)
    assert addresses.agent != addresses.database
    assert [one.network for one in addresses.shown] == ["tenant"]
    site.servers.create(site.request(instance_id, network=site.cloud.tenant))
    site.settle(instance_id)
    # Its first interface is what the tenant sees.
    names = {one["id"]: one["name"] for one in site.cloud.left()["port"]}
    assert [names[one] for one in site.server(instance_id).ports] == [
        f"argosy-{instance_id}-database",
        f"argosy-{instance_id}-agent",
    ]
    assert site.servers.reserve(asked) == addresses


def test_an_address_can_be_asked_for(site: OpenStackInstallation) -> None:
    tenant = list(site.cloud.network.subnets(prefixlen_diff=2))[2]
    asked = site.placement(new_id(), network=site.cloud.tenant, ip_address=str(tenant[40]))
    assert site.servers.reserve(asked).database == str(tenant[40])


def test_users_name_networks_of_their_own_project_and_those_that_are_for_all(
    cloud: SimulatedCloud, tmp_path: Path
) -> None:
    site = OpenStackInstallation(cloud, tmp_path, shared_networks=[])
    own = site.placement(new_id(), project=cloud.demo_project, network=cloud.tenant)
    assert [one.network for one in site.servers.reserve(own).shown] == ["tenant"]
    for name in ("tenant", cloud.tenant):
        foreign = site.placement(new_id(), project=cloud.service_project, network=name)
        with pytest.raises(
            PlatformError, match=f"Network {name} cannot be found, or is not for this project"
        ):
            site.servers.reserve(foreign)
    default = site.placement(new_id(), project=cloud.demo_project, network="management")
    assert [one.network for one in site.servers.reserve(default).shown] == ["management"]
    site.restart(shared_networks=["tenant"])
    assert [one.network for one in site.servers.reserve(foreign).shown] == ["tenant"]
    site.close()


def test_an_instance_keeps_its_ports_when_the_settings_change(site: OpenStackInstallation) -> None:
    instance_id = new_id()
    addresses = site.servers.reserve(site.placement(instance_id))
    site.restart(network=site.cloud.tenant)
    assert site.servers.reserve(site.placement(instance_id)) == addresses
    assert len(site.cloud.left()["port"]) == 1


def test_a_network_that_is_not_there_is_named(site: OpenStackInstallation) -> None:
    with pytest.raises(PlatformError, match="Network nowhere cannot be found"):
        site.servers.reserve(site.placement(new_id(), network="nowhere"))
    assert "port" not in site.cloud.left()


def test_replicas_are_kept_apart(cloud: SimulatedCloud, tmp_path: Path) -> None:
    site = OpenStackInstallation(cloud, tmp_path, spread="anti-affinity")
    ids = [site.build(spread="set") for _ in range(3)]
    assert len({site.server(one).host for one in ids}) == 3
    fourth = new_id()
    site.servers.create(site.request(fourth, spread="set"))
    with pytest.raises(PlatformError, match=r"Nova gave up the server .* No valid host was found"):
        site.settle(fourth)
    site.destroy(fourth)
    for one in ids:
        assert "server_group" in cloud.left()
        site.destroy(one)
    assert cloud.left() == {}
    site.close()


# Who may come near it


def rules(site: OpenStackInstallation, instance_id: str, what: str) -> set[tuple[str, int, int, str]]:
    """Of the security group, what it lets in."""
    stored = site.cloud.change(lambda: [*site.cloud.neutron.stored["security_group_rule"].values()])
    (group,) = (
        one for one in site.cloud.left()["security_group"] if one["name"] == f"argosy-{instance_id}-{what}"
    )
    return {
        (one["protocol"], one["port_range_min"], one["port_range_max"], one["remote_ip_prefix"])
        for one in stored
        if one["security_group_id"] == group["id"] and one["direction"] == "ingress"
    }


def test_agents_are_called_from_the_management_network_only_and_databases_from_anywhere(
    two_networks: OpenStackInstallation,
) -> None:
    instance_id = new_id()
    two_networks.servers.reserve(two_networks.placement(instance_id))
    management = list(two_networks.cloud.network.subnets(prefixlen_diff=2))[1]
    assert rules(two_networks, instance_id, "agent") == {("tcp", 8790, 8790, str(management))}
    assert rules(two_networks, instance_id, "database") == {
        ("tcp", PORT, PORT, "0.0.0.0/0"),
        ("tcp", PORT, PORT, "::/0"),
    }


def test_agents_are_called_from_where_the_settings_say(cloud: SimulatedCloud, tmp_path: Path) -> None:
    site = OpenStackInstallation(cloud, tmp_path, control_cidrs=[IPv4Network("192.0.2.8/29")])
    instance_id = new_id()
    site.servers.reserve(site.placement(instance_id))
    assert rules(site, instance_id, "agent") == {("tcp", 8790, 8790, "192.0.2.8/29")}
    site.close()


def test_who_may_come_to_a_database_changes_without_its_address(site: OpenStackInstallation) -> None:
    instance_id = new_id()
    before = site.servers.reserve(site.placement(instance_id))
    for networks in (("192.0.2.0/24",), ("192.0.2.0/24", "2001:db8::/32"), ("198.51.100.7/32",)):
        assert site.servers.allow(site.placement(instance_id, networks=networks)) == before
        assert rules(site, instance_id, "database") == {("tcp", PORT, PORT, one) for one in networks}


def test_a_rule_that_somebody_added_is_taken_away(site: OpenStackInstallation) -> None:
    instance_id = new_id()
    site.servers.reserve(site.placement(instance_id))
    (group,) = (one for one in site.cloud.left()["security_group"] if one["name"].endswith("-agent"))
    sdk: Any = site.cloud.connect()
    sdk.network.create_security_group_rule(
        security_group_id=group["id"], direction="ingress", ether_type="IPv4", protocol="tcp"
    )
    sdk.close()
    site.servers.allow(site.placement(instance_id))
    assert {one[1] for one in rules(site, instance_id, "agent")} == {8790}


def test_a_public_address_comes_and_goes(two_networks: OpenStackInstallation) -> None:
    instance_id = two_networks.build()
    shown = two_networks.servers.allow(two_networks.placement(instance_id, public=True)).shown
    assert [(one.network, one.public) for one in shown] == [("tenant", False), ("public", True)]
    assert two_networks.servers.allow(two_networks.placement(instance_id, public=True)).shown == shown
    (floating,) = two_networks.cloud.left()["floatingip"]
    assert floating["floating_ip_address"] == shown[1].address
    again = two_networks.servers.allow(two_networks.placement(instance_id))
    assert again.shown == shown[:1]
    assert "floatingip" not in two_networks.cloud.left()


def test_without_a_network_to_take_them_from_there_are_no_public_addresses(
    site: OpenStackInstallation,
) -> None:
    addresses = site.servers.reserve(site.placement(new_id(), public=True))
    assert not any(one.public for one in addresses.shown)
    assert site.platform.reach == "the networks of cloud simulated that an instance is put on"


# Asked again, interrupted, asked by two


@pytest.mark.parametrize(
    "route",
    [
        "POST /security-groups",
        "POST /security-group-rules",
        "POST /ports",
        "POST /floatingips",
        "PUT /tags",
        "POST /volumes",
        "POST /os-server-groups",
        "POST /servers",
    ],
)
@pytest.mark.parametrize("how", ["cut off", "an error", "never answered"] if LONG else ["cut off"])
def test_what_was_made_although_the_answer_was_lost_is_made_once(
    two_networks: OpenStackInstallation, route: str, how: str
) -> None:
    faults = two_networks.cloud.faults
    if how == "cut off":
        fault = faults.cut(route)
    elif how == "an error":
        fault = faults.refuse(route, 504, acts=True)
    else:
        two_networks.restart(request_timeout_s=0.3)
        fault = faults.hang(route)
    instance_id = two_networks.build(public=True, spread="set")
    assert fault.met == 1
    left = two_networks.cloud.left()
    assert {kind: len(some) for kind, some in left.items()} == ONE_INSTANCE
    two_networks.destroy(instance_id)
    assert two_networks.cloud.left() == {}


def test_a_driver_that_dies_at_any_moment_is_followed_by_one_that_makes_nothing_twice(
    two_networks: OpenStackInstallation,
) -> None:
    faults, calls, died = two_networks.cloud.faults, 0, True
    while died:
        instance_id = new_id()
        # What it asks last is done, and nothing that it would ask after that.
        faults.cut("* /(network|compute|volume|image)/.*", after=calls)
        faults.cut("* /.*", after=calls, times=10_000, acts=False)
        dying = two_networks.another()
        try:
            dying.servers.create(two_networks.request(instance_id, public=True, spread="set"))
            died = False
        except Unavailable:
            died = True
        dying.wind_down()
        faults.forget()
        two_networks.build(instance_id, public=True, spread="set")
        assert {kind: len(some) for kind, some in two_networks.cloud.left().items()} == ONE_INSTANCE, calls
        two_networks.destroy(instance_id)
        assert two_networks.cloud.left() == {}, calls
        calls += 7
    assert calls > 50


def test_two_threads_that_build_one_server_build_one(site: OpenStackInstallation) -> None:
    instance_id = new_id()
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: site.servers.create(site.request(instance_id)), range(4)))
    assert len({one.address for one in built}) == 1
    assert {kind: len(some) for kind, some in site.cloud.left().items()} == {
        "port": 1,
        "security_group": 2,
        "volume": 1,
        "server": 1,
    }


def test_a_volume_that_two_have_made_is_one_again_though_cinder_is_still_at_the_other(
    site: OpenStackInstallation,
) -> None:
    instance_id = new_id()
    site.volumes.create(instance_id, 1)
    site.cloud.change(lambda: age(site.cloud))
    sdk: Any = site.cloud.connect()
    (volume,) = sdk.block_storage.volumes(details=True, name=f"argosy-{instance_id}-volume")
    with ThreadPoolExecutor(1) as pool:
        with site.cloud.standing_still():
            sdk.block_storage.create_volume(name=volume.name, size=1, metadata=volume.metadata)
            looked = len(site.pauses)
            again = pool.submit(site.volumes.create, instance_id, 1)
            until(lambda: len(site.pauses) > looked or again.done())
            assert not again.done()
        again.result(20)
    sdk.close()
    until(lambda: [one["id"] for one in site.cloud.left()["volume"]] == [volume.id])


def test_a_volume_that_another_makes_at_the_last_moment_is_none_to_boot_with(
    site: OpenStackInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id = new_id()
    site.volumes.create(instance_id, 1)
    (first,) = site.cloud.left()["volume"]
    find_image = site.servers._images.image

    def find_late(versions: Any) -> Any:
        monkeypatch.undo()
        with site.cloud.connect() as sdk:
            twin = sdk.block_storage.create_volume(name=first["name"], size=1, metadata=first["metadata"])
        # Of one age, the one whose id is the first counts: here the second one made.
        moment = (datetime.now(UTC) - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%S.000000")
        site.cloud.change(lambda: site.cloud.cinder.volumes[twin.id].update(created_at=moment))
        return find_image(versions)

    monkeypatch.setattr(site.servers._images, "image", find_late)
    with site.cloud.standing_still(), pytest.raises(Unavailable, match="has changed meanwhile"):
        site.servers.create(site.request(instance_id))
    site.build(instance_id)
    until(lambda: len(site.cloud.left()["volume"]) == 1)
    assert site.server(instance_id).attachments[0].volume_id == site.volumes.serial(instance_id)


@pytest.mark.parametrize("turn", range(5 if LONG else 1))
def test_two_task_managers_that_build_one_instance_build_one(
    two_networks: OpenStackInstallation, turn: int
) -> None:
    instance_id = new_id()
    other = two_networks.another()
    request = two_networks.request(instance_id, public=True, spread="set")

    def build(platform: Any) -> None:
        for _ in range(10):
            with suppress(Unavailable):
                platform.servers.create(request)
                return
        raise AssertionError("it never got its turn")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, (two_networks.platform, other)))
    two_networks.settle(instance_id)
    two_networks.build(instance_id, public=True, spread="set")
    assert two_networks.servers.find(instance_id) == other.servers.find(instance_id)
    assert {kind: len(some) for kind, some in two_networks.cloud.left().items()} == ONE_INSTANCE
    two_networks.destroy(instance_id)
    assert two_networks.cloud.left() == {}
    other.wind_down()


def age(cloud: SimulatedCloud) -> None:
    """All there is was made long ago: clouds tell moments by the second."""
    for server in cloud.nova.servers.values():
        server.created_at = "2020-01-01T00:00:00Z"
    stored = [cloud.neutron.stored[kind] for kind in ("port", "security_group", "floatingip")]
    for some in (cloud.cinder.volumes, *stored):
        for one in some.values():
            one["created_at"] = "2020-01-01T00:00:00Z"


def test_of_what_is_there_twice_the_oldest_stays(site: OpenStackInstallation) -> None:
    instance_id = new_id()
    first = site.servers.reserve(site.placement(instance_id))
    site.volumes.create(instance_id, 1)
    serial = site.volumes.serial(instance_id)
    site.cloud.change(lambda: age(site.cloud))
    sdk: Any = site.cloud.connect()
    (port,) = sdk.network.ports(name=f"argosy-{instance_id}-agent")
    sdk.network.create_port(name=port.name, description=port.description, network_id=port.network_id)
    sdk.network.create_security_group(name=port.name, description=port.description)
    (volume,) = sdk.block_storage.volumes(details=True, name=f"argosy-{instance_id}-volume")
    twin = sdk.block_storage.create_volume(name=volume.name, size=1, metadata=volume.metadata)
    sdk.block_storage.wait_for_status(twin, "available", interval=0.02, wait=20)
    sdk.close()
    assert site.servers.reserve(site.placement(instance_id)) == first
    site.volumes.create(instance_id, 1)
    until(lambda: len(site.cloud.left()["volume"]) == 1)
    assert site.volumes.serial(instance_id) == serial
    assert len(site.cloud.left()["port"]) == 1
    assert len(site.cloud.left()["security_group"]) == 2


def test_a_server_that_is_there_twice_is_one_again_the_next_time_somebody_looks(
    site: OpenStackInstallation,
) -> None:
    instance_id = site.build()
    first = site.server(instance_id)
    site.cloud.change(lambda: age(site.cloud))
    sdk: Any = site.cloud.connect()
    sdk.compute.create_server(
        name=first.name,
        image_id=first.image_id,
        flavor_id="1",
        networks="none",
        tags=first.tags,
        metadata=first.metadata,
    )
    sdk.close()
    assert len(site.cloud.left()["server"]) == 2
    assert site.servers.find(instance_id).running
    until(lambda: [one["id"] for one in site.cloud.left()["server"]] == [first.id])


# A cloud that is busy, away, or says no


@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 429] if LONG else [503, 429])
def test_a_cloud_that_is_not_well_for_a_moment_is_asked_again(
    site: OpenStackInstallation, status: int
) -> None:
    fault = site.cloud.faults.refuse("GET /flavors/detail", status, times=3)
    assert site.platform.flavors()
    assert fault.met == 3
    assert site.pauses == sorted(site.pauses)
    assert all(0.25 <= one <= 2 for one in site.pauses)


def test_a_cloud_is_given_the_time_it_asks_for(site: OpenStackInstallation) -> None:
    site.cloud.faults.refuse("GET /flavors/detail", 429, retry_after=7)
    assert site.platform.flavors()
    assert [round(one) for one in site.pauses] in ([7], [8])


def test_a_cloud_that_stays_away_is_named(site: OpenStackInstallation) -> None:
    site.cloud.faults.cut("GET /flavors/detail", times=100)
    with pytest.raises(Unavailable, match=r"^Nova of cloud simulated does not answer .* asked 6 times\.$"):
        site.platform.flavors()
    site.cloud.faults.forget()
    site.cloud.faults.refuse("GET /ports", 503, times=100)
    with pytest.raises(Unavailable, match=r"^Neutron of cloud simulated"):
        site.servers.reserve(site.placement(new_id()))


def test_a_cloud_that_was_away_when_it_was_first_asked_is_found_later(site: OpenStackInstallation) -> None:
    site.cloud.faults.refuse("* /.*", 503, times=100)
    with pytest.raises(Unavailable, match=r"^Keystone of cloud simulated"):
        site.platform.flavors()
    site.cloud.faults.forget()
    site.cloud.faults.refuse("GET /compute/v2.1/?", 503, times=100)
    with pytest.raises(Unavailable, match=r"^Nova of cloud simulated"):
        site.platform.flavors()
    site.cloud.faults.forget()
    assert site.platform.flavors()


def test_a_token_that_is_worth_nothing_any_more_is_exchanged(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.cloud.expire_tokens()
    assert site.servers.find(instance_id).running


def test_wrong_credentials_say_where_to_look(site: OpenStackInstallation, tmp_path: Path) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(clouds.read_text().replace("password: secret", "password: wrong"))
    site.restart()
    with pytest.raises(
        PlatformError, match=r"Keystone does not let us in: .* cloud simulated in clouds\.yaml"
    ) as refused:
        site.platform.flavors()
    assert "wrong" not in str(refused.value)


def test_a_cloud_that_clouds_yaml_does_not_have_says_so(site: OpenStackInstallation, tmp_path: Path) -> None:
    (tmp_path / "clouds.yaml").write_text("clouds: {}")
    site.restart()
    with pytest.raises(PlatformError, match=r"clouds\.yaml does not do for cloud simulated"):
        site.platform.flavors()


def test_a_clouds_file_that_is_not_there_is_told_by_the_name_of_its_setting(
    site: OpenStackInstallation, tmp_path: Path
) -> None:
    (tmp_path / "clouds.yaml").unlink()
    site.restart()
    with pytest.raises(PlatformError, match=r"openstack\.clouds_file: .*clouds\.yaml is not there"):
        site.platform.flavors()


@pytest.mark.parametrize(
    ("service", "quota", "told"),
    [
        ("nova", {"instances": 0}, "Nova's quota instances has 0 left and 1 is asked"),
        ("nova", {"ram": 600}, "Nova's quota ram has 88 left and 512 is asked"),
        ("nova", {"server_groups": 0}, "Nova's quota server groups has 0 left"),
        ("cinder", {"volumes": 1}, "Cinder's quota volumes has 0 left and 1 is asked"),
        ("cinder", {"gigabytes": 1}, "Cinder's quota gigabytes has 0 left and 1 is asked"),
        ("neutron", {"port": 1}, "Neutron's quota port has 0 left and 1 is asked"),
        ("neutron", {"security_group": 3}, "Neutron's quota security_group has 0 left and 1 is asked"),
    ],
)
def test_a_quota_of_the_cloud_is_told_by_its_name_and_numbers(
    site: OpenStackInstallation, service: str, quota: dict[str, int], told: str
) -> None:
    site.build()
    site.cloud.limit(service, **quota)
    with pytest.raises(CloudQuotaExceeded, match=told) as refused:
        site.servers.create(site.request(new_id(), spread="set"))
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301 - as DBOS stores it
    assert (again.sentence, again.code) == (refused.value.sentence, "cloud-quota-exceeded")


def test_a_server_that_does_not_come_up_says_why_in_novas_words(site: OpenStackInstallation) -> None:
    site.cloud.fail_next_server("Build of instance aborted: no bootable device")
    instance_id = new_id()
    site.servers.create(site.request(instance_id))
    with pytest.raises(PlatformError, match="Build of instance aborted: no bootable device"):
        site.settle(instance_id)
    # Neither is it built again by asking again: an operator may want to look at it.
    site.servers.create(site.request(instance_id))
    with pytest.raises(PlatformError, match="no bootable device"):
        site.servers.settled(instance_id)
    site.destroy(instance_id)
    assert site.cloud.left() == {}


def test_nothing_secret_is_logged_or_told(
    site: OpenStackInstallation, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    instance_id = site.build()
    site.servers.rebuild(site.request(instance_id))
    said = caplog.text + repr(site.request(instance_id))
    assert "a secret" not in said
    assert base64.b64encode(USER_DATA.encode()).decode() not in said
    site.cloud.faults.refuse(
        "POST /servers", 400, message="Invalid input for field/attribute user_data. Value: Zm9v"
    )
    with pytest.raises(PlatformError, match="the user data is not valid") as refused:
        site.servers.create(site.request(new_id()))
    assert "Zm9v" not in str(refused.value)


# What is done to a server


def test_a_resize_is_kept(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    for _ in range(2):
        site.servers.resize(instance_id, site.flavor("db.small"))
    site.settle(instance_id)
    site.servers.resize(instance_id, site.flavor("db.small"))
    assert site.server(instance_id).vm_state == "resized"
    for _ in range(2):
        site.servers.confirm(instance_id)
        site.settle(instance_id)
    assert site.servers.limits(instance_id)["memory"] == "Nova flavor db.small, 1024 MB"
    site.servers.revert(instance_id)
    assert site.servers.settled(instance_id)
    assert site.servers.limits(instance_id)["memory"] == "Nova flavor db.small, 1024 MB"


def test_a_resize_is_taken_back(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.servers.resize(instance_id, site.flavor("db.small"))
    site.settle(instance_id)
    for _ in range(2):
        site.servers.revert(instance_id)
    site.settle(instance_id)
    site.servers.confirm(instance_id)
    assert site.servers.limits(instance_id)["memory"] == "Nova flavor db.tiny, 512 MB"


def test_while_a_server_is_on_its_way_to_another_size_it_can_only_be_waited_for(
    site: OpenStackInstallation,
) -> None:
    instance_id = site.build()
    with site.cloud.standing_still():
        site.servers.resize(instance_id, site.flavor("db.small"))
        assert not site.servers.settled(instance_id)
        for ask in (site.servers.confirm, site.servers.revert):
            with pytest.raises(Unavailable, match="size"):
                ask(instance_id)
        with pytest.raises(Unavailable, match="busy in Nova"):
            site.servers.reboot(instance_id)
    site.settle(instance_id)


def test_a_resize_after_one_that_nobody_kept_begins_where_that_one_ended(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.servers.resize(instance_id, site.flavor("db.small"))
    site.settle(instance_id)
    site.servers.resize(instance_id, site.flavor("db.medium"))
    site.settle(instance_id)
    site.servers.confirm(instance_id)
    assert site.servers.limits(instance_id)["memory"] == "Nova flavor db.medium, 2048 MB"


def test_a_resize_that_nova_gave_up_says_why_until_it_is_taken_back(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.cloud.fail_next_server("Resize error: Unable to resize disk down.")
    site.servers.resize(instance_id, site.flavor("db.small"))
    with pytest.raises(PlatformError, match=r"Nova did not resize the server .* Unable to resize disk down"):
        site.settle(instance_id)
    with pytest.raises(PlatformError, match="Nova did not resize"):
        site.servers.settled(instance_id)
    site.servers.revert(instance_id)
    assert site.servers.settled(instance_id)
    assert site.servers.limits(instance_id)["memory"] == "Nova flavor db.tiny, 512 MB"


def test_a_server_is_booted_again_whatever_its_state(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.servers.reboot(instance_id)
    site.settle(instance_id)
    site.cloud.break_server(site.server(instance_id).id, "libvirt went away")
    site.servers.reboot(instance_id)
    site.settle(instance_id)
    assert site.servers.find(instance_id).running


@pytest.mark.parametrize("how", ["cut off", "an error"] if LONG else ["cut off"])
@pytest.mark.parametrize("what", ["reboot", "rebuild", "resize", "confirm", "revert", "stop and start"])
def test_what_a_server_was_asked_although_the_answer_was_lost_is_done(
    site: OpenStackInstallation, what: str, how: str
) -> None:
    instance_id = site.build()
    if what in {"confirm", "revert"}:
        site.servers.resize(instance_id, site.flavor("db.small"))
        site.settle(instance_id)
    if how == "cut off":
        fault = site.cloud.faults.cut("POST /action")
    else:
        fault = site.cloud.faults.refuse("POST /action", 502, acts=True)
    match what:
        case "rebuild":
            site.servers.rebuild(site.request(instance_id))
        case "resize":
            site.servers.resize(instance_id, site.flavor("db.small"))
        case "stop and start":
            site.platform.stop(instance_id)
            until(lambda: not site.servers.find(instance_id).running)
            site.settle(instance_id)
            fault = site.cloud.faults.cut("POST /action")
            site.servers.heal([instance_id])
        case _:
            getattr(site.servers, what)(instance_id)
    site.settle(instance_id)
    assert fault.met == 1
    assert site.servers.find(instance_id).running
    flavor = "db.small, 1024 MB" if what in {"confirm", "resize"} else "db.tiny, 512 MB"
    assert site.servers.limits(instance_id)["memory"] == f"Nova flavor {flavor}"


def test_a_server_is_made_anew_around_its_volume_and_its_port(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    before = site.cloud.left()
    serial, server_id = site.volumes.serial(instance_id), site.server(instance_id).id
    site.servers.rebuild(site.request(instance_id, also=(version("16"),)))
    site.settle(instance_id)
    assert site.server(instance_id).id == server_id
    assert [one.volume_id for one in site.server(instance_id).attachments] == [serial]
    assert [one["id"] for one in site.cloud.left()["port"]] == [one["id"] for one in before["port"]]


def test_a_server_that_was_shut_off_runs_after_it_was_made_anew(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.cloud.power_off(site.server(instance_id).id)
    site.servers.rebuild(site.request(instance_id))
    site.settle(instance_id)
    assert site.servers.find(instance_id).running


def test_a_server_that_somebody_deleted_is_made_anew_at_the_same_address(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    before, serial = site.servers.find(instance_id), site.volumes.serial(instance_id)
    site.cloud.lose_server(site.server(instance_id).id)
    assert site.servers.find(instance_id) is None
    with pytest.raises(PlatformError, match="has no server in cloud simulated"):
        site.servers.settled(instance_id)
    site.servers.rebuild(site.request(instance_id))
    site.settle(instance_id)
    assert site.servers.find(instance_id) == before
    assert [one.volume_id for one in site.server(instance_id).attachments] == [serial]


def test_a_machine_is_not_told_what_it_is_by_the_platform(site: OpenStackInstallation) -> None:
    with pytest.raises(PlatformError, match="asks the conductor"):
        site.servers.replace(site.request(new_id()))


def test_servers_that_went_down_are_started_and_the_cloud_is_seldom_asked(
    site: OpenStackInstallation,
) -> None:
    ids = [site.build() for _ in range(2)]
    site.cloud.faults.forget()
    for _ in range(10):
        assert site.servers.heal(ids) == []
    assert len(site.cloud.faults.calls) <= 2
    site.cloud.power_off(site.server(ids[0]).id)
    site.restart()
    assert site.servers.heal([ids[1]]) == []
    assert site.servers.heal(ids) == [ids[0]]
    assert site.servers.heal(ids) == []
    site.settle(ids[0])
    assert site.servers.find(ids[0]).running


def test_a_server_that_a_person_stopped_stays_so_until_it_is_booted(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    sdk: Any = site.cloud.connect()
    sdk.compute.stop_server(site.server(instance_id).id)
    sdk.close()
    until(lambda: not site.servers.find(instance_id).running)
    site.settle(instance_id)
    site.restart()
    site.cloud.faults.forget()
    for _ in range(10):
        assert site.servers.heal([instance_id]) == []
    assert site.cloud.faults.count("GET /(detail|os-instance-actions)") == 2
    site.servers.reboot(instance_id)
    site.settle(instance_id)
    assert site.servers.find(instance_id).running


def test_a_server_that_went_down_with_the_installation_comes_up_with_it(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    for _ in range(2):
        site.platform.stop(instance_id)
    site.platform.stop(new_id())
    until(lambda: not site.servers.find(instance_id).running)
    site.settle(instance_id)
    site.restart()
    assert site.servers.heal([instance_id]) == [instance_id]
    site.settle(instance_id)
    assert site.servers.find(instance_id).running
    assert set(site.server(instance_id).metadata) == {"argosy", "argosy-instance"}


def test_while_nova_is_away_healing_goes_by_what_it_said(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    assert site.servers.heal([instance_id]) == []
    site.cloud.faults.cut("GET /servers/detail", times=100)
    assert site.servers.heal([instance_id]) == []


# Volumes


def test_a_volume_grows_while_it_is_in_use(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    for _ in range(2):
        site.volumes.grow(instance_id, 3)
    (volume,) = site.cloud.left()["volume"]
    assert (volume["size"], volume["status"]) == (3, "in-use")
    site.volumes.grow(instance_id, 2)
    assert site.servers.limits(instance_id)["volume"] == "Cinder volume, 3 GB"


def test_a_volume_that_was_grown_although_the_answer_was_lost_is_waited_for(
    site: OpenStackInstallation,
) -> None:
    instance_id = site.build()
    site.cloud.faults.cut("POST /action")
    site.volumes.grow(instance_id, 3)
    assert site.cloud.left()["volume"][0]["size"] == 3


def test_a_volume_beyond_the_quota_is_left_as_it_was(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.cloud.limit("cinder", gigabytes=5)
    with pytest.raises(CloudQuotaExceeded, match="Cinder's quota gigabytes has 4 left and 9 is asked"):
        site.volumes.grow(instance_id, 10)
    assert site.servers.limits(instance_id)["volume"] == "Cinder volume, 1 GB"


def test_a_volume_outlives_its_server_and_serves_the_next(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    serial = site.volumes.serial(instance_id)
    site.servers.delete(instance_id)
    assert set(site.cloud.left()) == {"volume"}
    site.build(instance_id)
    assert [one.volume_id for one in site.server(instance_id).attachments] == [serial]


def test_a_volume_that_was_detached_is_attached_again(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    serial = site.volumes.serial(instance_id)
    site.cloud.detach_volume(serial)
    until(lambda: site.cloud.left()["volume"][0]["status"] == "available")
    for _ in range(2):
        site.volumes.attach(instance_id)
    assert [one.volume_id for one in site.server(instance_id).attachments] == [serial]


def test_a_volume_is_detached_before_it_is_removed(site: OpenStackInstallation) -> None:
    instance_id = site.build()
    site.volumes.delete(instance_id)
    assert "volume" not in site.cloud.left()


def test_there_must_be_a_volume_to_attach_or_grow(site: OpenStackInstallation) -> None:
    for ask in (site.volumes.attach, site.volumes.serial, lambda one: site.volumes.grow(one, 2)):
        with pytest.raises(PlatformError, match="has no volume in cloud simulated"):
            ask(new_id())


# Images and flavors


def test_the_newest_image_that_holds_a_version_is_booted(site: OpenStackInstallation) -> None:
    images: Any = site.platform.images
    assert images.image([version("17")]).name == "seventeen"
    assert images.image([version("17"), version("16")]).name == "both"
    state = images.state(version("17"))
    assert state.phase is ImagePhase.READY
    assert state.source.startswith("image seventeen (")


def test_a_version_without_an_image_says_what_to_do(site: OpenStackInstallation) -> None:
    state = site.platform.images.state(version("18"))
    assert state.phase is ImagePhase.FAILED
    assert state.detail == (
        "No image in Glance is tagged argosy:postgresql:18: make one with "
        "`argosy image build postgresql 18 --register`."
    )
    with pytest.raises(ImageUnavailable, match="No image in Glance holds postgresql 17 and postgresql 18"):
        site.platform.images.image([version("17"), version("18")])  # type: ignore[attr-defined]


def test_an_image_that_another_tenant_tagged_as_ours_is_not_booted(site: OpenStackInstallation) -> None:
    foreign = add_image(site.cloud, "trap", "17", "18", owner=site.cloud.demo_project)
    assert site.platform.images.state(version("18")).phase is ImagePhase.FAILED
    named = site.platform.images.state(version("18", own_id="1", image=foreign))
    assert (named.phase, "neither of our project nor public" in named.detail) == (ImagePhase.FAILED, True)


def test_a_version_of_an_operators_own_is_booted_from_the_image_it_names(site: OpenStackInstallation) -> None:
    plain = site.cloud.change(lambda: site.cloud.glance.add("plain", site.cloud.service_project, b"disk"))
    gold = site.cloud.change(
        lambda: site.cloud.glance.add("gold", site.cloud.service_project, b"disk", tags=["gold", "audited"])
    )
    images: Any = site.platform.images
    assert images.image([version("17-own", like="17", own_id="1", image=plain)]).id == plain
    assert images.image([version("17-gold", like="17", own_id="2", tags=("gold", "audited"))]).id == gold
    state = images.state(version("17-blue", like="17", own_id="3", tags=("blue",)))
    assert state.detail.startswith("No image in Glance has the tags of postgresql 17-blue (blue)")


def test_parameters_and_paths_are_from_the_facts_of_an_image(site: OpenStackInstallation) -> None:
    assert site.platform.images.parameters(version("17")) == catalogue("17")
    assert site.platform.images.parameters(version("18")) is None
    instance_id = site.build()
    assert not site.servers.holds(instance_id, version("16"))
    with pytest.raises(ImageUnavailable, match="does not hold postgresql 16"):
        site.servers.offer(instance_id, version("16"))
    site.servers.rebuild(site.request(instance_id, also=(version("16"),)))
    site.settle(instance_id)
    assert site.servers.holds(instance_id, version("16"))
    offered = site.servers.offer(instance_id, version("16"))
    assert (offered.version, offered.bundle) == ("16", "/opt/argosy/software/postgresql/16/bundle")


def test_flavors_are_those_that_fit_the_pattern(cloud: SimulatedCloud, tmp_path: Path) -> None:
    site = OpenStackInstallation(cloud, tmp_path, flavors="db.[st]*")
    assert [(one.name, one.memory_mb, one.vcpus) for one in site.platform.flavors()] == [
        ("db.tiny", 512, 1),
        ("db.small", 1024, 1),
    ]
    site.close()


def test_every_failure_is_one_of_ours(site: OpenStackInstallation) -> None:
    site.cloud.faults.refuse("POST /servers", 418, message="I am a teapot.")
    with pytest.raises(ArgosyError, match=r"Nova refused: I am a teapot\.") as refused:
        site.servers.create(site.request(new_id()))
    assert not isinstance(refused.value, OutOfSpace)
