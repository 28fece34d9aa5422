"""A look at the platform: what the metadata expects of it, whether that is still so afterwards, and what came of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from argosy.domain.drift import Change, Finding
from argosy.domain.guest import Told
from argosy.domain.instance import Instance
from argosy.domain.operations import (
    ApplyConfiguration,
    ArchiveLogs,
    CreateBackup,
    RehearseUpgrade,
    RotatePassword,
)
from argosy.metadata.store import Store, Transaction
from argosy.platforms.base import Expectation, Platform
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step
from argosy.taskmanager.steps.servers import is_transient, placement_of

log = structlog.get_logger()

# They leave the server, its volume and its addresses as they are, and may take hours.
_LEAVE_IT = frozenset(
    one.kind for one in (ApplyConfiguration, ArchiveLogs, CreateBackup, RehearseUpgrade, RotatePassword)
)
# What comes back again and again is somebody's doing: after so many repairs it is told only.
REPAIRS_AT_MOST, REPAIRS_WITHIN = 3, timedelta(hours=1)
_one_at_a_time = threading.Lock()


@step(name="drift.look", retries_allowed=True, should_retry=is_transient)
def look_now() -> None:
    look(parts().store, parts().platform)


def look(store: Store, platform: Platform) -> None:
    """Compare what the platform has with what the metadata says, and write the differences down.

    Of an instance that anything was done to meanwhile this look says nothing: the next one does.
    """
    with _one_at_a_time:
        with store.read() as tx:
            before = _all(tx)
        found = platform.survey(
            [one.expectation for one in before.values()], lambda finding: _may_repair(store, finding, before)
        )
        with store.write() as tx:
            after = _all(tx)
            known = before.keys() | after.keys()
            unsure = {one for one in known if not _is_as_it_was(before.get(one), after.get(one))}
            certain = [one for one in found if one.repaired or _is_certain(one, known, unsure)]
            changes = tx.findings.note(certain, unsure, datetime.now(UTC))
    for change, finding in changes:
        tell = log.info if change is Change.GONE else log.warning
        tell(
            f"drift {change}",
            kind=finding.kind,
            resource=finding.resource,
            instance_id=finding.instance_id,
            message=finding.message,
        )


@dataclass(frozen=True)
class _Known:
    """What is expected of an instance, and what would be another if anything had been done to it since."""

    expectation: Expectation
    operation_id: str | None
    updated_at: datetime


def _all(tx: Transaction) -> dict[str, _Known]:
    told = tx.guests.all()
    return {one.id: _known(one, told.get(one.id)) for one in tx.instances.all()}


def _known(instance: Instance, told: Told | None) -> _Known:
    busy = instance.operation_id is not None and instance.operation_kind not in _LEAVE_IT
    settles = busy or instance.broken or told is None
    expectation = Expectation(
        instance_id=instance.id,
        volume_gb=instance.volume_gb,
        settles=settles,
        placement=placement_of(instance),
        agent="" if told is None else told.rpc_address,
        database="" if told is None else told.address,
        volume="" if told is None else told.volume,
    )
    return _Known(expectation, instance.operation_id, instance.updated_at)


def _is_as_it_was(before: _Known | None, after: _Known | None) -> bool:
    return before is not None and before == after and not before.expectation.settles


def _is_certain(finding: Finding, known: AbstractSet[str], unsure: AbstractSet[str]) -> bool:
    """One that no instance has may be of one that was begun, or ended, during the look."""
    if finding.instance_id is None:
        return finding.carries not in known
    return finding.instance_id not in unsure


def _may_repair(store: Store, finding: Finding, before: Mapping[str, _Known]) -> bool:
    """Whether what was expected is expected still, and it was not repaired again and again."""
    with store.read() as tx:
        since = datetime.now(UTC) - REPAIRS_WITHIN
        if tx.findings.repairs(finding.kind, finding.resource, since) >= REPAIRS_AT_MOST:
            return False
        if finding.instance_id is None:
            return finding.carries is None or tx.instances.find(finding.carries) is None
        instance = tx.instances.find(finding.instance_id)
        now = None if instance is None else _known(instance, tx.guests.find(instance.id))
    return _is_as_it_was(before.get(finding.instance_id), now)
