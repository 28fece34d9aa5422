"""Cinder v3 at microversions 3.0 to 3.70: volumes that are made, grow (in use, too) and go in the background."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse, Response

from tests.support.cloud.wire import Body, Call, Caller, Refused, Service, new_id, now, page

OLDEST, NEWEST = (3, 0), (3, 70)
ONLINE_EXTEND = (3, 42)
NO_BACKEND = "schedule allocate volume:Could not find any available weighted backend."
_FAULTS = {
    400: "badRequest",
    403: "forbidden",
    404: "itemNotFound",
    406: "computeFault",
    409: "conflictingRequest",
    413: "overLimit",
    429: "overLimit",
}
_QUOTAS = {
    "volumes": 100,
    "per_volume_gigabytes": -1,
    "snapshots": 100,
    "gigabytes": 2000,
    "backups": 10,
    "backup_gigabytes": 1000,
    "groups": 10,
}
_CREATION = {
    "size",
    "name",
    "description",
    "metadata",
    "volume_type",
    "availability_zone",
    "imageRef",
    "snapshot_id",
    "source_volid",
    "multiattach",
    "consistencygroup_id",
    "scheduler_hints",
}
_DELETABLE = {"available", "error", "error_restoring", "error_extending", "error_managing"}


@dataclass
class Cinder(Service):
    path: str = "/volume"
    later: Callable[[Coroutine[Any, Any, None]], None] = lambda _: None
    pause: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
    zones: tuple[str, ...] = ("nova",)
    types: tuple[str, ...] = ("standard",)
    capacity_gb: int = 100_000
    volumes: dict[str, Body] = field(default_factory=dict)
    messages: list[Body] = field(default_factory=list)
    quotas: dict[str, dict[str, int]] = field(default_factory=dict)
    # What servers' hypervisor is told of; they may take their time.
    on_create: Callable[[str, int], None] = lambda _id, _size_gb: None
    on_extend: Callable[[str, int], None] = lambda _id, _size_gb: None
    on_delete: Callable[[str], None] = lambda _id: None

    def __post_init__(self) -> None:
        self.serve("GET /", self.versions, open_to_all=True)
        self.serve("GET /v3/", self.version)
        v3 = "/v3/{project}"
        self.serve(f"GET {v3}/volumes", self.list_volumes)
        self.serve(f"GET {v3}/volumes/detail", self.list_volumes)
        self.serve(f"POST {v3}/volumes", self.create)
        self.serve(f"GET {v3}/volumes/{{id}}", self.show)
        self.serve(f"PUT {v3}/volumes/{{id}}", self.update)
        self.serve(f"DELETE {v3}/volumes/{{id}}", self.delete)
        self.serve(f"POST {v3}/volumes/{{id}}/action", self.act)
        self.serve(f"GET {v3}/volumes/{{id}}/metadata", self.show_metadata)
        self.serve(f"POST {v3}/volumes/{{id}}/metadata", self.add_metadata)
        self.serve(f"PUT {v3}/volumes/{{id}}/metadata", self.set_metadata)
        self.serve(f"DELETE {v3}/volumes/{{id}}/metadata/{{key}}", self.remove_metadata)
        self.serve(f"GET {v3}/snapshots", self.no_snapshots)
        self.serve(f"GET {v3}/snapshots/detail", self.no_snapshots)
        self.serve(f"GET {v3}/types", self.list_types)
        self.serve(f"GET {v3}/types/{{id}}", self.show_type)
        self.serve(f"GET {v3}/os-availability-zone", self.list_zones)
        self.serve(f"GET {v3}/limits", self.show_limits)
        self.serve(f"GET {v3}/messages", self.list_messages)
        self.serve(f"GET {v3}/os-quota-sets/{{owner}}", self.show_quotas)
        self.serve(f"PUT {v3}/os-quota-sets/{{owner}}", self.set_quotas)
        self.serve(f"DELETE {v3}/os-quota-sets/{{owner}}", self.reset_quotas)

    # The wire

    def refusal(self, refused: Refused) -> Response:
        error: Body = {"code": refused.status, "message": refused.message}
        headers = dict(refused.headers)
        if refused.status == 413:
            error["retryAfter"] = "0"
            headers.setdefault("Retry-After", "0")
        return JSONResponse({_FAULTS.get(refused.status, "computeFault"): error}, refused.status, headers)

    def finish(self, call: Call, answer: Response) -> Response:
        try:
            spoken = "{}.{}".format(*self.microversion(call))
        except Refused as refused:
            return self.refusal(refused)
        answer.headers["OpenStack-API-Version"] = f"volume {spoken}"
        answer.headers["Vary"] = "OpenStack-API-Version"
        answer.headers["X-Compute-Request-Id"] = f"req-{new_id()}"
        return answer

    def microversion(self, call: Call) -> tuple[int, int]:
        words = call.request.headers.get("openstack-api-version", "volume 3.0").split()
        if words[-1] == "latest":
            return NEWEST
        major, _, minor = words[-1].partition(".")
        if not OLDEST <= (int(major), int(minor)) <= NEWEST:
            said = f"Version {words[-1]} is not supported by the API. Minimum is 3.0 and maximum is 3.70."
            raise Refused(406, said)
        return int(major), int(minor)

    def _versions(self, call: Call) -> Body:
        self_link = {"rel": "self", "href": f"{call.base}{self.path}/v3/"}
        media = {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}
        shown: Body = {"id": "v3.0", "status": "CURRENT", "version": "3.70", "min_version": "3.0"}
        described = {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"}
        shown |= {"updated": "2022-08-31T00:00:00Z", "links": [described, self_link], "media-types": [media]}
        return {"versions": [shown]}

    def versions(self, call: Call) -> Response:
        return JSONResponse(self._versions(call), 300)

    def version(self, call: Call) -> Response:
        return JSONResponse(self._versions(call))

    # Seen

    def find(self, id_: str, caller: Caller) -> Body | None:
        volume = self.volumes.get(id_)
        if volume is None or (volume["project_id"] != caller.project_id and not caller.is_admin):
            return None
        return volume

    def _own(self, call: Call) -> Body:
        volume = self.find(call.part("id"), call.caller)
        if volume is None:
            raise Refused(404, f"Volume {call.part('id')} could not be found.")
        return volume

    def _links(self, volume: Body, call: Call) -> list[Body]:
        place = f"{volume['project_id']}/volumes/{volume['id']}"
        return [
            {"rel": "self", "href": f"{call.base}{self.path}/v3/{place}"},
            {"rel": "bookmark", "href": f"{call.base}{self.path}/{place}"},
        ]

    def _shown(self, volume: Body, call: Call) -> Body:
        shown = {name: value for name, value in volume.items() if name not in {"project_id", "host"}}
        shown["links"] = self._links(volume, call)
        version = self.microversion(call)
        if version >= (3, 13):
            shown |= {"group_id": None}
        if version >= (3, 21):
            shown |= {"provider_id": None}
        if version >= (3, 48):
            shown |= {"shared_targets": False, "service_uuid": None}
        if version >= (3, 61) and call.caller.is_admin:
            shown |= {"cluster_name": None}
        if version >= (3, 63):
            shown |= {"volume_type_id": f"type-{volume['volume_type']}"}
        if version >= (3, 65):
            shown |= {"consumes_quota": True}
        shown["os-vol-tenant-attr:tenant_id"] = volume["project_id"]
        if call.caller.is_admin:
            shown |= {"os-vol-mig-status-attr:migstat": None, "os-vol-mig-status-attr:name_id": None}
            shown |= {"os-vol-host-attr:host": volume["host"]}
        return shown

    def show(self, call: Call) -> Response:
        return JSONResponse({"volume": self._shown(self._own(call), call)})

    def list_volumes(self, call: Call) -> Response:
        everyone = call.caller.is_admin and call.query("all_tenants", "0").lower() in {"1", "true"}
        found = [
            one
            for one in reversed(self.volumes.values())
            if (everyone or one["project_id"] == call.caller.project_id) and self._matches(one, call)
        ]
        marker = call.query("marker")
        if marker and all(one["id"] != marker for one in found):
            raise Refused(404, f"Volume {marker} could not be found.")
        detail = call.request.url.path.endswith("/detail")
        shown, rest = page(
            [
                self._shown(one, call)
                if detail
                else {"id": one["id"], "name": one["name"], "links": self._links(one, call)}
                for one in found
            ],
            call,
        )
        answer: Body = {"volumes": shown}
        if rest:
            answer["volumes_links"] = [{"rel": "next", "href": f"{call.base}{call.request.url.path}?{rest}"}]
        return JSONResponse(answer)

    def _matches(self, volume: Body, call: Call) -> bool:
        for name, value in call.pairs:
            if name in {
                "limit",
                "marker",
                "offset",
                "sort",
                "sort_key",
                "sort_dir",
                "all_tenants",
                "with_count",
            }:
                continue
            if name == "metadata":
                try:
                    wanted = ast.literal_eval(value)
                except (ValueError, SyntaxError):
                    raise Refused(400, f"Invalid filter {value}") from None
                if not wanted.items() <= volume["metadata"].items():
                    return False
            elif str(volume.get(name)) != value:  # what it does not know matches nothing, rather than all
                return False
        return True

    def list_messages(self, call: Call) -> Response:
        wanted = call.query("resource_uuid")
        own = [one for one in self.messages if wanted in {"", one["resource_uuid"]}]
        return JSONResponse({"messages": own})

    def list_types(self, call: Call) -> Response:
        return JSONResponse({"volume_types": [self._type(one) for one in self.types]})

    def _type(self, name: str) -> Body:
        named = {"id": f"type-{name}", "name": name, "is_public": True, "description": None}
        return {
            **named,
            "extra_specs": {"volume_backend_name": "files"},
            "qos_specs_id": None,
            "os-volume-type-access:is_public": True,
        }

    def show_type(self, call: Call) -> Response:
        name = call.part("id").removeprefix("type-")
        if name == "default":
            name = self.types[0]
        if name not in self.types:
            raise Refused(404, f"Volume type {call.part('id')} could not be found.")
        return JSONResponse({"volume_type": self._type(name)})

    def list_zones(self, call: Call) -> Response:
        zones = [{"zoneName": one, "zoneState": {"available": True}} for one in self.zones]
        return JSONResponse({"availabilityZoneInfo": zones})

    def no_snapshots(self, call: Call) -> Response:
        return JSONResponse({"snapshots": []})

    # Quotas

    def limits(self, project_id: str) -> dict[str, int]:
        return {**_QUOTAS, **self.quotas.get(project_id, {})}

    def used(self, project_id: str) -> dict[str, int]:
        own = [one for one in self.volumes.values() if one["project_id"] == project_id]
        return {"volumes": len(own), "gigabytes": sum(one["size"] for one in own)}

    def _reserve(self, project_id: str, size_gb: int, *, more_gb: int, volumes: int) -> None:
        limits, used = self.limits(project_id), self.used(project_id)
        largest = limits["per_volume_gigabytes"]
        if 0 <= largest < size_gb:
            said = f"Requested volume size {size_gb}G is larger than maximum allowed limit {largest}G."
            raise Refused(413, f"VolumeSizeExceedsLimit: {said}")
        if 0 <= limits["gigabytes"] < used["gigabytes"] + more_gb:
            said = f"Requested {more_gb}G, quota is {limits['gigabytes']}G and {used['gigabytes']}G has been consumed."
            allowed = "Requested volume or snapshot exceeds allowed gigabytes quota."
            raise Refused(413, f"VolumeSizeExceedsAvailableQuota: {allowed} {said}")
        if 0 <= limits["volumes"] < used["volumes"] + volumes:
            said = f"Maximum number of volumes allowed ({limits['volumes']}) exceeded for quota 'volumes'."
            raise Refused(413, f"VolumeLimitExceeded: {said}")

    def show_limits(self, call: Call) -> Response:
        limits, used = self.limits(call.caller.project_id), self.used(call.caller.project_id)
        absolute = {
            "maxTotalVolumes": limits["volumes"],
            "maxTotalSnapshots": limits["snapshots"],
            "maxTotalVolumeGigabytes": limits["gigabytes"],
            "maxTotalBackups": limits["backups"],
            "maxTotalBackupGigabytes": limits["backup_gigabytes"],
            "totalVolumesUsed": used["volumes"],
            "totalGigabytesUsed": used["gigabytes"],
            "totalSnapshotsUsed": 0,
            "totalBackupsUsed": 0,
            "totalBackupGigabytesUsed": 0,
        }
        return JSONResponse({"limits": {"rate": [], "absolute": absolute}})

    def show_quotas(self, call: Call) -> Response:
        owner = call.part("owner")
        limits, used = self.limits(owner), self.used(owner)
        shown: Body = dict(limits)
        if call.query("usage").lower() == "true":
            shown = {
                name: {"limit": limit, "in_use": used.get(name, 0), "reserved": 0}
                for name, limit in limits.items()
            }
        return JSONResponse({"quota_set": {"id": owner, **shown}})

    def set_quotas(self, call: Call) -> Response:
        self._admin_only(call)
        self.quotas.setdefault(call.part("owner"), {}).update(call.body["quota_set"])
        return JSONResponse({"quota_set": self.limits(call.part("owner"))})

    def reset_quotas(self, call: Call) -> Response:
        self._admin_only(call)
        self.quotas.pop(call.part("owner"), None)
        return Response(status_code=200)

    def _admin_only(self, call: Call) -> None:
        if not call.caller.is_admin:
            raise Refused(403, "Policy doesn't allow volume_extension:quotas:update to be performed.")

    # Made

    def create(self, call: Call) -> Response:
        asked: Body = call.body["volume"]
        unknown = sorted(set(asked) - _CREATION)
        if unknown:
            said = f"Additional properties are not allowed ('{unknown[0]}' was unexpected)"
            raise Refused(400, f"Invalid input for field/attribute volume. Value: {asked}. {said}")
        size_gb = int(asked.get("size") or 0)
        if size_gb < 1:
            said = f"Value: {size_gb}. {size_gb} is less than the minimum of 1"
            raise Refused(400, f"Invalid input for field/attribute size. {said}")
        kind = asked.get("volume_type") or self.types[0]
        if kind not in self.types:
            raise Refused(404, f"Volume type with name {kind} could not be found.")
        zone = asked.get("availability_zone") or self.zones[0]
        self._reserve(call.caller.project_id, size_gb, more_gb=size_gb, volumes=1)
        volume: Body = {
            "id": new_id(),
            "status": "creating",
            "size": size_gb,
            # A zone it does not know falls back to its own, as `allow_availability_zone_fallback` has it.
            "availability_zone": zone if zone in self.zones else self.zones[0],
            "created_at": now("fractions"),
            "updated_at": None,
            "name": asked.get("name"),
            "description": asked.get("description"),
            "volume_type": kind,
            "snapshot_id": None,
            "source_volid": None,
            "metadata": dict(asked.get("metadata") or {}),
            "user_id": call.caller.user_id,
            "bootable": "false",
            "encrypted": False,
            "replication_status": None,
            "consistencygroup_id": None,
            "multiattach": False,
            "attachments": [],
            "migration_status": None,
            "project_id": call.caller.project_id,
            "host": None,
        }
        self.volumes[volume["id"]] = volume
        self.later(self._make(volume))
        shown = self._shown(volume, call)
        brief = {name: value for name, value in shown.items() if not name.startswith("os-vol-")}
        return JSONResponse({"volume": brief}, 202)

    async def _make(self, volume: Body) -> None:
        await self.pause()
        if self._room_gb() < 0:
            volume["status"] = "error"
            self._tell(volume, "VOLUME_VOLUME_001_003", NO_BACKEND)
            return
        await asyncio.to_thread(self.on_create, volume["id"], volume["size"])
        volume |= {"status": "available", "host": "simulated@files#files", "updated_at": now("fractions")}

    def _room_gb(self) -> int:
        return self.capacity_gb - sum(
            int(one["size"]) for one in self.volumes.values() if one["status"] != "error"
        )

    def _tell(self, volume: Body, event_id: str, message: str) -> None:
        self.messages.append(
            {
                "id": new_id(),
                "event_id": event_id,
                "user_message": message,
                "message_level": "ERROR",
                "created_at": now("fractions"),
                "guaranteed_until": now("fractions"),
                "request_id": f"req-{new_id()}",
                "links": [],
                "resource_type": "VOLUME",
                "resource_uuid": volume["id"],
            }
        )

    def update(self, call: Call) -> Response:
        volume = self._own(call)
        asked = call.body["volume"]
        volume.update({name: asked[name] for name in ("name", "description", "metadata") if name in asked})
        return JSONResponse({"volume": self._shown(volume, call)})

    # Metadata

    def show_metadata(self, call: Call) -> Response:
        return JSONResponse({"metadata": self._own(call)["metadata"]})

    def add_metadata(self, call: Call) -> Response:
        volume = self._own(call)
        volume["metadata"].update(call.body["metadata"])
        return self.show_metadata(call)

    def set_metadata(self, call: Call) -> Response:
        self._own(call)["metadata"] = dict(call.body["metadata"])
        return self.show_metadata(call)

    def remove_metadata(self, call: Call) -> Response:
        if self._own(call)["metadata"].pop(call.part("key"), None) is None:
            raise Refused(404, f"Volume {call.part('id')} has no metadata with key {call.part('key')}.")
        return Response(status_code=200)

    # Grown, gone

    def act(self, call: Call) -> Response:
        volume = self._own(call)
        name = next(iter(call.body), "")
        if name == "os-extend":
            return self._extend(volume, int(call.body[name]["new_size"]), call)
        if name == "os-reset_status":
            self._admin_only(call)
            volume["status"] = call.body[name]["status"]
            return Response(status_code=202)
        if name == "os-force_delete":
            self._admin_only(call)
            self.later(self._remove(volume))
            return Response(status_code=202)
        raise Refused(400, f"There is no such action: {name}")

    def _extend(self, volume: Body, size_gb: int, call: Call) -> Response:
        online = self.microversion(call) >= ONLINE_EXTEND and volume["status"] == "in-use"
        if size_gb <= volume["size"]:
            said = f"New size for extend must be greater than current size. (current: {volume['size']}, extended: {size_gb})."
            raise Refused(400, f"Invalid input received: {said}")
        if volume["status"] != "available" and not online:
            said = f"status must be '{{'status': 'available'}}' to extend, currently {volume['status']}."
            raise Refused(400, f"Invalid volume: Volume {volume['id']} {said}")
        self._reserve(volume["project_id"], size_gb, more_gb=size_gb - volume["size"], volumes=0)
        before, volume["status"] = volume["status"], "extending"
        self.later(self._grow(volume, size_gb, before))
        return Response(status_code=202, media_type="application/json")

    async def _grow(self, volume: Body, size_gb: int, before: str) -> None:
        await self.pause()
        if self._room_gb() < size_gb - volume["size"]:
            # The scheduler finds no room and puts the volume back as it was.
            volume["status"] = before
            self._tell(volume, "VOLUME_VOLUME_001_003", NO_BACKEND)
            return
        await asyncio.to_thread(self.on_extend, volume["id"], size_gb)
        volume |= {"size": size_gb, "status": before, "updated_at": now("fractions")}

    def delete(self, call: Call) -> Response:
        volume = self._own(call)
        if volume["status"] not in _DELETABLE or volume["attachments"]:
            raise Refused(
                400,
                "Invalid volume: Volume status must be available or error or error_restoring or error_extending or "
                "error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a "
                "transfer, or be disassociated from snapshots after volume transfer.",
            )
        volume["status"] = "deleting"
        self.later(self._remove(volume))
        return Response(status_code=202)

    async def _remove(self, volume: Body) -> None:
        await self.pause()
        await asyncio.to_thread(self.on_delete, volume["id"])
        self.volumes.pop(volume["id"], None)

    # What Nova asks

    def reserve(self, id_: str) -> None:
        self.volumes[id_]["status"] = "reserved"

    def attach(self, id_: str, server_id: str, host: str, device: str) -> None:
        volume = self.volumes.get(id_)
        if volume is None:
            return
        attachment = {"id": id_, "attachment_id": new_id(), "volume_id": id_, "server_id": server_id}
        attachment |= {"host_name": host, "device": device, "attached_at": now("fractions")}
        volume |= {"status": "in-use", "attachments": [attachment], "updated_at": now("fractions")}

    def release(self, id_: str) -> None:
        volume = self.volumes.get(id_)
        if volume is not None:
            volume |= {"status": "available", "attachments": [], "updated_at": now("fractions")}

    def discard(self, id_: str) -> None:
        volume = self.volumes.get(id_)
        if volume is not None:
            volume["status"] = "deleting"
            self.later(self._remove(volume))
