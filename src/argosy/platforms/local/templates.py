"""Pristine data directories, laid by the guest agent's program in a process of its own.

The platform may not know engines, and initialising a database server within the control plane would be
asking for trouble: so it is a program, and this calls it.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path

from argosy.domain.datastore import Version
from argosy.domain.errors import ImageUnavailable

PARAMETERS = "parameters.json"  # beside the template

_PATIENCE_S = 300
_CLEANING_UP_S = 30


def template_builder(
    python: Path, engine_of: Callable[[Version], str], account: tuple[int, int] | None = None
) -> Callable[[Version, Path, Path], None]:
    """What `LocalImages` calls to lay a template.

    `python` is an interpreter that has Argosy, `engine_of` tells which engine drives a version, and `account`
    is the uid and gid to initialise the server under, needed as root since PostgreSQL refuses to run as root.
    """

    def build(version: Version, bundle: Path, template: Path) -> None:
        # -P: nothing is imported from whatever directory the control plane was started in.
        argv = [
            str(python), "-P", "-m", "argosy.agent.template",
            "--engine", engine_of(version), "--version", version.series,
            "--bundle", str(bundle), "--template", str(template),
            "--parameters", str(template.parent / PARAMETERS),
        ]  # fmt: skip
        if account is not None:
            argv += ["--uid", str(account[0]), "--gid", str(account[1])]
        _run(argv, f"{version.datastore} {version.name}")

    return build


def template_recipe(engine_of: Callable[[Version], str]) -> Callable[[Version], str]:
    """Tells `LocalImages` how templates are made now: a digest of the engine's code and of the program's."""

    @cache
    def digest(engine: str) -> str:
        package = resources.files("argosy").joinpath("engines", engine)
        sources = sorted(
            (file for file in package.iterdir() if file.name.endswith(".py")), key=lambda file: file.name
        )
        program = resources.files("argosy").joinpath("agent", "template.py")
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in [*sources, program])).hexdigest()

    return lambda version: digest(engine_of(version))


def _run(argv: list[str], shown: str) -> None:
    failed = f"The pristine data directory of {shown} cannot be made"
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as program:
        try:
            said = program.communicate(timeout=_PATIENCE_S)[1]
        except subprocess.TimeoutExpired:
            program.terminate()
            try:
                program.communicate(timeout=_CLEANING_UP_S)
            except subprocess.TimeoutExpired:
                program.kill()
            raise ImageUnavailable(f"{failed}: it took longer than {_PATIENCE_S} s.") from None
    if program.returncode != 0:
        raise ImageUnavailable(f"{failed}: {said.strip()[-1000:] or f'exit status {program.returncode}'}")
