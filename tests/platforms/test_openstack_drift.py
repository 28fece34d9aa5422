"""What is found when somebody changed the cloud behind our back, what is put right of it, and what is never touched."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from argosy.domain.drift import Finding
from argosy.domain.errors import PlatformError
from argosy.platforms.base import Expectation
from tests.support.cloud import SimulatedCloud
from tests.support.openstack_installation import OpenStackInstallation, new_id, until


@pytest.fixture
def site(cloud: SimulatedCloud, tmp_path: Path) -> Iterator[Site]:
    site = Site(cloud, tmp_path)
    yield site
    site.close()


@pytest.fixture
def two_networks(cloud: SimulatedCloud, tmp_path: Path) -> Iterator[Site]:
    """Agents on one network, databases on another one that a router joins to the outside."""
    site = Site(cloud, tmp_path, network=cloud.tenant, floating_network="public")
    yield site
    site.close()


class Site(OpenStackInstallation):
    """An installation whose metadata say of its instances what they were when they were built."""

    def __init__(self, cloud: SimulatedCloud, directory: Path, **settings: Any) -> None:
        super().__init__(cloud, directory, **settings)
        self.expected: dict[str, Expectation] = {}

    def build(self, instance_id: str | None = None, **asked: Any) -> str:
        instance_id = super().build(instance_id, **asked)
        placement = self.placement(instance_id, **asked)
        addresses = self.servers.reserve(placement)
        until(lambda: bool(self.volume(instance_id)["attachments"]))
        self.expected[instance_id] = Expectation(
            instance_id=instance_id,
            volume_gb=1,
            settles=False,
            placement=placement,
            agent=addresses.agent,
            database=addresses.database,
            volume=self.volumes.serial(instance_id),
        )
        return instance_id

    def look(self, *, may: Callable[[Finding], bool] = lambda _: True) -> list[Finding]:
        return self.platform.survey(list(self.expected.values()), may)

    def kinds(self, **more: Any) -> list[tuple[str, bool]]:
        return [(one.kind, one.repaired) for one in self.look(**more)]

    def volume(self, instance_id: str) -> Any:
        volumes = self.cloud.cinder.volumes.values()
        return next(one for one in volumes if one["name"] == f"argosy-{instance_id}-volume")

    def stored(self, kind: str, name: str) -> Any:
        """A port or a security group by the end of its name."""
        (found,) = [one for one in self.cloud.neutron.stored[kind].values() if one["name"].endswith(name)]
        return found

    def age(self, kind: str) -> None:
        """Have all of a kind be there for longer than an hour."""
        long_ago = (datetime.now(UTC) - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")

        def age() -> None:
            for one in self.cloud.neutron.stored[kind].values():
                one["created_at"] = long_ago

        self.cloud.change(age)


def rule(cidr: str) -> dict[str, Any]:
    return {
        "direction": "ingress",
        "ether_type": "IPv4",
        "protocol": "tcp",
        "port_range_min": 5432,
        "port_range_max": 5432,
        "remote_ip_prefix": cidr,
    }


def test_nothing_is_found_where_nobody_changed_anything(site: Site, two_networks: Site) -> None:
    site.build()
    site.build(networks=("192.0.2.0/24", "2001:db8::/32"))
    two_networks.build(public=True)
    two_networks.build()
    site.expected |= two_networks.expected
    two_networks.expected = site.expected
    assert two_networks.look() == []


def test_a_look_is_one_listing_of_each_kind_however_many_instances_there_are(site: Site) -> None:
    for _ in range(3):
        site.build()
    site.look()
    before = len(site.cloud.faults.calls)
    site.look()
    asked = [call.rsplit("/", 1)[-1] for call in site.cloud.faults.calls[before:]]
    assert sorted(one for one in asked if one != "router") == [
        "detail",
        "detail",
        "floatingips",
        "ports",
        "security-groups",
    ]


# Servers


def test_a_server_that_goes_during_a_look_is_told_by_the_next_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = site.server(site.build())
    listed: Callable[[], list[tuple[str, Any]]] = site.volumes.all

    def lose_it_and_list() -> list[tuple[str, Any]]:
        site.cloud.lose_server(server.id)
        return listed()

    monkeypatch.setattr(site.volumes, "all", lose_it_and_list)
    assert site.look() == []
    monkeypatch.undo()
    assert site.kinds() == [("server-missing", False)]


def test_a_server_that_was_deleted_is_told_and_its_rebuild_keeps_volume_and_addresses(site: Site) -> None:
    instance_id = site.build()
    before, volume_id = site.expected[instance_id], site.volumes.serial(instance_id)
    site.cloud.lose_server(site.server(instance_id).id)
    (found,) = site.look()
    assert (found.kind, found.repaired, found.instance_id) == ("server-missing", False, instance_id)
    assert "rebuild makes it anew around your data" in found.message
    site.servers.rebuild(site.request(instance_id))
    site.settle(instance_id)
    until(lambda: bool(site.volume(instance_id)["attachments"]))
    assert site.volumes.serial(instance_id) == volume_id
    assert [one.volume_id for one in site.server(instance_id).attachments] == [volume_id]
    assert site.servers.reserve(site.placement(instance_id)).agent == before.agent
    assert site.look() == []


def test_no_server_is_made_around_a_volume_that_is_gone(site: Site) -> None:
    instance_id = site.build()
    volume_id = site.volumes.serial(instance_id)
    site.cloud.lose_server(site.server(instance_id).id)
    site.cloud.change(lambda: site.cloud.cinder.volumes.pop(volume_id))
    with pytest.raises(PlatformError, match="has no volume"):
        site.servers.rebuild(site.request(instance_id))
    assert site.cloud.left().get("volume") is None
    assert {kind for kind, _ in site.kinds()} == {"server-missing", "volume-missing"}


def test_a_port_that_goes_with_its_server_is_kept_for_the_next_one(site: Site) -> None:
    instance_id = site.build()
    address = site.expected[instance_id].agent
    site.cloud.lose_server(site.server(instance_id).id)
    site.cloud.lose_port(site.stored("port", "-agent")["id"])
    assert site.kinds() == [("server-missing", False), ("port-missing", True)]
    site.servers.rebuild(site.request(instance_id))
    site.settle(instance_id)
    assert site.servers.find(instance_id).address == address


def test_a_server_that_is_shut_off_is_told_until_it_is_started(site: Site) -> None:
    instance_id = site.build()
    with site.cloud.connect() as sdk:
        sdk.compute.stop_server(site.server(instance_id).id)
    until(lambda: site.server(instance_id).status == "SHUTOFF")
    until(lambda: site.kinds() == [("server-stopped", False)])
    site.servers.reboot(instance_id)
    until(lambda: site.look() == [])


def test_a_server_in_error_is_told_with_the_clouds_own_words(site: Site) -> None:
    instance_id = site.build()
    site.cloud.break_server(site.server(instance_id).id, "the disk is on fire")
    (found,) = site.look()
    assert (found.kind, found.repaired) == ("server-error", False)
    assert "the disk is on fire" in found.message


def test_a_second_server_of_an_instance_is_told_and_left_alone(site: Site) -> None:
    instance_id = site.build()
    first = site.server(instance_id)
    with site.cloud.connect() as sdk:
        second = sdk.compute.create_server(
            name="by hand",
            image_id=next(sdk.image.images(name="both")).id,
            flavor_id="1",
            networks="none",
            metadata=first.metadata,
            tags=list(first.tags),
        )
        sdk.compute.wait_for_server(second, interval=0.02, wait=20)
        (found,) = site.look()
        assert (found.kind, found.resource) == ("duplicate-server", f"server {second.id}")
        # The one with the data is the one that counts, whichever is older.
        assert site.servers.find_server(instance_id).id == first.id


def test_a_server_that_lost_its_tags_is_given_them_back(site: Site) -> None:
    instance_id = site.build()
    server = site.server(instance_id)
    tags, metadata = list(server.tags), dict(server.metadata)
    with site.cloud.connect() as sdk:
        sdk.compute.remove_tags_from_server(server.id)
        sdk.compute.delete_server_metadata(server.id, list(metadata))
    assert site.kinds(may=lambda _: False) == [("server-unmarked", False)]
    assert site.kinds() == [("server-unmarked", True)]
    assert (set(server.tags), server.metadata) == (set(tags), metadata)
    assert site.look() == []


def test_nothing_is_made_in_a_project_that_has_nothing_of_an_instance(site: Site) -> None:
    """As when clouds.yaml leads to another one."""
    site.expected["i"] = Expectation(
        "i",
        1,
        settles=False,
        placement=site.placement("i"),
        agent="10.0.0.9",
        database="10.0.0.9",
        volume="v",
    )
    assert {kind for kind, repaired in site.kinds() if not repaired} == {
        "server-missing",
        "volume-missing",
        "port-missing",
        "security-group-missing",
    }
    assert site.cloud.left() == {}


# Volumes


def test_a_volume_that_was_detached_is_attached_again_and_the_server_booted(site: Site) -> None:
    instance_id = site.build()
    site.cloud.detach_volume(site.volumes.serial(instance_id))
    assert site.kinds(may=lambda _: False) == [("volume-detached", False)]
    assert site.volume(instance_id)["attachments"] == []
    (found,) = site.look()
    assert (found.kind, found.repaired) == ("volume-detached", True)
    (attached,) = site.volume(instance_id)["attachments"]
    assert attached["server_id"] == site.server(instance_id).id
    assert not site.server(instance_id).attachments[0].delete_on_termination
    until(lambda: site.server(instance_id).status == "ACTIVE")
    assert site.look() == []


def test_a_volume_that_another_server_has_is_left_there(site: Site) -> None:
    ours, other = site.build(), site.build()
    volume_id = site.volumes.serial(ours)
    site.cloud.detach_volume(volume_id)
    with site.cloud.connect() as sdk:
        sdk.compute.create_volume_attachment(site.server(other).id, volume_id=volume_id)
    until(lambda: bool(site.volume(ours)["attachments"]))
    (found,) = site.look()
    assert (found.kind, found.repaired, found.instance_id) == ("volume-detached", False, ours)
    assert "another server" in found.message


def test_a_volume_that_is_gone_is_told_and_none_made_in_its_place(site: Site) -> None:
    instance_id = site.build()
    volume_id = site.volumes.serial(instance_id)
    site.cloud.detach_volume(volume_id)
    site.cloud.change(lambda: site.cloud.cinder.volumes.pop(volume_id))
    (found,) = site.look()
    assert (found.kind, found.resource, found.repaired) == ("volume-missing", f"volume {volume_id}", False)
    assert "volume" not in site.cloud.left()


def test_a_copy_of_the_volume_is_told_and_never_removed(site: Site) -> None:
    instance_id = site.build()
    with site.cloud.connect() as sdk:
        copy = sdk.block_storage.create_volume(
            size=1, name=f"argosy-{instance_id}-volume", metadata=site.volume(instance_id)["metadata"]
        )
    until(lambda: site.cloud.cinder.volumes[copy.id]["status"] == "available")
    site.cloud.change(
        lambda: site.cloud.cinder.volumes[copy.id].update(created_at="2026-01-01T00:00:00.000000")
    )
    (found,) = site.look()
    assert (found.kind, found.resource) == ("duplicate-volume", f"volume {copy.id}")
    site.volumes.create(instance_id, 1)
    assert copy.id in site.cloud.cinder.volumes
    # With two of them, which one is to be attached is a person's choice.
    site.cloud.detach_volume(site.expected[instance_id].volume)
    assert ("volume-detached", False) in site.kinds()


def test_a_volume_of_another_size_is_told(site: Site) -> None:
    instance_id = site.build()
    site.cloud.change(lambda: site.volume(instance_id).update(size=3))
    (found,) = site.look()
    assert (found.kind, found.repaired) == ("volume-size", False)
    assert "has 3 GB in the cloud, and should have 1 GB" in found.message


def test_a_volume_in_error_is_told(site: Site) -> None:
    instance_id = site.build()
    site.cloud.change(lambda: site.volume(instance_id).update(status="error_extending"))
    assert site.kinds() == [("volume-error", False)]


# Ports, and who may come near them


@pytest.mark.parametrize("end", ["-agent", "-database"])
def test_a_port_that_was_deleted_is_made_anew_at_its_address(two_networks: Site, end: str) -> None:
    site = two_networks
    instance_id = site.build(public=True)
    port = site.stored("port", end)
    site.cloud.lose_port(port["id"])
    (found,) = site.look(may=lambda one: one.kind == "port-missing")[:1]
    assert (found.kind, found.repaired) == ("port-missing", True)
    made = site.stored("port", end)
    assert made["id"] != port["id"]
    assert [one["ip_address"] for one in made["fixed_ips"]] == [
        one["ip_address"] for one in port["fixed_ips"]
    ]
    assert made["device_id"] == site.server(instance_id).id
    assert made["security_groups"] == port["security_groups"]
    assert set(made["tags"]) == set(port["tags"])
    # The public address led to the port that is gone.
    assert site.kinds() == ([("floating-ip-astray", True)] if end == "-database" else [])
    assert site.look() == []


def test_one_port_for_agent_and_database_stays_one(site: Site) -> None:
    instance_id = site.build()
    port = site.stored("port", "-agent")
    site.cloud.lose_port(port["id"])
    assert site.kinds() == [("port-missing", True)]
    made = site.stored("port", "-agent")
    assert set(made["security_groups"]) == set(port["security_groups"])
    assert made["device_id"] == site.server(instance_id).id
    assert site.look() == []


def test_an_address_that_somebody_else_took_is_told_with_the_reason(site: Site) -> None:
    instance_id = site.build()
    port = site.stored("port", "-agent")
    site.cloud.lose_port(port["id"])
    with site.cloud.connect() as sdk:
        taken = sdk.network.create_port(
            network_id=site.cloud.management,
            fixed_ips=[{"ip_address": site.expected[instance_id].agent}],
            name="another's",
        )
        (found,) = site.look()
        assert (found.kind, found.repaired) == ("port-missing", False)
        assert "It could not be put right" in found.message
        sdk.network.delete_port(taken)
    assert site.kinds() == [("port-missing", True)]


def test_a_port_that_was_taken_from_its_server_is_given_back(site: Site) -> None:
    instance_id = site.build()
    server, port = site.server(instance_id), site.stored("port", "-agent")
    with site.cloud.connect() as sdk:
        sdk.compute.delete_server_interface(port["id"], server=server.id)
    until(lambda: not site.stored("port", "-agent")["device_id"])
    assert site.kinds() == [("port-detached", True)]
    assert site.stored("port", "-agent")["device_id"] == server.id
    assert site.look() == []


def test_a_port_of_another_address_is_told(site: Site) -> None:
    site.build()
    port = site.stored("port", "-agent")
    with site.cloud.connect() as sdk:
        sdk.network.update_port(port["id"], fixed_ips=[{"subnet_id": port["fixed_ips"][0]["subnet_id"]}])
    kinds = site.kinds()
    if site.stored("port", "-agent")["fixed_ips"] != port["fixed_ips"]:
        assert kinds == [("port-address", False)]


def test_a_security_group_that_is_gone_is_made_anew(two_networks: Site) -> None:
    site = two_networks
    site.build(networks=("192.0.2.0/24",))
    group = site.stored("security_group", "-database")

    def lose() -> None:
        port = site.stored("port", "-database")
        port["security_groups"] = []
        site.cloud.neutron.remove("security_group", group["id"])

    site.cloud.change(lose)
    assert site.kinds() == [("security-group-missing", True)]
    made = site.stored("security_group", "-database")
    assert site.stored("port", "-database")["security_groups"] == [made["id"]]
    assert site.look() == []


def test_one_port_gets_its_groups_back_and_no_second_port(site: Site) -> None:
    site.build()

    def lose() -> None:
        group = site.stored("security_group", "-database")
        port = site.stored("port", "-agent")
        port["security_groups"] = [one for one in port["security_groups"] if one != group["id"]]
        site.cloud.neutron.remove("security_group", group["id"])

    site.cloud.change(lose)
    assert site.kinds() == [("security-group-missing", True)]
    assert site.look() == []
    assert len(site.cloud.left()["port"]) == 1


def test_rules_that_somebody_changed_are_put_right(site: Site) -> None:
    site.build(networks=("192.0.2.0/24",))
    group = site.stored("security_group", "-database")
    with site.cloud.connect() as sdk:
        (ours,) = sdk.network.security_group_rules(security_group_id=group["id"], direction="ingress")
        sdk.network.create_security_group_rule(security_group_id=group["id"], **rule("0.0.0.0/0"))
        assert site.kinds() == [("security-group-rules", True)]
        sdk.network.delete_security_group_rule(ours)
        assert site.kinds() == [("security-group-rules", True)]
        (after,) = sdk.network.security_group_rules(security_group_id=group["id"], direction="ingress")
        assert after.remote_ip_prefix == "192.0.2.0/24"
    assert site.look() == []


def test_a_port_in_other_groups_is_put_into_its_own(site: Site) -> None:
    site.build()
    port = site.stored("port", "-agent")
    held = set(port["security_groups"])
    with site.cloud.connect() as sdk:
        sdk.network.update_port(port["id"], security_groups=[])
    assert site.kinds() == [("port-security-groups", True)]
    assert set(site.stored("port", "-agent")["security_groups"]) == held


# Public addresses


def test_a_public_address_that_was_released_is_told(two_networks: Site) -> None:
    site = two_networks
    site.build(public=True)

    def lose() -> None:
        for one in list(site.cloud.neutron.stored["floatingip"]):
            site.cloud.neutron.remove("floatingip", one)

    site.cloud.change(lose)
    (found,) = site.look()
    assert (found.kind, found.repaired) == ("floating-ip-missing", False)
    assert "is_public" in found.message


def test_a_public_address_of_an_instance_that_is_not_public_is_told(two_networks: Site) -> None:
    site = two_networks
    instance_id = site.build(public=True)
    (expected,) = site.expected.values()
    site.expected[instance_id] = Expectation(
        **{**expected.__dict__, "placement": site.placement(instance_id, public=False)}
    )
    (found,) = site.look()
    assert (found.kind, found.repaired) == ("floating-ip-astray", False)
    assert len(site.cloud.left()["floatingip"]) == 1


# What is of no instance


def test_what_is_of_no_instance_and_may_hold_data_is_told_and_never_removed(site: Site) -> None:
    instance_id = site.build()
    site.expected.clear()
    for kind in ("port", "security_group"):
        site.age(kind)
    for _ in range(2):
        found = site.look()
        assert {(one.kind, one.instance_id, one.carries) for one in found} == {
            ("orphan-server", None, instance_id),
            ("orphan-volume", None, instance_id),
        }
        assert not any(one.repaired for one in found)
    left = site.cloud.left()
    assert {kind: len(some) for kind, some in left.items()} == {
        "server": 1,
        "volume": 1,
        "port": 1,
        "security_group": 2,
    }


def test_what_is_of_no_instance_and_nothing_has_used_for_an_hour_is_removed(two_networks: Site) -> None:
    site = two_networks
    instance_id = new_id()
    site.servers.reserve(site.placement(instance_id, public=True))

    def unlink() -> None:
        for one in site.cloud.neutron.stored["floatingip"].values():
            one["port_id"] = None

    site.cloud.change(unlink)
    assert {kind for kind, repaired in site.kinds() if not repaired} == {
        "orphan-port",
        "orphan-floating-ip",
    }
    for kind in ("port", "security_group", "floatingip"):
        site.age(kind)
    assert site.kinds(may=lambda _: False) == [
        ("orphan-floating-ip", False),
        ("orphan-port", False),
        ("orphan-port", False),
    ]
    assert {kind for kind, repaired in site.kinds() if repaired} == {"orphan-port", "orphan-floating-ip"}
    # What the ports used is free by now.
    assert site.kinds() == [("orphan-security-group", True)] * 2
    assert site.look() == []
    assert site.cloud.left() == {}


def test_what_other_installations_and_people_have_is_none_of_our_business(site: Site, tmp_path: Path) -> None:
    other = OpenStackInstallation(site.cloud, tmp_path, installation="another")
    instance_id = other.build()
    with site.cloud.connect() as sdk:
        sdk.network.create_port(network_id=site.cloud.management, name="argosy-by-hand-agent")
    site.age("port")
    assert site.look() == []
    other.destroy(instance_id)
    other.close()


def test_nothing_is_said_of_an_instance_that_settles(site: Site) -> None:
    instance_id = site.build()
    site.expected[instance_id] = Expectation(instance_id, 1, settles=True)
    site.cloud.lose_server(site.server(instance_id).id)
    assert site.look() == []
