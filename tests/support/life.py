"""One instance from its making to its end, by the API, as its owner and an administrator go through it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

from argosy import catalog
from tests.support.backups import Shop
from tests.support.server import Client, Server, wait_until
from tests.support.writer import Place, writing

SECRET = "Ann-secret-77"


class Story:
    """One instance, how long each stage of its life took, and the questions that a test asks of it."""

    def __init__(self, argosy: Server, demo: Client, datastore: str, version: str) -> None:
        self._argosy, self._demo = argosy, demo
        self._datastore, self._version = datastore, version
        self._took: list[tuple[str, float]] = []
        self.id = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self._took.append((name, time.monotonic() - began))
        say(f"{self._datastore}: {name} {self._took[-1][1]:.1f} s")

    def tell(self) -> None:
        say(f"{self._datastore}: all of it {sum(took for _, took in self._took):.0f} s")

    def flavor(self, name: str) -> str:
        flavors = self._demo.get("/flavors").json()["flavors"]
        return next(str(one["id"]) for one in flavors if one["name"] == name)

    def create(self) -> None:
        instance = self._argosy.create(
            self._demo,
            f"life-{self._datastore}",
            self._datastore,
            flavorRef=self.flavor("db.tiny"),
            datastore={"type": self._datastore, "version": self._version},
            databases=[{"name": "shop"}],
            users=[{"name": "ann", "password": SECRET, "databases": [{"name": "shop"}]}],
        )
        self.id = instance["id"]

    def put(self, *numbers: int) -> None:
        with closing(Shop(self._argosy, self.shown())) as shop:
            shop.put(*numbers)

    def numbers(self) -> list[int]:
        """What `put` and nobody else has put there."""
        with closing(Shop(self._argosy, self.shown())) as shop:
            return shop.numbers()

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = self._demo.get(f"/instances/{self.id}").json()["instance"]
        return shown

    def events(self, kind: str) -> list[str]:
        listed = self._demo.get(f"/events?instance_id={self.id}&kind={kind}").json()["events"]
        return [one["message"] for one in listed]

    def act(self, kind: str, body: dict[str, Any], *, admin: bool = False) -> None:
        client = self._argosy.client("admin") if admin else self._demo
        place = f"/mgmt/instances/{self.id}/action" if admin else f"/instances/{self.id}/action"
        answer = client.post(place, json=body)
        assert answer.status_code == 202, answer.text
        self.wait(kind)

    def wait(self, kind: str) -> None:
        """Until the newest operation of a kind has succeeded and the instance is healthy."""

        def ended() -> bool:
            query = {"instance_id": self.id, "kind": kind}
            newest = self._demo.get("/operations", params=query).json()["operations"][0]
            assert newest["state"] != "failed", newest["error"]
            return bool(newest["state"] == "succeeded")

        wait_until(f"{kind} ends", ended, 300)
        self._argosy.wait_until_healthy(self._demo, self.id)

    def rebuild(self, version: str) -> None:
        image = catalog.files()[self._datastore].version(version).id
        self.act("instance.rebuild", {"rebuild": {"image_id": image}}, admin=True)

    def upgrade(self, version: str) -> None:
        wanted = catalog.files()[self._datastore].version(version).id
        body = {"instance": {"datastore_version": wanted}}

        def begun() -> bool:
            answer = self._demo.patch(f"/instances/{self.id}", json=body)
            # An archive of its log may just be begun.
            assert answer.status_code in {202, 422}, answer.text
            return answer.status_code == 202

        wait_until("the upgrade begins", begun)
        self.wait("instance.upgrade")
        assert self.shown()["datastore"]["version"] == version

    def configure(self, values: dict[str, Any]) -> None:
        datastore = {"type": self._datastore, "version": self._version}
        body = {"configuration": {"name": "group", "values": values, "datastore": datastore}}
        group = self._demo.post("/configurations", json=body).json()["configuration"]["id"]
        answer = self._demo.put(f"/instances/{self.id}", json={"instance": {"configuration": group}})
        assert answer.status_code == 202, answer.text
        self.wait("instance.configure")
        (name, value) = next(iter(values.items()))
        listed = self._demo.get(f"/instances/{self.id}/parameters").json()["parameters"]
        assert next(str(one["value"]) for one in listed if one["name"] == name) == str(value)
        answer = self._demo.put(f"/instances/{self.id}", json={"instance": {"configuration": None}})
        assert answer.status_code == 202, answer.text
        wait_until("it follows no group", lambda: "configuration" not in self.shown())
        self._argosy.wait_until_healthy(self._demo, self.id)

    def volume_bytes(self) -> int:
        def told() -> int:
            used, percent = (self.shown()["volume"].get(key) for key in ("used", "used_percent"))
            return int(used / percent * 100 * 2**30) if used and percent else 0

        return int(wait_until("it tells the size of its volume", told))

    def writing(self) -> Any:
        port = catalog.datastores()[self._datastore].port
        ca = self._argosy.home / "database-ca.crt"
        return writing(Place(self._datastore, self.shown()["ip"][0], port, "ann", ca, SECRET, "shop"))

    def log(self) -> None:
        """Have a log published, and find it in the list with something in it."""
        logs = self._demo.get(f"/instances/{self.id}/log").json()["logs"]
        assert logs, "it has no logs"
        answer = self._demo.post(f"/instances/{self.id}/log", json={"name": logs[0]["name"], "publish": 1})
        assert answer.status_code == 200, answer.text

    def archive_log(self) -> None:
        place = f"/instances/{self.id}/log_archive"
        answer = self._demo.put(place, json={"log_archive": {"mode": "on"}})
        assert answer.status_code == 202, answer.text

        def archiving() -> bool:
            busy = self.shown()["argosy"]["operation"]
            return busy is None and self._demo.get(place).json()["log_archive"]["archiving"] is True

        wait_until("the log is archived", archiving)

    def archived_moment(self) -> str:
        """A moment after everything that was written so far, to which the instance can be restored."""
        time.sleep(1.1)  # MariaDB's moments are whole seconds
        moment = datetime.now(UTC)
        time.sleep(1.1)
        numbers = count(int(time.time()))

        def covered() -> bool:
            self.put(next(numbers))  # of an idle log nothing is archived
            until = self.shown()["argosy"]["recovery"]["latest"]
            return until is not None and datetime.fromisoformat(until).replace(tzinfo=UTC) > moment

        wait_until("the log is archived past the moment", covered, 90, every_s=2)
        return moment.isoformat()

    def restored_to(self, moment: str) -> dict[str, Any]:
        point = {"instance": self.id, "time": moment}
        body = {"instance": {"name": f"then-{self._datastore}", "restorePoint": point}}
        answer = self._demo.post("/instances", json=body)
        assert answer.status_code == 200, answer.text
        return self._argosy.wait_until_healthy(self._demo, answer.json()["instance"]["id"])

    def take_away(self, instance_id: str) -> None:
        assert self._demo.delete(f"/instances/{instance_id}").status_code == 202
        wait_until("it is gone", lambda: self._demo.get(f"/instances/{instance_id}").status_code == 404, 120)


def say(words: str) -> None:
    """For whoever watches, as this takes many minutes: pytest -s."""
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()
