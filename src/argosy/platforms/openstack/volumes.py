"""Volumes in Cinder, one for each instance. Servers are booted with theirs, which outlives them."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from openstack.connection import Connection

from argosy.domain.errors import OutOfSpace, PlatformError, Unavailable
from argosy.platforms.openstack.cloud import Cloud, Service, foremost
from argosy.platforms.openstack.names import Names

MADE_S = 120.0
_GROWN_S = 180.0
_DETACHED_S = 60.0
_GONE_S = 120.0
_MADE_TWICE_WITHIN = timedelta(minutes=10)
# States of a volume that something is being done to; cinder/objects/fields.py.
_UNDER_WAY = {
    "creating",
    "attaching",
    "detaching",
    "extending",
    "reserved",
    "maintenance",
    "deleting",
    "downloading",
    "retyping",
}

_log = logging.getLogger(__name__)


class OpenStackVolumes:
    """Methods may be called from any thread, and from several processes."""

    def __init__(self, cloud: Cloud, names: Names, *, volume_type: str | None = None) -> None:
        self._cloud = cloud
        self._names = names
        self._type = volume_type

    def create(self, instance_id: str, size_gb: int) -> None:
        """Make a volume, and wait until a server can be booted with it."""
        with self._cloud.held(instance_id):
            self._cloud.ask(Service.CINDER, lambda cloud: self._make(cloud, instance_id, size_gb))
            self._wait(
                instance_id,
                lambda one: one.status in {"available", "in-use"} and self._is_sole(instance_id),
                MADE_S,
                "made",
            )

    def attach(self, instance_id: str) -> None:
        """A server that is there without its volume gets it; one that is to come is booted with it."""
        with self._cloud.held(instance_id):
            volume = self._there(instance_id)
            if volume.attachments:
                return
            server_id = self._cloud.ask(
                Service.NOVA, lambda cloud: self._attach(cloud, instance_id, volume.id)
            )
            if server_id is not None:
                self._wait(instance_id, lambda one: one.status == "in-use", MADE_S, "attached")

    def grow(self, instance_id: str, size_gb: int) -> None:
        with self._cloud.held(instance_id):
            volume = self._there(instance_id)
            if volume.size < size_gb and volume.status in {"in-use", "available"}:
                self._cloud.ask(Service.CINDER, lambda cloud: self._extend(cloud, instance_id, size_gb))
            self._wait(
                instance_id,
                lambda one: one.size >= size_gb and one.status in {"in-use", "available"},
                _GROWN_S,
                f"grown to {size_gb} GB",
            )

    def delete(self, instance_id: str) -> None:
        with self._cloud.held(instance_id):
            volumes = self.find(instance_id)
            if any(one.attachments for one in volumes):
                self._cloud.ask(Service.NOVA, lambda cloud: self._detach(cloud, instance_id))
                self._cloud.wait_until(
                    lambda: not any(one.attachments for one in self.find(instance_id)),
                    at_most_s=_DETACHED_S,
                    otherwise=f"The volume of instance {instance_id} is not detached yet.",
                )
            self._cloud.ask(Service.CINDER, lambda cloud: self._delete(cloud, instance_id))
            self._cloud.wait_until(
                lambda: not self.find(instance_id),
                at_most_s=_GONE_S,
                otherwise=f"The volume of instance {instance_id} is not gone yet.",
            )

    def serial(self, instance_id: str) -> str:
        """Its id, of which virtio shows the first 20 characters as the disk's serial number."""
        return str(self._there(instance_id).id)

    def find(self, instance_id: str) -> list[Any]:
        return self._cloud.ask(Service.CINDER, lambda cloud: self._find(cloud, instance_id))

    def all(self) -> list[tuple[str, Any]]:
        """Those of this installation, with whose each is."""
        return self._cloud.ask(
            Service.CINDER,
            lambda cloud: [
                (instance_id, one)
                for one in cloud.block_storage.volumes(details=True)
                if (instance_id := self._names.instance(metadata=one.metadata)) is not None
            ],
        )

    def _find(self, cloud: Connection, instance_id: str) -> list[Any]:
        return [
            one
            for one in cloud.block_storage.volumes(details=True, name=self._names.volume(instance_id))
            if self._names.instance(metadata=one.metadata) == instance_id
        ]

    def _there(self, instance_id: str) -> Any:
        volume = foremost(self.find(instance_id), keep=_is_used)
        if volume is None:
            raise PlatformError(f"Instance {instance_id} has no volume in cloud {self._cloud.name}.")
        return volume

    def _make(self, cloud: Connection, instance_id: str, size_gb: int) -> None:
        found = [one for one in self._find(cloud, instance_id) if one.status != "deleting"]
        if any(one.status != "error" for one in found):
            return
        for failed in found:
            # Nothing was ever in it: one that has held data is never in this state.
            cloud.block_storage.delete_volume(failed)
        cloud.block_storage.create_volume(
            size=size_gb,
            name=self._names.volume(instance_id),
            description=self._names.description(instance_id),
            metadata=self._names.metadata(instance_id),
            **({"volume_type": self._type} if self._type else {}),
        )

    def _is_sole(self, instance_id: str) -> bool:
        """Remove what two who asked at once have made twice; False while Cinder is at one that is to go."""
        return self._cloud.ask(Service.CINDER, lambda cloud: self._remove_twins(cloud, instance_id))

    def _remove_twins(self, cloud: Connection, instance_id: str) -> bool:
        found = [one for one in self._find(cloud, instance_id) if one.status not in {"error", "deleting"}]
        kept = foremost(found, keep=_is_used)
        twins = [one for one in found if one.id != kept.id and _is_from_just_now(one)]
        for twin in twins:
            if twin.status == "available":
                _log.warning("Volume %s is there twice: %s is removed", kept.id, twin.id)
                cloud.block_storage.delete_volume(twin)
        return not any(twin.status in _UNDER_WAY for twin in twins)

    def _wait(self, instance_id: str, done: Any, at_most_s: float, what: str) -> None:
        def settled() -> bool:
            volume = self._there(instance_id)
            if volume.status.startswith("error"):
                raise self._failed(instance_id, volume, what)
            return bool(done(volume))

        self._cloud.wait_until(
            settled,
            at_most_s=at_most_s,
            otherwise=f"The volume of instance {instance_id} is not {what} yet: Cinder is still at it.",
        )

    def _failed(self, instance_id: str, volume: Any, what: str) -> PlatformError | OutOfSpace:
        """In Cinder's own words, where it leaves a message of what its scheduler or driver said."""
        try:
            said = [
                one["user_message"]
                for one in self._cloud.ask(Service.CINDER, lambda cloud: _messages(cloud, volume.id))
            ]
        except (PlatformError, Unavailable):
            said = []
        reason = said[0] if said else f"Cinder left it in state {volume.status} and does not say why"
        words = f"The volume of instance {instance_id} cannot be {what}: {reason}"
        no_room = (
            "Could not find any available weighted backend" in reason
            or "No storage could be allocated" in reason
        )
        return OutOfSpace(words) if no_room else PlatformError(words)

    def _attach(self, cloud: Connection, instance_id: str, volume_id: str) -> str | None:
        server = next(iter(cloud.compute.servers(details=True, tags=self._names.tag_of(instance_id))), None)
        if server is None:
            return None
        if volume_id not in {one["id"] for one in server.attached_volumes}:
            cloud.compute.create_volume_attachment(server.id, volume_id=volume_id)
        return str(server.id)

    def _extend(self, cloud: Connection, instance_id: str, size_gb: int) -> None:
        volume = foremost(self._find(cloud, instance_id), keep=_is_used)
        if volume is not None and volume.size < size_gb and volume.status in {"in-use", "available"}:
            cloud.block_storage.extend_volume(volume, size_gb)

    def _detach(self, cloud: Connection, instance_id: str) -> None:
        for volume in self._find(cloud, instance_id):
            for attachment in volume.attachments:
                if volume.status == "in-use":
                    cloud.compute.delete_volume_attachment(
                        attachment["server_id"], volume.id, ignore_missing=True
                    )

    def _delete(self, cloud: Connection, instance_id: str) -> None:
        for volume in self._find(cloud, instance_id):
            if volume.status in _UNDER_WAY - {"deleting"}:
                raise Unavailable(
                    f"The volume of instance {instance_id} is {volume.status}: it is removed after that."
                )
            if volume.status != "deleting":
                cloud.block_storage.delete_volume(volume)


def _is_used(volume: Any) -> bool:
    return bool(volume.attachments)


def _is_from_just_now(volume: Any) -> bool:
    """Others were made twice by nobody: one may be a copy that an operator has restored."""
    made = datetime.fromisoformat(volume.created_at).replace(tzinfo=UTC)
    return datetime.now(UTC) - made <= _MADE_TWICE_WITHIN


def _messages(cloud: Connection, volume_id: str) -> list[dict[str, Any]]:
    answer = cloud.block_storage.get(f"/messages?resource_uuid={volume_id}&sort=created_at:desc&limit=1")
    return list(answer.json().get("messages", [])) if answer.ok else []
