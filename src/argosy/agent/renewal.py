"""Another release's code on this machine: checked, tried, and put in place of ours, which is kept to go back to.

A process goes on with the code that it began with, whatever `current` says by now: the launcher gives it the place itself
and not the link. It also goes back to `previous` when an agent never comes to serve: see machine_files/argosy-agent.
"""

from __future__ import annotations

import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import argosy
from argosy.agent.jobs import Say
from argosy.agent.layout import Layout
from argosy.domain.errors import Failed
from argosy.files import write_file
from argosy.rpc import agent_code
from argosy.rpc.tls import client_context, server_context

_TRY_S = 600.0  # Python compiles it as it loads it


class BadCode(Failed):
    """The agent's code that was fetched is not what was asked for, or does not run here."""

    code = "bad-agent-code"


def running(layout: Layout) -> str:
    """The digest of the code that this process runs."""
    place = Path(argosy.__file__).resolve().parents[1]
    return place.name if place.parent == layout.code.resolve() else agent_code.digest()


def began_with(layout: Layout) -> str:
    """The job that had the agent live anew last; "" for none since the machine was booted."""
    try:
        return str(json.loads(_job(layout).read_text())["job_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def remember(layout: Layout, job_id: str) -> None:
    write_file(_job(layout), json.dumps({"job_id": job_id}), 0o600)


def check(layout: Layout) -> str:
    """Load all that this machine's agent needs, and read what it is: which code did that. Raises what is missing."""
    if layout.told.exists():
        told = json.loads(layout.told.read_text())
        importlib.import_module(f"argosy.engines.{told['engine']}")
    if layout.enrolled.exists():
        identity = layout.identity / "ca.crt", layout.identity / "guest.crt", layout.identity / "guest.key"
        client_context(*identity)
        server_context(*identity)
    return agent_code.digest()


def install(layout: Layout, packed: bytes, digest: str, say: Say) -> None:
    """Have the agent's next life run this code. Raises BadCode, with nothing changed."""
    place = layout.code / digest
    if not _is_whole(place, digest):
        say("unpacking the agent's code")
        _unpack(packed, place, digest)
    say("trying the agent's code")
    _try(layout, place)
    before = layout.code / "current"
    if before.is_symlink() and before.readlink().name != digest:
        _point(layout.code / "previous", before.readlink().name)
    _point(layout.code / "current", digest)


def tidy(layout: Layout) -> None:
    """Remove code that is neither the one before nor to come."""
    kept = {"current", "previous"}
    kept |= {link.readlink().name for link in map(layout.code.joinpath, tuple(kept)) if link.is_symlink()}
    if layout.code.is_dir() and "current" in {entry.name for entry in layout.code.iterdir()}:
        for entry in layout.code.iterdir():
            if entry.name not in kept:
                shutil.rmtree(entry, ignore_errors=True)


def _unpack(packed: bytes, place: Path, digest: str) -> None:
    new = place.with_name(f".{digest}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(place, ignore_errors=True)
    try:
        new.mkdir(mode=0o755, parents=True)
        for name, content in _entries(packed):
            (new / name).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            (new / name).write_bytes(content)
        if not _is_whole(new, digest):
            raise BadCode(
                f"The conductor has other code than {digest[:12]}: try again when all of the control plane is of one "
                "release."
            )
        new.rename(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _entries(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """Files alone, and none outside."""
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for entry in tar:
                content = tar.extractfile(entry) if entry.isfile() else None
                if content is None or entry.name.startswith("/") or ".." in entry.name.split("/"):
                    raise BadCode("The agent's code holds something else than files.")
                yield entry.name, content.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise BadCode(f"The agent's code cannot be unpacked: {error}.") from error


def _is_whole(place: Path, digest: str) -> bool:
    return place.is_dir() and agent_code.digest_of(place / "argosy") == digest


def _try(layout: Layout, place: Path) -> None:
    command = [
        sys.executable,
        "-s",
        "-P",
        "-m",
        "argosy.agent.machine",
        "--check",
        "--root",
        str(layout.root),
    ]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TRY_S,
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BadCode(f"The agent's code did not load in {_TRY_S:.0f} s.") from error
    if done.returncode != 0 or done.stdout.strip() != place.name:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:] or ["nothing"]
        raise BadCode(f"The agent's code does not run on this machine, which says: {said[0][:300]}")


def _point(link: Path, name: str) -> None:
    """At once: whoever looks finds the one or the other."""
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(name)
    new.replace(link)


def _job(layout: Layout) -> Path:
    return layout.run / "renewal.json"
