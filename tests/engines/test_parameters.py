"""Configuration groups on real servers: in force at once or at the next start, all or none, and never in the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import EngineNotReady, Invalid
from argosy.domain.parameters import Effective, Parameter, check_values
from argosy.engines import choices, engine_for, layers
from argosy.engines.base import Configurable, Engine, Health, RootAccess
from argosy.engines.host import Host
from tests.support.engines import Guest
from tests.support.images import images
from tests.support.mariadb import as_root


@dataclass(frozen=True)
class Case:
    """An engine's parameters to try: each a name, a value, and how the server shows that value."""

    at_once: tuple[str, str, str]
    also_at_once: tuple[str, str, str]
    at_start: tuple[str, str, str]
    refused: tuple[str, str]
    refused_words: str
    fatal: dict[str, str]  # taken, and then the server does not start
    of_the_flavor: str


CASES = {
    "postgresql": Case(
        ("work_mem", "9MB", "9MB"),
        ("deadlock_timeout", "3s", "3s"),
        ("max_connections", "61", "61"),
        ("default_text_search_config", "nothing"),
        "default_text_search_config",
        {"shared_buffers": "4000GB"},
        "effective_cache_size",
    ),
    "mariadb": Case(
        ("sort_buffer_size", "3M", "3145728"),
        ("max_connections", "555", "555"),
        ("thread_stack", "512K", "524288"),
        ("sql_mode", "nothing"),
        "can't be set to the value of 'nothing'",
        {"innodb_encrypt_log": "ON"},
        "innodb_buffer_pool_size",
    ),
    "valkey": Case(
        ("maxmemory-samples", "7", "7"),
        ("timeout", "300", "300"),
        ("databases", "20", "20"),
        ("maxmemory-policy", "nothing"),
        "must be one of the following",
        {"databases": "0"},
        "maxmemory",
    ),
}


@pytest.fixture
def case(guest: Guest) -> Case:
    return CASES[guest.datastore.engine]


def effective(engine: Engine, name: str) -> Effective:
    assert isinstance(engine, Configurable)
    return next(one for one in engine.effective_parameters() if one.name == name)


def in_force(engine: Engine, name: str) -> tuple[str, str]:
    """A parameter's value and its source."""
    found = effective(engine, name)
    return found.value, found.source


def restart(guest: Guest) -> str | None:
    guest.engine.stop()
    return layers.start(guest.engine)


def catalogue(version: tuple[Datastore, Version]) -> tuple[Parameter, ...]:
    told = images().parameters(version[1])
    assert told is not None
    return told.parameters


def test_what_can_be_is_in_force_at_once(guest: Guest, parameters: Configurable, case: Case) -> None:
    pid = guest.engine.server.pid
    chosen = dict([case.at_once[:2], case.also_at_once[:2]])
    parameters.apply_parameters(chosen)
    for name, _, shown in (case.at_once, case.also_at_once):
        assert in_force(guest.engine, name) == (shown, "group")
    assert parameters.pending_restart() == []
    assert guest.engine.server.pid == pid
    assert restart(guest) is None
    assert in_force(guest.engine, case.at_once[0]) == (case.at_once[2], "group")


