"""The key ring: another key, and what the others wrapped by it."""

from __future__ import annotations

import structlog

from argosy.domain.errors import BackupUnusable, Failed
from argosy.metadata.wrapped_keys import WrappedKey
from argosy.storage import keys
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step
from argosy.taskmanager.steps.backups import KEY

log = structlog.get_logger()


@step(name="backup_keys.add")
def add() -> str:
    """Done twice, there is one that never wraps anything, and no harm in that. Returns its id, which is no secret."""
    return parts().keys.rotate()


@step(name="backup_keys.rewrap")
def rewrap() -> None:
    """Raises Failed when some could not be opened, after all others were."""
    lost = rewrap_all()
    if lost:
        raise Failed(
            f"{lost} keys of backups are wrapped by keys that are not in the ring, and stay as they are. All others are "
            "wrapped by the new one.",
            code="keys-missing",
        )


def rewrap_all() -> int:
    """Wrap by the active key whatever another wraps, but for what is busy, which the next sweep takes.

    Returns how many could not be opened. Raises Unavailable when the store does not answer: what is not done yet
    can still be opened, as the ring keeps its older keys.
    """
    own = parts()
    lost = 0
    with own.store.read() as tx:
        waiting = tx.wrapped_keys.to_rewrap(own.keys.active)
    for key in waiting:
        if key.in_store and key.store != own.backups.kind:
            # Its copy in the store could not be replaced: the ring keeps the key that opens it.
            continue
        try:
            _rewrap(key)
        except BackupUnusable:
            log.warning("a data key cannot be opened", kind=key.kind, id=key.id)
            lost += 1
    return lost


def sweep() -> None:
    """What a rotation left, because it was busy or the store away."""
    rewrap_all()


def _rewrap(key: WrappedKey) -> None:
    own = parts()
    wrapped = own.keys.rewrap(key.wrapped)
    # The store first: what the row says was done is never done again.
    if key.in_store:
        own.backups.put(key.container, key.prefix + KEY, keys.document(wrapped))
    with own.store.write() as tx:
        there = tx.wrapped_keys.replace(key, wrapped)
    if not there and key.in_store:
        # It was deleted meanwhile, and now its key lies there alone.
        own.backups.delete(key.container, key.prefix)
