"""An instance: one database server we look after, as the control plane knows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from argosy.domain.errors import InstanceBusy, InstanceProtected, Invalid
from argosy.domain.operations import ApplyConfiguration, CreateBackup
from argosy.domain.status import GONE, SILENT_AFTER, Report, Service, Shown, shown

NAME_MAX = 255
TAGS_MAX, TAG_KEY_MAX, TAG_VALUE_MAX = 50, 128, 255
_TAG_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")


@dataclass(frozen=True)
class Flavor:
    """A size of server: memory in MiB, processors."""

    id: str
    name: str
    memory_mb: int
    vcpus: int


@dataclass(frozen=True)
class Fault:
    """Why the last failed operation failed; `details` are for administrators."""

    message: str
    created_at: datetime
    details: str | None = None


@dataclass(frozen=True)
class Instance:
    """A row of the metadata database with what its status is derived from.

    `operation_kind` is of the operation that holds the instance now, None when it is free; `broken` says that
    an operation failed which the instance cannot be used after. `platform` holds what the platform told of
    it, such as its address and which limits it enforces; sizes are in Trove's GB, which are GiB. When root was
    last enabled and by whom stays known after it is disabled.

    `configuration_id` names the configuration group it follows, of which `configuration_revision` was last
    applied; `configuration_error` says why a newer one could not be, `configuration_refused` which the server would
    not take, `configuration_newest` which is the newest there is. `protected` keeps it from being deleted.
    With `autogrow_limit_gb` its volume grows by itself, up to that size. `placement` is where its owner asked for it to
    be: `network`, `availability_zone` and `spread`, as in platforms.base.Placement. `address` is where the control plane
    calls its guest, `shown_addresses` where clients come.
    """

    id: str
    project_id: str
    name: str
    datastore: str
    version: str
    flavor_id: str
    volume_gb: int
    created_at: datetime
    updated_at: datetime
    access: dict[str, Any] = field(default_factory=dict)
    address: str | None = None
    platform: dict[str, Any] = field(default_factory=dict)
    operation_id: str | None = None
    operation_kind: str | None = None
    broken: bool = False
    fault: Fault | None = None
    report: Report | None = None
    root_enabled: bool = False
    root_enabled_at: datetime | None = None
    root_enabled_by: str | None = None
    deleted_at: datetime | None = None
    configuration_id: str | None = None
    configuration_revision: int | None = None
    configuration_error: str | None = None
    configuration_refused: int | None = None
    configuration_name: str | None = None
    configuration_newest: int | None = None
    protected: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    autogrow_limit_gb: int | None = None
    require_tls: bool = False
    placement: dict[str, Any] = field(default_factory=dict)

    @property
    def shown_addresses(self) -> list[dict[str, str]]:
        """Where clients come: of each its `address`, its `type` (private or public) and its `network` by name."""
        told = self.platform.get("addresses")
        if told or self.address is None:
            return list(told or [])
        return [{"address": self.address, "type": "private", "network": self.platform.get("name", "local")}]

    def shown(self, now: datetime) -> Shown:
        if self.deleted_at is not None:
            return GONE
        return shown(self.operation_kind, self.report, now, broken=self.broken)

    def check_can_restart(self, now: datetime) -> None:
        """Raises InstanceBusy unless the instance is in a state that can be operated on (contract 2.2)."""
        self._check_free(now)
        if self.broken:
            raise InstanceBusy(instance_id=self.id, status="ERROR")

    def check_can_be_configured(self, now: datetime) -> None:
        """Raises Invalid, as the contract has it (2.1), while it cannot take the values of another group.

        One whose values are just being applied can: whoever applies them goes on with the new ones.
        """
        busy = self.operation_id is not None and self.operation_kind != ApplyConfiguration.kind
        if busy or self.broken or self.address is None:
            refusal = InstanceBusy(instance_id=self.id, status=self.shown(now).status)
            raise Invalid(refusal.sentence, code=refusal.code)

    def can_be_configured_now(self, now: datetime) -> bool:
        """Whether its guest can be asked to apply values: nothing else goes on, and it speaks.

        One whose database server is down can: the values it fell over may be those that are changed.
        """
        service = self._service
        speaks = self.report is not None and now - self.report.at <= SILENT_AFTER
        ready = service not in {None, Service.NEW, Service.STARTING, Service.UNKNOWN}
        return self.operation_id is None and not self.broken and self.address is not None and speaks and ready

    @property
    def volume_used_part(self) -> float | None:
        """How full the volume is, from 0 to 1 (and above, where a plain directory holds more); None when not known."""
        if self.report is None or self.report.volume_used_bytes is None:
            return None
        return self.report.volume_used_bytes / (self.report.volume_size_bytes or self.volume_gb * 2**30)

    def check_can_stop(self, now: datetime) -> None:
        """Like a restart; a database server that is stopped cannot be stopped. Raises InstanceBusy."""
        self.check_can_restart(now)
        if self._service in {Service.SHUTDOWN, Service.NEW, None}:
            raise InstanceBusy(
                instance_id=self.id, status="SHUTDOWN", way_out="its database server is stopped."
            )

    def check_can_start(self, now: datetime) -> None:
        """Like a restart; a database server that runs cannot be started. Raises InstanceBusy."""
        self.check_can_restart(now)
        if self._service in {Service.HEALTHY, Service.BLOCKED, Service.STARTING}:
            status = self.shown(now).operating_status or "ACTIVE"
            raise InstanceBusy(instance_id=self.id, status=status, way_out="its database server runs.")

    def check_can_grow_to(self, size_gb: int) -> None:
        """Raises Invalid unless that is more than its volume has."""
        if size_gb <= self.volume_gb:
            raise Invalid(
                f"Validation error: resize.volume.size: it must be larger than the {self.volume_gb} GB the volume has "
                f"now, {size_gb} GB is not: a volume cannot be made smaller.",
                code="volume-not-larger",
            )

    def check_autogrow_limit(self, limit_gb: int) -> None:
        """Raises Invalid unless the volume has not passed that limit already."""
        if limit_gb < self.volume_gb:
            raise Invalid(
                f"Validation error: instance.volume.autogrow_limit: it must be {self.volume_gb} GB or more, which the "
                f"volume has now; {limit_gb} GB is less."
            )

    def check_can_delete(self, now: datetime) -> None:
        """Anything may be deleted but what is protected, being built, or being deleted already.

        Raises InstanceProtected or InstanceBusy.
        """
        self.check_not_protected()
        self._check_free(now)

    def check_not_protected(self) -> None:
        if self.protected:
            raise InstanceProtected(instance_id=self.id)

    def check_serves(self, now: datetime) -> None:
        """Raises InstanceBusy unless the database server answers, as databases, users and root need it to.

        They may be changed while it is backed up, which may take hours.
        """
        if self.operation_kind != CreateBackup.kind:
            self._check_free(now)
        self.check_answers(now)

    def check_answers(self, now: datetime) -> None:
        """Raises InstanceBusy unless the database server answers; an operation may be under way."""
        view = shown(None, self.report, now, broken=self.broken)
        serves = view.status == "RESTART_REQUIRED" or view.operating_status in {"HEALTHY", "BLOCKED"}
        if not serves:
            stopped = self._service is Service.SHUTDOWN
            raise InstanceBusy(
                instance_id=self.id,
                status=view.operating_status or view.status,
                way_out="start its database server first." if stopped else None,
            )

    @property
    def _service(self) -> Service | None:
        return None if self.report is None else self.report.service

    def _check_free(self, now: datetime) -> None:
        if self.operation_id is not None:
            status = self.shown(now).status
            # Some operations show as nothing else.
            way_out = f"{self.operation_kind} is under way: try again in a moment."
            raise InstanceBusy(
                instance_id=self.id, status=status, way_out=way_out if status == "ACTIVE" else None
            )


def check_name(name: object, what: str = "name") -> str:
    """A name of an instance, group or backup (contract 3.9). Raises Invalid, naming the bound."""
    if not isinstance(name, str) or not 1 <= len(name) <= NAME_MAX:
        raise Invalid(f"Validation error: {what} must be a string of 1 to {NAME_MAX} characters.")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise Invalid(f"Validation error: {what} must not hold control characters.")
    if not any(character.isascii() and character.isalnum() for character in name):
        raise Invalid(f"Validation error: {what} {name!r} must hold at least one letter or digit.")
    return name


def check_tags(tags: Mapping[str, object], what: str = "tags") -> dict[str, str]:
    """All the tags of an instance. Raises Invalid, naming the tag and the bound."""
    if len(tags) > TAGS_MAX:
        raise Invalid(
            f"Validation error: {what}: an instance has {TAGS_MAX} tags at most, these are {len(tags)}."
        )
    return {check_tag_key(key, what): check_tag_value(key, value, what) for key, value in tags.items()}


def check_tag_key(key: str, what: str = "tags") -> str:
    """Raises Invalid, naming the bound."""
    if not _TAG_KEY.fullmatch(key) or len(key) > TAG_KEY_MAX:
        raise Invalid(
            f"Validation error: {what}: the key {key[:TAG_KEY_MAX]!r} must have 1 to {TAG_KEY_MAX} characters: a letter "
            "or digit of ASCII, then letters, digits and any of . _ : / @ + -"
        )
    return key


def check_tag_value(key: str, value: object, what: str = "tags") -> str:
    """Raises Invalid, naming the bound."""
    if not isinstance(value, str) or len(value) > TAG_VALUE_MAX or not value.isprintable():
        raise Invalid(
            f"Validation error: {what}: the value of {key!r} must be text of {TAG_VALUE_MAX} characters at most, "
            "without control characters."
        )
    return value


def check_flavor_holds(flavor: Flavor, datastore: str, min_memory_mb: int) -> None:
    """Raises Invalid when a server of this size cannot run the datastore."""
    if flavor.memory_mb < min_memory_mb:
        raise Invalid(
            f"Flavor {flavor.id} has {flavor.memory_mb} MB of memory and {datastore} needs {min_memory_mb} MB or more."
        )