def test_what_needs_a_start_waits_for_it_and_says_so(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    name, value, shown = case.at_start
    before = effective(guest.engine, name)
    parameters.apply_parameters(dict([case.at_once[:2], (name, value)]))
    waiting = effective(guest.engine, name)
    assert (waiting.value, waiting.pending) == (before.value, value)
    assert in_force(guest.engine, case.at_once[0]) == (case.at_once[2], "group")
    agent = guest.new_agent()
    assert isinstance(agent, Configurable)
    assert agent.pending_restart() == [name]
    assert restart(guest) is None
    assert in_force(agent, name) == (shown, "group")
    assert agent.pending_restart() == []


def test_a_value_that_waits_no_longer_differs_does_not_wait(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    name, value, _ = case.at_start
    parameters.apply_parameters({name: value})
    parameters.apply_parameters({})
    assert parameters.pending_restart() == []
    assert effective(guest.engine, name).pending is None


def test_when_one_value_is_refused_none_is_taken(guest: Guest, parameters: Configurable, case: Case) -> None:
    parameters.apply_parameters(dict([case.at_once[:2]]))
    before = parameters.effective_parameters()
    with pytest.raises(Invalid) as refusal:
        parameters.apply_parameters(dict([case.also_at_once[:2], case.at_start[:2], case.refused]))
    assert case.refused_words in refusal.value.sentence
    assert parameters.effective_parameters() == before
    assert choices.read(guest.host).parameters == dict([case.at_once[:2]])
    assert guest.engine.health() is Health.UP
    assert restart(guest) is None
    assert parameters.effective_parameters() == before


def test_what_is_still_being_tried_waits_for_no_restart(
    guest: Guest, parameters: Configurable, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a heartbeat in the middle of a change that is refused would have everybody restart the server."""
    engine = guest.engine
    assert isinstance(engine, layers.Layered)
    change, told = engine.change, []

    def tell_and_change(wanted: Mapping[str, str | None]) -> set[str]:
        told.append(reporter.submit(engine.pending_restart).result())
        return change(wanted)

    monkeypatch.setattr(engine, "change", tell_and_change)
    monkeypatch.setattr(layers, "_SETTLES_S", 0.01)
    name, value, _ = case.at_start
    with ThreadPoolExecutor(1) as reporter:
        with pytest.raises(Invalid):
            parameters.apply_parameters(dict([case.at_once[:2], case.refused]))
        parameters.apply_parameters({name: value})
        assert parameters.pending_restart() == [name]
        with pytest.raises(Invalid):
            parameters.apply_parameters(dict([(name, value), case.refused]))
    assert told == [[], [], [name]]


def test_what_is_taken_out_of_the_group_is_as_it_was(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    before = parameters.effective_parameters()
    parameters.apply_parameters(dict([case.at_once[:2], case.also_at_once[:2]]))
    parameters.apply_parameters({})
    after = parameters.effective_parameters()
    assert [(one.name, one.value, one.source) for one in after] == [
        (one.name, one.value, one.source) for one in before
    ]


def test_values_the_server_does_not_start_with_give_way_to_those_that_worked(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    worked = dict([case.at_once[:2], case.at_start[:2]])
    parameters.apply_parameters(worked)
    assert restart(guest) is None
    if guest.datastore.engine == "postgresql":
        parameters.apply_parameters({**worked, **case.fatal})
    else:
        choose(guest, {**worked, **case.fatal})
    reason = restart(guest)
    assert reason is not None
    assert next(iter(case.fatal)) in reason
    assert parameters.refused is not None
    assert guest.engine.health() is Health.UP
    for name, _, shown in (case.at_once, case.at_start):
        assert in_force(guest.engine, name) == (shown, "group")
    parameters.apply_parameters(worked)
    assert parameters.refused is None


def choose(guest: Guest, values: dict[str, str]) -> None:
    """As for a server that is down."""
    guest.engine.stop()
    assert isinstance(guest.engine, Configurable)
    guest.engine.apply_parameters(values)


def test_what_is_chosen_while_the_server_is_down_is_in_force_when_it_is_up(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    choose(guest, dict([case.at_once[:2], case.at_start[:2]]))
    assert parameters.pending_restart() == []
    guest.engine.start()
    for name, _, shown in (case.at_once, case.at_start):
        assert in_force(guest.engine, name) == (shown, "group")


def test_the_group_beats_the_flavor_and_argosy_beats_the_group(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    assert effective(guest.engine, case.of_the_flavor).source == "flavor"
    port = effective(guest.engine, "tls-port" if guest.datastore.engine == "valkey" else "port")
    assert (port.value, port.source) == (str(guest.host.port), "argosy")
    choose(guest, {port.name: "1"})
    guest.engine.start()
    assert effective(guest.engine, port.name).value == port.value


class Killed(BaseException):
    """The agent is gone, in the middle of it all."""


class LastWrites(Host):
    """A host that the agent is killed on at its nth write of a file."""

    left = 1000

    def write_file(self, path: Path, text: str, mode: int = 0o600, *, as_agent: bool = False) -> Path:
        if self.left == 0:
            raise Killed
        object.__setattr__(self, "left", self.left - 1)
        return super().write_file(path, text, mode, as_agent=as_agent)


def deaths(guest: Guest, values: dict[str, str]) -> Iterator[int]:
    """Have an agent die at each write of an `apply_parameters` in turn, until one lives to its end."""
    for writes in range(20):
        host = LastWrites(**{field.name: getattr(guest.host, field.name) for field in fields(Host)})
        object.__setattr__(host, "left", writes)
        agent = engine_for(guest.datastore.engine, host)
        assert isinstance(agent, Configurable)
        try:
            agent.apply_parameters(values)
        except Killed:
            yield writes
        else:
            assert writes >= 3
            return


def test_an_agent_killed_in_the_middle_leaves_nothing_half_done_for_the_next(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    before = effective(guest.engine, case.at_once[0])
    values = dict([case.at_once[:2], case.at_start[:2]])
    for _ in deaths(guest, values):
        agent = guest.new_agent()
        assert isinstance(agent, Configurable)
        agent.settle()
        if choices.read(guest.host).parameters == values:
            assert in_force(agent, case.at_once[0]) == (case.at_once[2], "group")
            assert agent.pending_restart() == [case.at_start[0]]
        else:
            assert effective(agent, case.at_once[0]) == before
        agent.apply_parameters({})
        assert effective(agent, case.at_once[0]) == before
        assert agent.pending_restart() == []


def test_an_agent_killed_before_the_refusal_leaves_values_that_work(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    parameters.apply_parameters(dict([case.at_once[:2]]))
    # Written down, and then the agent was killed.
    chosen = choices.read(guest.host)
    choices.write(guest.host, replace(chosen, parameters=dict([case.also_at_once[:2], case.refused])))
    agent = guest.new_agent()
    assert isinstance(agent, Configurable)
    agent.settle()
    assert agent.refused is not None
    assert choices.read(guest.host).parameters == dict([case.at_once[:2]])
    assert in_force(agent, case.at_once[0]) == (case.at_once[2], "group")


def test_a_server_killed_in_the_middle_comes_up_with_what_is_written_down(
    guest: Guest, parameters: Configurable, case: Case
) -> None:
    guest.freeze_server()
    guest.kill_server()
    try:
        parameters.apply_parameters(dict([case.at_once[:2]]))
    except EngineNotReady:
        assert choices.read(guest.host).parameters == {}
        parameters.apply_parameters(dict([case.at_once[:2]]))
    guest.engine.start()
    assert in_force(guest.engine, case.at_once[0]) == (case.at_once[2], "group")


def test_a_server_that_dies_in_the_middle_and_is_started_at_once_has_nothing_of_what_fails(
    guest: Guest, parameters: Configurable, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's keeper does so, while the change has yet to fail."""
    engine = guest.engine
    assert isinstance(engine, layers.Layered)
    before = in_force(engine, case.at_once[0])

    def die(_: Mapping[str, str | None]) -> set[str]:
        guest.kill_server()
        starts.append(keeper.submit(engine.start))
        wait(starts, 1)  # as long as a start takes that waits for nothing
        raise EngineNotReady("The server has died.")

    starts: list[Future[None]] = []
    monkeypatch.setattr(engine, "change", die)
    with ThreadPoolExecutor(1) as keeper, pytest.raises(EngineNotReady):
        parameters.apply_parameters(dict([case.at_once[:2]]))
    starts[0].result()
    assert in_force(engine, case.at_once[0]) == before
    assert parameters.pending_restart() == []


# What the catalogue says


def test_the_catalogue_says_what_a_restart_is_needed_for(
    version: tuple[Datastore, Version],
) -> None:
    case = CASES[version[0].engine]
    known = {one.name: one for one in catalogue(version)}
    assert not known[case.at_once[0]].restart_required
    assert not known[case.also_at_once[0]].restart_required
    assert known[case.at_start[0]].restart_required
    assert len(known) > 150
    assert list(known) == sorted(known)


def test_what_argosy_owns_is_marked_with_a_reason(version: tuple[Datastore, Version], place: Guest) -> None:
    engine = place.engine
    assert isinstance(engine, layers.Layered)
    known = {one.name: one for one in catalogue(version)}
    mine = engine.layers().owned
    assert [name for name in mine if name in known and known[name].owned is None] == []


def test_every_value_a_server_has_by_itself_may_be_in_a_group(
    version: tuple[Datastore, Version], place: Guest
) -> None:
    told = catalogue(version)
    by_itself = {one.name: one.default for one in told if one.owned is None and one.default is not None}
    checked = check_values(told, by_itself)
    place.engine.initialise()
    assert isinstance(place.engine, Configurable)
    place.engine.apply_parameters(checked)
    assert layers.start(place.engine) is None
    assert place.engine.health() is Health.UP


# Root has ways of its own.


def only(engine: str, version: tuple[Datastore, Version], request: pytest.FixtureRequest) -> Guest:
    """A guest with root enabled; skipped, before any server is started, where another engine drives it."""
    if version[0].engine != engine:
        pytest.skip(f"this is about {engine}")
    guest = request.getfixturevalue("guest")
    assert isinstance(guest, Guest)
    assert isinstance(guest.engine, RootAccess)
    guest.engine.enable_root("secret")
    return guest


@pytest.fixture
def postgresql(version: tuple[Datastore, Version], request: pytest.FixtureRequest) -> Guest:
    return only("postgresql", version, request)


@pytest.fixture
def mariadb(version: tuple[Datastore, Version], request: pytest.FixtureRequest) -> Guest:
    return only("mariadb", version, request)


def as_postgresqls_root(guest: Guest, statement: LiteralString) -> None:
    with psycopg.connect(
        host=guest.host.address, user="root", password="secret", dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(statement)


def test_the_groups_value_takes_the_place_of_roots(postgresql: Guest) -> None:
    engine = postgresql.engine
    assert isinstance(engine, Configurable)
    as_postgresqls_root(postgresql, "ALTER SYSTEM SET work_mem = '7MB'")
    as_postgresqls_root(postgresql, "ALTER SYSTEM SET maintenance_work_mem = '70MB'")
    engine.apply_parameters({"work_mem": "9MB"})
    assert in_force(engine, "work_mem") == ("9MB", "group")
    as_postgresqls_root(postgresql, "ALTER SYSTEM SET work_mem = '7MB'")
    as_postgresqls_root(postgresql, "ALTER SYSTEM SET max_connections = 5000")
    assert restart(postgresql) is None
    assert in_force(engine, "work_mem") == ("9MB", "group")
    assert in_force(engine, "maintenance_work_mem") == ("70MB", "server")
    assert effective(engine, "max_connections").source == "flavor"


def test_what_root_set_since_is_told_as_what_it_is(postgresql: Guest) -> None:
    engine = postgresql.engine
    assert isinstance(engine, Configurable)
    engine.apply_parameters({"work_mem": "9MB"})
    as_postgresqls_root(postgresql, "ALTER SYSTEM SET work_mem = '7MB'")
    as_postgresqls_root(postgresql, "SELECT pg_reload_conf()")
    postgresql.wait_until(
        lambda: in_force(engine, "work_mem") == ("7MB", "server"), "root's value is told as root's"
    )


def test_what_mariadbs_root_set_is_told_as_what_it_is(mariadb: Guest) -> None:
    engine = mariadb.engine
    assert isinstance(engine, Configurable)
    engine.apply_parameters({"sort_buffer_size": "3M"})
    set_both = ("SET GLOBAL sort_buffer_size = 4194304", "SET GLOBAL join_buffer_size = 4194304")
    as_root(*set_both)(mariadb.host, "secret")
    assert in_force(engine, "sort_buffer_size") == ("4194304", "server")
    assert in_force(engine, "join_buffer_size") == ("4194304", "server")
    engine.apply_parameters({"sort_buffer_size": "2M"})
    assert in_force(engine, "sort_buffer_size") == ("2097152", "group")
