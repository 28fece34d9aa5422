"""Servers in Nova, each with the ports, the volume and the server group of its instance.

Nova's states are what is looked at, never what we remember: whichever process asks, and whenever, it goes on from there.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from openstack.connection import Connection
from openstack.exceptions import BadRequestException, ConflictException

from argosy.domain.datastore import Version
from argosy.domain.errors import ArgosyError, ImageUnavailable, PlatformError, Unavailable
from argosy.domain.instance import Flavor
from argosy.platforms.base import Addresses, Placement, Server, ServerRequest, Software
from argosy.platforms.openstack.cloud import TRIES, Cloud, Remembered, Service, sole
from argosy.platforms.openstack.flavors import Flavors
from argosy.platforms.openstack.groups import ServerGroups
from argosy.platforms.openstack.images import OpenStackImages
from argosy.platforms.openstack.names import Names
from argosy.platforms.openstack.networks import Networks
from argosy.platforms.openstack.volumes import OpenStackVolumes

# Nova takes no more, as base64 (nova/api/openstack/compute/schemas/servers.py).
_USER_DATA_MAX = 65535
_GONE_S = 120.0
_CONFIRMED_S = 60.0
_STARTED_S = 60.0
_LISTED_S = 20.0
# The action that a resize which was given back had failed with: it is not told again.
_GIVEN_UP = "argosy-given-up"
# Says of a server that it was shut off with the whole installation, and is started again with it.
_PAUSED = "argosy-paused"
# What we ask of a server, by the names Nova writes it down under (nova/compute/instance_actions.py).
_ASKED = {"create", "reboot", "rebuild", "resize", "confirmResize", "revertResize", "start"}
# In what Nova refuses, of ports, groups and volumes that another process is at (nova/exception.py, Cinder's InvalidVolume).
_PASSING = ("could not be found", "status must be available")
_RUNNING = {"ACTIVE", "REBOOT", "HARD_REBOOT", "PASSWORD", "VERIFY_RESIZE"}

_log = logging.getLogger(__name__)


class OpenStackServers:
    """Methods may be called from any thread, and from several processes."""

    def __init__(
        self,
        cloud: Cloud,
        names: Names,
        networks: Networks,
        volumes: OpenStackVolumes,
        images: OpenStackImages,
        flavors: Flavors,
        groups: ServerGroups,
        *,
        availability_zone: str | None = None,
        keypair: str | None = None,
    ) -> None:
        self._cloud = cloud
        self._names = names
        self._networks = networks
        self._volumes = volumes
        self._images = images
        self._flavors = flavors
        self._groups = groups
        self._availability_zone = availability_zone
        self._keypair = keypair
        # Whoever heals does other things besides, and asks again soon.
        self._listed = Remembered(lambda: self.all(tries=1), _LISTED_S)
        # Servers that a person stopped, with the moment of it.
        self._left_off: dict[str, str] = {}

    def reserve(self, placement: Placement) -> Addresses:
        return self._networks.reserve(placement)[1]

    def allow(self, placement: Placement) -> Addresses:
        return self.reserve(placement)

    def create(self, request: ServerRequest) -> Server:
        """Boot a server with its volume and its ports; one that is there is left alone, even in ERROR: see `settled`."""
        instance_id = request.instance_id
        placement = request.placement or Placement(instance_id, request.port)
        with self._cloud.held(instance_id):
            ports, addresses = self._networks.reserve(placement)
            server = self.find_server(instance_id)
            if server is None:
                self._volumes.create(instance_id, request.volume_gb)
                wanted = self._wanted(request, placement, ports.in_order)
                with self._groups.being_filled:
                    server = self._cloud.ask(
                        Service.NOVA, lambda cloud: self._make(cloud, instance_id, wanted, placement.spread)
                    )
            self._listed.forget()
        return Server(instance_id, addresses.agent, running=server.status in _RUNNING)

    def replace(self, request: ServerRequest) -> Server:
        raise PlatformError(
            f"Instance {request.instance_id} is a machine, which asks the conductor what it is: nobody can tell it so."
        )

    def settled(self, instance_id: str) -> bool:
        server = self._there(instance_id)
        if server.status == "ERROR" and server.task_state is None:
            raise PlatformError(f"Nova gave up the server of instance {instance_id}: {self.fault(server.id)}")
        if server.task_state is not None or server.status in {"BUILD", "RESIZE", "REVERT_RESIZE", "REBUILD"}:
            return False
        failed = self._cloud.ask(Service.NOVA, lambda cloud: _failed_action(cloud, server))
        if failed is not None:
            why = self._cloud.ask(Service.NOVA, lambda cloud: _why(cloud, server, failed))
            raise PlatformError(
                f"Nova did not {_in_words(failed.action)} the server of instance {instance_id}: {why}"
            )
        return True

    def reboot(self, instance_id: str) -> None:
        self._act(
            instance_id,
            lambda cloud, server: cloud.compute.reboot_server(server.id, "HARD"),
            lambda server: server.status in {"REBOOT", "HARD_REBOOT"},
        )

    def rebuild(self, request: ServerRequest) -> None:
        """One that is gone is booted anew: its volume and its addresses are still there."""
        instance_id = request.instance_id
        image = self._images.image([request.version, *request.also])
        user_data = _encoded(request.user_data)
        if self.find_server(instance_id) is None:
            # Raises where there is none: a blank one in its place would pass for the data.
            self._volumes.serial(instance_id)
            self.create(request)
            return
        self._networks.reserve(request.placement or Placement(instance_id, request.port))
        self._wake(instance_id)
        self._act(
            instance_id,
            lambda cloud, server: cloud.compute.rebuild_server(
                server.id, image=image.id, user_data=user_data
            ),
            lambda server: server.status == "REBUILD",
        )

    def resize(self, instance_id: str, flavor: Flavor) -> None:
        wanted = self._flavors.id_of(flavor)
        with self._cloud.held(instance_id):
            server = self._there(instance_id)
            if server.status == "VERIFY_RESIZE" and not self._has(server, flavor):
                # An earlier one that nobody kept or took back: this one begins where that one ended.
                self.confirm(instance_id)
                server = self._there(instance_id)
            if self._has(server, flavor) or server.status == "RESIZE":
                return
            self._wake(instance_id)
            self._act(
                instance_id,
                lambda cloud, one: cloud.compute.resize_server(one.id, wanted),
                lambda one: one.status in {"RESIZE", "VERIFY_RESIZE"},
            )

    def confirm(self, instance_id: str) -> None:
        """Returns when it is done: while Nova is at it, a server looks as if it were still to be asked."""
        with self._cloud.held(instance_id):
            server = self._there(instance_id)
            if server.status == "RESIZE":
                raise Unavailable(f"The server of instance {instance_id} is not in its new size yet.")
            if server.status != "VERIFY_RESIZE":
                return
            self._act(instance_id, _confirm, lambda one: one.status != "VERIFY_RESIZE")
            self._cloud.wait_until(
                lambda: self._there(instance_id).status != "VERIFY_RESIZE",
                at_most_s=_CONFIRMED_S,
                otherwise=f"The server of instance {instance_id} has not been told to keep its size yet.",
            )

    def revert(self, instance_id: str) -> None:
        with self._cloud.held(instance_id):
            server = self._there(instance_id)
            if server.status == "RESIZE":
                raise Unavailable(
                    f"The server of instance {instance_id} is still on its way to another size."
                )
            if server.status == "VERIFY_RESIZE":
                self._act(
                    instance_id,
                    lambda cloud, one: cloud.compute.revert_server_resize(one.id),
                    lambda one: one.status != "VERIFY_RESIZE",
                )
                return
            # Nova has given it up by itself, or never began: that was told, and is no news to whom asks whether it settled.
            self._cloud.ask(Service.NOVA, lambda cloud: _acknowledge(cloud, server))

    def limit(self, instance_id: str) -> None:
        """Nova does, by the flavor."""

    def holds(self, instance_id: str, version: Version) -> bool:
        return self._held(instance_id, version) is not None

    def offer(self, instance_id: str, version: Version) -> Software:
        held = self._held(instance_id, version)
        if held is None:
            raise ImageUnavailable(
                f"The image that the server of instance {instance_id} was booted from does not hold {version.datastore} "
                f"{version.name}: rebuild it from one that does."
            )
        return held

    def find(self, instance_id: str) -> Server | None:
        server = self.find_server(instance_id)
        if server is None:
            return None
        return Server(
            instance_id, self._networks.address(instance_id) or "", running=server.status in _RUNNING
        )

    def limits(self, instance_id: str) -> dict[str, str]:
        server = self.find_server(instance_id)
        volume = next(iter(self._volumes.find(instance_id)), None)
        held = {"volume": "there is no volume" if volume is None else f"Cinder volume, {volume.size} GB"}
        if server is not None:
            flavor = server.flavor
            held["memory"] = f"Nova flavor {flavor.original_name}, {flavor.ram} MB"
            held["cpu"] = f"Nova flavor {flavor.original_name}, {flavor.vcpus} vCPU"
        return held

    def delete(self, instance_id: str) -> None:
        with self._cloud.held(instance_id):
            if self._cloud.ask(Service.NOVA, lambda cloud: self._delete(cloud, instance_id)):
                self._cloud.wait_until(
                    lambda: (
                        not self._cloud.ask(Service.NOVA, lambda cloud: self._find_all(cloud, instance_id))
                    ),
                    at_most_s=_GONE_S,
                    otherwise=f"The server of instance {instance_id} is not gone yet: Nova is still at it.",
                )
            self._listed.forget()
            self._networks.delete(instance_id)
        self._groups.remove_empty()

    def heal(self, instance_ids: Sequence[str]) -> list[str]:
        """Start those that are shut off though nobody stopped them: as when the host came up again, or a guest shut down.

        One that a person stopped in the cloud stays so: `reboot` starts it. Asked often, it looks at the cloud seldom.
        """
        wanted = set(instance_ids)
        healed, failed = [], []
        for instance_id, server in self._listed.get():
            if instance_id not in wanted or server.status != "SHUTOFF" or server.task_state is not None:
                continue
            # It is looked into once for each time that it went down.
            if self._left_off.get(server.id) == server.updated_at:
                continue
            try:
                if self._cloud.ask(Service.NOVA, partial(_start, server=server)):
                    healed.append(instance_id)
                    self._listed.forget()
                else:
                    self._left_off[server.id] = server.updated_at
            except ArgosyError as error:
                _log.warning("the server of instance %s cannot be started again: %s", instance_id, error)
                failed.append(f"{instance_id}: {error}")
        if failed:
            raise PlatformError(f"These instances cannot be started again. {' '.join(failed)}")
        return healed

    def leftovers(self, instance_ids: Sequence[str]) -> list[str]:
        found = {instance_id for instance_id, _ in self.all()} | {one for one, _ in self._volumes.all()}
        return sorted((found | self._networks.instance_ids()) - set(instance_ids))

    def all(self, *, tries: int = TRIES) -> list[tuple[str, Any]]:
        """Those of this installation, with whose each is."""
        return self._cloud.ask(
            Service.NOVA,
            lambda cloud: [
                (instance_id, one)
                for one in cloud.compute.servers(details=True, tags=self._names.tag)
                if (instance_id := self._names.instance(tags=one.tags, metadata=one.metadata)) is not None
            ],
            tries=tries,
        )

    def holder(self, server_id: str) -> Any:
        """By its id, whoever's it is; None when there is none."""
        return self._cloud.ask(Service.NOVA, lambda cloud: cloud.compute.find_server(server_id))

    def mark(self, server: Any, instance_id: str) -> None:
        """Give a server what it is found by."""

        def mark(cloud: Connection) -> None:
            cloud.compute.set_server_metadata(server.id, **self._names.metadata(instance_id))
            for tag in self._names.tags(instance_id):
                cloud.compute.add_tag_to_server(server.id, tag)

        self._cloud.ask(Service.NOVA, mark)
        self._listed.forget()

    def fault(self, server_id: str) -> str:
        """Why Nova gave a server up, in its own words.

        Lists do not tell: of one that found no host they never do, as it is in a database apart (cell0).
        """
        server = self._cloud.ask(Service.NOVA, lambda cloud: cloud.compute.get_server(server_id))
        return str((server.fault or {}).get("message") or "it does not say why.")

    def find_server(self, instance_id: str) -> Any:
        """None when there is none, or its end is under way."""
        return self._cloud.ask(Service.NOVA, lambda cloud: self._find(cloud, instance_id))

    def _find_all(self, cloud: Connection, instance_id: str) -> list[Any]:
        return [
            one
            for one in cloud.compute.servers(
                details=True, tags=f"{self._names.tag},{self._names.tag_of(instance_id)}"
            )
            if one.status != "DELETED"
        ]

    def _find(self, cloud: Connection, instance_id: str) -> Any:
        there = [one for one in self._find_all(cloud, instance_id) if not _is_ending(one)]
        return sole(there, cloud.compute.delete_server, keep=lambda one: bool(one.attached_volumes))

    def _there(self, instance_id: str) -> Any:
        server = self.find_server(instance_id)
        if server is None:
            raise PlatformError(f"Instance {instance_id} has no server in cloud {self._cloud.name}.")
        return server

    def _wanted(self, request: ServerRequest, placement: Placement, ports: list[str]) -> dict[str, Any]:
        image = self._images.image([request.version, *request.also])
        zone = placement.availability_zone or self._availability_zone
        return {
            "name": self._names.server(request.instance_id),
            "flavor_id": self._flavors.id_of(request.flavor),
            "image_id": image.id,
            "networks": [{"port": port} for port in ports],
            "config_drive": True,
            "user_data": _encoded(request.user_data),
            "block_device_mapping": [
                {
                    "boot_index": 0,
                    "uuid": image.id,
                    "source_type": "image",
                    "destination_type": "local",
                    "delete_on_termination": True,
                },
                {
                    "boot_index": -1,
                    "uuid": self._volumes.serial(request.instance_id),
                    "source_type": "volume",
                    "destination_type": "volume",
                    "delete_on_termination": False,
                },
            ],
            "metadata": self._names.metadata(request.instance_id),
            "tags": self._names.tags(request.instance_id),
            **({"availability_zone": zone} if zone else {}),
            **({"key_name": self._keypair} if self._keypair else {}),
        }

    def _make(self, cloud: Connection, instance_id: str, wanted: dict[str, Any], spread: str | None) -> Any:
        server = self._find(cloud, instance_id)
        if server is not None:
            return server
        if self._find_all(cloud, instance_id):
            raise Unavailable(f"The former server of instance {instance_id} is still being removed.")
        hints = {} if spread is None else {"scheduler_hints": {"group": self._groups.ensure(cloud, spread)}}
        try:
            cloud.compute.create_server(**wanted, **hints)
        except (BadRequestException, ConflictException) as error:
            # Its ports and its volume go to one server only: another process may just have made that.
            server = self._find(cloud, instance_id)
            if server is None and any(words in str(error.details) for words in _PASSING):
                # Or taken away one of two ports, or be making a second volume: what stays of both is found when this is
                # asked again.
                raise Unavailable(
                    f"What instance {instance_id} has changed meanwhile: {error.details}"
                ) from error
            if server is None:
                raise
            return server
        return self._find(cloud, instance_id)

    def _act(
        self,
        instance_id: str,
        act: Callable[[Connection, Any], object],
        has_been_asked: Callable[[Any], bool],
    ) -> None:
        """Ask something of the server, unless it is at it already: an answer may have been lost."""

        def ask(cloud: Connection) -> None:
            server = self._find(cloud, instance_id)
            if server is None:
                raise PlatformError(f"Instance {instance_id} has no server in cloud {self._cloud.name}.")
            if has_been_asked(server):
                return
            if server.task_state is not None:
                raise Unavailable(
                    f"The server of instance {instance_id} is busy in Nova ({server.task_state})."
                )
            act(cloud, server)

        with self._cloud.held(instance_id):
            self._cloud.ask(Service.NOVA, ask)
            self._listed.forget()

    def stop(self, instance_id: str) -> None:
        """Shut it off until `heal` starts it again; returns before it is."""

        def ask(cloud: Connection) -> None:
            server = self._find(cloud, instance_id)
            if server is not None and server.status == "ACTIVE" and server.task_state is None:
                cloud.compute.set_server_metadata(server.id, **{_PAUSED: "yes"})
                cloud.compute.stop_server(server.id)

        self._cloud.ask(Service.NOVA, ask)
        self._listed.forget()

    def _wake(self, instance_id: str) -> None:
        """One that is shut off would be shut off again after it was resized or made anew."""
        if self._there(instance_id).status == "SHUTOFF":
            self._act(
                instance_id,
                lambda cloud, server: cloud.compute.start_server(server.id),
                lambda server: server.status != "SHUTOFF",
            )
            self._cloud.wait_until(
                lambda: self._there(instance_id).status != "SHUTOFF",
                at_most_s=_STARTED_S,
                otherwise=f"The server of instance {instance_id} was shut off, and does not start.",
            )

    def _has(self, server: Any, flavor: Flavor) -> bool:
        return bool(server.flavor.original_name == flavor.name)

    def _held(self, instance_id: str, version: Version) -> Software | None:
        server = self._there(instance_id)
        return self._images.held(server.image.id if server.image else None, version)

    def _delete(self, cloud: Connection, instance_id: str) -> bool:
        """Whether there is anything to wait for."""
        found = self._find_all(cloud, instance_id)
        for server in found:
            if server.status == "SOFT_DELETED":
                # Where Nova keeps them for a while: their ports and the volume would be kept as long.
                cloud.compute.delete_server(server, force=True)
            elif server.task_state != "deleting":
                cloud.compute.delete_server(server)
        return bool(found)


