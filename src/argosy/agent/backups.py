"""The jobs of backups: from the database server into an archive, from archives into a data directory, and the checks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

from argosy.agent.jobs import Say
from argosy.agent.supervisor import Supervisor
from argosy.agent.transfer import Transfers
from argosy.domain.backup import room_for
from argosy.engines import restores
from argosy.engines.backups import BackUps, Checks, Log, Segment, Stored, Write
from argosy.engines.base import Engine
from argosy.rpc import messages


def back_up(engine: BackUps, transfers: Transfers, call: messages.BackUp, say: Say) -> str:
    """Returns what the job tells. One that is begun again writes its archive anew, over what there is."""
    # Slow to load, and not needed by an agent that starts: here and below.
    from argosy.storage.archive import Writer

    archive = call.archive
    objects, key = transfers.objects(archive), bytes.fromhex(archive.key)
    with Writer(objects, archive.id, key, limit_mb_s=call.limit_mb_s) as writer:
        say("backing up")
        facts = engine.back_up(_telling(writer.write, say), call.parent, say)
        say("finishing the archive")
        manifest = writer.finish(facts)
    return json.dumps(
        {"facts": dict(facts), "size_bytes": manifest.size_bytes, "data_bytes": manifest.data_bytes}
    )


def restore(
    engine: Engine,
    supervisor: Supervisor,
    transfers: Transfers,
    call: messages.Restore,
    choose: Callable[[], None],
    another_history: Callable[[], AbstractContextManager[None]],
    say: Say,
) -> str:
    """Bring the instance to what the archives have; returns what the job tells.

    `choose` has the owner's choices laid down for the server's first start; within `another_history` the data is
    exchanged. Begun again after the agent's death it
    goes on where it stood, and a restore that was finished is not done twice.
    """
    host = engine.host
    done = restores.done(host, call.job_id)
    if done is not None:
        with another_history():
            supervisor.start()
        return json.dumps(done)
    if not restores.is_ready(host, call.job_id):
        if not call.in_place:
            choose()
        _make_ready(engine, transfers, call, say)
    say("starting the database server on the restored data")
    with another_history():
        supervisor.exchange(lambda: restores.exchange(host), lambda: restores.give_up(host))
    return json.dumps(restores.finish(host))


def check(engine: Checks, call: messages.Check, say: Say) -> str:
    say("checking the data")
    return json.dumps(engine.check(call.fingerprint, say))


def _telling(write: Write, say: Say) -> Write:
    """Write, and say every second how much it was."""
    written, told_at = 0, time.monotonic()

    def write_and_tell(part: bytes) -> None:
        nonlocal written, told_at
        write(part)
        written += len(part)
        if time.monotonic() - told_at >= 1:
            told_at = time.monotonic()
            say(f"backing up: {written / 2**20:.0f} MB read")

    return write_and_tell


def _make_ready(engine: Engine, transfers: Transfers, call: messages.Restore, say: Say) -> None:
    from argosy.storage.archive import Reader

    say("reading the manifests of the backup")
    readers = [Reader(transfers.objects(one), one.id, bytes.fromhex(one.key)) for one in call.chain]
    restores.check_room(engine.host, room_for([reader.manifest.data_bytes for reader in readers]))
    restores.prepare(
        cast("restores.MayRestore", engine),
        call.job_id,
        [Stored(reader.manifest.facts, reader.read) for reader in readers],
        _log(transfers, call.log) if call.log is not None else None,
        call.accounts,
        say,
    )


def _log(transfers: Transfers, stretch: messages.LogStretch) -> Log:
    from argosy.storage.archive import Below, Reader

    objects, key = transfers.objects(stretch.archive), bytes.fromhex(stretch.archive.key)

    def fetch(segment: Segment, path: Path) -> None:
        reader = Reader(Below(objects, segment.name), f"{stretch.archive.id}/{segment.name}", key)
        path.unlink(missing_ok=True)
        with path.open("xb") as file:
            for part in reader.read():
                file.write(part)

    return Log(
        [
            Segment(
                one.name, one.starts, one.ends, one.size_bytes, one.first_at, one.last_at, facts=one.facts
            )
            for one in stretch.segments
        ],
        fetch,
        stretch.to_time,
        stretch.to_position,
    )
