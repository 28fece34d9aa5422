"""Volumes that grow by themselves: those whose owner allowed it, when they get full, one step at a time.

A step is a tenth of the volume, or one GB where that is more; never above the owner's limit, the project's quota or
what the platform has. After each there is a pause, and the next waits for what the guest says of the new size. What
keeps a volume from growing is told once, not at every sweep.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from argosy.domain.errors import InstanceBusy, InstanceNotFound
from argosy.domain.instance import Instance
from argosy.domain.operations import Operation, ResizeVolume, State
from argosy.domain.quotas import QuotaExceeded
from argosy.domain.status import SILENT_AFTER, Service
from argosy.metadata.store import Store, Transaction

log = structlog.get_logger()

FULL = 0.85  # below what the guest calls low, so that its owner need not hear of it
ACTOR = "autogrow"
PAUSE = timedelta(seconds=20)
PAUSE_AFTER_FAILURE = timedelta(minutes=10)
STOPPED = "volume.autogrow_stopped"
_LOOK_BACK = 100


def grow_full_volumes(store: Store, now: datetime | None = None) -> None:
    """Begin to grow what is full. `now` is for tests."""
    now = now or datetime.now(UTC)
    with store.read() as tx:
        # The database may round another way.
        full = [one.id for one in tx.instances.filled(FULL - 0.01) if wants_to_grow(one, now)]
    for instance_id in full:
        with suppress(InstanceNotFound, InstanceBusy), store.write() as tx:
            _grow(tx, tx.instances.get(instance_id), now)


def wants_to_grow(instance: Instance, now: datetime) -> bool:
    """Whether it is full, may grow by itself, and nothing else is being done to it."""
    report, used = instance.report, instance.volume_used_part
    return (
        instance.autogrow_limit_gb is not None
        and instance.operation_id is None
        and not instance.broken
        and report is not None
        and now - report.at < SILENT_AFTER
        and report.service not in {Service.NEW, Service.SHUTDOWN, Service.UNKNOWN}
        and used is not None
        and used >= FULL
    )


def next_size_gb(size_gb: int, limit_gb: int) -> int:
    """What it grows to: the same size when the limit is reached."""
    return max(size_gb, min(size_gb + max(1, -(-size_gb // 10)), limit_gb))


def _grow(tx: Transaction, instance: Instance, now: datetime) -> None:
    if not wants_to_grow(instance, now) or instance.autogrow_limit_gb is None:
        return
    latest, _ = tx.operations.page(_LOOK_BACK, instance_id=instance.id)
    if not _has_paused(instance, latest, now):
        return
    size_gb = next_size_gb(instance.volume_gb, instance.autogrow_limit_gb)
    if size_gb == instance.volume_gb:
        _say_once(
            tx, instance, f"It has reached its limit of {instance.autogrow_limit_gb} GB: raise the limit."
        )
        return
    try:
        tx.quotas.grow(instance, volume_gb=size_gb)
    except QuotaExceeded as refusal:
        _say_once(tx, instance, refusal.sentence)
        return
    request = ResizeVolume(operation_id=str(uuid.uuid4()), instance_id=instance.id, size_gb=size_gb)
    tx.operations.begin(instance, request, requested_by=ACTOR)
    log.info("volume grows by itself", instance_id=instance.id, size_gb=size_gb)


def _has_paused(instance: Instance, latest: Sequence[Operation], now: datetime) -> bool:
    """Whether the last growth, whoever asked for it, is long enough ago, and the guest has spoken since."""
    growths = (one for one in latest if one.kind == ResizeVolume.kind and one.ended_at is not None)
    last = next(growths, None)
    if last is None or last.ended_at is None or instance.report is None:
        return True
    if last.state is State.FAILED and last.requested_by == ACTOR:
        return now - last.ended_at > PAUSE_AFTER_FAILURE
    return now - last.ended_at > PAUSE and instance.report.at > last.ended_at


def _say_once(tx: Transaction, instance: Instance, reason: str) -> None:
    message = f"The volume is full and cannot grow by itself. {reason}"
    latest, _ = tx.events.page(_LOOK_BACK, instance_id=instance.id)
    for event in latest:
        if event.kind == f"{ResizeVolume.kind}.succeeded":
            break
        if event.kind == STOPPED and event.message == message:
            return
    tx.events.add(instance.project_id, instance.id, STOPPED, message, ACTOR)
