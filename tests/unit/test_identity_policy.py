"""Who may do what, and what an operator's file changes about it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from argosy.domain.errors import Forbidden
from argosy.domain.identity import Caller
from argosy.identity.policy import Policy, PolicyBroken
from argosy.identity.rules import DEFAULTS

OWN = {"project_id": "p1"}
FOREIGN = {"project_id": "p2"}
ACTIONS = sorted(rule for rule in DEFAULTS if ":" in rule)


def caller(*roles: str, project_id: str = "p1") -> Caller:
    return Caller("u1", "ann", project_id, "web", frozenset(roles), is_admin="admin" in roles)


def write(path: Path, text: str) -> None:
    """As an operator's editor does: a new file, put in place of the old."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)  # noqa: PTH105 - says better that it is one step


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


@pytest.mark.parametrize("rule", ACTIONS)
def test_an_administrator_may_everything_and_a_stranger_nothing(rule: str) -> None:
    policy = SHARED
    assert policy.allows(caller("admin"), rule, FOREIGN)
    for roles in ((), ("service",), ("somebody",)):
        assert not policy.allows(caller(*roles), rule, OWN)


SHARED = Policy()


@pytest.mark.parametrize(
    ("rule", "roles", "target", "may"),
    [
        ("instance:create", ("member",), OWN, True),
        ("instance:create", ("reader",), OWN, False),
        ("instance:create", ("member",), FOREIGN, False),
        ("instance:show", ("reader",), OWN, True),
        ("instance:show", ("reader",), FOREIGN, False),
        ("instance:show", ("member",), {}, False),
        ("instance:delete", ("Member",), OWN, True),
        ("instance:extension:user_access:update", ("reader",), OWN, False),
        ("instance:extension:user_access:index", ("reader",), OWN, True),
        ("instance:extension:root:create", ("member",), OWN, True),
        ("instance:reset_status", ("member",), OWN, False),
        ("datastore:index", ("reader",), {}, True),
        ("datastore:delete", ("member",), {}, False),
        ("image:pull", ("member",), {}, False),
        ("operation:index", ("reader",), OWN, True),
    ],
)
def test_a_reader_looks_and_a_member_does(
    rule: str, roles: tuple[str, ...], target: dict[str, str], may: bool
) -> None:
    assert SHARED.allows(caller(*roles), rule, target) is may


def test_an_unscoped_caller_owns_nothing() -> None:
    assert not SHARED.allows(caller("member", project_id=""), "instance:show", OWN)


def test_a_refusal_names_the_rule() -> None:
    with pytest.raises(Forbidden, match="instance:create"):
        SHARED.allow(caller("reader"), "instance:create", OWN)
    SHARED.allow(caller("member"), "instance:create", OWN)


def test_a_rule_that_does_not_exist_is_a_mistake_of_ours() -> None:
    with pytest.raises(LookupError, match="instance:explode"):
        SHARED.allow(caller("admin"), "instance:explode", OWN)


def test_an_operator_closes_and_opens_while_it_runs(file: Path) -> None:
    policy = Policy(file)
    member, reader = caller("member"), caller("reader")
    assert policy.allows(member, "instance:delete", OWN)
    write(file, '"instance:delete": "rule:admin"\n"image:pull": "role:puller and rule:owner"\n')
    assert not policy.allows(member, "instance:delete", OWN)
    assert policy.allows(caller("puller"), "image:pull", OWN)
    assert not policy.allows(caller("puller"), "image:pull", FOREIGN)
    write(file, '"instance:restart": "role:reader"\n')
    assert policy.allows(member, "instance:delete", OWN)
    assert policy.allows(reader, "instance:restart", OWN)
    file.unlink()
    assert not policy.allows(reader, "instance:restart", OWN)


def test_rules_written_for_trove_mean_what_they_meant(file: Path) -> None:
    write(file, '"admin_or_owner": "rule:admin or project_id:%(tenant)s"\n')
    policy = Policy(file)
    assert policy.allows(caller("somebody"), "instance:create", OWN)
    assert not policy.allows(caller("somebody"), "instance:create", FOREIGN)


def test_a_rule_about_the_user_is_not_remembered_for_others(file: Path) -> None:
    write(file, '"instance:create": "user_id:%(user_id)s"\n')
    policy = Policy(file)
    me = caller("member")
    assert policy.allows(me, "instance:create", {**OWN, "user_id": "u1"})
    assert not policy.allows(me, "instance:create", {**OWN, "user_id": "u2"})
    other = Caller("u2", "bob", "p1", "web", frozenset({"member"}), is_admin=False)
    assert not policy.allows(other, "instance:create", {**OWN, "user_id": "u1"})


BROKEN = {
    "no mapping": "- a\n- b\n",
    "no YAML": '"instance:create": "role:member\n',
    "no text": '"instance:create": yes\n',
    "nothing": '"instance:create":\n',
    "a misspelt rule": '"instnace:delete": "rule:admin"\n',
    "half an expression": '"instance:create": "role:member or"\n',
    "no check": '"instance:create": "role:member or anything"\n',
    "an unknown reference": '"instance:create": "rule:nowhere"\n',
    "a circle": '"admin": "rule:admin_or_owner"\n',
    "asking another server": '"instance:create": "http://127.77.240.1/may"\n',
    "no UTF-8": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_stops_the_start_and_later_closes_everything(
    file: Path, text: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    content = text if isinstance(text, bytes) else text.encode()
    file.write_bytes(content)
    with pytest.raises(PolicyBroken, match=r"policy\.yaml"):
        Policy(file)
    file.unlink()
    policy = Policy(file)
    admin = caller("admin")
    assert policy.allows(admin, "instance:show", OWN)
    file.write_bytes(content)
    with caplog.at_level(logging.ERROR, logger="argosy"), pytest.raises(Forbidden):
        policy.allow(admin, "instance:show", OWN)
    assert "policy.yaml" in caplog.text
    write(file, "{}\n")
    assert policy.allows(admin, "instance:show", OWN)
