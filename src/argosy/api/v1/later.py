"""Trove's paths whose features are not here yet: they answer 501 with a sentence, and find what does not exist."""

from __future__ import annotations

from collections.abc import Callable

from argosy.api.call import Asked
from argosy.api.route import resource
from argosy.domain.errors import NotFound, Unsupported

router = resource("not yet")

_OF_AN_INSTANCE = {
    "/ssl": (["GET", "POST"], "instance:extension:ssl:show", "Choosing certificates is"),
    "/modules": (["GET", "POST"], "instance:module_list", "Modules are"),
    "/modules/{module_id}": (["DELETE"], "instance:module_remove", "Modules are"),
}
_COLLECTIONS = {
    "/clusters": (["POST"], "cluster:create", "Clusters are"),
    "/modules": (["GET", "POST"], "module:index", "Modules are"),
}
# Nothing can be in these collections, and clients that look for a name go on at a 404.
_SINGLE = {
    "/clusters/{one}": (["GET", "POST", "DELETE"], "cluster:show", "Cluster"),
    "/clusters/{one}/root": (["GET", "POST"], "cluster:extension:root:index", "Cluster"),
    "/modules/{one}": (["GET", "PUT", "DELETE"], "module:show", "Module"),
    "/modules/{one}/instances": (["GET", "PUT"], "module:instances", "Module"),
}
_MANAGEMENT = {
    "/mgmt/clusters": (["GET"], "mgmt:cluster:index", "Clusters are"),
    "/mgmt/clusters/{one}": (["GET"], "mgmt:cluster:show", "Clusters are"),
    "/mgmt/clusters/{one}/action": (["POST"], "mgmt:cluster:action", "Clusters are"),
}


@router.get("/clusters", include_in_schema=False)
def list_clusters(call: Asked) -> dict[str, list[str]]:
    """None, as none can be made. A 501 would be what `openstack database root show` tells of a mistyped instance."""
    call.allow("cluster:index")
    return {"clusters": []}


def _of_an_instance(rule: str, what: str) -> Callable[..., None]:
    def refuse(call: Asked, instance_id: str, module_id: str = "") -> None:  # noqa: ARG001 - a path's
        call.allow(rule)
        call.instance(instance_id)
        raise Unsupported(f"{what} not supported yet.")

    return refuse


def _collection(rule: str, what: str) -> Callable[..., None]:
    def refuse(call: Asked, one: str = "") -> None:  # noqa: ARG001 - a path's
        call.allow(rule)
        raise Unsupported(f"{what} not supported yet.")

    return refuse


def _single(rule: str, what: str) -> Callable[..., None]:
    def refuse(call: Asked, one: str) -> None:
        call.allow(rule)
        raise NotFound(f"{what} {one[:255]} cannot be found.")

    return refuse


def _management(rule: str, what: str) -> Callable[..., None]:
    def refuse(call: Asked, one: str = "", name: str = "") -> None:  # noqa: ARG001 - a path's
        call.allow_management(rule)
        raise Unsupported(f"{what} not supported yet.")

    return refuse


for _paths, _refusal, _above in (
    (_OF_AN_INSTANCE, _of_an_instance, "/instances/{instance_id}"),
    (_COLLECTIONS, _collection, ""),
    (_SINGLE, _single, ""),
    (_MANAGEMENT, _management, ""),
):
    for _path, (_methods, _rule, _what) in _paths.items():
        router.add_api_route(
            _above + _path,
            _refusal(_rule, _what),
            methods=_methods,
            include_in_schema=False,
            response_model=None,
        )