def _is_ending(server: Any) -> bool:
    return server.task_state in {"deleting", "soft-deleting"} or server.status in {"DELETED", "SOFT_DELETED"}


def _encoded(user_data: str) -> str:
    encoded = base64.b64encode(user_data.encode()).decode()
    if len(encoded) > _USER_DATA_MAX:
        raise PlatformError(
            f"What the server is told at boot has {len(encoded)} bytes, and Nova takes {_USER_DATA_MAX} at most."
        )
    return encoded


def _failed_action(cloud: Connection, server: Any) -> Any:
    """The last thing that was asked of a server, when it failed and Nova left the server as it was; None otherwise."""
    last = next(iter(cloud.compute.server_actions(server.id)), None)
    if last is None or last.action not in _ASKED or last.message is None:
        return None
    if server.metadata.get(_GIVEN_UP) == last.request_id:
        return None
    return last


def _confirm(cloud: Connection, server: Any) -> None:
    try:
        cloud.compute.confirm_server_resize(server.id)
    except BadRequestException:
        return  # it is being confirmed: Nova shows that only when it is done


def _acknowledge(cloud: Connection, server: Any) -> None:
    failed = _failed_action(cloud, server)
    if failed is not None:
        cloud.compute.set_server_metadata(server.id, **{_GIVEN_UP: failed.request_id})


def _why(cloud: Connection, server: Any, action: Any) -> str:
    """Details are told to administrators in many clouds; that there was an error, and in which request, to everybody."""
    for event in cloud.compute.get_server_action(action.request_id, server.id).events or []:
        if event.get("result") == "Error" and event.get("details"):
            return str(event["details"])
    return f"it says no more than that; an operator finds it in Nova's log by request {action.request_id}."


def _in_words(action: str) -> str:
    return {"confirmResize": "keep the new size of", "revertResize": "give the former size to"}.get(
        action, action
    )


def _start(cloud: Connection, server: Any) -> bool:
    """Unless a person stopped it alone. What Nova stops by itself, for having found it down, is nobody's."""
    last = next(
        (one for one in cloud.compute.server_actions(server.id) if one.action in {"stop", "start", "shelve"}),
        None,
    )
    paused = _PAUSED in server.metadata
    if last is not None and last.action != "start" and last.user_id and not paused:
        return False
    try:
        cloud.compute.start_server(server.id)
    except ConflictException:
        return False  # it is being started, or something else, by somebody else
    if paused:
        cloud.compute.delete_server_metadata(server.id, [_PAUSED])
    return True
