"""What the task manager relies on, whatever the platform: every call may be repeated, and nothing is left behind.

Run by root, the contract is met again as an ordinary user in `test_local_platform.py`. On a real cloud it is met where
ARGOSY_TEST_CLOUD names one (docs/openstack-testing.md).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from argosy.domain.errors import PlatformError
from tests.support.local_platform import LocalSite, wait_until
from tests.support.openstack_platform import SIZES, OpenStackSite, SimulatedSite

Site = LocalSite | OpenStackSite

LOCAL = ["local", "local, without a nursery"]
CLOUDS = ["openstack, simulated", *(["openstack, real"] if "ARGOSY_TEST_CLOUD" in os.environ else [])]


def opened(name: str) -> Site:
    if name == "openstack, simulated":
        return SimulatedSite()
    if name == "openstack, real":
        return OpenStackSite.real()
    return LocalSite(fork_agents=name == "local")


@pytest.fixture(params=[*LOCAL, *CLOUDS])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = opened(request.param)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture(params=LOCAL)
def local(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = opened(request.param)
    try:
        yield site
    finally:
        site.close()


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest) -> Iterator[Site]:
    site = opened(request.param)
    try:
        yield site
    finally:
        site.close()


def test_a_server_built_twice_is_one_server(site: Site) -> None:
    first = site.build_and_wait()
    life = site.life(first)
    second = site.build(first.instance_id)
    assert second == first
    assert site.life(second) == life


def test_two_threads_that_build_one_server_build_one(site: Site) -> None:
    instance_id = site.new_id()
    with ThreadPoolExecutor(2) as pool:
        servers = list(pool.map(lambda _: site.build(instance_id), range(2)))
    assert servers[0] == servers[1]
    site.wait_until_serving(servers[0])
    assert site.servers_of(instance_id) == 1


def test_servers_built_at_once_get_addresses_of_their_own(site: Site) -> None:
    ids = [site.new_id() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        addresses = list(pool.map(site.reserve, ids))
    assert len(set(addresses)) == 6
    assert [site.reserve(instance_id) for instance_id in ids] == addresses


def test_a_new_control_plane_finds_servers_and_leaves_them_alone(site: Site) -> None:
    server = site.build_and_wait()
    life = site.life(server)
    site.restart()
    assert site.platform.servers.find(server.instance_id) == server
    assert site.build(server.instance_id) == server
    assert site.life(server) == life
    assert site.platform.servers.heal([server.instance_id]) == []


def test_a_dead_agent_is_seen_and_healed_while_its_database_goes_on(local: LocalSite) -> None:
    server = local.build_and_wait()
    database, agent = local.pids(server)
    os.kill(agent, signal.SIGKILL)
    wait_until("the platform sees it", lambda: not running(local, server.instance_id))
    assert local.platform.servers.heal([server.instance_id]) == [server.instance_id]
    local.wait_until_serving(server)
    assert running(local, server.instance_id)
    assert local.pids(server)[0] == database
    assert local.pids(server)[1] != agent


def test_healing_passes_over_what_was_never_built(site: Site) -> None:
    reserved = site.new_id()
    site.reserve(reserved)
    assert site.platform.servers.heal([reserved, site.new_id()]) == []
    assert site.platform.servers.find(reserved) is None


def test_nothing_remains_of_a_deleted_server(site: Site) -> None:
    server = site.build_and_wait()
    assert site.traces(server.instance_id)
    site.destroy(server.instance_id)
    assert site.traces(server.instance_id) == []
    assert site.platform.servers.find(server.instance_id) is None
    assert site.platform.servers.leftovers([]) == []


def test_an_address_that_was_given_back_is_given_again(local: LocalSite) -> None:
    server = local.build_and_wait()
    local.destroy(server.instance_id)
    assert local.reserve(local.new_id()) == server.address


def test_deleting_what_is_not_there_is_no_error(site: Site) -> None:
    instance_id = site.new_id()
    site.destroy(instance_id)
    assert site.traces(instance_id) == []


def test_a_volume_outlives_its_server_and_serves_the_next(site: Site) -> None:
    server = site.build_and_wait()
    written = site.write_to_volume(server)
    site.platform.servers.delete(server.instance_id)
    other = site.new_id()
    site.reserve(other)  # takes the address, so the next server gets another
    again = site.build_and_wait(server.instance_id)
    if isinstance(site, LocalSite):
        assert again.address != server.address
    site.check_written(again, written)


def test_a_volume_the_platform_cannot_hold_is_refused_with_the_numbers(site: Site) -> None:
    with pytest.raises(site.refusal, match=site.refused):
        site.platform.volumes.create(site.new_id(), site.more_than_there_is_gb)


def test_a_server_that_was_deleted_is_not_made_anew_by_telling_it_something(site: Site) -> None:
    server = site.build_and_wait()
    site.destroy(server.instance_id)
    if isinstance(site, LocalSite):
        with pytest.raises(PlatformError, match="has no server"):
            site.platform.servers.replace(site.request(server.instance_id))
    else:
        with pytest.raises(PlatformError, match="has no server"):
            site.platform.servers.reboot(server.instance_id)
        with pytest.raises(PlatformError, match="has no server"):
            site.platform.servers.settled(server.instance_id)
    assert site.traces(server.instance_id) == []


def test_a_volume_grows_under_a_server_that_goes_on(site: Site) -> None:
    server = site.build_and_wait()
    life = site.life(server)
    for size_gb in (2, 2, 3):
        site.platform.volumes.grow(server.instance_id, size_gb)
    assert site.life(server) == life
    assert site.size_of_volume(server) == 3
    site.restart()
    site.platform.volumes.grow(server.instance_id, 3)
    assert site.life(server) == life


def test_a_volume_that_would_not_fit_is_not_grown_and_says_so_with_the_numbers(site: Site) -> None:
    server = site.build_and_wait()
    before = site.platform.servers.limits(server.instance_id)
    with pytest.raises(site.refusal, match=site.refused):
        site.platform.volumes.grow(server.instance_id, site.more_than_there_is_gb)
    assert site.platform.servers.limits(server.instance_id) == before
    site.write_to_volume(server)


def test_there_must_be_a_volume_to_grow(site: Site) -> None:
    with pytest.raises(PlatformError, match="has no volume"):
        site.platform.volumes.grow(site.new_id(), 2)


def test_leftovers_are_what_nobody_knows_of(site: Site) -> None:
    known, unknown = site.build_and_wait(), site.build_and_wait()
    assert site.platform.servers.leftovers([known.instance_id]) == [unknown.instance_id]
    assert site.platform.servers.leftovers([known.instance_id, unknown.instance_id]) == []


# Of machines


def test_a_machine_is_resized_and_kept_or_taken_back(cloud: OpenStackSite) -> None:
    server = cloud.build_and_wait()
    written = cloud.write_to_volume(server)
    small, larger = (cloud.flavor(name) for name in SIZES)
    for _ in range(2):
        cloud.platform.servers.resize(server.instance_id, larger)
    cloud.wait_until_settled(server.instance_id)
    cloud.platform.servers.revert(server.instance_id)
    cloud.wait_until_settled(server.instance_id)
    assert cloud.platform.servers.limits(server.instance_id)["memory"].endswith(f"{small.memory_mb} MB")
    cloud.platform.servers.resize(server.instance_id, larger)
    cloud.wait_until_settled(server.instance_id)
    for _ in range(2):
        cloud.platform.servers.confirm(server.instance_id)
    assert cloud.platform.servers.limits(server.instance_id)["memory"].endswith(f"{larger.memory_mb} MB")
    assert cloud.reserve(server.instance_id) == server.address
    cloud.check_written(server, written)


def test_a_machine_made_anew_or_booted_again_keeps_its_volume_and_address(cloud: OpenStackSite) -> None:
    server = cloud.build_and_wait()
    written = cloud.write_to_volume(server)
    life = cloud.life(server)
    cloud.platform.servers.reboot(server.instance_id)
    cloud.wait_until_settled(server.instance_id)
    cloud.platform.servers.rebuild(cloud.request(server.instance_id))
    cloud.wait_until_settled(server.instance_id)
    assert cloud.life(server) != life
    assert cloud.platform.servers.find(server.instance_id) == server
    cloud.check_written(server, written)


def test_a_member_of_the_project_may_do_all_that_the_platform_does() -> None:
    site = SimulatedSite("simulated-demo")
    try:
        server = site.build_and_wait()
        site.platform.volumes.grow(server.instance_id, 2)
        site.platform.servers.resize(server.instance_id, site.flavor(SIZES[1]))
        site.wait_until_settled(server.instance_id)
        site.platform.servers.confirm(server.instance_id)
        site.platform.servers.rebuild(site.request(server.instance_id))
        site.wait_until_settled(server.instance_id)
        assert site.platform.servers.leftovers([]) == [server.instance_id]
        site.destroy(server.instance_id)
        assert site.traces(server.instance_id) == []
    finally:
        site.close()


def running(site: Site, instance_id: str) -> bool:
    server = site.platform.servers.find(instance_id)
    return server is not None and server.running
