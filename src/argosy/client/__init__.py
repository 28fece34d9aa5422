"""The Python client of the public API: what the command line and the console are built on.

::

    from argosy.client import Argosy, clouds

    with Argosy(clouds.named("argosy")) as argosy:
        made = argosy.instances.create("shop", datastore="postgresql", flavor="small", volume_gb=1)
        for operation in argosy.operations.follow(made.id):
            print(operation.step, operation.steps, operation.doing)

Everything it raises on purpose is a ClientError, with the server's own sentence where the server spoke.
"""

from argosy.client.clouds import Cloud
from argosy.client.errors import ClientError
from argosy.client.service import Argosy

__all__ = ["Argosy", "ClientError", "Cloud"]
