"""Where databases run, as the task manager sees it: images, servers, volumes.

Every call is idempotent by instance id: it looks for what it would make before making it, and taking away
what is not there is no error. Failures are PlatformError (or a subclass of Failed that says more).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from argosy.domain.datastore import Version
from argosy.domain.drift import Finding
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
class Placement:
    """Where a server is to be, and who may come near its database.

    `network` is the tenant's network by the platform's own id or name, None for the installation's; of it a `subnet`
    and an `ip_address` may be asked for; `project` is whose instance it is. `networks` are the CIDRs that the database's `port` is open to, none of them
    for anywhere. Servers with the same `spread` are kept apart. A platform leaves aside what it has no use for.
    """

    instance_id: str
    port: int
    project: str = ""
    network: str | None = None
    subnet: str | None = None
    ip_address: str | None = None
    availability_zone: str | None = None
    public: bool = False
    networks: tuple[str, ...] = ()
    spread: str | None = None


@dataclass(frozen=True)
class Address:
    """One that clients find the database at; `network` by name."""

    address: str
    network: str
    public: bool = False


@dataclass(frozen=True)
class Addresses:
    """`agent` is where the control plane calls the guest; `database` where the engine listens, `shown` where clients come."""

    agent: str
    database: str
    shown: tuple[Address, ...]


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
    """A server to boot for an instance. `engine` and `port` come from the catalog.

    A machine has its identity from the conductor, by what `user_data` tells it: it is given no credentials.
    """

    instance_id: str
    version: Version
    engine: str
    port: int
    flavor: Flavor
    conductor_url: str
    credentials: Credentials | None = None
    placement: Placement | None = None
    volume_gb: int = 0
    # Versions whose software is to be within reach besides: of a machine, in its image.
    also: tuple[Version, ...] = ()
    user_data: str = field(default="", repr=False)


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


@dataclass(frozen=True)
class Expectation:
    """What the metadata says of an instance, for a look at what the platform has: see `Platform.survey`.

    One that `settles` is under an operation that changes what it has, or was never whole: it is known, and no more than
    that. Of any other, `agent` and `database` are the addresses its guest was told, and `volume` is its serial number.
    """

    instance_id: str
    volume_gb: int
    settles: bool
    placement: Placement | None = None
    agent: str = ""
    database: str = ""
    volume: str = ""


class Servers(Protocol):
    def reserve(self, placement: Placement) -> Addresses:
        """Give the instance addresses of its own, the same ones on a second call."""

    def create(self, request: ServerRequest) -> Server:
        """Boot a server at the reserved address; returns before it has booted. A running one is left alone."""

    def replace(self, request: ServerRequest) -> Server:
        """Tell a server anew what it is (version, size, certificates) and boot its agent again.

        The database server goes on running as it was, and so do the limits: see `limit`. Machines ask the conductor
        what they are: theirs are not told by the platform, and this raises PlatformError.
        """

    def settled(self, instance_id: str) -> bool:
        """Whether what was last asked of the server is done. Raises PlatformError, in the platform's own words, when it failed."""

    def reboot(self, instance_id: str) -> None:
        """Boot the machine again, whatever it is doing; returns before it has."""

    def rebuild(self, request: ServerRequest) -> None:
        """Make the machine anew from its version's image, around the volume and addresses it has; returns before it is."""

    def resize(self, instance_id: str, flavor: Flavor) -> None:
        """Boot the machine anew in another size; returns before it has. It has to be confirmed or reverted once settled."""

    def confirm(self, instance_id: str) -> None:
        """Keep the new size; nothing when there is none to keep."""

    def revert(self, instance_id: str) -> None:
        """Boot it again in the size it had before; nothing when that is the one it has."""

    def allow(self, placement: Placement) -> Addresses:
        """Open the database to whom the placement says, and to nobody else; a public address comes or goes."""

    def limit(self, instance_id: str) -> None:
        """Hold the server to the limits of the size it was last told. Raises PlatformError when it uses more."""

    def holds(self, instance_id: str, version: Version) -> bool:
        """Whether the software of another version can be put within reach without making the server anew."""

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

    def serial(self, instance_id: str) -> str:
        """What a machine finds its volume by; "" where it is put under the server by the platform."""


class Platform(Protocol):
    """One place to run databases in."""

    name: str
    reach: str  # from where servers can be reached, in words for `show`
    # Servers are machines: they take a while to boot, learn from the conductor what they are, and are booted anew to be
    # resized. A matter of configuration: workflows branch on it and take the same turns when they are replayed.
    machines: bool
    images: Images
    servers: Servers
    volumes: Volumes

    def flavors(self) -> list[Flavor]: ...

    def warm_up(self) -> None:
        """Begin what makes the next server start quickly, and look for what would keep it from that; returns at once."""

    def wind_down(self) -> None:
        """End what runs for no instance in particular; what is needed of it starts again by itself."""

    def stop(self, instance_id: str) -> None:
        """End everything of an instance that runs; `heal` brings it back."""

    def survey(self, expected: Sequence[Expectation], may_repair: Callable[[Finding], bool]) -> list[Finding]:
        """Compare what the platform has with what it should; repairs what is safe, and deletes nothing that may hold data.

        `may_repair` is asked just before each repair.
        """
