"""What administrators ask of instances and do to them, on real ones: contract 2.21."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

import argosy
from tests.api.conftest import Live
from tests.support.databases import connected
from tests.support.server import wait_until

USER = {"name": "ann", "password": "Ann-secret-77"}


@pytest.fixture(scope="module")
def cache(live: Live) -> Iterator[dict[str, Any]]:
    """A Valkey instance of demo's: what administrators do to it is quickest."""
    instance = live.server.create(live.demo, "managed", "valkey", users=[USER])
    yield instance
    live.demo.delete(f"/instances/{instance['id']}")
    live.server.wait_until_gone(live.demo, instance["id"])


def act(live: Live, instance_id: str, action: str) -> None:
    answer = live.admin.post(f"/mgmt/instances/{instance_id}/action", json={action: {}})
    assert answer.status_code == 202, answer.text


def wait_until_done(live: Live, instance_id: str) -> dict[str, Any]:
    """The last operation of an instance, once it has ended."""

    def ended() -> dict[str, Any] | None:
        (last,) = live.demo.get(f"/operations?instance_id={instance_id}&limit=1").json()["operations"]
        return last if last["state"] in {"succeeded", "failed"} else None

    operation: dict[str, Any] = wait_until("its last operation has ended", ended)
    assert operation["state"] == "succeeded", operation
    return operation


def test_an_instance_is_shown_whole(live: Live) -> None:
    instance = live.instances["mariadb"]
    shown = live.admin.get(f"/mgmt/instances/{instance['id']}").json()["instance"]
    listed = next(
        one for one in live.admin.get("/mgmt/instances").json()["instances"] if one["id"] == instance["id"]
    )
    assert set(shown) >= set(instance) | set(listed)
    assert set(shown) - set(listed) >= {"guest_status"}
    assert {"id", "name", "status", "tenant_id", "host", "addresses"} == set(shown["server"])
    assert shown["server"]["addresses"] == {"private": [{"addr": instance["ip"][0], "version": 4}]}
    volume = {"attachments", "availability_zone", "created_at", "id", "size", "status", "used", "total"}
    assert volume <= set(shown["volume"])
    assert (shown["tenant_id"], shown["deleted"], shown["deleted_at"]) == (live.demo.project_id, False, None)
    assert shown["service_status"] == shown["guest_status"]["state_description"] == "HEALTHY"
    assert shown["task_description"] == "No tasks for the instance."


@pytest.mark.parametrize("datastore", ["postgresql", "mariadb"])
def test_diagnostics_are_of_the_agent_and_the_database_server_as_the_kernel_has_them(
    live: Live, datastore: str
) -> None:
    instance_id = live.instances[datastore]["id"]
    told = live.admin.get(f"/mgmt/instances/{instance_id}/diagnostics").json()["diagnostics"]
    ours = told.pop("argosy")
    server = ours.pop("server")
    assert told.pop("version") == argosy.__version__
    assert ours == {"pid": live.server.agent_pid(instance_id)}
    assert server.pop("pid") == live.server.server_pid(instance_id)
    for figures in (told, server):
        assert set(figures) == {"threads", "fdSize", "vmSize", "vmPeak", "vmRss", "vmHwm"}
        assert min(figures.values()) > 0
        assert figures["vmRss"] <= figures["vmHwm"] <= figures["vmPeak"]


def test_hwinfo_is_what_the_guest_was_given(live: Live, cache: dict[str, Any]) -> None:
    told = live.admin.get(f"/mgmt/instances/{cache['id']}/hwinfo").json()
    assert told == {"hwinfo": {"mem_total": 512 * 1024, "num_cpus": 1}}


def test_a_stopped_database_server_comes_back_by_a_reboot(live: Live, cache: dict[str, Any]) -> None:
    act(live, cache["id"], "stop")
    wait_until_done(live, cache["id"])
    assert live.server.server_pid(cache["id"]) is None
    told = live.admin.get(f"/mgmt/instances/{cache['id']}/diagnostics").json()["diagnostics"]
    assert told["argosy"]["server"] is None
    act(live, cache["id"], "reboot")
    live.server.wait_until_healthy(live.demo, cache["id"])
    assert live.server.server_pid(cache["id"]) is not None


def test_an_agent_that_hangs_answers_no_ping_and_is_brought_back_by_a_reboot(
    live: Live, cache: dict[str, Any]
) -> None:
    """A database server that hangs too is given a minute to end before it is killed: too long for here."""
    ping = f"/mgmt/instances/{cache['id']}/rpc_ping"
    answer = live.admin.get(ping)
    assert (answer.status_code, answer.content) == (204, b"")
    place = (live.server, cache, USER["name"], USER["password"], None)
    with connected(*place) as session:
        session.write("kept", "through a reboot")
    agent, server = live.server.agent_pid(cache["id"]), live.server.server_pid(cache["id"])
    assert agent is not None
    os.kill(agent, signal.SIGSTOP)
    assert live.admin.get(ping).status_code == 503
    act(live, cache["id"], "reboot")
    assert live.demo.get(f"/instances/{cache['id']}").json()["instance"]["status"] == "REBOOT"
    live.server.wait_until_healthy(live.demo, cache["id"])
    assert live.admin.get(ping).status_code == 204
    assert live.server.agent_pid(cache["id"]) not in {agent, None}
    assert live.server.server_pid(cache["id"]) not in {server, None}
    with connected(*place) as session:
        assert session.read() == {"kept": "through a reboot"}


def test_an_agent_is_renewed_while_its_database_server_goes_on(live: Live, cache: dict[str, Any]) -> None:
    before = live.server.agent_pid(cache["id"]), live.server.server_pid(cache["id"])
    asked = {"upgrade": {"instance_version": argosy.__version__, "metadata": {"why": "to try"}}}
    answer = live.admin.post(f"/mgmt/instances/{cache['id']}/upgrade", json=asked)
    assert (answer.status_code, answer.content) == (202, b"")
    assert wait_until_done(live, cache["id"])["kind"] == "instance.renew_agent"
    after = live.server.agent_pid(cache["id"]), live.server.server_pid(cache["id"])
    assert after[0] not in {before[0], None}
    assert after[1] == before[1]
    live.server.wait_until_healthy(live.demo, cache["id"])


def test_an_instance_cannot_be_migrated_where_there_is_one_machine(live: Live, cache: dict[str, Any]) -> None:
    where = f"/mgmt/instances/{cache['id']}/action"
    answer = live.admin.post(where, json={"migrate": {"host": "elsewhere"}})
    assert answer.status_code == 501
    assert "one machine" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("POST", "/action", {}, "exactly one"),
        ("POST", "/action", {"stop": {}, "reboot": {}}, "exactly one"),
        ("POST", "/action", {"update": {}}, "reboot"),
        ("POST", "/action", {"reboot": "now"}, "must be an object"),
        ("POST", "/action", {"migrate": {"host": 7}}, "migrate.host"),
        ("POST", "/upgrade", {"upgrade": {"instance_version": "9999"}}, argosy.__version__),
        ("POST", "/upgrade", {"upgrade": {"location": "http://elsewhere"}}, "upgrade.location"),
        ("POST", "/upgrade", {"upgrade": {"colour": "red"}}, "upgrade.colour"),
        ("POST", "/upgrade", {}, "upgrade"),
    ],
)
def test_what_cannot_be_right_is_refused_by_name(
    live: Live, cache: dict[str, Any], method: str, path: str, body: Any, words: str
) -> None:
    answer = live.admin.request(method, f"/mgmt/instances/{cache['id']}{path}", json=body)
    assert answer.status_code == 400, answer.text
    assert words in answer.text
