"""What a workflow asks of a guest: long work as jobs, under the operation's id."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from dbos import DBOS

from argosy.domain.access import Rules, rules_of
from argosy.domain.backup import Recovery
from argosy.domain.configuration import Wanted
from argosy.domain.errors import BY_KIND, ArgosyError, Failed, GuestUnreachable, Kind
from argosy.domain.operations import (
    ApplyConfiguration,
    CreateBackup,
    CreateInstance,
    DeleteInstance,
    InstanceRequest,
    RehearseUpgrade,
    Request,
    ResizeFlavor,
    ResizeVolume,
    RestoreInstance,
    RotatePassword,
    StartInstance,
    StopInstance,
    UpdateAccess,
    UpgradeInstance,
)
from argosy.platforms.base import Software
from argosy.rpc import agent_code, messages
from argosy.rpc.messages import (
    ApplyParameters,
    CheckSize,
    Database,
    Job,
    JobState,
    Look,
    NewUser,
    Phase,
    Ping,
    Prepare,
    Resize,
    Restart,
    Start,
    Stop,
)
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps import backups, configurations, log_archives, servers
from argosy.taskmanager.steps.again import step

WAIT_S = 2.0
LOOK_S = 60.0  # a server that died of want of space may have to recover
JOB_TRIES = 450  # turns of WAIT_S: a quarter of an hour
UPGRADE_TRIES = 10_800  # six hours: all data is copied
BACKUP_TRIES = 86_400  # two days
# A booting guest answers within a second, so it is asked often at first; one that has died is booted again.
EAGER_TRIES, EAGER_S = 40, 0.05
PATIENT_TRIES, PATIENT_S = 120, 1.0
MACHINE_TRIES = 600  # a machine has an operating system to boot
BOOT_AGAIN_EVERY = 10

_Step = Callable[[Any, str], JobState]


def prepare(asked: CreateInstance, address: str, wanted: Wanted | None = None) -> None:
    """Have the database server made and started, with its first databases and users. Raises what the guest raised.

    Its first start is with the `wanted` revision of a configuration group.
    """
    _finish(lambda asked, address: _prepare(asked, address, wanted), asked, address)


def apply_parameters(asked: ApplyConfiguration, address: str, wanted: Wanted, turn: int) -> None:
    """Have the server run with a revision of a group. Raises what it refused, with everything put back."""
    _finish(lambda asked, address: _apply_parameters(asked, address, wanted, turn), asked, address)


def restart(asked: InstanceRequest, address: str, attempt: str = "") -> None:
    """`attempt` tells this job from others of the operation that the same life of the agent may know."""
    _finish(partial(_restart, attempt), asked, address)


def stop(asked: StopInstance, address: str) -> None:
    """Have the database server stopped until it is asked to start, whatever is booted again meanwhile."""
    _finish(_stop, asked, address)


def start(asked: StartInstance | UpgradeInstance, address: str) -> None:
    _finish(_start, asked, address)


def update_access(asked: UpdateAccess, address: str, wanted: Rules, former: Rules) -> None:
    """Have clients held to rules; the guest goes back to the former ones when it cannot."""

    def step(asked: UpdateAccess, address: str) -> JobState:
        return _update_access(asked, address, wanted, former)

    _finish(step, asked, address)


def rotate_password(asked: RotatePassword, address: str) -> None:
    _finish(_rotate_password, asked, address)


def wait_until_it_answers(asked: InstanceRequest, address: str) -> None:
    """Wait for a guest that boots. Raises GuestUnreachable."""
    _finish(_ping, asked, address)


@step(name="guest.look")
def look(address: str | None) -> None:
    """Have a guest look at its server and report at once; one that does not answer does so by itself later."""
    if address is not None:
        with suppress(GuestUnreachable):
            parts().guests.call(address, Look(), timeout_s=LOOK_S)


def check_size(asked: ResizeFlavor, address: str, memory_mb: int) -> None:
    """Raises what the guest says when the database server's data does not fit into that size."""
    _finish(partial(_check_size, memory_mb), asked, address)


def take_size(asked: ResizeFlavor, address: str, attempt: str, *, restart: bool = False) -> str:
    """Have the database server take the settings of the size its agent was booted with; returns how it went.

    `attempt` tells one such job of an operation from the others.
    """
    return _finish(partial(_take_size, attempt, restart), asked, address)


