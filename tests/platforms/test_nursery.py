"""Agents are forked by a nursery, which is a shortcut and never a need: whatever becomes of it, there is one agent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from argosy import marks
from argosy.platforms.base import Server
from tests.support import local_platform
from tests.support.local_platform import LocalSite, wait_until


@pytest.fixture
def site() -> Iterator[LocalSite]:
    site = LocalSite(volumes="directory")
    try:
        yield site
    finally:
        site.close()


def nurseries(site: LocalSite) -> list[int]:
    return marks.marked({marks.ROLE: "nursery", "HOME": str(site.home / "run")})


def agent(site: LocalSite, server: Server) -> int:
    held = marks.holder(site.files_of(server.instance_id) / "agent.json")
    assert held is not None
    return held.pid


def agents(site: LocalSite, server: Server) -> list[int]:
    return marks.marked({marks.INSTANCE: server.instance_id, marks.ROLE: "agent"})


def was_forked(site: LocalSite, pid: int) -> bool:
    """A forked agent shares its memory with the nursery: the program in it is the nursery's."""
    return Path(f"/proc/{pid}/comm").read_text() == "argosy-agent\n"


def test_an_agent_is_a_fork_that_looks_like_a_program(site: LocalSite) -> None:
    server = site.build_and_wait()
    pid = agent(site, server)
    assert agents(site, server) == [pid]
    assert was_forked(site, pid)
    assert os.getsid(pid) == pid
    title = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
    assert title.startswith(f"argosy-agent --config {site.files_of(server.instance_id)}"[:60])
    assert (Path(f"/proc/{pid}/fd/1").readlink()).name == "agent.log"


def test_ten_agents_are_forked_at_once(site: LocalSite) -> None:
    ids = [site.new_id() for _ in range(10)]
    with ThreadPoolExecutor(10) as pool:
        servers = list(pool.map(site.build, ids))
    pids = {agent(site, server) for server in servers}
    assert len(pids) == 10
    assert all(was_forked(site, pid) for pid in pids)
    assert len(nurseries(site)) == 1


def test_a_nursery_holds_nothing_and_runs_one_thread(site: LocalSite) -> None:
    site.build_and_wait()
    [nursery] = nurseries(site)
    opened = [os.readlink(entry) for entry in Path(f"/proc/{nursery}/fd").iterdir()]  # noqa: PTH115 - as /proc has it
    log = str(site.home / "run/nursery.log")
    assert sorted(opened)[:3] == ["/dev/null", log, log]
    assert [name.partition(":")[0] for name in sorted(opened)[3:]] == ["socket"]
    assert len(list(Path(f"/proc/{nursery}/task").iterdir())) == 1
    assert next((site.home / "run").glob("nursery-*.sock")).stat().st_mode & 0o777 == 0o600


def test_the_real_agent_can_be_forked(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing an agent imports starts a thread, or the nursery would refuse."""
    monkeypatch.setattr(local_platform, "AGENT", "argosy.agent")
    site.restart()
    server = site.build(site.new_id())
    # It cannot live, since the keys of this site are none; but born it was.
    log = site.files_of(server.instance_id) / "logs/agent.log"
    wait_until("the agent said why it cannot go on", lambda: "serve" in log.read_text())
    assert "/nursery.py" in log.read_text()


def test_agents_outlive_their_nursery_and_the_next_one_has_another(site: LocalSite) -> None:
    first = site.build_and_wait()
    pids = site.pids(first)
    [nursery] = nurseries(site)
    os.kill(nursery, signal.SIGKILL)
    second = site.build_and_wait()
    assert was_forked(site, agent(site, second))
    assert nurseries(site) not in ([], [nursery])
    assert site.pids(first) == pids


def test_a_nursery_killed_again_and_again_does_no_harm(site: LocalSite) -> None:
    ids = [site.new_id() for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        building = [pool.submit(site.build, instance_id) for instance_id in ids]
        while not all(one.done() for one in building):
            for pid in nurseries(site):
                # Not the agent that it bears, which looks like it until it has marks of its own.
                if marks.parent(pid) == os.getpid():
                    with suppress(ProcessLookupError):  # it was killed a turn ago
                        os.kill(pid, signal.SIGKILL)
    for one in building:
        server = one.result()
        site.wait_until_serving(server)
        assert len(agents(site, server)) == 1


def test_a_nursery_that_hangs_is_killed_and_an_agent_started_without_it(
    site: LocalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = site.build_and_wait()
    [nursery] = nurseries(site)
    monkeypatch.setattr("argosy.platforms.local.nursery._PATIENCE_S", 0.3)
    os.kill(nursery, signal.SIGSTOP)
    other = site.build_and_wait()
    assert not was_forked(site, agent(site, other))
    assert marks.started_at(nursery) is None
    # The lock of the instance was in its hands.
    site.destroy(other.instance_id)
    assert site.pids(server)


def test_new_code_is_not_forked_from_an_old_nursery(site: LocalSite, monkeypatch: pytest.MonkeyPatch) -> None:
    code = site.home / "code"
    code.mkdir()
    here = Path(local_platform.__file__).parent
    shutil.copy(here / "stand_in_agent.py", code / "newborn.py")
    shutil.copy(here / "stand_in_server.py", code)
    monkeypatch.setenv("PYTHONPATH", f"{os.environ['PYTHONPATH']}:{code}")
    monkeypatch.setattr(local_platform, "AGENT", "newborn")
    site.restart()
    site.build_and_wait()
    [old] = nurseries(site)
    os.utime(code / "newborn.py")
    server = site.build_and_wait()
    assert was_forked(site, agent(site, server))
    assert nurseries(site) not in ([], [old])


def test_two_control_planes_share_one_nursery(site: LocalSite) -> None:
    other = site.new_platform()
    with ThreadPoolExecutor(8) as pool:
        ids = [site.new_id() for _ in range(4)]
        servers = list(pool.map(site.build, ids))
        for instance_id, again in zip(ids, pool.map(other.servers.find, ids), strict=True):
            assert again is not None
            assert again.instance_id == instance_id
        list(pool.map(lambda platform: platform.warm_up(), [site.platform, other] * 4))
    assert len(nurseries(site)) == 1
    for server in servers:
        # Not earlier: what an agent starts has its marks until it becomes another program.
        site.wait_until_serving(server)
        assert len(agents(site, server)) == 1


def test_no_second_agent_of_an_instance_can_be(site: LocalSite) -> None:
    server = site.build_and_wait()
    files = site.files_of(server.instance_id)
    command = [sys.executable, "-m", local_platform.AGENT]
    second = subprocess.run(
        [*command, "--config", files / "guest.json", "--hold", files / "agent.json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 1
    assert "another agent" in second.stderr
    assert len(agents(site, server)) == 1


def test_a_nursery_leaves_when_its_time_is_over(site: LocalSite) -> None:
    server = site.build_and_wait()
    [nursery] = nurseries(site)
    site.platform.wind_down()
    wait_until("the nursery is gone", lambda: marks.started_at(nursery) is None)
    assert json.loads((site.files_of(server.instance_id) / "agent.json").read_text())["pid"] == agent(
        site, server
    )
    assert site.pids(server)
