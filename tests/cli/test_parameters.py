"""`argosy parameters`: what can be set in a version, and what is in force in an instance."""

from __future__ import annotations

import re

from tests.support.command_line import CommandLine


def test_a_versions_parameters_are_listed_with_what_they_take(argosy: CommandLine) -> None:
    listed = argosy("parameters", "list", "postgresql", "17").out
    assert re.search(r"^max_connections +integer +\d+ to 262143 +100 +needed", listed, re.MULTILINE)
    assert not re.search(r"^port ", listed, re.MULTILINE)
    everything = argosy("parameters", "list", "postgresql", "17", "--all", "--json").json
    owned = {each["name"]: each["owned"] for each in everything}
    assert owned["port"] == "it is the way in, for clients and for Argosy"
    assert owned["work_mem"] is None
    assert argosy("parameters", "list", "mariadb", "11.8", "--match", "sort_buffer", "-q").out.split() == [
        "aria_sort_buffer_size",
        "innodb_sort_buffer_size",
        "myisam_sort_buffer_size",
        "sort_buffer_size",
    ]


def test_a_parameter_is_shown_by_its_name_in_any_case(argosy: CommandLine) -> None:
    shown = argosy("parameters", "show", "postgresql", "17", "WORK_MEM").out
    assert re.search(r"^Values +64 to 2147483647 kB$", shown, re.MULTILINE)
    assert re.search(r"^Default +4MB$", shown, re.MULTILINE)
    argosy("parameters", "show", "postgresql", "17", "nothing", code=3)
    assert "cannot be set" in argosy("parameters", "show", "mariadb", "11.8", "datadir").out


def test_an_instance_tells_what_is_in_force_and_from_where(argosy: CommandLine, cache: str) -> None:
    shown = argosy("parameters", "effective", cache).out
    assert re.search(r"^maxmemory +402653184 +flavor$", shown, re.MULTILINE)
    assert re.search(r"^appendonly +yes +argosy$", shown, re.MULTILINE)
    assert "default" not in shown
    everything = argosy("parameters", "effective", cache, "--all", "--json").json
    assert {each["source"] for each in everything} == {"argosy", "flavor", "default"}
    argosy("configuration", "create", "short", "timeout=300", "databases=20", "--datastore", "valkey")
    argosy("configuration", "attach", "short", cache)
    grouped = argosy("parameters", "effective", cache, "--source", "group").out
    assert re.search(r"^timeout +300 +group$", grouped, re.MULTILINE)
    assert re.search(r"^databases +16 +group +20$", grouped, re.MULTILINE)
    argosy("configuration", "detach", cache)
    argosy("configuration", "delete", "short")


def test_an_administrator_narrows_hides_and_brings_back(argosy: CommandLine) -> None:
    at = ("valkey", "8", "tcp-keepalive")
    argosy("admin", "parameters", "set", *at, "--max", "900", "--min", "60", "--restart")
    shown = argosy("parameters", "show", *at, "--json").json
    assert (shown["min"], shown["max"], shown["restart_required"]) == (60, 900, True)
    argosy("configuration", "create", "long", "tcp-keepalive=1000", "--datastore", "valkey", code=4)
    argosy("admin", "parameters", "hide", *at)
    argosy("parameters", "show", *at, code=3)
    argosy("admin", "parameters", "hide", *at, code=2)
    argosy("admin", "parameters", "set", *at, "--type", "integer", "--min", "0", "--max", "2147483647")
    assert argosy("parameters", "show", *at, "--json").json["default"] == "300"
    argosy("admin", "parameters", "set", "valkey", "8", "port", "--max", "1", "--min", "1", code=2)


def test_what_argosy_sets_for_the_size_is_told(argosy: CommandLine, cache: str) -> None:
    assert re.search(r"^maxmemory +384mb$", argosy("parameters", "defaults", cache).out, re.MULTILINE)
