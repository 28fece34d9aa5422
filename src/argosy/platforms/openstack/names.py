"""What is made in the cloud carries whose it is: in its name for people, in tags or metadata for us.

::

    Nova        server          argosy-<instance>            tags and metadata
                server group    argosy-<installation>-<spread>
    Cinder      volume          argosy-<instance>-volume     metadata
    Neutron     port            argosy-<instance>-agent, argosy-<instance>-database     tags, description
                security group  the same two names                                      tags, description
                floating IP     (has no name)                                           tags, description

Neutron gives tags to what exists already only. The description is there from the first moment on, so that what was
made just before a crash is found too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_INSTALLATION = "argosy"
_INSTANCE = "argosy-instance"


@dataclass(frozen=True)
class Names:
    """Those of one installation, of which a project may hold several."""

    installation: str

    def server(self, instance_id: str) -> str:
        return f"argosy-{instance_id}"

    def volume(self, instance_id: str) -> str:
        return f"argosy-{instance_id}-volume"

    def agent(self, instance_id: str) -> str:
        """Of the port and the security group by which the agent is called."""
        return f"argosy-{instance_id}-agent"

    def database(self, instance_id: str) -> str:
        return f"argosy-{instance_id}-database"

    def group(self, spread: str) -> str:
        return f"{self.groups}{spread}"

    @property
    def groups(self) -> str:
        """How names of server groups begin."""
        return f"argosy-{self.installation}-"

    def description(self, instance_id: str) -> str:
        return f"{self._described}{instance_id}"

    @property
    def _described(self) -> str:
        return f"Argosy {self.installation}, instance "

    @property
    def tag(self) -> str:
        return f"{_INSTALLATION}={self.installation}"

    def tag_of(self, instance_id: str) -> str:
        return f"{_INSTANCE}={instance_id}"

    def tags(self, instance_id: str) -> list[str]:
        return [self.tag, self.tag_of(instance_id)]

    def metadata(self, instance_id: str) -> dict[str, str]:
        return {_INSTALLATION: self.installation, _INSTANCE: instance_id}

    def instance(
        self,
        *,
        tags: Iterable[str] = (),
        metadata: Mapping[str, str] | None = None,
        description: str = "",
    ) -> str | None:
        """Whose something is by what it carries; None for what is not of this installation."""
        carried = dict(metadata or {})
        for tag in tags or ():
            key, _, value = tag.partition("=")
            carried[key] = value
        if carried.get(_INSTALLATION) == self.installation and carried.get(_INSTANCE):
            return carried[_INSTANCE]
        if description.startswith(self._described):
            return description.removeprefix(self._described)
        return None
