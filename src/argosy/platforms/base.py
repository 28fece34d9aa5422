"""Where databases run, as the task manager sees it: images, servers, volumes.

Every call is idempotent by instance id: it looks for what it would make before making it, and taking away
what is not there is no error. Failures are PlatformError (or a subclass of Failed that says more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from argosy.domain.datastore import Version
from argosy.domain.instance import Flavor
from argosy.domain.parameters import Catalogue


class ImagePhase(StrEnum):
    ABSENT = "absent"
    PULLING = "pulling"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True)
class ImageState:
    """How far a version's software is; `detail` says what is being done now, or why it failed.

    One that is absent and has a source is there, but of an older release, and has to be made ready again.
    """

    phase: ImagePhase
    detail: str = ""
    source: str | None = None


class Images(Protocol):
    """The software of datastore versions."""

    def begin(self, version: Version) -> None:
        """Start making a version's software ready, unless it is or that is under way; quick."""

    def state(self, version: Version) -> ImageState: ...

    def parameters(self, version: Version) -> Catalogue | None:
        """What a live server of it told of its parameters when it was made ready; None before that."""


@dataclass(frozen=True)
class Credentials:
    """PEM texts a guest is given; keys never show in a repr."""

    rpc_ca: str
    rpc_certificate: str
    rpc_key: str = field(repr=False)
    tls_ca: str
    tls_certificate: str
    tls_key: str = field(repr=False)


@dataclass(frozen=True)
class ServerRequest:
    """A server to boot for an instance. `engine` and `port` come from the catalog."""

    instance_id: str
    version: Version
    engine: str
    port: int
    flavor: Flavor
    credentials: Credentials
    conductor_url: str


@dataclass(frozen=True)
class Server:
    """A server as the platform has it. `running` is about the machine (on local: the agent), not the database."""

    instance_id: str
    address: str
    running: bool


@dataclass(frozen=True)
class Software:
    """Of a version, by the paths a guest finds it at; `version` is what engines know it by."""

    version: str
    bundle: str
    template: str


class Servers(Protocol):
    def reserve(self, instance_id: str) -> str:
        """Give the instance an address of its own, the same one on a second call."""

    def create(self, request: ServerRequest) -> Server:
        """Boot a server at the reserved address; returns before it has booted. A running one is left alone."""

    def replace(self, request: ServerRequest) -> Server:
        """Tell a server anew what it is (version, size, certificates) and boot its agent again.

        The database server goes on running as it was, and so do the limits: see `limit`.
        """

    def limit(self, instance_id: str) -> None:
        """Hold the server to the limits of the size it was last told. Raises PlatformError when it uses more."""

    def offer(self, instance_id: str, version: Version) -> Software:
        """Put the software of another version, which is ready, within reach of the instance's guest."""

    def find(self, instance_id: str) -> Server | None: ...

    def limits(self, instance_id: str) -> dict[str, str]:
        """Which limits hold and by what means, for `show`: such as {"memory": "cgroup v1, 512 MB", "volume": ...}."""

    def delete(self, instance_id: str) -> None:
        """Nothing of it remains: processes, limits, address, files; but not its volume."""

    def heal(self, instance_ids: Sequence[str]) -> list[str]:
        """Boot again the servers among these that died or that a reboot of the machine stopped; returns which."""

    def leftovers(self, instance_ids: Sequence[str]) -> list[str]:
        """Instances not among these of which the platform still holds something."""


class Volumes(Protocol):
    def create(self, instance_id: str, size_gb: int) -> None:
        """Make a volume. Raises OutOfSpace when the platform cannot hold it, with the numbers."""

    def attach(self, instance_id: str) -> None:
        """Put the volume under the instance's server."""

    def grow(self, instance_id: str, size_gb: int) -> None:
        """Make a volume larger while it is in use; one that is as large already is left alone.

        Asked again after a crash it finishes what was begun. Raises OutOfSpace, with the numbers, when the platform
        cannot hold it.
        """

    def delete(self, instance_id: str) -> None:
        """Detach and destroy it."""


class Platform(Protocol):
    """One place to run databases in."""

    name: str
    reach: str  # from where servers can be reached, in words for `show`
    images: Images
    servers: Servers
    volumes: Volumes

    def flavors(self) -> list[Flavor]: ...
