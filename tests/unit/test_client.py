"""The Python client: finding a cloud, logging in, asking again, reading refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from argosy.cli.admin_instances import tell
from argosy.cli.call import Call
from argosy.cli.output import Output
from argosy.client import Argosy, Cloud, clouds
from argosy.client.errors import (
    Ambiguous,
    Busy,
    NotConfigured,
    NotFound,
    OperationFailed,
    Refused,
    TimedOut,
    Unauthorized,
    Unreachable,
)
from argosy.client.models import ManagedInstance

URL = "http://127.77.0.1:8779"
AUTH = {"username": "demo", "password": "pw", "project_name": "demo"}
CLOUD = Cloud("argosy", f"{URL}/identity/v3", AUTH)

Answer = Callable[[httpx.Request], httpx.Response]


class Server:
    """Answers as a server would, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.logins: list[dict[str, Any]] = []
        self.asked: list[httpx.Request] = []

    def client(self, cloud: Cloud = CLOUD) -> Argosy:
        return Argosy(cloud, transport=httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/auth/tokens"):
            self.logins.append(json.loads(request.content)["auth"])
            endpoint = {"interface": "public", "region": "RegionOne", "url": f"{URL}/v1.0/p"}
            catalog = [{"type": "database", "endpoints": [endpoint]}]
            headers = {"X-Subject-Token": f"token-{len(self.logins)}"}
            return httpx.Response(201, json={"token": {"catalog": catalog}}, headers=headers)
        self.asked.append(request)
        return self._answer(request)


def fault(status: int, message: str, **more: str) -> httpx.Response:
    return httpx.Response(status, json={"someFault": {"code": status, "message": message, **more}})


def instance(instance_id: str = "i", name: str = "shop") -> dict[str, Any]:
    return {
        "id": instance_id,
        "name": name,
        "status": "ACTIVE",
        "operating_status": "HEALTHY",
        "flavor": {"id": "2"},
        "datastore": {"type": "postgresql", "version": "17"},
        "volume": {"size": 1},
    }


def operation(state: str, step: int = 1, **more: Any) -> dict[str, Any]:
    shown = {
        "id": "o",
        "instance_id": "i",
        "kind": "instance.create",
        "state": state,
        "step": step,
        "steps": 3,
    }
    dates = {"created": "2026-01-01T00:00:00", "started": None, "ended": None}
    return {**shown, "doing": "booting", "requested_by": "demo", **dates, **more}


def test_a_refused_token_is_replaced_once_and_the_request_sent_again() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["X-Auth-Token"] == "token-1" and len(server.asked) > 1:
            return fault(401, "The token has expired.")
        return httpx.Response(200, json={"flavors": []})

    server = Server(answer)
    with server.client() as argosy:
        argosy.flavors.all()
        assert argosy.flavors.all() == []
    assert len(server.logins) == 2
    assert [request.headers["X-Auth-Token"] for request in server.asked] == ["token-1", "token-1", "token-2"]


def test_a_second_token_that_is_refused_too_is_the_last() -> None:
    server = Server(lambda _request: fault(401, "No."))
    with server.client() as argosy, pytest.raises(Unauthorized):
        argosy.flavors.all()
    assert len(server.logins) == 2


def test_a_read_is_tried_again_when_the_connection_fails() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if len(server.asked) < 3:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={"flavors": []})

    server = Server(answer)
    with server.client() as argosy:
        assert argosy.flavors.all() == []


def test_a_create_is_tried_again_under_the_same_key() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if len(server.asked) == 1:
            raise httpx.ReadError("reset", request=request)
        return httpx.Response(200, json={"instance": instance()})

    server = Server(answer)
    with server.client() as argosy:
        argosy.instances.create("shop", flavor="2", volume_gb=1)
    first, second = (request.headers["Idempotency-Key"] for request in server.asked)
    assert first == second


def test_a_change_that_may_not_be_repeated_is_sent_once() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadError("reset", request=request)

    server = Server(answer)
    with server.client() as argosy, pytest.raises(Unreachable, match=r"127\.77\.0\.1:8779"):
        argosy.instances.restart("i")
    assert len(server.asked) == 1


def test_lists_go_on_to_their_last_page() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        marker = request.url.params.get("marker")
        if marker is None:
            link = {"rel": "next", "href": f"{URL}/v1.0/p/x?limit=1&marker=a%252Fb%2540%2525"}
            return httpx.Response(200, json={"users": [{"name": "a/b"}], "links": [link]})
        assert marker == "a/b@%"
        return httpx.Response(200, json={"users": [{"name": "c", "host": "h"}]})

    with Server(answer).client() as argosy:
        assert [(user.name, user.host) for user in argosy.users.all("i")] == [("a/b", "%"), ("c", "h")]


def test_a_refusal_carries_the_servers_sentence_and_code() -> None:
    refusal = fault(422, "It is busy.", argosy_code="instance-busy")
    with Server(lambda _request: refusal).client() as argosy, pytest.raises(Busy) as caught:
        argosy.instances.restart("i")
    assert (caught.value.sentence, caught.value.code, caught.value.status) == (
        "It is busy.",
        "instance-busy",
        422,
    )


@pytest.mark.parametrize("body", [b"", b"oops", b"{}", b"[]", b'{"error": "text"}', b'{"a": {}}'])
def test_a_refusal_in_no_form_we_know_is_still_one(body: bytes) -> None:
    server = Server(lambda _request: httpx.Response(502, content=body))
    with server.client() as argosy, pytest.raises(Refused, match="Bad Gateway") as caught:
        argosy.instances.restart("i")
    assert caught.value.status == 502


