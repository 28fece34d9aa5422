"""The Python client of the public API: what the command line and the console are built on.

::

    from argosy.client import Argosy, clouds

    with Argosy(clouds.named("argosy")) as argosy:
        made = argosy.instances.create("shop", datastore="postgresql", flavor="small", volume_gb=1)
        for operation in argosy.operations.follow(made.id):
            print(operation.step, operation.steps, operation.doing)

Everything it raises on purpose is a ClientError, with the server's own sentence where the server spoke.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from argosy.client.errors import ClientError

if TYPE_CHECKING:
    from argosy.client.clouds import Cloud
    from argosy.client.service import Argosy

__all__ = ["Argosy", "ClientError", "Cloud"]


def __getattr__(name: str) -> Any:
    # HTTP and YAML take longer to load than all the rest: who needs neither, as for a help text, is spared them.
    if name == "Argosy":
        from argosy.client.service import Argosy

        return Argosy
    if name == "Cloud":
        from argosy.client.clouds import Cloud

        return Cloud
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
