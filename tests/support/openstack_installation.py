"""An installation on a simulated cloud: its driver, what that is asked, and what it left there."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argosy.domain.datastore import Version
from argosy.domain.instance import Flavor
from argosy.domain.parameters import Catalogue, Parameter
from argosy.platforms.base import Placement, ServerRequest
from argosy.platforms.openstack.platform import OpenStackPlatform
from tests.support.cloud import SimulatedCloud

USER_DATA = '{"argosy": 1, "key": "a secret"}'
PORT = 5432


class OpenStackInstallation:
    """One installation in a cloud that others may share. `pauses` has how long the driver would have waited, s."""

    def __init__(self, cloud: SimulatedCloud, directory: Path, **settings: Any) -> None:
        self.cloud = cloud
        self.pauses: list[float] = []
        self._clouds_file = directory / "clouds.yaml"
        cloud.write_clouds_file(self._clouds_file)
        self._settings = {"management_network": "management", "request_timeout_s": 5, **settings}
        self.platform = self.another()

    def another(self, **settings: Any) -> OpenStackPlatform:
        """A driver in another process, as far as the cloud can tell."""
        return OpenStackPlatform(
            cloud="simulated",
            clouds_file=self._clouds_file,
            pause=self._pause,
            **{**self._settings, **settings},
        )

    def restart(self, **settings: Any) -> None:
        self.platform.wind_down()
        self.platform = self.another(**settings)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        time.sleep(min(seconds, 0.01))

    @property
    def servers(self) -> Any:
        return self.platform.servers

    @property
    def volumes(self) -> Any:
        return self.platform.volumes

    def flavor(self, name: str = "db.tiny") -> Flavor:
        return next(one for one in self.platform.flavors() if one.name == name)

    def placement(self, instance_id: str, **asked: Any) -> Placement:
        return Placement(instance_id, PORT, **asked)

    def request(self, instance_id: str, *, also: tuple[Version, ...] = (), **asked: Any) -> ServerRequest:
        return ServerRequest(
            instance_id=instance_id,
            version=version("17"),
            engine="postgresql",
            port=PORT,
            flavor=self.flavor(),
            conductor_url="https://192.0.2.1:8778",
            placement=self.placement(instance_id, **asked),
            volume_gb=1,
            also=also,
            user_data=USER_DATA,
        )

    def build(self, instance_id: str | None = None, **asked: Any) -> str:
        """An instance with a server that has come up; its id."""
        instance_id = instance_id or new_id()
        self.servers.create(self.request(instance_id, **asked))
        self.settle(instance_id)
        return instance_id

    def settle(self, instance_id: str) -> None:
        until(lambda: self.servers.settled(instance_id))

    def destroy(self, instance_id: str) -> None:
        self.servers.delete(instance_id)
        self.volumes.delete(instance_id)

    def server(self, instance_id: str) -> Any:
        """As the cloud has it."""
        found = self.cloud.server(f"argosy-{instance_id}")
        assert found is not None
        return found

    def close(self) -> None:
        self.platform.wind_down()


def new_id() -> str:
    return str(uuid.uuid4())


def version(name: str, **more: Any) -> Version:
    return Version("postgresql", name, (), **more)


def until(done: Callable[[], bool], timeout_s: float = 20) -> None:
    ends = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < ends, "it did not happen in time"
        time.sleep(0.02)


def add_image(cloud: SimulatedCloud, name: str, *versions: str, owner: str | None = None, **more: Any) -> str:
    """As `argosy image build --register` leaves one in Glance, with the facts beside it; its id."""
    facts = {
        "software": [
            {
                "datastore": "postgresql",
                "version": one,
                "series": one,
                "bundle": f"/opt/argosy/software/postgresql/{one}/bundle",
                "template": f"/opt/argosy/software/postgresql/{one}/template",
            }
            for one in versions
        ],
        "parameters": {f"postgresql/{one}": catalogue(one).to_text() for one in versions},
    }

    def add() -> str:
        project = owner or cloud.service_project
        beside = cloud.glance.add(f"{name}-facts", project, json.dumps(facts).encode())
        tags = ["argosy", *(f"argosy:postgresql:{one}" for one in versions)]
        image = cloud.glance.add(name, project, b"disk", tags=tags, argosy_facts=beside, **more)
        cloud.glance.images[image]["created_at"] = f"2026-01-01T00:00:{len(cloud.glance.images):02}Z"
        return image

    return cloud.change(add)


def catalogue(version: str) -> Catalogue:
    return Catalogue(f"{version}.1", (Parameter("work_mem", "integer", restart_required=False),))


@contextmanager
def simulated_cloud(**more: Any) -> Iterator[SimulatedCloud]:
    """With an image of PostgreSQL 17 alone, and one of 16 and 17."""
    with SimulatedCloud(pace_s=0.01, **more) as cloud:
        add_image(cloud, "both", "16", "17")
        add_image(cloud, "seventeen", "17")
        yield cloud
