"""The sizes that servers may have."""

from __future__ import annotations

import structlog

from argosy.domain.errors import PlatformError, Unavailable
from argosy.taskmanager.parts import parts

log = structlog.get_logger()


def publish() -> None:
    """Tell what the platform offers now. While it is away, what it offered last stays."""
    try:
        offered = parts().platform.flavors()
    except (PlatformError, Unavailable) as error:
        log.warning("the platform does not tell its flavors", error=error.sentence)
        return
    with parts().store.write() as tx:
        tx.flavors.publish(offered)
