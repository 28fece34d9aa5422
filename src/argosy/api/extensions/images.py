"""/images: the software of each datastore version, where databases run."""

from __future__ import annotations

import uuid
from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.api.v1.bodies import Body, Name
from argosy.api.v1.datastores import find_datastore
from argosy.domain.datastore import Image
from argosy.domain.errors import NotFound
from argosy.domain.operations import PullImage

router = resource("images")


class WantedImage(Body):
    datastore: Name
    version: Name


class PullBody(Body):
    image: WantedImage


@router.get("/images", response_model=shapes.Images, responses=faults())
def list_images(call: Asked) -> dict[str, Any]:
    """How far the software of each version is, as the task manager last said."""
    call.allow("image:index")
    with call.read() as tx:
        return {"images": [_view(image) for image in tx.images.all()]}


@router.post(
    "/images", status_code=202, response_model=shapes.ShownOperation, responses=faults(400, 404, 415)
)
def pull_image(call: Asked, body: PullBody) -> dict[str, Any]:
    """Make the software of a version ready before an instance needs it; for administrators."""
    call.allow("image:pull")
    datastore = find_datastore(body.image.datastore)
    wanted = body.image.version
    version = next((one for one in datastore.versions if wanted in (one.name, one.id)), None)
    if version is None:
        raise NotFound(f"Datastore {datastore.name} has no version {wanted!r}.")
    request = PullImage(operation_id=str(uuid.uuid4()), datastore=datastore.name, version=version.name)
    return {"operation": views.operation_view(call.begin_alone(request))}


def _view(image: Image) -> dict[str, Any]:
    return {
        "datastore": image.datastore,
        "version": image.version,
        "phase": image.phase,
        "detail": image.detail,
        "source": image.source,
        "updated": views.date(image.updated_at),
    }
