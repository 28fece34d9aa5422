"""What a workflow asks of a guest: long work as jobs, under the operation's id."""

from __future__ import annotations

from dbos import DBOS

from argosy.domain.errors import BY_KIND, GuestUnreachable, Kind
from argosy.domain.operations import CreateInstance, Request
from argosy.rpc.messages import Database, Job, JobState, NewUser, Phase, Prepare, Restart, Stop
from argosy.taskmanager.parts import parts

WAIT_S = 2.0


def prepare(asked: CreateInstance, address: str) -> None:
    """Have the database server made and started, with its first databases and users. Raises what the guest raised."""
    _finish(_prepare, asked, address, tries=450)


def restart(asked: Request, address: str) -> None:
    _finish(_restart, asked, address, tries=450)


def stop_cleanly(asked: Request, address: str) -> None:
    """Ask for a clean stop; a guest that is not there any more, or cannot, does not hold its deletion up."""
    for _ in range(15):
        if _stop(asked, address).phase is not Phase.RUNNING:
            return


def _finish(step: object, asked: Request, address: str, *, tries: int) -> None:
    silent = 0
    for _ in range(tries):
        state: JobState = step(asked, address)  # type: ignore[operator] # a DBOS step
        if state.phase is Phase.SUCCEEDED:
            return
        if state.phase is Phase.FAILED:
            kind = BY_KIND[Kind(state.error_kind or Kind.FAILED)]
            raise kind(state.error or "The guest failed without a reason.", code=state.error_code)
        silent = silent + 1 if state.phase is Phase.UNREACHABLE else 0
        if silent > SILENT_TRIES:
            raise GuestUnreachable(f"{state.doing} Its log is agent.log in the instance's directory.")
        if state.phase is Phase.UNREACHABLE:
            DBOS.sleep(SILENT_EVERY_S)
    raise GuestUnreachable(f"The guest at {address} did not finish in {tries * WAIT_S / 60:.0f} minutes.")


# A guest that boots answers within a second here; one that died is booted again by a sweep.
SILENT_EVERY_S = 0.05
SILENT_TRIES = 1200


@DBOS.step(name="guest.prepare")
def _prepare(asked: CreateInstance, address: str) -> JobState:
    wanted = parts().seal.open(asked.sealed)
    return _run(
        asked,
        address,
        Prepare(
            job_id=asked.operation_id,
            wait_s=WAIT_S,
            databases=tuple(Database(**one) for one in wanted["databases"]),
            users=tuple(NewUser(**one) for one in wanted["users"]),
        ),
    )


@DBOS.step(name="guest.restart")
def _restart(asked: Request, address: str) -> JobState:
    return _run(asked, address, Restart(job_id=asked.operation_id, wait_s=WAIT_S))


@DBOS.step(name="guest.stop")
def _stop(asked: Request, address: str) -> JobState:
    return _run(asked, address, Stop(job_id=asked.operation_id, wait_s=WAIT_S))


def _run(asked: Request, address: str, job: Job) -> JobState:
    state = parts().guests.run(address, job)
    if state.phase is Phase.RUNNING and state.doing:
        with parts().store.write() as tx:
            tx.operations.say(asked.operation_id, state.doing)
    return state
