"""Logins, tokens and accounts, on a real database."""

from __future__ import annotations

import base64
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from argon2 import PasswordHasher
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.schema import CreateSchema, DropSchema

from argosy.domain.errors import Conflict, Forbidden, Invalid, NotFound, Unauthorized, Unavailable
from argosy.domain.identity import Project, User
from argosy.identity import (
    CredentialProof,
    Directory,
    Identity,
    PasswordProof,
    Reference,
    Scope,
    TokenProof,
    ensure_bootstrap,
)
from argosy.identity.cache import BriefCache
from argosy.identity.lockout import TooManyFailures
from argosy.identity.passwords import Passwords
from argosy.metadata import identity_tables, store
from argosy.metadata.accounts import Accounts
from argosy.metadata.tables import metadata

HERE = "127.77.240.1"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@dataclass
class Time:
    """A clock that the test moves."""

    seconds: float = 0.0
    start: datetime = field(default_factory=lambda: datetime(2030, 1, 1, tzinfo=UTC))

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds)

    def clock(self) -> float:
        return self.seconds


class World:
    """Accounts with a user `ann`, member of `web`, and what a test does with them."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.time = Time()
        self.store = Accounts(engine)
        self.identity = self.process()
        self.directory = Directory(self.store, self.identity)
        self.roles = {name: self.directory.create_role(name).id for name in ("admin", "member", "reader")}
        self.web = self.directory.create_project("web")
        self.ann = self.user("ann", self.web, "member")

    def process(self, hasher: PasswordHasher = CHEAP) -> Identity:
        """Another API process on the same database."""
        return Identity(self.store, passwords=Passwords(hasher), now=self.time.now, clock=self.time.clock)

    def user(self, name: str, project: Project, *roles: str) -> User:
        user = self.directory.create_user(name, password=f"{name}'s")
        for role in roles:
            self.directory.grant(user.id, project.id, self.roles[role])
        return user

    def login(self, name: str = "ann", password: str | None = None, scope: Scope = None) -> str:
        proof = PasswordProof(Reference(name=name), f"{name}'s" if password is None else password)
        token, _ = self.identity.login(proof, scope, HERE)
        return token

    def is_refused(self, token: str, identity: Identity | None = None) -> bool:
        try:
            (identity or self.identity).caller_of(token)
        except Unauthorized:
            return True
        return False


POSTGRESQL = os.environ.get("ARGOSY_TEST_POSTGRESQL_URL")
on_postgresql = pytest.mark.skipif(not POSTGRESQL, reason="ARGOSY_TEST_POSTGRESQL_URL names no database")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=on_postgresql)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    engines = {"sqlite": on_a_file, "postgresql": in_a_schema_of_its_own}
    with engines[request.param](tmp_path) as engine:
        metadata.create_all(engine)
        yield World(engine)


@contextmanager
def on_a_file(folder: Path) -> Iterator[Engine]:
    # As processes open it: SQLite's own patience, of 5 s, may end while other threads' writes are synced.
    engine = store.create_engine(f"sqlite:///{folder}/metadata.sqlite")
    yield engine
    engine.dispose()


@contextmanager
def in_a_schema_of_its_own(_: Path) -> Iterator[Engine]:
    schema = f"t{uuid.uuid4().hex}"
    outside = create_engine(str(POSTGRESQL))
    inside = create_engine(str(POSTGRESQL), connect_args={"options": f"-csearch_path={schema}"})
    with outside.begin() as connection:
        connection.execute(CreateSchema(schema))
    try:
        yield inside
    finally:
        inside.dispose()
        with outside.begin() as connection:
            connection.execute(DropSchema(schema, cascade=True))
        outside.dispose()


def test_a_caller_is_who_logged_in_with_the_roles_of_the_project(world: World) -> None:
    caller = world.identity.caller_of(world.login())
    assert (caller.user_name, caller.project_id, caller.roles) == ("ann", world.web.id, frozenset({"member"}))
    assert not caller.is_admin


def test_an_administrator_is_told_by_the_role_whatever_its_case(world: World) -> None:
    world.roles["ADMIN"] = world.directory.create_role("ADMIN").id
    world.user("root", world.web, "ADMIN")
    assert world.identity.caller_of(world.login("root")).is_admin


def test_a_token_outlives_the_process(world: World) -> None:
    token = world.login()
    assert world.process().caller_of(token).user_name == "ann"


def test_the_database_does_not_hold_the_token(world: World) -> None:
    token = world.login()
    with world.engine.connect() as connection:
        rows = connection.execute(select(identity_tables.tokens)).all()
    assert len(rows) == 1
    assert token not in str(rows)


def test_a_token_ends_after_a_day_even_when_it_is_remembered(world: World) -> None:
    token = world.login()
    world.time.seconds = 24 * 3600 - 1
    world.identity.caller_of(token)
    world.time.seconds += 2
    assert world.is_refused(token)


def test_tokens_past_their_time_are_swept_at_a_later_login(world: World) -> None:
    world.login()
    world.time.seconds = 25 * 3600
    world.login()
    with world.engine.connect() as connection:
        assert len(connection.execute(select(identity_tables.tokens)).all()) == 1


def test_a_revoked_token_is_refused_at_once_here_and_soon_elsewhere(world: World) -> None:
    elsewhere = world.process()
    token = world.login()
    elsewhere.caller_of(token)
    world.identity.revoke(token)
    assert world.is_refused(token)
    world.time.seconds += 6
    assert world.is_refused(token, elsewhere)


@pytest.mark.parametrize(
    "change",
    [
        lambda world: world.directory.delete_user(world.ann.id),
        lambda world: world.directory.change_user(world.ann.id, enabled=False),
        lambda world: world.directory.change_user(world.ann.id, password="new"),
        lambda world: world.directory.withdraw(world.ann.id, world.web.id, world.roles["member"]),
        lambda world: world.directory.change_project(world.web.id, enabled=False),
        lambda world: world.directory.delete_project(world.web.id),
    ],
    ids=[
        "deleted",
        "disabled",
        "new password",
        "role taken",
        "project disabled",
        "project gone",
    ],
)
def test_a_change_of_the_account_ends_its_tokens(world: World, change: object) -> None:
    token = world.login()
    world.identity.caller_of(token)
    assert callable(change)
    change(world)
    assert world.is_refused(token)
    assert world.is_refused(token, world.process())


def test_enabling_a_user_again_does_not_revive_the_old_tokens(world: World) -> None:
    token = world.login()
    world.directory.change_user(world.ann.id, enabled=False)
    world.directory.change_user(world.ann.id, enabled=True)
    assert world.is_refused(token)


def test_a_role_that_is_deleted_is_lost_at_once(world: World) -> None:
    world.roles["extra"] = world.directory.create_role("extra").id
    world.user("bob", world.web, "extra")
    token = world.login("bob")
    world.directory.delete_role(world.roles["extra"])
    assert world.is_refused(token)
    assert world.is_refused(token, world.process())


@pytest.mark.parametrize("name", ["admin", "member", "reader"])
def test_the_roles_the_policy_speaks_of_stay(world: World, name: str) -> None:
    with pytest.raises(Forbidden, match=name):
        world.directory.delete_role(world.roles[name])
    with pytest.raises(Forbidden, match=name):
        world.directory.change_role(world.roles[name], name="other")
    world.directory.change_role(world.roles[name], description="Described anew.")


def test_a_granted_role_is_there_at_once(world: World) -> None:
    token = world.login()
    world.identity.caller_of(token)
    world.directory.grant(world.ann.id, world.web.id, world.roles["admin"])
    world.directory.grant(world.ann.id, world.web.id, world.roles["admin"])
    assert world.identity.caller_of(token).is_admin


def test_a_login_that_was_being_checked_while_the_password_changed_gets_nothing(world: World) -> None:
    class Slow(Passwords):
        def matches(self, kept: str | None, password: str) -> bool:
            right = super().matches(kept, password)
            world.directory.change_user(world.ann.id, password="new")
            return right

    slow = Identity(world.store, passwords=Slow(CHEAP))
    with pytest.raises(Unauthorized):
        slow.login(PasswordProof(Reference(name="ann"), "ann's"), None, HERE)
    with world.engine.connect() as connection:
        assert connection.execute(select(identity_tables.tokens)).all() == []


def test_what_was_read_before_a_revocation_is_not_remembered_after_it() -> None:
    cache: BriefCache[str] = BriefCache(60)
    generation = cache.generation
    cache.clear()
    cache.remember(b"token", "stale", generation)
    assert cache.get(b"token") is None


def test_a_full_memory_forgets_and_goes_on() -> None:
    cache: BriefCache[int] = BriefCache(60, size=10)
    for number in range(25):
        cache.remember(bytes([number]), number, cache.generation)
    assert cache.get(bytes([24])) == 24
    assert sum(cache.get(bytes([number])) is not None for number in range(25)) <= 10


@pytest.mark.parametrize(
    ("name", "password"), [("ann", "wrong"), ("nobody", "ann's"), ("ann", ""), ("ann", "x" * 5000)]
)
def test_a_wrong_password_and_an_unknown_user_are_answered_alike(
    world: World, name: str, password: str
) -> None:
    with pytest.raises(Unauthorized) as refused:
        world.login(name, password)
    assert refused.value.sentence == "The request you have made requires authentication."


def test_an_unknown_user_costs_a_hash_as_a_known_one_does(world: World) -> None:
    asked: list[str | None] = []

    class Counted(Passwords):
        def matches(self, kept: str | None, password: str) -> bool:
            asked.append(kept)
            return super().matches(kept, password)

    identity = Identity(world.store, passwords=Counted(CHEAP))
    for proof in (
        PasswordProof(Reference(name="nobody"), "x"),
        PasswordProof(Reference(name="ann", domain_name="Elsewhere"), "ann's"),
        CredentialProof(Reference(id="0" * 32), None, "x"),
    ):
        with pytest.raises(Unauthorized):
            identity.login(proof, None, HERE)
    assert asked == [None, None, None]


def test_guessing_costs_waiting_even_with_the_right_password(world: World) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            world.login(password="guess")
    with pytest.raises(TooManyFailures, match="try again in 30 s"):
        world.login()
    world.time.seconds += 31
    assert world.login()


def test_those_who_guess_elsewhere_do_not_hold_up_the_user(world: World) -> None:
    for _ in range(6):
        with pytest.raises(Unauthorized):
            world.identity.login(PasswordProof(Reference(name="ann"), "guess"), None, "127.77.240.66")
    assert world.login()


def test_a_user_that_does_not_exist_is_held_up_just_the_same(world: World) -> None:
    for _ in range(5):
        with pytest.raises(Unauthorized):
            world.login("nobody", "guess")
    with pytest.raises(TooManyFailures):
        world.login("nobody", "guess")


def test_right_logins_side_by_side_hold_up_nobody(world: World) -> None:
    tokens: list[str] = []
    threads = [threading.Thread(target=lambda: tokens.append(world.login())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(tokens)) == 8


def test_a_flood_of_logins_is_turned_away_before_it_takes_every_thread() -> None:
    entered, leave = threading.Semaphore(0), threading.Event()

    class Stuck(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - argon2's name
            entered.release()
            leave.wait()
            return super().verify(hash, password)

    passwords = Passwords(Stuck(time_cost=1, memory_cost=8, parallelism=1), at_once=2)
    kept = passwords.hash("right")
    outcomes: list[bool | None] = []

    def try_once() -> None:
        try:
            outcomes.append(passwords.matches(kept, "right"))
        except Unavailable:
            outcomes.append(None)

    threads = [threading.Thread(target=try_once) for _ in range(40)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        assert entered.acquire(timeout=30)
    assert not entered.acquire(blocking=False)
    # Sixteen stay in line; all others come back while nothing moves.
    deadline = time.monotonic() + 30
    while outcomes.count(None) < 24:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    leave.set()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 16


def test_users_deleted_while_they_log_in_leave_nothing_behind(world: World) -> None:
    problems: list[BaseException] = []

    def log_in(name: str) -> None:
        try:
            while True:
                world.login(name)
        except Unauthorized:
            pass
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the test reports it
            problems.append(problem)

    users = [world.user(f"u{number}", world.web, "member") for number in range(4)]
    threads = [threading.Thread(target=log_in, args=(user.name,)) for user in users]
    for thread in threads:
        thread.start()
    for user in users:
        world.directory.delete_user(user.id)
    for thread in threads:
        thread.join()
    assert problems == []
    with world.engine.connect() as connection:
        assert connection.execute(select(identity_tables.tokens)).all() == []


def test_a_login_makes_an_outdated_hash_stronger_and_keeps_other_sessions(world: World) -> None:
    token = world.login()
    before = world.directory.user(world.ann.id).password_hash
    stronger = world.process(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    stronger.login(PasswordProof(Reference(name="ann"), "ann's"), None, HERE)
    after = world.directory.user(world.ann.id).password_hash
    assert after is not None
    assert after != before
    assert "m=16,t=2" in after
    assert not world.is_refused(token)
    assert world.login()


def test_the_default_project_is_taken_when_none_is_asked_for(world: World) -> None:
    shop = world.directory.create_project("shop")
    world.directory.grant(world.ann.id, shop.id, world.roles["reader"])
    assert world.identity.caller_of(world.login()).project_id == ""
    world.directory.change_user(world.ann.id, default_project_id=shop.id)
    assert world.identity.caller_of(world.login()).project_id == shop.id
    assert world.identity.caller_of(world.login(scope="unscoped")).project_id == ""


@pytest.mark.parametrize(
    "scope",
    [
        Reference(name="shop"),
        Reference(name="nowhere"),
        Reference(id="0" * 32),
        Reference(name="web", domain_id="other"),
        Reference(),
    ],
)
def test_a_project_without_a_role_in_it_is_refused(world: World, scope: Reference) -> None:
    world.directory.create_project("shop")
    with pytest.raises(Unauthorized):
        world.login(scope=scope)


def test_a_token_begets_one_for_another_project_that_lives_no_longer(world: World) -> None:
    shop = world.directory.create_project("shop")
    world.directory.grant(world.ann.id, shop.id, world.roles["reader"])
    first = world.login(scope=Reference(id=world.web.id))
    world.time.seconds = 3600
    second, session = world.identity.login(TokenProof(first), Reference(name="shop"), HERE)
    assert session.token.expires_at == world.identity.session_of(first).token.expires_at
    assert session.token.methods == ("token", "password")
    assert world.identity.caller_of(second).roles == {"reader"}


def test_a_token_revoked_elsewhere_begets_nothing_although_it_is_remembered(world: World) -> None:
    token = world.login()
    world.identity.caller_of(token)
    world.process().revoke(token)
    with pytest.raises(Unauthorized):
        world.identity.login(TokenProof(token), None, HERE)


def test_an_application_credential_acts_for_its_user_with_its_roles_only(world: World) -> None:
    world.directory.grant(world.ann.id, world.web.id, world.roles["reader"])
    caller = world.identity.caller_of(world.login())
    credential, secret = world.directory.create_credential(caller, "app", roles=[(None, "reader")])
    proof = CredentialProof(Reference(id=credential.id), None, secret)
    token, session = world.identity.login(proof, None, HERE)
    assert world.identity.caller_of(token).roles == {"reader"}
    assert session.credential == credential
    by_name = CredentialProof(Reference(name="app"), Reference(name="ann"), secret)
    assert world.identity.login(by_name, None, HERE)
    world.directory.delete_credential(world.ann.id, credential.id)
    assert world.is_refused(token)


def test_an_application_credential_loses_what_its_user_loses(world: World) -> None:
    world.directory.grant(world.ann.id, world.web.id, world.roles["reader"])
    caller = world.identity.caller_of(world.login())
    credential, secret = world.directory.create_credential(caller, "app", roles=[(None, "reader")])
    world.directory.withdraw(world.ann.id, world.web.id, world.roles["reader"])
    with pytest.raises(Unauthorized):
        world.identity.login(CredentialProof(Reference(id=credential.id), None, secret), None, HERE)


def test_an_application_credential_is_bound_to_its_project_and_its_date(world: World) -> None:
    shop = world.directory.create_project("shop")
    world.directory.grant(world.ann.id, shop.id, world.roles["member"])
    caller = world.identity.caller_of(world.login(scope=Reference(name="web")))
    world.time.start = datetime.now(UTC)
    expires_at = world.time.now() + timedelta(hours=1)
    credential, secret = world.directory.create_credential(caller, "app", expires_at=expires_at)
    proof = CredentialProof(Reference(id=credential.id), None, secret)
    token, session = world.identity.login(proof, None, HERE)
    assert session.token.expires_at == expires_at
    elsewhere: list[Scope] = [Reference(name="shop"), "unscoped"]
    for scope in elsewhere:
        with pytest.raises(Unauthorized):
            world.identity.login(proof, scope, HERE)
        with pytest.raises(Unauthorized):
            world.identity.login(TokenProof(token), scope, HERE)
    world.time.seconds = 3601
    assert world.is_refused(token)
    with pytest.raises(Unauthorized, match="expired"):
        world.identity.login(proof, None, HERE)


def test_nobody_gives_a_program_a_role_they_do_not_have(world: World) -> None:
    caller = world.identity.caller_of(world.login())
    with pytest.raises(Forbidden, match="admin"):
        world.directory.create_credential(caller, "app", roles=[(None, "admin")])


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def test_basic_authentication_pays_for_the_hash_once(world: World) -> None:
    asked: list[str] = []

    class Counted(Passwords):
        def matches(self, kept: str | None, password: str) -> bool:
            asked.append(password)
            return super().matches(kept, password)

    identity = Identity(world.store, passwords=Counted(CHEAP), now=world.time.now, clock=world.time.clock)
    for _ in range(10):
        assert identity.authenticate_basic(basic("ann", "ann's"), HERE).project_id == world.web.id
        world.time.seconds += 4
    assert asked == ["ann's"]


def test_basic_authentication_notices_a_new_password_elsewhere(world: World) -> None:
    elsewhere = world.process()
    elsewhere.authenticate_basic(basic("ann", "ann's"), HERE)
    world.directory.change_user(world.ann.id, password="new")
    world.time.seconds += 6
    with pytest.raises(Unauthorized):
        elsewhere.authenticate_basic(basic("ann", "ann's"), HERE)
    assert elsewhere.authenticate_basic(basic("ann", "new"), HERE).user_name == "ann"


@pytest.mark.parametrize(
    "header",
    ["", "Basic", "Basic ???", "Basic " + base64.b64encode(b"ann").decode(), "Bearer x", basic("a\0", "x"),
     "Basic " + base64.b64encode(b"\xff\xfe:x").decode(), basic("ann", "wrong")],
)  # fmt: skip
def test_a_basic_header_that_proves_nothing_is_refused(world: World, header: str) -> None:
    with pytest.raises(Unauthorized):
        world.identity.authenticate_basic(header, HERE)


def test_names_are_unique_and_ids_are_not_names(world: World) -> None:
    with pytest.raises(Conflict, match="ann"):
        world.directory.create_user("ann")
    with pytest.raises(Conflict, match="web"):
        world.directory.create_project("web")
    for unknown in ("ann", "x\0y", "", "0" * 32):
        with pytest.raises(NotFound):
            world.directory.user(unknown)


def test_a_user_without_a_password_cannot_log_in_with_any(world: World) -> None:
    world.directory.create_user("robot")
    with pytest.raises(Unauthorized):
        world.login("robot", "")
    with pytest.raises(Invalid):
        world.directory.create_user("empty", password="")


def test_the_first_start_makes_two_accounts_and_later_ones_none(world: World) -> None:
    world.directory.delete_user(world.ann.id)
    kept: list[Mapping[str, str]] = []
    assert ensure_bootstrap(world.directory, kept.append)
    assert not ensure_bootstrap(world.directory, kept.append)
    (passwords,) = kept
    admin = world.identity.caller_of(world.login("admin", passwords["admin"]))
    demo = world.identity.caller_of(world.login("demo", passwords["demo"]))
    assert (admin.project_name, admin.is_admin) == ("admin", True)
    assert (demo.project_name, demo.roles) == ("demo", frozenset({"member"}))


def test_a_first_start_that_died_half_way_is_finished_by_the_next(world: World) -> None:
    class Died(Exception):
        pass

    def die(_: Mapping[str, str]) -> None:
        raise Died

    with pytest.raises(Died):
        ensure_bootstrap(world.directory, die)
    world.directory.create_user("demo", password="lost")
    kept: dict[str, str] = {}
    assert ensure_bootstrap(world.directory, kept.update)
    assert world.login("demo", kept["demo"])
    assert world.login("admin", kept["admin"])
