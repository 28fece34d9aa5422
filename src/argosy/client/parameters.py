"""What can be set in a database server, and what an instance's has."""

from __future__ import annotations

from urllib.parse import quote

from argosy.client.errors import NotFound
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


class ManagedParameters:
    """What an administrator says of a version's parameters instead of its server."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def set(
        self,
        datastore: str,
        version: str,
        name: str,
        *,
        kind: str | None = None,
        restart_required: bool | None = None,
        least: float | None = None,
        most: float | None = None,
    ) -> None:
        """Change one, where None leaves things as they are, or add one that the server did not tell of."""
        managed = self._path(datastore, version)
        try:
            shown = self._session.get(f"{managed}/{quote(name, safe='')}")
        except NotFound:
            shown = {}
        asked = {
            "name": shown.get("name", name),
            "data_type": kind or shown.get("type", "string"),
            "restart_required": shown.get("restart_required", False)
            if restart_required is None
            else restart_required,
            "min_size": shown.get("min_size") if least is None else least,
            "max_size": shown.get("max_size") if most is None else most,
        }
        body = {"configuration-parameter": {key: value for key, value in asked.items() if value is not None}}
        if shown:
            self._session.put(f"{managed}/{quote(shown['name'], safe='')}", body)
        else:
            self._session.post(managed, body)

    def hide(self, datastore: str, version: str, name: str) -> None:
        """Take one out of the list: no group can set it from then on."""
        self._session.delete(f"{self._path(datastore, version)}/{quote(name, safe='')}")

    def _path(self, datastore: str, version: str) -> str:
        shown = self._session.get(
            f"/datastores/{quote(datastore, safe='')}/versions/{quote(version, safe='')}"
        )
        return f"/mgmt/datastores/versions/{shown['version']['id']}/parameters"
