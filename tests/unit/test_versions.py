"""What operators make of the catalog lies on top of it, in the order it was made."""

from __future__ import annotations

from dataclasses import replace

import pytest

from argosy.catalog import files
from argosy.domain.datastore import DebianSource
from argosy.domain.errors import Invalid
from argosy.domain.versions import Offer, check_version_name, offered, recipe

REDIS = files()["redis"]
OWN = Offer(
    id="own",
    datastore="redis",
    name="7.0.15",
    manager="redis",
    like="7",
    number="7.0.15",
    suite="bookworm",
    packages=("redis-server=5:7.0.15-1", "redis-tools"),
    tags=("bookworm",),
)


def named(*offers: Offer, datastore: str = "redis") -> tuple[list[str], str]:
    """The versions a datastore then has, and the default one."""
    found = offered(files(), offers)[datastore]
    return [version.name for version in found.versions], found.default_version


CATALOGS = Offer(REDIS.versions[0].id, "redis", "7", "redis")


def test_nothing_made_of_it_is_the_catalog() -> None:
    assert offered(files(), []) == files()


def test_one_that_was_made_is_driven_like_the_one_it_is_like() -> None:
    own = offered(files(), [OWN])["redis"].version("7.0.15")
    assert (own.id, own.series, own.number) == ("own", "7", "7.0.15")
    assert own.sources == (DebianSource("bookworm", OWN.packages),)
    assert named(OWN) == (["7", "7.0.15"], "7")


def test_a_datastore_that_was_made_has_the_rules_of_the_one_it_is_like() -> None:
    own = offered(files(), [replace(OWN, datastore="cache")])["cache"]
    assert (own.engine, own.port, own.manager) == (REDIS.engine, REDIS.port, "redis")
    assert own.user_names == REDIS.user_names
    assert [version.datastore for version in own.versions] == ["cache"]
    assert own.default_version == ""
    assert own.id != REDIS.id


def test_the_default_is_the_catalogs_until_another_is_chosen_or_it_is_taken_away() -> None:
    chosen = replace(OWN, default=True)
    gone = replace(OWN, deleted=True)
    assert named(chosen)[1] == "7.0.15"
    assert named(gone) == (["7"], "7")
    assert named(replace(CATALOGS, default=False)) == (["7"], "")
    assert named(replace(CATALOGS, deleted=True)) == ([], "")
    assert named(replace(CATALOGS, deleted=True), chosen) == (["7.0.15"], "7.0.15")


def test_a_name_that_was_deleted_can_be_used_again() -> None:
    gone = replace(OWN, id="earlier", deleted=True)
    assert named(gone, OWN) == (["7", "7.0.15"], "7")


def test_one_that_is_switched_off_keeps_its_place() -> None:
    valkey = files()["valkey"]
    newest = valkey.versions[0]
    off = Offer(newest.id, "valkey", newest.name, "valkey", active=False)
    found = offered(files(), [off])["valkey"].versions
    assert [version.name for version in found] == [version.name for version in valkey.versions]
    assert [version.active for version in found] == [False, True]


def test_what_a_newer_release_knew_is_left_aside() -> None:
    assert offered(files(), [Offer("x", "oracle", "23", "oracle")]) == files()
    assert named(replace(OWN, like="99")) == (["7"], "7")


def test_software_is_what_the_catalog_pulls_from_a_suite_held_to_versions_or_not() -> None:
    like, source = recipe(REDIS, ["fresh", "bookworm"], [])
    assert (like.name, source) == ("7", DebianSource("bookworm", ("redis-server", "redis-tools")))
    held = ["redis-server=5:7.0.15-1~deb12u5", "redis-tools"]
    assert recipe(REDIS, ["bookworm"], held)[1].packages == tuple(held)


@pytest.mark.parametrize(
    ("tags", "packages", "words"),
    [
        ([], [], "bookworm for one like 7"),
        (["trixie"], [], "bookworm for one like 7"),
        (["bookworm"], ["redis-server"], "must be those of the suite"),
        (["bookworm"], ["redis-server", "redis-tools", "netcat"], "must be those of the suite"),
        (["bookworm"], ["--allow-unauthenticated"], "packages[0]"),
        (["bookworm"], ["redis-server", "redis-tools=$(id)"], "packages[1]"),
        (["bookworm"], ["redis-server", "redis-tools="], "packages[1]"),
        (["bookworm"], ["./redis.deb"], "packages[0]"),
    ],
)
def test_other_software_is_refused_with_what_can_be_had(
    tags: list[str], packages: list[str], words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        recipe(REDIS, tags, packages)
    assert words in refused.value.sentence


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a b", "versions", "x" * 65, "é", "-x", "a\n"])
def test_a_name_that_could_be_no_directory_of_ours_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        check_version_name(name, "version.name")