def renew(asked: InstanceRequest, address: str, attempt: str, *, code: bool = False) -> None:
    """Have a machine's agent live anew as what it is told by now, and with `code` by this release's.

    `attempt` tells one such job of an operation from the others.
    """
    _finish(partial(_renew, attempt, code), asked, address)


def grow_volume(asked: ResizeVolume, address: str) -> None:
    """Have a machine make use of a volume that has become larger."""
    _finish(_grow_volume, asked, address)


def stop_cleanly(asked: InstanceRequest, address: str) -> None:
    """Ask for a clean stop; a guest that is not there any more, or cannot, does not hold its deletion up.

    One that is not to stay stopped runs again in its agent's next life.
    """
    for _ in range(15):
        if _stop(asked, address).phase is not Phase.RUNNING:
            return


def rehearse_upgrade(asked: RehearseUpgrade, address: str, software: Software) -> str:
    """Have an upgrade tried on a copy of the data. Returns what was found."""
    step = partial(_upgrade, messages.RehearseUpgrade, software=software)
    return _finish(step, asked, address, tries=UPGRADE_TRIES)


def prepare_upgrade(asked: UpgradeInstance, address: str, software: Software) -> None:
    """Have a copy of the data made ready, the server stopped. Raises what stood in the way, the server running."""
    step = partial(_upgrade, messages.PrepareUpgrade, software=software)
    _finish(step, asked, address, tries=UPGRADE_TRIES)


def abandon_upgrade(asked: UpgradeInstance, address: str) -> None:
    """Have a version that does not come up run no more. Raises Invalid when it has served."""
    _finish(partial(_upgrade, messages.AbandonUpgrade), asked, address)


def finish_upgrade(asked: UpgradeInstance, address: str) -> None:
    _finish(partial(_upgrade, messages.FinishUpgrade), asked, address, tries=UPGRADE_TRIES)


def back_up(asked: CreateBackup, address: str, *, parent: str | None) -> str:
    """Have the server backed up into the archive of its backup. Returns what the job told, a JSON object."""
    attempt = "increment" if parent is not None else "full"
    return _finish(partial(_back_up, parent, attempt), asked, address, tries=BACKUP_TRIES)


def restore(asked: CreateInstance | RestoreInstance, address: str, wanted: Wanted | None = None) -> str:
    """Have the data made of backups, and the server started on it. Returns what the job told, a JSON object."""
    return _finish(partial(_restore, wanted), asked, address, tries=BACKUP_TRIES)


def archive_log(asked: InstanceRequest, address: str, archive_id: str | None) -> str:
    """Have the log archived from now on, or with None the last of it, and no more. Returns why that is missing, if it is."""
    return _finish(partial(_archive_log, archive_id), asked, address)


def check(asked: InstanceRequest, address: str, backup_id: str) -> str:
    """Have the data checked, and compared with what a backup's facts say. Returns a JSON list of what is wrong."""
    return _finish(partial(_check, backup_id), asked, address, tries=BACKUP_TRIES)


def _finish(step: _Step, asked: InstanceRequest, address: str, tries: int = JOB_TRIES) -> str:
    """Run a guest's job to its end, through deaths of the guest. Returns what it told.

    Raises what the job raised, or GuestUnreachable.

    Counts tries instead of reading the clock: a replay must take the same turns.
    """
    running = silent = 0
    while running < tries:
        state = step(asked, address)
        if state.phase is Phase.SUCCEEDED:
            return state.told
        if state.phase is Phase.FAILED:
            kind = BY_KIND[Kind(state.error_kind or Kind.FAILED)]
            raise kind(state.error or "The guest failed without a reason.", code=state.error_code)
        if state.phase is Phase.RUNNING:
            running += 1
            silent = 0
            continue
        silent += 1
        if silent > EAGER_TRIES + (MACHINE_TRIES if servers.machines() else PATIENT_TRIES):
            log = "its server's console" if servers.machines() else "agent.log in the instance's directory"
            raise GuestUnreachable(f"{state.doing} Its log is {log}.")
        if silent >= EAGER_TRIES and (silent - EAGER_TRIES) % BOOT_AGAIN_EVERY == 0:
            servers.boot_again(asked.instance_id)
        DBOS.sleep(EAGER_S if silent <= EAGER_TRIES else PATIENT_S)
    raise GuestUnreachable(f"The guest at {address} did not finish in {tries * WAIT_S / 60:.0f} minutes.")


