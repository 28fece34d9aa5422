"""Lay the pristine data directory that new instances of a version are cloned from: a program run once per image.

::

    python -m argosy.agent.template --engine postgresql --version 17 --bundle B --template T --parameters P
        [--uid N --gid N]

Then a server is started on a clone of it, and asked for all its parameters, which are written to P. The engine
gets a scratch place to work in, which is gone when this ends, with any server it left running.
Exits with 1 and one sentence on its error output when the engine fails.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from argosy.domain.errors import ArgosyError
from argosy.domain.parameters import Catalogue
from argosy.engines import engine_for
from argosy.engines.base import Configurable
from argosy.engines.host import Account, Host


def build(
    engine: str, version: str, bundle: Path, template: Path, parameters: Path, account: Account
) -> None:
    """Have the engine lay its template and a server of it tell its parameters. Raises what the engine does.

    Servers and scratch files are gone afterwards.
    """
    # Under /tmp whatever TMPDIR says, since sockets are made below it and their paths may have 107 bytes.
    scratch = Path(tempfile.mkdtemp(prefix="argosy-", dir="/tmp"))
    try:
        scratch.chmod(0o711)  # the engine's account has to reach its own directories below
        host = Host(
            instance_id=f"template-{uuid.uuid4()}",
            version=version,
            bundle=bundle,
            template=template,
            data=scratch / "data",
            etc=scratch / "etc",
            run=scratch / "run",
            logs=scratch / "logs",
            address="127.0.0.1",
            port=_free_port(),
            memory_mb=256,
            vcpus=1,
            tls=None,
            account=account,
        )
        for directory in (host.etc, host.run, host.logs):
            host.make_directory(directory)
        driver = engine_for(engine, host)
        try:
            driver.build_template()
            if isinstance(driver, Configurable):
                driver.initialise()
                driver.start()
                told = Catalogue(driver.server_version(), tuple(driver.read_parameters()))
                host.write_file(parameters, told.to_text(), mode=0o644, as_agent=True)
        finally:
            driver.server.kill()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m argosy.agent.template", description=__doc__)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--template", required=True, type=Path)
    parser.add_argument("--parameters", required=True, type=Path)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    given = parser.parse_args(argv)
    own = Account.own()
    account = Account(
        own.uid if given.uid is None else given.uid, own.gid if given.gid is None else given.gid
    )
    signal.signal(signal.SIGTERM, _end)
    try:
        build(given.engine, given.version, given.bundle, given.template, given.parameters, account)
    except ArgosyError as error:
        sys.stderr.write(f"{error.sentence}\n")
        return 1
    return 0


def _free_port() -> int:
    """PostgreSQL wants to have one. Nobody is let in there: whoever was quicker makes this fail."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(_number: int, _frame: object) -> NoReturn:
    """Unwind, so that servers and scratch files are cleaned away when the caller's patience ends."""
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
