"""On a schedule: dead guests are booted again, claims nobody holds released, late configurations applied."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog
from dbos import DBOS

import argosy
from argosy.domain.errors import ArgosyError, Failed, InstanceBusy
from argosy.domain.guest import RELEASE
from argosy.domain.operations import (
    ApplyConfiguration,
    CreateInstance,
    DeleteInstance,
    RenewAgent,
    VerifyBackup,
)
from argosy.taskmanager import autogrow, log_keeping, retention, scheduled_backups
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps import backup_keys, backups, flavors, images, verification

log = structlog.get_logger()

EVERY_S = 2.0
SELDOM = 300  # turns: every ten minutes
_renewed: set[str] = set()  # instances whose agent this process has had renewed, or tried to
AGAIN_AFTER = timedelta(seconds=30)
_DEAD = {"ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"}


def run(ended: threading.Event, leads: Callable[[], bool]) -> None:
    """Sweep until told to end, while this process leads. One failed sweep is logged and the next one tried."""
    turn = 0
    while not ended.wait(EVERY_S):
        if not leads():
            continue
        seldom = _SELDOM if turn % SELDOM == 0 else ()
        for sweep in (
            boot_dead_guests,
            release_orphaned_claims,
            grow_full_volumes,
            catch_up,
            images.publish,
            images.publish_parameters,
            renew_old_agents,
            backups.sweep_leftovers,
            run_backup_schedules,
            archive_logs,
            verification.sweep,
            *seldom,
        ):
            try:
                sweep()
            except Exception:
                log.exception("sweep failed", sweep=sweep.__name__)
        turn += 1


def boot_dead_guests() -> None:
    """Servers that died (on local: an agent was killed, or the machine rebooted) run again.

    Those whose creation has not booted them yet, or whose deletion is under way, are their workflow's, and so are those
    that a backup is tried on.
    """
    with parts().store.read() as tx:
        leave = {CreateInstance.kind, DeleteInstance.kind, VerifyBackup.kind}
        booted = tx.instances.booted(but_held_by=leave)
    # Reports are numbered by the clock: what a guest says after this moment is of its new life.
    before = time.time_ns()
    healed = parts().platform.servers.heal(booted)
    if healed:
        with parts().store.write() as tx:
            for one in filter(None, map(tx.instances.find, healed)):
                log.warning("guest booted again", instance_id=one.id)
                tx.instances.expect_report(one.id, before)
                tx.events.add(
                    one.project_id,
                    one.id,
                    "guest.booted",
                    "The guest had died and was booted again.",
                    "taskmanager",
                )


def forget_what_is_old() -> None:
    retention.forget_what_is_old(parts().store, parts().retention)


def renew_old_agents() -> None:
    """Agents of an older release are booted again as this one's, once in this process's life; databases go on.

    Not before all task managers are of this release: any of them takes the operation, and boots the agent that it has.
    """
    with parts().store.read() as tx:
        if tx.task_managers.releases() - {argosy.__version__}:
            return
        old = [one for one in tx.instances.of_older_agents(RELEASE) if one.id not in _renewed]
    for instance in old:
        request = RenewAgent(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        with suppress(InstanceBusy), parts().store.write() as tx:
            tx.operations.begin(instance, request, requested_by="taskmanager")
            _renewed.add(instance.id)


def catch_up() -> None:
    """Instances that were busy or down when their configuration group changed get its values now.

    Those whose server refused them are left alone until the group or their server changes, and one on which
    anything has just failed is given a while.
    """
    now = datetime.now(UTC)
    with parts().store.read() as tx:
        behind = [one for one in tx.instances.behind() if one.can_be_configured_now(now)]
    for one in behind:
        if one.fault is not None and now - one.fault.created_at < AGAIN_AFTER:
            continue
        request = ApplyConfiguration(
            operation_id=str(uuid.uuid4()), instance_id=one.id, configuration_id=one.configuration_id
        )
        with suppress(InstanceBusy), parts().store.write() as tx:
            tx.operations.begin(one, request, requested_by="taskmanager")


def expire_objects() -> None:
    gone = parts().objects.expire()
    if gone:
        log.info("objects expired", objects=gone)
    parts().backups.tidy(parts().backup_container)


def run_backup_schedules() -> None:
    own = parts()
    scheduled_backups.run(own.store, own.backups.kind, own.backup_container)


def verify_backups() -> None:
    scheduled_backups.verify(parts().store)


def take_backups_away() -> None:
    scheduled_backups.take_away(parts().store)


def archive_logs() -> None:
    log_keeping.begin_where_wanted(parts().store)


def drop_log() -> None:
    log_keeping.take_away_what_nobody_needs(parts().store, parts().backups)


def grow_full_volumes() -> None:
    autogrow.grow_full_volumes(parts().store)


def release_orphaned_claims() -> None:
    """An operation whose workflow has ended without ending it fails, so that nothing is claimed for ever."""
    with parts().store.read() as tx:
        running = tx.operations.running()
    for operation in running:
        status = DBOS.get_workflow_status(operation.id)
        if status is not None and status.status in _DEAD:
            reason: ArgosyError = Failed(
                "The operation was cancelled or cannot go on: an operator finds the reason in the log."
            )
            with parts().store.write() as tx:
                tx.operations.fail(operation.id, reason, f"workflow status {status.status}: {status.error}")


_SELDOM = (
    flavors.publish,
    forget_what_is_old,
    expire_objects,
    take_backups_away,
    drop_log,
    verify_backups,
    backup_keys.sweep,
)
