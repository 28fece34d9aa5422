"""What this machine as a platform promises beyond the contract: limits that hold, accounts apart, no crash that matters."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from argosy import marks
from argosy.domain.errors import PlatformError
from argosy.domain.guest import RPC_PORT
from argosy.platforms.base import Server
from tests.support.crash_walk import killed_at
from tests.support.local_platform import (
    PORT,
    ROOT,
    SMALL,
    LocalSite,
    as_ordinary_user,
    network,
    wait_until,
)
from tests.support.scratch import new_home

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can limit and mount")

NewSite = Callable[..., LocalSite]


@pytest.fixture
def new_site() -> Iterator[NewSite]:
    sites: list[LocalSite] = []

    def new(**settings: object) -> LocalSite:
        sites.append(LocalSite(**settings))  # type: ignore[arg-type] # each test names real ones
        return sites[-1]

    try:
        yield new
    finally:
        for site in sites:
            site.close()


@pytest.fixture
def site(new_site: NewSite) -> LocalSite:
    return new_site()


@root_only
def test_a_volume_takes_what_was_asked_for_and_no_more(site: LocalSite) -> None:
    server = site.build_and_wait()
    assert site.ask(server, "fill 900") == "filled"
    assert site.ask(server, "fill 124") == "error 28"  # ENOSPC: its own tables take the rest
    assert site.platform.servers.limits(server.instance_id)["volume"] == "file system of its own, 1 GB"


@root_only
def test_a_grown_volume_takes_what_was_asked_for_and_no_more_after_a_reboot_too(site: LocalSite) -> None:
    server = site.build_and_wait()
    site.platform.volumes.grow(server.instance_id, 2)
    site.platform.stop(server.instance_id)
    site.restart()
    site.platform.servers.heal([server.instance_id])
    site.wait_until_serving(server)
    assert site.platform.servers.limits(server.instance_id)["volume"] == "file system of its own, 2 GB"
    assert site.ask(server, "fill 1850") == "filled"
    assert site.ask(server, "fill 200") == "error 28"


@root_only
def test_a_growth_killed_between_any_two_acts_is_finished_by_asking_again(site: LocalSite) -> None:
    server = site.build_and_wait()
    size_gb = 1
    for step in range(100):
        size_gb += 1
        platform = site.new_platform()
        killed = killed_at(step, functools.partial(platform.volumes.grow, server.instance_id, size_gb))
        site.restart()
        site.platform.volumes.grow(server.instance_id, size_gb)
        limit = site.platform.servers.limits(server.instance_id)["volume"]
        assert limit == f"file system of its own, {size_gb} GB"
        volume = os.statvfs(site.files_of(server.instance_id) / "volume")
        assert 0.9 * size_gb < volume.f_bavail * volume.f_frsize / 2**30 < size_gb
        if not killed:
            assert step > 2
            return
    raise AssertionError("it never got through")


@root_only
def test_pages_of_a_volume_are_not_held_in_memory_twice(site: LocalSite) -> None:
    server = site.build_and_wait()
    image = site.files_of(server.instance_id) / "volume.img"
    loops = [loop for loop in Path("/sys/block").glob("loop*/loop") if backing(loop) == str(image)]
    assert [(loop / "dio").read_text().strip() for loop in loops] == ["1"]


def backing(loop: Path) -> str:
    try:
        return (loop / "backing_file").read_text().strip()
    except OSError:  # another test's, just freed
        return ""


@root_only
def test_volumes_attached_at_once_get_devices_of_their_own(site: LocalSite) -> None:
    ids = [site.new_id() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        servers = list(pool.map(site.build, ids))
    for server in servers:
        site.wait_until_serving(server)
        assert [trace for trace in site.traces(server.instance_id) if trace.startswith("loop")]


@root_only
def test_a_database_that_eats_too_much_dies_and_its_agent_does_not(site: LocalSite) -> None:
    server = site.build_and_wait()
    database, agent = site.pids(server)
    if may_protect():
        assert Path(f"/proc/{agent}/oom_score_adj").read_text().strip() == "-900"
    assert Path(f"/proc/{database}/oom_score_adj").read_text().strip() == "0"
    assert site.ask(server, "eat 32") == "eaten"
    assert eaten_alive(site, server)
    wait_until("the agent, alive, sees that its server is dead", lambda: site.pids(server) == (0, agent))
    assert marks.started_at(database) is None


def may_protect() -> bool:
    """Root of some containers lacks CAP_SYS_RESOURCE, without which no process is spared."""
    effective = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> 24 & 1)


def eaten_alive(site: LocalSite, server: Server) -> bool:
    """Ask for more memory than the flavor and the agent have together; the connection breaks."""
    try:
        return site.ask(server, f"eat {SMALL.memory_mb + 128}") == ""
    except ConnectionError:
        return True


@root_only
def test_show_says_by_what_means_each_limit_holds(site: LocalSite) -> None:
    server = site.build_and_wait()
    limits = site.platform.servers.limits(server.instance_id)
    assert re.fullmatch(r"cgroup v[12], 96 MB and 64 MB for the agent", limits["memory"])
    assert re.fullmatch(r"cgroup v[12], time of 1 vcpu at most", limits["cpu"])


def test_show_says_why_a_limit_does_not_hold(new_site: NewSite) -> None:
    site = new_site(volumes="directory", limits="none")
    server = site.build_and_wait()
    assert site.platform.servers.limits(server.instance_id) == {
        "memory": "not enforced: limits are switched off by configuration",
        "cpu": "not enforced: limits are switched off by configuration",
        "volume": "not enforced: volumes are configured to be plain directories",
    }


@root_only
def test_each_database_has_an_account_and_cannot_see_its_neighbour(site: LocalSite) -> None:
    first, second = site.build_and_wait(), site.build_and_wait()
    accounts = [site.ask(server, "account") for server in (first, second)]
    assert accounts[0] != accounts[1]
    config = site.config(first.instance_id)
    assert accounts[0] == f"{config.uid} {config.gid}"
    assert config.uid == 1_900_000_000 + int.from_bytes(socket.inet_aton(first.address)[2:])
    own, other = (int(account.split()[0]) for account in accounts)
    for path in (config.volume, config.tls_key, config.run, config.etc, config.logs):
        assert can_read(path, own)
        assert not can_read(path, other)
    for path in (config.rpc_key, str(site.home / "instances")):
        assert not can_read(path, own)


def can_read(path: str, uid: int) -> bool:
    command = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "test", "-r", path]
    return subprocess.run(command, check=False).returncode == 0


def test_keys_are_closed_and_never_in_arguments_or_environment(site: LocalSite) -> None:
    server = site.build_and_wait()
    config = site.config(server.instance_id)
    for key, owner in ((config.rpc_key, os.geteuid()), (config.tls_key, config.uid)):
        found = Path(key).stat()
        assert stat.S_IMODE(found.st_mode) == 0o600
        assert found.st_uid == owner
    agent = site.pids(server)[1]
    assert marks.environment(agent).keys() == {
        "PATH", "HOME", "LC_ALL", "PYTHONPATH", "ARGOSY_INSTANCE", "ARGOSY_ROLE",
    }  # fmt: skip
    assert Path(f"/proc/{agent}/cmdline").read_text().count("key") == 0


def test_a_database_may_write_where_its_agent_never_follows(site: LocalSite) -> None:
    """The agent may be root: a directory it writes in must not be one where the server can put a link."""
    config = site.config(site.build_and_wait().instance_id)
    for path in (config.etc, config.logs, str(Path(config.rpc_key).parent), str(Path(config.etc).parent)):
        assert Path(path).stat().st_uid == os.geteuid()
        assert not Path(path).stat().st_mode & 0o022


def test_a_stopped_instance_keeps_its_data_and_comes_back_healed(site: LocalSite) -> None:
    server = site.build_and_wait()
    assert site.ask(server, "fill 8") == "filled"
    site.platform.stop(server.instance_id)
    kinds = {trace.split()[0] for trace in site.traces(server.instance_id)}
    assert kinds == {"file", "link"}
    stopped = site.platform.servers.find(server.instance_id)
    assert stopped == Server(server.instance_id, server.address, running=False)
    site.restart()
    assert site.platform.servers.heal([server.instance_id]) == [server.instance_id]
    site.wait_until_serving(server)
    assert Path(site.config(server.instance_id).volume, "data/filling").stat().st_size == 8 << 20


def test_an_agent_whose_pid_file_is_lost_is_found_by_its_marks(site: LocalSite) -> None:
    server = site.build_and_wait()
    pids = site.pids(server)
    (site.files_of(server.instance_id) / "agent.json").unlink()
    site.restart()
    assert site.platform.servers.heal([server.instance_id]) == []
    assert site.pids(server) == pids


def test_processes_that_lost_their_marks_die_with_their_parents(new_site: NewSite) -> None:
    site = new_site(volumes="directory", limits="none")
    server = site.build_and_wait()
    child = int(site.ask(server, "fork"))
    assert marks.environment(child) == {}
    site.destroy(server.instance_id)
    assert marks.started_at(child) is None


def test_a_database_that_will_not_end_is_killed(site: LocalSite) -> None:
    server = site.build_and_wait()
    database, _ = site.pids(server)
    os.kill(database, signal.SIGSTOP)
    try:
        site.destroy(server.instance_id)
    finally:
        assert marks.started_at(database) is None
    assert site.traces(server.instance_id) == []


def test_an_address_where_somebody_else_listens_is_passed_over(site: LocalSite) -> None:
    first = str(network()[10])
    with socket.create_server((first, RPC_PORT)):
        assert site.reserve(site.new_id()) == str(network()[11])
    assert site.reserve(site.new_id()) == first


def test_a_port_somebody_has_at_every_address_is_named(site: LocalSite) -> None:
    instance_id = site.new_id()
    address = site.reserve(instance_id)
    with (
        socket.create_server((address, PORT)),
        pytest.raises(PlatformError, match=f"Port {PORT} of {address} is taken by another program"),
    ):
        site.build(instance_id)
    assert site.platform.servers.find(instance_id) is None


def test_running_out_of_addresses_is_told_with_numbers(new_site: NewSite) -> None:
    small = IPv4Network((int(network().network_address), 28))
    site = new_site(addresses=small)
    for _ in range(5):
        site.reserve(site.new_id())
    with pytest.raises(PlatformError, match=r"No address of .*/28 is free: of 5, instances have 5 and other"):
        site.reserve(site.new_id())
    site.destroy(site.ids[2])
    assert site.reserve(site.ids[5]) == str(small[12])


def test_a_home_too_deep_for_sockets_is_refused(new_site: NewSite) -> None:
    site = new_site()
    site.home /= "d" * 60
    with pytest.raises(PlatformError, match="65 is the most"):
        site.new_platform()
    site.home = site.home.parent


@root_only
def test_a_home_that_databases_cannot_reach_is_refused(site: LocalSite) -> None:
    home = site.home
    closed = home / "closed"
    closed.mkdir(mode=0o700)
    site.home = closed / "home"
    with pytest.raises(PlatformError, match=rf"cannot reach .*: {closed} is closed to others.*chmod o\+x"):
        site.new_platform()
    site.home = home


def test_an_id_that_names_a_path_is_refused(site: LocalSite) -> None:
    with pytest.raises(PlatformError, match="cannot be an instance's id"):
        site.platform.servers.delete("../somewhere")


@pytest.mark.parametrize("operation", ["build", "destroy"])
def test_a_control_plane_killed_at_any_step_does_no_harm(operation: str) -> None:
    walk = subprocess.run(
        [sys.executable, "-m", "tests.support.crash_walk", operation, "7"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert walk.returncode == 0, walk.stdout + walk.stderr
    assert int(walk.stdout.split()[-1]) >= 5


@root_only
def test_an_ordinary_user_gets_all_of_it_but_limits() -> None:
    home = new_home("p")
    os.chown(home, 65534, 65534)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    here = Path(__file__)
    files = [str(here.with_name("test_platform_contract.py")), str(here)]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:xdist",
        "-k",
        "not openstack",
        "--basetemp",
        f"{home}/pytest",
        *files,
    ]
    try:
        done = subprocess.run(
            as_ordinary_user(command),
            cwd=ROOT,
            env={
                **environment,
                "HOME": str(home),
                "PYTHONPATH": f"{ROOT}:{ROOT}/src",
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTEST_XDIST_WORKER": os.environ.get("PYTEST_XDIST_WORKER", "gw0"),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(home)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout)
