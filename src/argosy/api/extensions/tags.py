"""/instances/{id}/tags: what owners note about their instances, and find them by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import StrictStr

from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body
from argosy.domain.errors import NotFound
from argosy.domain.instance import check_tags

router = resource("tags")

_TAGS = "/instances/{instance_id}/tags"


class TagsBody(Body):
    tags: dict[StrictStr, StrictStr]


class TagChangesBody(Body):
    tags: dict[StrictStr, StrictStr | None]


@router.get(_TAGS, response_model=shapes.Tags, responses=faults(404))
def show_tags(call: Asked, instance_id: str) -> dict[str, Any]:
    """The instance's tags."""
    call.allow("instance:tags:show")
    return {"tags": call.instance(instance_id).tags}


@router.put(_TAGS, response_model=shapes.Tags, responses=faults(400, 404, 415))
def replace_tags(call: Asked, instance_id: str, body: TagsBody) -> dict[str, Any]:
    """These tags, and no others any more."""
    return _change(call, instance_id, lambda _: check_tags(body.tags))


@router.patch(_TAGS, response_model=shapes.Tags, responses=faults(400, 404, 415))
def change_tags(call: Asked, instance_id: str, body: TagChangesBody) -> dict[str, Any]:
    """These tags besides those there are; null takes one away. Of two changes at once none is lost."""

    def changed(had: dict[str, str]) -> dict[str, str]:
        # What is taken away must be spelled right too.
        check_tags({key: value or "" for key, value in body.tags.items()})
        return check_tags({key: value for key, value in {**had, **body.tags}.items() if value is not None})

    return _change(call, instance_id, changed)


@router.delete(_TAGS, response_model=shapes.Tags, responses=faults(404))
def delete_tags(call: Asked, instance_id: str) -> dict[str, Any]:
    """No tags any more."""
    return _change(call, instance_id, lambda _: {})


@router.delete(_TAGS + "/{key:path}", response_model=shapes.Tags, responses=faults(404))
def delete_tag(call: Asked, instance_id: str, key: str) -> dict[str, Any]:
    """One tag less; those that are left."""

    def changed(had: dict[str, str]) -> dict[str, str]:
        if key not in had:
            raise NotFound(f"Instance {instance_id} has no tag {key[:128]!r}.", code="tag-not-found")
        return {other: value for other, value in had.items() if other != key}

    return _change(call, instance_id, changed)


def _change(
    call: Call, instance_id: str, changed: Callable[[dict[str, str]], dict[str, str]]
) -> dict[str, Any]:
    call.allow("instance:tags:update")
    check_instance_id(instance_id)
    with call.write() as tx:
        tags = tx.instances.change_tags(instance_id, changed)
        project_id = tx.instances.get(instance_id).project_id
        shown = ", ".join(f"{key}={value}" for key, value in sorted(tags.items())) or "none"
        tx.events.add(project_id, instance_id, "instance.tags", f"tags: {shown}", call.caller.user_name)
    return {"tags": tags}
