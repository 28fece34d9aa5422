"""What a Keystone of the simulated kind can be made to show: expired tokens, and every way to be away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from argosy.api.wire import ASKING_AT_ONCE
from argosy.client import Argosy, Cloud
from argosy.client.errors import NotConfigured, Unreachable
from argosy.domain.errors import NotFound, Unauthorized
from argosy.identity import keystone as ours
from argosy.identity.keystone import KeystoneUnavailable, ServiceUser
from tests.support.certificates import TestAuthority
from tests.support.cloud.keystone import Keystone, running_keystone
from tests.support.identity import running_server
from tests.support.keystone_clients import Believing, KeystoneApi, Login, believing
from tests.support.server import wait_until

LONG_S = 3600.0


@dataclass
class World:
    """A Keystone with its state at hand, and what Argosy asks it with. `clock` is Argosy's."""

    there: Keystone
    api: KeystoneApi
    user: Login
    password_file: Path
    clock: float = 0.0

    def callers(
        self, *, cache_s: float = 30, timeout_s: float = 5, interface: str | None = None
    ) -> ours.Keystone:
        service = ServiceUser(
            auth_url=self.there.url,
            username=self.api.service.name,
            password_file=self.password_file,
            project_name=self.api.service.project,
            interface=interface,
        )
        return ours.Keystone(service, cache_s=cache_s, timeout_s=timeout_s, clock=lambda: self.clock)

    def fail(self, *statuses: int) -> None:
        """Answer the next requests so."""
        left = list(statuses)
        self.there.failing = lambda _request: Response("{}", left.pop(0)) if left else None

    def fail_always(self, status: int) -> None:
        self.there.failing = lambda _request: Response("{}", status)

    def mend(self) -> None:
        self.there.failing = None


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Keystone, KeystoneApi]]:
    with running_keystone("127.77.240.4") as there:
        api = KeystoneApi(f"{there.url}/v3", Login("admin", "admin", "admin"))
        try:
            yield there, api
        finally:
            api.close()


@pytest.fixture
def world(running: tuple[Keystone, KeystoneApi], tmp_path: Path) -> Iterator[World]:
    there, api = running
    password = tmp_path / "password"
    password.write_text(api.service.password)
    world = World(there, api, api.user("member"), password)
    try:
        yield world
    finally:
        world.mend()


# What is remembered


def test_keystone_is_asked_once_within_the_time_that_its_answer_holds(world: World) -> None:
    callers, token = world.callers(), world.api.log_in(world.user)
    before = world.there.validations
    assert callers.known_caller(token) is None
    for _ in range(5):
        assert callers.caller_of(token).user_name == world.user.name
    assert callers.known_caller(token) == callers.caller_of(token)
    assert world.there.validations == before + 1
    world.clock += 30
    assert callers.known_caller(token) is None
    callers.caller_of(token)
    assert world.there.validations == before + 2


def test_an_answer_never_holds_longer_than_the_token(world: World) -> None:
    callers, token = world.callers(cache_s=LONG_S), world.api.log_in(world.user)
    world.there.expire(token, timedelta(seconds=-20))
    callers.caller_of(token)
    world.clock += 19
    assert callers.known_caller(token) is not None
    world.clock += 2
    assert callers.known_caller(token) is None


def test_a_refused_token_is_asked_about_again_after_a_few_seconds(world: World) -> None:
    callers = world.callers()
    before = world.there.validations
    for _ in range(5):
        with pytest.raises(Unauthorized):
            callers.caller_of("nobody's")
    assert world.there.validations == before + 1
    world.clock += 5
    with pytest.raises(Unauthorized):
        callers.caller_of("nobody's")
    assert world.there.validations == before + 2


def test_whoever_tries_tokens_pushes_out_nobody_who_has_one(world: World) -> None:
    callers, token = world.callers(), world.api.log_in(world.user)
    callers.caller_of(token)
    # More than are remembered at all would take the place of others, were it one place.
    callers._refused._size = 3
    for number in range(10):
        with pytest.raises(Unauthorized):
            callers.caller_of(f"tried-{number}")
    assert callers.known_caller(token) is not None


def test_many_who_bring_one_new_token_at_once_cause_one_question(world: World) -> None:
    callers, token = world.callers(), world.api.log_in(world.user)
    callers.check_project("0" * 32)
    before = world.there.validations
    together, asked = threading.Barrier(8), threading.Event()

    def hold(request: Request) -> None:
        if request.method == "GET":
            assert asked.wait(30)

    world.there.failing = hold

    def ask() -> str:
        together.wait(30)
        return callers.caller_of(token).user_name

    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(ask) for _ in range(8)]
        while world.there.validations == before:
            time.sleep(0.01)
        asked.set()
        assert {one.result(30) for one in waiting} == {world.user.name}
    assert world.there.validations == before + 1


# Expired tokens and other services