@step(name="guest.prepare")
def _prepare(asked: CreateInstance, address: str, configuration: Wanted | None = None) -> JobState:
    wanted = parts().seal.open(asked.sealed)
    with parts().store.read() as tx:
        rules = rules_of(tx.instances.get(asked.instance_id))
    return _run(
        asked,
        address,
        Prepare(
            job_id=asked.operation_id,
            wait_s=WAIT_S,
            databases=tuple(Database(**one) for one in wanted["databases"]),
            users=tuple(NewUser(**one) for one in wanted["users"]),
            parameters=configurations.values(configuration),
            allowed_cidrs=rules.networks,
            require_tls=rules.require_tls,
        ),
    )


@step(name="guest.apply_parameters")
def _apply_parameters(asked: ApplyConfiguration, address: str, wanted: Wanted, turn: int) -> JobState:
    # A job of its own for each turn: under one id it would be the same job.
    job_id = f"{asked.operation_id}-{turn}"
    values = configurations.values(wanted)
    return _run(asked, address, ApplyParameters(job_id=job_id, wait_s=WAIT_S, values=values))


@step(name="guest.update_access")
def _update_access(asked: UpdateAccess, address: str, wanted: Rules, former: Rules) -> JobState:
    return _run(
        asked,
        address,
        messages.UpdateAccess(
            job_id=asked.operation_id,
            wait_s=WAIT_S,
            allowed_cidrs=wanted.networks,
            require_tls=wanted.require_tls,
            former_cidrs=former.networks,
            former_tls=former.require_tls,
        ),
    )


@step(name="guest.rotate_password")
def _rotate_password(asked: RotatePassword, address: str) -> JobState:
    return _run(asked, address, messages.RotatePassword(job_id=asked.operation_id, wait_s=WAIT_S))


@step(name="guest.note_guard")
def note_guard(instance_id: str, address: str) -> None:
    """Write down how its guest keeps clients out, for `show`. A guest of an earlier release cannot tell."""
    try:
        guard = parts().guests.call(address, messages.TellGuard())
    except ArgosyError:
        return
    reach = parts().platform.reach
    with parts().store.write() as tx:
        told = {"reach": reach, "networks": guard.networks, "tls": guard.tls}
        tx.instances.set_platform(instance_id, {"access": told})


@step(name="guest.restart")
def _restart(attempt: str, asked: InstanceRequest, address: str) -> JobState:
    job_id = f"{asked.operation_id}-{attempt}" if attempt else asked.operation_id
    return _run(asked, address, Restart(job_id=job_id, wait_s=WAIT_S))


@step(name="guest.upgrade")
def _upgrade(
    kind: type[Job], asked: InstanceRequest, address: str, software: Software | None = None
) -> JobState:
    more = {} if software is None else {"software": messages.Software(**vars(software))}
    # Each a job of its own: under one id they would be the same.
    job_id = f"{asked.operation_id}-{kind.method}"
    return _run(asked, address, kind(job_id=job_id, wait_s=WAIT_S, **more))


@step(name="guest.ping")
def _ping(_asked: InstanceRequest, address: str) -> JobState:
    try:
        parts().guests.call(address, Ping(), timeout_s=WAIT_S)
    except GuestUnreachable as error:
        return JobState(phase=Phase.UNREACHABLE, doing=error.sentence)
    return JobState(phase=Phase.SUCCEEDED)


@step(name="guest.check_size")
def _check_size(memory_mb: int, _asked: ResizeFlavor, address: str) -> JobState:
    try:
        parts().guests.call(address, CheckSize(memory_mb=memory_mb))
    except GuestUnreachable as error:
        return JobState(phase=Phase.UNREACHABLE, doing=error.sentence)
    return JobState(phase=Phase.SUCCEEDED)


@step(name="guest.take_size")
def _take_size(attempt: str, restart: bool, asked: ResizeFlavor, address: str) -> JobState:
    job_id = f"{asked.operation_id}:{attempt}"
    return _run(asked, address, Resize(job_id=job_id, wait_s=WAIT_S, restart=restart))


@step(name="guest.renew")
def _renew(attempt: str, code: bool, asked: InstanceRequest, address: str) -> JobState:
    agent = agent_code.digest() if code else None
    return _run(
        asked, address, messages.Renew(job_id=f"{asked.operation_id}-{attempt}", wait_s=WAIT_S, agent=agent)
    )


