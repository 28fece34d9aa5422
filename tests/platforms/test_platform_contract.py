"""What the task manager relies on, whatever the platform: every call may be repeated, and nothing is left behind.

Run by root, the contract is met again as an ordinary user in `test_local_platform.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from argosy.domain.errors import OutOfSpace, PlatformError
from tests.support.local_platform import LocalSite, wait_until


@pytest.fixture(params=["local", "local, without a nursery"])
def site(request: pytest.FixtureRequest) -> Iterator[LocalSite]:
    site = LocalSite(fork_agents=request.param == "local")
    try:
        yield site
    finally:
        site.close()


def test_a_server_built_twice_is_one_server(site: LocalSite) -> None:
    first = site.build_and_wait()
    pids = site.pids(first)
    second = site.build(first.instance_id)
    assert second == first
    assert site.pids(second) == pids


def test_two_threads_that_build_one_server_build_one(site: LocalSite) -> None:
    instance_id = site.new_id()
    with ThreadPoolExecutor(2) as pool:
        servers = list(pool.map(lambda _: site.build(instance_id), range(2)))
    assert servers[0] == servers[1]
    site.wait_until_serving(servers[0])
    agents = [trace for trace in site.traces(instance_id) if trace.startswith("process")]
    assert len(agents) == 2  # an agent and its server


def test_servers_built_at_once_get_addresses_of_their_own(site: LocalSite) -> None:
    ids = [site.new_id() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        addresses = list(pool.map(site.platform.servers.reserve, ids))
    assert len(set(addresses)) == 6
    assert [site.platform.servers.reserve(instance_id) for instance_id in ids] == addresses


def test_a_new_control_plane_finds_servers_and_leaves_them_alone(site: LocalSite) -> None:
    server = site.build_and_wait()
    pids = site.pids(server)
    site.restart()
    assert site.platform.servers.find(server.instance_id) == server
    assert site.build(server.instance_id) == server
    assert site.pids(server) == pids
    assert site.platform.servers.heal([server.instance_id]) == []


def test_a_dead_agent_is_seen_and_healed_while_its_database_goes_on(site: LocalSite) -> None:
    server = site.build_and_wait()
    database, agent = site.pids(server)
    os.kill(agent, signal.SIGKILL)
    wait_until("the platform sees it", lambda: not running(site, server.instance_id))
    assert site.platform.servers.heal([server.instance_id]) == [server.instance_id]
    site.wait_until_serving(server)
    assert running(site, server.instance_id)
    assert site.pids(server)[0] == database
    assert site.pids(server)[1] != agent


def test_healing_passes_over_what_was_never_built(site: LocalSite) -> None:
    reserved = site.new_id()
    site.platform.servers.reserve(reserved)
    assert site.platform.servers.heal([reserved, site.new_id()]) == []
    assert site.platform.servers.find(reserved) is None


def test_nothing_remains_of_a_deleted_server(site: LocalSite) -> None:
    server = site.build_and_wait()
    assert site.traces(server.instance_id)
    site.destroy(server.instance_id)
    assert site.traces(server.instance_id) == []
    assert site.platform.servers.find(server.instance_id) is None
    assert site.platform.servers.leftovers([]) == []
    assert site.platform.servers.reserve(site.new_id()) == server.address


def test_deleting_what_is_not_there_is_no_error(site: LocalSite) -> None:
    instance_id = site.new_id()
    site.destroy(instance_id)
    assert site.traces(instance_id) == []


def test_a_volume_outlives_its_server_and_serves_the_next(site: LocalSite) -> None:
    server = site.build_and_wait()
    assert site.ask(server, "fill 8") == "filled"
    site.platform.servers.delete(server.instance_id)
    other = site.new_id()
    site.platform.servers.reserve(other)  # takes the address, so the next server gets another
    again = site.build_and_wait(server.instance_id)
    assert again.address != server.address
    # The file is there, and the server, under whichever account now, may write to it.
    filled = site.home / "instances" / server.instance_id / "volume/data/filling"
    assert filled.stat().st_size == 8 << 20
    assert site.ask(again, "fill 1") == "filled"


def test_a_volume_the_machine_cannot_hold_is_refused_with_the_numbers(site: LocalSite) -> None:
    with pytest.raises(OutOfSpace, match=r"A volume of 900000 GB does not fit: .* has [\d.]+ GB free"):
        site.platform.volumes.create(site.new_id(), 900_000)


def test_a_server_that_was_deleted_is_not_made_anew_by_telling_it_something(site: LocalSite) -> None:
    server = site.build_and_wait()
    site.destroy(server.instance_id)
    with pytest.raises(PlatformError, match="has no server"):
        site.platform.servers.replace(site.request(server.instance_id))
    assert site.traces(server.instance_id) == []


def test_a_volume_grows_under_a_server_that_goes_on(site: LocalSite) -> None:
    server = site.build_and_wait()
    pids = site.pids(server)
    for size_gb in (2, 2, 3):
        site.platform.volumes.grow(server.instance_id, size_gb)
    assert site.pids(server) == pids
    assert site.ask(server, "fill 2200") == "filled"
    site.restart()
    site.platform.volumes.grow(server.instance_id, 3)
    assert site.pids(server) == pids


def test_a_volume_that_would_not_fit_is_not_grown_and_says_so_with_the_numbers(site: LocalSite) -> None:
    server = site.build_and_wait()
    before = site.platform.servers.limits(server.instance_id)
    with pytest.raises(OutOfSpace, match=r"A volume of 900000 GB does not fit: .* has [\d.]+ GB free"):
        site.platform.volumes.grow(server.instance_id, 900_000)
    assert site.platform.servers.limits(server.instance_id) == before
    assert site.ask(server, "fill 8") == "filled"


def test_there_must_be_a_volume_to_grow(site: LocalSite) -> None:
    with pytest.raises(PlatformError, match="has no volume"):
        site.platform.volumes.grow(site.new_id(), 2)


def test_leftovers_are_what_nobody_knows_of(site: LocalSite) -> None:
    known, unknown = site.build_and_wait(), site.build_and_wait()
    assert site.platform.servers.leftovers([known.instance_id]) == [unknown.instance_id]
    assert site.platform.servers.leftovers([known.instance_id, unknown.instance_id]) == []


def running(site: LocalSite, instance_id: str) -> bool:
    server = site.platform.servers.find(instance_id)
    return server is not None and server.running
