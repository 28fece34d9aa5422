"""Where everything of Argosy is on a machine; below a root of its own for one that is only simulated.

::

    /etc/argosy/image.json           what is in the machine's image: the software of datastores, by version
    /etc/argosy/guest/               what the guest is: told.json, enrolled.json, guest.json
                  identity/ tls/     its own certificate, and the database server's, with their keys
    /opt/argosy/agent/<digest>/      the agent's code; `current` is one of them, `previous` the one before
    /run/argosy/                     agent.json of the running agent, db/ with the database server's sockets
    /var/lib/argosy/volume/          the data volume: data/ of the database server, etc/ for it, logs/ of it

What the database server is told by (etc/) is on the volume, so that a machine made anew around it finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Layout:
    root: Path = Path("/")

    @property
    def simulated(self) -> bool:
        return self.root != Path("/")

    @property
    def image(self) -> Path:
        return self.root / "etc/argosy/image.json"

    @property
    def guest(self) -> Path:
        return self.root / "etc/argosy/guest"

    @property
    def told(self) -> Path:
        return self.guest / "told.json"

    @property
    def enrolled(self) -> Path:
        return self.guest / "enrolled.json"

    @property
    def config(self) -> Path:
        return self.guest / "guest.json"

    @property
    def identity(self) -> Path:
        return self.guest / "identity"

    @property
    def tls(self) -> Path:
        return self.guest / "tls"

    @property
    def code(self) -> Path:
        return self.root / "opt/argosy/agent"

    @property
    def run(self) -> Path:
        return self.root / "run/argosy"

    @property
    def starts(self) -> Path:
        """Counts the agent's starts since it last served: see machine_files/argosy-agent."""
        return self.run / "starts"

    @property
    def volume(self) -> Path:
        return self.root / "var/lib/argosy/volume"

    def stand_in(self, serial: str) -> Path:
        """Of a simulated machine: a directory where a real one has its volume's device."""
        return self.root / "dev/disk/by-id" / f"virtio-{serial[:20]}"
