"""What can be set in a database server, and what an instance's has."""

from __future__ import annotations

from urllib.parse import quote

from argosy.client.models import EffectiveParameter, Parameter
from argosy.client.session import Session


class Parameters:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, datastore: str, version: str) -> list[Parameter]:
        """Of a version, by name; none until its software was fetched once."""
        shown = self._session.get(_path(datastore, version))
        return [Parameter.read(one) for one in shown["configuration-parameters"]]

    def get(self, datastore: str, version: str, name: str) -> Parameter:
        return Parameter.read(self._session.get(f"{_path(datastore, version)}/{quote(name, safe='')}"))

    def effective(self, instance_id: str) -> list[EffectiveParameter]:
        """Of an instance's running server, by name."""
        shown = self._session.get(f"/instances/{instance_id}/parameters")
        return [EffectiveParameter(**one) for one in shown["parameters"]]

    def defaults(self, instance_id: str) -> dict[str, str]:
        """What Argosy sets for an instance of this size, below any configuration group."""
        shown = self._session.get(f"/instances/{instance_id}/configuration")
        return dict(shown["instance"]["configuration"])


def _path(datastore: str, version: str) -> str:
    return f"/datastores/{quote(datastore, safe='')}/versions/{quote(version, safe='')}/parameters"
