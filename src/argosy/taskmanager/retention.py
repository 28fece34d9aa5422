"""What was is known for a while, and then forgotten: deleted instances, operations that ended, events, differences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from argosy.metadata.store import Store
from argosy.taskmanager.parts import Retention

# At once, so that nobody waits long for the metadata database.
AT_ONCE = 500
# Whoever followed operations and was cut off comes back sooner than this.
CHANGES_KEPT = timedelta(days=1)


def forget_what_is_old(store: Store, kept: Retention, now: datetime | None = None) -> None:
    """Forget what is older than is kept. An operation that still runs is kept however old it is."""
    now = now or datetime.now(UTC)
    while _forget_operations(store, now - kept.operations) == AT_ONCE:
        pass
    for purge, before in (
        ("operation changes", now - min(CHANGES_KEPT, kept.operations)),
        ("events", now - kept.events),
        ("findings", now - kept.events),
        ("instances", now - kept.deleted_instances),
    ):
        while _purge(store, purge, before) == AT_ONCE:
            pass


def _forget_operations(store: Store, before: datetime) -> int:
    with store.read() as tx:
        old = tx.operations.ended_before(before, AT_ONCE)
    if old:
        # Before our own transaction: the queue writes to the same database through a connection of its own.
        store.queue.forget(old)
        with store.write() as tx:
            tx.operations.forget(old)
    return len(old)


def _purge(store: Store, what: str, before: datetime) -> int:
    with store.write() as tx:
        if what == "events":
            return tx.events.purge(before, AT_ONCE)
        if what == "findings":
            return tx.findings.purge(before, AT_ONCE)
        if what == "instances":
            return tx.instances.purge(before, AT_ONCE)
        return tx.operations.purge_changes(before, AT_ONCE)
