"""Have an instance's log archived continuously, or no longer."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.errors import ArgosyError
from argosy.domain.operations import ArchiveLogs
from argosy.taskmanager.steps import guest, instances, log_archives
from argosy.taskmanager.workflow import workflow


@workflow(ArchiveLogs, "making the archive", "telling the guest")
def archive_logs(asked: ArchiveLogs) -> Iterator[None]:
    """The archive and the right to write to it come first, so that nothing a guest finishes has no place to go.

    Switched off, the guest archives the last of its log before the archive ends. What is archived stays for as long as
    a backup is there that can go on with it.
    """
    yield
    address = instances.server_of(asked.instance_id)
    archive_id = log_archives.begin(asked) if asked.on else None
    yield
    try:
        missing = guest.archive_log(asked, address, archive_id)
    except ArgosyError:
        if archive_id is not None:
            log_archives.end(asked.instance_id, "It could not be begun.")
        raise
    if not asked.on:
        because = f"Switched off; the last of the log is missing: {missing}" if missing else "Switched off."
        log_archives.end(asked.instance_id, because)
