"""/instances/{id}/log_archive: whether an instance's log is archived, how far, and to which moments it can be restored."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from typing import Any, Literal

from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.api.v1.bodies import Body
from argosy.domain.errors import Unsupported
from argosy.domain.instance import Instance
from argosy.domain.log_archive import History, LogArchive, Window
from argosy.domain.operations import ArchiveLogs
from argosy.metadata.log_archives import Size
from argosy.metadata.store import Transaction

router = resource("instances")

_PATH = "/instances/{instance_id}/log_archive"
_WANTED = {"on": True, "off": False, "auto": None}
_MODES = {wanted: mode for mode, wanted in _WANTED.items()}


class Change(Body, extra="forbid"):
    mode: Literal["on", "off", "auto"]


class ChangeBody(Body):
    log_archive: Change


@router.get(_PATH, response_model=shapes.ShownLogArchive, responses=faults(404, 501))
def show_log_archive(call: Asked, instance_id: str) -> dict[str, Any]:
    """How far the log is archived, what the instance can be restored to by it, and where log was lost.

    Also of an instance that was deleted, whose backups are still there.
    """
    call.allow("instance:log_archive:show")
    check_instance_id(instance_id)
    with call.read() as tx:
        instance = tx.instances.get_or_deleted(instance_id)
        _check_capable(call, instance)
        return {"log_archive": _view(call, tx, instance)}


@router.put(_PATH, status_code=202, responses=faults(400, 404, 409, 415, 422, 501))
def change_log_archive(call: Asked, instance_id: str, body: ChangeBody) -> None:
    """`{"log_archive": {"mode": "on"}}`: archive the log from now on; `off`: no longer; `auto`: while it is backed up by schedule.

    The instance serves meanwhile. What is archived stays for as long as a backup is there that goes on with it.
    """
    call.allow("instance:log_archive:update")
    check_instance_id(instance_id)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        _check_capable(call, instance)
        tx.log_archives.choose(instance.id, wanted=_WANTED[body.log_archive.mode])
        wanted = tx.log_archives.is_wanted(instance.id)
        if wanted != (tx.log_archives.open_of(instance.id) is not None):
            instance.check_can_restart(call.now)
            instance.check_serves(call.now)
            request = ArchiveLogs(operation_id=str(uuid.uuid4()), instance_id=instance.id, on=wanted)
            tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def recovery_of(call: Call, tx: Transaction, instance: Instance) -> dict[str, Any] | None:
    """The newest window of an instance, for `show`; None when its log is not archived and never was."""
    if "point_in_time" not in call.datastore_of(instance).capabilities:
        return None
    history = history_of(call, tx, instance)
    if not history.archives:
        return None
    windows, current = history.windows(), _open(history)
    newest = windows[-1] if windows else None
    return {
        "archiving": current is not None,
        "earliest": None if newest is None else _not_before(newest.earliest),
        "latest": None if newest is None else views.date(newest.latest),
        "lag_seconds": None if current is None else _lag_s(call, history, current),
        "error": None if current is None else current.error,
    }


def history_of(call: Call, tx: Transaction, instance: Instance) -> History:
    """What there is to restore an instance from, which may be deleted."""
    backups = tx.backups.of_instance(instance.id)
    return tx.log_archives.history(instance.id, backups, call.datastore_of(instance).log_positions)


def _view(call: Call, tx: Transaction, instance: Instance) -> dict[str, Any]:
    history = history_of(call, tx, instance)
    current = _open(history)
    sizes = [tx.log_archives.size(archive.id) for archive in history.archives]
    whole = Size(sum(one.segments for one in sizes), sum(one.size_bytes for one in sizes))
    ended = [archive for archive in history.archives if archive.ended_at is not None]
    last = ended[-1] if ended and current is None else None
    return {
        "mode": _MODES[tx.log_archives.chosen(instance.id)],
        "archiving": current is not None,
        "since": None if current is None else views.date(current.began_at),
        "ended": None if last is None or last.ended_at is None else views.date(last.ended_at),
        "ended_because": None if last is None else last.ended_because,
        "archived_until": _date(_until(history, current)),
        "lag_seconds": None if current is None else _lag_s(call, history, current),
        "lag_bytes": None if current is None else current.lag_bytes,
        "error": None if current is None else current.error,
        "segments": whole.segments,
        "size": round(whole.size_bytes / views.GIB, 3),
        "windows": [_window(window) for window in history.windows()],
        "gaps": [
            {"since": _date(gap.since), "until": None if gap.until is None else _not_before(gap.until)}
            for gap in history.gaps()
        ],
    }


def _window(window: Window) -> dict[str, Any]:
    return {
        "earliest": _not_before(window.earliest),
        "latest": views.date(window.latest),
        "position": window.stretch.position,
        "backups": [backup.id for backup in window.backups],
    }


def _open(history: History) -> LogArchive | None:
    return next((one for one in history.archives if one.ended_at is None), None)


def _until(history: History, archive: LogArchive | None) -> datetime | None:
    """Up to when an archive has everything."""
    if archive is None:
        return None
    told = [one.until for one in history.stretches if one.archive_id == archive.id and one.until is not None]
    return max(told, default=None)


def _lag_s(call: Call, history: History, archive: LogArchive) -> int:
    """How old the oldest of what is not archived can be."""
    since = _until(history, archive) or archive.began_at
    return max(0, int((call.now - since).total_seconds()))


def _not_before(moment: datetime) -> str:
    """The first whole second that can be restored to."""
    return views.date(moment + timedelta(microseconds=999_999))


def _date(moment: datetime | None) -> str | None:
    return None if moment is None else views.date(moment)


def _check_capable(call: Call, instance: Instance) -> None:
    datastore = call.datastore_of(instance)
    if "point_in_time" not in datastore.capabilities:
        raise Unsupported(
            f"{datastore.title} has no log that can be archived: it is restored to its backups.",
            code="no-point-in-time",
        )
