"""Starting and stopping the task manager inside a process."""

from __future__ import annotations

import threading

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
from argosy.taskmanager.parts import Parts, install
from argosy.taskmanager.steps import images

WORKFLOWS = (
    archive_logs.archive_logs,
    configure.apply_configuration,
    access.update_access,
    backup.create_backup,
    backup.delete_backups,
    backup_keys.rotate_backup_keys,
    create.create_instance,
    delete.delete_instance,
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

    def __init__(self, parts: Parts, *, workers: int, poll_s: float) -> None:
        install(parts)
        self._parts = parts
        self._ended = threading.Event()
        config: DBOSConfig = {
            "name": APPLICATION,
            "system_database_url": parts.store.url,
            "application_version": WORKFLOW_VERSION,
            "executor_id": "taskmanager",
            "log_level": "WARNING",
            "run_migrations": False,
        }
        self._workers = workers
        self._poll_s = poll_s
        DBOS(config=config)

    def start(self) -> None:
        """Publish what the platform offers, take up what was interrupted, and begin to work."""
        with self._parts.store.write() as tx:
            tx.flavors.publish(self._parts.platform.flavors())
        images.publish()
        images.publish_parameters()
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=self._workers,
            polling_interval_sec=self._poll_s,
            on_conflict="always_update",
        )
        threading.Thread(target=sweeps.run, args=(self._ended,), name="sweeps", daemon=True).start()

    def stop(self) -> None:
        """Sweep no more. Workflows run on until the process ends, and are taken up by the next."""
        self._ended.set()
