"""What may be set in a configuration group of a version, as a live server of it told; and what an instance has."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr, StringConstraints, model_validator

from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.datastores import find_version, find_version_by_id
from argosy.domain.datastore import Version
from argosy.domain.errors import Invalid, NotFound
from argosy.domain.parameters import Override, Parameter, Type
from argosy.metadata.parameters import Parameters
from argosy.rpc.messages import ListEffectiveParameters, ShowDefaultSettings

router = resource("parameters")

_VERSION = "/datastores/{datastore}/versions/{version}/parameters"
_BY_ID = "/datastores/versions/{version_id}/parameters"
_MANAGED = "/mgmt/datastores/versions/{version_id}/parameters"
_MOST = 2**63 - 1  # clients in Go and Java have no larger whole number

_Name = Annotated[StrictStr, StringConstraints(min_length=1, max_length=128, pattern=r"^[A-Za-z][\w.-]*$")]
_Bound = Annotated[int | float, Field(ge=-(2**63), le=2**64 - 1, allow_inf_nan=False)] | None


class OverrideBody(BaseModel):
    """Trove's clients send numbers under `max_size`, its schema has `max` (contract 2.24)."""

    model_config = ConfigDict(extra="ignore")
    name: _Name
    restart_required: bool
    data_type: Type
    max_size: _Bound = None
    min_size: _Bound = None
    max: _Bound = None
    min: _Bound = None

    @model_validator(mode="after")
    def _in_order(self) -> OverrideBody:
        least, most = self.least, self.most
        if self.data_type == "integer" and (least is None or most is None):
            raise ValueError("an integer needs max_size and min_size")
        if least is not None and most is not None and most < least:
            raise ValueError(f"max_size {most} must not be below min_size {least}")
        return self

    @property
    def least(self) -> float | None:
        return self.min if self.min_size is None else self.min_size

    @property
    def most(self) -> float | None:
        return self.max if self.max_size is None else self.max_size

    def to_override(self, name: str) -> Override:
        return Override(name, self.data_type, self.restart_required, self.least, self.most)


class ParameterBody(BaseModel):
    model_config = ConfigDict(extra="ignore")
    parameter: OverrideBody = Field(alias="configuration-parameter")


@router.get(_BY_ID, response_model=shapes.Parameters, responses=faults(404))
def list_parameters_by_version(call: Asked, version_id: str) -> dict[str, Any]:
    """What may be set in a configuration group of the version; what Argosy sets itself says why."""
    call.allow("configuration-parameter:index_by_version")
    return _list(call, find_version_by_id(version_id)[1])


@router.get(_BY_ID + "/{name}", response_model=shapes.Parameter, responses=faults(404))
def show_parameter_by_version(call: Asked, version_id: str, name: str) -> dict[str, Any]:
    """One of them, bare."""
    call.allow("configuration-parameter:show_by_version")
    return _show(call, find_version_by_id(version_id)[1], name)


@router.get(_VERSION, response_model=shapes.Parameters, responses=faults(400, 404))
def list_parameters(call: Asked, datastore: str, version: str) -> dict[str, Any]:
    """What may be set in a configuration group of the version; what Argosy sets itself says why."""
    call.allow("configuration-parameter:index")
    return _list(call, find_version(datastore, version)[1])


@router.get(_VERSION + "/{name}", response_model=shapes.Parameter, responses=faults(400, 404))
def show_parameter(call: Asked, datastore: str, version: str, name: str) -> dict[str, Any]:
    """One of them, bare."""
    call.allow("configuration-parameter:show")
    return _show(call, find_version(datastore, version)[1], name)


@router.get(
    "/instances/{instance_id}/configuration",
    response_model=shapes.ShownDefaultSettings,
    responses=faults(404, 503),
)
def show_default_configuration(call: Asked, instance_id: str) -> dict[str, Any]:
    """What Argosy sets for an instance of this size; a configuration group comes on top of it."""
    call.allow("instance:configuration")
    instance = call.instance(instance_id)
    told = call.guest(instance, ShowDefaultSettings())
    return {"instance": {"configuration": told.settings}}


@router.get(
    "/instances/{instance_id}/parameters",
    response_model=shapes.EffectiveParameters,
    responses=faults(400, 404, 422, 503),
)
def list_effective_parameters(call: Asked, instance_id: str) -> dict[str, Any]:
    """Every parameter of the running server: its value, where that is from, and what waits for a restart."""
    call.allow("instance:parameters")
    instance = call.instance(instance_id)
    instance.check_answers(call.now)
    told = call.guest(instance, ListEffectiveParameters())
    return {"parameters": [one.model_dump() for one in told.parameters]}


@router.get(_MANAGED, response_model=shapes.ManagedParameters, responses=faults(401, 404))
def list_managed_parameters(call: Asked, version_id: str) -> dict[str, Any]:
    """The same list, in the words of its administration."""
    call.allow_management("mgmt:configuration_parameter:index")
    _, version = find_version_by_id(version_id)
    return {"configuration-parameters": [_managed(version, one) for one in _of(call, version)]}


