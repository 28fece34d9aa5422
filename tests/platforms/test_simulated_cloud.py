"""The simulated cloud against openstacksdk: it answers as a real one does, and goes wrong when it is told to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openstack
import pytest
from keystoneauth1 import exceptions as keystone
from openstack import exceptions

from tests.support.cloud import SimulatedCloud
from tests.support.server import wait_until

SOON = {"interval": 0.02, "wait": 60}


@pytest.fixture(scope="module")
def served() -> Iterator[SimulatedCloud]:
    with SimulatedCloud(pace_s=0.02) as cloud:
        cloud.change(lambda: cloud.glance.add("debian", cloud.service_project, b"disk", tags=["argosy"]))
        yield cloud


@pytest.fixture
def cloud(served: SimulatedCloud) -> Iterator[SimulatedCloud]:
    yield served
    served.clear()
    assert served.left() == {}


@pytest.fixture
def sdk(cloud: SimulatedCloud) -> Iterator[openstack.connection.Connection]:
    connection = cloud.connect()
    yield connection
    connection.close()


def boot(sdk: Any, **more: Any) -> Any:
    image = next(sdk.image.images(name="debian"))
    asked = {"name": "s", "image_id": image.id, "flavor_id": "1", "networks": "none", **more}
    return sdk.compute.create_server(**asked)


def test_a_server_comes_up_with_its_ports_and_volume_and_leaves_them_when_it_goes(
    cloud: SimulatedCloud, sdk: Any
) -> None:
    port = sdk.network.create_port(network_id=cloud.management, name="p")
    volume = sdk.block_storage.create_volume(size=1, name="v")
    sdk.block_storage.wait_for_status(volume, "available", **SOON)
    image = next(sdk.image.images(tag="argosy"))
    disks = [
        {"boot_index": 0, "source_type": "image", "destination_type": "local", "uuid": image.id},
        {"boot_index": -1, "source_type": "volume", "destination_type": "volume", "uuid": volume.id},
    ]
    with cloud.standing_still():
        server = boot(
            sdk,
            networks=[{"port": port.id}],
            block_device_mapping=disks,
            tags=["argosy=t"],
            config_drive=True,
        )
        assert sdk.compute.get_server(server.id).status == "BUILD"
    server = sdk.compute.wait_for_server(server, **SOON)
    assert [one["addr"] for one in server.addresses["management"]] == [port.fixed_ips[0]["ip_address"]]
    assert [one.id for one in sdk.compute.servers(tags="argosy=t")] == [server.id]
    port = sdk.network.get_port(port.id)
    assert (port.device_id, port.device_owner, port.status) == (server.id, "compute:nova", "ACTIVE")
    volume = sdk.block_storage.get_volume(volume.id)
    assert (volume.status, volume.attachments[0]["server_id"]) == ("in-use", server.id)
    with pytest.raises(exceptions.BadRequestException, match="must be available or error"):
        sdk.block_storage.delete_volume(volume)
    sdk.compute.delete_server(server)
    sdk.compute.wait_for_delete(server, **SOON)
    assert sdk.network.get_port(port.id).device_id == ""
    sdk.block_storage.wait_for_status(volume, "available", **SOON)


def test_a_server_is_resized_confirmed_reverted_rebuilt_stopped_and_started(sdk: Any) -> None:
    server = sdk.compute.wait_for_server(boot(sdk), **SOON)
    sdk.compute.resize_server(server, "2")
    server = sdk.compute.wait_for_server(server, "VERIFY_RESIZE", **SOON)
    assert server.flavor.ram == 1024
    sdk.compute.confirm_server_resize(server)
    server = sdk.compute.wait_for_server(server, **SOON)
    sdk.compute.resize_server(server, "3")
    server = sdk.compute.wait_for_server(server, "VERIFY_RESIZE", **SOON)
    sdk.compute.revert_server_resize(server)
    server = sdk.compute.wait_for_server(server, **SOON)
    assert server.flavor.ram == 1024
    sdk.compute.rebuild_server(server, image=server.image.id, user_data="eA==")
    server = sdk.compute.wait_for_server(server, **SOON)
    assert server.user_data == "eA=="
    sdk.compute.stop_server(server)
    server = sdk.compute.wait_for_server(server, "SHUTOFF", **SOON)
    with pytest.raises(exceptions.ConflictException, match=r"Cannot 'stop' instance .* in vm_state stopped"):
        sdk.compute.stop_server(server)
    sdk.compute.start_server(server)
    sdk.compute.wait_for_server(server, **SOON)


def test_a_volume_grows_while_it_is_in_use(cloud: SimulatedCloud, sdk: Any) -> None:
    server = sdk.compute.wait_for_server(boot(sdk), **SOON)
    volume = sdk.block_storage.create_volume(size=1, metadata={"argosy": "t"})
    sdk.block_storage.wait_for_status(volume, "available", **SOON)
    sdk.compute.create_volume_attachment(server, volume_id=volume.id)
    sdk.block_storage.wait_for_status(volume, "in-use", **SOON)
    with cloud.standing_still():
        sdk.block_storage.extend_volume(volume, 3)
        volume = sdk.block_storage.get_volume(volume.id)
        assert (volume.status, volume.size) == ("extending", 1)
    assert sdk.block_storage.wait_for_status(volume, "in-use", **SOON).size == 3
    with cloud.standing_still():
        sdk.compute.delete_volume_attachment(server, volume)
        volume = sdk.block_storage.get_volume(volume.id)
    sdk.block_storage.wait_for_status(volume, "available", **SOON)
    found = sdk.block_storage.volumes(properties='{"argosy": "t"}')
    assert [one.id for one in found] == [volume.id]


def test_a_server_that_cannot_be_placed_shows_novas_words_and_keeps_its_volume_reserved(
    sdk: Any, cloud: SimulatedCloud
) -> None:
    cloud.change(lambda: cloud.nova.add_flavor("huge", "huge", 90_000, 1, 4))
    volume = sdk.block_storage.create_volume(size=1)
    sdk.block_storage.wait_for_status(volume, "available", **SOON)
    disks = [{"boot_index": -1, "source_type": "volume", "destination_type": "volume", "uuid": volume.id}]
    server = boot(sdk, flavor_id="huge", block_device_mapping=disks)
    with pytest.raises(exceptions.ResourceFailure):
        sdk.compute.wait_for_server(server, **SOON)
    server = sdk.compute.get_server(server.id)
    assert (server.status, server.fault["message"]) == ("ERROR", "No valid host was found. ")
    assert sdk.block_storage.get_volume(volume.id).status == "reserved"


def test_members_of_an_anti_affinity_group_are_on_hosts_of_their_own(sdk: Any) -> None:
    group = sdk.compute.create_server_group(name="g", policy="anti-affinity")
    hosts = set()
    for _ in range(3):
        server = boot(sdk, scheduler_hints={"group": group.id})
        hosts.add(sdk.compute.wait_for_server(server, **SOON).compute_host)
    assert len(hosts) == 3
    with pytest.raises(exceptions.ResourceFailure):
        sdk.compute.wait_for_server(boot(sdk, scheduler_hints={"group": group.id}), **SOON)
    assert len(sdk.compute.get_server_group(group).member_ids) == 4


def test_quotas_refuse_in_each_services_own_way(cloud: SimulatedCloud, sdk: Any) -> None:
    cloud.limit("nova", instances=0)
    cloud.limit("cinder", gigabytes=2)
    cloud.limit("neutron", port=0)
    with pytest.raises(exceptions.ForbiddenException, match="Quota exceeded for instances: Requested 1, but"):
        boot(sdk)
    with pytest.raises(
        exceptions.HttpException, match="Requested 3G, quota is 2G and 0G has been"
    ) as refused:
        sdk.block_storage.create_volume(size=3)
    assert refused.value.status_code == 413
    with pytest.raises(exceptions.ConflictException, match=r"Quota exceeded for resources: \['port'\]"):
        sdk.network.create_port(network_id=cloud.management)


def test_ports_and_groups_are_found_by_their_tags(cloud: SimulatedCloud, sdk: Any) -> None:
    port = sdk.network.create_port(network_id=cloud.management)
    sdk.network.set_tags(port, ["argosy=t", "argosy-instance=1"])
    group = sdk.network.create_security_group(name="g")
    sdk.network.set_tags(group, ["argosy=t"])
    assert [one.id for one in sdk.network.ports(tags="argosy=t,argosy-instance=1")] == [port.id]
    assert list(sdk.network.ports(tags="argosy=u")) == []
    assert [one.id for one in sdk.network.security_groups(tags="argosy=t")] == [group.id]
    asked = {"direction": "ingress", "protocol": "tcp", "port_range_min": 1, "port_range_max": 1}
    sdk.network.create_security_group_rule(security_group_id=group.id, **asked)
    with pytest.raises(exceptions.ConflictException, match="rule already exists"):
        sdk.network.create_security_group_rule(security_group_id=group.id, **asked)
    sdk.network.update_port(port, security_groups=[group.id])
    with pytest.raises(exceptions.ConflictException, match="in use"):
        sdk.network.delete_security_group(group)


def test_a_floating_ip_needs_a_way_to_the_port(cloud: SimulatedCloud, sdk: Any) -> None:
    inside = sdk.network.create_port(network_id=cloud.tenant)
    floating = sdk.network.create_ip(floating_network_id=cloud.public, port_id=inside.id)
    assert (floating.status, floating.fixed_ip_address) == ("ACTIVE", inside.fixed_ips[0]["ip_address"])
    outside = sdk.network.create_port(network_id=cloud.management)
    with pytest.raises(exceptions.NotFoundException, match="is not reachable from subnet"):
        sdk.network.create_ip(floating_network_id=cloud.public, port_id=outside.id)
    sdk.network.delete_port(inside)
    assert sdk.network.get_ip(floating.id).port_id is None


def test_images_keep_their_data_tags_and_properties(sdk: Any) -> None:
    image = sdk.image.create_image(
        "facts",
        data=b'{"a": 1}',
        tags=["argosy", "argosy:postgresql:16"],
        argosy_facts="x",
        container_format="bare",
        disk_format="raw",
    )
    assert [one.id for one in sdk.image.images(tag="argosy:postgresql:16")] == [image.id]
    assert sdk.image.download_image(image).content == b'{"a": 1}'
    assert sdk.image.get_image(image.id).properties["argosy_facts"] == "x"
    sdk.image.update_image(image, argosy_facts="y")
    assert sdk.image.get_image(image.id).properties["argosy_facts"] == "y"
    sdk.image.delete_image(image)
    assert list(sdk.image.images(tag="argosy:postgresql:16")) == []


def test_an_application_credential_opens_the_cloud_with_its_roles_alone(
    cloud: SimulatedCloud, sdk: Any
) -> None:
    user = sdk.current_user_id
    made = sdk.identity.create_application_credential(user, name="c", roles=[{"name": "member"}])
    auth = {"auth_url": f"{cloud.address}/identity/v3"}
    auth |= {"application_credential_id": made.id, "application_credential_secret": made.secret}
    with openstack.connection.Connection(
        auth_type="v3applicationcredential", auth=auth, region_name="RegionOne"
    ) as other:
        assert other.current_project_id == cloud.service_project
        refused = other.compute.put(f"/os-quota-sets/{cloud.service_project}", json={"quota_set": {}})
        assert refused.status_code == 403
    sdk.identity.delete_application_credential(user, made)


def test_tokens_that_expired_are_got_anew(cloud: SimulatedCloud, sdk: Any) -> None:
    assert list(sdk.compute.servers()) == []
    cloud.expire_tokens()
    assert list(sdk.compute.servers()) == []


def test_what_is_not_ours_is_not_seen_by_an_ordinary_user(cloud: SimulatedCloud, sdk: Any) -> None:
    port = sdk.network.create_port(network_id=cloud.management)
    with cloud.connect("demo", "demo") as demo:
        assert [one.id for one in demo.network.ports() if one.id == port.id] == []
        with pytest.raises(exceptions.NotFoundException):
            demo.network.get_port(port.id)


def test_faults_come_as_often_as_planned_and_act_or_not(cloud: SimulatedCloud, sdk: Any) -> None:
    cloud.faults.refuse("POST /v2.0/ports", 503, times=1, retry_after=7)
    with pytest.raises(exceptions.HttpException) as refused:
        sdk.network.create_port(network_id=cloud.management)
    assert refused.value.response is not None
    assert (refused.value.status_code, refused.value.response.headers["Retry-After"]) == (503, "7")
    assert list(sdk.network.ports(project_id=cloud.service_project)) == []
    cloud.faults.cut("POST /v2.0/ports", acts=True)
    with pytest.raises(keystone.ConnectFailure):
        sdk.network.create_port(network_id=cloud.management)
    assert len(list(sdk.network.ports(project_id=cloud.service_project))) == 1
    cloud.faults.hang("POST /v2.0/ports", acts=True)
    with pytest.raises(keystone.ConnectTimeout):
        sdk.network.post("/ports", json={"port": {"network_id": cloud.management}}, timeout=0.2)
    # What was not answered may be done after whoever asked has given up.
    wait_until("it is done", lambda: len(cloud.left()["port"]) == 2)
    assert cloud.faults.count("POST /v2.0/ports") == 3


def test_things_can_go_behind_our_back(cloud: SimulatedCloud, sdk: Any) -> None:
    server = sdk.compute.wait_for_server(boot(sdk), **SOON)
    cloud.break_server(server.id, "the host caught fire")
    assert sdk.compute.get_server(server.id).fault["message"] == "the host caught fire"
    cloud.lose_server(server.id)
    with pytest.raises(exceptions.NotFoundException):
        sdk.compute.get_server(server.id)


def test_old_microversions_know_less(sdk: Any) -> None:
    image = next(sdk.image.images(name="debian"))
    asked = {"name": "x", "imageRef": image.id, "flavorRef": "1", "networks": "none", "tags": ["a"]}
    answer = sdk.compute.post("/servers", json={"server": asked}, microversion="2.51")
    assert answer.status_code == 400
    assert "'tags' was unexpected" in answer.json()["badRequest"]["message"]
    assert sdk.compute.get("/servers", microversion="2.94").status_code == 406