def test_an_expired_token_is_refused_but_of_a_service_that_vouches_for_it(world: World) -> None:
    callers, token = world.callers(), world.api.log_in(world.user)
    service = world.api.log_in(world.api.user("service"))
    world.there.expire(token)
    with pytest.raises(Unauthorized):
        callers.caller_of(token)
    assert callers.caller_of(token, service).user_name == world.user.name
    assert callers.known_caller(token, service) is not None
    # Vouched for once is not vouched for ever.
    assert callers.known_caller(token) is None
    with pytest.raises(Unauthorized):
        callers.caller_of(token)
    with pytest.raises(Unauthorized):
        callers.caller_of(token, world.api.log_in(world.user))
    world.there.expire(token, world.there.allow_expired_window)
    world.clock += 30
    with pytest.raises(Unauthorized):
        callers.caller_of(token, service)


def test_a_service_whose_own_token_has_expired_vouches_for_nobody(world: World) -> None:
    callers, token = world.callers(), world.api.log_in(world.user)
    service = world.api.log_in(world.api.user("service"))
    world.there.expire(service)
    with pytest.raises(Unauthorized):
        callers.caller_of(token, service)


# Our own token


def test_our_own_token_is_renewed_when_it_ends_or_is_revoked(world: World) -> None:
    callers = world.callers(cache_s=0)
    for worthless in (world.there.expire, world.api.revoke):
        callers.caller_of(world.api.log_in(world.user))
        mine = str(callers._session.get_token())
        worthless(mine)
        callers.caller_of(world.api.log_in(world.user))
        assert callers._session.get_token() != mine


def test_a_new_password_of_our_user_is_read_when_the_old_one_is_refused(world: World) -> None:
    callers = world.callers(cache_s=0)
    callers.caller_of(world.api.log_in(world.user))
    service = world.api.id_of(world.api.service)
    old = world.there.passwords[service]
    try:
        world.there.passwords[service] = "another"
        world.there.expire(str(callers._session.get_token()))
        with pytest.raises(KeystoneUnavailable, match="refuses the user"):
            callers.caller_of(world.api.log_in(world.user))
        before = world.there.asked["POST /v3/auth/tokens"]
        with pytest.raises(KeystoneUnavailable, match="An operator has to look"):
            callers.caller_of("another")
        assert world.there.asked["POST /v3/auth/tokens"] == before
        world.password_file.write_text("another\n")
        world.clock += 5
        assert callers.caller_of(world.api.log_in(world.user)).user_name == world.user.name
    finally:
        world.there.passwords[service] = old


