"""Logs of instances: read, followed, switched, published."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from argosy.client.errors import ClientError, Refused, Unreachable
from argosy.client.session import Session

_UNAVAILABLE = 503


@dataclass(frozen=True)
class Log:
    """A log; `published` and `pending` in bytes."""

    name: str
    type: str
    status: str
    published: int
    pending: int
    container: str | None
    prefix: str | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Log:
        return cls(
            shown["name"],
            shown["type"],
            shown["status"],
            shown["published"],
            shown["pending"],
            None if shown["container"] == "None" else shown["container"],
            None if shown["prefix"] == "None" else shown["prefix"],
        )


class Logs:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, instance_id: str) -> list[Log]:
        return [Log.read(shown) for shown in self._session.get(f"/instances/{instance_id}/log")["logs"]]

    def act(
        self,
        instance_id: str,
        name: str,
        *,
        enable: bool = False,
        disable: bool = False,
        publish: bool = False,
        discard: bool = False,
    ) -> Log:
        """Switch, discard and publish, in this order; nothing of it shows the log."""
        asked = {"enable": enable, "disable": disable, "publish": publish, "discard": discard}
        body = {"name": name, **{key: int(value) for key, value in asked.items() if value}}
        return Log.read(self._session.post(f"/instances/{instance_id}/log", body)["log"])

    def read(self, instance_id: str, name: str, lines: int = 100) -> Iterator[str]:
        """The text of the last lines, in parts."""
        return self._read(instance_id, name, lines, follow=False, every_s=0)

    def follow(self, instance_id: str, name: str, lines: int = 100, every_s: float = 0.5) -> Iterator[str]:
        """The text of the last lines, and then all that is written, for ever.

        A guest or server that does not answer is waited for: nothing is lost over that.
        """
        return self._read(instance_id, name, lines, follow=True, every_s=every_s)

    def _read(
        self, instance_id: str, name: str, lines: int, *, follow: bool, every_s: float
    ) -> Iterator[str]:
        path = f"/instances/{instance_id}/logs/{quote(name, safe='')}/lines"
        position: int | None = None
        while True:
            asked = {"lines": lines} if position is None else {"position": position}
            try:
                found = self._session.get(path, **asked)["lines"]
            except ClientError as error:
                if not follow or position is None or not _may_pass(error):
                    raise
                time.sleep(max(every_s, 0.5))
                continue
            if found["text"]:
                yield found["text"]
            went_on = found["next"] != position and found["next"] < found["end"]
            position = found["next"]
            if went_on:
                continue
            if not follow:
                return
            time.sleep(every_s)


def _may_pass(error: ClientError) -> bool:
    return isinstance(error, Unreachable) or (isinstance(error, Refused) and error.status == _UNAVAILABLE)