@step(name="guest.grow_volume")
def _grow_volume(asked: ResizeVolume, address: str) -> JobState:
    job = messages.GrowVolume(job_id=asked.operation_id, wait_s=WAIT_S, size_gb=asked.size_gb)
    return _run(asked, address, job)


@step(name="guest.stop")
def _stop(asked: InstanceRequest, address: str) -> JobState:
    pause = not isinstance(asked, DeleteInstance | StopInstance)
    return _run(asked, address, Stop(job_id=asked.operation_id, wait_s=WAIT_S, pause=pause))


@step(name="guest.start")
def _start(asked: StartInstance | UpgradeInstance, address: str) -> JobState:
    return _run(asked, address, Start(job_id=asked.operation_id, wait_s=WAIT_S))


@step(name="guest.back_up")
def _back_up(parent: str | None, attempt: str, asked: CreateBackup, address: str) -> JobState:
    def job(job_id: str) -> Job:
        with parts().store.read() as tx:
            backup = tx.backups.get(asked.backup_id)
            facts = dict(tx.backups.get(parent).facts) if parent is not None else None
        limit = parts().backup_limit_mb_s
        return messages.BackUp(
            job_id=job_id, wait_s=WAIT_S, archive=backups.archive(backup), parent=facts, limit_mb_s=limit
        )

    return _run_once(asked, address, f"{asked.operation_id}-{attempt}", job)


@step(name="guest.restore")
def _restore(configuration: Wanted | None, asked: CreateInstance | RestoreInstance, address: str) -> JobState:
    def job(job_id: str) -> Job:
        recovery = asked.recovery
        if recovery is None:
            raise Failed("The operation names no backup to restore.")
        in_place = isinstance(asked, RestoreInstance)
        more = {} if isinstance(asked, RestoreInstance) else parts().seal.open(asked.sealed)
        with parts().store.read() as tx:
            rules = rules_of(tx.instances.get(asked.instance_id))
        return messages.Restore(
            job_id=job_id,
            wait_s=WAIT_S,
            databases=tuple(Database(**one) for one in more.get("databases", ())),
            users=tuple(NewUser(**one) for one in more.get("users", ())),
            parameters=configurations.values(configuration),
            allowed_cidrs=rules.networks,
            require_tls=rules.require_tls,
            chain=backups.chain(recovery),
            log=log_archives.stretch(recovery),
            accounts=_accounts(recovery, address if in_place else backups.source_of(recovery)),
            in_place=in_place,
        )

    return _run_once(asked, address, asked.operation_id, job)


@step(name="guest.archive_log")
def _archive_log(archive_id: str | None, asked: InstanceRequest, address: str) -> JobState:
    archive = None if archive_id is None else log_archives.archive(archive_id)
    job_id = f"{asked.operation_id}-archive-{'off' if archive is None else 'on'}"
    every_s = parts().archive_log_every_s
    job = messages.ArchiveLog(job_id=job_id, wait_s=WAIT_S, archive=archive, every_s=every_s)
    return _run(asked, address, job)


@step(name="guest.check")
def _check(backup_id: str, asked: InstanceRequest, address: str) -> JobState:
    with parts().store.read() as tx:
        fingerprint = tx.backups.get(backup_id).facts.get("fingerprint")
    job_id = f"{asked.operation_id}-check"
    return _run(asked, address, messages.Check(job_id=job_id, wait_s=WAIT_S, fingerprint=fingerprint))


def _accounts(recovery: Recovery, source: str | None) -> str | None:
    """Users as the server there has them now, when that is asked for and it answers; None for as they were."""
    if recovery.users != "current" or source is None:
        return None
    try:
        return parts().guests.call(source, messages.DumpAccounts(), timeout_s=LOOK_S).dump
    except ArgosyError:
        return None


def _run_once(asked: Request, address: str, job_id: str, job: Callable[[str], Job]) -> JobState:
    """Like `_run`, for a job that is long to say, or secret: said only to a guest that was not told yet."""
    state = _run(asked, address, messages.Await(job_id=job_id, wait_s=WAIT_S))
    return _run(asked, address, job(job_id)) if state.phase is Phase.FORGOTTEN else state


def _run(asked: Request, address: str, job: Job) -> JobState:
    state = parts().guests.run(address, job)
    if state.phase is Phase.RUNNING and state.doing:
        with parts().store.write() as tx:
            tx.operations.say(asked.operation_id, state.doing)
    return state
