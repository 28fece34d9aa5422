"""Stopping every database of a home, without its control plane."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from argosy.domain.instance import Instance
from argosy.processes.control_plane import ControlPlane
from argosy.rpc.messages import Phase, Stop
from argosy.settings import Settings

STOP_S = 60.0


def stop_all(settings: Settings) -> Iterator[tuple[str, str]]:
    """Each database is asked to stop cleanly and its server ended; yields names and how it went.

    `argosy up` starts them again: what is wanted of each stays written in its guest.
    """
    plane = ControlPlane(settings, migrates=True)
    platform = plane.platform()

    def stop(instance: Instance) -> tuple[str, str]:
        how = "had no server"
        if instance.address is not None:
            state = plane.guests.run(
                instance.address, Stop(job_id=f"down-{instance.id}", wait_s=STOP_S, pause=True)
            )
            how = (
                "stopped cleanly"
                if state.phase is Phase.SUCCEEDED
                else f"ended ({state.error or state.phase.value})"
            )
        platform.stop(instance.id)
        return instance.name, how

    try:
        with plane.store.read() as tx:
            instances = tx.instances.all()
        with ThreadPoolExecutor(8) as pool:
            yield from pool.map(stop, instances)
        platform.wind_down()
    finally:
        plane.close()