def test_a_user_of_ours_who_may_not_ask_is_the_operators_business(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.api.service, before = world.api.user("reader"), world.api.service
    try:
        world.password_file.write_text(world.api.service.password)
        with pytest.raises(KeystoneUnavailable, match="does not let Argosy ask"):
            world.callers().caller_of(world.api.log_in(world.user))
        assert "does not let Argosy ask" in caplog.text
    finally:
        world.api.service = before


def test_projects_are_believed_where_we_may_not_ask_for_them(world: World) -> None:
    callers = world.callers()
    callers.check_project("0" * 32)
    with pytest.raises(NotFound):
        callers.check_project("no/project")


def test_the_catalogs_endpoint_is_asked_when_an_interface_is_named(world: World) -> None:
    service = world.api.make("service", type="identity", name="keystone")
    region = world.api.make("region", id="here", name="here")
    world.api.make(
        "endpoint",
        service_id=service["id"],
        region_id=region["id"],
        interface="internal",
        url=world.there.url,
    )
    token = world.api.log_in(world.user)
    assert world.callers(interface="internal").caller_of(token).user_name == world.user.name
    with pytest.raises(KeystoneUnavailable, match="no identity service of ours"):
        world.callers(interface="public").caller_of(token)


# Certificates


@dataclass(frozen=True)
class Certified:
    """A certificate and its key for an address, and who signed it."""

    pair: tuple[Path, Path]
    authority: Path


def certified(place: Path, address: str) -> Certified:
    authority = TestAuthority()
    issued = authority.issue(address)
    for name, text in {
        "ca.pem": authority.certificate,
        "own.pem": issued.certificate,
        "key.pem": issued.key,
    }.items():
        (place / name).write_text(text)
    return Certified((place / "own.pem", place / "key.pem"), place / "ca.pem")


def test_keystones_certificate_is_held_against_who_signed_it(tmp_path: Path) -> None:
    host = "127.77.240.6"
    known = certified(tmp_path, host)
    with running_keystone(host, known.pair) as there:
        there.add("projects", "service")
        there.add_user("argosy", "argosy", "service", "service")
        password = tmp_path / "password"
        password.write_text("argosy")
        service = ServiceUser(there.url, "argosy", password, "service")
        with pytest.raises(KeystoneUnavailable, match="SSLError"):
            ours.Keystone(service).caller_of("a-token")
        with pytest.raises(Unauthorized):
            ours.Keystone(replace(service, ca_file=known.authority)).caller_of("a-token")


def test_argosys_client_verifies_the_databases_endpoint_also_behind_a_keystone_without_tls(
    world: World, tmp_path: Path
) -> None:
    async def instances(_request: Request) -> Response:
        return JSONResponse({"instances": []})

    host = "127.77.240.6"
    known = certified(tmp_path, host)
    with running_server(host, known.pair) as served:
        served.app = Starlette(routes=[Route("/v1.0/{project}/instances", instances)])
        region = world.api.offer(served.url)
        auth = world.api.cloud(world.user)["auth"]
        cloud = Cloud("c", world.api.url, auth, region)
        with Argosy(cloud) as argosy, pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
            argosy.session.get("/instances")
        with Argosy(replace(cloud, verify=str(known.authority))) as argosy:
            assert argosy.session.get("/instances") == {"instances": []}
        for no_file in (tmp_path / "nowhere.pem", known.pair[1]):
            with (
                Argosy(replace(cloud, verify=str(no_file))) as argosy,
                pytest.raises(NotConfigured, match="cannot be read"),
            ):
                argosy.session.get("/instances")


# Away


@pytest.mark.parametrize("statuses", [(503,), (500, 502), (429,), (408, 429)])
def test_a_keystone_that_stumbles_is_asked_again(world: World, statuses: tuple[int, ...]) -> None:
    callers, token = world.callers(), world.api.log_in(world.user)
    callers.check_project("0" * 32)
    world.fail(*statuses)
    assert callers.caller_of(token).user_name == world.user.name


@pytest.mark.parametrize("status", [500, 503, 429])
def test_while_keystone_fails_those_it_knows_pass_and_others_are_told(world: World, status: int) -> None:
    callers, token, late = world.callers(), world.api.log_in(world.user), world.api.log_in(world.user)
    callers.caller_of(token)
    world.fail_always(status)
    with pytest.raises(KeystoneUnavailable, match=f"it answers {status}"):
        callers.caller_of(late)
    assert callers.caller_of(token).user_name == world.user.name
    # For a moment nobody else is made to wait.
    before = world.there.asked.total()
    with pytest.raises(KeystoneUnavailable):
        callers.caller_of("another")
    assert world.there.asked.total() == before
    world.mend()
    world.clock += 1
    assert callers.caller_of(late).user_name == world.user.name


def test_a_keystone_that_does_not_answer_is_not_waited_for_long(world: World) -> None:
    ended = threading.Event()

    def hang(_request: Request) -> Response:
        ended.wait(30)
        return Response("{}", 503)

    callers, token = world.callers(timeout_s=0.2), world.api.log_in(world.user)
    world.there.failing = hang
    try:
        with pytest.raises(KeystoneUnavailable, match="cannot be asked who you are"):
            callers.caller_of(token)
    finally:
        ended.set()


def test_what_is_no_keystone_is_told_so(world: World) -> None:
    callers, token = world.callers(), world.api.log_in(world.user)
    callers.check_project("0" * 32)
    world.there.failing = lambda request: Response("<html>", 200) if request.method == "GET" else None
    with pytest.raises(KeystoneUnavailable, match="no Keystone v3"):
        callers.caller_of(token)


def test_users_that_are_known_notice_nothing_of_a_keystone_that_fails_or_hangs() -> None:
    crowd, ended = 3 * ASKING_AT_ONCE, threading.Event()

    def hang(request: Request) -> Response | None:
        if request.method == "GET":
            ended.wait(60)
            return Response("{}", 503)
        return None

    with running_keystone("127.77.240.5") as there:
        api = KeystoneApi(f"{there.url}/v3", Login("admin", "admin", "admin"))
        user = api.user("member")
        token, late = api.log_in(user), api.log_in(user)
        project = api.told_of(token)["project"]["id"]
        with believing(
            api, "api", ARGOSY_KEYSTONE__CACHE_S="3600", ARGOSY_KEYSTONE__TIMEOUT_S="60"
        ) as argosy:
            assert argosy.lists(token, project).status_code == 200
            there.failing = lambda _request: Response("{}", 503)
            answer = argosy.lists(late, project)
            known = argosy.lists(token, project).status_code
            there.failing = hang
            before = there.validations
            with ThreadPoolExecutor(crowd) as pool:
                try:
                    wait_until("it may be asked again", lambda: _asks(argosy, there, project, pool, before))
                    waiting = [
                        pool.submit(argosy.lists, f"t{number}", project) for number in range(crowd - 1)
                    ]
                    wait_until("as many ask as may", lambda: there.validations >= before + ASKING_AT_ONCE)
                    meanwhile = argosy.lists(token, project).status_code
                    unanswered = sum(not one.done() for one in waiting)
                finally:
                    ended.set()
                statuses = {one.result().status_code for one in waiting}
            there.failing = None
        api.close()
    assert (answer.status_code, known) == (503, 200)
    told = answer.json()["serviceUnavailable"]
    assert (told["code"], told["argosy_code"]) == (503, "keystone-unavailable")
    assert "cannot be asked who you are" in told["message"]
    assert (meanwhile, unanswered, statuses) == (200, crowd - 1, {503})


def _asks(argosy: Believing, there: Keystone, project: str, pool: ThreadPoolExecutor, before: int) -> bool:
    """For a moment after Keystone failed nobody is asked; whoever asks first after that hangs."""
    asked = pool.submit(argosy.lists, "first", project)
    wait_until("it is asked or answers", lambda: asked.done() or there.validations > before)
    return there.validations > before
