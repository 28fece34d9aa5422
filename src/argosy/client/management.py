"""What administrators see and do beyond their own project: instances of all projects, and datastore versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from argosy.client.errors import Ambiguous, NotFound
from argosy.client.instances import is_id
from argosy.client.models import Diagnostics, Hardware, ManagedVersion, RootHistory
from argosy.client.models import ManagedInstance as Instance
from argosy.client.session import Session

_INSTANCES = "/mgmt/instances"
_VERSIONS = "/mgmt/datastore-versions"


class ManagedInstances:
    """Instances of every project."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self, project_id: str | None = None, *, deleted: bool | None = False) -> list[Instance]:
        """By project, then name; `deleted` None means those that are gone and those that are not."""
        asked: dict[str, Any] = {"project_id": project_id, "limit": 100}
        if deleted is not None:
            asked["deleted"] = str(deleted).lower()
        query = {key: value for key, value in asked.items() if value is not None}
        found = [Instance.read(shown) for shown in self._session.pages(_INSTANCES, "instances", **query)]
        return sorted(found, key=lambda each: (each.project_id or "", each.name, each.id))

    def get(self, instance_id: str) -> Instance:
        return Instance.read(self._session.get(_path(instance_id))["instance"])

    def find(self, name_or_id: str) -> Instance:
        """Of any project. Raises NotFound, or Ambiguous when several have the name."""
        if is_id(name_or_id):
            return self.get(name_or_id)
        called = [each.id for each in self.all() if each.name == name_or_id]
        if len(called) > 1:
            raise Ambiguous("instance", name_or_id, called)
        if not called:
            raise NotFound(
                f"No instance of any project has the name or id {name_or_id!r}.", code="instance-not-found"
            )
        return self.get(called[0])

    def act(self, instance_id: str, action: str) -> None:
        """`stop`, `reboot`, or `reset-task-status`, which ends what holds it."""
        self._session.post(f"{_path(instance_id)}/action", {action: {}})

    def rebuild(self, instance_id: str) -> None:
        """From the image of its own version."""
        of = self.get(instance_id)
        shown = self._session.get(f"/datastores/{of.datastore}/versions/{of.version}")["version"]
        self._session.post(f"{_path(instance_id)}/action", {"rebuild": {"image_id": shown["id"]}})

    def renew_agent(self, instance_id: str) -> None:
        """Have its agent run the server's release; the database server goes on."""
        self._session.post(f"{_path(instance_id)}/upgrade", {"upgrade": {}})

    def root_history(self, instance_id: str) -> RootHistory:
        return RootHistory.read(self._session.get(f"{_path(instance_id)}/root")["root_history"])

    def diagnostics(self, instance_id: str) -> Diagnostics:
        return Diagnostics.read(self._session.get(f"{_path(instance_id)}/diagnostics")["diagnostics"])

    def hardware(self, instance_id: str) -> Hardware:
        return Hardware.read(self._session.get(f"{_path(instance_id)}/hwinfo")["hwinfo"])

    def ping(self, instance_id: str) -> None:
        """Returns when its agent has answered. Raises Refused, with status 503, when it does not."""
        self._session.get(f"{_path(instance_id)}/rpc_ping")


class DatastoreVersions:
    """Every version of every datastore, also those that are not offered."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[ManagedVersion]:
        return [ManagedVersion.read(shown) for shown in self._session.get(_VERSIONS)["versions"]]

    def find(self, datastore: str, name_or_id: str) -> ManagedVersion:
        """Raises NotFound."""
        for version in self.all():
            if version.datastore == datastore and name_or_id in (version.name, version.id):
                return version
        raise NotFound(f"Datastore {datastore} has no version {name_or_id!r}.")

    def create(
        self,
        datastore: str,
        name: str,
        *,
        suite: str,
        manager: str | None = None,
        number: str | None = None,
        packages: Sequence[str] = (),
        active: bool = True,
        default: bool = False,
    ) -> ManagedVersion:
        """One whose software is pulled from a Debian suite; `manager` is the datastore it is like."""
        asked: dict[str, Any] = {
            "name": name,
            "datastore_name": datastore,
            "datastore_manager": manager or datastore,
            "image_tags": [suite],
            "packages": list(packages),
            "active": active,
            "default": default,
        }
        if number is not None:
            asked["version"] = number
        self._session.post(_VERSIONS, {"version": asked})
        return self.find(datastore, name)

    def change(self, version_id: str, **changes: Any) -> None:
        """`active`, `default`, `name`."""
        self._session.patch(f"{_VERSIONS}/{version_id}", changes)

    def delete(self, version_id: str) -> None:
        self._session.delete(f"{_VERSIONS}/{version_id}")


def _path(instance_id: str) -> str:
    return f"{_INSTANCES}/{quote(instance_id, safe='')}"
