"""Starting and stopping the task manager inside a process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSConfig

from argosy.metadata.queue import APPLICATION, QUEUE, WORKFLOW_VERSION
from argosy.taskmanager import (
    access,
    archive_logs,
    backup,
    backup_keys,
    configure,
    create,
    delete,
    drift,
    pull_image,
    reboot,
    rebuild,
    resize,
    restart,
    restore,
    rotate,
    start,
    stop,
    sweeps,
    upgrade,
    verify,
)
from argosy.taskmanager.membership import Membership
from argosy.taskmanager.parts import Parts, install
from argosy.taskmanager.steps import flavors, images

WORKFLOWS = (
    archive_logs.archive_logs,
    configure.apply_configuration,
    access.update_access,
    backup.create_backup,
    backup.delete_backups,
    backup_keys.rotate_backup_keys,
    create.create_instance,
    delete.delete_instance,
    drift.look_for_drift,
    pull_image.pull_image,
    reboot.reboot_instance,
    reboot.renew_agent,
    rebuild.rebuild_instance,
    resize.resize_flavor,
    resize.resize_volume,
    restart.restart_instance,
    restore.restore_instance,
    rotate.rotate_password,
    start.start_instance,
    stop.stop_instance,
    upgrade.rehearse_upgrade,
    upgrade.upgrade_instance,
    verify.verify_backup,
)


class TaskManager:
    """Takes operations off the queue and runs their workflows, up to `workers` at once."""

    def __init__(
        self,
        parts: Parts,
        membership: Membership,
        *,
        workers: int,
        poll_s: float,
    ) -> None:
        install(parts, membership.check)
        self.membership = membership
        self._parts = parts
        self._ended = threading.Event()
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": parts.store.url,
            "application_version": WORKFLOW_VERSION,
            "executor_id": membership.id,
            "log_level": "WARNING",
            "run_migrations": False,
            # One that is frozen in a transaction of DBOS is lost by then, and others wait for what it holds.
            "sys_db_idle_transaction_timeout_sec": membership.silent_after_s,
        }
        self._workers = workers
        self._poll_s = poll_s
        DBOS(config=config)

    def start(self) -> None:
        """Publish what the platform offers, take up what was interrupted, and begin to work."""
        take_over = DBOS._recover_pending_workflows  # noqa: SLF001 - the name its documentation has for operators' own recovery
        self.membership.join()
        # From now on: to get ready may take longer than one may be silent.
        self._begin(self.membership.run, take_over)
        flavors.publish()
        images.publish()
        images.publish_parameters()
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._workers,
            polling_interval_sec=self._poll_s,
            on_conflict="always_update",
        )
        self.membership.take_over(take_over)
        self._begin(sweeps.run, lambda: self.membership.leads)
        self._begin(drift.run, lambda: self.membership.leads)

    def _begin(self, loop: Callable[[threading.Event, Any], None], what: Any) -> None:
        threading.Thread(target=loop, args=(self._ended, what), name=loop.__qualname__, daemon=True).start()

    def stop(self) -> None:
        """Act no more. What workflows were at is taken up by another, or by the next to start."""
        self._ended.set()
        with suppress(sa.exc.DBAPIError):  # the others notice
            self.membership.leave()