@router.get(_MANAGED + "/{name}", response_model=shapes.ManagedParameter, responses=faults(401, 404))
def show_managed_parameter(call: Asked, version_id: str, name: str) -> dict[str, Any]:
    """One of them, bare."""
    call.allow_management("mgmt:configuration_parameter:show")
    _, version = find_version_by_id(version_id)
    return _managed(version, _find(_of(call, version), name))


@router.post(_MANAGED, response_model=shapes.ManagedParameter, responses=faults(400, 401, 404, 415))
def create_parameter(call: Asked, version_id: str, body: ParameterBody) -> dict[str, Any]:
    """Add one that the server did not tell of, or bring back one that was deleted."""
    call.allow_management("mgmt:configuration_parameter:create")
    _, version = find_version_by_id(version_id)
    with call.write() as tx:
        known = tx.parameters.of(version.datastore, version.name)
        name = body.parameter.name
        if any(one.name.lower() == name.lower() for one in known):
            raise Invalid(f"Parameter {name!r} is there already: change it by PUT.")
        told = {one.name.lower(): one.name for one in tx.parameters.read(version.datastore, version.name)}
        return _override(tx.parameters, version, body.parameter.to_override(told.get(name.lower(), name)))


@router.put(
    _MANAGED + "/{name}", response_model=shapes.ManagedParameter, responses=faults(400, 401, 404, 415)
)
def update_parameter(call: Asked, version_id: str, name: str, body: ParameterBody) -> dict[str, Any]:
    """Change its type, bounds, or whether it needs a restart; what the server told is kept beside."""
    call.allow_management("mgmt:configuration_parameter:update")
    _, version = find_version_by_id(version_id)
    with call.write() as tx:
        found = _find(tx.parameters.of(version.datastore, version.name), name)
        if body.parameter.name.lower() != found.name.lower():
            raise Invalid(f"Parameter {found.name!r} cannot be renamed: name must be {found.name!r}.")
        if found.owned is not None:
            raise Invalid(f"Parameter {found.name!r} is Argosy's to set: {found.owned}.")
        return _override(tx.parameters, version, body.parameter.to_override(found.name))


@router.delete(_MANAGED + "/{name}", status_code=204, responses=faults(400, 401, 404))
def delete_parameter(call: Asked, version_id: str, name: str) -> None:
    """Take it out of the list: no group can set it from now on. An unknown one is 400."""
    call.allow_management("mgmt:configuration_parameter:delete")
    _, version = find_version_by_id(version_id)
    with call.write() as tx:
        try:
            found = _find(tx.parameters.of(version.datastore, version.name), name)
        except NotFound as error:
            raise Invalid(error.sentence) from error
        tx.parameters.override(version.datastore, version.name, Override(found.name, hidden=True))


def _override(parameters: Parameters, version: Version, override: Override) -> dict[str, Any]:
    parameters.override(version.datastore, version.name, override)
    return _managed(version, _find(parameters.of(version.datastore, version.name), override.name))


def _of(call: Call, version: Version) -> list[Parameter]:
    with call.read() as tx:
        return tx.parameters.of(version.datastore, version.name)


def _find(parameters: list[Parameter], name: str) -> Parameter:
    for parameter in parameters:
        if parameter.name.lower() == name.lower():
            return parameter
    raise NotFound(f"Configuration parameter {name[:255]!r} cannot be found.")


def _list(call: Call, version: Version) -> dict[str, Any]:
    return {"configuration-parameters": [_view(version, one) for one in _of(call, version)]}


def _show(call: Call, version: Version, name: str) -> dict[str, Any]:
    return _view(version, _find(_of(call, version), name))


def _view(version: Version, parameter: Parameter) -> dict[str, Any]:
    return _told(version, parameter) | _bounds(parameter, "min", "max")


def _managed(version: Version, parameter: Parameter) -> dict[str, Any]:
    return _told(version, parameter) | _bounds(parameter, "min_size", "max_size")


def _told(version: Version, parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "datastore_version_id": version.id,
        "restart_required": parameter.restart_required,
        "type": parameter.type,
        "argosy": {
            "default": parameter.default,
            "unit": parameter.unit,
            "units": list(parameter.units),
            "allowed": list(parameter.allowed),
            "several": parameter.several,
            "description": parameter.description,
            "owned": parameter.owned,
        },
    }


def _bounds(parameter: Parameter, least: str, most: str) -> dict[str, float]:
    """Left out where there are none, or none that a client could hold."""
    bounds = {least: parameter.minimum, most: parameter.maximum}
    if parameter.type == "float":
        return {key: bound for key, bound in bounds.items() if bound is not None and abs(bound) <= _MOST}
    return {key: min(bound, _MOST) for key, bound in bounds.items() if bound is not None}
