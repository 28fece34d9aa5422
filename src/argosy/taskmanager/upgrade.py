"""Move an instance to another version, or rehearse that; see engines/upgrades.py for what its guest does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from argosy.domain.errors import ArgosyError, Failed, GuestUnreachable, Invalid
from argosy.domain.operations import RehearseUpgrade, UpgradeInstance
from argosy.platforms.base import Software
from argosy.taskmanager.steps import guest, images, instances, servers
from argosy.taskmanager.workflow import workflow


@workflow(
    UpgradeInstance,
    "getting the software",
    "making the data ready",
    "starting the other version",
    "finishing",
)
def upgrade_instance(asked: UpgradeInstance) -> Iterator[None]:
    """All that can fail is tried on a copy of the data first; a version that does not come up then is given up.

    Whatever fails, the instance runs its old version on its old data. Once the new one has served there is no
    way back, and nothing to go back for.
    """
    yield from move(asked)


def move(asked: UpgradeInstance) -> Iterator[None]:
    """The same as a part of another workflow: the stages of an upgrade."""
    yield
    address = instances.server_of(asked.instance_id)
    before = instances.version_of(asked.instance_id)
    images.wait_until_ready(asked.operation_id, asked.datastore, asked.version)
    software = _within_reach(asked, address)
    same_files = instances.is_release_of(asked.instance_id, asked.datastore, asked.version)
    yield
    try:
        guest.prepare_upgrade(asked, address, software)
    except GuestUnreachable:
        raise
    except ArgosyError as error:
        raise _as_before(error, before) from error
    yield
    try:
        _become(asked, address, (asked.datastore, asked.version))
        _bring_up(asked, address, same_files=same_files)
    except GuestUnreachable:
        # It may serve, or begin to at any moment: going back could lose what was written since.
        raise
    except ArgosyError as error:
        if same_files or _gave_up(asked, address):
            _become(asked, address, before)
            _bring_up(asked, address, same_files=same_files)
            raise _as_before(error, before) from error
    yield
    try:
        guest.finish_upgrade(asked, address)
    except ArgosyError as error:
        instances.tell(
            asked.instance_id, "upgrade.unfinished", f"Statistics were not gathered: {error.sentence}"
        )
    instances.tell(
        asked.instance_id, "instance.upgraded", f"from {_shown(before)} to {asked.datastore} {asked.version}"
    )


@workflow(RehearseUpgrade, "getting the software", "rehearsing the upgrade")
def rehearse_upgrade(asked: RehearseUpgrade) -> Iterator[None]:
    """Do it all on a copy while the instance serves, and tell how it went in an event."""
    yield
    address = instances.server_of(asked.instance_id)
    images.wait_until_ready(asked.operation_id, asked.datastore, asked.version)
    software = _within_reach(asked, address)
    yield
    told = guest.rehearse_upgrade(asked, address, software)
    instances.tell(asked.instance_id, "upgrade.rehearsed", told)


def _within_reach(asked: UpgradeInstance | RehearseUpgrade, address: str) -> Software:
    """The other version's software, for which a machine that lacks it is made anew from an image that has both."""
    wanted = (asked.datastore, asked.version)
    if servers.machines() and not servers.holds(asked.instance_id, *wanted):
        guest.stop_cleanly(asked, address)
        try:
            servers.remake(asked.instance_id, address, also=wanted)
        except Exception:
            with suppress(ArgosyError):
                guest.restart(asked, address, "as before")
            raise
        guest.restart(asked, address, "with both")
    return servers.offer(asked.instance_id, *wanted)


def _become(asked: UpgradeInstance, address: str, version: tuple[str, str]) -> None:
    servers.become(asked.instance_id, address, *version)
    if servers.machines():
        guest.renew(asked, address, " ".join(version))


def _bring_up(asked: UpgradeInstance, address: str, *, same_files: bool) -> None:
    """A server of another release of the same version may still run: that one is restarted."""
    if same_files:
        guest.restart(asked, address)
    else:
        guest.start(asked, address)


def _gave_up(asked: UpgradeInstance, address: str) -> bool:
    """Whether the other version will not run any more; False when it has come up after all."""
    try:
        guest.abandon_upgrade(asked, address)
    except Invalid as refusal:
        if refusal.code != "served":
            raise
        return False
    return True


def _as_before(error: ArgosyError, before: tuple[str, str]) -> ArgosyError:
    return Failed(f"{error.sentence} The instance goes on with {_shown(before)}.", code=error.code)


def _shown(version: tuple[str, str]) -> str:
    return " ".join(version)
