"""Live streams of events and operations: nothing is lost, told twice or told to others, whoever is cut off."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Self

import httpx
import pytest
import sqlalchemy as sa

from argosy.domain.instance import Instance
from argosy.domain.operations import DeleteInstance, RestartInstance
from argosy.metadata.store import Store, Transaction
from argosy.taskmanager.parts import Retention
from argosy.taskmanager.retention import forget_what_is_old
from tests.api.conftest import FLAVORS, Api
from tests.support import metadata
from tests.support.server import NO_TLS, Client, running, wait_until

# More than there are threads to answer with.
MANY = 60
SETTINGS = {
    "ARGOSY_API__MAX_STREAMS_PER_PROJECT": str(MANY),
    "ARGOSY_API__MAX_STREAMS": str(MANY + 2),
    "ARGOSY_API__STREAM_HEARTBEAT_S": "0.3",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """An API in a process of its own; what happens is written by this one."""
    with ExitStack() as stack:
        more = {}
        if request.param == "postgresql":
            more["ARGOSY_METADATA_URL"] = stack.enter_context(metadata.postgresql()).url
        server = stack.enter_context(running("api", **SETTINGS, **more))
        store = Store(more.get("ARGOSY_METADATA_URL") or server.settings.database_url)
        stack.callback(store.close)
        with store.write() as tx:
            tx.flavors.publish(FLAVORS)
        yield Api(server, store, server.client("demo"), server.client("admin"))


class Stream:
    """Follows in a thread; `items` is what was told, in order, with its id under `stream_id`."""

    def __init__(self, client: Client, path: str, *, last_seen: int | None = None, **query: Any) -> None:
        self._client = client
        self._path = path
        self._query = query
        self._headers = {} if last_seen is None else {"Last-Event-ID": str(last_seen)}
        self.items: list[dict[str, Any]] = []
        self.named: list[tuple[str, Any]] = []
        self.comments: list[str] = []
        self.at: int | None = last_seen
        self.answer: httpx.Response | None = None
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        wait_until("the stream begins", lambda: self.at is not None or self.ended.is_set())
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        if self.answer is not None:
            with suppress(RuntimeError):
                sock = self.answer.extensions["network_stream"].get_extra_info("socket")
                with suppress(OSError):
                    sock.shutdown(2)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        headers = {"X-Auth-Token": self._client.token, **self._headers}
        try:
            with (
                httpx.Client(timeout=30, verify=NO_TLS) as http,
                http.stream(
                    "GET", f"{self._client.base_url}{self._path}", params=self._query, headers=headers
                ) as answer,
            ):
                self.answer = answer
                if answer.status_code != 200:
                    answer.read()
                    return
                for block in blocks(answer):
                    self._take(block)
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()

    def _take(self, block: list[str]) -> None:
        fields = {}
        for line in block:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        if "" in fields:
            self.comments.append(fields[""])
        data = json.loads(fields["data"]) if "data" in fields else None
        if "event" in fields:
            self.named.append((fields["event"], data))
        elif data is not None:
            self.items.append({**data, "stream_id": int(fields["id"])})
        if "id" in fields:
            self.at = int(fields["id"])


def blocks(answer: httpx.Response) -> Iterator[list[str]]:
    block: list[str] = []
    for line in answer.iter_lines():
        if line:
            block.append(line)
        elif block:
            yield block
            block = []


def happen(api: Api, *messages: str, project: str | None = None, **more: Any) -> None:
    for message in messages:
        with api.store.write() as tx:
            tx.events.add(
                project or api.demo.project_id,
                more.get("instance_id"),
                more.get("kind", "test.happened"),
                message,
                "a test",
            )


def has_items(stream: Stream) -> bool:
    return bool(stream.items)


def told(stream: Stream) -> list[str]:
    return [item["message"] for item in stream.items]


def test_events_are_told_as_they_happen_to_their_project_alone(api: Api) -> None:
    with Stream(api.demo, "events/stream") as demo, Stream(api.admin, "events/stream") as admin:
        assert demo.answer is not None
        assert demo.answer.headers["content-type"].startswith("text/event-stream")
        assert demo.answer.headers["cache-control"] == "no-store"
        happen(api, "one", "two\nlines: \u2028 💥", "three")
        happen(api, "secret", project=api.admin.project_id)
        wait_until("demo is told", lambda: len(demo.items) == 3)
        wait_until("admin is told", lambda: len(admin.items) == 1)
    assert told(demo) == ["one", "two\nlines: \u2028 💥", "three"]
    assert told(admin) == ["secret"]
    listed = api.demo.get("/events", params={"limit": 3}).json()["events"]
    assert [{**one, "stream_id": one["id"]} for one in reversed(listed)] == demo.items


def test_a_stream_tells_what_was_chosen(api: Api) -> None:
    mine, other = str(uuid.uuid4()), str(uuid.uuid4())
    with (
        Stream(api.demo, "events/stream", instance_id=mine, kind=["a", "b"]) as chosen,
        Stream(api.admin, "events/stream", instance_id=mine) as everybodys,
        Stream(api.demo, "events/stream", kind="end") as last,
    ):
        happen(api, "1", instance_id=mine, kind="a")
        happen(api, "2", instance_id=other, kind="a")
        happen(api, "3", instance_id=mine, kind="c")
        happen(api, "4", instance_id=mine, kind="b")
        happen(api, "5", kind="end")
        wait_until("the last is told", lambda: told(last) == ["5"])
        wait_until("the chosen are told", lambda: len(chosen.items) == 2)
        wait_until("the administrator is told", lambda: len(everybodys.items) == 3)
    assert told(chosen) == ["1", "4"]
    assert told(everybodys) == ["1", "3", "4"]


def test_one_who_is_cut_off_again_and_again_misses_nothing_and_hears_nothing_twice(api: Api) -> None:
    with Stream(api.demo, "events/stream") as begun:
        at = begun.at
    everything = [f"{writer}-{number}" for writer in range(3) for number in range(80)]

    pause = threading.Event()

    def write(writer: int) -> None:
        for one in everything:
            if one.startswith(f"{writer}-"):
                happen(api, one)
                pause.wait(0.005)

    writers = [threading.Thread(target=write, args=[number]) for number in range(3)]
    for writer in writers:
        writer.start()
    heard: list[dict[str, Any]] = []
    cuts = 0
    while len(heard) < len(everything):
        with Stream(api.demo, "events/stream", last_seen=at) as stream:
            wait_until("something more is told", partial(has_items, stream))
        heard += stream.items
        at = stream.at
        cuts += 1
    for writer in writers:
        writer.join()
    assert sorted(item["message"] for item in heard) == sorted(everything)
    ids = [item["id"] for item in heard]
    assert ids == sorted(set(ids))
    assert cuts > 1


def test_a_client_that_does_not_read_holds_nobody_up_and_gets_everything_later(api: Api) -> None:
    """More than is kept in memory, and than fits into the connection."""
    number = 2500
    headers = {"X-Auth-Token": api.demo.token}
    with (
        httpx.Client(timeout=30) as http,
        http.stream("GET", f"{api.demo.base_url}events/stream", headers=headers) as answer,
    ):
        reading = blocks(answer)
        next(block for block in reading if any(line.startswith("id:") for line in block))
        with api.store.write() as tx:
            for each in range(number):
                tx.events.add(api.demo.project_id, None, "test.slow", f"{each} {'x' * 2000}", "a test")
        happen(api, "the last", kind="test.slow")
        with Stream(api.demo, "events/stream", kind="test.after") as other:
            happen(api, "swift", kind="test.after")
            wait_until("another is told meanwhile", lambda: other.items)
        heard: list[str] = []
        for block in reading:
            data = next((line for line in block if line.startswith("data: ")), None)
            if data is not None:
                heard.append(json.loads(data[6:])["message"].split(" ")[0])
            if heard and heard[-1] in {"the", "swift"}:
                break
    assert heard == [*map(str, range(number)), "the"]


def test_an_operation_is_told_at_each_of_its_steps(api: Api) -> None:
    instance = Instance(
        id=str(uuid.uuid4()),
        project_id=api.demo.project_id,
        name="followed",
        datastore="valkey",
        version="8",
        flavor_id="2",
        volume_gb=1,
        created_at=datetime.now(UTC),
        updated_at=datetime.now(UTC),
    )
    request = RestartInstance(str(uuid.uuid4()), instance.id)
    with (
        Stream(api.demo, "operations/stream") as all_of_them,
        Stream(api.demo, "operations/stream", state=["succeeded", "failed"]) as ended,
        Stream(api.admin, "operations/stream") as admin,
    ):
        begun_at = all_of_them.at
        with api.store.write() as tx:
            tx.instances.add(instance)
            tx.operations.begin(instance, request, requested_by="demo")
        acts: list[Callable[[Transaction], None]] = [
            lambda tx: tx.operations.progress(request.operation_id, 1, 2, "stopping"),
            lambda tx: tx.operations.say(request.operation_id, "stopping, still"),
            lambda tx: tx.operations.say(request.operation_id, "stopping, still"),
            lambda tx: tx.operations.progress(request.operation_id, 2, 2, "starting"),
            lambda tx: tx.operations.succeed(request.operation_id),
            lambda tx: tx.operations.succeed(request.operation_id),
        ]
        for act in acts:
            with api.store.write() as tx:
                act(tx)
        wait_until("its end is told", lambda: ended.items)
        wait_until("every step is told", lambda: len(all_of_them.items) == 5)
        assert admin.items == []
    assert [(one["state"], one["step"], one["steps"], one["doing"]) for one in all_of_them.items] == [
        ("queued", 0, 0, "waiting for a worker"),
        ("running", 1, 2, "stopping"),
        ("running", 1, 2, "stopping, still"),
        ("running", 2, 2, "starting"),
        ("succeeded", 2, 2, ""),
    ]
    (last,) = ended.items
    shown = api.demo.get(f"/operations/{request.operation_id}").json()["operation"]
    assert {**shown, "stream_id": last["stream_id"]} == last
    assert (last["instance_name"], last["requested_by"]) == ("followed", "demo")
    with Stream(api.demo, "operations/stream", last_seen=begun_at) as again:
        wait_until("all is told again", lambda: len(again.items) == 5)
    assert again.items == all_of_them.items


def test_a_quiet_stream_shows_that_it_lives(api: Api) -> None:
    with Stream(api.demo, "events/stream") as stream:
        wait_until("it has beaten twice", lambda: len(stream.comments) > 3)
        assert stream.items == []


def test_a_stream_ends_when_its_token_does(api: Api) -> None:
    revoked, expiring = api.server.client("demo"), api.server.client("demo")
    with Stream(revoked, "events/stream") as first, Stream(expiring, "operations/stream") as second:
        identity = {"X-Auth-Token": revoked.token, "X-Subject-Token": revoked.token}
        url = f"{api.server.url}/identity/v3/auth/tokens"
        assert httpx.delete(url, headers=identity, timeout=60).status_code == 204
        wait_until("the stream of the revoked token ends", first.ended.is_set)
        assert not second.ended.is_set()
        with api.store.engine.begin() as connection:
            connection.execute(
                sa.text("update identity_tokens set expires_at = :at"),
                {"at": datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)},
            )
        wait_until("the stream of the expired token ends", second.ended.is_set)
    for stream in (first, second):
        ((name, reason),) = stream.named
        assert (name, reason["code"]) == ("end", "unauthorized")
    # All tokens were made to expire.
    api.demo, api.admin = api.server.client("demo"), api.server.client("admin")


def test_streams_are_bounded_hold_no_threads_and_are_given_back(api: Api) -> None:
    with ExitStack() as streams:
        for number in range(MANY):
            path = "events/stream" if number % 2 else "operations/stream"
            streams.enter_context(Stream(api.demo, path))
        assert api.demo.get("/instances").status_code == 200
        refused = api.demo.get("/events/stream")
        assert refused.status_code == 413
        assert refused.json()["overLimit"]["argosy_code"] == "too-many-streams"
        assert str(MANY) in refused.json()["overLimit"]["message"]
        for _ in range(2):
            streams.enter_context(Stream(api.admin, "events/stream"))
        full = api.admin.get("/events/stream")
        assert full.status_code == 503
        assert full.json()["serviceUnavailable"]["argosy_code"] == "too-many-streams"

    def follows_again() -> bool:
        """Whether what was cut off counts no more."""
        with Stream(api.demo, "events/stream") as stream:
            assert stream.answer is not None
            return stream.answer.status_code == 200

    wait_until("there is room again", follows_again)


@pytest.mark.parametrize("path", ["events/stream", "operations/stream"])
def test_what_cannot_be_followed_is_refused(api: Api, path: str) -> None:
    for wrong in ("x", "-1", "1.5", "99999999999", "4294967296", "²"):
        answer = api.demo.get(f"/{path}", headers=[(b"Last-Event-ID", wrong.encode())])
        assert answer.status_code == 400, answer.text
        assert "Last-Event-ID" in answer.text
    for query in ({"since": "yesterday"}, {"kind": ["a"] * 21}, {"since": "0001-01-01T00:00:00+14:00"}):
        assert api.demo.get(f"/{path}", params=query).status_code == 400
    assert api.demo.get(f"/{path}", headers={"X-Auth-Token": "x"}).status_code == 401
    assert api.demo.post(f"/{path}").status_code == 404


def test_a_number_that_was_never_sent_is_as_good_as_none(api: Api) -> None:
    with Stream(api.demo, "events/stream", last_seen=2_000_000_000) as stream:
        wait_until("it says from where on", lambda: stream.at != 2_000_000_000)
        happen(api, "after")
        wait_until("it goes on from now", lambda: told(stream) == ["after"])


def test_what_is_not_kept_any_more_is_said_to_be_missing(api: Api) -> None:
    # At once, so that a stream which a test before has just cut off does not have the server remember them.
    with api.store.write() as tx:
        for message in ("old", "older", "kept"):
            tx.events.add(api.demo.project_id, None, "test.happened", message, "a test")
        at = tx.events.journal.bounds()[1] - 2
        tx.connection.exec_driver_sql(f"DELETE FROM events WHERE id <= {at + 1}")
    with Stream(api.demo, "events/stream", last_seen=at) as stream:
        wait_until("the rest is told", lambda: told(stream) == ["kept"])
    ((name, gap),) = stream.named
    assert (name, gap["first"]) == ("gap", at + 2)


def test_ids_that_become_visible_out_of_order_are_told_in_order(api: Api) -> None:
    """PostgreSQL's transactions take their numbers early, and may commit late, or not at all."""
    if api.store.engine.dialect.name == "sqlite":
        pytest.skip("SQLite writes one transaction at a time")
    project = api.demo.project_id
    with Stream(api.demo, "events/stream", kind="test.order") as stream:
        with api.store.write() as slow:
            slow.events.add(project, None, "test.order", "slow", "a test")
            for number in range(5):
                happen(api, f"swift {number}", kind="test.order")
            with suppress(ZeroDivisionError), api.store.write() as undone:
                undone.events.add(project, None, "test.order", "undone", "a test")
                raise ZeroDivisionError
            happen(api, "last", kind="test.order")
            with Stream(api.demo, "events/stream", kind="test.order") as late:
                assert stream.items == []
                begun = late.at
        wait_until("all is told", lambda: len(stream.items) == 7)
        assert told(stream) == ["slow", *(f"swift {number}" for number in range(5)), "last"]
        with Stream(api.demo, "events/stream", kind="test.order", last_seen=begun) as late:
            happen(api, "news", kind="test.order")
            wait_until("news is told", lambda: "news" in told(late))