def test_users_are_named_with_their_host_and_quoted() -> None:
    server = Server(lambda _request: httpx.Response(202))
    with server.client() as argosy:
        argosy.users.delete("i", "a@b/c", "10.0.0.%")
    assert server.asked[0].url.raw_path == b"/v1.0/p/instances/i/users/a%40b%2Fc%4010.0.0.%25"


def test_a_name_that_several_have_is_refused_with_their_ids() -> None:
    page = {"instances": [instance("1"), instance("2"), instance("3", "other")]}
    with Server(lambda _request: httpx.Response(200, json=page)).client() as argosy:
        with pytest.raises(Ambiguous) as caught:
            argosy.instances.find("shop")
        assert caught.value.ids == ("1", "2")
        with pytest.raises(NotFound):
            argosy.instances.find("nothing")


def test_following_an_operation_tells_each_change_and_raises_its_failure() -> None:
    states = iter([operation("running"), operation("running", 2), operation("failed", 2, error="No space.")])

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/operations"):
            return httpx.Response(200, json={"operations": [operation("queued", 0)]})
        return httpx.Response(200, json={"operation": next(states)})

    seen: list[tuple[str, int]] = []
    with Server(answer).client() as argosy, pytest.raises(OperationFailed, match="No space"):
        seen.extend((each.state, each.step) for each in argosy.operations.follow("i"))
    assert seen == [("queued", 0), ("running", 1), ("running", 2), ("failed", 2)]


def test_an_administrator_is_told_of_what_failed_before_it_was_looked_at() -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"operations": [operation("failed", 2, error="No space.")]})

    with Server(answer).client() as argosy:
        call = Call(Output(quiet=True), Path())
        call.argosy = argosy
        stopped = cast("ManagedInstance", SimpleNamespace(id="i", name="shop"))
        with pytest.raises(OperationFailed, match="No space"):
            tell(call, stopped, "Stopping", "is stopped", wait=True, timeout_s=None)


def test_following_an_operation_ends_with_the_callers_patience() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        shown = operation("running")
        several = request.url.path.endswith("/operations")
        return httpx.Response(200, json={"operations": [shown]} if several else {"operation": shown})

    with Server(answer).client() as argosy, pytest.raises(TimedOut, match="booting"):
        list(argosy.operations.follow("i", timeout_s=0))


@pytest.mark.parametrize(
    ("auth", "identity"),
    [
        (
            {"username": "u", "password": "pw", "project_id": "p", "user_domain_id": "d"},
            {
                "methods": ["password"],
                "password": {"user": {"name": "u", "domain": {"id": "d"}, "password": "pw"}},
            },
        ),
        ({"token": "t", "project_id": "p"}, {"methods": ["token"], "token": {"id": "t"}}),
        (
            {"application_credential_id": "c", "application_credential_secret": "s"},
            {"methods": ["application_credential"], "application_credential": {"id": "c", "secret": "s"}},
        ),
    ],
)
def test_logging_in_speaks_keystone(auth: dict[str, str], identity: dict[str, Any]) -> None:
    server = Server(lambda _request: httpx.Response(200, json={"flavors": []}))
    with server.client(Cloud("c", URL, auth)) as argosy:
        argosy.flavors.all()
    assert server.logins[0]["identity"] == identity
    assert ("scope" in server.logins[0]) == ("project_id" in auth)


def test_a_cloud_that_cannot_be_logged_in_to_says_what_is_missing() -> None:
    argosy = Server(lambda _request: httpx.Response(200)).client(Cloud("c", URL, {"username": "u"}))
    with argosy, pytest.raises(NotConfigured, match="password"):
        argosy.flavors.all()


def test_an_endpoint_of_another_region_is_not_ours() -> None:
    cloud = Cloud("c", URL, AUTH, region="elsewhere")
    argosy = Server(lambda _request: httpx.Response(200)).client(cloud)
    with argosy, pytest.raises(NotConfigured, match="elsewhere"):
        argosy.flavors.all()


def test_a_cloud_comes_from_the_first_file_that_has_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("clouds: {other: {auth: {auth_url: 'http://a'}}}")
    second.write_text(
        "clouds: {argosy: {auth: {auth_url: 'http://b', username: u}, region_name: R, verify: false}}"
    )
    (tmp_path / "secure.yaml").write_text("clouds: {argosy: {auth: {password: hidden}}}")
    cloud = clouds.named("argosy", [tmp_path / "none.yaml", first, second])
    assert (cloud.auth_url, cloud.region, cloud.verify, cloud.file) == ("http://b", "R", False, second)
    assert cloud.auth["password"] == "hidden"
    assert "hidden" not in repr(cloud)


def test_a_file_that_is_no_yaml_is_not_quoted(tmp_path: Path) -> None:
    broken = tmp_path / "clouds.yaml"
    broken.write_text("password: [hidden")
    with pytest.raises(NotConfigured, match="not YAML") as caught:
        clouds.named("argosy", [broken])
    assert "hidden" not in str(caught.value)


def test_the_environment_names_a_cloud_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OS_AUTH_URL", raising=False)
    assert clouds.from_environment() is None
    for key, value in {
        "AUTH_URL": URL,
        "USERNAME": "u",
        "PASSWORD": "pw",
        "PROJECT_NAME": "p",
        "INSECURE": "1",
    }.items():
        monkeypatch.setenv(f"OS_{key}", value)
    cloud = clouds.from_environment()
    assert cloud is not None
    assert (cloud.auth_url, cloud.auth["username"], cloud.verify) == (URL, "u", False)
