"""What an application credential's access rules allow."""

from __future__ import annotations

import pytest

from argosy.domain.identity import AccessRule, Caller

CASES = [
    ("/v1.0/p/instances", "/v1.0/p/instances", True),
    ("/v1.0/p/instances", "/v1.0/p/instances/1", False),
    ("/v1.0/p/instances", "/v1x0/p/instances", False),
    ("/v1.0/*/instances", "/v1.0/p/instances", True),
    ("/v1.0/*/instances", "/v1.0/p/q/instances", False),
    ("/v1.0/*/instances", "/v1.0//instances", False),
    ("/v1.0/{project_id}/instances/{id}", "/v1.0/p/instances/1", True),
    ("/v1.0/{project_id}/instances/{id}", "/v1.0/p/instances/1/action", False),
    ("/v1.0/**", "/v1.0/p/instances/1/action", True),
    ("/v1.0/**/action", "/v1.0/p/instances/1/action", True),
    ("/v1.0/**/action", "/v1.0/p/instances/1", False),
    ("/v1.0/p", "/v1.0/p\n", False),
    ("/v1.0/(p|q)", "/v1.0/p", False),
]


@pytest.mark.parametrize(("pattern", "path", "allowed"), CASES)
def test_a_rule_allows_the_paths_its_pattern_covers(pattern: str, path: str, allowed: bool) -> None:
    assert AccessRule("database", "GET", pattern).allows("database", "GET", path) is allowed
    assert not AccessRule("database", "GET", pattern).allows("database", "POST", path)
    assert not AccessRule("compute", "GET", pattern).allows("database", "GET", path)


def test_who_has_no_rules_may_ask_anything_and_who_has_none_of_them_nothing() -> None:
    caller = Caller("u", "ann", "p", "shop", frozenset(), is_admin=False)
    assert caller.may_ask("database", "GET", "/v1.0/p/instances")
    bound = Caller("u", "ann", "p", "shop", frozenset(), is_admin=False, access_rules=())
    assert not bound.may_ask("database", "GET", "/v1.0/p/instances")