def test_lists_choose_by_kind_state_and_time(api: Api) -> None:
    happen(api, "then", kind="test.listed")
    happen(api, "now", kind="test.listed")
    listed = api.demo.get("/events", params={"kind": "test.listed"}).json()["events"]
    assert [one["message"] for one in listed] == ["now", "then"]
    for since, number in (("2020-01-01", 2), ("2020-01-01T00:00:00Z", 2), ("2999-01-01T00:00:00+02:00", 0)):
        query = {"kind": "test.listed", "since": since}
        assert len(api.demo.get("/events", params=query).json()["events"]) == number
    page = api.demo.get("/events", params={"kind": ["test.listed", "x"], "limit": 1}).json()
    assert re.search(r"kind=test.listed&kind=x", page["links"][0]["href"])
    rest = api.demo.get(page["links"][0]["href"]).json()
    assert [one["message"] for one in rest["events"]] == ["then"]
    refused = api.demo.get("/operations", params={"state": "done"})
    assert refused.status_code == 400
    assert "queued, running, succeeded, failed" in refused.text
    assert {one["state"] for one in api.demo.get("/operations?state=succeeded").json()["operations"]} == {
        "succeeded"
    }
    assert api.demo.get("/operations?state=failed&state=queued").json()["operations"] == []


def test_instances_are_tagged_found_deleted_and_forgotten_alike_on_both_databases(api: Api) -> None:
    ids = []
    for number in range(3):
        instance = Instance(
            id=str(uuid.uuid4()),
            project_id=api.demo.project_id,
            name=f"tagged{number}",
            datastore="valkey",
            version="8",
            flavor_id="2",
            volume_gb=1,
            created_at=datetime.now(UTC),
            updated_at=datetime.now(UTC),
            tags={"a/b.c": str(number), "team": 'it\'s "quoted"'},
        )
        with api.store.write() as tx:
            tx.instances.add(instance)
        ids.append(instance.id)

    def listed(**query: Any) -> list[str]:
        answer = api.demo.get("/instances", params=query)
        assert answer.status_code == 200, answer.text
        return [one["name"] for one in answer.json()["instances"]]

    assert listed(tag="a/b.c=1") == ["tagged1"]
    assert len(listed(tag=["a/b.c", 'team=it\'s "quoted"'])) == 3
    changed = api.demo.patch(f"/instances/{ids[0]}/tags", json={"tags": {"team": None, "x": "1"}})
    assert changed.json()["tags"] == {"a/b.c": "0", "x": "1"}
    for instance_id in ids:
        deletion = DeleteInstance(str(uuid.uuid4()), instance_id)
        with api.store.write() as tx:
            tx.operations.begin(tx.instances.get(instance_id), deletion, requested_by="demo")
            tx.operations.bury(deletion.operation_id)
            tx.operations.succeed(deletion.operation_id)
    assert listed(deleted="true", tag="a/b.c") == ["tagged2", "tagged1", "tagged0"]
    assert listed(deleted="true", tag="a/b.c", marker=ids[2], limit=1) == ["tagged1"]
    forget_what_is_old(api.store, Retention(*[timedelta(seconds=-1)] * 3))
    assert listed(deleted="true", tag="a/b.c") == []
    assert api.demo.get("/operations?state=succeeded").json()["operations"] == []


def test_a_server_that_stops_says_so_to_those_who_follow(api: Api) -> None:
    with Stream(api.demo, "events/stream") as stream, Stream(api.demo, "operations/stream") as other:
        api.server.kill("api", 15)
        wait_until("both have ended", lambda: stream.ended.is_set() and other.ended.is_set())
    for each in (stream, other):
        ((name, reason),) = each.named
        assert (name, reason["code"]) == ("end", "stopping")
